"""Steps between two parties: arrays leave a model, and an aggregator averages them.

Read from ``secretflow/security/aggregation`` and ``BaseTorchModel.get_weights`` of SecretFlow 1.13 (1.5 is the same),
and run.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bn_audit.exchange.arithmetic.dtypes import NOT_NUMPY
from bn_audit.exchange.courses import UNINITIALISED
from bn_audit.exchange.plan import PlanError
from bn_audit.exchange.secretflow.settings import SecretFlowSettings, release
from bn_audit.exchange.steps import PASSED, UNKNOWN, Phase, first_stop
from bn_audit.profile import StateEntry

__all__ = ["COMPLEX", "FLOATS", "INTEGERS", "Upload", "average", "gather", "keeps_integers"]

Upload = tuple["StateEntry | None", bool]
"""An entry on its way, or None for a gap, and whether it certainly travels."""

FLOATS = frozenset({"float16", "float32", "float64"})
INTEGERS = frozenset({"int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"})
COMPLEX = frozenset({"complex64", "complex128"})
_NUMPY = FLOATS | INTEGERS | COMPLEX | {"bool"}


def gather(uploads: Iterable[Upload], round_: int = 0) -> Phase:
    """``tensor.cpu().numpy()`` of everything that is to be sent."""
    exact = True
    for entry, certain in uploads:
        if entry is None or entry.dtype is None:
            exact = False
        elif entry.lazy:
            if certain:
                return Phase(True, PlanError(*UNINITIALISED, exact, entry.key, round_))
            exact = False
        elif entry.dtype in NOT_NUMPY:
            if certain:
                text = f"Got unsupported ScalarType {NOT_NUMPY[entry.dtype]}"
                return Phase(True, PlanError("TypeError", text, exact, entry.key, round_))
            exact = False
        elif entry.dtype not in _NUMPY:
            exact = False
    return PASSED if exact else UNKNOWN


def keeps_integers(aggregator: str) -> bool:
    """Whether the average of integers is an integer again. Plain casts back; the others hand out floating point."""
    return aggregator == "plain"


def average(
    uploads: Iterable[Upload], settings: SecretFlowSettings, round_: int = 0, differences: bool = False
) -> Phase:
    """The aggregator's ``average`` over what the parties sent.

    Args:
        differences: whether what is sent are differences of arrays, among which those of 0-d arrays are NumPy scalars.
    """
    match settings.aggregator:
        case "plain":
            return _mean(uploads, round_)
        case "secure" | "fedgen":
            return _mask(uploads, settings, round_, differences)
        case "sparse":
            uploads = list(uploads)
            return first_stop([_decode(uploads, round_, differences), _mean(uploads, round_)])
        case "server_agg_method":
            return PASSED
        case "spu":
            # What SPU's fixed point makes of other dtypes has not been measured.
            known = all(
                certain and entry is not None and entry.dtype in ("float32", "int64") for entry, certain in uploads
            )
            return PASSED if known else UNKNOWN
        case _:
            return UNKNOWN


def _mean(uploads: Iterable[Upload], round_: int) -> Phase:
    """``np.average`` without weights, as when ``fit`` begins, divides by the size of what it averages."""
    exact = True
    for entry, certain in uploads:
        if entry is not None and certain and entry.shape is not None and 0 in entry.shape and round_ == 0:
            return Phase(True, PlanError("ZeroDivisionError", "division by zero", exact, entry.key, round_))
        exact = exact and certain and entry is not None and entry.shape is not None
    return PASSED if exact or round_ else UNKNOWN


def _mask(uploads: Iterable[Upload], settings: SecretFlowSettings, round_: int, differences: bool) -> Phase:
    """``_Masker.mask``: one dtype for all arrays, floating point or integer; every float array is encoded."""
    exact = True
    first: str | None = None
    for entry, certain in uploads:
        if entry is None or not certain or entry.dtype is None:
            exact = False
            continue
        dtype = entry.dtype
        first = first or dtype
        exact = exact and not (differences and entry.shape is None)  # a 0-d one would be refused for being a scalar

        def stop(type_: str, text: str, text_certain: bool = True, key: str = entry.key, exact: bool = exact) -> Phase:
            return Phase(True, PlanError(type_, text, exact and text_certain, key, round_))

        if differences and entry.shape == ():
            text = f"Accept ndarray or dataframe/series only but got <class 'numpy.{dtype}'>"
            return stop("AssertionError", text)
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


def _decode(uploads: Sequence[Upload], round_: int, differences: bool) -> Phase:
    """``SparsePlainAggregator._zip_decode_data`` looks at the first array of the first party."""
    if not uploads:
        return Phase(True, PlanError("IndexError", "list index out of range", round=round_))
    first, certain = uploads[0]
    if differences and (first is None or not certain or first.shape is None):
        return UNKNOWN
    if differences and first is not None and first.shape == ():
        text = "Sparse encoding method not supporterd in SecurePlainAggregator"
        return Phase(True, PlanError("AssertionError", text, key=first.key, round=round_))
    return PASSED if any(certain for _, certain in uploads) else UNKNOWN
