"""The modes of all objects at one place of a program, and in which of them a block is left."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Flow", "Pass", "State", "both", "join", "only"]

State = dict[int, int]
"""The modes that each object may have: objects and settings by number, those of an object as the bits of an integer.

Never changed in place.
"""


@dataclass(slots=True)
class Flow:
    """The states in which a block is left: by its end, by a jump out of a loop, by a return."""

    end: State | None
    broken: State | None = None
    returned: State | None = None


@dataclass(frozen=True, slots=True)
class Pass:
    """What one run of a scope did: to the same modes it does the same again, whatever the modes of other objects.

    ``touched`` None: it may have to do with the modes of any object.
    """

    touched: frozenset[int] | None
    before: State
    after: State | None


def only(state: State, objects: frozenset[int] | None) -> State:
    return state if objects is None else {made: state[made] for made in objects if made in state}


def join(one: State | None, other: State | None) -> State | None:
    if one is None or other is None or one == other:
        return other if one is None else one
    return {made: one.get(made, 0) | other.get(made, 0) for made in one.keys() | other.keys()}


def both(one: Flow, other: Flow) -> Flow:
    return Flow(join(one.end, other.end), join(one.broken, other.broken), join(one.returned, other.returned))
