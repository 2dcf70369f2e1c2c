"""What names stand for at the top of files: classes, functions, modules, things of libraries."""

from __future__ import annotations

from typing import TYPE_CHECKING

import libcst as cst

from bn_audit.source.flow.index import Binding, FileIndex, Scope
from bn_audit.source.flow.loops import stands_in
from bn_audit.source.flow.values import Env
from bn_audit.source.interpreter import expressions, scopes
from bn_audit.source.interpreter.run import Budget, BudgetExceeded, CallTooLong, Run
from bn_audit.source.interpreter.values import ClassVal, Value
from bn_audit.source.nodes import dotted_name

if TYPE_CHECKING:
    from bn_audit.source.project import Project, PyModule

__all__ = ["Lookup"]

_STEPS = 6_000
"""What the interpreter may take to look up one name."""
_MAX_IMPORTS = 16
"""Imports of one name that are looked at."""


class Lookup:
    """Asks the interpreter for names; keeps its answers.

    Attributes:
        run: in which modules are looked at.
    """

    def __init__(self, project: Project) -> None:
        self.run = Run(project, [], Budget())
        self._known: dict[tuple[str, str], Value | None] = {}
        self._imports: dict[tuple[int, ...], list[Value]] = {}

    def class_of(self, module: PyModule, node: cst.ClassDef) -> ClassVal | None:
        """The interpreter's view of a class definition."""
        found = self.global_value(module, node.name.value)
        if isinstance(found, ClassVal) and found.node is node:
            return found
        return None

    def global_value(self, module: PyModule, name: str) -> Value | None:
        """What a module binds to a name at its top level, over imports; None if it does not, or it takes too long."""
        key = (module.path, name)
        if key not in self._known:
            self.run.budget.left = _STEPS
            self.run.floor = 0
            definition = self._only_definition(module, name)
            try:
                found = (
                    scopes.global_value(self.run, module, name)
                    if definition is None
                    else scopes.definition(self.run, module, name, definition)
                )
            except (BudgetExceeded, CallTooLong, RecursionError):
                found = None
            if found is None:
                # What may change a name may be the whole program, which takes too long, or took when another name was
                # asked for: of an import only the import is run then.
                only = self._only_import(module, name)
                top = Env(module, module.derive(FileIndex).top)
                found = None if only is None else self.evaluate(cst.Name(name), top, only)
            self._known[key] = found
        return self._known[key]

    def _only_definition(self, module: PyModule, name: str) -> cst.CSTNode | None:
        """The class or function definition that alone binds a name at the top of a file, if nothing is seen to change
        it: what is done with it elsewhere need not be run."""
        top = module.derive(FileIndex).top
        rows = top.bindings.get(name, ())
        if len(rows) != 1 or not isinstance(rows[0].node, (cst.ClassDef, cst.FunctionDef)):
            return None
        return None if any(write.root == name for write in top.writes) else rows[0].node

    def _only_import(self, module: PyModule, name: str) -> Binding | None:
        """The import that alone binds a name at the top of a file, or one of several that say the same, as in cells of
        a notebook; None if there is none, or anything else binds it."""
        rows = module.derive(FileIndex).top.bindings.get(name, [])
        sources = {_imported(row.node, name) for row in rows}
        return rows[0] if len(sources) == 1 and None not in sources else None

    def imports(self, node: cst.Name, env: Env) -> list[Value]:
        """What a name may stand for that several imports bind, each in a branch of its own: ``if args.method == "a":
        from a import A as Method``; empty if anything else binds it."""
        scope: Scope | None = env.scope
        rows: list[Binding] = []
        while scope is not None and not rows:
            if not isinstance(scope.node, cst.ClassDef):
                if scope.takes(node.value):
                    return []
                rows = scope.bindings.get(node.value, [])
            scope = scope.parent
        sources = {_imported(row.node, node.value): row for row in rows[: _MAX_IMPORTS + 1]}
        if not 1 < len(sources) <= _MAX_IMPORTS or None in sources:
            return []
        rows = [*sources.values()]
        index = env.module.derive(FileIndex)
        if any(isinstance(above, (cst.Try, cst.TryStar)) for row in rows for above in index.above(row.node)):
            return []  # one takes the place of the other where a library is not there
        bare = [index.order(row.node) for row in rows if not stands_in(index, row.node, (cst.If, cst.Match))]
        rows = [row for row in rows if not bare or index.order(row.node) >= max(bare)]
        key = tuple(id(row.node) for row in rows)
        known = self._imports.get(key)
        if known is None:
            found = (self.evaluate(node, env, row) for row in rows)
            known = self._imports[key] = [value for value in found if value is not None]
        return known

    def dotted(self, node: cst.CSTNode, env: Env) -> Value | None:
        """The interpreter's value of a name or a dotted name whose root is bound at the top of a module."""
        name = dotted_name(node)
        if name is None:
            return None
        root, _, rest = name.partition(".")
        scope: Scope | None = env.scope
        while scope is not None and scope.parent is not None:
            if not isinstance(scope.node, cst.ClassDef) and (root in scope.bindings or scope.takes(root)):
                bound = scope.bindings.get(root, [])
                if bound and all(isinstance(row.node, (cst.Import, cst.ImportFrom)) for row in bound):
                    return self.evaluate(node, env, bound[0])
                return None
            scope = scope.parent
        found = self.global_value(env.module, root)
        if found is None:
            builtin = expressions.builtin(root)
            return builtin if not rest else None
        if not rest:
            return found
        value = self.evaluate(node, env, None)
        if value is None:
            only = self._only_import(env.module, root)
            return None if only is None else self.evaluate(node, env, only)
        return value

    def evaluate(self, node: cst.CSTNode, env: Env, local_import: Binding | None) -> Value | None:
        frame = self.run.module_frame(env.module)
        self.run.budget.left = _STEPS
        self.run.floor = 0
        try:
            if local_import is not None:
                from bn_audit.source.interpreter.frames import Frame

                frame = Frame("function", env.module, frame)
                scopes.run_import(self.run, local_import.node, frame)  # type: ignore[arg-type]
            return expressions.evaluate(self.run, node, frame)
        except (BudgetExceeded, CallTooLong, RecursionError):
            return None


def _imported(node: cst.CSTNode, name: str) -> str | None:
    """The dotted name of what an import binds a name to; None if a statement is no import."""
    if not isinstance(node, (cst.Import, cst.ImportFrom)) or isinstance(node.names, cst.ImportStar):
        return None
    above = "." * len(node.relative) + (dotted_name(node.module) or "") if isinstance(node, cst.ImportFrom) else ""
    for alias in node.names:
        bound = alias.asname.name if alias.asname is not None else alias.name
        whole = dotted_name(alias.name) or ""
        if isinstance(bound, cst.Attribute):
            whole = whole.partition(".")[0]  # ``import torch.nn`` binds ``torch``, whatever else is imported
        if (dotted_name(bound) or "").partition(".")[0] == name:
            return f"{above}:{whole}"
    return None
