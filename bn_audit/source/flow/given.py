"""What the literals that a call gives settle: which branches of the function that it runs are never taken.

``get_model("small", args.width)`` makes nothing of what stands under ``if name == "large":``. Only what is written out
at the call settles anything, or at the function's head where the call leaves it out; and what is handed on as it is.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import libcst as cst

from bn_audit.source.flow.callers import is_plain, is_static
from bn_audit.source.flow.dispatch import dispatch_of
from bn_audit.source.flow.index import FileIndex, arguments_of
from bn_audit.source.flow.values import Bound, Env
from bn_audit.source.nodes import dotted_name, leaf_name

__all__ = ["argument", "bound_arguments", "constant", "given_by", "settled", "taken", "written"]

_NAMES = {"True": True, "False": False, "None": None}
_FORMS: Mapping[str, Callable[[str], str]] = {
    "lower": str.lower,
    "upper": str.upper,
    "strip": str.strip,
    "casefold": str.casefold,
}


class _Known(NamedTuple):
    """A value that is known: None is one, too."""

    value: object


def given_by(env: Env, above: Mapping[str, object]) -> dict[str, object]:
    """The parameters of a run of a function whose values are written out, and that nothing binds anew.

    Args:
        env: the run.
        above: the same of the run that calls it.
    """
    call, scope, function = env.call, env.scope, env.scope.function
    if call is None or not isinstance(function, cst.FunctionDef) or not is_plain(function):
        return {}
    if dispatch_of(call) is not None or not (env.bound or _is_called(call, env, function)):
        return {}
    positional, keywords, stars = arguments_of(call)
    if stars or any(arguments_of(row.node)[2] for row in env.bound):
        return {}
    params = [*function.params.posonly_params, *function.params.params]
    if scope.owner is not None and not is_static(function):
        params = params[1:]
    found: dict[str, object] = {}
    lead, before = bound_arguments(env.bound)
    placed = [*((node, False) for node, _ in lead), *((node, True) for node in positional)]
    named = {name: (node, False) for name, (node, _) in before.items()}
    named.update({name: (node, True) for name, node in keywords.items()})
    for place, param in enumerate([*params, *function.params.kwonly_params]):
        name = param.name.value
        by_place = placed[place] if place < min(len(placed), len(params)) else (param.default, False)
        given, here = named.get(name, by_place)
        known = _literal(given, above if here else {})
        if known is not None and not scope.bindings.get(name):
            found[name] = known.value
    return found


def argument(name: str, env: Env) -> cst.BaseExpression | None:
    """What the call that runs a scope gives one of its parameters; None if it gives nothing, or it is not clear."""
    if env.call is None or env.bound:
        return None
    positional, keywords, stars = arguments_of(env.call)
    if name in keywords:
        return keywords[name]
    number = next((i for i, param in enumerate(env.scope.parameters) if param.name.value == name), None)
    if number is None or stars:
        return None
    if env.scope.owner is not None and not is_static(env.scope.node):
        number -= 1
    return positional[number] if 0 <= number < len(positional) else None


def bound_arguments(
    bound: Sequence[Bound],
) -> tuple[list[tuple[cst.BaseExpression, Env]], dict[str, tuple[cst.BaseExpression, Env]]]:
    """What is given before a call, by place and by name: what is given later takes the place of what was by name."""
    placed: list[tuple[cst.BaseExpression, Env]] = []
    named: dict[str, tuple[cst.BaseExpression, Env]] = {}
    for row in bound:
        positional, keywords, _ = arguments_of(row.node)
        placed.extend((given, row.env) for given in positional[1:])
        named.update({name: (given, row.env) for name, given in keywords.items()})
    return placed, named


def written(env: Env) -> Mapping[str, object]:
    """The parameters of a run of a function whose values are written out where it is called, or above."""
    return given_by(env, written(env.caller)) if env.call is not None and env.caller is not None else {}


def _is_called(call: cst.Call, env: Env, function: cst.FunctionDef) -> bool:
    """Whether a call gives all that a function gets: it has the function's name, so that it is no partial's."""
    names = {function.name.value}
    if function.name.value == "__init__" and env.scope.owner is not None:
        names.add(env.scope.owner.name.value)
    return leaf_name(call.func) in names


def taken(index: FileIndex, node: cst.CSTNode, values: Mapping[str, object]) -> bool:
    """Whether a node of a scope may be reached, by the branches around it."""
    current = node
    for above in index.above(node):
        if isinstance(above, (cst.FunctionDef, cst.Lambda, cst.ClassDef)):
            break
        if isinstance(above, cst.If) and current is not above.test:
            outcome = settled(above.test, values)
            if outcome is not None and outcome is not (current is above.body):
                return False
        current = above
    return True


def settled(test: cst.BaseExpression, values: Mapping[str, object]) -> bool | None:
    """How a condition turns out; None if that is not known."""
    if isinstance(test, cst.UnaryOperation) and isinstance(test.operator, cst.Not):
        inner = settled(test.expression, values)
        return None if inner is None else not inner
    if isinstance(test, cst.BooleanOperation):
        parts = (settled(test.left, values), settled(test.right, values))
        decisive = isinstance(test.operator, cst.Or)
        if decisive in parts:
            return decisive
        return None if None in parts else not decisive
    if isinstance(test, cst.Comparison):
        return _compared(test, values) if len(test.comparisons) == 1 else None
    known = _literal(test, values) if isinstance(test, (cst.Name, cst.Attribute)) else None
    if isinstance(test, cst.Name) and test.value not in values:
        return None
    return None if known is None else bool(known.value)


def _compared(test: cst.Comparison, values: Mapping[str, object]) -> bool | None:
    left, right = _literal(test.left, values), _literal(test.comparisons[0].comparator, values)
    if left is None or right is None:
        return None
    operator = test.comparisons[0].operator
    if isinstance(operator, cst.Equal):
        return left.value == right.value
    if isinstance(operator, cst.NotEqual):
        return left.value != right.value
    if isinstance(operator, (cst.Is, cst.IsNot)) and any(side.value in (None, True, False) for side in (left, right)):
        return (left.value is right.value) is isinstance(operator, cst.Is)
    if isinstance(operator, (cst.In, cst.NotIn)) and isinstance(right.value, (tuple, list, set, str)):
        if isinstance(right.value, str) and not isinstance(left.value, str):
            return None
        return (left.value in right.value) is isinstance(operator, cst.In)
    return None


def constant(node: cst.CSTNode | None) -> _Known | None:
    """The value of an expression that is written out as a whole."""
    return _literal(node, {})


def _literal(node: cst.CSTNode | None, values: Mapping[str, object]) -> _Known | None:
    """The value of an expression that is written out, or of a parameter whose value is."""
    if isinstance(node, cst.Name):
        if node.value in _NAMES:
            return _Known(_NAMES[node.value])
        return _Known(values[node.value]) if node.value in values else None
    if isinstance(node, cst.Attribute):
        name = dotted_name(node)
        return _Known(values[name]) if name is not None and name in values else None
    if isinstance(node, cst.SimpleString):
        return _Known(node.evaluated_value)
    if isinstance(node, (cst.Integer, cst.Float)):
        return _Known(ast.literal_eval(node.value))
    if isinstance(node, (cst.Tuple, cst.List, cst.Set)):
        return _literals([element.value for element in node.elements], values)
    if isinstance(node, cst.Call) and isinstance(node.func, cst.Attribute) and not node.args:
        form, inner = _FORMS.get(node.func.attr.value), _literal(node.func.value, values)
        return _Known(form(inner.value)) if form and inner and isinstance(inner.value, str) else None
    return None


def _literals(nodes: Sequence[cst.CSTNode], values: Mapping[str, object]) -> _Known | None:
    found = [_literal(node, values) for node in nodes]
    return None if None in found else _Known(tuple(known.value for known in found if known is not None))
