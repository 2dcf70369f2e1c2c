"""Where something other than a mean is done to every entry of a state: noise is added, a momentum or an adaptive step.

Like averaging it is told by its shape: a loop over the keys of a state, and an entry that is given something random, or
what another dict of the same keys has gathered over the rounds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import libcst as cst

from bn_audit.source.flow.index import FileIndex, Piece
from bn_audit.source.flow.loops import Loop, conditions, loops_around
from bn_audit.source.flow.passing import PASSING_METHODS
from bn_audit.source.nodes import children, dotted_name, leaf_name, root_name, walk

__all__ = ["ServerStep", "find_steps", "noise_by", "step_by"]

_MAX_VALUES = 4
"""Values of one name that are looked into."""
_MAX_NAMES = 3
"""Names within names that are looked into."""
_LIBRARIES = frozenset(["torch", "np", "numpy", "F", "math"])

_NOISE = frozenset(
    [
        "randn",
        "randn_like",
        "normal",
        "normal_",
        "rand_like",
        "laplace",
        "Normal",
        "Laplace",
        "gaussian",
        "standard_normal",
    ]
)
_UNIFORM = frozenset(["rand_like"])
"""What rounding at random is made of, too."""
_NOISY = re.compile(r"\b(?:randn|randn_like|normal_?|[Ll]aplace|Normal|gaussian|standard_normal)\b")
_IN_PLACE = ("add_", "copy_", "sub_")


@dataclass(frozen=True, slots=True, eq=False)
class ServerStep:
    """What is done to an entry.

    Attributes:
        node: the statement or call.
        kind: ``noise``, or ``momentum`` for what gathers over rounds.
        key: the name that holds the key.
        tests: conditions on the way, with whether they must hold.
    """

    node: cst.CSTNode
    kind: Literal["noise", "momentum"]
    key: str
    tests: tuple[tuple[cst.BaseExpression, bool], ...] = field(default=())


def find_steps(index: FileIndex, piece: Piece) -> list[ServerStep]:
    """All such steps in a part of a file, in the order of the source."""
    gathered = _gathered(index, piece)
    found: list[ServerStep] = []
    calls = [call for name in _IN_PLACE for call in piece.calls.get(name, ())]
    for node in (*piece.assignments, *calls):
        for target, value in _writes(node):
            keyed = _keyed(index, node, target)
            if keyed is None:
                continue
            loop, key = keyed
            if _over_parameters(index, loop):
                continue  # statistics are none
            kind = _kind(index, node, target, value, gathered)
            if kind is not None:
                found.append(ServerStep(node, kind, key, conditions(index, node, loop)))
    return sorted(found, key=lambda step: index.order(step.node))


def noise_by(index: FileIndex, function: cst.FunctionDef) -> bool:
    """Whether a function gives back what it is given with noise added to it: ``return values.add_(noise)``."""
    if not index.holds(function, _NOISY):
        return False
    scope = index.scope(function)
    return scope is not None and any(
        _is_noise(index, part)
        for value in scope.returns
        for part in _parts(index, value)
        if isinstance(part, (cst.BinaryOperation, cst.Call))
    )


def _is_noise(index: FileIndex, node: cst.BinaryOperation | cst.Call) -> bool:
    """Whether something random is added."""
    added: list[cst.BaseExpression] = []
    if isinstance(node, cst.BinaryOperation) and isinstance(node.operator, cst.Add):
        added = [node.left, node.right]
    elif isinstance(node, cst.Call) and (dotted_name(node.func) or "").rpartition(".")[2] in ("add", "add_"):
        added = [arg.value for arg in node.args]
    return any(
        isinstance(part, cst.Call) and leaf_name(part.func) in _NOISE - _UNIFORM
        for value in added
        for part in _parts(index, value)
    )


def step_by(index: FileIndex, node: cst.Call) -> ServerStep | None:
    """The step that a call is which gives noise to the entry that it is handed: ``add_noise(state[key], sigma)``."""
    for arg in node.args[:1]:
        keyed = _keyed(index, node, arg.value)
        if keyed is not None:
            loop, key = keyed
            return ServerStep(node, "noise", key, conditions(index, node, loop))
    return None


def _writes(node: cst.CSTNode) -> Iterator[tuple[cst.BaseExpression, cst.BaseExpression]]:
    """What is written to an item: (the item, the value)."""
    if isinstance(node, cst.Assign):
        for target in node.targets:
            yield target.target, node.value
    elif isinstance(node, cst.AugAssign):
        yield node.target, node.value
    elif isinstance(node, cst.Call) and isinstance(node.func, cst.Attribute) and node.func.attr.value in _IN_PLACE:
        base = node.func.value
        while isinstance(base, cst.Attribute) and base.attr.value == "data":
            base = base.value
        if node.args:
            yield base, node.args[0].value


def _keyed(index: FileIndex, node: cst.CSTNode, target: cst.BaseExpression) -> tuple[Loop, str] | None:
    """The loop over keys, and the name of the key, where the target is an item picked by it."""
    if not isinstance(target, cst.Subscript) or len(target.slice) != 1:
        return None
    part = target.slice[0].slice
    if not isinstance(part, cst.Index) or not isinstance(part.value, cst.Name):
        return None
    name = part.value.value
    loop = next((loop for loop in reversed(loops_around(index, node)) if name in loop.names), None)
    return (loop, name) if loop is not None else None


def _over_parameters(index: FileIndex, loop: Loop) -> bool:
    """Whether a loop goes over a model's parameters alone."""
    return any(
        isinstance(part, cst.Attribute) and part.attr.value in ("named_parameters", "parameters")
        for part in _parts(index, loop.iter)
    )


def _gathered(index: FileIndex, piece: Piece) -> set[tuple[int, str]]:
    """The dicts that gather over rounds, ``m[k] = beta * m[k] + ...``: by scope and the code of the dict."""
    found: set[tuple[int, str]] = set()
    for node in piece.assignments:
        if isinstance(node, cst.Assign) and isinstance(node.targets[0].target, cst.Subscript):
            target = node.targets[0].target
            # What is scaled alone, ``total[k] = total[k] * n``, gathers nothing.
            added = isinstance(node.value, cst.BinaryOperation) and node.value.operator
            if not isinstance(added, (cst.Add, cst.Subtract)):
                continue
            own = index.code(target)
            for part in walk(node.value):
                if isinstance(part, cst.BinaryOperation) and isinstance(part.operator, cst.Multiply):
                    sides = (part.left, part.right)
                    if any(index.code(side) == own for side in sides):
                        found.add((id(index.scope_of(node)), index.code(target.value)))
    return found


def _kind(
    index: FileIndex,
    node: cst.CSTNode,
    target: cst.BaseExpression,
    value: cst.BaseExpression,
    gathered: set[tuple[int, str]],
) -> Literal["noise", "momentum"] | None:
    scope = index.scope_of(node)
    own = index.code(target.value if isinstance(target, cst.Subscript) else target)
    for part in _made_of(index, value):
        if isinstance(part, cst.Call) and leaf_name(part.func) in _NOISE:
            return "noise"
    for part in _parts(index, value):
        gathers = isinstance(part, cst.Subscript) and (id(scope), index.code(part.value)) in gathered
        if gathers and isinstance(part, cst.Subscript) and index.code(part.value) != own:
            return "momentum"
    return None


def _made_of(index: FileIndex, node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """The parts of an expression that are added up or converted: not what the program's own functions are handed, which
    may do with it what they like."""
    left = [(node, 0)]
    while left:
        part, depth = left.pop()
        yield part
        if isinstance(part, cst.Call) and not _computes(part):
            left.append((part.func, depth))
        elif isinstance(part, cst.Name):
            values = list(_values_of(index, part)) if depth < _MAX_NAMES else []
            left.extend((value, depth + 1) for value in reversed(values))
        else:
            left.extend((child, depth) for child in reversed(list(children(part))))


def _computes(call: cst.Call) -> bool:
    """Whether a call is arithmetic on tensors: ``torch.add(x, noise)``, ``x.add(noise)``."""
    return (root_name(call.func) or "") in _LIBRARIES or leaf_name(call.func) in PASSING_METHODS | _NOISE


def _parts(index: FileIndex, node: cst.CSTNode, depth: int = 0) -> Iterator[cst.CSTNode]:
    """The parts of an expression, and of what its local names stand for."""
    for part in walk(node):
        yield part
        if isinstance(part, cst.Name) and depth < _MAX_NAMES:
            for value in _values_of(index, part):
                yield from _parts(index, value, depth + 1)


def _values_of(index: FileIndex, name: cst.Name) -> Iterator[cst.CSTNode]:
    """What a local name stands for, if it has few values."""
    rows = index.scope_of(name).bindings.get(name.value, ())
    for row in rows if len(rows) <= _MAX_VALUES else ():
        if row.how == "value" and row.value is not None and not row.path:
            yield row.value
