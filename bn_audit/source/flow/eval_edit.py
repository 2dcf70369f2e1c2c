"""Where to write ``model.eval()`` so that an evaluation runs in eval mode: right before gradients are turned off, or at
the top of the function that evaluates where they are turned off around all of it."""

from __future__ import annotations

import libcst as cst

from bn_audit.finding import Edit, Location
from bn_audit.source.flow.index import FileIndex, Scope
from bn_audit.source.flow.modes.setting import Forward
from bn_audit.source.interpreter.values import Step
from bn_audit.source.locate import Locator
from bn_audit.source.nodes import dotted_name, root_name
from bn_audit.source.project import PyModule

__all__ = ["eval_edit", "written"]


def written(forward: Forward) -> cst.BaseExpression:
    """The model of a forward as the source names it."""
    func = forward.node.func
    if isinstance(func, cst.Attribute) and func.attr.value == "forward":
        return func.value
    return func


def eval_edit(index: FileIndex, locator: Locator, forward: Forward) -> tuple[Edit, ...]:
    """The edit; empty where the model has no name there yet, or no line begins at the place."""
    model = written(forward)
    name = dotted_name(model)
    statement = _place(index, forward)
    if name is None or statement is None or not _bound(index, forward.env.scope, model, statement):
        return ()
    where = locator.at(Step(forward.env.module, statement))
    indent = _indent(forward.env.module, where)
    if indent is None:
        return ()
    return (Edit(where.line, where.column, where.line, where.column, f"{name}.eval()\n{indent}"),)


def _place(index: FileIndex, forward: Forward) -> cst.CSTNode | None:
    """The statement to write it before."""
    found: cst.CSTNode | None = None
    quiet = forward.quiet.node if forward.quiet is not None else None
    for above in index.above(forward.node):
        if isinstance(above, cst.With) and any(item.item is quiet for item in above.items):
            found = above
            break
        if isinstance(above, (cst.Lambda, cst.ClassDef)):
            return None
        if isinstance(above, cst.FunctionDef):
            rows = list(above.body.body)
            if rows and above.get_docstring() is not None:
                rows.pop(0)
            found = rows[0] if rows else None
            break
    if found is None:
        return None
    above_it = index.parent(found)
    return found if isinstance(above_it, (cst.IndentedBlock, cst.Module)) else None


def _bound(index: FileIndex, scope: Scope, model: cst.BaseExpression, statement: cst.CSTNode) -> bool:
    """Whether the model's name certainly stands for the model before a statement."""
    root = root_name(model)
    place, blocks = index.order(statement), index.blocks(statement)
    if isinstance(model, cst.Attribute):
        writes = [row for row in scope.writes if row.root == root and not row.deep]
        if any(index.order(row.node) > place for row in writes if row.attr == model.attr.value):
            return False
    rows = [row for row in scope.bindings.get(root or "", ()) if row.region is None]
    if any(row.how != "other" and row.order > place and index.scope_of(row.node) is scope for row in rows):
        return False
    if not rows or scope.takes(root):
        return True
    return any(row.order < place and row.blocks == blocks[: len(row.blocks)] for row in rows)


def _indent(module: PyModule, where: Location) -> str | None:
    """What stands before a statement on its line; None if that is more than white space."""
    for part in module.parsed.parts:
        if part.cell == where.cell:
            lines = part.source.split("\n")
            text = lines[where.line - 1][: where.column - 1] if where.line <= len(lines) else "?"
            return text if not text.strip() else None
    return None
