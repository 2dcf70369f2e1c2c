"""Steps between two parties: arrays leave a model, and an aggregator averages them.

Read from ``secretflow/security/aggregation`` and ``BaseTorchModel.get_weights`` of SecretFlow 1.13 (1.5 is the same),
and run.
"""

from __future__ import annotations

from collections.abc import Iterable

from bn_audit.exchange.plan import PlanError
from bn_audit.exchange.secretflow.sequence import PASSED, UNKNOWN, Phase
from bn_audit.exchange.secretflow.settings import SecretFlowSettings, release
from bn_audit.profile import StateEntry

__all__ = ["COMPLEX", "FLOATS", "INTEGERS", "Upload", "average", "gather", "keeps_integers"]

Upload = tuple["StateEntry | None", bool]
"""An entry on its way, or None for a gap, and whether it certainly travels."""

FLOATS = frozenset({"float16", "float32", "float64"})
INTEGERS = frozenset({"int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"})
COMPLEX = frozenset({"complex64", "complex128"})
_NUMPY = FLOATS | INTEGERS | COMPLEX | {"bool"}
_NOT_NUMPY = {
    "bfloat16": "BFloat16",
    "complex32": "ComplexHalf",
    "float8_e4m3fn": "Float8_e4m3fn",
    "float8_e5m2": "Float8_e5m2",
}
"""What torch calls the dtypes that NumPy has none for, in the error of ``Tensor.numpy()``."""


def gather(uploads: Iterable[Upload]) -> Phase:
    """``[v.cpu().numpy() for v in state_dict().values()]``, before any training."""
    exact = True
    for entry, certain in uploads:
        if entry is None or entry.dtype is None:
            exact = False
        elif entry.dtype in _NOT_NUMPY:
            if certain:
                text = f"Got unsupported ScalarType {_NOT_NUMPY[entry.dtype]}"
                return Phase(True, PlanError("TypeError", text, exact, entry.key))
            exact = False
        elif entry.dtype not in _NUMPY:
            exact = False
    return PASSED if exact else UNKNOWN


def keeps_integers(aggregator: str) -> bool:
    """Whether the average of integers is an integer again. Plain casts back; the others hand out floating point."""
    return aggregator == "plain"


def average(uploads: Iterable[Upload], settings: SecretFlowSettings, round_: int = 0) -> Phase:
    """The aggregator's ``average`` over what the parties sent."""
    match settings.aggregator:
        case "plain" | "server_agg_method":
            return PASSED
        case "secure" | "fedgen":
            return _mask(uploads, settings, round_)
        case "sparse":
            return _decode(uploads, round_)
        case "spu":
            # What SPU's fixed point makes of other dtypes has not been measured.
            known = all(
                certain and entry is not None and entry.dtype in ("float32", "int64") for entry, certain in uploads
            )
            return PASSED if known else UNKNOWN
        case _:
            return UNKNOWN


def _mask(uploads: Iterable[Upload], settings: SecretFlowSettings, round_: int) -> Phase:
    """``_Masker.mask``: one dtype for all arrays, floating point or integer; every float array is encoded."""
    exact = True
    first: str | None = None
    for entry, certain in uploads:
        if entry is None or not certain or entry.dtype is None:
            exact = False
            continue
        dtype = entry.dtype
        if first is None:
            first = dtype

        def stop(type_: str, text: str, text_certain: bool = True, key: str = entry.key, exact: bool = exact) -> Phase:
            return Phase(True, PlanError(type_, text, exact and text_certain, key, round_))

        if dtype != first:
            return stop("AssertionError", f"Data should have same dtypes but got {dtype} {first}.")
        if dtype == "bool" or dtype in COMPLEX:
            return stop("AssertionError", "Data type are neither integer nor float.")
        if dtype not in FLOATS:
            continue
        if entry.shape is None:
            exact = False
        elif entry.shape == ():
            # A 0-d array times a number is a NumPy scalar, of a type that NumPy 2 chooses differently.
            numpy = release(settings.numpy_version)
            name = "float64" if numpy is not None and numpy < (2, 0) else dtype
            text = f"Support ndarray only but got <class 'numpy.{name}'>"
            return stop("AssertionError", text, numpy is not None or name == "float64")
        elif 0 in entry.shape:
            return stop("ValueError", "zero-size array to reduction operation maximum which has no identity")
    return PASSED if exact else UNKNOWN


def _decode(uploads: Iterable[Upload], round_: int) -> Phase:
    """``SparsePlainAggregator._zip_decode_data`` looks at the first array of the first party."""
    empty = True
    for _, certain in uploads:
        if certain:
            return PASSED
        empty = False
    return Phase(True, PlanError("IndexError", "list index out of range", round=round_)) if empty else UNKNOWN
