"""Calls of what a program picks by a name at run time: ``getattr(models, args.model)()``, hydra's ``instantiate``.

Which class or function that is, the interpreter finds out where it can. Here it is only seen that a call is such a one:
what it makes may be a model.
"""

from __future__ import annotations

import libcst as cst

from bn_audit.source.flow.index import FileIndex
from bn_audit.source.nodes import dotted_name

__all__ = ["PICKERS", "picks_by_name"]

PICKERS = frozenset(["getattr", "eval", "import_module", "locate", "get_class", "get_object", "__import__"])
"""Functions that give what a name stands for."""
_TABLES = frozenset(["globals", "vars", "locals"])
_MAX_DEPTH = 4


def picks_by_name(index: FileIndex, func: cst.BaseExpression, depth: int = 0) -> bool:
    """Whether what is called is picked by a name at run time."""
    if depth > _MAX_DEPTH:
        return False
    if isinstance(func, cst.Call):
        return (dotted_name(func.func) or "").rpartition(".")[2] in PICKERS
    if isinstance(func, cst.Subscript):
        table = func.value
        if isinstance(table, cst.Call):
            return dotted_name(table.func) in _TABLES
        return isinstance(table, cst.Attribute) and table.attr.value == "__dict__"
    if isinstance(func, cst.Attribute):
        return picks_by_name(index, func.value, depth + 1)
    if isinstance(func, cst.Name):
        rows = index.scope_of(func).bindings.get(func.value, ())
        return any(
            row.how == "value" and not row.path and isinstance(row.value, cst.BaseExpression)
            and picks_by_name(index, row.value, depth + 1)
            for row in rows
        )  # fmt: skip
    return False
