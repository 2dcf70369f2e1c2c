"""The plan of an NVFlare job.

Every client is given the server's parameters, trains, and sends its own or the difference; a helper averages them, key
by key. Whole parameters replace the server's: what was excluded from the average is not handed out again. Differences
are added to the server's: what was excluded stays as it was at the start, and is handed out in every round.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from bn_audit.exchange.arithmetic.dtypes import KNOWN, category
from bn_audit.exchange.courses import UNINITIALISED, Course, first_error, with_gaps
from bn_audit.exchange.cover import covered, values_of
from bn_audit.exchange.load import Arrival, Loaded, load
from bn_audit.exchange.nvflare.aggregate import Aggregate, aggregate
from bn_audit.exchange.nvflare.settings import STRATEGIES, NVFlareSettings
from bn_audit.exchange.plan import ANY, EntryPlan, Fate, Plan, PlanError, merge
from bn_audit.exchange.steps import PASSED, UNKNOWN, Phase, effects_by_tensor, entry_plans, first_stop
from bn_audit.loading import Covers, How
from bn_audit.profile import Profile, StateEntry, tensor_groups

__all__ = ["handed_back", "plan"]

_KEPT: frozenset[Fate | None] = frozenset({None})
_STALE: frozenset[Fate | None] = frozenset({Fate.STALE})


def plan(profile: Profile, settings: NVFlareSettings) -> Plan:
    """The plan of an NVFlare job for a model.

    A load that is None stands for both of its values, and the plan says what holds for each. A strategy that is not
    known leaves everything open. Errors are those of torch 2.13, NumPy 2 and NVFlare 2.9.

    Raises:
        re.error: a regular expression that is none.
    """
    if settings.load is None:
        alternatives = [plan(profile, replace(settings, load=how)) for how in (How.STATE_DICT, How.LENIENT)]
        return replace(merge(alternatives), settings=settings.named())
    if settings.strategy not in STRATEGIES:
        entries = tuple(EntryPlan(entry.key, ANY) for entry in profile.entries)
        return Plan(entries, stops=None, complete=profile.complete, drifts=None, settings=settings.named())
    return replace(_plan(profile, _kept(profile, settings)), settings=settings.named())


def _kept(profile: Profile, settings: NVFlareSettings) -> NVFlareSettings:
    """The settings with what a client keeps to itself taken out of what it sends and takes."""
    if not settings.keeps:
        return settings
    keys = settings.keeps.keys(profile)
    takes = Covers() if settings.takes is None else settings.takes
    return replace(
        settings,
        sends=replace(settings.sends, without=settings.sends.without | keys),
        takes=replace(takes, without=takes.without | keys),
    )


def handed_back(profile: Profile, settings: NVFlareSettings) -> frozenset[str]:
    """The keys of what is handed out in every round as it was at the start, and taken."""
    if settings.transfer != "diff":
        return frozenset()
    kept = _kept(profile, settings)
    return frozenset(
        entry.key
        for entry in profile.entries
        if _averaged(entry, kept) is False
        and not _matches(kept.hold_back, entry)
        and (kept.takes is None or covered(entry, kept.takes))
    )


def _plan(profile: Profile, settings: NVFlareSettings) -> Plan:
    groups = tensor_groups(profile)
    aggregates = [
        [None if value is None else aggregate(settings, value) for value in values_of(entry)]
        for entry in profile.entries
    ]
    averaged = [_averaged(entry, settings) for entry in profile.entries]
    first = _load(profile, settings, groups, [_begun(entry, settings) for entry in profile.entries], 0)
    later = [_later(*row, settings) for row in zip(profile.entries, averaged, aggregates, strict=True)]
    second = _load(profile, settings, groups, later, 1)
    courses = [_course(*row) for row in zip(profile.entries, averaged, aggregates, strict=True)]
    arithmetic = first_error(with_gaps(profile, courses), by_step=True, ordered=profile.ordered)
    stop = first_stop([_sent(profile, averaged), first.phase, _doubted(arithmetic, aggregates), second.phase])
    return Plan(
        entry_plans(profile, effects_by_tensor(second.effects, groups), stop),
        stops=stop.stops,
        error=stop.error,
        complete=profile.complete,
        settings=settings.named(),
        notes=tuple(_notes(profile, settings, averaged)),
    )


def _sent(profile: Profile, averaged: Sequence[bool | None]) -> Phase:
    """Arrays are made of what is sent, and a parameter that no forward has initialised has none."""
    lazy = [(entry, which) for entry, which in zip(profile.entries, averaged, strict=True) if entry.lazy]
    certain = next((entry for entry, which in lazy if which), None)
    if certain is not None:
        return Phase(True, PlanError(*UNINITIALISED, text_certain=False, key=certain.key))
    return PASSED if all(which is False for _, which in lazy) else UNKNOWN


def _matches(pattern: str | None, entry: StateEntry) -> bool:
    return pattern is not None and pattern != "" and re.search(pattern, entry.key) is not None


def _averaged(entry: StateEntry, settings: NVFlareSettings) -> bool | None:
    if _matches(settings.exclude_vars, entry):
        return False
    if settings.transfer == "diff" and _matches(settings.hold_back, entry):
        # There is no difference from what was not received.
        return False
    return covered(entry, settings.sends)


def _begun(entry: StateEntry, settings: NVFlareSettings) -> Arrival:
    """What the first parameters hold for an entry."""
    if _matches(settings.hold_back, entry):
        return Arrival(present=False, possible=_KEPT)
    return Arrival(possible=_STALE, source=entry, shape=entry.shape, dtype=entry.dtype)


def _later(
    entry: StateEntry, averaged: bool | None, found: Sequence[Aggregate | None], settings: NVFlareSettings
) -> Arrival:
    """What the parameters of a later round hold for an entry."""
    begun = _begun(entry, settings)
    rest = begun if settings.transfer == "diff" else Arrival(present=False, possible=_KEPT)
    if averaged is False:
        return rest
    known = [one for one in found if one is not None and one.error is None]
    possible = frozenset[Fate | None]().union(*(one.possible for one in known)) or frozenset({Fate.AVERAGED})
    if averaged is None:
        if not rest.present:
            return Arrival(present=None)
        possible |= rest.possible
    dtypes = {one.dtype for one in known}
    dtype = dtypes.pop() if len(dtypes) == 1 and None not in found else None
    return Arrival(possible=possible, source=entry, shape=entry.shape, dtype=dtype)


def _load(
    profile: Profile, settings: NVFlareSettings, groups: Sequence[int], arrivals: Sequence[Arrival], round_: int
) -> Loaded:
    """What a client does with what it received."""
    assert settings.load is not None
    taken = []
    for entry, arrival in zip(profile.entries, arrivals, strict=True):
        which = True if settings.takes is None else covered(entry, settings.takes)
        if which is False:
            taken.append(Arrival(present=False, possible=_KEPT))
        else:
            taken.append(arrival if which else replace(arrival, present=None))
    whole = settings.takes is None and settings.sends == type(settings.sends)()
    whole = whole and not settings.exclude_vars and not settings.hold_back
    return load(profile, taken, groups, settings.load, round_, profile.complete or whole)


def _course(entry: StateEntry, averaged: bool | None, found: Sequence[Aggregate | None]) -> Course:
    if averaged is False:
        return Course(entry.key)
    errors = frozenset((one.step, *one.error) for one in found if one is not None and one.error is not None)
    passes = averaged is None or None in found or any(one is not None and one.error is None for one in found)
    return Course(entry.key, errors, passes, None not in found)


def _doubted(phase: Phase, aggregates: Sequence[Sequence[Aggregate | None]]) -> Phase:
    """The phase, its text in doubt where the release says it otherwise."""
    if phase.error is None:
        return phase
    doubtful = {
        one.error for found in aggregates for one in found if one is not None and one.error and not one.text_certain
    }
    if (phase.error.type, phase.error.text) not in doubtful:
        return phase
    return Phase(True, PlanError(phase.error.type, phase.error.text, False, phase.error.key, phase.error.round))


def _notes(profile: Profile, settings: NVFlareSettings, averaged: Sequence[bool | None]) -> Iterator[str]:
    rows = list(zip(profile.entries, averaged, strict=True))
    cut = [entry.key for entry, one in rows if one and entry.dtype in KNOWN and category(entry.dtype or "") < 2]
    if cut:
        yield f"{_listed(cut)}: the mean loses its fraction where it is put into an integer"
    taken = [one for one in rows if settings.takes is None or covered(one[0], settings.takes) is not False]
    reset = [entry.key for entry, one in taken if one is False and not _matches(settings.hold_back, entry)]
    if reset and settings.transfer == "diff":
        yield f"{_listed(reset)}: left out of the average and handed out all the same, as it was at the start"
    if reset and settings.transfer == "full" and settings.load is not How.STATE_DICT:
        yield f"{_listed(reset)}: begins as the server's, and is each client's own from the second round on"
    halves = [entry.key for entry, one in rows if one and entry.dtype == "float16"]
    if halves and settings.weigh_by_local_iter:
        yield f"{_listed(halves)}: multiplied by the number of steps in half precision, which overflows above 65504"


def _listed(keys: Sequence[str]) -> str:
    return keys[0] if len(keys) == 1 else f"{keys[0]} and {len(keys) - 1} more"
