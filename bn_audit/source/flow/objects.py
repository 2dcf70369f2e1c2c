"""The follower for who asks which object something is: a deep copy is another object than what it is copied from, and
so is what a function makes anew for each who calls it.

For whose state is averaged a copy is as good as the model itself. Whether a model is in train mode is another matter:
a copy begins in the mode of the original, and goes its own way from there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import libcst as cst

from bn_audit.source.flow.files import READERS
from bn_audit.source.flow.follow import Follower
from bn_audit.source.flow.values import Bound, Env, Loaded, Made, Origin
from bn_audit.source.interpreter.values import ClassVal, Func
from bn_audit.source.nodes import leaf_name

__all__ = ["Copied", "ObjectFollower", "original"]

_COPIES = frozenset({"copy.deepcopy", "copy.copy"})


@dataclass(frozen=True, slots=True, eq=False)
class Copied(Made):
    """A model that is a copy, made by ``node``, of another; or one that a function makes for each of its callers, given
    by the call ``node``."""

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
            elif name in READERS and isinstance(origin, Made) and origin.kind != "library":
                yield Loaded()  # an object of its own, in the mode in which it was written: nobody here has set it
            else:
                yield origin

    def returned(
        self, func: Func, call: cst.Call | None, receiver: Made | None, env: Env, bound: tuple[Bound, ...] = ()
    ) -> Iterable[Origin]:
        for origin in super().returned(func, call, receiver, env, bound):
            if (
                call is not None
                and isinstance(origin, Made)
                and origin.kind == "model"
                and origin.env.call is call
                and self._is_handed_out(func, origin.env)
                and not _nested(origin, call)
            ):
                yield Copied(origin.kind, origin.name, origin.cls, call, env, source=origin)
            else:
                yield origin

    def _is_handed_out(self, func: Func, run: Env) -> bool:
        """Whether a function makes an object for each of several callers, and keeps none."""
        scope = run.scope
        given = {param.name.value for param in scope.parameters}
        if func.node is not scope.node or scope.shared or scope.puts:
            return False
        decorators = func.node.decorators if isinstance(func.node, cst.FunctionDef) else ()
        if any(leaf_name(row.decorator) not in ("staticmethod", "classmethod") for row in decorators):
            return False  # ``@lru_cache`` gives all the same one
        # ``model.fc = nn.Linear(512, 10)`` changes what is made; ``self.model = model`` keeps it.
        if any(write.root in given or write.root not in scope.bindings for write in scope.writes):
            return False
        return len(self.callers.of(run)) > 1

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
