"""The plan of a Flower app.

Before the first training every client is given the same parameters: the server's, or those of a client picked at
random. Then come training, the strategy's aggregation, and the load that begins the next round. An exception in a
client is logged by Flower, which goes on without that client's result; one in the strategy ends the run.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from bn_audit.exchange.arithmetic import Value
from bn_audit.exchange.arithmetic.dtypes import KNOWN, category
from bn_audit.exchange.courses import Course, first_error, gathered, with_gaps
from bn_audit.exchange.cover import covered, leading, pairs, values_of
from bn_audit.exchange.flower.settings import EVERYTHING, FlowerSettings
from bn_audit.exchange.flower.strategies import ADAPTIVE, STRATEGIES, Aggregate, aggregate, steps
from bn_audit.exchange.load import Arrival, Loaded, load
from bn_audit.exchange.plan import ANY, EntryPlan, Fate, Plan, PlanError, merge
from bn_audit.exchange.steps import PASSED, UNKNOWN, Phase, effects_by_tensor, entry_plans, first_stop
from bn_audit.handwritten import Rebuild
from bn_audit.loading import Covers, How
from bn_audit.profile import Profile, Shape, StateEntry, tensor_groups

__all__ = ["plan", "without_kept", "zeroed"]

_KEPT: frozenset[Fate | None] = frozenset({None})


def plan(profile: Profile, settings: FlowerSettings) -> Plan:
    """The plan of a Flower app for a model.

    Settings that are None stand for all their values, and the plan says what holds for each. A strategy that is not
    known leaves everything open. Errors are those of torch 2.13 and NumPy 2.
    """
    if settings.load is None:
        alternatives = [plan(profile, replace(settings, load=how)) for how in (How.STATE_DICT, How.LENIENT)]
        return replace(merge(alternatives), settings=settings.named())
    if settings.in_place is None:
        alternatives = [plan(profile, replace(settings, in_place=value)) for value in (True, False)]
        return replace(merge(alternatives), settings=settings.named())
    if settings.strategy not in STRATEGIES:
        entries = tuple(EntryPlan(entry.key, ANY) for entry in profile.entries)
        return Plan(entries, stops=None, complete=profile.complete, drifts=None, settings=settings.named())
    return replace(_plan(profile, without_kept(profile, settings)), settings=settings.named())


def without_kept(profile: Profile, settings: FlowerSettings) -> FlowerSettings:
    """The settings with what a client keeps to itself taken out of what it sends and takes."""
    if not settings.keeps:
        return settings
    keys = settings.keeps.keys(profile)
    sends = replace(settings.sends, without=settings.sends.without | keys)
    takes = settings.sends if settings.takes is None else settings.takes
    return replace(settings, sends=sends, takes=replace(takes, without=takes.without | keys))


def _plan(profile: Profile, settings: FlowerSettings) -> Plan:
    initial = _initial(settings)
    groups = tensor_groups(profile)
    aggregates, handed = _aggregates(profile, settings)
    # No strategy has a part in it.
    first = _at_first(profile, replace(settings, strategy="fedavg", in_place=True, initial=initial))
    later = _loaded(profile, settings, settings.sends, handed, groups, 1)
    aggregated = [_course(entry, settings.sends, aggregates[entry.key]) for entry in profile.entries]
    stop = first_stop(
        [
            gathered(profile, initial, 0),
            first.phase,
            gathered(profile, settings.sends, 1),
            _aligned(profile, settings, initial),
            first_error(with_gaps(profile, aggregated), False, profile.ordered),
            later.phase,
        ]
    )
    return Plan(
        entry_plans(profile, effects_by_tensor(later.effects, groups), stop),
        stops=stop.stops,
        error=stop.error,
        complete=profile.complete,
        settings=settings.named(),
        notes=tuple(_notes(profile, settings, aggregates)),
    )


@functools.lru_cache(maxsize=8)
def _at_first(profile: Profile, settings: FlowerSettings) -> Loaded:
    """What a client does with the first parameters, whatever the strategy: all of them may be asked for in turn."""
    raw = {entry.key: _raw(entry.dtype, entry.value) for entry in profile.entries}
    return _loaded(profile, settings, _initial(settings), raw, tensor_groups(profile), 0)


def _aggregates(
    profile: Profile, settings: FlowerSettings
) -> tuple[dict[str, list[Aggregate | None]], dict[str, _Array]]:
    """What the strategy makes of every entry, by key: all that it may be, and what is handed out."""
    known: dict[tuple[Value | None, ...], tuple[list[Aggregate | None], _Array]] = {}
    aggregates: dict[str, list[Aggregate | None]] = {}
    handed: dict[str, _Array] = {}
    for entry in profile.entries:
        values = values_of(entry)
        if values not in known:
            found = [None if value is None else aggregate(settings, value) for value in values]
            known[values] = found, _handed(found)
        aggregates[entry.key], handed[entry.key] = known[values]
    return aggregates, handed


def _initial(settings: FlowerSettings) -> Covers:
    """What the first parameters hold."""
    if settings.initial is not None:
        return settings.initial
    return settings.sends if settings.api == "numpy" else EVERYTHING


@dataclass(frozen=True, slots=True)
class _Array:
    """An array that is handed to the clients.

    Attributes:
        dtypes: all that it may have.
        known: False if it may be another.
        possible: what its entry becomes by it.
        values: of an integer without dimensions, all that it may be; None among them is one that is not known.
    """

    dtypes: frozenset[str]
    known: bool
    possible: frozenset[Fate]
    values: frozenset[int | None] = frozenset({None})


@functools.lru_cache(maxsize=256)
def _raw(dtype: str | None, value: int | None) -> _Array:
    """An entry as it is, before anything was averaged."""
    dtypes = frozenset(KNOWN) if dtype is None else frozenset({dtype})
    return _Array(dtypes, True, frozenset({Fate.AVERAGED}), frozenset({value}))


def _handed(found: Sequence[Aggregate | None]) -> _Array:
    """What the strategy makes of an entry."""
    known = [one for one in found if one is not None and one.value is not None]
    possible = frozenset[Fate]().union(*(one.possible for one in known)) or frozenset({Fate.AVERAGED})
    dtypes = frozenset(one.value.dtype for one in known if one.value is not None)
    integers = [one for one in known if one.value is not None and category(one.value.dtype) == 1]
    # Of zeros alone the value is known; and it is the only integer there is, since all else comes back in floats.
    values = frozenset({0 if one.zero else None for one in integers}) or frozenset({None})
    return _Array(dtypes, None not in found, possible, values)


def _course(entry: StateEntry, sends: Covers, found: Sequence[Aggregate | None]) -> Course:
    which = covered(entry, sends)
    if which is False:
        return Course(entry.key)
    errors = frozenset((0, *one.error) for one in found if one is not None and one.error is not None)
    doubtful = None in found or any(one is not None and one.doubtful for one in found)
    passes = which is None or doubtful or any(one is not None and one.error is None for one in found)
    return Course(entry.key, errors, passes, not doubtful)


def _aligned(profile: Profile, settings: FlowerSettings, initial: Covers) -> Phase:
    """A strategy that takes steps pairs what it was given at first with what the clients send."""
    if not steps(settings):
        return PASSED
    if initial == settings.sends:
        # Of nothing there is no momentum, and FedAvgM may insist on one.
        nothing = not any(covered(entry, settings.sends) for entry in profile.entries)
        return UNKNOWN if settings.strategy == "fedavgm" and nothing else PASSED
    had, certain_had = leading(profile, initial)
    got, certain_got = leading(profile, settings.sends)
    if not (certain_had and certain_got):
        return UNKNOWN
    if settings.api == "message":
        if {entry.key for entry in had} == {entry.key for entry in got}:
            return PASSED
        if settings.strategy == "fedavgm":
            return _uneven(len(got), len(had))
        text = (
            "Keys of the aggregated arrays do not match those of the arrays stored at the strategy. "
            "`delta_t = aggregated_arrays - current_arrays` cannot be computed."
        )
        return Phase(True, PlanError("AggregationError", text, round=1))
    if len(had) == len(got):
        return PASSED if had == got else UNKNOWN
    return _uneven(len(had), len(got)) if settings.strategy == "fedavgm" else _uneven(len(got), len(had))


def _uneven(one: int, other: int) -> Phase:
    """``zip(one, other, strict=True)``."""
    if one == other:
        return UNKNOWN
    how = "longer" if other > one else "shorter"
    return Phase(True, PlanError("ValueError", f"zip() argument 2 is {how} than argument 1", round=1))


def _loaded(
    profile: Profile,
    settings: FlowerSettings,
    sent: Covers,
    arrays: dict[str, _Array],
    groups: Sequence[int],
    round_: int,
) -> Loaded:
    """What a client does with the arrays it receives."""
    takes = settings.sends if settings.takes is None else settings.takes
    met: list[tuple[bool | None, StateEntry | None]]
    if settings.api == "message":
        both = [_both(covered(entry, sent), covered(entry, takes)) for entry in profile.entries]
        met = [(one, entry) for one, entry in zip(both, profile.entries, strict=True)]
    else:
        met = pairs(profile, takes, sent)
    courses, arrivals = [], []
    for entry, (present, source) in zip(profile.entries, met, strict=True):
        if present is False:
            courses.append(Course(entry.key))
            arrivals.append(Arrival(present=False, possible=_KEPT))
        elif present is None or source is None:
            courses.append(Course(entry.key, known=settings.rebuild is not Rebuild.TENSOR_CLASS))
            arrivals.append(Arrival(present=None))
        else:
            course, arrival = _rebuilt(source, arrays[source.key], settings)
            courses.append(course)
            arrivals.append(arrival)
    assert settings.load is not None
    aligned = sent == takes or (settings.api == "message" and settings.load is not How.STATE_DICT)
    exact = profile.complete or aligned
    rebuilding = first_error(with_gaps(profile, courses), False, profile.ordered, round_)
    if not profile.complete and settings.rebuild is not Rebuild.TENSOR_CLASS and rebuilding.stops is None:
        # What is not seen is rebuilt like the rest.
        rebuilding = PASSED
    loaded = load(profile, arrivals, groups, settings.load, round_, exact)
    return Loaded(first_stop([rebuilding, loaded.phase]), loaded.effects)


def _both(one: bool | None, other: bool | None) -> bool | None:
    if one is False or other is False:
        return False
    return True if one and other else None


def _rebuilt(source: StateEntry, array: _Array, settings: FlowerSettings) -> tuple[Course, Arrival]:
    """A tensor made of an array: ``torch.tensor(v)`` and ``from_numpy(v)`` take all, ``torch.Tensor(v)`` may not."""
    possible: frozenset[Fate | None] = frozenset(array.possible)
    dtype = next(iter(array.dtypes)) if len(array.dtypes) == 1 and array.known else None
    plain = Arrival(True, possible, source, source.shape, dtype=dtype)
    if settings.api == "message" or settings.rebuild is not Rebuild.TENSOR_CLASS:
        return Course(source.key), plain
    if any(category(one) == 3 for one in array.dtypes):
        # The imaginary part is left out.
        plain = replace(plain, possible=possible | {Fate.CORRUPT} if dtype is None else frozenset({Fate.CORRUPT}))
    sizes = [category(one) == 1 for one in array.dtypes]
    if source.shape not in (None, ()) or (array.known and not any(sizes)):
        return Course(source.key), plain
    certain = array.known and all(sizes) and source.shape == ()
    if not certain:
        return Course(source.key, known=False), replace(plain, shape=None, garbage=None)
    values = array.values
    value = next(iter(values)) if len(values) == 1 else None
    if value is not None and value < 0:
        text = f"Trying to create tensor with negative dimension {value}: [{value}]"
        return Course(source.key, frozenset({(0, "RuntimeError", text)}), passes=False), plain
    shape: Shape = (value,)
    return Course(source.key, known=value is not None), replace(plain, shape=shape, garbage=True)


def zeroed(profile: Profile, settings: FlowerSettings) -> frozenset[str]:
    """The keys of what certainly is zero after a round."""
    sends = without_kept(profile, settings).sends
    return frozenset(
        entry.key
        for entry in profile.entries
        if covered(entry, sends)
        and all(value is not None and _is_zero(aggregate(settings, value)) for value in values_of(entry))
    )


def _is_zero(found: Aggregate | None) -> bool:
    return found is not None and found.zero


def _notes(profile: Profile, settings: FlowerSettings, aggregates: dict[str, list[Aggregate | None]]) -> Iterator[str]:
    sent = [entry for entry in profile.entries if covered(entry, settings.sends)]
    zeros = [entry.key for entry in sent if all(one is not None and one.zero for one in aggregates[entry.key])]
    if zeros:
        yield (
            f"{_listed(zeros)}: becomes 0, since FedAvg averages in place, and a client's share of the examples "
            "is 0 as an integer"
        )
    moved = [entry.key for entry in sent if entry.key not in zeros and _only_corrupt(aggregates[entry.key])]
    if moved and settings.api == "numpy":
        yield (
            f"{_listed(moved)}: moved as if the mean were 0, since FedAvg averages in place, and a client's share of "
            "the examples is 0 as an integer"
        )
    integers = [entry for entry in sent if entry.dtype is not None and _integral(entry.dtype)]
    cut = [entry.key for entry in integers if entry.key not in zeros and entry.key not in moved]
    if cut:
        yield f"{_listed(cut)}: the mean loses its fraction where it is put into an integer"
    if settings.strategy == "fedmedian":
        yield "FedMedian hands out the median, not the mean"
    if settings.strategy == "fedtrimmedavg":
        yield "FedTrimmedAvg hands out the mean of what is neither largest nor smallest"
    statistics = [entry.key for entry in sent if entry.statistic is not None]
    if steps(settings) and statistics:
        yield f"{_listed(statistics)}: moved by the server's optimiser, by which a variance may become negative"
    halves = [entry.key for entry in sent if entry.dtype == "float16"]
    if settings.strategy in ADAPTIVE and halves:
        yield f"{_listed(halves)}: the optimiser's tau is 0 in half precision, and what does not move becomes NaN"


def _only_corrupt(found: Sequence[Aggregate | None]) -> bool:
    return bool(found) and all(one is not None and one.possible == {Fate.CORRUPT} for one in found)


def _integral(dtype: str) -> bool:
    return dtype in KNOWN and category(dtype) < 2


def _listed(keys: Sequence[str]) -> str:
    return keys[0] if len(keys) == 1 else f"{keys[0]} and {len(keys) - 1} more"
