"""``skip_bn=True`` was asked for, and does not do what it says.

SecretFlow finds the BatchNorms to skip by the first component of a key: an attribute of the model itself that is a
``_BatchNorm``. What lies deeper is exchanged all the same. And while the sender leaves the skipped entries out, the
receiver pairs what it gets with all keys of the state dict, by position, and drops BatchNorm's pairs only then:
everything after the first skipped entry is paired with the wrong tensor, or with none. Some settings do not know
``skip_bn`` at all.
"""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.exchange.fedbn import frozen
from bn_audit.exchange.secretflow import SecretFlowSettings, strategy
from bn_audit.exchange.secretflow.settings import release
from bn_audit.finding import Finding, Severity
from bn_audit.profile import NormLayer
from bn_audit.rules.case import FLModelCase, Outcome, Possibility, judge, without
from bn_audit.rules.examples import federation
from bn_audit.rules.local_batchnorm_fix import FIX_SAFETY, local_batchnorm_fix
from bn_audit.rules.remedy import advice
from bn_audit.rules.rule import Rule
from bn_audit.rules.wording import consequences, listed, model_name, trail

__all__ = ["RULES"]

SINCE, THROUGHOUT = (1, 5), (1, 7)
"""SecretFlow's first release that knows ``skip_bn``, and the first that heeds it after the first exchange as well."""


def defect(settings: SecretFlowSettings) -> str | None:
    """Why ``skip_bn=True`` cannot work under these settings, whatever the model; None if it can.

    What a model made by ``local_batchnorm`` cannot go through, it refuses.
    """
    if settings.wrapped is not None:
        return None
    version = release(settings.secretflow_version)
    if version is not None and version < SINCE:
        return f"SecretFlow {settings.secretflow_version} does not know it, it disappears in `**kwargs`"
    if version is not None and version < THROUGHOUT and settings.strategy in ("fed_avg_w", "fed_prox"):
        return f"SecretFlow {settings.secretflow_version} heeds it in the first exchange only"
    known = strategy(settings.backend, settings.strategy)
    if known is not None and known.skip_bn_breaks:
        return f"with the strategy {known.name} on {known.backend}, {known.skip_bn_breaks}"
    return None


def _codes(outcome: Outcome) -> tuple[str, ...]:
    """Which rules may speak of an outcome with ``skip_bn=True``, the most telling first."""
    if not outcome.wrong:
        return ()
    if outcome.settings.wrapped is not None:
        return ("BNA105",)
    if defect(outcome.settings) is not None and _concerned(outcome):
        return ("BNA105",)
    if outcome.stops:
        # A nested BatchNorm would stop the round whatever comes before it: then it is not a matter of order.
        nested = judge(without(outcome.profile, _skipped(outcome)), outcome.settings)
        return ("BNA103",) if nested.wrong else ("BNA104",)
    codes = []
    if any(outcome.owns(one.key) for one in outcome.differences):
        codes.append("BNA103")
    if any(not outcome.owns(one.key) for one in outcome.differences):
        codes.append("BNA104")
    return tuple(codes)


def _concerned(outcome: Outcome) -> bool:
    """Whether there is a BatchNorm that SecretFlow tries to skip, or would if it knew how."""
    version = release(outcome.settings.secretflow_version)
    if version is not None and version < SINCE:
        return True
    return any(norm.batchnorm and norm.nested is False and norm.affine for norm in outcome.profile.norms)


def _speaks(code: str, case: FLModelCase) -> tuple[Possibility, ...]:
    """The possibilities with ``skip_bn=True``, if the rule may speak: every possibility goes wrong, and this is how.

    Where the possibilities go wrong in different ways, the most telling of the ways speaks for all.
    """
    if not case.skipping or not case.goes_wrong:
        return ()
    codes = [_codes(way.outcome) for way in case.skipping]
    shared = [candidate for candidate in _PRECEDENCE if all(candidate in some for some in codes)]
    chosen = shared or [next(candidate for candidate in _PRECEDENCE if any(candidate in some for some in codes))]
    return case.skipping if code in chosen else ()


_PRECEDENCE = ("BNA105", "BNA103", "BNA104")


def _misses(case: FLModelCase) -> Iterator[Finding]:
    ways = _speaks("BNA103", case)
    if not ways:
        return
    norms = [norm for way in ways for norm in unreached(way.outcome)]
    yield MISSES.finding(
        case.site.location,
        f"{_asked(case)} does not reach {_layers(norms)} of {model_name(ways[0].reading)}: "
        f"{consequences(case.possibilities, 'norms')}",
        evidence=trail(case, lambda way: unreached(way.outcome)),
        help=advice(case),
        fix=local_batchnorm_fix(case),
    )


def _misplaces(case: FLModelCase) -> Iterator[Finding]:
    ways = _speaks("BNA104", case)
    if not ways:
        return
    skipped = [norm for way in ways for norm in _skipped(way.outcome)]
    yield MISPLACES.finding(
        case.site.location,
        f"{_asked(case)} leaves out {_layers(skipped)} of {model_name(ways[0].reading)} and shifts what comes after: "
        f"{consequences(case.possibilities, 'others')}",
        evidence=trail(case, lambda way: _skipped(way.outcome)),
        help=advice(case),
        fix=local_batchnorm_fix(case),
    )


def _unsupported(case: FLModelCase) -> Iterator[Finding]:
    ways = _speaks("BNA105", case)
    if not ways:
        return
    reasons = dict.fromkeys(reason for way in ways if (reason := defect(way.outcome.settings)) is not None)
    refusals = dict.fromkeys(refusal for way in ways if (refusal := _refusal(way)) is not None)
    if refusals and not reasons:
        message = f"`local_batchnorm` refuses {model_name(ways[0].reading)} here: {'; '.join(refusals)}"
    else:
        message = f"{_asked(case)} does not work here: {'; '.join(reasons)}: {consequences(case.possibilities)}"
    yield UNSUPPORTED.finding(
        case.site.location,
        message,
        evidence=trail(case, lambda way: way.outcome.culprits),
        help=advice(case),
    )


def _refusal(way: Possibility) -> str | None:
    """Why a model is refused that ``local_batchnorm`` makes."""
    error = way.outcome.comparison.error
    return None if way.reading.wrapped is None or error is None else error.text


def _unneeded(case: FLModelCase) -> Iterator[Finding]:
    if not case.models or not all(reading.skip_bn for reading in case.readings):
        return
    for model in case.models:
        if model.norms or any(gap.may_hold_norm for gap in model.gaps):
            return
    names = dict.fromkeys(model_name(reading) for reading in case.readings)
    yield UNNEEDED.finding(
        case.site.location,
        f"`skip_bn=True` has nothing to keep local: {' or '.join(names)} has no BatchNorm",
        evidence=trail(case, lambda way: ()),
        help=_without_bn(case),
    )


def _without_bn(case: FLModelCase) -> str:
    wrapped = any(reading.wrapped is not None for reading in case.readings)
    what = "leave out both it and `local_batchnorm`" if wrapped else "leave it out"
    return f"{what}, or check that this is the model that was meant"


def unreached(outcome: Outcome) -> tuple[NormLayer, ...]:
    """The layers with state that SecretFlow does not take for BatchNorms to skip, in order."""
    blamed = {norm.path for norm in outcome.culprits}
    missed = tuple(
        norm
        for norm in outcome.profile.norms
        if (norm.path in blamed or norm.tracked or norm.affine)
        and (norm.nested or not norm.batchnorm)
        and not frozen(outcome.profile, norm)
    )
    # One that is skipped is reached by another name of its tensors.
    return missed or tuple(norm for norm in outcome.profile.norms if norm.path in blamed)


def _skipped(outcome: Outcome) -> tuple[NormLayer, ...]:
    return tuple(norm for norm in outcome.profile.norms if norm.batchnorm and norm.nested is False)


def _asked(case: FLModelCase) -> str:
    certain = all(way.outcome.settings.skip_bn for way in case.possibilities)
    return "`skip_bn=True`" if certain else "both values of `skip_bn` go wrong here: `skip_bn=True`"


def _layers(norms: list[NormLayer]) -> str:
    """``the BatchNorm2d `bn1```, ``the BatchNorm2d layers `bn1`, `bn2` and `bn3```."""
    paths = list(dict.fromkeys(norm.path or "the root" for norm in norms))
    types = list(dict.fromkeys(norm.type for norm in norms))
    kind = types[0] if len(types) == 1 else "norm"
    return f"the {kind} {listed(paths)}" if len(paths) == 1 else f"the {kind} layers {listed(paths)}"


_FIX_SAFETY = (
    "No edit is offered: what is right changes the model, not the call. The help line names "
    "changes that the plan proves."
)
_SILENT = """\
- The model cannot be followed to its definition, or the part of it that matters is not known: an entry whose fate
  depends on what is not known is not spoken of.
- The backend or the strategy is not known, or neither an aggregator nor a `server_agg_method` is given: no round
  runs.
- `skip_bn` is not known (`**kwargs`, an argument), and one of its two values is right."""
_REFERENCES = (
    "SecretFlow 1.13.0b0: `get_weights_not_bn` and `update_weights_not_bn` in "
    "`secretflow_fl/ml/nn/core/torch/mixins.py`",
    "Li et al., FedBN: Federated Learning on Non-IID Features via Local Batch Normalization, ICLR 2021, "
    "arXiv:2102.07623",
)

MISSES = Rule(
    code="BNA103",
    name="skip-bn-misses-batchnorm",
    severity=Severity.ERROR,
    summary="`skip_bn=True`, but SecretFlow does not look where the BatchNorm is",
    finds="""\
A call of SecretFlow's `FLModel` with `skip_bn=True`, where a BatchNorm lies below the top level of the model (in a
Sequential, a residual block), or a layer with running statistics is no `_BatchNorm` (InstanceNorm, a frozen
BatchNorm).""",
    why="""\
SecretFlow finds a BatchNorm by the first component of a key: `bn1.weight` belongs to the attribute `bn1` of the
model, which is a BatchNorm; `layer1.0.bn1.weight` belongs to `layer1`, which is a Sequential. So the nested one is
exchanged: its integer counter stops the first round, or its statistics are averaged in silence. Nearly every
published architecture nests its BatchNorms.""",
    remedy="""\
Register every BatchNorm as an attribute of the model itself, after all other layers; `forward` may hand them to the
blocks. Or have `local_batchnorm` of `bn_audit.federated.secretflow` make the model as it is. Or use a norm without
running statistics inside the blocks. No flag of FLModel helps.""",
    silent=_SILENT,
    fix_safety=FIX_SAFETY,
    references=_REFERENCES,
    bad=(
        federation(
            "self.features = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU())",
            "self.fc = nn.Linear(8 * 26 * 26, 10)",
            settings=("skip_bn=True",),
        ),
        federation(
            "self.conv = nn.Conv2d(1, 8, 3)",
            "self.norm = nn.InstanceNorm2d(8, track_running_stats=True)",
            settings=("skip_bn=True",),
        ),
    ),
    good=(
        federation(
            "self.conv = nn.Conv2d(1, 8, 3)",
            "self.fc = nn.Linear(8 * 26 * 26, 10)",
            "self.bn = nn.BatchNorm2d(8)",
            settings=("skip_bn=True",),
        ),
        federation(
            "self.features = nn.Sequential(nn.Conv2d(1, 8, 3), nn.InstanceNorm2d(8), nn.ReLU())",
            settings=("skip_bn=True",),
        ),
    ),
    judges=FLModelCase,
    check=_misses,
)

MISPLACES = Rule(
    code="BNA104",
    name="skip-bn-misplaces-weights",
    severity=Severity.ERROR,
    summary="`skip_bn=True`, and entries after a top-level BatchNorm get the wrong tensor, or none",
    finds="""\
A call of SecretFlow's `FLModel` with `skip_bn=True`, where other entries of the state dict follow a top-level
BatchNorm. The message lists the entries that are never synchronised or get another entry's tensor, or names the error
with which loading fails.""",
    why="""\
The sender leaves BatchNorm's entries out. The receiver pairs what it gets with all keys of the state dict, in order,
and drops BatchNorm's pairs only then. So after the first BatchNorm every entry is paired with a tensor meant for a
later one, and the last ones with nothing: a classifier that stays each party's own, for ever, while the loss goes
down and nothing fails.""",
    remedy="""\
Register the BatchNorms after all other layers. `forward` may use them in any order; only the order in `__init__`
counts. Or have `local_batchnorm` of `bn_audit.federated.secretflow` make the model as it is.""",
    silent=_SILENT,
    fix_safety=FIX_SAFETY,
    references=_REFERENCES,
    bad=(
        federation(
            "self.conv = nn.Conv2d(1, 8, 3)",
            "self.bn = nn.BatchNorm2d(8)",
            "self.fc = nn.Linear(8 * 26 * 26, 10)",
            settings=("skip_bn=True",),
        ),
        federation(
            "self.conv = nn.Conv2d(1, 8, 3)",
            "self.bn = nn.BatchNorm2d(8, track_running_stats=False)",
            "self.fc = nn.Linear(8 * 26 * 26, 10)",
            aggregator="PlainAggregator",
            settings=("skip_bn=True",),
        ),
    ),
    good=(
        federation(
            "self.conv = nn.Conv2d(1, 8, 3)",
            "self.fc = nn.Linear(8 * 26 * 26, 10)",
            "self.bn = nn.BatchNorm2d(8)",
            settings=("skip_bn=True",),
        ),
    ),
    judges=FLModelCase,
    check=_misplaces,
)

UNSUPPORTED = Rule(
    code="BNA105",
    name="skip-bn-unsupported",
    severity=Severity.ERROR,
    summary="`skip_bn=True` is ignored or broken under these settings, whatever the model",
    finds="""\
A call of SecretFlow's `FLModel` with `skip_bn=True`, where the strategy, the backend or the pinned release of
SecretFlow ignores it or breaks with it as soon as there is a BatchNorm to skip. Also one whose model is made by
`local_batchnorm`, which refuses the strategy or the release.""",
    why="""\
`skip_bn` is honoured by the exchange of weights only. fed_prox pairs the received arrays with all parameters;
scaffold and moon with all entries; fed_avg_g exchanges gradients, BatchNorm's among them; on the TensorFlow backend
`set_weights` wants every weight. Before 1.5 FLModel has no such parameter, and takes it without a word; 1.5 and 1.6
heed it in the first exchange only.""",
    remedy="""\
Use a strategy that works with it (`fed_avg_w`), on the torch backend, with SecretFlow 1.7 or newer; and see to the
order of the layers (BNA103, BNA104). The finding's help names what is enough for this model.""",
    silent=_SILENT,
    fix_safety=_FIX_SAFETY,
    references=_REFERENCES,
    bad=(
        federation(
            "self.conv = nn.Conv2d(1, 8, 3)",
            "self.fc = nn.Linear(8 * 26 * 26, 10)",
            "self.bn = nn.BatchNorm2d(8)",
            aggregator="PlainAggregator",
            settings=('strategy="fed_prox"', "mu=0.1", "skip_bn=True"),
        ),
    ),
    good=(
        federation(
            "self.conv = nn.Conv2d(1, 8, 3)",
            "self.fc = nn.Linear(8 * 26 * 26, 10)",
            "self.bn = nn.BatchNorm2d(8)",
            aggregator="PlainAggregator",
            settings=('strategy="fed_avg_w"', "skip_bn=True"),
        ),
    ),
    judges=FLModelCase,
    check=_unsupported,
)

_NO_NORM = ("self.conv = nn.Conv2d(1, 8, 3)", "self.gn = nn.GroupNorm(2, 8)", "self.fc = nn.Linear(8 * 26 * 26, 10)")

UNNEEDED = Rule(
    code="BNA106",
    name="skip-bn-without-bn",
    severity=Severity.INFO,
    summary="`skip_bn=True`, and the model has no BatchNorm",
    finds="A call of SecretFlow's `FLModel` with `skip_bn=True`, whose model is known to the last layer "
    "and has no BatchNorm.",
    why="""\
It does no harm. But whoever wrote it expected a BatchNorm: the model may not be the one that was meant, or its norm
layers are ones that FedBN does not speak of.""",
    remedy="Leave it out, or check the model.",
    silent="Any part of the model is not known, or the value of `skip_bn` is not.",
    fix_safety="No edit is offered.",
    references=_REFERENCES,
    bad=(federation(*_NO_NORM, settings=("skip_bn=True",)),),
    good=(
        federation(*_NO_NORM),
        federation("self.fc = nn.Linear(4, 2)", "self.bn = nn.BatchNorm1d(4)", settings=("skip_bn=True",)),
    ),
    judges=FLModelCase,
    check=_unneeded,
)

RULES = (MISSES, MISPLACES, UNSUPPORTED, UNNEEDED)
