"""Nobody asked SecretFlow to keep BatchNorm local.

FLModel exchanges the whole state dict of a model: with BatchNorm in it, the parties' running statistics, weights and
biases, and the integers the layers count their batches with. The integer ends the first round with most aggregators.
Where it does not, the statistics are averaged in silence, and after a round every party normalises its data with the
statistics of all.
"""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.finding import Finding, Severity
from bn_audit.profile import Profile
from bn_audit.rules.case import FLModelCase
from bn_audit.rules.examples import federation
from bn_audit.rules.remedy import advice
from bn_audit.rules.rule import Rule
from bn_audit.rules.skip_bn_fix import FIX_SAFETY, skip_bn_fix
from bn_audit.rules.wording import consequences, model_name, trail

__all__ = ["RULES"]


def _passed(case: FLModelCase) -> bool | None:
    """Whether ``skip_bn=False`` is written at the call; None if BatchNorm may be skipped, or nothing is wrong."""
    if not case.goes_wrong or not all(_has_batchnorm(way.profile) for way in case.possibilities):
        return None
    if any(way.outcome.settings.skip_bn for way in case.possibilities):
        return None
    return all(way.reading.skip_bn_passed for way in case.possibilities)


def _has_batchnorm(profile: Profile) -> bool:
    """Whether there is a BatchNorm, or what the settings call one, with state of its own: what ``skip_bn`` is about."""
    return any(norm.batchnorm is not False and (norm.tracked or norm.affine) for norm in profile.norms)


def _missing(case: FLModelCase) -> Iterator[Finding]:
    if _passed(case) is not False:
        return
    stops = all(way.outcome.stops for way in case.possibilities)
    yield MISSING.finding(
        case.site.location,
        f"{model_name(case.readings[0])} has BatchNorm and `skip_bn` is not passed: {consequences(case.possibilities)}",
        evidence=trail(case, lambda way: way.outcome.culprits),
        help=advice(case),
        severity=Severity.ERROR if stops else Severity.WARNING,
        fix=skip_bn_fix(case),
    )


def _disabled(case: FLModelCase) -> Iterator[Finding]:
    if _passed(case) is not True:
        return
    yield DISABLED.finding(
        case.site.location,
        f"{model_name(case.readings[0])} has BatchNorm and `skip_bn` is False: {consequences(case.possibilities)}",
        evidence=trail(case, lambda way: way.outcome.culprits),
        help=advice(case),
        fix=skip_bn_fix(case),
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
which this certainly goes wrong. An error where the round stops, a warning where BatchNorm is averaged in silence.""",
    why=_WHY,
    remedy="""\
Pass `skip_bn=True` if every BatchNorm is an attribute of the model itself and is registered after all other layers.
Where that is not so, `skip_bn=True` breaks something else (BNA103, BNA104); the finding's help says what, and what to
do first. The order in `__init__` is what counts, not the order in `forward`.""",
    silent=_SILENT,
    fix_safety=FIX_SAFETY,
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
    fix_safety=FIX_SAFETY,
    references=_REFERENCES,
    bad=(federation(*_EXAMPLE, settings=("skip_bn=False",)),),
    good=(federation(*_EXAMPLE, settings=("skip_bn=True",)),),
    judges=FLModelCase,
    check=_disabled,
)

RULES = (MISSING, DISABLED)
