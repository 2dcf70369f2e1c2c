"""How arrays get into a model: what ``load_state_dict`` and its like take, and what they say of what they do not.

As in torch 2.13. Up to 2.7 a vector of any length was taken for a scalar; SecretFlow's plan knows, where it matters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bn_audit.exchange.arithmetic.dtypes import category
from bn_audit.exchange.courses import Course, first_error
from bn_audit.exchange.plan import Fate, PlanError
from bn_audit.exchange.steps import PASSED, UNKNOWN, Effect, Phase
from bn_audit.loading import How
from bn_audit.profile import Profile, Shape, StateEntry

__all__ = ["Arrival", "Loaded", "error_text", "fits", "load", "mismatch", "missing", "reloaded"]


@dataclass(frozen=True, slots=True)
class Arrival:
    """What a dict that is loaded may hold under a key.

    Attributes:
        present: whether the key is in it; None if it may be.
        possible: what the entry becomes if the value is its own, or if the key is not there; ``{None}`` is the party's
            own value still.
        source: whose value it is; None if that is not known.
        shape: of the value; None if not known.
        garbage: whether its content is uninitialised; None if it may be.
        received: the class of the value, if it is no tensor, which is refused: ``numpy.ndarray``.
        dtype: of the value; None if not known. Nothing is refused for it.
    """

    present: bool | None = True
    possible: frozenset[Fate | None] = frozenset({Fate.AVERAGED})
    source: StateEntry | None = None
    shape: Shape | None = None
    garbage: bool | None = False
    received: str | None = None
    dtype: str | None = None


@dataclass(frozen=True, slots=True)
class Loaded:
    """A load's outcome: whether it stops the round, and its effect on every entry in order."""

    phase: Phase
    effects: tuple[Effect, ...]


_ANYTHING: frozenset[Fate | None] = frozenset({None, Fate.AVERAGED, Fate.MISPLACED, Fate.CORRUPT, Fate.STALE})


def load(
    profile: Profile, arrivals: Sequence[Arrival], groups: Sequence[int], how: How, round_: int, exact: bool = True
) -> Loaded:
    """Put what has arrived into a model.

    Args:
        arrivals: one for each entry of the profile.
        groups: for each entry the index of the first that is the same tensor.
        exact: whether nothing else has arrived, and the model has no other entry.
    """
    if how in (How.STATE_DICT, How.LENIENT):
        strict = how is How.STATE_DICT
        named = strict and not (profile.reload is not None and profile.reload.forgiving)
        loaded = _load_state_dict(profile, arrivals, groups, named, round_, exact or not named)
        if profile.reload is None or loaded.phase.stops:
            return loaded
        return _as_tried(profile, arrivals, loaded, strict, round_)
    return _assigned(profile, arrivals, groups, how, round_, exact)


def _load_state_dict(
    profile: Profile, arrivals: Sequence[Arrival], groups: Sequence[int], strict: bool, round_: int, exact: bool
) -> Loaded:
    index = {entry.key: number for number, entry in enumerate(profile.entries)}
    effects: list[Effect] = []
    absent: list[str] = []
    lines: list[tuple[str, str]] = []
    chance = False
    for entry, group, arrival in zip(profile.entries, groups, arrivals, strict=True):
        if arrival.present is False:
            effects.append(Effect(arrival.possible))
            counter = _default(profile, entry)
            if counter is not True and strict:
                exact = exact and counter is False
                absent.append(entry.key)
            continue
        if arrival.present is None or arrival.source is None:
            exact = False
            effects.append(Effect(_ANYTHING))
            continue
        if arrival.received is not None:
            text = (
                f'While copying the parameter named "{entry.key}", expected torch.Tensor or Tensor-like object from '
                f"checkpoint but received <class '{arrival.received}'>"
            )
            lines.append((entry.key, text))
            effects.append(Effect(frozenset({Fate.FAILS})))
            continue
        own = group == groups[index[arrival.source.key]]
        taken = True if arrival.source is entry and arrival.garbage is False else fits(entry.shape, arrival.shape)
        if taken is False:
            exact = exact and None not in (*(entry.shape or ()), *(arrival.shape or ()))
            lines.append((entry.key, mismatch(entry, arrival.shape)))
            effects.append(Effect(frozenset({Fate.FAILS})))
            continue
        exact = exact and taken is True
        possible = arrival.possible if own else _misplaced(arrival.possible)
        if arrival.garbage is not False:
            chance = True
            possible = frozenset({Fate.CORRUPT}) if arrival.garbage else possible | {Fate.CORRUPT}
        effects.append(Effect(possible, None if own else arrival.source))
    if not (absent or lines):
        return Loaded(Phase(False if exact and not chance else None), tuple(effects))
    texts = ([missing(absent)] if absent else []) + [text for _, text in lines]
    at_fault = absent[0] if absent else lines[0][0]
    text = error_text(profile.type or "Module", texts)
    certain = exact and bool(profile.type)
    return Loaded(Phase(True, PlanError("RuntimeError", text, certain, at_fault, round_)), tuple(effects))


def reloaded(profile: Profile, strict: bool, round_: int, whole: bool = True) -> Phase:
    """Whether ``load_state_dict`` stops the round for what the model is, whatever arrives, as was tried on a copy.

    Args:
        whole: whether all that the state dict holds is loaded.
    """
    tried = profile.reload
    if tried is None:
        return PASSED
    error = tried.strict if strict else tried.lenient
    if not tried.known or (error is not None and not whole):
        return UNKNOWN  # what is left out may be what was refused
    return PASSED if error is None else Phase(True, PlanError(*error, text_certain=bool(profile.type), round=round_))


def _as_tried(profile: Profile, arrivals: Sequence[Arrival], loaded: Loaded, strict: bool, round_: int) -> Loaded:
    """A load into a model of which it was tried whether it takes its own state back."""
    assert profile.reload is not None
    phase = reloaded(profile, strict, round_, all(arrival.present for arrival in arrivals))
    if loaded.phase.stops is None and phase.stops is False:
        phase = loaded.phase
    effects = list(loaded.effects)
    for number, (entry, arrival) in enumerate(zip(profile.entries, arrivals, strict=True)):
        if arrival.present is False:
            continue
        if not profile.reload.known:
            effects[number] = Effect(effects[number].possible | {None})
        elif entry.key in profile.reload.deaf:
            effects[number] = Effect(frozenset({None}))
    return Loaded(phase, tuple(effects))


def _misplaced(possible: frozenset[Fate | None]) -> frozenset[Fate | None]:
    """What an entry becomes that gets another one's value, of which this may become."""
    return frozenset({Fate.CORRUPT if fate is Fate.CORRUPT else Fate.MISPLACED for fate in possible})


def _assigned(
    profile: Profile, arrivals: Sequence[Arrival], groups: Sequence[int], how: How, round_: int, exact: bool
) -> Loaded:
    """``p.data.copy_(v)`` and ``p.data = v``, entry by entry."""
    courses: list[Course] = []
    effects: list[Effect] = []
    index = {entry.key: number for number, entry in enumerate(profile.entries)}
    for entry, group, arrival in zip(profile.entries, groups, arrivals, strict=True):
        if arrival.present is False:
            courses.append(Course(entry.key))
            effects.append(Effect(arrival.possible))
            continue
        unclear = arrival.present is None or arrival.source is None or arrival.received is not None
        if unclear or arrival.source is None or arrival.garbage is None or (arrival.garbage and arrival.shape is None):
            courses.append(Course(entry.key, known=False))
            effects.append(Effect(_ANYTHING))
            continue
        if arrival.garbage:
            # What uninitialised memory does to the next round, nobody knows.
            course = Course(entry.key) if how is How.ASSIGN else _copied(entry, arrival.shape)
            courses.append(course if course.errors else Course(entry.key, known=False))
            effects.append(Effect(frozenset({Fate.CORRUPT})))
            continue
        own = group == groups[index[arrival.source.key]]
        placed = Effect(_misplaced(arrival.possible), arrival.source)
        effects.append(Effect(arrival.possible) if own else placed)
        if how is How.ASSIGN:
            courses.append(_replaced(entry, arrival.dtype))
        else:
            courses.append(Course(entry.key) if own else _copied(entry, arrival.shape))
    phase = first_error(courses, by_step=False, ordered=profile.ordered, round_=round_)
    if phase.stops is False and not exact:
        phase = UNKNOWN
    return Loaded(phase, tuple(effects))


def _copied(entry: StateEntry, shape: Shape | None) -> Course:
    """``p.copy_(v)`` with a tensor of another entry, which is broadcast if it can be."""
    target = entry.shape
    if target is None or shape is None or None in target or None in shape:
        return Course(entry.key, known=False)
    for back in range(1, min(len(target), len(shape)) + 1):
        a, b = target[-back], shape[-back]
        if a != b and a != 1 and b != 1:
            dim = max(len(target), len(shape)) - back
            text = f"The size of tensor a ({a}) must match the size of tensor b ({b}) at non-singleton dimension {dim}"
            return Course(entry.key, frozenset({(0, "RuntimeError", text)}), passes=False)
    longest = max(len(target), len(shape))
    padded = ((1,) * (longest - len(one)) + tuple(one) for one in (target, shape))
    whole = tuple(right if left == 1 else left for left, right in zip(*padded, strict=True))
    if whole == target:
        return Course(entry.key)
    text = f"output with shape {list(target)} doesn't match the broadcast shape {list(whole)}"
    return Course(entry.key, frozenset({(0, "RuntimeError", text)}), passes=False)


def _replaced(entry: StateEntry, dtype: str | None) -> Course:
    """``p.data = v``: any shape and dtype will do, but an integer where there are gradients."""
    if entry.kind == "buffer" or (dtype is not None and category(dtype) >= 2):
        return Course(entry.key)
    if dtype is None:
        return Course(entry.key, known=False)
    text = "data set to a tensor that requires gradients must be floating point or complex dtype"
    return Course(entry.key, frozenset({(0, "RuntimeError", text)}), passes=False)


def _default(profile: Profile, entry: StateEntry) -> bool | None:
    """Whether a missing entry is no matter: torch's own norm layers supply a counter to what has none."""
    if entry.key.rpartition(".")[2] != "num_batches_tracked":  # what is looked for in what was received
        return False
    norm = profile.norm_at(entry.module)
    if norm is None:
        return False
    return True if norm.batchnorm or norm.family in ("batch", "instance", "sync") else None


def error_text(model: str, lines: Sequence[str]) -> str:
    """The text of ``load_state_dict``'s RuntimeError."""
    return f"Error(s) in loading state_dict for {model}:\n\t" + "\n\t".join(lines)


def missing(keys: Sequence[str]) -> str:
    """The line for keys that are missing."""
    quoted = ", ".join(f'"{key}"' for key in keys)
    return f"Missing key(s) in state_dict: {quoted}. "


def mismatch(entry: StateEntry, shape: Shape | None) -> str:
    """The line for a tensor of another shape."""
    return (
        f"size mismatch for {entry.key}: copying a param with shape {_size(shape)} from checkpoint, "
        f"the shape in current model is {_size(entry.shape)}."
    )


def fits(target: Shape | None, shape: Shape | None, first_of_many: bool = False) -> bool | None:
    """Whether a tensor of a shape is taken for an entry of another; None if it may be.

    Args:
        first_of_many: whether the first element of any vector is taken for a scalar (torch up to 2.7), or only that of
            a vector with one element.
    """
    if target is None or shape is None:
        return None
    if target == () and len(shape) == 1:
        size = shape[0]
        return None if size is None else size > 0 if first_of_many else size == 1
    if len(target) != len(shape):
        return False
    pairs = list(zip(target, shape, strict=True))
    if any(a is not None and b is not None and a != b for a, b in pairs):
        return False
    return True if all(a is not None and b is not None for a, b in pairs) else None


def _size(shape: Shape | None) -> str:
    dims = "..." if shape is None else ", ".join("?" if size is None else str(size) for size in shape)
    return f"torch.Size([{dims}])"
