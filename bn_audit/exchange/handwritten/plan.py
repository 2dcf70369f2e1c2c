"""The plan of a round whose averaging is written by hand."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from bn_audit.exchange.arithmetic import KNOWN, Value, torch
from bn_audit.exchange.courses import Course, first_error, with_gaps
from bn_audit.exchange.cover import covered, pairs, values_of
from bn_audit.exchange.handwritten.evaluate import GATHERING, Outcome, outcome
from bn_audit.exchange.load import Arrival, Loaded, load
from bn_audit.exchange.plan import Fate, Plan
from bn_audit.exchange.steps import UNKNOWN, Phase, effects_by_tensor, entry_plans, first_stop
from bn_audit.handwritten import Add, Begin, Flattened, HandWritten, Library, Loop, Order, Rest
from bn_audit.loading import How
from bn_audit.profile import Profile, Shape, StateEntry, tensor_groups

__all__ = ["plan"]

_INTEGERS = frozenset({"bool", "uint8", "int8", "int16", "int32", "int64"})


def plan(profile: Profile, form: HandWritten) -> Plan:
    """What a round does to a model whose states are averaged in a form written by hand, by two parties or more.

    Errors are those of torch 2.13 and NumPy 2. The parties are taken to have models of one class, whose states differ
    in values only.
    """
    groups = tensor_groups(profile)
    spoiled = _spoiled(profile, form, groups)
    entries = [_judged(profile, form, *pair) for pair in zip(profile.entries, spoiled, strict=True)]
    gathering = _phase(profile, form, [entry.course(gathered=True) for entry in entries])
    averaging = _averaging(profile, form, entries)
    loaded = _loaded(profile, form, entries, groups)
    stop = first_stop([gathering, averaging, loaded.phase])
    return Plan(
        entry_plans(profile, effects_by_tensor(loaded.effects, groups), stop),
        stops=stop.stops,
        error=stop.error,
        complete=profile.complete,
        settings=(("framework", "hand-written"),),
        notes=tuple(_notes(form, entries)),
    )


@dataclass(frozen=True, slots=True)
class _Entry:
    """An entry on its way to the average.

    Attributes:
        covered: whether it is averaged at all; None if that is not known.
        outcomes: all that may come of it if it is.
        known: False if something else may.
        spoiled: whether its sum is wrong because its tensor has several keys, and is added to for each of them.
    """

    entry: StateEntry
    covered: bool | None
    outcomes: tuple[Outcome, ...]
    known: bool = True
    spoiled: bool | None = False

    @property
    def arrived(self) -> list[Outcome]:
        return [one for one in self.outcomes if one.arrived is not None]

    def course(self, gathered: bool = False) -> Course:
        """What may happen to it while arrays are made of the tensors, or else afterwards."""
        if self.covered is False:
            return Course(self.entry.key)
        found = [one for one in self.outcomes if (one.step == GATHERING) is gathered and one.error is not None]
        errors = frozenset((one.step, *one.error) for one in found if one.error is not None)
        passes = self.covered is None or not self.known or len(found) < len(self.outcomes)
        known = self.known and not any(one.negative for one in self.outcomes)
        return Course(self.entry.key, errors, passes, known)


def _judged(profile: Profile, form: HandWritten, entry: StateEntry, spoiled: bool | None) -> _Entry:
    which = covered(entry, form.covers)
    if which is False:
        return _Entry(entry, False, ())
    found = list(_outcomes(profile, form, entry))
    known = tuple(dict.fromkeys(one for one in found if one is not None))
    return _Entry(entry, which, known, None not in found, spoiled)


def _outcomes(profile: Profile, form: HandWritten, entry: StateEntry) -> Iterator[Outcome | None]:
    """All that may come of an entry; None for what is not known."""
    vector = _vector(profile, form) if isinstance(form.arithmetic, Flattened) else None
    for value in values_of(entry):
        yield None if value is None else outcome(form, value, vector)


@functools.lru_cache(maxsize=64)
def _vector(profile: Profile, form: HandWritten) -> str | None:
    """The dtype of all covered entries in one vector; None if it is not known."""
    which = [(entry, covered(entry, form.covers)) for entry in profile.entries]
    dtypes = [entry.dtype for entry, one in which if one is not False]
    if profile.gaps or any(one is None for _, one in which) or not all(dtype in KNOWN for dtype in dtypes):
        return None
    if form.library is Library.NUMPY:
        return None if len(set(dtypes)) != 1 else dtypes[0]
    return torch.concatenated([Value(dtype) for dtype in dtypes if dtype is not None]) if dtypes else None


def _averaging(profile: Profile, form: HandWritten, entries: Sequence[_Entry]) -> Phase:
    """The averaging of all entries, in the order in which the form takes them."""
    if not isinstance(form.arithmetic, Flattened):
        return _phase(profile, form, [entry.course() for entry in entries])
    # One vector holds all entries: what fails, fails for all of them.
    courses = [entry.course() for entry in entries if entry.covered is not False]
    if profile.gaps or not all(course.known for course in courses) or any(one.covered is None for one in entries):
        return UNKNOWN
    phase = first_error(courses, by_step=True)
    return phase if phase.error is None else Phase(True, replace(phase.error, key=None))


def _phase(profile: Profile, form: HandWritten, courses: Sequence[Course]) -> Phase:
    """The courses of all entries as one phase."""
    by_step = isinstance(form.arithmetic, Loop) and form.arithmetic.order is Order.PARTIES
    return first_error(with_gaps(profile, courses), by_step, profile.ordered)


def _loaded(profile: Profile, form: HandWritten, entries: Sequence[_Entry], groups: Sequence[int]) -> Loaded:
    arrivals = list(_arrivals(profile, form, entries))
    # A gap's entries are loaded like the others, unless they may be missing or meet another's value.
    aligned = form.load.names in (None, form.covers)
    dict_ = form.load.how in (How.STATE_DICT, How.LENIENT)
    exact = profile.complete or (aligned and (not dict_ or form.left is not Rest.ABSENT))
    return load(profile, arrivals, groups, form.load.how, 1, exact)


def _arrivals(profile: Profile, form: HandWritten, entries: Sequence[_Entry]) -> Iterator[Arrival]:
    """What is loaded under each key."""
    if form.load.names is not None:
        of = {one.entry.key: one for one in entries}
        met = pairs(profile, form.load.names, form.covers)
        for one, (named, source) in zip(entries, met, strict=True):
            if named is False:
                yield Arrival(present=False, possible=_kept(form, one))
            elif named is None or source is None:
                yield Arrival(present=None)
            else:
                yield _arrival(of[source.key], Arrival(present=None))
        return
    for one in entries:
        entry = one.entry
        rest = _rest(form.left, entry, None if one.covered else _shares_sum(profile, form, entry))
        match covered(entry, form.load.covers):
            case False:
                yield Arrival(possible=_kept(form, one), source=entry, shape=entry.shape, dtype=entry.dtype)
            case True:
                yield rest if one.covered is False else _arrival(one, rest)
            case None:
                either = rest if one.covered is False else _arrival(one, rest)
                yield Arrival(
                    either.present, either.possible | _KEPT, entry, entry.shape, either.garbage, either.received
                )


_KEPT: frozenset[Fate | None] = frozenset({None})


def _rest(rest: Rest, entry: StateEntry, sum_: frozenset[Fate | None] | None) -> Arrival:
    """What the loaded dict holds for an entry that is not averaged."""
    match rest:
        case Rest.ABSENT:
            return Arrival(present=False, possible=_KEPT)
        case Rest.OWN:
            return Arrival(possible=_KEPT, source=entry, shape=entry.shape, dtype=entry.dtype)
        case Rest.FIRST:
            return Arrival(possible=sum_ or frozenset({Fate.STALE}), source=entry, shape=entry.shape, dtype=entry.dtype)
        case Rest.SERVER:
            return Arrival(possible=frozenset({Fate.STALE}), source=entry, shape=entry.shape, dtype=entry.dtype)


def _kept(form: HandWritten, one: _Entry) -> frozenset[Fate | None]:
    """What becomes of an entry that is not loaded: it may have been overwritten when the average was made."""
    loop = form.arithmetic
    if one.covered is False or isinstance(loop, Flattened):
        return _KEPT
    if loop.term is not None and loop.term.in_place and not loop.difference:
        return _KEPT | {Fate.CORRUPT}
    if not isinstance(loop, Loop) or loop.begin not in (Begin.FIRST, Begin.NOTHING):
        return _KEPT
    if loop.begin is Begin.NOTHING and loop.term is not None:
        return _KEPT
    overwritten = loop.add.in_place or (loop.first is not None and loop.first.in_place)
    return _KEPT | {Fate.CORRUPT} if overwritten else _KEPT


def _arrival(one: _Entry, rest: Arrival) -> Arrival:
    """An averaged entry's value; ``rest`` is what stands there if it is not averaged after all."""
    entry, arrived = one.entry, one.arrived
    shape: Shape | None = entry.shape
    sized = {outcome.sized for outcome in arrived}
    if True in sized:
        # A mean that is taken for a size: how many batches there were, nobody knows.
        shape = (None,) if sized == {True} else None
    possible = {Fate.CORRUPT for outcome in arrived if outcome.lossy is not False}
    possible |= {Fate.AVERAGED for outcome in arrived if outcome.lossy is not True}
    if not possible or not one.known:
        possible |= {Fate.AVERAGED}
    if one.spoiled is not False:
        possible = possible - {Fate.AVERAGED} | {Fate.CORRUPT} if one.spoiled else possible | {Fate.CORRUPT}
    garbage = False if True not in sized else True if sized == {True} else None
    dtypes = {outcome.arrived.dtype for outcome in arrived if outcome.arrived is not None}
    dtype = dtypes.pop() if len(dtypes) == 1 and one.known else None
    types = {outcome.arrived.type_name for outcome in arrived if outcome.arrived is not None}
    received = types.pop() if len(types) == 1 else None
    if types or (one.covered is None and rest.present is not True):
        return Arrival(present=None)
    if one.covered is None:
        return Arrival(True, frozenset(possible) | rest.possible, entry, shape, garbage, received)
    return Arrival(True, frozenset(possible), entry, shape, garbage, received, dtype)


def _spoiled(profile: Profile, form: HandWritten, groups: Sequence[int]) -> list[bool | None]:
    """For each entry whether its sum is wrong because its tensor has several keys, and is added to for each of them."""
    which = [covered(entry, form.covers) for entry in profile.entries]
    found: list[bool | None] = []
    for number, (entry, group) in enumerate(zip(profile.entries, groups, strict=True)):
        keys = [at for at, same in enumerate(groups) if same == group and which[at] is not False]
        if number not in keys or len(keys) < 2:
            found.append(False)
            continue
        spoils = _spoils(form, entry)
        if spoils and any(which[at] is None for at in keys):
            spoils = None
        found.append(spoils if spoils is False or number > keys[0] else _spoils_first(form, spoils))
    return found


def _spoils_first(form: HandWritten, spoils: bool | None) -> bool | None:
    """Whether the sum for a tensor's first key is spoiled by what is added for the next."""
    loop = form.arithmetic
    in_place = form.onto is not None and form.onto.in_place
    if in_place or (isinstance(loop, Loop) and loop.order is Order.PARTIES):
        return spoils
    if form.integers is not None or isinstance(loop, Flattened) or (loop.term is not None and loop.term.in_place):
        return None
    if (loop.scale is not None and not loop.scale.in_place) or form.onto is Add.NEW:
        return False
    return spoils if form.result is None and form.rebuild is None else None


def _spoils(form: HandWritten, entry: StateEntry) -> bool | None:
    """Whether a tensor that has two keys is overwritten for each of them; None if that depends on the code."""
    arithmetic = form.arithmetic
    if form.integers is not None:
        if entry.dtype is None:
            return None
        arithmetic = form.integers if entry.dtype in _INTEGERS else arithmetic
    if isinstance(arithmetic, Flattened):
        return False
    if arithmetic.term is not None and arithmetic.term.in_place and not arithmetic.difference:
        # A conversion to the dtype that is there already gives the tensor itself.
        return True if arithmetic.cast is None else None
    if form.onto is not None and form.onto.in_place:
        return None
    if not isinstance(arithmetic, Loop):
        return False
    # A deep copy of tensors that share memory shares it still; one of arrays does not.
    shared = arithmetic.begin in (Begin.FIRST, Begin.NOTHING) or (
        arithmetic.begin is Begin.COPY and form.library is Library.TORCH
    )
    verdict: bool | None = True
    if arithmetic.begin is Begin.NOTHING:
        shared = arithmetic.term is None
        verdict = None if arithmetic.cast is not None or arithmetic.recast is not None else True
    if arithmetic.first is not None:
        if shared and arithmetic.first.in_place:
            return verdict
        shared = False
    return verdict if shared and arithmetic.add.in_place else False


def _shares_sum(profile: Profile, form: HandWritten, entry: StateEntry) -> frozenset[Fate | None] | None:
    """What an entry that is not averaged gets from the sum of another that is the same tensor; None if nothing."""
    groups = dict(zip((one.key for one in profile.entries), tensor_groups(profile), strict=True))
    others = [
        covered(one, form.covers)
        for one in profile.entries
        if one.key != entry.key and groups[one.key] == groups[entry.key] and covered(one, form.covers) is not False
    ]
    if not others or not isinstance(form.arithmetic, Loop):
        return None
    gets = _gets_of_sum(profile, form, entry)
    return gets if gets is None or True in others else gets | {Fate.STALE}


def _gets_of_sum(profile: Profile, form: HandWritten, entry: StateEntry) -> frozenset[Fate | None] | None:
    """The same, if another is averaged."""
    assert isinstance(form.arithmetic, Loop)
    if form.arithmetic.begin is Begin.FIRST:
        # The first party's own tensor, which may have been loaded into by the time it is loaded from.
        return frozenset({Fate.STALE, Fate.AVERAGED, Fate.CORRUPT})
    if _spoils(form, entry) is False:
        return None
    if not form.arithmetic.add.in_place:
        # Of the sum only its first part was computed in place.
        return frozenset({Fate.STALE, Fate.CORRUPT})
    scale = form.arithmetic.scale
    lossy = form.onto is not None or any(
        one is None or one.lossy is not False for one in _outcomes(profile, form, entry)
    )
    if scale is None or scale.in_place:
        return frozenset({Fate.AVERAGED, Fate.CORRUPT} if lossy else {Fate.AVERAGED})
    return frozenset({Fate.CORRUPT})


def _notes(form: HandWritten, entries: Sequence[_Entry]) -> Iterator[str]:
    cut = [one.entry.key for one in entries if one.covered and one.entry.dtype in _INTEGERS and one.arrived]
    if cut:
        yield f"{_listed(cut)}: the mean loses its fraction where it is put into an integer"
    left = [one.entry.key for one in entries if one.covered is False and covered(one.entry, form.load.covers)]
    if left and form.load.names is None and form.left in (Rest.FIRST, Rest.SERVER):
        whose = "the first party's" if form.left is Rest.FIRST else "the server's own"
        yield f"{_listed(left)}: left out of the average and loaded all the same, so that every party gets {whose}"
    if form.load.how is How.ASSIGN:
        arrivals = [one.arrived[0].arrived for one in entries if one.covered and len(one.arrived) == 1]
        pairs_ = zip((one.entry for one in entries if one.covered and len(one.arrived) == 1), arrivals, strict=True)
        changed = [entry.key for entry, value in pairs_ if value is not None and value.dtype != entry.dtype]
        if changed:
            yield f"{_listed(changed)}: takes on the dtype of the average, which is another one"
    twice = [one.entry.key for one in entries if one.spoiled]
    if twice:
        yield f"{_listed(twice)}: one tensor, which is added to once for each of its keys"


def _listed(keys: Sequence[str]) -> str:
    return keys[0] if len(keys) == 1 else f"{keys[0]} and {len(keys) - 1} more"
