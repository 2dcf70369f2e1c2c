"""Calls that reduce a list of the parties' entries: ``sum``, ``stack``, ``reduce``, NumPy's ``average``."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bn_audit.source.flow.combining.averaging import Averaging
from bn_audit.source.flow.combining.processes import from_processes
from bn_audit.source.flow.combining.side_by_side import collections_of, gathered, handed_in, mapped, transposed
from bn_audit.source.flow.combining.vectors import VECTORS, vectors
from bn_audit.source.flow.combining.written_out import one_by_one
from bn_audit.source.flow.entries import entries_given, entries_in
from bn_audit.source.flow.index import FileIndex, arguments_of
from bn_audit.source.flow.loops import Loop, comp_loops, conditions, depends, loops_around
from bn_audit.source.nodes import dotted_name, leaf_name, reads, walk

__all__ = ["REDUCERS", "reduced"]

REDUCERS = {
    "sum": "sum",
    "reduce": "sum",
    "stack": "stack",
    "cat": "stack",
    "array": "numpy",
    "asarray": "numpy",
    "average": "numpy",
    "mean": "numpy",
    "median": "numpy",
}
"""How a function combines, by the last part of its name: see :class:`Averaging`."""
_METHODS = ("mean", "sum", "median")


_REDUCES = frozenset(["mean", "sum", "median", "nanmean", "nansum", "nanmedian", "quantile", "average"])


def reduced(index: FileIndex, node: cst.Call) -> Iterator[Averaging]:
    """``sum(w[k] for w in ws)``, ``torch.stack([...])``, ``np.average([...])``."""
    name = dotted_name(node.func) or ""
    leaf = name.rpartition(".")[2]
    how = REDUCERS.get(leaf)
    root = name.partition(".")[0]
    if how is None or not node.args or (how == "numpy" and root not in ("np", "numpy")):
        return
    if how == "stack" and root in ("np", "numpy"):
        how = "numpy"
    positional, _, _ = arguments_of(node)
    if leaf == "reduce":
        positional = positional[1:] if positional and _is_sum(positional[0]) else []
    if not positional or (leaf in ("array", "asarray") and not _is_asked(index, node)):
        return
    if isinstance(positional[0], (cst.List, cst.Tuple)) and len(positional[0].elements) > 1:
        if leaf in ("sum", "average", "mean", "median") or _is_reduced(index, node):
            yield from one_by_one(index, node, [row.value for row in positional[0].elements], how)
        return
    for comp in collections_of(index, positional[0], node):
        parties_loops = comp_loops(comp) if isinstance(comp, cst.BaseComp) else loops_around(index, comp)
        element = comp.elt if isinstance(comp, (cst.ListComp, cst.GeneratorExp)) else comp
        if not isinstance(element, cst.BaseExpression) or (leaf == "cat" and not _is_one_of(element)):
            continue
        outer = loops_around(index, node)
        every = [*outer, *(loop for loop in parties_loops if loop not in outer)]
        for keys in reversed(every):
            for found, state, what, key in entries_in(index, keys, element):
                for parties in reversed(parties_loops):
                    if parties is keys or not depends(index, state, parties):
                        continue
                    tests = (*conditions(index, node, keys), *_where_reduced(index, node, how, keys))
                    yield Averaging(
                        node, how, None, element, found, state, what, key, keys, parties, index.scope_of(node), tests
                    )  # fmt: skip
                    return
        for found, state, key in entries_given(index, element):
            own = next((loop for loop in reversed(parties_loops) if depends(index, state, loop)), None)
            if own is not None:
                yield Averaging(
                    node, how, None, element, found, state, "state", key, None, own, index.scope_of(node),
                    conditions(index, node, None),
                )  # fmt: skip
                return
        vector = next(vectors(index, node, None, element, how, parties_loops), None)
        if vector is not None:
            yield vector
            return
    given = positional[0]
    if leaf != "cat":
        for reader in (from_processes, transposed, gathered, mapped, handed_in):
            found_so = next(reader(index, given, node, how), None)
            if found_so is not None:
                yield found_so
                return
    if isinstance(given, (cst.Name, cst.Attribute, cst.Call)) and index.mentions(VECTORS):
        yield Averaging(
            node, how, None, given, given, given, "state", "", None, None, index.scope_of(node), vector=(given,)
        )  # fmt: skip


def _is_asked(index: FileIndex, node: cst.Call) -> bool:
    """Whether an array is reduced by a method of its own, ``np.array([...]).mean(0)``, there or under the name that it
    is bound to: a function that is given one is found by itself."""
    above = index.parent(node)
    if isinstance(above, cst.Attribute):
        return above.attr.value in _METHODS
    name = dotted_name(above.targets[0].target) if isinstance(above, cst.Assign) and len(above.targets) == 1 else None
    scope = index.scope_of(node)
    return name is not None and any(
        isinstance(call.func, cst.Attribute) and dotted_name(call.func.value) == name and index.scope_of(call) is scope
        for method in _METHODS
        for call in index.calls_of(method)
    )


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


def _where_reduced(
    index: FileIndex, node: cst.Call, how: str, keys: Loop
) -> tuple[tuple[cst.BaseExpression, bool], ...]:
    """The conditions under which a stack is reduced that has a name first: ``stacked = torch.stack(entries); mean =
    stacked.mean(0) if stacked.is_floating_point() else stacked[0]``. Those that hold wherever it is, if it is in
    several places."""
    statement = index.statement_of(node) if how == "stack" else None
    target = statement.targets[0].target if isinstance(statement, cst.Assign) else None
    if not isinstance(target, cst.Name):
        return ()
    places = [
        conditions(index, part, keys)
        for part in walk(index.scope_of(node).node)
        if isinstance(part, cst.Call) and leaf_name(part.func) in _REDUCES and reads(part, target.value)
    ]
    shared = set.intersection(*({(id(test), holds) for test, holds in tests} for tests in places)) if places else set()
    return tuple((test, holds) for test, holds in places[0] if (id(test), holds) in shared) if shared else ()


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
