"""Nobody asked SecretFlow to keep BatchNorm local.

FLModel exchanges the whole state dict of a model: with BatchNorm in it, the parties' running statistics, weights and
biases, and the integers the layers count their batches with. The integer ends the first round with most aggregators.
Where it does not, the statistics are averaged in silence, and after a round every party normalises its data with the
statistics of all.
"""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.exchange.secretflow.local_batchnorm import NEEDS_SKIP_BN
from bn_audit.finding import Applicability, Finding, Fix, Severity
from bn_audit.rules.case import FLModelCase, Possibility
from bn_audit.rules.examples import federation
from bn_audit.rules.local_batchnorm_fix import FIX_SAFETY as WRAP_SAFETY
from bn_audit.rules.local_batchnorm_fix import local_batchnorm_fix
from bn_audit.rules.remedy import advice
from bn_audit.rules.rule import Rule
from bn_audit.rules.skip_bn_fix import FIX_SAFETY, skip_bn_fix
from bn_audit.rules.wording import consequences, model_name, trail

__all__ = ["RULES"]


def _passed(case: FLModelCase) -> bool | None:
    """Whether ``skip_bn=False`` is written at the call; None if BatchNorm may be skipped, or nothing is wrong."""
    if not case.goes_wrong or not all(_has_batchnorm(way) for way in case.possibilities):
        return None
    if any(way.outcome.settings.skip_bn for way in case.possibilities):
        return None
    return all(way.reading.skip_bn_passed for way in case.possibilities)


def _has_batchnorm(way: Possibility) -> bool:
    """Whether there is a BatchNorm, or what the settings call one, with state of its own: what ``skip_bn`` is about.

    A model made by ``local_batchnorm`` wants ``skip_bn``, whatever it holds.
    """
    if way.reading.wrapped is not None:
        error = way.outcome.comparison.error
        return error is not None and error.text == NEEDS_SKIP_BN
    return any(norm.batchnorm is not False and (norm.tracked or norm.affine) for norm in way.profile.norms)


def _what(case: FLModelCase) -> str:
    """What there is about the model of the first reading that wants ``skip_bn``."""
    first = case.possibilities[0].reading
    has = "has BatchNorm" if first.wrapped is None else "is made by `local_batchnorm`"
    return f"{model_name(first)} {has}"


def _so(case: FLModelCase) -> str:
    if all(way.reading.wrapped is not None for way in case.possibilities):
        return f"FLModel stops with ValueError: {NEEDS_SKIP_BN}"
    return consequences(case.possibilities)


def _fix(case: FLModelCase) -> Fix | None:
    """The argument alone where that is right; else the wrapper, which leaves nothing open."""
    passing = skip_bn_fix(case)
    if passing is not None and passing.applicability is Applicability.SAFE:
        return passing
    return local_batchnorm_fix(case) or passing


def _missing(case: FLModelCase) -> Iterator[Finding]:
    if _passed(case) is not False:
        return
    stops = all(way.outcome.stops for way in case.possibilities)
    yield MISSING.finding(
        case.site.location,
        f"{_what(case)} and `skip_bn` is not passed: {_so(case)}",
        evidence=trail(case, lambda way: way.outcome.culprits),
        help=advice(case),
        severity=Severity.ERROR if stops else Severity.WARNING,
        fix=_fix(case),
    )


def _disabled(case: FLModelCase) -> Iterator[Finding]:
    if _passed(case) is not True:
        return
    yield DISABLED.finding(
        case.site.location,
        f"{_what(case)} and `skip_bn` is False: {_so(case)}",
        evidence=trail(case, lambda way: way.outcome.culprits),
        help=advice(case),
        fix=_fix(case),
    )


_EXAMPLE = ("self.conv = nn.Conv2d(1, 8, 3)", "self.fc = nn.Linear(8 * 26 * 26, 10)", "self.bn = nn.BatchNorm2d(8)")
_WHY = """\
FLModel exchanges the whole state dict. A BatchNorm in it is five entries: weight, bias, `running_mean`,
`running_var`, and `num_batches_tracked`, a 0-d integer. SecureAggregator masks arrays of one dtype only and raises
`AssertionError: Data should have same dtypes but got int64 float32.`; with PlainAggregator the averaged counter
cannot be loaded back. With the TensorFlow backend, SPUAggregator or a `server_agg_method` nothing stops, and the
running statistics are averaged: every party then normalises its data with statistics that are nobody's. FedBN keeps
BatchNorm with each party."""
_SILENT = """\
- The model cannot be followed to its definition, or holds no BatchNorm with state of its own. (Of InstanceNorm with
  running statistics BNA107 and BNA401 speak: `skip_bn` does not look for it.)
- The backend or the strategy is not known, or neither an aggregator nor a `server_agg_method` is given: no round
  runs.
- An aggregator that is not known is judged as PlainAggregator and as SecureAggregator; the rule speaks if both go
  wrong.
- `skip_bn` may come in through `**kwargs` or a value that is not known: see BNA103 and BNA104."""
_REFERENCES = (
    "Li et al., FedBN: Federated Learning on Non-IID Features via Local Batch Normalization, ICLR 2021, "
    "arXiv:2102.07623",
    "SecretFlow 1.13.0b0: `secretflow_fl/ml/nn/core/torch/mixins.py` (what is sent and loaded), "
    "`secretflow/security/aggregation/secure_aggregator.py` (the check of the dtypes)",
)
MISSING = Rule(
    code="BNA101",
    name="missing-skip-bn",
    severity=Severity.ERROR,
    summary="The model has BatchNorm, and `skip_bn` is not passed to FLModel",
    finds="""\
A call of SecretFlow's `FLModel` that does not pass `skip_bn`, with a model that holds BatchNorm, and settings under
which this certainly goes wrong. An error where the round stops, a warning where BatchNorm is averaged in silence. Or
with a model made by `local_batchnorm` of `bn_audit.federated.secretflow`, which asks for `skip_bn=True` whatever it
holds.""",
    why=_WHY,
    remedy="""\
Pass `skip_bn=True` if every BatchNorm is an attribute of the model itself and is registered after all other layers.
Where that is not so, `skip_bn=True` breaks something else (BNA103, BNA104); the finding's help says what, and what to
do first. The order in `__init__` is what counts, not the order in `forward`. Or have `local_batchnorm` of
`bn_audit.federated.secretflow` make the model, whatever its layers, and pass `skip_bn=True`.""",
    silent=_SILENT,
    fix_safety=f"{FIX_SAFETY}\n\nWhere that is not safe, another fix is offered, if it is right.\n{WRAP_SAFETY}",
    references=_REFERENCES,
    bad=(
        federation(*_EXAMPLE),
        federation(
            "self.conv = nn.Conv2d(1, 8, 3)",
            "self.bn = nn.BatchNorm2d(8)",
            "self.fc = nn.Linear(8 * 26 * 26, 10)",
            aggregator="PlainAggregator",
        ),
    ),
    good=(
        federation(*_EXAMPLE, settings=("skip_bn=True",)),
        federation("self.conv = nn.Conv2d(1, 8, 3)", "self.gn = nn.GroupNorm(2, 8)"),
    ),
    judges=FLModelCase,
    check=_missing,
)

DISABLED = Rule(
    code="BNA102",
    name="skip-bn-disabled",
    severity=Severity.WARNING,
    summary="The model has BatchNorm, and FLModel is told `skip_bn=False`",
    finds="""\
What BNA101 finds, where the call does pass `skip_bn`, and its value is False. Somebody decided; a warning, because
the decision may have been made for another model.""",
    why=_WHY,
    remedy="""\
Pass `skip_bn=True`, under the same conditions as in BNA101. Where averaging BatchNorm is meant, and nothing stops,
silence the rule at this call.""",
    silent=_SILENT,
    fix_safety=f"{FIX_SAFETY}\n\nWhere that is not safe, another fix is offered, if it is right.\n{WRAP_SAFETY}",
    references=_REFERENCES,
    bad=(federation(*_EXAMPLE, settings=("skip_bn=False",)),),
    good=(federation(*_EXAMPLE, settings=("skip_bn=True",)),),
    judges=FLModelCase,
    check=_disabled,
)

RULES = (MISSING, DISABLED)
