"""All combinations in a part of a file."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bn_audit.source.flow.combining.averaging import Averaging
from bn_audit.source.flow.combining.in_turn import mixed_with, mixed_with_by
from bn_audit.source.flow.combining.processes import PROCESSES, over_processes
from bn_audit.source.flow.combining.reducing import REDUCERS, reduced
from bn_audit.source.flow.combining.sums import accumulated, added_to, bare, made_anew, mixed_in_place, mixed_into
from bn_audit.source.flow.combining.whole import added_objects, added_whole, reduced_objects, reduced_whole
from bn_audit.source.flow.combining.written_out import written_out
from bn_audit.source.flow.index import FileIndex, Piece
from bn_audit.source.flow.loops import stands_in
from bn_audit.source.nodes import leaf_name

__all__ = ["find_averaging"]


def find_averaging(index: FileIndex, piece: Piece) -> list[Averaging]:
    """All combinations in a part of a file, in the order of the source."""
    found = list(_candidates(index, piece))
    return sorted(found, key=lambda row: index.order(row.node))


def _candidates(index: FileIndex, piece: Piece) -> Iterator[Averaging]:
    for node in piece.assignments:
        if isinstance(node, cst.AugAssign):
            if isinstance(node.operator, cst.AddAssign) and _looped(index, node):
                found = tuple(accumulated(index, node, node.target, node.value, "+="))
                yield from found or added_objects(index, node, node.target, node.value)
        elif len(node.targets) == 1:
            target = node.targets[0].target
            for value in _branches(node.value):
                added = added_to(index, target, value) if _adds(value) and _looped(index, node) else None
                if added is not None:
                    found = tuple(accumulated(index, node, target, added, "+"))
                    yield from found or added_objects(index, node, target, added)
                    continue
                mixed = mixed_into(index, target, value) if _mixes(value) and _looped(index, node) else None
                if mixed is not None:
                    lerp = isinstance(value, cst.Call) and leaf_name(value.func) == "lerp"
                    yield from accumulated(index, node, target, mixed[0], "lerp" if lerp else "", weights=mixed[1])
                if _mixes(value) and _looped(index, node):
                    found = tuple(written_out(index, value)) if isinstance(value, cst.BinaryOperation) else ()
                    yield from found or mixed_with(index, node, target, value)
                elif isinstance(value, cst.BinaryOperation) and _looped(index, node):
                    yield from written_out(index, value)
                if isinstance(value, cst.Call) and len(value.args) > 1 and _looped(index, node):
                    yield from added_whole(index, node, value)
    for comp in piece.comprehensions:
        element = comp.value if isinstance(comp, cst.DictComp) else comp.elt
        if isinstance(element, cst.BinaryOperation):
            yield from made_anew(index, comp, element) if _looped(index, comp) else ()
            yield from tuple(written_out(index, element)) or mixed_with(index, element, None, element)
    for call in piece.calls.get("add_", ()):
        if isinstance(call.func, cst.Attribute) and call.args and _looped(index, call):
            yield from accumulated(index, call, bare(call.func.value), call.args[0].value, "add_")
    for name in ("add_", "lerp_"):
        for call in piece.calls.get(name, ()):
            in_place = mixed_in_place(call)
            if in_place is not None and _looped(index, call):
                slot, added, weights = in_place
                how = "lerp_" if name == "lerp_" else "mul_"
                found = tuple(accumulated(index, call, slot, added, how, weights=weights))
                yield from found or mixed_with_by(index, call, slot, added, weights, how)
    for name in REDUCERS:
        for call in piece.calls.get(name, ()):
            found = tuple(reduced(index, call))
            if not found and name in ("sum", "reduce"):
                added_up = not call.args or name == "sum" or leaf_name(call.args[0].value) == "add"
                found = tuple(reduced_objects(index, call)) if added_up else ()
            yield from found or (reduced_whole(index, call) if name == "reduce" else ())
    for name in PROCESSES:
        for call in piece.calls.get(name, ()):
            yield from over_processes(index, call)


def _branches(value: cst.BaseExpression) -> tuple[cst.BaseExpression, ...]:
    """``x if first else total[key] + x``: what it may be."""
    return (value.body, value.orelse) if isinstance(value, cst.IfExp) else (value,)


def _looped(index: FileIndex, node: cst.CSTNode) -> bool:
    return stands_in(index, node, (cst.For, cst.While, cst.BaseComp))


def _mixes(value: cst.BaseExpression) -> bool:
    """Whether an expression may be a mean that is kept up to date."""
    if isinstance(value, cst.BinaryOperation):
        return isinstance(value.operator, (cst.Add, cst.Divide))
    return isinstance(value, cst.Call) and leaf_name(value.func) in ("div", "divide", "true_divide", "lerp")


def _adds(value: cst.BaseExpression) -> bool:
    """Whether an expression may be a sum: the cheapest question first."""
    if isinstance(value, cst.BinaryOperation):
        return isinstance(value.operator, cst.Add)
    return isinstance(value, cst.Call) and leaf_name(value.func) == "add"
