"""The follower for who asks which object something is: a deep copy is another object than what it is copied from.

For whose state is averaged a copy is as good as the model itself. Whether a model is in train mode is another matter:
a copy begins in the mode of the original, and goes its own way from there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import libcst as cst

from bn_audit.source.flow.follow import Follower
from bn_audit.source.flow.values import Env, Made, Origin
from bn_audit.source.interpreter.values import ClassVal

__all__ = ["Copied", "ObjectFollower", "original"]

_COPIES = frozenset({"copy.deepcopy", "copy.copy"})


@dataclass(frozen=True, slots=True, eq=False)
class Copied(Made):
    """A model that is a copy, made by ``node``, of another."""

    source: Made


def original(made: Made) -> Made:
    """The model that was copied in the first place."""
    while isinstance(made, Copied):
        made = made.source
    return made


class ObjectFollower(Follower):
    """A follower that tells copies from their originals."""

    @classmethod
    def beside(cls, other: Follower) -> ObjectFollower:
        """One that shares what another has found out about files, names and callers, which copies do not change."""
        found = cls(other.project, other.finder)
        found.lookup = other.lookup
        found.callers = other.callers.beside(found)
        return found

    def _external(self, name: str, node: cst.Call, env: Env) -> Iterable[Origin]:
        for origin in super()._external(name, node, env):
            if name in _COPIES and isinstance(origin, Made) and origin.kind == "model" and not _nested(origin, node):
                yield Copied(origin.kind, origin.name, origin.cls, node, env, source=origin)
            else:
                yield origin

    def of_object(self, made: Made, attr: str) -> Iterable[Origin]:
        yield from super().of_object(original(made), attr)

    def _init_call(self, made: Made, cls: ClassVal) -> tuple[cst.Call, Env] | None:
        return super()._init_call(original(made), cls)


def _nested(made: Made, node: cst.Call) -> bool:
    """Whether an object is a copy made at a place already: copies of copies in a loop are one kind of object."""
    while isinstance(made, Copied):
        if made.node is node:
            return True
        made = made.source
    return False
