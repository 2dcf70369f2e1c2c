"""An inspection: what a model's state holds, and what a framework would do with it, as plain data.

Two questions are answered. Under settings that are given: which fate does each entry meet, and is it the one that
FedBN expects? And where none are: which of the settings that a framework offers are right for this model at all?
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from bn_audit.exchange import flower, nvflare
from bn_audit.exchange.fedbn import constants, evidence, expectation, owners
from bn_audit.exchange.frameworks import FrameworkSettings, integers_stay, plan
from bn_audit.exchange.keep import Keep
from bn_audit.exchange.plan import Comparison, EntryPlan, Fate, Plan, PlanError, compare
from bn_audit.exchange.secretflow import SecretFlowSettings
from bn_audit.exchange.secretflow.strategies import strategies
from bn_audit.finding import Finding, Location, Severity
from bn_audit.handwritten import Rebuild
from bn_audit.health import NormHealth
from bn_audit.loading import How
from bn_audit.profile import NormLayer, Profile, StateEntry
from bn_audit.rules.case import FLModelCase, Judged
from bn_audit.rules.remedy import advice
from bn_audit.rules.wording import MEMORY, consequence
from bn_audit.site import FLModelCall, FLModelSite
from bn_audit.wrapping import Wrapping

__all__ = [
    "Cell",
    "Choice",
    "EntryFate",
    "InspectedNorm",
    "Inspection",
    "Judgement",
    "StateCount",
    "Verdict",
    "aggregators",
    "choices",
    "inspect",
    "judge",
    "matrix",
]


class Verdict(enum.Enum):
    """What settings come to for a model. The values are the words of the reports."""

    RIGHT = "right"
    """Every entry meets the fate that FedBN expects."""
    STOPS = "stops"
    """An error ends training."""
    SPOILS = "spoils"
    """Nothing stops, and an entry does not meet its fate."""
    WRONG = "wrong"
    """An entry does not meet its fate; whether the round stops as well is chance, or not known."""
    UNKNOWN = "unknown"
    """What is known of model and settings does not tell."""


@dataclass(frozen=True, slots=True)
class EntryFate:
    """An entry of the state dict beside its fates.

    Attributes:
        entry: the entry.
        norm: the norm layer that owns it, or None.
        expected: what FedBN wants; None if it is open whether the owner is a layer to keep local.
        possible: the fates it may meet under the settings, provided the round is not stopped before; empty where no
            settings were given.
        source_key: whose tensor it gets, if it is misplaced and the source is certain.
        wrong: whether it certainly misses what FedBN expects.
    """

    entry: StateEntry
    norm: NormLayer | None
    expected: Fate | None
    possible: frozenset[Fate] = frozenset()
    source_key: str | None = None
    wrong: bool = False

    @property
    def fate(self) -> Fate | None:
        """The fate, if it is known and certain."""
        return next(iter(self.possible)) if len(self.possible) == 1 else None


@dataclass(frozen=True, slots=True)
class InspectedNorm:
    """A norm layer, and how its statistics are; ``health`` None where their values were not at hand."""

    layer: NormLayer
    health: NormHealth | None

    @property
    def depth(self) -> int:
        """How many modules lie above it: 1 is an attribute of the model itself, 0 the model."""
        return self.layer.path.count(".") + 1 if self.layer.path else 0


@dataclass(frozen=True, slots=True)
class StateCount:
    """How many entries have one dtype, kind and owner, and how many numbers they hold.

    ``elements`` None: a shape is not known. Aliases are entries, and hold nothing of their own.
    """

    dtype: str | None
    kind: Literal["parameter", "buffer"]
    norm: bool
    entries: int
    elements: int | None


@dataclass(frozen=True, slots=True)
class Cell:
    """One combination of settings, and what it comes to for the model."""

    strategy: str
    aggregator: str
    skip_bn: bool
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Choice:
    """What Flower or NVFlare, with a strategy and options, comes to for the model.

    Attributes:
        framework: ``flower`` or ``nvflare``.
        strategies: those that come to the same, with these options.
        options: names and values.
        everything: the verdict if clients exchange their whole state dict.
        keeping: the verdict if every client keeps its norm layers to itself.
    """

    framework: str
    strategies: tuple[str, ...]
    options: tuple[tuple[str, str], ...]
    everything: Verdict
    keeping: Verdict


@dataclass(frozen=True, slots=True)
class Judgement:
    """A plan beside FedBN's.

    Attributes:
        settings: what the plan was made for.
        plan: the framework's plan.
        comparison: certainties only; a frozen BatchNorm that is averaged counts as met: the mean of equal constants
            is that constant.
        verdict: in a word.
        sentence: in a sentence.
    """

    settings: FrameworkSettings
    plan: Plan
    comparison: Comparison
    verdict: Verdict
    sentence: str


@dataclass(frozen=True, slots=True)
class Inspection:
    """What ``bn-audit inspect`` has to say.

    Attributes:
        target: as the user named it.
        profile: the model.
        entries: one for each of the profile's, in its order.
        norms: in module order.
        summary: ordered by dtype, kind and owner.
        judgement: of the settings that were asked for; None if none were.
        matrix: what SecretFlow's settings come to; empty where settings were asked for.
        choices: what those of the other frameworks come to; likewise.
        advice: what to change, where BatchNorm is in the way of every combination of settings; None where one is right.
        findings: sorted by code.
        notes: what a reader should know of where the state came from, in sentences.
        modules: class name by module path, in module order, the root ("") first; empty where only the state is known.
    """

    target: str
    profile: Profile
    entries: tuple[EntryFate, ...]
    norms: tuple[InspectedNorm, ...]
    summary: tuple[StateCount, ...]
    judgement: Judgement | None = None
    matrix: tuple[Cell, ...] = ()
    choices: tuple[Choice, ...] = ()
    advice: str | None = None
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    modules: tuple[tuple[str, str], ...] = ()

    @property
    def error(self) -> PlanError | None:
        """The error that stops the round under the settings asked for."""
        return None if self.judgement is None else self.judgement.comparison.error

    @property
    def ok(self) -> bool:
        """Whether the settings asked for, if any, are right, and no finding is a warning or an error."""
        right = self.judgement is None or self.judgement.verdict is Verdict.RIGHT
        return right and all(finding.severity is Severity.INFO for finding in self.findings)


def inspect(
    profile: Profile,
    *,
    target: str,
    settings: FrameworkSettings | None = None,
    health: Iterable[NormHealth] = (),
    findings: Iterable[Finding] = (),
    notes: Iterable[str] = (),
    modules: Mapping[str, str] | None = None,
    torch_version: str | None = None,
    secretflow_version: str | None = None,
    wrapped: Wrapping | None = None,
) -> Inspection:
    """Lay out a model's state, and judge the settings asked for, or all there are.

    Args:
        profile: the model.
        target: what the user calls it.
        settings: of the round to judge; None judges every combination (:func:`matrix`) for the given versions.
        health: of its norm layers, as far as measured.
        findings: what the rules say.
        notes: sentences to pass on.
        modules: class names by module path, if the model is at hand.
        torch_version, secretflow_version: the releases the matrix is made for; None is "not known" and 1.13.
        wrapped: how ``local_batchnorm`` made the model, for the matrix; None if it did not.
    """
    judgement = None if settings is None else judge(profile, settings)
    cells = () if settings is not None else matrix(profile, torch_version, secretflow_version, wrapped)
    measured = {one.path: one for one in health}
    return Inspection(
        target=target,
        profile=profile,
        entries=tuple(_entries(profile, judgement)),
        norms=tuple(InspectedNorm(norm, measured.get(norm.path)) for norm in profile.norms),
        summary=_summary(profile),
        judgement=judgement,
        matrix=cells,
        choices=() if settings is not None else choices(profile),
        advice=_advice(profile, torch_version, secretflow_version) if _hopeless(cells) else None,
        findings=tuple(sorted(findings, key=lambda finding: (finding.code, finding.message))),
        notes=(*notes, *_nothing(profile), *evidence(profile), *_refusal(profile)),
        modules=tuple((modules or {}).items()),
    )


def judge(profile: Profile, settings: FrameworkSettings) -> Judgement:
    """The framework's plan for a model beside FedBN's, with a verdict."""
    made = plan(profile, settings)
    comparison = _forgive(profile, compare(expectation(profile, integers_stay=integers_stay(settings)), made))
    verdict = _verdict(comparison)
    return Judgement(settings, made, comparison, verdict, _sentence(profile, settings, comparison, verdict, made))


def aggregators(strategy: str) -> tuple[str, ...]:
    """The aggregators a strategy of the torch backend is used with, the usual one first; empty if it is not known."""
    known = next((one for one in strategies("torch") if one.name == strategy), None)
    if known is None:
        return ()
    return tuple(name for name in _AGGREGATORS if name in known.aggregators) if known.aggregators else _USUAL


_USUAL = ("plain", "secure", "spu", "server_agg_method")
_AGGREGATORS = (*_USUAL, "sparse", "fedgen")


def matrix(
    profile: Profile,
    torch_version: str | None = None,
    secretflow_version: str | None = None,
    wrapped: Wrapping | None = None,
) -> tuple[Cell, ...]:
    """What every combination of strategy, aggregator and ``skip_bn`` comes to, those that cannot work by design left
    out: fed_stc and fed_scr work with SparsePlainAggregator only, fed_gen with its own."""
    expected = expectation(profile, integers_stay=wrapped is not None and wrapped.integers == "local")
    cells = []
    for strategy in strategies("torch"):
        for aggregator in aggregators(strategy.name):
            for skip_bn in (False, True):
                settings = SecretFlowSettings(
                    backend="torch",
                    strategy=strategy.name,
                    aggregator=aggregator,
                    skip_bn=skip_bn,
                    secretflow_version=secretflow_version,
                    torch_version=torch_version,
                    wrapped=wrapped,
                )
                comparison = _forgive(profile, compare(expected, plan(profile, settings)))
                cells.append(Cell(strategy.name, aggregator, skip_bn, _verdict(comparison)))
    return tuple(cells)


def choices(profile: Profile) -> tuple[Choice, ...]:
    """What the strategies of Flower and NVFlare come to, by the options that decide it, those alike together.

    Clients that keep their norm layers load with ``strict=False``, as they have to.
    """
    found: dict[tuple[str, tuple[tuple[str, str], ...], Verdict, Verdict], list[str]] = {}
    keep = Keep(norms=True)
    expected = expectation(profile)

    def add(
        names: tuple[str, ...],
        whole: FrameworkSettings,
        keeping: FrameworkSettings,
        options: tuple[tuple[str, str], ...],
    ) -> None:
        both = [_verdict(_forgive(profile, compare(expected, plan(profile, one)))) for one in (whole, keeping)]
        name = "flower" if isinstance(whole, flower.FlowerSettings) else "nvflare"
        found.setdefault((name, options, both[0], both[1]), []).extend(names)

    apis: tuple[Literal["numpy", "message"], ...] = ("numpy", "message")
    for api in apis:
        for strategies_ in flower.ALIKE:
            app = flower.FlowerSettings(api, strategies_[0])
            add(strategies_, app, replace(app, keeps=keep, load=How.LENIENT), (("api", api),))
    exchanges: tuple[Literal["numpy", "pytorch"], ...] = ("numpy", "pytorch")
    transfers: tuple[Literal["full", "diff"], ...] = ("full", "diff")
    for exchange in exchanges:
        for transfer in transfers:
            # The same helper averages in all strategies.
            job = nvflare.NVFlareSettings(exchange=exchange, transfer=transfer)
            options = (("exchange", exchange), ("transfer", transfer))
            add(nvflare.STRATEGIES, job, replace(job, keeps=keep, load=How.LENIENT), options)
    return tuple(Choice(name, tuple(names), options, *both) for (name, options, *both), names in found.items())


def _hopeless(cells: Iterable[Cell]) -> bool:
    verdicts = {cell.verdict for cell in cells}
    return bool(verdicts) and not verdicts & {Verdict.RIGHT, Verdict.UNKNOWN}


def _advice(profile: Profile, torch_version: str | None, secretflow_version: str | None) -> str | None:
    """What makes fed_avg_w right for a model with ``skip_bn=True``, with PlainAggregator and with SecureAggregator."""
    if not profile.norms:
        return None
    nowhere = Location("", 1, 1, 1, 1)
    call = FLModelCall(model=profile, backend="torch", strategy="fed_avg_w", aggregator=None, skip_bn=True)
    return advice(FLModelCase(FLModelSite(nowhere, nowhere, (call,)), secretflow_version, torch_version))


def _forgive(profile: Profile, comparison: Comparison) -> Comparison:
    """The comparison without what only averages a frozen BatchNorm."""
    constant = constants(profile) if comparison.differences else frozenset[str]()
    if not constant:
        return comparison
    kept = tuple(
        one for one in comparison.differences if one.key not in constant or one.possible != frozenset({Fate.AVERAGED})
    )
    equal = comparison.equal
    if equal is False and not kept and comparison.stops is not True and comparison.drifts is not True:
        known = comparison.stops is False and comparison.drifts is False and not comparison.open and profile.complete
        equal = True if known else None
    return replace(comparison, equal=equal, differences=kept)


def _verdict(comparison: Comparison) -> Verdict:
    if comparison.equal:
        return Verdict.RIGHT
    if comparison.stops:
        return Verdict.STOPS
    if comparison.equal is None:
        return Verdict.UNKNOWN
    return Verdict.SPOILS if comparison.stops is False else Verdict.WRONG


def _sentence(
    profile: Profile, settings: FrameworkSettings, comparison: Comparison, verdict: Verdict, made: Plan
) -> str:
    if verdict is Verdict.RIGHT:
        local = len(owners(profile))
        rest = len(profile.entries) - local
        return f"every entry meets what FedBN expects: {local} stay with their party, {rest} are averaged"
    if verdict is Verdict.UNKNOWN:
        return _why_unknown(profile)
    outcome = Judged(profile, comparison, _NOTHING)
    parts = [consequence(outcome, corrupt=_corrupt(settings))] if outcome.wrong else []
    if verdict is not Verdict.STOPS and comparison.drifts:
        parts.append(f"the parties drift apart with the strategy {settings.strategy}, with BatchNorm or without")
    if verdict is Verdict.WRONG:
        parts.append("whether the round stops as well is chance, or not known")
    return "; ".join(parts)


def _corrupt(settings: FrameworkSettings) -> str:
    """What becomes of a corrupt entry. Only ``torch.Tensor(v)`` takes integers for sizes."""
    sized = isinstance(settings, SecretFlowSettings) or (
        isinstance(settings, flower.FlowerSettings) and settings.rebuild is Rebuild.TENSOR_CLASS
    )
    return MEMORY if sized else "left with a value that is no party's and no mean"


_NOTHING = Comparison(equal=True, stops=False, error=None, differences=(), open=(), drifts=False)
"""The comparison of a model with which nothing goes wrong: whatever does, is to be told."""


def _nothing(profile: Profile) -> Iterator[str]:
    """That what is right is right of nothing: a script that was frozen has its weights elsewhere."""
    if not profile.entries and not profile.gaps:
        yield "the state dict is empty: nothing is exchanged"


def _refusal(profile: Profile) -> Iterator[str]:
    """That a model does not take back its own state, and what to do."""
    tried = profile.reload
    if tried is None or tried.strict is None:
        return
    type_, text = tried.strict
    remedy = "its load_state_dict does not fit its state_dict"
    if tried.noted:
        remedy = (
            "put it into a state dict of the model's own, which has the versions that torch notes there: "
            "state = model.state_dict(); state.update(received); model.load_state_dict(state)"
        )
    yield f"a copy of the model refused its own state as a plain dict ({type_}: {' '.join(text.split())}); {remedy}"


def _why_unknown(profile: Profile) -> str:
    reasons = [gap.reason for gap in profile.gaps[:1]]
    if profile.renamed:
        reasons.append(
            "the keys of the state dict are not those that torch would give, by which SecretFlow picks and loads"
        )
    tried = profile.reload
    if tried is not None and not tried.known:
        reasons.append("whether the model takes back what its state dict gives could not be tried on a copy")
    elif tried is not None and (tried.strict or tried.lenient):
        type_, text = tried.lenient or tried.strict or ("", "")
        reasons.append(f"a copy of the model that was given its own state raised {type_}: {' '.join(text.split())}")
    if not profile.ordered:
        reasons.append("the file does not keep the order of the state dict")
    if any(norm.batchnorm is None for norm in profile.norms):
        reasons.append("a checkpoint does not say which class its norm layers are of")
    return "; ".join(reasons) or "what is known of the model does not tell"


def _entries(profile: Profile, judgement: Judgement | None) -> Iterator[EntryFate]:
    settings = None if judgement is None else judgement.settings
    expected = expectation(profile, integers_stay=integers_stay(settings)).entries
    owned = owners(profile)
    norms = {norm.path: norm for norm in profile.norms}
    plans: tuple[EntryPlan | None, ...] = (None,) * len(expected)
    wrong: set[str] = set()
    if judgement is not None:
        plans = judgement.plan.entries
        wrong = {one.key for one in judgement.comparison.differences}
    for entry, wanted, met in zip(profile.entries, expected, plans, strict=True):
        norm = owned.get(entry.key) or norms.get(entry.module)
        if met is None:
            yield EntryFate(entry, norm, wanted.fate)
        else:
            yield EntryFate(entry, norm, wanted.fate, met.possible, met.source_key, entry.key in wrong)


def _summary(profile: Profile) -> tuple[StateCount, ...]:
    owned = owners(profile)
    groups: dict[tuple[str, Literal["parameter", "buffer"], bool], list[StateEntry]] = {}
    for entry in profile.entries:
        groups.setdefault((entry.dtype or "", entry.kind, entry.key in owned), []).append(entry)
    return tuple(
        StateCount(dtype or None, kind, norm, len(entries), _elements(entries))
        for (dtype, kind, norm), entries in sorted(groups.items(), key=lambda item: _by_kind(*item[0]))
    )


def _by_kind(dtype: str, kind: str, norm: bool) -> tuple[str, bool, bool]:
    return dtype, kind != "parameter", norm


def _elements(entries: Iterable[StateEntry]) -> int | None:
    total = 0
    for entry in entries:
        if entry.alias_of is not None:
            continue
        if entry.shape is None:
            return None
        number = 1
        for size in entry.shape:
            if size is None:
                return None
            number *= size
        total += number
    return total
