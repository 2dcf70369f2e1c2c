"""State whose dtype the exchange cannot carry, whatever is done about BatchNorm.

SecretFlow sends a state dict as a list of NumPy arrays. SecureAggregator masks arrays of one dtype only; NumPy has no
bfloat16; and what comes back is rebuilt with ``torch.Tensor(array)``, to which a 0-d integer is a size.
"""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.exchange.fedbn import expectation
from bn_audit.exchange.plan import compare
from bn_audit.exchange.secretflow import plan
from bn_audit.finding import Finding, Severity
from bn_audit.profile import StateEntry
from bn_audit.rules.case import FLModelCase, Outcome, subset, without_norms
from bn_audit.rules.examples import federation
from bn_audit.rules.remedy import dtype_advice, oddities
from bn_audit.rules.rule import Rule
from bn_audit.rules.wording import listed, model_name, stop, trail

__all__ = ["RULES", "stopping"]


def stopping(case: FLModelCase) -> tuple[StateEntry, ...]:
    """The entries whose dtype stops the round in every possibility, all norm layers taken out; empty if none does."""
    if not case.possibilities or not all(_blames_dtype(way.outcome) for way in case.possibilities):
        return ()
    return tuple(oddities(case.possibilities[0].profile))


def _blames_dtype(outcome: Outcome) -> bool:
    """Whether the model without norm layers certainly stops, and with one dtype only would not."""
    if not outcome.baseline.stops:
        return False
    bare = without_norms(outcome.profile)
    odd = {entry.key for entry in oddities(bare)}
    even = subset(bare, lambda entry: entry.key not in odd)
    return bool(odd) and not compare(expectation(even), plan(even, outcome.settings)).stops


def _check(case: FLModelCase) -> Iterator[Finding]:
    odd = stopping(case)
    if not odd:
        return
    errors = (way.outcome.baseline.error for way in case.possibilities)
    first = case.possibilities[0]
    stops = list(dict.fromkeys(stop(error) for error in errors if error is not None))
    dtypes = " and ".join(dict.fromkeys(str(entry.dtype) for entry in odd))
    yield RULE.finding(
        case.site.location,
        f"{model_name(first.reading)} holds {dtypes} state, {listed(entry.key for entry in odd)}, that the "
        "exchange cannot carry: "
        f"{' or '.join(stops)}",
        evidence=trail(case, lambda way: ()),
        help=dtype_advice(first.profile),
    )


RULE = Rule(
    code="BNA107",
    name="mixed-dtype-state",
    severity=Severity.ERROR,
    summary="State other than BatchNorm's has a dtype that stops the round",
    finds="""\
A call of SecretFlow's `FLModel` whose model holds integer, bool, float16, float64 or bfloat16 entries besides
BatchNorm's, with an aggregator that cannot carry them.""",
    why="""\
SecureAggregator compares the dtype of every array with the first one's and raises; bfloat16 has no NumPy type and
stops every aggregator; a 0-d integer comes back as an array, and `torch.Tensor(array)` takes it for a size. None of
this is BatchNorm's doing, and `skip_bn` does not help.""",
    remedy="""\
Keep integers and bools out of the state dict: `register_buffer(name, tensor, persistent=False)`, or a plain
attribute. Hold the floating point state in float32.""",
    silent="""\
- The dtypes are not known, or the aggregator at hand carries them (PlainAggregator takes 1-d integers).
- An aggregator that is not known is judged as PlainAggregator and as SecureAggregator; the rule speaks if both stop.
- The integers are BatchNorm's own counters: see BNA101 and BNA103.""",
    fix_safety="No edit is offered: whether a buffer may leave the state dict is for its author to say.",
    references=(
        "SecretFlow 1.13.0b0: `secretflow/security/aggregation/secure_aggregator.py`, "
        "`secretflow_fl/ml/nn/core/torch/mixins.py`",
    ),
    bad=(
        federation(
            "self.embed = nn.Linear(4, 4)",
            'self.register_buffer("position_ids", torch.arange(16))',
            helpers="import torch\n\n",
        ),
        federation(
            "self.embed = nn.Linear(4, 4)",
            "self.head = nn.Linear(4, 2, dtype=torch.float64)",
            helpers="import torch\n\n",
        ),
    ),
    good=(
        federation(
            "self.embed = nn.Linear(4, 4)",
            'self.register_buffer("position_ids", torch.arange(16), persistent=False)',
            helpers="import torch\n\n",
        ),
        federation(
            "self.embed = nn.Linear(4, 4)",
            'self.register_buffer("position_ids", torch.arange(16))',
            helpers="import torch\n\n",
            aggregator="PlainAggregator",
        ),
    ),
    judges=FLModelCase,
    check=_check,
)

RULES = (RULE,)
