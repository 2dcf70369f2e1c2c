"""Lets the rules judge what the readers found. The only place where readers and rules meet."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, cast

if TYPE_CHECKING:
    from bn_audit.exchange.flower import FlowerSettings
    from bn_audit.exchange.frameworks import FrameworkSettings
    from bn_audit.exchange.nvflare import NVFlareSettings
    from bn_audit.exchange.secretflow import SecretFlowSettings
    from bn_audit.federation import ExchangeSite, FederatedSite, Participant
    from bn_audit.finding import Finding, Location
    from bn_audit.rules.case import FLModelCase
    from bn_audit.rules.live_model import LiveModel
    from bn_audit.rules.rule import Rule
    from bn_audit.site import Aggregator, FLModelSite, Unreadable
    from bn_audit.suppression import UnusedSuppression

__all__ = ["Selection", "Versions", "audit", "audit_model", "order", "tidy"]


@dataclass(frozen=True, slots=True)
class Versions:
    """The releases a call runs with, as far as they are known."""

    secretflow: str | None = None
    torch: str | None = None


@dataclass(frozen=True, slots=True)
class Selection:
    """Which rules shall speak, by prefixes of their codes.

    ``select`` None is every rule. As in ruff, the longer prefix wins, and of two equal ones the one that ignores;
    what is ``silent`` never speaks.
    """

    select: tuple[str, ...] | None = None
    extend_select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()

    def __contains__(self, code: str) -> bool:
        chosen = ("",) if self.select is None else self.select
        selected = _longest(code, (*chosen, *self.extend_select)) > _longest(code, self.ignore)
        return selected and not code.startswith(self.silent)


def _longest(code: str, prefixes: Iterable[str]) -> int:
    """The length of the longest of ``prefixes`` that ``code`` begins with; -1 if there is none."""
    return max((len(prefix) for prefix in prefixes if code.startswith(prefix)), default=-1)


def audit(
    sites: Sequence[FLModelSite | FederatedSite],
    unreadable: Sequence[Unreadable],
    selection: Selection | Callable[[str], Selection],
    versions: Callable[[str], Versions],
    suppressions: Sequence[UnusedSuppression] = (),
) -> tuple[Finding, ...]:
    """The findings about sites, unreadable files and suppressions, sorted by place and code, each once.

    Args:
        sites: what the source reader found.
        unreadable: what it could not read.
        selection: which rules speak: everywhere, or of a file, from its path.
        versions: the releases the project around a file runs with, from the file's path.
        suppressions: those that silence nothing.
    """
    if not (sites or unreadable or suppressions):
        return ()
    # Imported here: most files hold nothing to judge, and the catalogue need not be there for them.
    from bn_audit.rules import rules_about
    from bn_audit.rules.case import FLModelCase
    from bn_audit.site import FLModelSite

    alone: list[FLModelCase] = []
    others: list[FederatedSite | Unreadable | UnusedSuppression] = [*unreadable, *suppressions]
    for site in sites:
        if isinstance(site, FLModelSite):
            releases = versions(site.location.path)
            alone.append(FLModelCase(site, secretflow=releases.secretflow, torch=releases.torch))
        else:
            others.append(_with_arithmetic(site, versions))
    subjects = (*others, *_with_fellows(alone))
    return _judgements(rules_about(subjects).values(), subjects, selection)


def _with_arithmetic(site: FederatedSite, versions: Callable[[str], Versions]) -> FederatedSite:
    """A site as the torch of its project runs it, which may be one that the plans do not know."""
    from bn_audit.exchange.release import release
    from bn_audit.federation import AveragingSite

    if not isinstance(site, AveragingSite):
        return site
    torch = release(versions(site.location.path).torch)
    return replace(site, promotes=False) if torch is not None and torch < _PROMOTION else site


_PROMOTION = (1, 3)
"""From this torch on types are taken to be promoted as the plans say, which were checked against newer ones."""


def audit_model(
    model: LiveModel,
    settings: FrameworkSettings | None = None,
    *,
    passed: bool = True,
    selection: Selection | None = None,
) -> tuple[Finding, ...]:
    """The findings about a live model or a checkpoint, sorted by code.

    The model is judged as that of an FLModel call with these settings, or of a client of Flower or NVFlare; without
    settings only its state is judged.

    Args:
        model: the model.
        settings: of who shall train it. An aggregator of SecretFlow's that is None is judged as Plain and as Secure.
        passed: whether ``skip_bn`` is passed to it, or has its value by default.
        selection: which rules speak; None is every rule.
    """
    from bn_audit.exchange.secretflow import SecretFlowSettings
    from bn_audit.rules import rules_about

    if settings is None or isinstance(settings, SecretFlowSettings):
        subjects: tuple[object, ...] = _called(model, settings, passed), model
    else:
        subjects = _client(model, settings), model
    found = _judgements(rules_about(subjects).values(), subjects, selection or Selection())
    return tuple(sorted(found, key=lambda finding: finding.code))


def _called(model: LiveModel, settings: SecretFlowSettings | None, passed: bool) -> FLModelCase:
    """A live model as that of an FLModel call."""
    from bn_audit.rules.case import FLModelCase
    from bn_audit.site import FLModelCall, FLModelSite

    call = FLModelCall(model=model.profile, model_name=model.name, backend=None, strategy=None, skip_bn=None)
    if settings is not None:
        call = replace(
            call,
            backend=settings.backend,
            strategy=settings.strategy,
            aggregator=cast("Aggregator | None", settings.aggregator),
            skip_bn=settings.skip_bn,
            skip_bn_passed=passed,
            base_module=settings.base_module,
            wrapped=settings.wrapped,
        )
    releases = (None, None) if settings is None else (settings.secretflow_version, settings.torch_version)
    return FLModelCase(FLModelSite(model.location, model.location, (call,)), *releases)


def _client(model: LiveModel, settings: FlowerSettings | NVFlareSettings) -> ExchangeSite:
    """A live model as that of a client, which sends all but what it keeps, and takes over what comes back of it."""
    from bn_audit.exchange.flower import FlowerSettings
    from bn_audit.exchange.frameworks import NAMES
    from bn_audit.federation import ExchangeSite, Loading, Participant, Rebuild, Sending
    from bn_audit.filters import All, Contains, Equals, Not
    from bn_audit.finding import Evidence
    from bn_audit.handwritten import Rebuild as Rebuilt
    from bn_audit.loading import How

    keeps, place = settings.keeps, model.location
    norms = (Not(Equals(tuple(sorted(replace(keeps, words=()).keys(model.profile))))),) if keeps.norms else ()
    covers = All((*norms, *(Not(Contains(word)) for word in keeps.words)))
    participant = (Participant(model.name, model.profile),)
    arrays = isinstance(settings, FlowerSettings) and settings.api == "numpy"
    size = isinstance(settings, FlowerSettings) and arrays and settings.rebuild is Rebuilt.TENSOR_CLASS
    loading = Loading(
        place,
        covers,
        participant,
        keys=covers if arrays else None,
        rebuild=Rebuild(place, "torch.Tensor") if size else None,
        strict=settings.load is not How.LENIENT,
        initial=arrays,
    )
    pattern = None if isinstance(settings, FlowerSettings) else settings.exclude_vars
    return ExchangeSite(
        place,
        NAMES[type(settings)],
        "",
        "client",
        (Sending(place, "state", covers, participant, listed=arrays),),
        (loading,),
        # What the server leaves out of the average is the plan's business.
        apart=() if pattern is None else (Evidence(place, f"the server leaves out what matches {pattern!r}"),),
    )


def _with_fellows(cases: Sequence[FLModelCase]) -> list[FLModelCase]:
    """The cases, each with those whose FLModel is made by way of the same call: an edit there changes them all."""
    by_place: dict[Location, list[FLModelCase]] = {}
    for case in cases:
        site = case.site
        for place in {site.location, site.call, *(step.location for step in site.through)}:
            by_place.setdefault(place, []).append(case)
    found = []
    for case in cases:
        others = tuple(other for other in by_place[case.site.location] if other is not case)
        edits = case.site.skip_bn_edit is not None or bool(case.site.wrap_edits)
        found.append(replace(case, fellows=others) if others and edits else case)
    return found


def _judgements(
    rules: Iterable[Rule[Any]], subjects: Iterable[object], selection: Selection | Callable[[str], Selection]
) -> tuple[Finding, ...]:
    """What the rules say of the subjects, as far as the file that a finding stands in wants to hear it."""
    if isinstance(selection, Selection):
        chosen = [rule for rule in rules if rule.code in selection]
        return tidy(_once(chosen, [row for one in subjects for row in _told(chosen, one)]))
    every = tuple(rules)
    found = [row for subject in subjects for row in _told(every, subject)]
    return tidy(_once(every, [row for row in found if row.finding.code in selection(row.finding.location.path)]))


class _Told(NamedTuple):
    """A finding, and what tells one exchange from another."""

    finding: Finding
    trail: frozenset[Location]
    """The places of its trail that say how states are exchanged: two programs may have a model's in common."""
    models: tuple[tuple[Location, ...], ...] = ()
    """The calls that lead to its models, outermost first."""

    def meets(self, trail: Container[Location], begun: Container[Location], models: Container[Location]) -> bool:
        """Whether it has a part of its trail in common with other findings, or a model: one way to it is then the end
        of another."""
        return (
            any(place in trail for place in self.trail)
            or any(way[0] in models for way in self.models)
            or any(place in begun for way in self.models for place in way)
        )


def _told(rules: Iterable[Rule[Any]], subject: object) -> Iterator[_Told]:
    """What the rules say of a subject."""
    found = [finding for rule in rules for finding in _judge(rule, subject)]
    models = _models_of(subject) if found else ()
    places = {step.location for one in models for step in one.trail}
    places.update(norm.location for one in models for norm in one.profile.norms if norm.location is not None)
    ways = tuple(way for one in models for way in one.ways if way)
    for finding in found:
        yield _Told(finding, frozenset(step.location for step in finding.evidence) - places, ways)


def _models_of(subject: object) -> tuple[Participant, ...]:
    """The models of a federation whose states are exchanged."""
    from bn_audit.federation import AveragingSite, ExchangeSite, ServerStepSite

    if isinstance(subject, ExchangeSite):
        sent = (one for way in subject.sends for one in way.participants)
        return (*sent, *(one for way in subject.loads for one in way.participants))
    return subject.participants if isinstance(subject, (AveragingSite, ServerStepSite)) else ()


def _once(rules: Sequence[Rule[Any]], rows: Sequence[_Told]) -> Iterable[Finding]:
    """The findings without those of which a rule that they yield to speaks: whose place is part of its trail, or which
    have a part of their own trail, or a model, in common with another rule's."""
    yields = {rule.code: rule.yields_to for rule in rules if rule.yields_to}
    stronger = {code for row in rows for code in yields.get(row.finding.code, ())}
    trails: dict[str, set[Location]] = {code: set() for code in stronger}
    begun: dict[str, set[Location]] = {code: set() for code in stronger}
    models: dict[str, set[Location]] = {code: set() for code in stronger}
    for row in rows:
        code = row.finding.code
        if code in stronger:
            trails[code].update(row.trail)
            begun[code].update(way[0] for way in row.models)
            models[code].update(place for way in row.models for place in way)
    for row in rows:
        if not any(
            row.finding.location in trails[code]
            or (code != row.finding.code and row.meets(trails[code], begun[code], models[code]))
            for code in yields.get(row.finding.code, ())
        ):
            yield row.finding


def _judge(rule: Rule[Any], subject: object) -> Iterable[Finding]:
    return rule.check(subject) if isinstance(subject, rule.judges) else ()


def tidy(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Sorted by path, cell, line, column and code; of several with one code and place, the most severe, else the first.

    A layer that two federated calls reach is one defect, and is told once.
    """
    best: dict[tuple[str, Location], Finding] = {}
    for finding in findings:
        key = finding.code, finding.location
        if key not in best or finding.severity.rank > best[key].severity.rank:
            best[key] = finding
    return tuple(sorted(best.values(), key=order))


def order(finding: Finding) -> tuple[str, int, int, int, str, str]:
    """What findings are sorted by."""
    place = finding.location
    return place.path, place.cell or 0, place.line, place.column, finding.code, finding.message
