"""Which of a name's bindings may hold where it is used."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bn_audit.source.flow.index import Binding, FileIndex
from bn_audit.source.nodes import dotted_name

__all__ = ["alive_at"]


def alive_at(index: FileIndex, rows: list[Binding], use: cst.CSTNode | None) -> tuple[list[Binding], bool]:
    """The bindings that may hold where a name is used, latest first; whether one of them certainly came before.

    Without a place of use (another scope asks) all hold.
    """
    if use is None:
        return [row for row in rows if row.region is None], False
    known = index.alive.get(id(use))
    if known is None:
        known = index.alive[id(use)] = _alive_at(index, rows, use)
    return known


def _alive_at(index: FileIndex, rows: list[Binding], use: cst.CSTNode) -> tuple[list[Binding], bool]:
    around = set(map(id, index.above(use)))
    inner = [row for row in rows if row.region is not None and id(row.region) in around]
    if inner:
        return inner, True
    place = index.order(use)
    blocks = index.blocks(use)
    loops = [node for node in index.above(use) if isinstance(node, (cst.For, cst.While))]
    statement = index.statement_of(use)
    around_use = list(_branches(index, use))
    alive: list[Binding] = []
    sealed = False
    for row in sorted((row for row in rows if row.region is None), key=lambda row: -row.order):
        own = row.node is statement and not isinstance(row.node, (cst.For, cst.With))
        if row.order > place or own:
            # Bound later in the source: reached only if a loop around both runs again.
            if any(id(loop) in set(map(id, index.above(row.node))) or row.node is loop for loop in loops):
                alive.append(row)
            continue
        if sealed:
            continue
        if around_use and _contradict(index, list(_branches(index, row.node)), around_use):
            continue
        alive.append(row)
        if row.how in ("value", "item", "enter") and row.blocks == blocks[: len(row.blocks)]:
            sealed = True
    return alive, sealed


_FORMS = frozenset({"lower", "upper", "strip", "casefold"})
Taken = tuple[cst.BaseExpression, bool]
"""A condition, and whether it holds."""


def _branches(index: FileIndex, node: cst.CSTNode) -> Iterator[Taken]:
    """The branches of its scope that a node stands in."""
    current = node
    for above in index.above(node):
        if isinstance(above, (cst.FunctionDef, cst.Lambda, cst.ClassDef)):
            return
        if isinstance(above, cst.If) and current is not above.test:
            yield above.test, current is above.body
        current = above


def _contradict(index: FileIndex, one: list[Taken], other: list[Taken]) -> bool:
    """Whether two places are never both reached: ``if name == "a"`` around one, ``if name == "b"`` around the other."""
    return any(_exclude(index, left, right) for left in one for right in other)


def _exclude(index: FileIndex, left: Taken, right: Taken) -> bool:
    if left[0] is right[0]:
        return left[1] is not right[1]
    first, second = _equals(index, left[0]), _equals(index, right[0])
    if first is None or second is None or first[0] != second[0]:
        return False
    if left[1] and right[1]:
        return first[1] != second[1]
    return left[1] is not right[1] and first[1] == second[1]


def _equals(index: FileIndex, test: cst.BaseExpression) -> tuple[str, str] | None:
    """``name == "A"``, ``name.lower() == "a"`` as (name, a)."""
    if not isinstance(test, cst.Comparison) or len(test.comparisons) != 1:
        return None
    target = test.comparisons[0]
    if not isinstance(target.operator, cst.Equal) or not isinstance(target.comparator, cst.SimpleString):
        return None
    left = test.left
    if isinstance(left, cst.Call) and isinstance(left.func, cst.Attribute) and left.func.attr.value in _FORMS:
        left = left.func.value
    subject = dotted_name(left)
    return None if subject is None else (subject, str(target.comparator.evaluated_value).lower())
