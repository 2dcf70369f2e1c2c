"""Parties that are written out one by one, each with a name of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import libcst as cst

from bn_audit.source.flow.combining.averaging import Averaging
from bn_audit.source.flow.entries import entries_in
from bn_audit.source.flow.index import FileIndex
from bn_audit.source.flow.loops import conditions, loops_around
from bn_audit.source.nodes import leaf_name

__all__ = ["one_by_one", "written_out"]


def written_out(index: FileIndex, value: cst.BinaryOperation) -> Iterator[Averaging]:
    """``(one[key] + other[key]) / 2``, ``0.5 * one[key] + 0.5 * other[key]``: of parties that have names of their own.
    With other weights it may be an average over time, unless it is divided by the sum of them."""
    divisor = value.right if isinstance(value.operator, (cst.Divide, cst.Multiply)) else None
    node = value if divisor is None else value.left
    terms = _summands(node)
    if isinstance(node, cst.BinaryOperation) and len(terms) > 1 and _is_mean(index, terms, value, divisor):
        yield from one_by_one(index, node, terms, "sum")


def one_by_one(
    index: FileIndex, node: cst.BaseExpression, terms: Sequence[cst.BaseExpression], how: str
) -> Iterator[Averaging]:
    """What is combined of entries of the same key, each of a state of its own."""
    for keys in reversed(loops_around(index, node)):
        rows = [next(entries_in(index, keys, term), None) for term in terms]
        found = [row for row in rows if row is not None]
        states = [index.code(state) for _, state, _, _ in found]
        if _are_one_over_time(index, [state for _, state, _, _ in found]):
            continue
        if len(found) == len(terms) == len(set(states)) and len({(what, key) for _, _, what, key in found}) == 1:
            entry, _, what, key = found[0]
            every = cst.List([cst.Element(state) for _, state, _, _ in found])
            scope, tests = index.scope_of(node), conditions(index, node, keys)
            yield Averaging(node, how, None, terms[0], entry, every, what, key, keys, None, scope, tests, apart=True)
            return


def _are_one_over_time(index: FileIndex, states: Sequence[cst.BaseExpression]) -> bool:
    """Whether one of some states is what another was before: ``last = copy.deepcopy(average)``."""
    names = {state.value for state in states if isinstance(state, cst.Name)}
    for state in states:
        rows = index.scope_of(state).bindings.get(state.value, ()) if isinstance(state, cst.Name) else ()
        for value in (row.value for row in rows if row.how == "value" and not row.path):
            kept = value
            while isinstance(kept, cst.Call) and len(kept.args) == 1 and leaf_name(kept.func) in _COPIES:
                kept = kept.args[0].value
            if isinstance(kept, cst.Name) and kept.value in names:
                return True
    return False


_COPIES = frozenset(["copy", "deepcopy", "dict", "OrderedDict"])


def _summands(node: cst.BaseExpression) -> list[cst.BaseExpression]:
    """What is added up, in order. However long a sum is, in linear time."""
    found: list[cst.BaseExpression] = []
    left = [node]
    while left:
        part = left.pop()
        if isinstance(part, cst.BinaryOperation) and isinstance(part.operator, cst.Add):
            left += (part.right, part.left)
        else:
            found.append(part)
    return found


def _is_mean(
    index: FileIndex,
    terms: Sequence[cst.BaseExpression],
    whole: cst.BinaryOperation,
    divisor: cst.BaseExpression | None,
) -> bool:
    """Whether a sum is certainly an average of its terms: of all alike, or by weights that it is divided by."""
    weights = [_weight(index, term) for term in terms]
    alike = all(weight == weights[0] for weight in weights)
    if divisor is None:
        return alike and weights[0] in _shares(len(terms))
    if isinstance(whole.operator, cst.Multiply):
        return set(weights) == {""} and index.code(divisor) in _shares(len(terms))
    if set(weights) == {""}:
        return index.code(divisor) in (str(len(terms)), f"{len(terms)}.0", f"{len(terms)}.")
    return sorted(weights) == sorted(index.code(part) for part in _summands(divisor))


def _shares(count: int) -> tuple[str, ...]:
    """How the share of one of some parties may be written as a number."""
    half = ("0.5", ".5") if count == 2 else ("0.25", ".25") if count == 4 else ()
    return (*half, f"(1/{count})", f"(1 / {count})")


def _weight(index: FileIndex, term: cst.BaseExpression) -> str:
    """The code of what an entry is multiplied with; what it is divided by, as a share; "" if neither."""
    if not isinstance(term, cst.BinaryOperation):
        return ""
    if isinstance(term.operator, cst.Divide):
        return f"(1/{index.code(term.right)})"
    sides = (term.left, term.right) if isinstance(term.left, (cst.Subscript, cst.Call)) else (term.right, term.left)
    return index.code(sides[1])
