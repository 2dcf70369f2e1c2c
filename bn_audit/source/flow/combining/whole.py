"""Whole states that are added by a function which adds two of them entry by entry: ``total = add(total, state)``,
``reduce(add, states)``; or by the ``+`` of objects that hold them."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bn_audit.source.flow.combining.averaging import Adder, Averaging
from bn_audit.source.flow.combining.sums import bare, is_begun
from bn_audit.source.flow.entries import entries_in
from bn_audit.source.flow.index import FileIndex, Scope, arguments_of
from bn_audit.source.flow.loops import Loop, conditions, depends, loop_of, loops_around, unwrapped
from bn_audit.source.nodes import leaf_name, reads, root_name, walk

__all__ = ["added_objects", "added_whole", "adds_whole", "handed_on", "held_in", "reduced_objects", "reduced_whole"]


def added_whole(index: FileIndex, node: cst.Assign, value: cst.Call) -> Iterator[Averaging]:
    """``total = add(total, state)`` in a loop over the parties: whether the function adds is for the follower to find
    out."""
    if not isinstance(value.func, (cst.Name, cst.Attribute)):
        return
    target = node.targets[0].target
    positional, keywords, stars = arguments_of(value)
    if stars or len(positional) + len(keywords) < 2 or not isinstance(target, (cst.Name, cst.Attribute)):
        return
    given: list[tuple[int | str, cst.BaseExpression]] = [*enumerate(positional), *keywords.items()]
    own = index.code(target)
    held = next((place for place, part in given if type(part) is type(target) and index.code(part) == own), None)
    if held is None:
        return
    for parties in reversed(loops_around(index, node)):
        if depends(index, target, parties, adding=node):
            continue
        for place, part in given:
            if (
                place != held
                and _may_be_state(part)
                and not reads(part, root_name(target))
                and depends(index, part, parties)
            ):
                by = Adder(value.func, held, place)
                scope = index.scope_of(node)
                yield Averaging(value, "", target, part, part, part, "state", "", None, parties, scope, by=by)
                return


def reduced_whole(index: FileIndex, node: cst.Call) -> Iterator[Averaging]:
    """``reduce(add, states)``, likewise."""
    positional, _, _ = arguments_of(node)
    if len(positional) > 1 and isinstance(positional[0], (cst.Name, cst.Attribute, cst.Lambda)):
        states = positional[1]
        by = Adder(positional[0], 0, 1)
        yield Averaging(node, "", None, states, states, states, "state", "", None, None, index.scope_of(node), by=by)


def added_objects(
    index: FileIndex, node: cst.CSTNode, target: cst.BaseExpression, added: cst.BaseExpression
) -> Iterator[Averaging]:
    """``total = total + State(weights)`` in a loop over the parties, likewise."""
    if not isinstance(target, (cst.Name, cst.Attribute)) or not _may_be_object(added):
        return
    for parties in reversed(loops_around(index, node)):
        if depends(index, target, parties, adding=node) or reads(added, root_name(target)):
            continue
        if depends(index, added, parties):
            by, scope = Adder(added, 0, 1, own=True), index.scope_of(node)
            yield Averaging(node, "", target, added, added, added, "state", "", None, parties, scope, by=by)
            return


def reduced_objects(index: FileIndex, node: cst.Call) -> Iterator[Averaging]:
    """``sum(State(weights) for weights in received)``, likewise."""
    positional, _, _ = arguments_of(node)
    given = (
        positional[-1] if leaf_name(node.func) == "reduce" and len(positional) == 2 else next(iter(positional), None)
    )
    if isinstance(given, (cst.ListComp, cst.GeneratorExp)) and given.for_in.inner_for_in is None:
        added, parties = given.elt, loop_of(given.for_in)
        if _may_be_object(added) and depends(index, added, parties):
            by, scope = Adder(added, 0, 1, own=True), index.scope_of(node)
            yield Averaging(node, "", None, added, added, added, "state", "", None, parties, scope, by=by)


def _may_be_object(node: cst.BaseExpression) -> bool:
    """``State(weights)``, ``state * share``."""
    if isinstance(node, cst.BinaryOperation) and isinstance(node.operator, (cst.Multiply, cst.Divide)):
        return _may_be_object(node.left) or _may_be_object(node.right)
    return isinstance(node, (cst.Name, cst.Call))


def held_in(function: cst.FunctionDef) -> tuple[str, ...]:
    """The attributes of the other object that an operator reads: ``entries`` of ``self.entries[k] + other.entries[k]``;
    "" if it takes the object itself, a dict."""
    params = function.params.params
    if len(params) != 2:
        return ()
    other = params[1].name.value
    found = [
        part.attr.value
        for part in walk(function.body)
        if isinstance(part, cst.Attribute) and isinstance(part.value, cst.Name) and part.value.value == other
    ]
    return tuple(dict.fromkeys(found)) or ("",)


def _may_be_state(node: cst.BaseExpression) -> bool:
    return isinstance(node, (cst.Name, cst.Attribute, cst.Subscript, cst.Call))


def adds_whole(index: FileIndex, function: cst.FunctionDef | cst.Lambda, adder: Adder, *, bound: bool) -> bool:
    """Whether a function adds the entries of two of its parameters by their keys, one of them as it is. Of an average
    over time both are scaled.

    Args:
        bound: whether it is a method of an object, whose first parameter is not given.
    """
    scope = index.scope(function)
    if scope is None:
        return False
    names = [param.name.value for param in scope.parameters]
    held, added = (_parameter(names[1:] if bound else names, place) for place in (adder.held, adder.added))
    if not held or not added:
        return False
    for node in walk(function.body):
        for left, right in _sums(node):
            for keys in reversed(loops_around(index, node)):
                kept = next((row for row in entries_in(index, keys, left) if _is_whole(row[0], left)), None)
                other = next(iter(entries_in(index, keys, right)), None)
                if kept is None or other is None or kept[2] == "buffers" or other[2] == "buffers":
                    continue
                # ``old + rate * (new - old)`` may be an average over time.
                if not _is_plain(index, node, keys, kept[3]) or reads(right, root_name(kept[1])):
                    return False
                if _is_of(scope, kept[1], held) and _is_of(scope, other[1], added):
                    return True
    return False


def _is_plain(index: FileIndex, node: cst.CSTNode, keys: Loop, key: str) -> bool:
    """Whether all entries are added: no condition but whether there is a sum yet, and none on the keys."""
    over = unwrapped(keys.iter)
    if isinstance(over, cst.Call) and isinstance(over.func, cst.Attribute) and not over.args:
        over = over.func.value  # ``state.keys()``
    whole = isinstance(over, (cst.Name, cst.Attribute)) or (
        isinstance(over, cst.Call) and leaf_name(over.func) == "zip"
    )
    begun = root_name(node.target) if isinstance(node, cst.AugAssign) else None
    return whole and all(is_begun(test, key, begun) for test, _ in conditions(index, node, keys))


def handed_on(function: cst.Lambda, call: cst.Call, adder: Adder) -> Adder | None:
    """What a function calls with the sum so far and with what it makes of the other state."""
    names = [param.name.value for param in function.params.params]
    held, added = _parameter(names, adder.held), _parameter(names, adder.added)
    positional, keywords, stars = arguments_of(call)
    given: list[tuple[int | str, cst.BaseExpression]] = [*enumerate(positional), *keywords.items()]
    read = {place: {part.value for part in walk(node) if isinstance(part, cst.Name)} for place, node in given}
    first = next((place for place, node in given if isinstance(node, cst.Name) and node.value == held), None)
    other = next((place for place in read if added in read[place] and held not in read[place]), None)
    parts = walk(dict(given)[other]) if other is not None else ()
    if any(isinstance(part, (cst.BaseComp, cst.IfExp, cst.Lambda)) for part in parts):
        return None  # what it makes of the state may leave entries out
    return None if stars or first is None or other is None else Adder(call.func, first, other)


def _sums(node: cst.CSTNode) -> Iterator[tuple[cst.BaseExpression, cst.BaseExpression]]:
    """What is added to what: both ways, where both are alike."""
    if isinstance(node, cst.BinaryOperation) and isinstance(node.operator, cst.Add):
        yield node.left, node.right
        yield node.right, node.left
    elif isinstance(node, cst.AugAssign) and isinstance(node.operator, cst.AddAssign):
        yield node.target, node.value
    elif isinstance(node, cst.Call) and leaf_name(node.func) in ("add", "add_"):
        positional, _, _ = arguments_of(node)
        if len(positional) > 1:
            yield positional[0], positional[1]
            yield positional[1], positional[0]
        elif positional and isinstance(node.func, cst.Attribute):
            yield node.func.value, positional[0]


def _is_whole(entry: cst.BaseExpression, term: cst.BaseExpression) -> bool:
    """Whether a term is an entry as it is, but for its type and place: ``state[key].float()``."""
    term = bare(term)
    while isinstance(term, cst.Call) and isinstance(term.func, cst.Attribute) and term is not entry:
        if term.func.attr.value not in ("float", "double", "to", "cpu", "cuda", "clone", "detach", "get", "type"):
            return False
        term = bare(term.func.value)
    return term is entry


def _is_of(scope: Scope, state: cst.BaseExpression, name: str) -> bool:
    """Whether a state is a parameter, or a variable that was made of it and of no other."""
    root = root_name(state)
    if root == name:
        return True
    value = scope.sole_value(root) if root is not None else None
    if value is None:
        return False
    read = {part.value for part in walk(value) if isinstance(part, cst.Name)}
    given = {param.name.value for param in scope.parameters}
    return read & given == {name}


def _parameter(names: list[str], place: int | str) -> str:
    if isinstance(place, str):
        return place if place in names else ""
    return names[place] if place < len(names) else ""
