"""Which of the models that are followed an expression may stand for, and what their classes say of modes."""

from __future__ import annotations

from collections.abc import Iterable

import libcst as cst

from bn_audit.source.flow.callers import function_of
from bn_audit.source.flow.driven import driven_by
from bn_audit.source.flow.modes.syntax import sets_mode
from bn_audit.source.flow.objects import Copied, ObjectFollower, original
from bn_audit.source.flow.values import Env, Loaded, Made
from bn_audit.source.interpreter import classes
from bn_audit.source.interpreter.values import BoundMethod, ClassVal, Func, Partial, Value
from bn_audit.source.nodes import walk

__all__ = ["ModelObjects", "has_own_mode", "is_driven", "method_of", "unwrapped"]


class ModelObjects:
    """The models that are followed, and who they are in an expression."""

    def __init__(self, follower: ObjectFollower, models: Iterable[Made]) -> None:
        self._follower = follower
        self.made_by: dict[int, list[Made]] = {}
        """By identity, the calls that make them."""
        for made in dict.fromkeys(models):
            self.made_by.setdefault(id(made.node), []).append(made)
        self._held: dict[Made, frozenset[Made]] = {}

    def among(self, node: cst.CSTNode, env: Env) -> tuple[frozenset[Made], bool]:
        """The objects among the models that an expression may stand for; whether nothing at all is known of it."""
        found: set[Made] = set()
        known = False
        for origin in self._follower.items(self._follower.origins(node, env)):
            if isinstance(origin, (Made, Loaded)):
                known = True
            if isinstance(origin, Made) and origin.kind == "model":
                found |= self._held_by(origin)
        return frozenset(found), not known

    def _held_by(self, made: Made) -> frozenset[Made]:
        """The objects among the models that a module is, or holds."""
        if self.is_known(made):
            return frozenset({made})
        known = self._held.get(made)
        if known is not None:
            return known
        self._held[made] = frozenset()
        found: set[Made] = set()
        base = original(made)
        nodes = _class_nodes(base)
        made_here = (model for models in self.made_by.values() for model in models)
        found.update(model for model in made_here if model.env.scope.owner in nodes)  # it makes them itself
        if isinstance(base.node, cst.Call) and not isinstance(base, Copied):
            for arg in base.node.args:
                for origin in self._follower.items(self._follower.origins(arg.value, base.env)):
                    if isinstance(origin, Made) and origin.kind == "model":
                        found |= self._held_by(origin)
        self._held[made] = frozenset(found)
        return self._held[made]

    def whole_of(self, node: cst.CSTNode, env: Env) -> frozenset[Made]:
        """The objects of which an expression names a part: ``model.layer1``, ``m`` of ``for m in model.modules()``."""
        while isinstance(node, (cst.Attribute, cst.Subscript, cst.Call)):
            node = node.func if isinstance(node, cst.Call) else node.value
            objects, _ = self.among(node, env)
            if objects:
                return objects
        return frozenset()

    def is_known(self, made: Made) -> bool:
        model = original(made)
        return model in self.made_by.get(id(model.node), ())


def unwrapped(value: Value) -> Value:
    while isinstance(value, (Partial, BoundMethod)):
        if isinstance(value.func, str):
            return value
        value = value.func
    return value


def method_of(cls: ClassVal, name: str) -> Func | None:
    found = classes.find(cls, name)
    return function_of(found[0]) if found is not None else None


def has_own_mode(made: Made) -> bool:
    """Whether a model's class has its own idea of modes: it overrides ``train`` or ``eval``, or sets parts' modes in
    ``__init__`` or ``forward``."""
    if made.cls is None:
        return False
    for entry in classes.mro(made.cls):
        if not isinstance(entry, ClassVal):
            continue
        for name in ("train", "eval"):
            if function_of(entry.attrs[name]) is not None if name in entry.attrs else False:
                return True
        for name in ("__init__", "forward"):
            member = entry.attrs.get(name)
            func = function_of(member) if member is not None else None
            if func is not None and any(sets_mode(node) for node in walk(func.node.body)):
                return True
    return False


def is_driven(made: Made) -> bool:
    return made.cls is not None and driven_by(made.cls) is not None


def _class_nodes(made: Made) -> list[cst.ClassDef]:
    """The class of an object and its bases, as far as they are the project's."""
    if made.cls is None:
        return []
    return [entry.node for entry in classes.mro(made.cls) if isinstance(entry, ClassVal)]
