"""What is known of a mode, and of a place where a model is run."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass

import libcst as cst

from bn_audit.source.flow.objects import original
from bn_audit.source.flow.values import Env, Made
from bn_audit.source.interpreter.values import Step

__all__ = ["Forward", "Mode", "Setting"]


class Mode(enum.Enum):
    """What is known of a model's mode."""

    FRESH = "as it was made"
    TRAIN = "train"
    EVAL = "eval"
    PERHAPS_TRAIN = "perhaps put into train mode"
    UNCLEAR = "unclear"

    @property
    def trains(self) -> bool:
        """Whether BatchNorm normalises with the statistics of the batch."""
        return self in (Mode.FRESH, Mode.TRAIN, Mode.PERHAPS_TRAIN)


@dataclass(frozen=True, slots=True, eq=False)
class Setting:
    """A mode, and the call that set it; for a fresh model the call that made it.

    ``one`` says that the call set it for this very object and no other. A ``lasting`` mode is not overwritten:
    something that could not be followed may change it again at any time.
    """

    mode: Mode
    node: cst.CSTNode
    env: Env
    one: bool = True
    lasting: bool = False

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Setting)
            and (other.mode, other.one, other.lasting) == (self.mode, self.one, self.lasting)
            and other.node is self.node
        )

    def __hash__(self) -> int:
        return hash((self.mode, id(self.node), self.one, self.lasting))


@dataclass(slots=True)
class Forward:
    """A model that is called, in one run of a scope.

    Attributes:
        node: the call.
        env: the run of the scope.
        objects: which objects it may be.
        modes: the modes these may have; an object that nobody is seen to make has an unclear one.
        quiet: what turns gradients off around it; None if nothing does.
        calls: the calls that lead to it, outermost first, each with the run of the scope it stands in.
    """

    node: cst.Call
    env: Env
    objects: frozenset[Made]
    modes: set[tuple[Made, Setting]]
    quiet: Step | None
    calls: tuple[tuple[cst.Call, Env], ...]

    @property
    def around(self) -> Iterator[tuple[cst.Call, Env]]:
        """The call, and those that lead to it, innermost first, each with the run of the scope it stands in."""
        yield self.node, self.env
        yield from reversed(self.calls)

    @property
    def models(self) -> list[Made]:
        """The models that it may be, or be a copy of."""
        return list(dict.fromkeys(original(made) for made in self.objects))

    def settings(self, model: Made) -> set[Setting]:
        """The modes it may have if it is this model, or a copy of it."""
        return {setting for made, setting in self.modes if original(made) == model}
