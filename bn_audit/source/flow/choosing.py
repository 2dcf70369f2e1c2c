"""Conditions that choose among parties, and leave no entry out: ``[state for state in states if state is not None]``.

A follower takes every container for its items, the entries of a state and the states of several parties alike. Which of
them a condition is about has to be read off what it asks, or off what is gone through.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import libcst as cst

from bn_audit.source.flow.given import argument
from bn_audit.source.flow.loops import OVER_TIME, Loop, comp_loops, depends, loop_of, loops_around, said_of, unwrapped
from bn_audit.source.flow.values import Env, State
from bn_audit.source.interpreter.values import Func
from bn_audit.source.nodes import dotted_name, is_empty, walk

if TYPE_CHECKING:
    from bn_audit.source.flow.following import Following

__all__ = ["chooses_parties"]

_OF_ENTRIES = frozenset(dir(str)) | frozenset(
    [
        "data", "device", "dim", "dtype", "element_size", "grad", "is_complex", "is_floating_point", "is_leaf", "item",
        "name", "ndim", "nelement", "numel", "requires_grad", "shape", "size", "type",
    ]
)  # fmt: skip
"""What a tensor, an array or a key may be asked for."""
_GOES_OVER_ENTRIES = frozenset(["buffers", "named_buffers", "named_parameters", "parameters"])
_DEPTH = 6
_MAX_RUNS = 8
"""Calls of a function that are looked at."""


def chooses_parties(follower: Following, clause: cst.CompFor, test: cst.BaseExpression, env: Env) -> bool:
    """Whether a condition of a comprehension is certainly about whole states, or what comes with them."""
    if OVER_TIME.search(said_of(follower.index(env.module), loop_of(clause))):
        return False
    names = frozenset(part.value for part in walk(clause.target) if isinstance(part, cst.Name))
    return _asks_nothing_of_entries(follower, test, names, env) or _goes_over_parties(follower, clause.iter, env)


def _asks_nothing_of_entries(follower: Following, test: cst.BaseExpression, names: frozenset[str], env: Env) -> bool:
    """Whether a condition asks but if something is there, or what no tensor and no key has: ``r["loss"] < 2``."""
    index = follower.index(env.module)
    found = False
    for part in walk(test):
        if not isinstance(part, cst.Name) or part.value not in names:
            continue
        found = True
        above = index.parent(part)
        if isinstance(above, cst.Subscript) and above.value is part:
            picked = above.slice[0].slice
            if len(above.slice) == 1 and isinstance(picked, cst.Index) and isinstance(picked.value, cst.SimpleString):
                continue
        elif isinstance(above, cst.Attribute):
            if above.value is part and above.attr.value not in _OF_ENTRIES:
                continue
            if above.attr is part:
                continue  # an attribute of that name
        elif isinstance(above, cst.Comparison) and above.left is part and len(above.comparisons) == 1:
            row = above.comparisons[0]
            asks = isinstance(row.operator, (cst.Is, cst.IsNot))
            if asks and isinstance(row.comparator, cst.Name) and row.comparator.value == "None":
                continue
        return False
    return found


def _goes_over_parties(
    follower: Following,
    node: cst.BaseExpression,
    env: Env,
    path: tuple[int, ...] = (),
    seen: frozenset[tuple[int, str]] = frozenset(),
) -> bool:
    """Whether the items of an expression are certainly what parties gave, a state each, and not entries of one.

    ``path`` leads to the part of it that is asked about, ``updates`` of ``updates, sizes = train()``; ``seen`` are
    variables that are being asked about.
    """
    node, path = _part(node, path)
    if isinstance(node, (cst.ListComp, cst.GeneratorExp)) and not path:
        return _is_of_parties(follower, node.elt, comp_loops(node), env, seen)
    if isinstance(node, cst.Call):
        name = dotted_name(node.func)
        inner = node.args[0].value if name == "range" and len(node.args) == 1 else None
        if isinstance(inner, cst.Call) and dotted_name(inner.func) == "len" and inner.args:
            return _goes_over_parties(follower, inner.args[0].value, env, (), seen)
        if name == "zip":
            return any(_goes_over_parties(follower, arg.value, env, (), seen) for arg in node.args if not arg.star)
        return _is_given_back(follower, node, env, path, seen)
    return isinstance(node, cst.Name) and _is_list_of_parties(follower, node.value, env, path, seen)


def _is_list_of_parties(
    follower: Following, name: str, env: Env, path: tuple[int, ...], seen: frozenset[tuple[int, str]]
) -> bool:
    scope = env.scope
    key = (id(scope), name)
    if key in seen:
        return True  # it is if all else that it is made of is
    if len(seen) >= _DEPTH:
        return False
    seen |= {key}
    rows, puts = scope.bindings.get(name, ()), scope.puts.get(name, ())
    known = bool(puts)
    if scope.takes(name):
        known = True
        if not _is_given(follower, name, env, path, seen):
            return False
    for row in rows:
        if row.how != "value" or not isinstance(row.value, cst.BaseExpression):
            return False
        value, inner = _part(row.value, (*row.path, *path))
        if is_empty(value) or _chooses(value, name):
            continue  # what is chosen among the list itself is a list of the same
        known = True
        if not _goes_over_parties(follower, value, env, inner, seen):
            return False
    index = follower.index(env.module)
    return known and all(_is_of_parties(follower, value, loops_around(index, put), env, seen) for value, put in puts)


def _part(node: cst.BaseExpression, path: tuple[int, ...]) -> tuple[cst.BaseExpression, tuple[int, ...]]:
    """What a path leads to in tuples that are written out, and what of the path is left."""
    node = unwrapped(node)
    while isinstance(node, cst.Tuple) and path and path[0] < len(node.elements):
        node, path = unwrapped(node.elements[path[0]].value), path[1:]
    return node, path


def _chooses(value: cst.CSTNode, name: str) -> bool:
    """``updates`` of ``updates = [update for update in updates if ...]``, which is what is asked about."""
    if not isinstance(value, (cst.ListComp, cst.GeneratorExp)):
        return False
    over = unwrapped(value.for_in.iter)
    return isinstance(over, cst.Name) and over.value == name and value.for_in.inner_for_in is None


def _is_of_parties(
    follower: Following, value: cst.BaseExpression, loops: list[Loop], env: Env, seen: frozenset[tuple[int, str]]
) -> bool:
    """Whether what a loop puts into a list is a party's: the loop goes over no entries."""
    index = follower.index(env.module)
    own = [loop for loop in loops if depends(index, value, loop)]
    if any(OVER_TIME.search(said_of(index, loop)) for loop in own):
        return False
    return bool(own) and all(_goes_over_no_entries(follower, loop.iter, env, seen) for loop in own)


def _goes_over_no_entries(
    follower: Following, over: cst.BaseExpression, env: Env, seen: frozenset[tuple[int, str]]
) -> bool:
    over = unwrapped(over)
    if isinstance(over, cst.Call) and isinstance(over.func, cst.Attribute):
        if over.func.attr.value in _GOES_OVER_ENTRIES:
            return False
        if over.func.attr.value in ("items", "keys", "values"):
            over = over.func.value
    if isinstance(over, cst.Call) and dotted_name(over.func) == "zip":
        return all(_goes_over_no_entries(follower, arg.value, env, seen) for arg in over.args)
    counted = isinstance(over, cst.Call) and dotted_name(over.func) in ("range", "len")
    parts = [arg.value for arg in over.args] if counted and isinstance(over, cst.Call) else [over]
    origins = [row for part in parts for row in follower.items(follower.origins(part, env))]
    return not any(isinstance(row, State) for row in origins) or _goes_over_parties(follower, over, env, (), seen)


def _is_given(
    follower: Following, name: str, env: Env, path: tuple[int, ...], seen: frozenset[tuple[int, str]]
) -> bool:
    """The same of what a function is given by whoever calls it."""
    runs = [env] if env.call is not None and env.caller is not None else list(follower.callers.runs_of(env))
    if not runs or len(runs) > _MAX_RUNS:
        return False
    for run in runs:
        given = argument(name, run)
        if given is None or run.caller is None or not _goes_over_parties(follower, given, run.caller, path, seen):
            return False
    return True


def _is_given_back(
    follower: Following, node: cst.Call, env: Env, path: tuple[int, ...], seen: frozenset[tuple[int, str]]
) -> bool:
    """The same of what a function of the project gives back."""
    targets = follower.callee(node, env)
    if not targets:
        return False
    for function, receiver in targets:
        scope = follower.index(function.module).scope(function.node) if isinstance(function, Func) else None
        if scope is None or not isinstance(function, Func) or not scope.returns:
            return False
        inner = Env(function.module, scope, node, env, receiver, env.depth + 1)
        if not all(_goes_over_parties(follower, value, inner, path, seen) for value in scope.returns):
            return False
    return True
