"""State that an exchange by averaging does not carry as it is: integers, and floating point of several widths.

Where the exchange stops on it, the finding is BNA107's and stands at the call. These rules speak where it goes
through, and is not what its author expects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from bn_audit.exchange.arithmetic.dtypes import NOT_NUMPY
from bn_audit.exchange.fedbn import owners
from bn_audit.finding import Finding, Severity
from bn_audit.profile import Profile, StateEntry
from bn_audit.rules.case import FLModelCase
from bn_audit.rules.examples import federation
from bn_audit.rules.mixed_dtype import stopping
from bn_audit.rules.model_layers import definition, federated
from bn_audit.rules.remedy import dtype_advice, oddities
from bn_audit.rules.rule import Rule
from bn_audit.rules.wording import listed, model_name

__all__ = ["RULES"]


def _shared(case: FLModelCase, wanted: Callable[[Profile], list[StateEntry]]) -> list[StateEntry]:
    """The entries wanted of the first reading's model that every other reading's model has as well."""
    if not case.models or any(model.framework != "torch" for model in case.models) or any(stopping(case)):
        return []
    if any(reading.wrapped is not None for reading in case.readings):
        return []  # `local_batchnorm` keeps integers out, and every entry's dtype
    found = [{(entry.key, entry.dtype) for entry in wanted(model)} for model in case.models]
    return [entry for entry in wanted(case.models[0]) if all((entry.key, entry.dtype) in keys for keys in found)]


def _integers(profile: Profile) -> list[StateEntry]:
    owned = owners(profile)
    return [
        entry
        for entry in profile.entries
        if entry.dtype is not None
        and (entry.dtype == "bool" or entry.dtype.startswith(("int", "uint")))
        and entry.key not in owned
    ]


def _floats(profile: Profile) -> list[StateEntry]:
    return [entry for entry in oddities(profile) if entry.dtype is not None and "float" in entry.dtype]


def _integer(case: FLModelCase) -> Iterator[Finding]:
    entries = _shared(case, _integers)
    if not entries:
        return
    first = case.readings[0]
    place = definition(case, first)
    yield INTEGER.finding(
        place,
        f"{model_name(first)} keeps integers in its state dict, {_described(entries)}: they travel with "
        "the weights, are averaged as "
        "floating point and cut off again; SecureAggregator refuses them",
        evidence=federated(case, first, place),
        help=dtype_advice(case.models[0], entries),
    )


def _mixed(case: FLModelCase) -> Iterator[Finding]:
    entries = _shared(case, _floats)
    if not entries:
        return
    first = case.readings[0]
    place = definition(case, first)
    mixed = [entry for entry in entries if entry.dtype not in NOT_NUMPY]
    never = [entry for entry in entries if entry.dtype in NOT_NUMPY]
    told = []
    if mixed:
        told.append(
            f"mixes floating point types, {_described(mixed)} beside the others: SecretFlow rebuilds every array "
            "as float32, and SecureAggregator refuses the mixture"
        )
    if never:
        told.append(f"holds {_described(never)}, of which NumPy has no array: SecretFlow cannot send them")
    yield MIXED.finding(
        place,
        f"{model_name(first)} {'; it '.join(told)}",
        evidence=federated(case, first, place),
        help=dtype_advice(case.models[0], entries),
    )


def _described(entries: list[StateEntry]) -> str:
    dtypes = " and ".join(dict.fromkeys(str(entry.dtype) for entry in entries))
    return f"{listed(entry.key for entry in entries)} ({dtypes})"


_SILENT = """\
- No call of FLModel is seen to train the model, or the trail to it breaks.
- The dtype is not known.
- The exchange certainly stops on it: that is BNA107, at the call.
- The model is made by `local_batchnorm`, which sends no integers and loads every entry in its own dtype."""
_FIX_SAFETY = "No edit is offered: whether a buffer may leave the state dict is for its author to say."
_REFERENCES = (
    "SecretFlow 1.13.0b0: `update_weights` in `secretflow_fl/ml/nn/core/torch/mixins.py` rebuilds with `torch.Tensor`",
)

INTEGER = Rule(
    code="BNA402",
    name="integer-buffer",
    severity=Severity.INFO,
    summary="A federated model keeps integers or bools in its state dict",
    finds="Integer or bool entries, other than BatchNorm's counters, in the state dict of a model that an "
    "FLModel trains.",
    why="""\
Position indices, relative position tables and counters are no weights. They are sent, averaged in floating point, and
cut off to integers when they are loaded. Where all parties hold the same values that changes nothing; where they
count something it does. With SecureAggregator the round stops (BNA107).""",
    remedy="Register them with `persistent=False`, or keep them as plain attributes.",
    silent=_SILENT,
    fix_safety=_FIX_SAFETY,
    references=_REFERENCES,
    bad=(
        federation(
            "self.embed = nn.Linear(4, 4)",
            'self.register_buffer("position_ids", torch.arange(16))',
            imports="import torch\n",
            aggregator="PlainAggregator",
        ),
    ),
    good=(
        federation(
            "self.embed = nn.Linear(4, 4)",
            'self.register_buffer("position_ids", torch.arange(16), persistent=False)',
            imports="import torch\n",
            aggregator="PlainAggregator",
        ),
    ),
    judges=FLModelCase,
    check=_integer,
)

MIXED = Rule(
    code="BNA403",
    name="mixed-float-state",
    severity=Severity.WARNING,
    summary="A federated model holds floating point state of more than one width",
    finds="float16 or float64 entries beside float32 ones, or entries of which NumPy has no array (bfloat16, float8), "
    "in the state dict of a model that an FLModel trains.",
    why="""\
What is received is rebuilt as float32 before it is loaded: float64 entries lose their precision with every round. With
SecureAggregator the round stops (BNA107).""",
    remedy="Hold the whole state in float32, and compute in another type where it is needed.",
    silent=_SILENT,
    fix_safety=_FIX_SAFETY,
    references=_REFERENCES,
    bad=(
        federation(
            "self.embed = nn.Linear(4, 4)",
            "self.head = nn.Linear(4, 2, dtype=torch.float64)",
            imports="import torch\n",
            aggregator="PlainAggregator",
        ),
    ),
    good=(federation("self.embed = nn.Linear(4, 4)", "self.head = nn.Linear(4, 2)", aggregator="PlainAggregator"),),
    judges=FLModelCase,
    check=_mixed,
)

RULES = (INTEGER, MIXED)
