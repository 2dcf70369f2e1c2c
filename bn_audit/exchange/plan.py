"""Plans: the fate every state entry meets in a round, or the error that stops the round.

A plan made from a partial profile states only what is certain. Three devices keep it honest and still useful:

- an entry's plan is the *set* of fates it may meet. One member is a certainty; a set without the expected fate is a
  certain difference even where it stays open which of the others it will be (``fc`` is stale or misplaced, never
  averaged);
- fates hold *provided the round is not stopped*; whether it is stopped is said apart, in :attr:`Plan.stops`;
- that a round stops may be certain while the text is not (an unknown entry may raise first):
  :attr:`PlanError.text_certain`.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, replace

__all__ = ["ANY", "Comparison", "Difference", "EntryPlan", "Fate", "Plan", "PlanError", "compare", "merge"]


class Fate(enum.Enum):
    """What becomes of one entry in a round. The values are the words of the reports."""

    AVERAGED = "averaged"
    """Gets the weighted mean of its own entry: equal across parties afterwards (or, where a strategy moves updates or
    gradients, moved by the same mean of its own in every party)."""
    LOCAL = "local"
    """Each party keeps its own, as FedBN wants for this entry."""
    STALE = "stale"
    """Should be averaged, gets nothing."""
    MISPLACED = "misplaced"
    """Gets another entry's tensor."""
    CORRUPT = "corrupt"
    """Is rebuilt from uninitialised memory; what follows, an error among it, is chance."""
    FAILS = "fails"
    """The round stops at this entry."""


ANY = frozenset(Fate) - {Fate.FAILS}
"""Every fate of an entry in a round that is not stopped: nothing is known."""


@dataclass(frozen=True, slots=True)
class EntryPlan:
    """One entry's part of a plan.

    Attributes:
        key: the entry's key.
        possible: the fates it may meet if the round is not stopped; ``{FAILS}`` marks an entry at which it is.
        source_key: whose tensor it gets, if it is certainly misplaced and the source is certain.
    """

    key: str
    possible: frozenset[Fate]
    source_key: str | None = None

    @property
    def fate(self) -> Fate | None:
        """The fate, or None if more than one is possible."""
        return next(iter(self.possible)) if len(self.possible) == 1 else None


@dataclass(frozen=True, slots=True)
class PlanError:
    """The exception that stops the round.

    Attributes:
        type: the exception's class name.
        text: ``str(exception)``, as the framework raises it.
        text_certain: False if only the stop is certain; type, text, key and round are then the likely ones.
        key: the entry at which it stops; None if it is no single entry's fault.
        round: how many times the failing party has begun to train: 0 is the exchange before any training, with which
            ``fit`` begins; n is the n-th local training, the loading before it and the aggregation after it.
    """

    type: str
    text: str
    text_certain: bool = True
    key: str | None = None
    round: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """What a round does with every entry of a profile.

    Attributes:
        entries: one for each entry of the profile, in its order.
        stops: whether an error stops the round; None if it may.
        error: set if and only if ``stops`` is True.
        complete: False if the model may have entries that are not listed.
        drifts: parties drift apart even where every entry is exchanged rightly; None if they may.
        settings: name and value of what the plan was made for, for reports.
        notes: what a reader should know besides, in words.
    """

    entries: tuple[EntryPlan, ...]
    stops: bool | None = False
    error: PlanError | None = None
    complete: bool = True
    drifts: bool | None = False
    settings: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def certain(self) -> bool:
        """Whether nothing is left open: the fate of every entry, or the error and its text."""
        if self.error is not None:
            return self.error.text_certain
        return self.stops is False and self.complete and all(entry.fate is not None for entry in self.entries)

    def entry(self, key: str) -> EntryPlan | None:
        """The plan of one entry, or None if the profile has no such key."""
        return next((entry for entry in self.entries if entry.key == key), None)


@dataclass(frozen=True, slots=True)
class Difference:
    """An entry whose fate certainly is not the expected one, unless the round stops before.

    ``expected`` is None where it is open whether FedBN wants the entry local or averaged, and it is neither; ``fate``
    is None where it stays open which of ``possible`` it meets.
    """

    key: str
    expected: Fate | None
    possible: frozenset[Fate]
    source_key: str | None = None

    @property
    def fate(self) -> Fate | None:
        """The fate met, if certain."""
        return next(iter(self.possible)) if len(self.possible) == 1 else None


@dataclass(frozen=True, slots=True)
class Comparison:
    """A plan beside an expectation, certainties only.

    Attributes:
        equal: True if the plan certainly does what is expected of every entry, False if it certainly does not, else
            None.
        stops: as :attr:`Plan.stops`.
        error: as :attr:`Plan.error`.
        differences: the entries that certainly differ, in order.
        open: keys of the entries that may or may not differ, in order.
        drifts: as :attr:`Plan.drifts`.
    """

    equal: bool | None
    stops: bool | None
    error: PlanError | None
    differences: tuple[Difference, ...]
    open: tuple[str, ...]
    drifts: bool | None

    def by_fate(self, fate: Fate) -> tuple[Difference, ...]:
        """The differences whose fate certainly is the given one."""
        return tuple(difference for difference in self.differences if difference.fate is fate)


def compare(expectation: Plan, plan: Plan) -> Comparison:
    """Lay a plan beside an expectation made from the same profile.

    Raises:
        ValueError: if the two do not list the same keys.
    """
    if [entry.key for entry in expectation.entries] != [entry.key for entry in plan.entries]:
        raise ValueError("the plans were made from different profiles")
    differences: list[Difference] = []
    undecided: list[str] = []
    for expected, actual in zip(expectation.entries, plan.entries, strict=True):
        if not expected.possible & actual.possible:
            differences.append(Difference(actual.key, expected.fate, actual.possible, actual.source_key))
        elif expected.fate is None or actual.fate is None:
            undecided.append(actual.key)
    equal: bool | None = None
    if plan.stops or differences or plan.drifts:
        equal = False
    elif plan.stops is False and plan.drifts is False and not undecided and expectation.complete and plan.complete:
        equal = True
    return Comparison(equal, plan.stops, plan.error, tuple(differences), tuple(undecided), plan.drifts)


def merge(plans: Iterable[Plan]) -> Plan:
    """What is certain whichever of the plans holds: for settings that are not known.

    All plans must have been made from one profile. Settings on which they differ are dropped, notes are gathered.

    Raises:
        ValueError: if there is no plan.
    """
    alternatives = list(plans)
    if not alternatives:
        raise ValueError("nothing to merge")
    first = alternatives[0]
    entries = []
    known: dict[tuple[frozenset[Fate], ...], frozenset[Fate]] = {}
    for parts in zip(*(plan.entries for plan in alternatives), strict=True):
        sources = {part.source_key for part in parts}
        each = tuple([part.possible for part in parts])
        possible = known.get(each)
        if possible is None:
            possible = frozenset[Fate]().union(*each)
            # FAILS belongs to a round that is stopped; beside fates of a round that is not, it says nothing.
            possible = known[each] = possible - {Fate.FAILS} or possible
        entries.append(EntryPlan(parts[0].key, possible, sources.pop() if len(sources) == 1 else None))
    errors = [plan.error for plan in alternatives]
    error = first.error
    if error is not None and any(other != error for other in errors):
        error = replace(error, text_certain=False)
    stops = first.stops if all(plan.stops is first.stops for plan in alternatives) else None
    drifts = first.drifts if all(plan.drifts is first.drifts for plan in alternatives) else None
    return Plan(
        entries=tuple(entries),
        stops=stops,
        error=error if stops else None,
        complete=all(plan.complete for plan in alternatives),
        drifts=drifts,
        settings=tuple(pair for pair in first.settings if all(pair in plan.settings for plan in alternatives)),
        notes=tuple(dict.fromkeys(note for plan in alternatives for note in plan.notes)),
    )
