"""An averaging laid out for the rules: for each model that may take part, what certainly becomes of its entries."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from bn_audit.exchange.fedbn import owners
from bn_audit.exchange.handwritten import plan
from bn_audit.exchange.plan import PlanError
from bn_audit.federation import AveragingSite, Participant
from bn_audit.filters import All, Any, Contains, Ends, Equals, Not, Starts, Test, picked
from bn_audit.finding import Evidence, Location
from bn_audit.handwritten import HandWritten, Load, Rest
from bn_audit.loading import Covers
from bn_audit.profile import NormLayer, Profile, StateEntry
from bn_audit.rules.wording import listed
from bn_audit.running import is_statistic

__all__ = [
    "Judged",
    "Misfit",
    "counts",
    "distinct",
    "judge_averaging",
    "keeps_batchnorm",
    "means_batchnorm",
    "misfits",
    "model_trail",
    "models_named",
    "of_models",
    "trail_of",
    "words_of",
]

_PLACES = 2
_MODELS = 3
"""Models that a message names; of more, one less and how many there are besides."""
_COUNTER = "num_batches_tracked"


@dataclass(frozen=True, slots=True)
class Judged:
    """What an averaging certainly does with one model.

    Attributes:
        participant: the model.
        error: the exception that stops the averaging, whichever form it has; None if it may go through.
        shared: BatchNorm's entries that are averaged.
        kept: BatchNorm's entries that certainly are not.
    """

    participant: Participant
    error: PlanError | None
    shared: tuple[StateEntry, ...]
    kept: tuple[StateEntry, ...]

    @property
    def statistics(self) -> tuple[StateEntry, ...]:
        """The running statistics among what is shared."""
        return tuple(entry for entry in self.shared if is_statistic(entry.name))


@functools.lru_cache(maxsize=256)
def judge_averaging(site: AveragingSite) -> tuple[Judged, ...]:
    """Each model with BatchNorm that may take part, with what certainly happens to it; models without are left out."""
    return tuple(
        _judge(site, participant)
        for participant in site.participants
        if participant.profile.framework == "torch" and any(counts(norm) for norm in participant.profile.norms)
    )


def counts(norm: NormLayer) -> bool:
    """Whether a norm layer certainly keeps running statistics that training updates: not a frozen one."""
    return norm.tracked is True and norm.family != "other" and not norm.lazy


def _judge(site: AveragingSite, participant: Participant) -> Judged:
    profile = participant.profile
    norms = {norm.path for norm in profile.norms if counts(norm)}
    shared: list[StateEntry] = []
    kept: list[StateEntry] = []
    covered: list[str] = []
    for entry in profile.entries:
        inside = entry.kind == "parameter" if site.what == "parameters" else True
        answer = picked(site.covers, entry, profile) if inside else False
        if answer:
            covered.append(entry.key)
        owner = owners(profile).get(entry.key)
        if owner is not None and owner.path in norms:
            if answer:
                shared.append(entry)
            elif answer is False:
                kept.append(entry)
    error = _error(site.forms, profile, frozenset(covered)) if site.promotes else None
    return Judged(participant, error, tuple(shared), tuple(kept))


def _error(forms: Sequence[HandWritten], profile: Profile, keys: frozenset[str]) -> PlanError | None:
    """The exception of the arithmetic, if every form raises one."""
    found: list[PlanError] = []
    for form in forms:
        # How the result is loaded is another matter: what is not averaged is taken to be the party's own.
        made = plan(profile, dataclasses.replace(form, covers=Covers(keys=keys), rest=Rest.OWN, load=Load()))
        if not made.stops or made.error is None:
            return None
        found.append(made.error)
    return found[0] if found else None


def trail_of(site: AveragingSite, judged: Sequence[Judged]) -> tuple[Evidence, ...]:
    """How the states come here, where the result goes, and where the models and their BatchNorms stand."""
    steps: list[Evidence] = [*site.again[:_PLACES], *site.picks, *site.through, *site.states]
    if site.load is not None:
        steps.append(site.load)
    steps.extend(step for one in judged[:_PLACES] for step in model_trail(one.participant))
    return distinct(steps, site.location)


def model_trail(participant: Participant) -> list[Evidence]:
    """Where a model comes from, and where its BatchNorms stand."""
    steps = list(participant.trail)
    places: dict[Location, list[NormLayer]] = {}
    for norm in participant.profile.norms:
        if norm.location is not None and counts(norm):
            places.setdefault(norm.location, []).append(norm)
    for place, norms in list(places.items())[:_PLACES]:
        names = listed(norm.path or "the root" for norm in norms)
        steps.append(Evidence(place, f"this {norms[0].type} is {names} of `{participant.name}`"))
    return steps


def distinct(steps: Iterable[Evidence], own: Location) -> tuple[Evidence, ...]:
    """A trail with each place once, and without the finding's own."""
    kept: dict[Location, Evidence] = {}
    for step in steps:
        if step.location != own:
            kept.setdefault(step.location, step)
    return tuple(kept.values())


@dataclass(frozen=True, slots=True)
class Misfit:
    """What a filter by name gets wrong about one model.

    Attributes:
        judged: the model.
        missed: entries of a BatchNorm that slip through, while those of another are caught; or all there are, if the
            filter catches nothing at all.
        caught: entries of other layers that are caught as if they were BatchNorm's.
    """

    judged: Judged
    missed: tuple[str, ...]
    caught: tuple[str, ...]

    @property
    def whole(self) -> bool:
        """Whether the filter catches nothing at all."""
        return not self.judged.kept


def misfits(covers: Test, judged: Judged) -> Misfit | None:
    """Where a filter that means BatchNorm is proven wrong by a model's keys; None if it is right, or means another."""
    words = [word for word in words_of(covers) if means_batchnorm(word)]
    if not words:
        return None
    profile = judged.participant.profile
    by_name: dict[str, set[bool]] = {}
    for entries, is_kept in ((judged.kept, True), (judged.shared, False)):
        for entry in entries:
            by_name.setdefault(entry.name, set()).add(is_kept)
    kept_kinds = {name for name, states in by_name.items() if True in states and name != _COUNTER}
    if not judged.kept:
        return Misfit(judged, tuple(entry.key for entry in judged.shared), ()) if _idle(words, judged) else None
    # A filter that keeps no weight and no statistics of any BatchNorm only steps over the counter.
    if not kept_kinds:
        return None
    missed = tuple(
        entry.key for entry in judged.shared if by_name[entry.name] == {True, False} and entry.name in kept_kinds
    )
    owned = owners(profile)
    caught = tuple(
        entry.key
        for entry in profile.entries
        if entry.key not in owned
        and not _like_norm(entry)
        and any(picked(word, entry, profile) for word in words)
        and picked(covers, entry, profile) is False
    )
    return Misfit(judged, missed, caught) if missed or caught else None


def _idle(words: Sequence[Test], judged: Judged) -> bool:
    """Whether words for BatchNorm stand in no key of a model, all of whose BatchNorms go through."""
    profile = judged.participant.profile
    return (
        profile.complete
        and any(entry.name.startswith("running_") for entry in judged.shared)
        and not any(picked(word, entry, profile) for word in words for entry in profile.entries)
    )


def words_of(test: Test) -> Iterator[Test]:
    """The tests of the key's text in a filter, each of one word."""
    if isinstance(test, Not):
        yield from words_of(test.test)
    elif isinstance(test, (All, Any)):
        for part in test.tests:
            yield from words_of(part)
    elif isinstance(test, (Starts, Ends, Equals)):
        yield from (dataclasses.replace(test, words=(word,)) for word in test.words)
    elif isinstance(test, Contains):
        yield test


def keeps_batchnorm(covers: Test) -> bool:
    """Whether a filter asks for BatchNorm by name, and not only for its counter."""
    return any(
        means_batchnorm(word) and not any(_COUNTER in text for text in _texts(word)) for word in words_of(covers)
    )


def _texts(test: Test) -> tuple[str, ...]:
    return (test.word,) if isinstance(test, Contains) else getattr(test, "words", ())


def means_batchnorm(test: Test) -> bool:
    """Whether a word stands for BatchNorm in its author's mind: ``bn``, ``norm``, ``batch``, ``running_mean``."""
    words = _texts(test)
    marks = ("bn", "norm", "batch", "running_")
    return any(mark in word.lower() for word in words for mark in marks)


def _like_norm(entry: StateEntry) -> bool:
    """Whether a layer that is no BatchNorm is called like a normalisation: to keep it local may well be meant."""
    leaf = entry.module.rpartition(".")[2].lower()
    return "norm" in leaf or leaf.rstrip("0123456789_") in ("ln", "gn", "in", "bn")


def of_models(rows: Sequence[tuple[Participant, Sequence[str]]], *, goes_on: bool = True) -> str:
    """```bn1` and `bn2` of `Net`, and others of `Other`,``: names in several models, of which only the first one's are
    written out.

    Args:
        rows: the models, each with its names, none of them without.
        goes_on: whether the sentence does, so that a comma has to stand where others are named.
    """
    first = list(dict.fromkeys(rows[0][1]))
    alike = [one for one, names in rows if list(dict.fromkeys(names)) == first]
    others = [one for one, names in rows if list(dict.fromkeys(names)) != first]
    text = f"{listed(first)} of {models_named(alike)}"
    return f"{text}, and others of {models_named(others)}{',' if goes_on else ''}" if others else text


def models_named(participants: Sequence[Participant]) -> str:
    """The models, each with the conditions under which it is the one."""
    names: dict[str, None] = {}
    for one in participants:
        conditions = " and ".join(f"`{text}`" for text in one.conditions)
        names[f"`{one.name}`" + (f" (if {conditions})" if conditions else "")] = None
    shown = list(names)
    if len(shown) > _MODELS:
        return f"{', '.join(shown[: _MODELS - 1])} and {len(shown) - _MODELS + 1} more models"
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
