"""The entries of a state that an expression holds, as a loop over entries gives them: by key, by position, by value."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import libcst as cst

from bn_audit.source.flow.index import FileIndex
from bn_audit.source.flow.loops import TAKERS, Loop, loops_around, unwrapped
from bn_audit.source.nodes import children, dotted_name, leaf_name, walk

__all__ = ["entries_given", "entries_in", "is_gradient", "takes_entry", "uses"]

_FORM = frozenset(["device", "dtype", "shape", "ndim"])
"""What an entry is asked for that is nothing of it."""
_LIKE = frozenset(["to", "type_as", "view_as", "expand_as", "reshape_as"])
"""Methods whose argument gives the form alone."""


def entries_in(
    index: FileIndex, keys: Loop, added: cst.BaseExpression
) -> Iterator[tuple[cst.BaseExpression, cst.BaseExpression, str, str]]:
    """The parties' entries in what is added, as a loop over entries gives them: (entry, state, what, key). Gradients
    are none."""
    for entry, state, what, key in _entries(index, keys, added):
        if not is_gradient(index, entry):
            yield entry, state, what, key


def entries_given(
    index: FileIndex, added: cst.BaseExpression
) -> Iterator[tuple[cst.BaseExpression, cst.BaseExpression, str]]:
    """The entries in what is added whose key is given to the function: ``state[key]``, of ``def mean(key, states)``:
    (entry, state, key)."""
    scope = index.scope_of(added)
    while isinstance(scope.node, cst.Lambda) and scope.parent is not None:
        scope = scope.parent
    given = {param.name.value for param in scope.parameters if param.name.value not in scope.bindings}
    for item in _walk_expression(index, added) if given else ():
        if isinstance(item, cst.Subscript) and len(item.slice) == 1 and isinstance(item.slice[0].slice, cst.Index):
            picked = item.slice[0].slice.value
            whole = isinstance(picked, cst.Name) and picked.value in given and not _nested(index, item)
            if whole and isinstance(picked, cst.Name) and not is_gradient(index, item):
                yield item, item.value, picked.value


def is_gradient(index: FileIndex, entry: cst.CSTNode) -> bool:
    """Whether it is an entry's gradient that is taken: ``param.grad``."""
    above = index.parent(entry)
    return isinstance(above, cst.Attribute) and above.value is entry and above.attr.value == "grad"


def _entries(
    index: FileIndex, keys: Loop, added: cst.BaseExpression
) -> Iterator[tuple[cst.BaseExpression, cst.BaseExpression, str, str]]:
    over = unwrapped(keys.iter)
    method = over.func.attr.value if isinstance(over, cst.Call) and isinstance(over.func, cst.Attribute) else ""
    enumerated = isinstance(keys.iter, cst.Call) and dotted_name(keys.iter.func) == "enumerate"
    names = keys.names[1:] if enumerated and len(keys.names) > 1 else keys.names
    # ``for k, v in state.items()``: the value is the entry.
    if method in ("items", "named_parameters", "named_buffers") and len(names) == 2 and isinstance(over, cst.Call):
        assert isinstance(over.func, cst.Attribute)
        what = {"items": "state", "named_buffers": "buffers"}.get(method, "parameters")
        state = over.func.value if method == "items" else over
        for node in uses(added, names[1]):
            yield node, state, what, names[0]
    if method in ("parameters", "values", "buffers") and len(names) == 1 and isinstance(over, cst.Call):
        what = "state" if method == "values" else method
        for node in uses(added, names[0]):
            yield node, over, what, ""
    # ``for i, value in enumerate(weights)``: a list of the entries.
    if enumerated and len(names) == 1 and isinstance(over, (cst.Name, cst.Attribute, cst.Subscript)):
        for node in uses(added, names[0]):
            yield node, over, "state", ""
    if isinstance(over, cst.Call) and dotted_name(over.func) == "zip":
        parts = [arg.value for arg in over.args]
        for name, part in zip(names, parts, strict=False):
            inner = unwrapped(part)
            leaf = (
                inner.func.attr.value if isinstance(inner, cst.Call) and isinstance(inner.func, cst.Attribute) else ""
            )
            what = leaf if leaf in ("parameters", "buffers") else "state"
            if leaf in ("parameters", "values", "buffers") or not leaf:
                for node in uses(added, name):
                    yield node, part, what, ""
    # ``state[key]``: the key is any name the loop binds, the place of an entry among them.
    for item in _walk_expression(index, added):
        if isinstance(item, cst.Subscript) and len(item.slice) == 1 and isinstance(item.slice[0].slice, cst.Index):
            picked = item.slice[0].slice.value
            if isinstance(picked, cst.Name) and picked.value in keys.names and not _nested(index, item):
                yield item, item.value, "state", picked.value


def _nested(index: FileIndex, entry: cst.Subscript) -> bool:
    """Whether an entry is a container itself, or lies in one that a loop over keys picks: no state dict is so deep."""
    above = index.parent(entry)
    if isinstance(above, cst.Subscript) and above.value is entry and isinstance(above.slice[0].slice, cst.Index):
        return isinstance(above.slice[0].slice.value, (cst.SimpleString, cst.Integer))
    inner = entry.value
    if not isinstance(inner, cst.Subscript) or not isinstance(inner.slice[0].slice, cst.Index):
        return False
    picked = inner.slice[0].slice.value
    loop = next(
        (one for one in loops_around(index, entry) if isinstance(picked, cst.Name) and picked.value in one.names), None
    )
    over = unwrapped(loop.iter) if loop is not None else None
    return (
        isinstance(over, cst.Call)
        and isinstance(over.func, cst.Attribute)
        and over.func.attr.value in ("keys", "items", "state_dict")
    )


def uses(node: cst.BaseExpression, name: str) -> Iterator[cst.BaseExpression]:
    for part in walk(node):
        if isinstance(part, cst.Name) and part.value == name:
            yield part
            return


def _walk_expression(index: FileIndex, node: cst.CSTNode, seen: frozenset[str] = frozenset()) -> Iterator[cst.CSTNode]:
    """The parts of an expression, and of what its local names were last bound to."""
    for part in walk(node):
        yield part
        if isinstance(part, cst.Name) and part.value not in seen and len(seen) < 4:
            above = index.parent(part)
            if isinstance(above, cst.Attribute) and above.attr is part:
                continue
            scope = index.scope_of(part)
            rows = [row for row in scope.bindings.get(part.value, ()) if row.how == "value" and row.value is not None]
            if len(rows) == 1 and rows[0].value is not None and not rows[0].path and rows[0].blocks:
                yield from _walk_expression(index, rows[0].value, seen | {part.value})


@dataclass(frozen=True, slots=True)
class _InHand:
    """What a loop over a state has in hand: the entry's name, or the code that picks it, and the name of the key."""

    held: str | None
    own: str | None
    key: str

    def is_own(self, index: FileIndex, node: cst.CSTNode) -> bool:
        return isinstance(node, cst.Subscript) and self.own is not None and index.code(node) == self.own

    def asked_for(self, index: FileIndex, node: cst.CSTNode) -> bool:
        """Whether the key is used for something else than the entry."""
        if self.is_own(index, node):
            return False
        if isinstance(node, cst.Name):
            return node.value == self.key
        return any(self.asked_for(index, part) for part in children(node))


def takes_entry(index: FileIndex, value: cst.CSTNode, loop: Loop) -> bool:
    """Whether a value is certainly made of the entry that a loop over a state has in hand, and not only in its form or
    by its key: ``(entry / scale).round()``, but not ``other[key].to(entry.device)`` or ``other.get(key, entry)``."""
    over = unwrapped(loop.iter)
    if isinstance(over, cst.Call) and isinstance(over.func, cst.Attribute) and not over.args:
        if over.func.attr.value in ("items", "named_parameters") and len(loop.names) > 1:
            return _takes(index, value, _InHand(loop.names[-1], None, loop.names[0]))
        if over.func.attr.value == "keys":
            over = over.func.value
    key = loop.names[-1]
    return _takes(index, value, _InHand(None, f"{index.code(over)}[{key}]", key))


def _takes(index: FileIndex, node: cst.CSTNode, hand: _InHand, seen: frozenset[str] = frozenset()) -> bool:
    if hand.is_own(index, node):
        return True
    if isinstance(node, cst.Name):
        if node.value == hand.held:
            return True
        found = index.scope_of(node).sole_value(node.value) if node.value not in seen else None
        return found is not None and _takes(index, found, hand, seen | {node.value})
    if isinstance(node, cst.Attribute):
        return node.attr.value not in _FORM and _takes(index, node.value, hand, seen)
    if isinstance(node, cst.Subscript):
        return _takes(index, node.value, hand, seen)
    if isinstance(node, cst.IfExp):
        return all(_takes(index, part, hand, seen) for part in (node.body, node.orelse))
    if isinstance(node, cst.BooleanOperation):
        return all(_takes(index, part, hand, seen) for part in (node.left, node.right))
    if isinstance(node, cst.Call):
        leaf = leaf_name(node.func)
        if isinstance(node.func, cst.Attribute) and leaf not in TAKERS and _takes(index, node.func.value, hand, seen):
            return leaf not in ("size", "dim")
        if leaf in _LIKE or leaf.endswith("_like") or any(hand.asked_for(index, arg.value) for arg in node.args):
            return False
        return any(_takes(index, arg.value, hand, seen) for arg in node.args)
    return any(_takes(index, part, hand, seen) for part in children(node))
