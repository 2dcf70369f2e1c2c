"""Which of a name's bindings may hold where it is used."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bn_audit.source.flow.index import Binding, FileIndex, Scope
from bn_audit.source.flow.loops import stands_in
from bn_audit.source.nodes import dotted_name

__all__ = ["alive_at", "branches", "never_both"]


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
    around_use = list(branches(index, use))
    alive: list[Binding] = []
    later: list[Binding] = []
    seal: Binding | None = None
    for row in sorted((row for row in rows if row.region is None), key=lambda row: -row.order):
        own = row.node is statement and not isinstance(row.node, (cst.For, cst.With))
        if row.order > place or own:
            later.append(row)
            continue
        if around_use and _contradict(index, list(branches(index, row.node)), around_use):
            continue
        alive.append(row)
        if row.how in _ANEW and row.blocks == blocks[: len(row.blocks)]:
            seal = row
            break
    again = [row for row in later if _comes_round(index, row, loops, seal) and not never_both(index, row.node, use)]
    return [*again, *alive], seal is not None


_ANEW = frozenset({"value", "item", "enter"})
"""Ways to bind a name that leave nothing of what it held."""


def _comes_round(index: FileIndex, row: Binding, loops: list[cst.For | cst.While], seal: Binding | None) -> bool:
    """Whether what is bound later in the source is there when a loop around both runs again, and nothing binds the name
    anew in each turn before it is used.

    Args:
        loops: around the use, innermost first.
        seal: the last binding before the use that certainly came before it.
    """
    around = set(map(id, index.above(row.node)))
    shared = next((loop for loop in loops if id(loop) in around or row.node is loop), None)
    if shared is None:
        return False
    if seal is None or row.how not in _ANEW:
        return True
    return seal.node is not shared and id(shared) not in set(map(id, index.above(seal.node)))


def never_both(index: FileIndex, one: cst.CSTNode, other: cst.CSTNode) -> bool:
    """Whether one run of a scope certainly never comes to both of two places, whatever loops are around them: what
    their branches ask for is the same all the time."""
    scope = index.scope_of(other)
    if scope is not index.scope_of(one):
        return False
    return any(
        _exclude(index, left, right) and _is_fixed(index, scope, left[0]) and _is_fixed(index, scope, right[0])
        for left in branches(index, one)
        for right in branches(index, other)
    )


def _is_fixed(index: FileIndex, scope: Scope, test: cst.BaseExpression) -> bool:
    """Whether a comparison with a text turns out the same as long as its scope runs: nothing there changes what is
    compared."""
    found = _equals(index, test)
    if found is None:
        return False
    root, _, attr = found[0].partition(".")
    if root in scope.shared or any(
        write.root == root and write.attr == attr.partition(".")[0] for write in scope.writes
    ):
        return False
    rows = scope.bindings.get(root, ())
    return len(rows) < 2 and all(
        row.how in ("value", "other") and not stands_in(index, row.node, (cst.For, cst.While)) for row in rows
    )


_FORMS = frozenset({"lower", "upper", "strip", "casefold"})
Taken = tuple[cst.BaseExpression, bool]
"""A condition, and whether it holds."""


def branches(index: FileIndex, node: cst.CSTNode) -> Iterator[Taken]:
    """The branches of its scope that a node stands in, innermost first."""
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
