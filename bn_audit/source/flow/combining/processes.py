"""Sums over the processes of torch.distributed or MPI, each of which is a party."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import libcst as cst

from bn_audit.source.flow.combining.averaging import Averaging
from bn_audit.source.flow.combining.vectors import VECTORS
from bn_audit.source.flow.entries import entries_in, uses
from bn_audit.source.flow.index import FileIndex, arguments_of
from bn_audit.source.flow.loops import Loop, conditions, depends, loop_of, loops_around, unwrapped
from bn_audit.source.nodes import dotted_name, leaf_name, walk

__all__ = ["PROCESSES", "from_processes", "over_processes"]

PROCESSES = ("all_reduce", "reduce", "allreduce", "Allreduce", "Reduce")
"""Functions of torch.distributed, and methods of an MPI communicator, that make a sum of the processes' tensors."""
_BY_MPI = {"allreduce": 1, "Allreduce": 2, "Reduce": 2}
"""Those of MPI, each with the place of the operation."""
_GATHERS = ("all_gather", "gather")
_SAME = frozenset(["detach", "clone", "cpu", "cuda", "to", "contiguous", "float", "double", "half", "numpy", "copy"])
_ZEROS = frozenset(["zero_", "fill_", "zeros_like"])


def over_processes(index: FileIndex, node: cst.Call) -> Iterator[Averaging]:
    """``dist.all_reduce(param.data)``: every process hands in an entry of its own model, and gets the sum."""
    positional, keywords, _ = arguments_of(node)
    name = leaf_name(node.func)
    given = positional[0] if positional else keywords.get("tensor")
    if name in _BY_MPI:
        given = _of_buffer(positional)
    place = _BY_MPI.get(name, len(positional))
    how = keywords.get("op", positional[place] if place < len(positional) else None)
    operation = (dotted_name(how) or "").rpartition(".")[2] if how is not None else "SUM"
    if not isinstance(node.func, (cst.Attribute, cst.Name)) or given is None or operation not in ("SUM", "AVG"):
        return
    scope = index.scope_of(node)
    if name in _BY_MPI:
        # ``total = comm.allreduce(value)`` gives the sum; ``comm.Allreduce(value, total)`` puts it into another array.
        yield from _entries(index, node, given, "sum" if name == "allreduce" else "", node)
        return
    inner = _plain(index, given)
    for keys in reversed(loops_around(index, node)):
        for entry, state, what, key in entries_in(index, keys, inner):
            if entry is inner:
                if _is_broadcast(index, keys):
                    return
                tests = conditions(index, node, keys)
                yield Averaging(
                    node, "all_reduce", given, inner, entry, state, what, key, keys, None, scope, tests
                )  # fmt: skip
                return
    if index.mentions(VECTORS) and isinstance(given, (cst.Name, cst.Attribute)):
        yield Averaging(
            node, "all_reduce", given, given, given, given, "state", "", None, None, scope, vector=(given,)
        )  # fmt: skip


def _of_buffer(given: Sequence[cst.BaseExpression]) -> cst.BaseExpression | None:
    """What is handed in: ``value``, ``[value, MPI.FLOAT]``; with ``MPI.IN_PLACE``, what takes the sum."""
    for node in given[:2]:
        if (dotted_name(node) or "").rpartition(".")[2] != "IN_PLACE":
            return node.elements[0].value if isinstance(node, cst.List) and node.elements else node
    return None


def from_processes(index: FileIndex, given: cst.BaseExpression, node: cst.Call, how: str) -> Iterator[Averaging]:
    """``dist.all_gather(parts, value); mean = sum(parts) / n``: the entries of all processes in a list, one by one."""
    added: cst.BaseExpression | None = None
    held: cst.BaseExpression | None = None
    if isinstance(given, (cst.ListComp, cst.GeneratorExp)) and given.for_in.inner_for_in is None:
        added = given.elt
        loop, over = loop_of(given.for_in), unwrapped(given.for_in.iter)
        zipped = isinstance(over, cst.Call) and dotted_name(over.func) == "zip" and len(over.args) == len(loop.names)
        pairs = zip(loop.names, [arg.value for arg in over.args] if zipped else [over], strict=False)  # type: ignore[attr-defined]
        for name, part in pairs:
            if _gathered_into(index, part, node) is not None:
                held, given = next(uses(added, name), None), part
    call = _gathered_into(index, given, node)
    if call is None:
        return
    value = call.args[1 if leaf_name(call.func) == "all_gather" else 0].value
    for row in _entries(index, node, value, how, call):
        yield row if added is None or held is None else replace(row, added=added, entry=held)


def _gathered_into(index: FileIndex, given: cst.BaseExpression, node: cst.Call) -> cst.Call | None:
    """The call that fills a list with what each process hands in: ``all_gather(parts, value)``, ``gather(value,
    parts)``."""
    rows = index.scope_of(node).puts.get(given.value, ()) if isinstance(given, cst.Name) else ()
    calls = [put for _, put in rows if isinstance(put, cst.Call) and leaf_name(put.func) in _GATHERS]
    return calls[0] if len(calls) == len(rows) == 1 else None


def _entries(
    index: FileIndex, node: cst.Call, given: cst.BaseExpression, how: str, gathers: cst.Call
) -> Iterator[Averaging]:
    """What each process hands in, as a loop over its model's entries gives it."""
    inner = _plain(index, given)
    for keys in reversed(loops_around(index, gathers)):
        for entry, state, what, key in entries_in(index, keys, inner):
            if entry is inner and not (gathers is node and _is_broadcast(index, keys)):
                # ``if rank == 0`` says nothing of which entries there are.
                tests = tuple(row for row in conditions(index, node, keys) if depends(index, row[0], keys))
                scope = index.scope_of(node)
                yield Averaging(
                    node, how, None, given, entry, state, what, key, keys, None, scope, tests, gathers=gathers
                )  # fmt: skip
                return


def _is_broadcast(index: FileIndex, keys: Loop) -> bool:
    """Whether all processes but one hand in zeros, ``value if rank == 0 else 0 * value``: all get that one's model."""
    for part in walk(keys.body) if keys.body is not None else ():
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
