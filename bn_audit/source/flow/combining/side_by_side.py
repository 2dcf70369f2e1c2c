"""Lists in which the entries of all parties lie side by side: as a comprehension makes them, as they are put there by
their keys, as ``zip`` takes them from the parties' lists."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import libcst as cst

from bn_audit.source.flow.combining.averaging import Averaging
from bn_audit.source.flow.entries import entries_in, is_gradient, uses
from bn_audit.source.flow.index import FileIndex, arguments_of, setdefault_key
from bn_audit.source.flow.loops import Loop, comp_loops, conditions, depends, loop_of, loops_around, unwrapped
from bn_audit.source.nodes import dotted_name, leaf_name, walk

__all__ = ["collections_of", "gathered", "handed_in", "mapped", "transposed"]

_ENTRIES = {
    "items": "state",
    "values": "state",
    "parameters": "parameters",
    "named_parameters": "parameters",
    "buffers": "buffers",
    "named_buffers": "buffers",
}
"""Methods that give entries one by one, and which."""
_ARRAYS = frozenset(["np.array", "np.asarray", "numpy.array", "numpy.asarray"])
"""Functions that make a stack of a list, as a reducer of NumPy's does by itself."""


def transposed(index: FileIndex, given: cst.BaseExpression, node: cst.Call, how: str) -> Iterator[Averaging]:
    """``for entries in zip(*[net.parameters() for net in nets]): mean = torch.stack([one.data for one in entries])``:
    in each turn the entry of all parties that goes by one place."""
    for keys in reversed(loops_around(index, node)):
        rows = _rows(index, keys)
        if rows is None or conditions(index, node, keys):
            continue
        for element, one, apart in _of_each(index, given, node, rows.name):
            entry = next((part for part in walk(element) if _is_value(part, one, rows.pairs and not apart)), None)
            if isinstance(entry, cst.BaseExpression) and not is_gradient(index, entry):
                added, held = rows.scaled if rows.scaled is not None and element is entry else (element, entry)
                scope = index.scope_of(node)
                yield Averaging(node, how, None, added, held, rows.state, rows.what, "", keys, rows.parties, scope)


@dataclass(frozen=True, slots=True)
class _Rows:
    """What ``zip(*rows)`` puts side by side.

    Attributes:
        name: what all that is at one place is called; ``entries[1:]`` where the first is nobody's of them.
        state: the party's state; all of them, if there is no loop over the parties.
        what: see :class:`Averaging`.
        pairs: whether entries are pairs with their keys.
        parties: the loop over the parties, if it is written there.
        scaled: what is made of each entry before, and the entry in it: ``[value * n for value in weights]``.
    """

    name: str
    state: cst.BaseExpression
    what: str = "state"
    pairs: bool = False
    parties: Loop | None = None
    scaled: tuple[cst.BaseExpression, cst.BaseExpression] | None = None


def _rows(index: FileIndex, keys: Loop) -> _Rows | None:
    """``zip(*[net.parameters() for net in nets])``, ``zip(*[[value * n for value in party] for party, n in results])``,
    ``zip(*weights)``, ``zip(server.parameters(), *[...])``; the list may have a name."""
    enumerated = isinstance(keys.iter, cst.Call) and dotted_name(keys.iter.func) == "enumerate"
    over, names = unwrapped(keys.iter), keys.names[1:] if enumerated else keys.names
    if not isinstance(over, cst.Call) or dotted_name(over.func) != "zip" or not names:
        return None
    before = len(over.args) - 1
    if [arg.star for arg in over.args] != [""] * before + ["*"]:
        return None
    if keys.target is None:
        return None
    if isinstance(keys.target, cst.Name):  # ``for entries in zip(server.parameters(), *[...])``
        held = f"{names[0]}[{before}:]" if before else names[0]
    elif len(names) == before + 1 and any(isinstance(part, cst.StarredElement) for part in walk(keys.target)):
        held = names[-1]  # ``for own, *others in zip(server.parameters(), *[...])``
    else:
        return None
    given = over.args[-1].value
    if isinstance(given, cst.Name):
        named = index.scope_of(keys.node).sole_value(given.value)
        given = named if isinstance(named, (cst.ListComp, cst.GeneratorExp, cst.Name, cst.Attribute)) else given
    if isinstance(given, (cst.Name, cst.Attribute)):
        return _Rows(held, given)
    if not isinstance(given, (cst.ListComp, cst.GeneratorExp)) or given.for_in.ifs:
        return None
    loops = comp_loops(given)
    each, scaled = _each_of(given.elt)
    state = unwrapped(each)
    if len(loops) != 1 or not depends(index, state, loops[0]):
        return None
    if isinstance(state, (cst.Name, cst.Attribute, cst.Subscript)):
        return _Rows(held, state, parties=loops[0], scaled=scaled)
    if not isinstance(state, cst.Call):
        return None
    method = state.func.attr.value if isinstance(state.func, cst.Attribute) and not state.args else ""
    if method not in _ENTRIES:  # what gives a party's list: ``client.get_weights()``, ``to_arrays(net)``
        return _Rows(held, state, parties=loops[0], scaled=scaled)
    assert isinstance(state.func, cst.Attribute)
    pairs = method in ("items", "named_parameters", "named_buffers")
    owner = state.func.value if method == "items" else state
    return _Rows(held, owner, _ENTRIES[method], pairs, loops[0], None if pairs else scaled)


def _of_each(
    index: FileIndex, given: cst.BaseExpression, node: cst.Call, name: str
) -> Iterator[tuple[cst.BaseExpression, str, bool]]:
    """What is made of each of the entries that a name holds, what each is called there, and whether key and entry have
    names of their own."""
    if isinstance(given, cst.Name) and given.value == name:
        yield given, name, False
    for comp in collections_of(index, given, node):
        if not isinstance(comp, (cst.ListComp, cst.GeneratorExp)):
            continue
        for loop in comp_loops(comp):
            over = unwrapped(loop.iter)
            if isinstance(over, (cst.Name, cst.Subscript)) and index.code(over) == name:
                yield comp.elt, loop.names[-1], len(loop.names) > 1
            elif isinstance(over, cst.Call) and dotted_name(over.func) == "zip" and len(over.args) == len(loop.names):
                parts = zip(loop.names, over.args, strict=True)
                yield from ((comp.elt, one, False) for one, arg in parts if index.code(arg.value) == name)


def _is_value(node: cst.CSTNode, name: str, pairs: bool) -> bool:
    """Whether an expression is the entry that a name holds, or the second of the pair."""
    if not pairs:
        return isinstance(node, cst.Name) and node.value == name
    if not isinstance(node, cst.Subscript) or dotted_name(node.value) != name or len(node.slice) != 1:
        return False
    place = node.slice[0].slice
    return isinstance(place, cst.Index) and isinstance(place.value, cst.Integer) and place.value.value == "1"


def gathered(index: FileIndex, given: cst.BaseExpression, node: cst.Call, how: str) -> Iterator[Averaging]:
    """``for k in lists: mean = sum(lists[k]) / n``, where the entries of the parties were put in lists by their keys
    before: ``for client in clients: for k, v in client.state_dict().items(): lists[k].append(v)``."""
    listed, term = _each_of(given)
    held, own = _lists_by_key(index, listed)
    if not held or own is None or conditions(index, node, own):
        return
    scope = index.scope_of(node)
    for element, put in scope.puts.get(held, ()):
        if not isinstance(put, cst.Call) or not isinstance(put.func, cst.Attribute) or put.func.attr.value != "append":
            continue
        picked = _key_name(put.func.value) or _key_name(setdefault_key(put.func.value))
        loops = loops_around(index, put)
        for keys in reversed(loops):
            if picked not in keys.names:
                continue
            for entry, state, what, key in entries_in(index, keys, element):
                around = (loop for loop in reversed(loops) if loop is not keys)
                parties = next((loop for loop in around if depends(index, state, loop)), None)
                if parties is not None:
                    tests = conditions(index, put, keys)
                    added = element
                    if term is not None and entry is element:  # what is done to it is done where the list is gone over
                        added, entry = term
                    yield Averaging(node, how, None, added, entry, state, what, key, keys, parties, scope, tests)


def mapped(index: FileIndex, given: cst.BaseExpression, node: cst.Call, how: str) -> Iterator[Averaging]:
    """``sum(map(lambda state: state[key], states))``."""
    while isinstance(given, cst.Call) and leaf_name(given.func) in ("list", "tuple") and given.args:
        given = given.args[0].value
    if not isinstance(given, cst.Call) or dotted_name(given.func) != "map" or len(given.args) != 2:
        return
    function, states = (arg.value for arg in given.args)
    if not isinstance(function, cst.Lambda) or len(function.params.params) != 1:
        return
    held = function.params.params[0].name.value
    for keys in reversed(loops_around(index, node)):
        for entry, state, what, key in entries_in(index, keys, function.body):
            if isinstance(state, cst.Name) and state.value == held:
                scope, tests = index.scope_of(node), conditions(index, node, keys)
                yield Averaging(node, how, None, function.body, entry, states, what, key, keys, None, scope, tests)


def handed_in(index: FileIndex, given: cst.BaseExpression, node: cst.Call, how: str) -> Iterator[Averaging]:
    """``mean([state[key] for state in states])``, of a function of the file that combines what it is given. The
    combination is the call; how it is done is not told."""
    over = unwrapped(given.for_in.iter if isinstance(given, (cst.ListComp, cst.GeneratorExp)) else given)
    parts = (
        [arg.value for arg in over.args] if isinstance(over, cst.Call) and dotted_name(over.func) == "zip" else [over]
    )
    scope = index.scope_of(node)
    if not isinstance(scope.node, cst.FunctionDef) or scope.owner is not None:
        return
    for number, param in enumerate(scope.parameters):
        name = param.name.value
        if any(isinstance(part, cst.Name) and part.value == name for part in parts) and name not in scope.bindings:
            for call in index.calls_of(scope.node.name.value):
                positional, keywords, stars = arguments_of(call)
                listed = positional[number] if number < len(positional) else keywords.get(name)
                if listed is not None and isinstance(call.func, cst.Name) and not stars:
                    yield from _listed_for(index, call, listed)


def _listed_for(index: FileIndex, call: cst.Call, listed: cst.BaseExpression) -> Iterator[Averaging]:
    for comp in collections_of(index, listed, call):
        if not isinstance(comp, (cst.ListComp, cst.GeneratorExp)):
            continue
        for keys in reversed(loops_around(index, call)):
            for entry, state, what, key in entries_in(index, keys, comp.elt):
                parties = next((loop for loop in comp_loops(comp) if depends(index, state, loop)), None)
                if parties is not None:
                    scope, tests = index.scope_of(call), conditions(index, call, keys)
                    yield Averaging(call, "", None, comp.elt, entry, state, what, key, keys, parties, scope, tests)


def _each_of(
    given: cst.BaseExpression,
) -> tuple[cst.BaseExpression, tuple[cst.BaseExpression, cst.BaseExpression] | None]:
    """What a comprehension goes over, ``vs`` of ``[v.float() for v in vs]``, with what it makes of each, and the name
    that each has; anything else is gone over as it is."""
    if not isinstance(given, (cst.ListComp, cst.GeneratorExp)) or given.for_in.inner_for_in is not None:
        return given, None
    names = loop_of(given.for_in).names
    held = next(uses(given.elt, names[-1]), None) if names and not given.for_in.ifs else None
    return (given, None) if held is None else (given.for_in.iter, (given.elt, held))


def _lists_by_key(index: FileIndex, given: cst.BaseExpression) -> tuple[str, Loop | None]:
    """The dict of lists of which a loop over keys picks one: ``lists[k]``, ``v`` of ``for k, v in lists.items()``."""
    loops = loops_around(index, given)
    if isinstance(given, cst.Subscript) and isinstance(given.value, cst.Name):
        key = _key_name(given)
        return given.value.value, next((loop for loop in reversed(loops) if key in loop.names), None)
    if isinstance(given, cst.Name):
        for loop in reversed(loops):
            over = unwrapped(loop.iter)
            if loop.names[1:] == (given.value,) and isinstance(over, cst.Call) and isinstance(over.func, cst.Attribute):
                held = dotted_name(over.func.value) or ""
                return (held, loop) if over.func.attr.value == "items" else ("", None)
    return "", None


def _key_name(node: cst.CSTNode | None) -> str:
    """The variable that is, or picks, a key: ``k``, ``lists[k]``; "" for anything else."""
    if isinstance(node, cst.Subscript):
        node = node.slice[0].slice.value if isinstance(node.slice[0].slice, cst.Index) else None
    return node.value if isinstance(node, cst.Name) else ""


def _is_array(value: cst.Call, name: str) -> bool:
    """``np.array([...])``, and not of what goes by the name itself: ``values = np.array(values)``."""
    if dotted_name(value.func) not in _ARRAYS or not value.args:
        return False
    given = value.args[0].value
    return not (isinstance(given, cst.Name) and given.value == name)


def collections_of(index: FileIndex, node: cst.BaseExpression, call: cst.Call) -> Iterator[cst.CSTNode]:
    """The comprehension that makes a reducer's argument, written there or bound to the name; or what was appended."""
    if isinstance(node, (cst.ListComp, cst.GeneratorExp)):
        yield node
    elif isinstance(node, cst.Name):
        scope = index.scope_of(call)
        for row in scope.bindings.get(node.value, ()):
            if isinstance(row.value, (cst.ListComp, cst.GeneratorExp)):
                yield row.value
            elif row.how == "value" and isinstance(row.value, cst.Call) and _is_array(row.value, node.value):
                yield from collections_of(index, row.value, call)
        for value, _ in scope.puts.get(node.value, ()):
            yield value
    elif isinstance(node, cst.Call):
        leaf = (dotted_name(node.func) or "").rpartition(".")[2]
        positional, _, _ = arguments_of(node)
        if leaf in ("list", "tuple", "array", "asarray") and positional:
            yield from collections_of(index, positional[0], call)
