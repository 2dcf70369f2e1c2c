"""Statements that change a container in place: ``state[key] = value``, ``arrays.append(value)``, ``del state[key]``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import libcst as cst

from bn_audit.source.flow.index import FileIndex, Scope, arguments_of
from bn_audit.source.nodes import children

__all__ = ["Change", "changes_in", "key_of", "text_of"]


@dataclass(frozen=True, slots=True)
class Change:
    """``name[key] = value``, ``name.append(value)``, ``del name[key]``, ``f(name)``."""

    how: Literal["set", "append", "extend", "update", "drop", "call"]
    name: str
    key: cst.BaseExpression | None
    value: cst.BaseExpression
    node: cst.CSTNode
    order: int


def changes_in(scope: Scope, index: FileIndex) -> Iterator[Change]:
    body = getattr(scope.node, "body", None)
    if not isinstance(body, cst.CSTNode):
        rows: Sequence[cst.CSTNode] = list(scope.node.body) if isinstance(scope.node, cst.Module) else []
    else:
        rows = [body]
    stack = list(reversed(rows))
    while stack:
        node = stack.pop()
        if isinstance(node, (cst.FunctionDef, cst.ClassDef, cst.Lambda)):
            continue
        order = index.place(node) or 0
        if isinstance(node, cst.Assign) and isinstance(node.targets[0].target, cst.Subscript):
            place = node.targets[0].target
            key = key_of(place)
            if isinstance(place.value, cst.Name) and key is not None:
                yield Change("set", place.value.value, key, node.value, node, order)
        elif isinstance(node, cst.Del) and isinstance(node.target, cst.Subscript):
            key = key_of(node.target)
            if isinstance(node.target.value, cst.Name) and key is not None:
                yield Change("drop", node.target.value.value, key, key, node, order)
        elif isinstance(node, cst.Call):
            yield from _change_by(node, order)
        stack.extend(reversed(list(children(node))))


def _change_by(node: cst.Call, order: int) -> Iterator[Change]:
    func = node.func
    positional, _, _ = arguments_of(node)
    if isinstance(func, cst.Attribute) and isinstance(func.value, cst.Name) and positional:
        name, attr = func.value.value, func.attr.value
        if attr in ("append", "extend", "update"):
            yield Change(attr, name, None, positional[0], node, order)  # type: ignore[arg-type]
            return
        if attr == "pop" and not isinstance(positional[0], (cst.Integer, cst.UnaryOperation)):
            yield Change("drop", name, positional[0], positional[0], node, order)
            return
        if attr in ("clear", "insert", "setdefault", "popitem", "remove"):
            yield Change("set", name, None, positional[0], node, order)
            return
    for row in (*positional, *(arg.value for arg in node.args if arg.keyword is not None)):
        if isinstance(row, cst.Name):
            yield Change("call", row.value, None, node, node, order)


def text_of(node: cst.BaseExpression | None) -> str | None:
    """The value of a string literal; None for anything else."""
    if isinstance(node, (cst.SimpleString, cst.ConcatenatedString)):
        value = node.evaluated_value
        return value if isinstance(value, str) else None
    return None


def key_of(node: cst.Subscript) -> cst.BaseExpression | None:
    """``key`` in ``state[key]``; None for slices and several."""
    part = node.slice[0].slice if len(node.slice) == 1 else None
    return part.value if isinstance(part, cst.Index) else None
