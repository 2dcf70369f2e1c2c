"""State whose dtype the exchange cannot carry, whatever is done about BatchNorm.

SecretFlow sends a state dict as a list of NumPy arrays. SecureAggregator masks arrays of one dtype only; NumPy has no
bfloat16; and what comes back is rebuilt with ``torch.Tensor(array)``, to which a 0-d integer is a size.
"""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.exchange.fedbn import owners
from bn_audit.exchange.plan import PlanError
from bn_audit.exchange.secretflow import plan
from bn_audit.finding import Finding, Severity
from bn_audit.profile import Profile, StateEntry
from bn_audit.rules.case import FLModelCase, Outcome, subset, without
from bn_audit.rules.examples import federation
from bn_audit.rules.remedy import dtype_advice, oddities
from bn_audit.rules.rule import Rule
from bn_audit.rules.wording import listed, model_name, stop, trail

__all__ = ["RULES", "stopping"]


def stopping(case: FLModelCase) -> tuple[tuple[StateEntry, ...], tuple[PlanError, ...]]:
    """The entries whose dtype stops the round in every possibility, and the errors; both empty if one goes on."""
    if not case.possibilities:
        return (), ()
    errors = [_error(way.outcome) for way in case.possibilities]
    if not all(errors):
        return (), ()
    first = case.possibilities[0].outcome
    return tuple(_odd(_remaining(first))), tuple(error for error in errors if error is not None)


def _error(outcome: Outcome) -> PlanError | None:
    """What stops the model without what is BatchNorm's doing, if it would not stop were it of one dtype."""
    rest = _remaining(outcome)
    error = plan(rest, outcome.settings).error
    odd = {entry.key for entry in _odd(rest)}
    even = subset(rest, lambda entry: entry.key not in odd)
    return None if not odd or plan(even, outcome.settings).stops else error


def _remaining(outcome: Outcome) -> Profile:
    """The model without what is BatchNorm or may be; where ``skip_bn=True`` is asked for, without any norm layer
    (BNA103 speaks then)."""
    norms = outcome.profile.norms
    if not outcome.settings.skip_bn:
        norms = tuple(norm for norm in norms if norm.batchnorm is not False)
    return without(outcome.profile, norms)


def _odd(profile: Profile) -> list[StateEntry]:
    """Entries of another dtype than most, the integer counters of norm layers among them."""
    owned = owners(profile)
    counters = [entry for entry in profile.entries if entry.dtype == "int64" and entry.key in owned]
    return [*oddities(profile), *counters]


def _check(case: FLModelCase) -> Iterator[Finding]:
    odd, errors = stopping(case)
    if not odd:
        return
    first = case.possibilities[0]
    stops = list(dict.fromkeys(stop(error) for error in errors))
    dtypes = " and ".join(dict.fromkeys(str(entry.dtype) for entry in odd))
    yield RULE.finding(
        case.site.location,
        f"{model_name(first.reading)} holds {dtypes} state, {listed(entry.key for entry in odd)}, that the "
        "exchange cannot carry: "
        f"{' or '.join(stops)}",
        evidence=trail(case, lambda way: ()),
        help=dtype_advice(first.profile, odd) + (_LOCAL if first.reading.wrapped is not None else ""),
    )


_LOCAL = '; or pass `integers="local"` to `local_batchnorm`, and they stay with each party'

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
            imports="import torch\n",
        ),
        federation(
            "self.embed = nn.Linear(4, 4)",
            "self.head = nn.Linear(4, 2, dtype=torch.float64)",
            imports="import torch\n",
        ),
    ),
    good=(
        federation(
            "self.embed = nn.Linear(4, 4)",
            'self.register_buffer("position_ids", torch.arange(16), persistent=False)',
            imports="import torch\n",
        ),
        federation(
            "self.embed = nn.Linear(4, 4)",
            'self.register_buffer("position_ids", torch.arange(16))',
            imports="import torch\n",
            aggregator="PlainAggregator",
        ),
    ),
    judges=FLModelCase,
    check=_check,
)

RULES = (RULE,)
