"""Where the states of several parties become one: loops and comprehensions that add up the same entry of each.

What is looked for is a shape, whatever the names: an expression goes over entries (by key, by position, or as
parameters) *and* over parties, and what it adds is the entry of the party in hand, to something that is not the
party's own. Both loops may stand in either order, be comprehensions, or lie behind names bound inside them. An
exponential average over time has no loop over parties, and noise that is added to each party's state goes to the
party's own.

Whether these are states of models at all, and whose, is for the follower to find out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import libcst as cst

from bn_audit.source.flow.index import Binding, FileIndex, Piece, Scope, arguments_of, setdefault_key
from bn_audit.source.nodes import children, dotted_name, leaf_name, root_name, walk

__all__ = [
    "Averaging",
    "Loop",
    "by_position",
    "conditions",
    "depends",
    "find_averaging",
    "is_begun",
    "loops_around",
    "takes_entry",
]

_WRAPPERS = frozenset(["list", "tuple", "enumerate", "sorted", "tqdm", "tqdm.tqdm", "reversed"])
_REDUCERS = {
    "sum": "sum",
    "reduce": "sum",
    "stack": "stack",
    "cat": "stack",
    "average": "numpy",
    "mean": "numpy",
    "median": "numpy",
}
_VECTORS = re.compile(r"to_vec|flat|\bvec|concat|\bcat\(|hstack|\bravel\b|serializ")
"""Words of which a file has one that averages vectors of a model's entries."""
_PROCESSES = ("all_reduce", "reduce")
"""Functions of torch.distributed that make a sum over the processes of a tensor."""
_TAKERS = frozenset(["get", "get_nowait", "pop", "popleft", "recv", "recv_pyobj"])
_HANDS_OUT = re.compile(r"_?(copy|load|set)_(\w+_)*(params|parameters|weights|state|state_dict)$")
"""What functions are called that put a state into the model that they are given first."""
_SAME = frozenset(["detach", "clone", "cpu", "cuda", "to", "contiguous", "float", "double", "half"])
_ZEROS = frozenset(["zero_", "fill_", "zeros_like"])
_FORM = frozenset(["device", "dtype", "shape", "ndim"])
"""What an entry is asked for that is nothing of it."""
_LIKE = frozenset(["to", "type_as", "view_as", "expand_as", "reshape_as"])
"""Methods whose argument gives the form alone."""
_MAX_LOOPS = 6


@dataclass(frozen=True, slots=True)
class Loop:
    """A ``for``, of a statement or a comprehension: the names it binds, what it goes over, where."""

    node: cst.For | cst.CompFor
    names: tuple[str, ...]
    iter: cst.BaseExpression


@dataclass(frozen=True, slots=True, eq=False)
class Averaging:
    """One combination of the parties' entries.

    Attributes:
        node: what a finding points at: the statement or call that combines.
        how: ``+=``, ``+`` (``x = x + v``), ``add_``, ``sum``, ``stack``, ``numpy``; ``all_reduce`` over the processes
            of torch.distributed, each of which is a party.
        slot: what receives the sum; None for a reducing call.
        added: the expression that is added, with the party's entry in it.
        entry: the party's entry itself (``w[i][key]``, ``param.data``).
        state: the party's state or model (``w[i]``, the iterable of ``parameters()``).
        what: ``state`` (all entries, or what a filter leaves), ``parameters`` (only what ``parameters()`` gives),
            ``buffers`` (what ``buffers()`` gives).
        key: the name that holds the key; "" where entries are gone over by position.
        keys, parties: the two loops; parties None where each call of the function adds one party's state. A vector has
            no loop over entries.
        tests: conditions on the way, with whether they must hold.
        vector: what may be a vector of all entries of a party; empty where entries are combined one by one.
        turns: whether one model plays all parties in turn: it takes the shared state again for each of them.
        apart: whether the parties are written out one by one, each with a name of its own; the state is the list of
            theirs then.
    """

    node: cst.CSTNode
    how: str
    slot: cst.BaseExpression | None
    added: cst.BaseExpression
    entry: cst.BaseExpression
    state: cst.BaseExpression
    what: str
    key: str
    keys: Loop | None
    parties: Loop | None
    scope: Scope = field(repr=False)
    tests: tuple[tuple[cst.BaseExpression, bool], ...] = ()
    vector: tuple[cst.BaseExpression, ...] = ()
    turns: bool = False
    apart: bool = False


def by_position(averaging: Averaging) -> bool:
    """Whether entries are picked by their place in a list, ``for k in range(len(weights))``."""
    over = averaging.keys.iter if averaging.keys is not None else None
    return isinstance(over, cst.Call) and dotted_name(over.func) == "range"


def find_averaging(index: FileIndex, piece: Piece) -> list[Averaging]:
    """All combinations in a part of a file, in the order of the source."""
    found = list(_candidates(index, piece))
    return sorted(found, key=lambda row: index.order(row.node))


def _candidates(index: FileIndex, piece: Piece) -> Iterator[Averaging]:
    for node in piece.assignments:
        if isinstance(node, cst.AugAssign):
            if isinstance(node.operator, cst.AddAssign) and _looped(index, node):
                yield from _accumulated(index, node, node.target, node.value, "+=")
        elif len(node.targets) == 1:
            target = node.targets[0].target
            for value in _branches(node.value):
                added = _added_to(index, target, value) if _adds(value) and _looped(index, node) else None
                if added is not None:
                    yield from _accumulated(index, node, target, added, "+")
                elif isinstance(value, cst.BinaryOperation) and _looped(index, node):
                    yield from _written_out(index, value)
    for comp in piece.comprehensions:
        element = comp.value if isinstance(comp, cst.DictComp) else comp.elt
        if isinstance(element, cst.BinaryOperation):
            yield from _written_out(index, element)
    for call in piece.calls.get("add_", ()):
        if isinstance(call.func, cst.Attribute) and call.args and _looped(index, call):
            yield from _accumulated(index, call, _bare(call.func.value), call.args[0].value, "add_")
    for name in _REDUCERS:
        for call in piece.calls.get(name, ()):
            yield from _reduced(index, call)
    for name in _PROCESSES:
        for call in piece.calls.get(name, ()):
            yield from _over_processes(index, call)


def _branches(value: cst.BaseExpression) -> tuple[cst.BaseExpression, ...]:
    """``x if first else total[key] + x``: what it may be."""
    return (value.body, value.orelse) if isinstance(value, cst.IfExp) else (value,)


def _looped(index: FileIndex, node: cst.CSTNode) -> bool:
    """Whether a node stands in a loop of its scope."""
    for above in index.above(node):
        if isinstance(above, (cst.For, cst.BaseComp)):
            return True
        if isinstance(above, (cst.FunctionDef, cst.Lambda, cst.ClassDef)):
            return False
    return False


def _adds(value: cst.BaseExpression) -> bool:
    """Whether an expression may be a sum: the cheapest question first."""
    if isinstance(value, cst.BinaryOperation):
        return isinstance(value.operator, cst.Add)
    return isinstance(value, cst.Call) and (dotted_name(value.func) or "").endswith("add")


def _accumulated(
    index: FileIndex, node: cst.CSTNode, slot: cst.BaseExpression, added: cst.BaseExpression, how: str
) -> Iterator[Averaging]:
    loops = loops_around(index, node)
    scope = index.scope_of(node)
    for keys in reversed(loops):
        for entry, state, what, key in _entry(index, keys, added):
            around = [loop for loop in reversed(loops) if loop is not keys]
            own = frozenset(keys.names)  # which entry it is says nothing of whose
            parties = next((loop for loop in around if depends(index, state, loop, own)), None)
            if parties is not None and depends(index, slot, parties, own, node):
                continue
            turns = parties is None and root_name(slot) != root_name(state)
            if turns:
                anew = (loop for loop in around if _begins_anew(index, loop, state))
                parties = next((loop for loop in anew if not depends(index, slot, loop, own)), None)
            if parties is None and (not _handed_in(index, slot, state, scope, keys) or _fades(index, node, slot, keys)):
                continue
            sum_of = root_name(slot)
            tests = tuple(
                row
                for row in conditions(index, node, keys)
                if not is_begun(row[0], key, sum_of) and not (row[1] and _is_held(index, row[0], key, state))
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
            )
            return
    yield from _vectors(index, node, slot, added, how, loops)


def _begins_anew(index: FileIndex, loop: Loop, state: cst.BaseExpression) -> bool:
    """Whether a model takes a state in each turn of a loop: ``for i in chosen: net.load_state_dict(shared); ...``."""
    name = root_name(state)
    if not isinstance(loop.node, cst.For) or name is None:
        return False
    known = index.anew.get((id(loop.node), name))
    if known is None:
        known = index.anew[id(loop.node), name] = any(_takes_state(part, name) for part in walk(loop.node.body))
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


def _vectors(
    index: FileIndex,
    node: cst.CSTNode,
    slot: cst.BaseExpression | None,
    added: cst.BaseExpression,
    how: str,
    loops: Sequence[Loop],
) -> Iterator[Averaging]:
    """``total += flattened(client) * weight``, and the same in what is reduced: whether these are vectors of models'
    entries is for the follower to find out."""
    if not index.mentions(_VECTORS):
        return
    for parties in reversed(loops):
        terms = tuple(part for part in _terms(index, added) if depends(index, part, parties))
        if terms and (slot is None or not depends(index, slot, parties)):
            scope = index.scope_of(node)
            yield Averaging(node, how, slot, added, added, added, "state", "", None, parties, scope, vector=terms)
            return


def _written_out(index: FileIndex, value: cst.BinaryOperation) -> Iterator[Averaging]:
    """``(one[key] + other[key]) / 2``, ``0.5 * one[key] + 0.5 * other[key]``: of parties that have names of their own.
    With other weights it may be an average over time, unless it is divided by the sum of them."""
    divisor = value.right if isinstance(value.operator, (cst.Divide, cst.Multiply)) else None
    node = value if divisor is None else value.left
    terms = list(_summands(node))
    if isinstance(node, cst.BinaryOperation) and len(terms) > 1 and _is_mean(index, terms, value, divisor):
        yield from _one_by_one(index, node, terms, "sum")


def _one_by_one(
    index: FileIndex, node: cst.BaseExpression, terms: Sequence[cst.BaseExpression], how: str
) -> Iterator[Averaging]:
    """What is combined of entries of the same key, each of a state of its own."""
    for keys in reversed(loops_around(index, node)):
        rows = [next(_entry(index, keys, term), None) for term in terms]
        found = [row for row in rows if row is not None]
        states = [index.code(state) for _, state, _, _ in found]
        if len(found) == len(terms) == len(set(states)) and len({(what, key) for _, _, what, key in found}) == 1:
            entry, _, what, key = found[0]
            every = cst.List([cst.Element(state) for _, state, _, _ in found])
            scope, tests = index.scope_of(node), conditions(index, node, keys)
            yield Averaging(node, how, None, terms[0], entry, every, what, key, keys, None, scope, tests, apart=True)
            return


def _summands(node: cst.BaseExpression) -> Iterator[cst.BaseExpression]:
    if isinstance(node, cst.BinaryOperation) and isinstance(node.operator, cst.Add):
        yield from _summands(node.left)
        yield from _summands(node.right)
    else:
        yield node


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


def _terms(index: FileIndex, node: cst.BaseExpression) -> Iterator[cst.BaseExpression]:
    """What is multiplied, divided, added or subtracted in an expression."""
    if isinstance(node, cst.BinaryOperation):
        if isinstance(node.operator, (cst.Add, cst.Subtract, cst.Multiply, cst.Divide)):
            yield from _terms(index, node.left)
            yield from _terms(index, node.right)
    elif isinstance(node, (cst.Name, cst.Attribute, cst.Subscript, cst.Call)):
        yield node


def _over_processes(index: FileIndex, node: cst.Call) -> Iterator[Averaging]:
    """``dist.all_reduce(param.data)``: every process hands in an entry of its own model, and gets the sum."""
    positional, keywords, _ = arguments_of(node)
    given = positional[0] if positional else keywords.get("tensor")
    operation = (dotted_name(keywords["op"]) or "").rpartition(".")[2] if "op" in keywords else "SUM"
    if not isinstance(node.func, (cst.Attribute, cst.Name)) or given is None or operation not in ("SUM", "AVG"):
        return
    scope = index.scope_of(node)
    inner = _plain(index, given)
    for keys in reversed(loops_around(index, node)):
        for entry, state, what, key in _entry(index, keys, inner):
            if entry is inner:
                if _is_broadcast(index, keys):
                    return
                tests = conditions(index, node, keys)
                yield Averaging(
                    node, "all_reduce", given, inner, entry, state, what, key, keys, None, scope, tests
                )  # fmt: skip
                return
    if index.mentions(_VECTORS) and isinstance(given, (cst.Name, cst.Attribute)):
        yield Averaging(
            node, "all_reduce", given, given, given, given, "state", "", None, None, scope, vector=(given,)
        )  # fmt: skip


def _is_broadcast(index: FileIndex, keys: Loop) -> bool:
    """Whether all processes but one hand in zeros, ``value if rank == 0 else 0 * value``: all get that one's model."""
    for part in walk(keys.node.body) if isinstance(keys.node, cst.For) else ():
        if not isinstance(part, (cst.IfExp, cst.If)) or "rank" not in index.code(part.test):
            continue
        names = {row.attr.value for row in walk(part) if isinstance(row, cst.Attribute)}
        if isinstance(part, cst.IfExp) or names & _ZEROS:
            return True
    return False


def _plain(index: FileIndex, node: cst.BaseExpression, depth: int = 0) -> cst.BaseExpression:
    """The entry behind ``param.data`` and ``value.clone()``, and behind a name that was given one."""
    while True:
        if isinstance(node, cst.Attribute) and node.attr.value == "data":
            node = node.value
        elif isinstance(node, cst.Call) and isinstance(node.func, cst.Attribute) and node.func.attr.value in _SAME:
            node = node.func.value
        else:
            break
    if isinstance(node, cst.Name) and depth < 3:
        value = index.scope_of(node).sole_value(node.value)
        if value is not None:
            return _plain(index, value, depth + 1)
    return node


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
        over = _unwrapped(keys.iter)
        if isinstance(over, cst.Call) and dotted_name(over.func) == "zip":
            number = keys.names.index(kept)
            kept = root_name(over.args[number].value) if number < len(over.args) else None
    return kept is not None and kept not in given and (kept in own or kept in scope.shared or kept == receiver)


def _fades(index: FileIndex, node: cst.CSTNode, slot: cst.BaseExpression, keys: Loop) -> bool:
    """Whether what is added to is made smaller in the same turn: an average over time of the one that is handed in."""
    if any(isinstance(part, cst.Call) and leaf_name(part.func) == "mul_" for part in walk(slot)):
        return True
    own = index.code(slot)
    for part in walk(keys.node.body) if isinstance(keys.node, cst.For) else ():
        scaled: cst.BaseExpression | None = None
        if isinstance(part, cst.AugAssign) and isinstance(part.operator, cst.MultiplyAssign) and part is not node:
            scaled = part.target
        elif isinstance(part, cst.Call) and isinstance(part.func, cst.Attribute) and part.func.attr.value == "mul_":
            scaled = part.func.value
        if scaled is not None and index.code(_bare(scaled)) == own:
            return True
    return False


def _roots(index: FileIndex, node: cst.CSTNode) -> set[str]:
    return {
        part.value
        for part in walk(node)
        if isinstance(part, cst.Name)
        and not (isinstance(above := index.parent(part), cst.Attribute) and above.attr is part)
    }


def _reduced(index: FileIndex, node: cst.Call) -> Iterator[Averaging]:
    """``sum(w[k] for w in ws)``, ``torch.stack([...])``, ``np.average([...])``."""
    name = dotted_name(node.func) or ""
    leaf = name.rpartition(".")[2]
    how = _REDUCERS.get(leaf)
    root = name.partition(".")[0]
    if how is None or not node.args or (how == "numpy" and root not in ("np", "numpy")):
        return
    if how == "stack" and root in ("np", "numpy"):
        how = "numpy"
    positional, _, _ = arguments_of(node)
    if leaf == "reduce":
        positional = positional[1:] if positional and _is_sum(positional[0]) else []
    if not positional:
        return
    if isinstance(positional[0], (cst.List, cst.Tuple)) and len(positional[0].elements) > 1:
        if leaf in ("sum", "average", "mean", "median") or _is_reduced(index, node):
            yield from _one_by_one(index, node, [row.value for row in positional[0].elements], how)
        return
    for comp in _collections(index, positional[0], node):
        parties_loops = _comp_loops(comp) if isinstance(comp, cst.BaseComp) else loops_around(index, comp)
        element = comp.elt if isinstance(comp, (cst.ListComp, cst.GeneratorExp)) else comp
        if not isinstance(element, cst.BaseExpression) or (leaf == "cat" and not _is_one_of(element)):
            continue
        outer = loops_around(index, node)
        every = [*outer, *(loop for loop in parties_loops if loop not in outer)]
        for keys in reversed(every):
            for found, state, what, key in _entry(index, keys, element):
                for parties in reversed(parties_loops):
                    if parties is keys or not depends(index, state, parties):
                        continue
                    yield Averaging(
                        node, how, None, element, found, state, what, key, keys, parties, index.scope_of(node),
                        conditions(index, node, keys),
                    )  # fmt: skip
                    return
        vector = next(_vectors(index, node, None, element, how, parties_loops), None)
        if vector is not None:
            yield vector
            return
    given = positional[0]
    if leaf != "cat":
        side_by_side = next(_transposed(index, given, node, how), None) or next(
            _gathered(index, given, node, how), None
        )
        if side_by_side is not None:
            yield side_by_side
            return
    if isinstance(given, (cst.Name, cst.Attribute, cst.Call)) and index.mentions(_VECTORS):
        yield Averaging(
            node, how, None, given, given, given, "state", "", None, None, index.scope_of(node), vector=(given,)
        )  # fmt: skip


def _is_reduced(index: FileIndex, node: cst.Call) -> bool:
    """Whether a stack is reduced where it is made: ``torch.stack([one, other]).mean(0)``; else it may be a parcel."""
    current: cst.CSTNode = node
    for above in index.above(node):
        if isinstance(above, cst.Call) and current is not above.func and leaf_name(above.func) in ("mean", "sum"):
            return True
        if isinstance(above, cst.Attribute):
            return above.attr.value in ("mean", "sum")
        if not isinstance(above, cst.Arg):
            return False
        current = above
    return False


def _is_sum(function: cst.BaseExpression) -> bool:
    """``lambda x, y: x + y``, ``operator.add``, ``np.add``: what makes a sum of a list by ``reduce``."""
    if isinstance(function, cst.Lambda):
        names = [param.name.value for param in function.params.params]
        body = function.body
        if isinstance(body, cst.BinaryOperation):
            parts: tuple[cst.BaseExpression, ...] = (body.left, body.right)
            if not isinstance(body.operator, cst.Add):
                return False
        elif isinstance(body, cst.Call) and leaf_name(body.func) == "add":
            positional, _, _ = arguments_of(body)
            parts = tuple(positional)
        else:
            return False
        return len(names) == 2 and sorted(dotted_name(part) or "" for part in parts) == sorted(names)
    return leaf_name(function) in ("add", "iadd", "__add__")


def _is_one_of(element: cst.BaseExpression) -> bool:
    """``value.unsqueeze(0)``, ``value[None]``: what ``cat`` stacks, and does not join."""
    if isinstance(element, cst.Subscript):
        place = element.slice[0].slice
        return isinstance(place, cst.Index) and dotted_name(place.value) == "None"
    if not isinstance(element, cst.Call) or leaf_name(element.func) != "unsqueeze" or not element.args:
        return False
    axis = element.args[-1].value
    return isinstance(axis, cst.Integer) and axis.value == "0"


def _transposed(index: FileIndex, given: cst.BaseExpression, node: cst.Call, how: str) -> Iterator[Averaging]:
    """``for entries in zip(*[net.parameters() for net in nets]): mean = torch.stack([one.data for one in entries])``:
    in each turn the entry of all parties that goes by one place."""
    for keys in reversed(loops_around(index, node)):
        rows = _rows(index, keys)
        if rows is None or conditions(index, node, keys):
            continue
        for element, one, apart in _of_each(index, given, node, rows.name):
            entry = next((part for part in walk(element) if _is_value(part, one, rows.pairs and not apart)), None)
            if isinstance(entry, cst.BaseExpression) and not _is_gradient(index, entry):
                added, held = rows.scaled if rows.scaled is not None and element is entry else (element, entry)
                scope = index.scope_of(node)
                yield Averaging(node, how, None, added, held, rows.state, rows.what, "", keys, rows.parties, scope)


@dataclass(frozen=True, slots=True)
class _Rows:
    """What ``zip(*rows)`` puts side by side.

    Attributes:
        name: what all that is at one place is called.
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
    ``zip(*weights)``; the list may have a name."""
    enumerated = isinstance(keys.iter, cst.Call) and dotted_name(keys.iter.func) == "enumerate"
    over, names = _unwrapped(keys.iter), keys.names[1:] if enumerated else keys.names
    if not isinstance(over, cst.Call) or dotted_name(over.func) != "zip" or len(over.args) != 1 or len(names) != 1:
        return None
    if over.args[0].star != "*":
        return None
    given = over.args[0].value
    if isinstance(given, cst.Name):
        given = index.scope_of(keys.node).sole_value(given.value) or given
    if isinstance(given, (cst.Name, cst.Attribute)):
        return _Rows(names[0], given)
    if not isinstance(given, (cst.ListComp, cst.GeneratorExp)) or given.for_in.ifs:
        return None
    loops = _comp_loops(given)
    each, scaled = _each_of(given.elt)
    state = _unwrapped(each)
    if len(loops) != 1 or not depends(index, state, loops[0]):
        return None
    if isinstance(state, (cst.Name, cst.Attribute, cst.Subscript)):
        return _Rows(names[0], state, parties=loops[0], scaled=scaled)
    if not isinstance(state, cst.Call) or not isinstance(state.func, cst.Attribute) or state.args:
        return None
    method = state.func.attr.value
    if method not in _ENTRIES:
        return None
    pairs = method in ("items", "named_parameters", "named_buffers")
    held = state.func.value if method == "items" else state
    return _Rows(names[0], held, _ENTRIES[method], pairs, loops[0], None if pairs else scaled)


_ENTRIES = {
    "items": "state",
    "values": "state",
    "parameters": "parameters",
    "named_parameters": "parameters",
    "buffers": "buffers",
    "named_buffers": "buffers",
}
"""Methods that give entries one by one, and which."""


def _of_each(
    index: FileIndex, given: cst.BaseExpression, node: cst.Call, name: str
) -> Iterator[tuple[cst.BaseExpression, str, bool]]:
    """What is made of each of the entries that a name holds, what each is called there, and whether key and entry have
    names of their own."""
    if isinstance(given, cst.Name) and given.value == name:
        yield given, name, False
    for comp in _collections(index, given, node):
        if not isinstance(comp, (cst.ListComp, cst.GeneratorExp)):
            continue
        for loop in _comp_loops(comp):
            over = _unwrapped(loop.iter)
            if isinstance(over, cst.Name) and over.value == name:
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


def _gathered(index: FileIndex, given: cst.BaseExpression, node: cst.Call, how: str) -> Iterator[Averaging]:
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
            for entry, state, what, key in _entry(index, keys, element):
                around = (loop for loop in reversed(loops) if loop is not keys)
                parties = next((loop for loop in around if depends(index, state, loop)), None)
                if parties is not None:
                    tests = conditions(index, put, keys)
                    added = element
                    if term is not None and entry is element:  # what is done to it is done where the list is gone over
                        added, entry = term
                    yield Averaging(node, how, None, added, entry, state, what, key, keys, parties, scope, tests)


def _each_of(
    given: cst.BaseExpression,
) -> tuple[cst.BaseExpression, tuple[cst.BaseExpression, cst.BaseExpression] | None]:
    """What a comprehension goes over, ``vs`` of ``[v.float() for v in vs]``, with what it makes of each, and the name
    that each has; anything else is gone over as it is."""
    if not isinstance(given, (cst.ListComp, cst.GeneratorExp)) or given.for_in.inner_for_in is not None:
        return given, None
    names = _loop(given.for_in).names
    held = next(_uses(given.elt, names[-1]), None) if names and not given.for_in.ifs else None
    return (given, None) if held is None else (given.for_in.iter, (given.elt, held))


def _lists_by_key(index: FileIndex, given: cst.BaseExpression) -> tuple[str, Loop | None]:
    """The dict of lists of which a loop over keys picks one: ``lists[k]``, ``v`` of ``for k, v in lists.items()``."""
    loops = loops_around(index, given)
    if isinstance(given, cst.Subscript) and isinstance(given.value, cst.Name):
        key = _key_name(given)
        return given.value.value, next((loop for loop in reversed(loops) if key in loop.names), None)
    if isinstance(given, cst.Name):
        for loop in reversed(loops):
            over = _unwrapped(loop.iter)
            if loop.names[1:] == (given.value,) and isinstance(over, cst.Call) and isinstance(over.func, cst.Attribute):
                held = dotted_name(over.func.value) or ""
                return (held, loop) if over.func.attr.value == "items" else ("", None)
    return "", None


def _key_name(node: cst.CSTNode | None) -> str:
    """The variable that is, or picks, a key: ``k``, ``lists[k]``; "" for anything else."""
    if isinstance(node, cst.Subscript):
        node = node.slice[0].slice.value if isinstance(node.slice[0].slice, cst.Index) else None
    return node.value if isinstance(node, cst.Name) else ""


def _collections(index: FileIndex, node: cst.BaseExpression, call: cst.Call) -> Iterator[cst.CSTNode]:
    """The comprehension that makes a reducer's argument, written there or bound to the name; or what was appended."""
    if isinstance(node, (cst.ListComp, cst.GeneratorExp)):
        yield node
    elif isinstance(node, cst.Name):
        scope = index.scope_of(call)
        for row in scope.bindings.get(node.value, ()):
            if isinstance(row.value, (cst.ListComp, cst.GeneratorExp)):
                yield row.value
        for value, _ in scope.puts.get(node.value, ()):
            yield value
    elif isinstance(node, cst.Call):
        leaf = (dotted_name(node.func) or "").rpartition(".")[2]
        positional, _, _ = arguments_of(node)
        if leaf in ("list", "tuple", "array", "asarray") and positional:
            yield from _collections(index, positional[0], call)


# --- loops -----------------------------------------------------------------------------------------------------------


def loops_around(index: FileIndex, node: cst.CSTNode) -> list[Loop]:
    """The loops around a node inside its scope, outermost first."""
    found: list[Loop] = []
    current = node
    for above in index.above(node):
        if isinstance(above, (cst.FunctionDef, cst.Lambda, cst.ClassDef)):
            break
        if isinstance(above, cst.For) and current is above.body:
            found.append(_loop(above))
        elif isinstance(above, cst.BaseComp) and not isinstance(current, cst.CompFor):
            found.extend(reversed(_comp_loops(above)))
        current = above
    found.reverse()
    return found[-_MAX_LOOPS:]


def _comp_loops(node: cst.BaseComp) -> list[Loop]:
    found: list[Loop] = []
    clause: cst.CompFor | None = getattr(node, "for_in", None)
    while clause is not None:
        found.append(_loop(clause))
        clause = clause.inner_for_in
    return found


def _loop(node: cst.For | cst.CompFor) -> Loop:
    names = tuple(part.value for part in walk(node.target) if isinstance(part, cst.Name))
    return Loop(node, names, node.iter)


def _unwrapped(node: cst.BaseExpression) -> cst.BaseExpression:
    while isinstance(node, cst.Call) and (dotted_name(node.func) or "") in _WRAPPERS and node.args:
        node = node.args[0].value
    return node


# --- entries ---------------------------------------------------------------------------------------------------------


def _entry(
    index: FileIndex, keys: Loop, added: cst.BaseExpression
) -> Iterator[tuple[cst.BaseExpression, cst.BaseExpression, str, str]]:
    """The parties' entries in what is added, as a loop over entries gives them: (entry, state, what, key). Gradients
    are none."""
    for entry, state, what, key in _entries(index, keys, added):
        if not _is_gradient(index, entry):
            yield entry, state, what, key


def _is_gradient(index: FileIndex, entry: cst.CSTNode) -> bool:
    """Whether it is an entry's gradient that is taken: ``param.grad``."""
    above = index.parent(entry)
    return isinstance(above, cst.Attribute) and above.value is entry and above.attr.value == "grad"


def _entries(
    index: FileIndex, keys: Loop, added: cst.BaseExpression
) -> Iterator[tuple[cst.BaseExpression, cst.BaseExpression, str, str]]:
    over = _unwrapped(keys.iter)
    method = over.func.attr.value if isinstance(over, cst.Call) and isinstance(over.func, cst.Attribute) else ""
    enumerated = isinstance(keys.iter, cst.Call) and dotted_name(keys.iter.func) == "enumerate"
    names = keys.names[1:] if enumerated and len(keys.names) > 1 else keys.names
    # ``for k, v in state.items()``: the value is the entry.
    if method in ("items", "named_parameters", "named_buffers") and len(names) == 2 and isinstance(over, cst.Call):
        assert isinstance(over.func, cst.Attribute)
        what = {"items": "state", "named_buffers": "buffers"}.get(method, "parameters")
        state = over.func.value if method == "items" else over
        for node in _uses(added, names[1]):
            yield node, state, what, names[0]
    if method in ("parameters", "values", "buffers") and len(names) == 1 and isinstance(over, cst.Call):
        what = "state" if method == "values" else method
        for node in _uses(added, names[0]):
            yield node, over, what, ""
    # ``for i, value in enumerate(weights)``: a list of the entries.
    if enumerated and len(names) == 1 and isinstance(over, (cst.Name, cst.Attribute, cst.Subscript)):
        for node in _uses(added, names[0]):
            yield node, over, "state", ""
    if isinstance(over, cst.Call) and dotted_name(over.func) == "zip":
        parts = [arg.value for arg in over.args]
        for name, part in zip(names, parts, strict=False):
            inner = _unwrapped(part)
            leaf = (
                inner.func.attr.value if isinstance(inner, cst.Call) and isinstance(inner.func, cst.Attribute) else ""
            )
            what = leaf if leaf in ("parameters", "buffers") else "state"
            if leaf in ("parameters", "values", "buffers") or not leaf:
                for node in _uses(added, name):
                    yield node, part, what, ""
    # ``state[key]``: the key is any name the loop binds, or one bound to it.
    for item in _walk_expression(index, added):
        if isinstance(item, cst.Subscript) and len(item.slice) == 1 and isinstance(item.slice[0].slice, cst.Index):
            picked = item.slice[0].slice.value
            if isinstance(picked, cst.Name) and picked.value in names and not _nested(index, item):
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
    over = _unwrapped(loop.iter) if loop is not None else None
    return (
        isinstance(over, cst.Call)
        and isinstance(over.func, cst.Attribute)
        and over.func.attr.value in ("keys", "items", "state_dict")
    )


def _uses(node: cst.BaseExpression, name: str) -> Iterator[cst.BaseExpression]:
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


def depends(
    index: FileIndex,
    node: cst.CSTNode,
    loop: Loop,
    seen: frozenset[str] = frozenset(),
    adding: cst.CSTNode | None = None,
) -> bool:
    """Whether an expression changes from one turn of a loop to the next: it reads what the loop binds, or what is bound
    in its body from that, other than by ``adding`` to what it held."""
    body = loop.node.body if isinstance(loop.node, cst.For) else None
    for part in walk(node):
        if not isinstance(part, cst.Name):
            continue
        above = index.parent(part)
        if isinstance(above, cst.Attribute) and above.attr is part:
            continue
        if isinstance(above, cst.Arg) and above.keyword is part:
            continue
        if part.value in loop.names:
            return True
        if body is None or part.value in seen or len(seen) > 8:
            continue
        for row in index.scope_of(part).bindings.get(part.value, ()):
            inside = id(body) in row.blocks and row.node is not loop.node and row.region is None
            # What is added to a sum makes it nobody's own, nor does the first that it begins with.
            if row.how == "part" or row.node is adding or (inside and _begins(index, row, part.value)):
                continue
            if not inside or row.value is None:
                continue
            if _takes_next(row.value) or depends(index, _part(row), loop, seen | {part.value}, adding):
                return True
    return False


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
    over = _unwrapped(loop.iter)
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
        if isinstance(node.func, cst.Attribute) and leaf not in _TAKERS and _takes(index, node.func.value, hand, seen):
            return leaf not in ("size", "dim")
        if leaf in _LIKE or leaf.endswith("_like") or any(hand.asked_for(index, arg.value) for arg in node.args):
            return False
        return any(_takes(index, arg.value, hand, seen) for arg in node.args)
    return any(_takes(index, part, hand, seen) for part in children(node))


def _takes_next(node: cst.CSTNode) -> bool:
    """Whether an expression takes the next of what comes in: ``queue.get()``, ``pipe.recv()``, ``next(replies)``."""
    for part in walk(node):
        if isinstance(part, cst.Call):
            if isinstance(part.func, cst.Attribute) and part.func.attr.value in _TAKERS:
                # With an argument, ``get`` and ``pop`` look for a key.
                if part.func.attr.value not in ("get", "pop") or all(arg.keyword is not None for arg in part.args):
                    return True
            elif isinstance(part.func, cst.Name) and part.func.value == "next":
                return True
    return False


def _begins(index: FileIndex, row: Binding, name: str) -> bool:
    """Whether a binding is made only where there is none yet: ``if total is None: total = ...``."""
    current = row.node
    for above in index.above(row.node):
        if isinstance(above, cst.If) and current is above.body:
            test = above.test
            if isinstance(test, cst.UnaryOperation) and isinstance(test.operator, cst.Not):
                return dotted_name(test.expression) == name
            if isinstance(test, cst.Comparison) and len(test.comparisons) == 1:
                operator, right = test.comparisons[0].operator, test.comparisons[0].comparator
                none = isinstance(operator, (cst.Is, cst.Equal)) and dotted_name(right) == "None"
                return none and dotted_name(test.left) == name
            return False
        if isinstance(above, (cst.For, cst.While, cst.FunctionDef, cst.Lambda)):
            return False
        current = above
    return False


def _part(row: Binding) -> cst.CSTNode:
    """What a binding takes its value from: of ``for a, b in zip(x, y)`` the one that goes with the name."""
    assert row.value is not None
    over = _unwrapped(row.value) if isinstance(row.value, cst.BaseExpression) else row.value
    if row.how == "item" and row.path and isinstance(over, cst.Call) and dotted_name(over.func) == "zip":
        number = row.path[-1]
        if number < len(over.args):
            return over.args[number].value
    return row.value


def _added_to(index: FileIndex, target: cst.BaseExpression, value: cst.BaseExpression) -> cst.BaseExpression | None:
    """What ``x = x + v`` (or ``torch.add(x, v)``) adds to x."""
    own = index.code(target)
    if isinstance(value, cst.BinaryOperation) and isinstance(value.operator, cst.Add):
        if index.code(value.left) == own or _got(index, target, value.left) or _in_hand(index, target, value.left):
            return value.right
        if index.code(value.right) == own or _got(index, target, value.right) or _in_hand(index, target, value.right):
            return value.left
        # ``x = x + a + b``
        inner = _added_to(index, target, value.left)
        return value.right if inner is not None else None
    if isinstance(value, cst.Call) and (dotted_name(value.func) or "") in ("torch.add", "np.add", "numpy.add"):
        positional, _, _ = arguments_of(value)
        if len(positional) > 1 and index.code(positional[0]) == own:
            return positional[1]
    return None


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


def _bare(node: cst.BaseExpression) -> cst.BaseExpression:
    while isinstance(node, cst.Attribute) and node.attr.value == "data":
        node = node.value
    return node


def conditions(index: FileIndex, node: cst.CSTNode, keys: Loop) -> tuple[tuple[cst.BaseExpression, bool], ...]:
    """The conditions between a loop over entries and a node in it: branches, ``continue`` before it, ``if`` clauses."""
    found: list[tuple[cst.BaseExpression, bool]] = []
    current = node
    for above in index.above(node):
        if isinstance(above, cst.If):
            if current is above.body:
                found.append((above.test, True))
            elif current is above.orelse:
                found.append((above.test, False))
        elif isinstance(above, cst.BaseSuite):
            found.extend(_skipped(above.body, current))
        elif isinstance(above, cst.BaseComp) and not isinstance(current, cst.CompFor):
            clause: cst.CompFor | None = getattr(above, "for_in", None)
            while clause is not None:
                found.extend((row.test, True) for row in clause.ifs)
                clause = clause.inner_for_in
        if above is keys.node:
            break
        current = above
    return tuple(found)


def _skipped(body: Sequence[cst.CSTNode], before: cst.CSTNode) -> Iterator[tuple[cst.BaseExpression, bool]]:
    """Conditions under which a turn ends before a statement is reached."""
    for row in body:
        if row is before:
            return
        if isinstance(row, cst.If) and row.orelse is None:
            last = row.body.body[-1] if row.body.body else None
            if isinstance(last, cst.SimpleStatementLine):
                last = last.body[-1]
            if isinstance(last, (cst.Continue, cst.Return, cst.Break)):
                yield row.test, False
