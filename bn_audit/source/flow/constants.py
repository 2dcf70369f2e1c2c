"""Constants of a program: names at the top of files that are bound once, to a value that is written out.

``SECURE = True`` says which branch of ``if SECURE:`` is taken: what stands in the other is not done, as long as nobody
edits the file. A name that is bound again, in a function by ``global``, or from another file by ``config.SECURE = no``,
is none.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import libcst as cst

from bn_audit.source.flow.alive import branches
from bn_audit.source.flow.given import constant, settled
from bn_audit.source.flow.index import FileIndex, Scope
from bn_audit.source.flow.values import Env
from bn_audit.source.interpreter.values import ModuleRef
from bn_audit.source.nodes import dotted_name, walk

if TYPE_CHECKING:
    from bn_audit.source.flow.following import Following
    from bn_audit.source.project import PyModule

__all__ = ["Constants"]

_UNKNOWN = object()
_SETS_ANY = ("globals()", "exec(", "__dict__")
"""What a file has that may set any name of its own."""
_MAX_FILES = 24
"""Files that name a constant and its module which are asked whether they bind it again."""


class Constants:
    """Knows what constants decide; keeps what it has found out."""

    def __init__(self, follower: Following) -> None:
        self._follower = follower
        self._values: dict[tuple[str, str], object] = {}
        self._outcomes: dict[int, tuple[cst.CSTNode, bool | None]] = {}

    def rules_out(self, node: cst.CSTNode, env: Env) -> bool:
        """Whether a node of a scope is never come to, by the branches around it there."""
        for test, holds in branches(self._follower.index(env.module), node):
            outcome = self.outcome(test, env)
            if outcome is not None and outcome is not holds:
                return True
        return False

    def outcome(self, test: cst.BaseExpression, env: Env) -> bool | None:
        """How a condition turns out, as far as constants alone decide it; None if they do not."""
        known = self._outcomes.get(id(test))
        if known is None:
            known = self._outcomes[id(test)] = (test, self._decided(test, env))
        return known[1]

    def _decided(self, test: cst.BaseExpression, env: Env) -> bool | None:
        values: dict[str, object] = {}
        for part in walk(test):
            if isinstance(part, (cst.Name, cst.Attribute)):
                name = dotted_name(part)
                value = self._value(name, env) if name is not None else _UNKNOWN
                if name is not None and value is not _UNKNOWN:
                    values[name] = value
        return settled(test, values) if values else None

    def _value(self, name: str, env: Env) -> object:
        root, _, rest = name.partition(".")
        scope: Scope | None = env.scope
        while scope is not None and scope.parent is not None:
            if not isinstance(scope.node, cst.ClassDef) and (scope.takes(root) or scope.bindings.get(root)):
                return _UNKNOWN
            scope = scope.parent
        if not rest:
            home = self._follower.home(root, env.module)
            return self._constant(home[0].module, home[1]) if home is not None else _UNKNOWN
        if "." in rest or root in ("self", "args"):
            return _UNKNOWN
        held = self._follower.lookup.global_value(env.module, root)
        return self._constant(held.module, rest) if isinstance(held, ModuleRef) else _UNKNOWN

    def _constant(self, module: PyModule, name: str) -> object:
        key = (module.path, name)
        if key not in self._values:
            self._values[key] = _UNKNOWN
            self._values[key] = self._read(module, name)
        return self._values[key]

    def _read(self, module: PyModule, name: str) -> object:
        if any(word in part.source for part in module.parsed.parts for word in _SETS_ANY):
            return _UNKNOWN
        index = module.derive(FileIndex)
        rows = index.top.bindings.get(name, ())
        if len(rows) != 1 or rows[0].how != "value" or rows[0].path or not isinstance(rows[0].node, cst.Assign):
            return _UNKNOWN
        found = constant(rows[0].value)
        if found is None or next(branches(index, rows[0].node), None) is not None or index.declaring(name):
            return _UNKNOWN
        return _UNKNOWN if self._is_set_elsewhere(module, name) else found.value

    def _is_set_elsewhere(self, module: PyModule, name: str) -> bool:
        outside = self._follower.project.outside
        stem = os.path.splitext(os.path.basename(module.path))[0]
        others = [
            path for path in map(os.path.abspath, outside.mentioning(name, stem, module.path)) if path != module.path
        ]
        if len(others) > _MAX_FILES:
            return True
        words = [form.encode() for form in (f".{name} =", f".{name}=", "setattr(", "__dict__")]
        return any(outside.holds(path, [word]) for path in others for word in words)
