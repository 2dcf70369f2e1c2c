"""What kind of number a weight or divisor is: an integer, a float, a tensor."""

from __future__ import annotations

import libcst as cst

from bn_audit.handwritten import Number
from bn_audit.source.flow.index import FileIndex, Scope
from bn_audit.source.flow.loops import Loop, loops_around
from bn_audit.source.nodes import dotted_name, leaf_name, walk

__all__ = ["numbers_of"]

_ANY_NUMBER = (Number.INT, Number.FLOAT, Number.TENSOR)
_DEPTH = 12
"""Steps from a weight to what it is made of; names that stand for one another would lead on for ever."""


def numbers_of(index: FileIndex, node: cst.CSTNode, depth: int = 0) -> tuple[Number, ...]:
    """What a weight or divisor may be; ``depth`` says how many steps led here."""
    if depth > _DEPTH:
        return _ANY_NUMBER
    if isinstance(node, cst.Integer):
        return (Number.INT,)
    if isinstance(node, cst.Float):
        return (Number.FLOAT,)
    if isinstance(node, cst.UnaryOperation):
        return numbers_of(index, node.expression, depth + 1)
    if isinstance(node, cst.Call):
        name = dotted_name(node.func) or ""
        if name in ("len", "int", "round"):
            return (Number.INT,)
        if name == "float" or name.endswith(".item"):
            return (Number.FLOAT,)
        if name in ("torch.tensor", "torch.as_tensor") and node.args:
            return (Number.TENSOR,) if _is_of_floats(index, node, depth) else _ANY_NUMBER
    if isinstance(node, cst.BinaryOperation):
        left, right = numbers_of(index, node.left, depth + 1), numbers_of(index, node.right, depth + 1)
        numbers = Number.TENSOR not in (*left, *right)
        if isinstance(node.operator, cst.Divide):
            return (Number.FLOAT,) if numbers else (Number.FLOAT, Number.TENSOR)
        if numbers and (Number.FLOAT,) in (left, right):
            return (Number.FLOAT,)  # a float makes floats
        return (Number.INT,) if left == right == (Number.INT,) else _ANY_NUMBER
    if isinstance(node, cst.Name):
        scope = index.scope_of(node)
        if scope.takes(node.value):
            return _ANY_NUMBER  # what it is given, if not what it is bound to
        rows = scope.bindings.get(node.value, ())
        value = scope.sole_value(node.value)
        if value is not None and not any(node is part for part in walk(value)):
            return numbers_of(index, value, depth + 1)
        loop = next((row for row in reversed(loops_around(index, node)) if node.value in row.names), None)
        if loop is not None and len(rows) == 1:
            return _in_turn(index, loop, node.value, depth + 1)
    if isinstance(node, cst.Subscript) and isinstance(node.slice[0].slice, cst.Index):
        return _each(index, node.value, depth + 1)
    return _ANY_NUMBER


def _is_of_floats(index: FileIndex, node: cst.Call, depth: int) -> bool:
    """Whether a tensor is one of floats: as it says, or by what it is made of."""
    for arg in node.args:
        if arg.keyword is not None and arg.keyword.value == "dtype":
            return "float" in leaf_name(arg.value) or leaf_name(arg.value) == "double"
    return numbers_of(index, node.args[0].value, depth + 1) == (Number.FLOAT,)


def _in_turn(index: FileIndex, loop: Loop, name: str, depth: int) -> tuple[Number, ...]:
    """What a name that a loop binds may be: ``for state, weight in zip(states, weights)``."""
    over, place = loop.iter, loop.names.index(name)
    if isinstance(over, cst.Call) and dotted_name(over.func) == "enumerate" and over.args:
        if place == 0:
            return (Number.INT,)
        over, place = over.args[0].value, place - 1
    if isinstance(over, cst.Call) and dotted_name(over.func) == "zip":
        plain = all(not arg.star for arg in over.args) and len(over.args) == len(loop.names) - (over is not loop.iter)
        return _each(index, over.args[place].value, depth) if plain else _ANY_NUMBER
    if isinstance(over, cst.Call) and dotted_name(over.func) == "range":
        return (Number.INT,)
    return _each(index, over, depth) if place == 0 and loop.names[-1] == name else _ANY_NUMBER


def _each(index: FileIndex, node: cst.CSTNode, depth: int) -> tuple[Number, ...]:
    """What the numbers of a list may be: ``[n / total for n in sizes]``, ``[1 / count] * count``."""
    if isinstance(node, (cst.ListComp, cst.GeneratorExp)):
        return numbers_of(index, node.elt, depth + 1)
    if isinstance(node, (cst.List, cst.Tuple)) and node.elements:
        kinds = [numbers_of(index, element.value, depth + 1) for element in node.elements[:8]]
        return kinds[0] if len(set(kinds)) == 1 and len(node.elements) <= 8 else _ANY_NUMBER
    if isinstance(node, cst.BinaryOperation) and isinstance(node.operator, cst.Multiply):
        listed = next((side for side in (node.left, node.right) if isinstance(side, cst.List)), None)
        return _ANY_NUMBER if listed is None else _each(index, listed, depth + 1)
    if isinstance(node, cst.Name) and depth < _DEPTH:
        scope = index.scope_of(node)
        changed = scope.takes(node.value) or _is_changed(scope, node.value)
        value = None if changed else scope.sole_value(node.value)
        return _ANY_NUMBER if value is None else _each(index, value, depth + 1)
    return _ANY_NUMBER


def _is_changed(scope: Scope, name: str) -> bool:
    """Whether a list may hold something else after it was made."""
    if name in scope.puts or name in scope.removals or name in scope.shared:
        return True
    for part in walk(scope.node):
        if isinstance(part, cst.Attribute) and isinstance(part.value, cst.Name) and part.value.value == name:
            return True  # a method of its own
        if isinstance(part, (cst.Assign, cst.AugAssign, cst.Del)) and _writes_to(part, name):
            return True
    return False


def _writes_to(node: cst.Assign | cst.AugAssign | cst.Del, name: str) -> bool:
    targets = [row.target for row in node.targets] if isinstance(node, cst.Assign) else [node.target]
    return any(
        isinstance(part, cst.Subscript) and isinstance(part.value, cst.Name) and part.value.value == name
        for target in targets
        for part in walk(target)
    )
