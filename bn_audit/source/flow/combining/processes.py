"""Sums over the processes of torch.distributed, each of which is a party."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bn_audit.source.flow.combining.averaging import Averaging
from bn_audit.source.flow.combining.vectors import VECTORS
from bn_audit.source.flow.entries import entries_in
from bn_audit.source.flow.index import FileIndex, arguments_of
from bn_audit.source.flow.loops import Loop, conditions, loops_around
from bn_audit.source.nodes import dotted_name, walk

__all__ = ["PROCESSES", "over_processes"]

PROCESSES = ("all_reduce", "reduce")
"""Functions of torch.distributed that make a sum over the processes of a tensor."""
_SAME = frozenset(["detach", "clone", "cpu", "cuda", "to", "contiguous", "float", "double", "half"])
_ZEROS = frozenset(["zero_", "fill_", "zeros_like"])


def over_processes(index: FileIndex, node: cst.Call) -> Iterator[Averaging]:
    """``dist.all_reduce(param.data)``: every process hands in an entry of its own model, and gets the sum."""
    positional, keywords, _ = arguments_of(node)
    given = positional[0] if positional else keywords.get("tensor")
    operation = (dotted_name(keywords["op"]) or "").rpartition(".")[2] if "op" in keywords else "SUM"
    if not isinstance(node.func, (cst.Attribute, cst.Name)) or given is None or operation not in ("SUM", "AVG"):
        return
    scope = index.scope_of(node)
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
