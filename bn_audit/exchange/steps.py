"""Steps of a round, and what they do to entries: the words in which a framework's exchange is told before it is a plan.

Everything here is three-valued; None is "not known". An unknown dimension is taken to be at least 1, and the unknown
entries of a gap to share no tensor with known ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bn_audit.exchange.fedbn import expected_fates
from bn_audit.exchange.plan import EntryPlan, Fate, PlanError
from bn_audit.profile import Profile, StateEntry

__all__ = ["PASSED", "UNKNOWN", "Effect", "Phase", "effects_by_tensor", "entry_plans", "first_stop"]


@dataclass(frozen=True, slots=True)
class Phase:
    """One step of a round: whether it stops the round (None: it may), and the error if it does."""

    stops: bool | None
    error: PlanError | None = None


PASSED = Phase(False)
UNKNOWN = Phase(None)


def first_stop(phases: Sequence[Phase]) -> Phase:
    """Steps in the order they run, as one: the first that certainly stops gives the error.

    Its text is certain only if no step before it may stop the round too.
    """
    doubtful = False
    for phase in phases:
        if phase.stops:
            assert phase.error is not None
            error = phase.error
            if doubtful and error.text_certain:
                error = PlanError(error.type, error.text, False, error.key, error.round)
            return Phase(True, error)
        doubtful = doubtful or phase.stops is None
    return UNKNOWN if doubtful else PASSED


@dataclass(frozen=True, slots=True)
class Effect:
    """What a load may do to one key: fates, None for "nothing is loaded"; the source, if certainly another entry."""

    possible: frozenset[Fate | None]
    source: StateEntry | None = None


def effects_by_tensor(effects: Sequence[Effect], groups: Sequence[int]) -> list[Effect]:
    """What each tensor ends up with: keys that share one are loaded in order, and the last that is loaded wins."""
    last: dict[int, Effect] = {}
    for effect, group in zip(effects, groups, strict=True):
        earlier = last.get(group)
        written = effect.possible - {Fate.FAILS} or frozenset({None})
        if earlier is None or None not in written:
            last[group] = Effect(written, effect.source)
        else:
            last[group] = Effect(written - {None} | earlier.possible, earlier.source if written == {None} else None)
    return [
        effect if effect.possible == {Fate.FAILS} else last[group]
        for effect, group in zip(effects, groups, strict=True)
    ]


def entry_plans(profile: Profile, effects: Sequence[Effect], stop: Phase) -> tuple[EntryPlan, ...]:
    """What a round does to each entry, in the words of a plan."""
    at_fault = stop.error.key if stop.error is not None and stop.error.text_certain else None
    # Large models have thousands of entries, and these few sets in common.
    known: dict[tuple[frozenset[Fate], frozenset[Fate | None]], frozenset[Fate]] = {}
    plans = []
    for entry, expected, effect in zip(profile.entries, expected_fates(profile), effects, strict=True):
        if at_fault is not None and entry.key == at_fault:
            plans.append(EntryPlan(entry.key, frozenset({Fate.FAILS})))
            continue
        possible = known.get((expected, effect.possible))
        if possible is None:
            possible = known[expected, effect.possible] = _fates(expected, effect.possible)
        certain = effect.source is not None and possible == {Fate.MISPLACED}
        plans.append(EntryPlan(entry.key, possible, effect.source.key if certain and effect.source else None))
    return tuple(plans)


def _fates(expected: frozenset[Fate], effect: frozenset[Fate | None]) -> frozenset[Fate]:
    possible = {fate for fate in effect if fate is not None}
    if None in effect:
        possible |= {Fate.LOCAL if wanted is Fate.LOCAL else Fate.STALE for wanted in expected}
    return frozenset(possible)
