"""Sums that grow in a loop: ``total[key] += state[key] * weight``, ``total[key] = total[key] + ...``, ``add_``."""

from __future__ import annotations

import re
from collections.abc import Iterator

import libcst as cst

from bn_audit.source.flow.combining.averaging import Averaging
from bn_audit.source.flow.combining.vectors import vectors
from bn_audit.source.flow.entries import entries_given, entries_in
from bn_audit.source.flow.index import FileIndex, Scope, arguments_of
from bn_audit.source.flow.loops import Loop, conditions, depends, loop_of, loops_around, unwrapped
from bn_audit.source.nodes import dotted_name, leaf_name, reads, root_name, walk

__all__ = ["accumulated", "added_to", "bare", "begins_anew", "is_begun", "made_anew", "mixed_in_place", "mixed_into"]

_CONVERTED = frozenset(["float", "double", "to", "cpu", "detach", "clone"])
_MAX_NAMES = 4
"""Names that are bound to one another which are followed."""
_HANDS_OUT = re.compile(r"_?(copy|load|set)_(\w+_)*(params|parameters|weights|state|state_dict)$")
"""What functions are called that put a state into the model that they are given first."""


def accumulated(
    index: FileIndex,
    node: cst.CSTNode,
    slot: cst.BaseExpression,
    added: cst.BaseExpression,
    how: str,
    adding: cst.CSTNode | None = None,
    weights: tuple[cst.BaseExpression, ...] = (),
) -> Iterator[Averaging]:
    """What is added to a sum in a loop; ``adding`` is the statement that does, if it is not the node itself. Where both
    are weighed, a mean that is kept up to date, the ``weights`` have to count the parties: a constant one makes a mean
    over time."""
    loops = loops_around(index, node)
    scope = index.scope_of(node)
    for keys in reversed(loops):
        for entry, state, what, key in entries_in(index, keys, added):
            around = [loop for loop in reversed(loops) if loop is not keys]
            own = frozenset(keys.names)  # which entry it is says nothing of whose
            parties = next((loop for loop in around if depends(index, state, loop, own)), None)
            if parties is not None and depends(index, slot, parties, own, adding or node):
                continue
            turns = parties is None and root_name(slot) != root_name(state)
            if turns:
                anew = (loop for loop in around if begins_anew(index, loop, state))
                parties = next((loop for loop in anew if not depends(index, slot, loop, own)), None)
            if weights and (parties is None or not any(_counts(index, weight, parties) for weight in weights)):
                continue
            if parties is None and (not _handed_in(index, slot, state, scope, keys) or _fades(index, node, slot, keys)):
                continue
            sum_of = root_name(slot)
            tests = tuple(
                row
                for row in conditions(index, node, keys)
                if not is_begun(row[0], key, sum_of)
                and not (row[1] and _is_held(index, row[0], key, state))
                and (key or depends(index, row[0], keys))  # ``if i == first: ... else: ...`` is said of the party
            )
            yield Averaging(
                node,
                how,
                slot,
                added,
                entry,
                state,
                what,
                key,
                keys,
                parties,
                scope,
                tests,
                turns=turns and parties is not None,
                weights=weights,
            )
            return
    for entry, state, key in entries_given(index, added):
        over = next((loop for loop in reversed(loops) if depends(index, state, loop)), None)
        if over is not None and not weights and not depends(index, slot, over, frozenset(), adding or node):
            tests = conditions(index, node, None)
            yield Averaging(node, how, slot, added, entry, state, "state", key, None, over, scope, tests)
            return
    if not weights:
        yield from vectors(index, node, slot, added, how, loops)


def _counts(index: FileIndex, weight: cst.BaseExpression, parties: Loop) -> bool:
    """Whether a weight counts the parties so far: ``i / (i + 1)``, ``n / total`` where ``total += n`` stands in the
    loop."""
    body = parties.body
    for part in walk(weight):
        if not isinstance(part, cst.Name):
            continue
        rows = index.scope_of(part).bindings.get(part.value, ())
        if part.value in parties.names or any(row.how == "part" and id(body) in row.blocks for row in rows):
            return True
        value = index.scope_of(part).sole_value(part.value)
        if value is not None and not reads(value, part.value) and _counts(index, value, parties):
            return True
    return False


def made_anew(index: FileIndex, comp: cst.DictComp | cst.ListComp, element: cst.BaseExpression) -> Iterator[Averaging]:
    """``total = {key: total[key] + state[key] for key in total}``, ``total.update({...})``: a sum that is made anew
    with each party."""
    statement = index.statement_of(comp)
    above = index.parent(comp)
    call = index.parent(above) if isinstance(above, cst.Arg) else None
    held: cst.BaseExpression | None = None
    if isinstance(call, cst.Call) and isinstance(call.func, cst.Attribute) and call.func.attr.value == "update":
        held = call.func.value
    elif isinstance(statement, cst.Assign) and len(statement.targets) == 1:
        # As it is, or made a dict of another kind: ``total = OrderedDict({...})``.
        direct = call if isinstance(call, cst.Call) and len(call.args) == 1 else comp
        held = statement.targets[0].target if statement.value is direct else None
    if not isinstance(held, (cst.Name, cst.Attribute)):
        return
    own, loop = index.code(held), loop_of(comp.for_in)
    for side, other in _sides(element):
        if _is_held_by(index, side, own, loop):
            if reads(other, root_name(side)):
                return  # ``old + rate * (new - old)`` may be an average over time
            yield from accumulated(index, element, held, other, "", adding=statement)
            return


def _sides(element: cst.BaseExpression) -> Iterator[tuple[cst.BaseExpression, cst.BaseExpression]]:
    """The first and the last of what is added up, each with the other."""
    if isinstance(element, cst.BinaryOperation) and isinstance(element.operator, cst.Add):
        last = element.right
        while isinstance(element, cst.BinaryOperation) and isinstance(element.operator, cst.Add):
            yield element.left, last
            yield element.right, element.left
            element = element.left


def _is_held_by(index: FileIndex, node: cst.BaseExpression, own: str, loop: Loop) -> bool:
    """Whether an expression is the entry of a sum that a loop over keys has in hand: ``total[key]``,
    ``total.get(key, 0)``, ``entry`` of ``for key, entry in total.items()``."""
    if isinstance(node, cst.Subscript) and len(node.slice) == 1 and isinstance(node.slice[0].slice, cst.Index):
        picked: cst.BaseExpression = node.slice[0].slice.value
        return dotted_name(picked) in loop.names and index.code(node.value) == own
    if isinstance(node, cst.Call) and isinstance(node.func, cst.Attribute) and node.args:
        picked = node.args[0].value
        got = node.func.attr.value == "get" and dotted_name(picked) in loop.names
        return got and index.code(node.func.value) == own
    over = unwrapped(loop.iter)
    if not isinstance(node, cst.Name) or not isinstance(over, cst.Call):
        return False
    if isinstance(over.func, cst.Attribute) and over.func.attr.value == "items":
        return loop.names[1:] == (node.value,) and index.code(over.func.value) == own
    if dotted_name(over.func) == "zip" and node.value in loop.names:
        number = loop.names.index(node.value)
        return number < len(over.args) and index.code(over.args[number].value) == own
    return False


def begins_anew(index: FileIndex, loop: Loop, state: cst.BaseExpression) -> bool:
    """Whether a model takes a state in each turn of a loop: ``for i in chosen: net.load_state_dict(shared); ...``."""
    name = root_name(state)
    if loop.body is None or name is None:
        return False
    known = index.anew.get((id(loop.node), name))
    if known is None:
        known = index.anew[id(loop.node), name] = any(_takes_state(part, name) for part in walk(loop.body))
    return known


def _takes_state(node: cst.CSTNode, name: str) -> bool:
    """``net.load_state_dict(shared)``, ``net.copy_params(server.state_dict())``, ``copy_params(net, shared)``."""
    if not isinstance(node, cst.Call) or not node.args:
        return False
    if isinstance(node.func, cst.Name):
        return len(node.args) > 1 and _HANDS_OUT.match(node.func.value) is not None and _is_first(node, name)
    if not isinstance(node.func, cst.Attribute):
        return False
    if root_name(node.func.value) != name:
        return False
    given = node.args[0].value
    return node.func.attr.value == "load_state_dict" or (
        isinstance(given, cst.Call)
        and isinstance(given.func, cst.Attribute)
        and given.func.attr.value == "state_dict"
        and root_name(given) != name
    )


def _is_first(node: cst.Call, name: str) -> bool:
    given = node.args[0]
    return given.keyword is None and isinstance(given.value, cst.Name) and given.value.value == name


def is_begun(test: cst.BaseExpression, key: str, slot: str | None) -> bool:
    """``if key in total``: whether there is a sum already says nothing of which entries there are."""
    if not isinstance(test, cst.Comparison) or len(test.comparisons) != 1 or not key:
        return False
    operator, right = test.comparisons[0].operator, test.comparisons[0].comparator
    if isinstance(right, cst.Call) and isinstance(right.func, cst.Attribute) and right.func.attr.value == "keys":
        right = right.func.value
    return (
        isinstance(operator, (cst.In, cst.NotIn))
        and dotted_name(test.left) == key
        and slot is not None
        and root_name(right) == slot
    )


def _is_held(index: FileIndex, test: cst.BaseExpression, key: str, state: cst.BaseExpression) -> bool:
    """``if key in state``, for the party's own: that there is an entry to add says nothing of which entries there
    are."""
    if not isinstance(test, cst.Comparison) or len(test.comparisons) != 1 or dotted_name(test.left) != key or not key:
        return False
    right = test.comparisons[0].comparator
    if isinstance(right, cst.Call) and isinstance(right.func, cst.Attribute) and right.func.attr.value == "keys":
        right = right.func.value
    return isinstance(test.comparisons[0].operator, cst.In) and index.code(right) == index.code(state)


def _handed_in(index: FileIndex, slot: cst.BaseExpression, state: cst.BaseExpression, scope: Scope, keys: Loop) -> bool:
    """Whether a function adds one party's state, a parameter of it, to something that outlives the call."""
    own = {param.name.value for param in scope.parameters}
    receiver = scope.parameters[0].name.value if scope.owner is not None and scope.parameters else ""
    given = {root for root in _roots(index, state) if root in own and root != receiver}
    if not given:
        return False
    kept = root_name(slot)
    if kept in keys.names:
        # ``for s, c in zip(server.parameters(), client.parameters())``: what the sum's name stands for.
        over = unwrapped(keys.iter)
        if isinstance(over, cst.Call) and dotted_name(over.func) == "zip":
            number = keys.names.index(kept)
            kept = root_name(over.args[number].value) if number < len(over.args) else None
    return kept is not None and kept not in given and (kept in own or kept in scope.shared or kept == receiver)


def _fades(index: FileIndex, node: cst.CSTNode, slot: cst.BaseExpression, keys: Loop) -> bool:
    """Whether what is added to is made smaller in the same turn: an average over time of the one that is handed in."""
    if any(isinstance(part, cst.Call) and leaf_name(part.func) == "mul_" for part in walk(slot)):
        return True
    own = index.code(slot)
    for part in walk(keys.body) if keys.body is not None else ():
        scaled: cst.BaseExpression | None = None
        if isinstance(part, cst.AugAssign) and isinstance(part.operator, cst.MultiplyAssign) and part is not node:
            scaled = part.target
        elif isinstance(part, cst.Call) and isinstance(part.func, cst.Attribute) and part.func.attr.value == "mul_":
            scaled = part.func.value
        if scaled is not None and index.code(bare(scaled)) == own:
            return True
    return False


def _roots(index: FileIndex, node: cst.CSTNode, depth: int = 0) -> set[str]:
    """The names that an expression reads, and those that its local variables were made of: ``net`` of
    ``state = net.state_dict()``."""
    found = {
        part.value
        for part in walk(node)
        if isinstance(part, cst.Name)
        and not (isinstance(above := index.parent(part), cst.Attribute) and above.attr is part)
    }
    for name in tuple(found) if depth < _MAX_NAMES else ():
        value = index.scope_of(node).sole_value(name)
        if value is not None and not reads(value, name):
            found |= _roots(index, value, depth + 1)
    return found


def added_to(index: FileIndex, target: cst.BaseExpression, value: cst.BaseExpression) -> cst.BaseExpression | None:
    """What ``x = x + v`` (or ``torch.add(x, v)``, ``x.add(v)``) adds to x."""
    own = index.code(target)
    if isinstance(value, cst.BinaryOperation) and isinstance(value.operator, cst.Add):
        last = value.right
        while isinstance(value, cst.BinaryOperation) and isinstance(value.operator, cst.Add):
            for side, other in ((value.left, value.right), (value.right, value.left)):
                if _was_held(index, target, own, side):
                    return other if last is value.right else last  # the last one of ``x = x + a + b``
            value = value.left
        return None
    if isinstance(value, cst.Call) and (dotted_name(value.func) or "") in ("torch.add", "np.add", "numpy.add"):
        positional, _, _ = arguments_of(value)
        if len(positional) > 1 and index.code(positional[0]) == own:
            return positional[1]
    elif isinstance(value, cst.Call) and isinstance(value.func, cst.Attribute) and value.func.attr.value == "add":
        return value.args[0].value if value.args and index.code(value.func.value) == own else None
    return None


def mixed_into(
    index: FileIndex, target: cst.BaseExpression, value: cst.BaseExpression
) -> tuple[cst.BaseExpression, tuple[cst.BaseExpression, ...]] | None:
    """What ``x = (x * c + v) / (c + 1)`` (or ``torch.lerp(x, v, c)``) mixes into x, and the weights: of a mean that is
    kept up to date."""
    while isinstance(value, cst.BinaryOperation) and isinstance(value.operator, cst.Divide):
        value = value.left
    if isinstance(value, cst.Call):
        positional, keywords, _ = arguments_of(value)
        leaf = leaf_name(value.func)
        if leaf in ("div", "divide", "true_divide") and positional:
            method = isinstance(value.func, cst.Attribute) and root_name(value.func) not in ("torch", "np", "numpy")
            held = value.func.value if method and isinstance(value.func, cst.Attribute) else positional[0]
            return mixed_into(index, target, held)
        if leaf == "lerp" and isinstance(value.func, cst.Attribute):
            given = positional if root_name(value.func) == "torch" else [value.func.value, *positional]
            weight = given[2] if len(given) > 2 else keywords.get("weight")
            if weight is not None and _was_held(index, target, index.code(target), _as_it_is(given[0])):
                return given[1], (weight,)
        return None
    if not isinstance(value, cst.BinaryOperation) or not isinstance(value.operator, cst.Add):
        return None
    own = index.code(target)
    for side, other in ((value.left, value.right), (value.right, value.left)):
        if isinstance(side, cst.BinaryOperation) and isinstance(side.operator, cst.Multiply):
            for held, weight in ((side.left, side.right), (side.right, side.left)):
                if _was_held(index, target, own, _as_it_is(held)):
                    return other, (weight,)
    return None


def mixed_in_place(
    call: cst.Call,
) -> tuple[cst.BaseExpression, cst.BaseExpression, tuple[cst.BaseExpression, ...]] | None:
    """``x.lerp_(v, c)``, ``x.mul_(c).add_(v)``: x, what is mixed into it, and the weights."""
    if not isinstance(call.func, cst.Attribute) or not call.args:
        return None
    positional, keywords, _ = arguments_of(call)
    held = call.func.value
    if call.func.attr.value == "lerp_":
        weight = positional[1] if len(positional) > 1 else keywords.get("weight")
        return (bare(held), positional[0], (weight,)) if positional and weight is not None else None
    scaled = isinstance(held, cst.Call) and leaf_name(held.func) == "mul_" and held.args and positional
    if scaled and isinstance(held, cst.Call) and isinstance(held.func, cst.Attribute):
        return bare(held.func.value), positional[0], (held.args[0].value,)
    return None


def _as_it_is(node: cst.BaseExpression) -> cst.BaseExpression:
    """An entry that is converted on the way: ``x.float()``."""
    while isinstance(node, cst.Call) and isinstance(node.func, cst.Attribute) and leaf_name(node.func) in _CONVERTED:
        node = node.func.value
    return node


def _was_held(index: FileIndex, target: cst.BaseExpression, own: str, value: cst.BaseExpression) -> bool:
    """Whether an expression is what a target held before; its code is the other's."""
    same = type(value) is type(target) and index.code(value) == own  # the code of a long sum is as long, term by term
    return same or _got(index, target, value) or _in_hand(index, target, value)


def _got(index: FileIndex, target: cst.BaseExpression, value: cst.BaseExpression) -> bool:
    """``total.get(key, 0)``, for ``total[key]``."""
    if not isinstance(target, cst.Subscript) or not isinstance(value, cst.Call) or not value.args:
        return False
    func, place = value.func, target.slice[0].slice
    return (
        isinstance(func, cst.Attribute)
        and func.attr.value == "get"
        and isinstance(place, cst.Index)
        and index.code(func.value) == index.code(target.value)
        and index.code(value.args[0].value) == index.code(place.value)
    )


def _in_hand(index: FileIndex, target: cst.BaseExpression, value: cst.BaseExpression) -> bool:
    """``entry``, for ``total[key]`` in ``for key, entry in total.items()``."""
    if not isinstance(value, cst.Name) or not isinstance(target, cst.Subscript) or len(target.slice) != 1:
        return False
    picked = target.slice[0].slice
    if not isinstance(picked, cst.Index) or not isinstance(picked.value, cst.Name):
        return False
    loop = next((row for row in loops_around(index, value)[::-1] if value.value in row.names), None)
    over = loop.iter if loop is not None else None
    return (
        loop is not None
        and loop.names == (picked.value.value, value.value)
        and isinstance(over, cst.Call)
        and isinstance(over.func, cst.Attribute)
        and over.func.attr.value == "items"
        and index.code(over.func.value) == index.code(target.value)
        and len(index.scope_of(value).bindings.get(value.value, ())) == 1
    )


def bare(node: cst.BaseExpression) -> cst.BaseExpression:
    while isinstance(node, cst.Attribute) and node.attr.value == "data":
        node = node.value
    return node
