"""Calls that are made by somebody else: ``pool.map(train, clients)``, ``executor.submit(train, client)``, Ray's
``client.train.remote(state)``.

What such a call gives is taken for what the function gives: a future, and a list of results, are as good as the result.
"""

from __future__ import annotations

from typing import Literal

import libcst as cst

from bn_audit.source.flow.index import FileIndex, arguments_of

__all__ = ["Dispatch", "dispatch_of", "dispatched_in", "without_remote"]

Dispatch = Literal["map", "submit"]

_KINDS: dict[str, Dispatch] = {
    "map": "map",
    "imap": "map",
    "imap_unordered": "map",
    "map_async": "map",
    "submit": "submit",
}


def dispatch_of(call: cst.Call) -> tuple[Dispatch, cst.BaseExpression] | None:
    """How a call hands a function on to be called, and the function; None if it does not look like one."""
    if not isinstance(call.func, cst.Attribute) or len(call.args) < 2:
        return None
    kind = _KINDS.get(call.func.attr.value)
    positional, _, _ = arguments_of(call)
    if kind is None or len(positional) < 2:
        return None
    return (kind, positional[0]) if isinstance(positional[0], (cst.Name, cst.Attribute)) else None


def dispatched_in(index: FileIndex, name: str) -> list[cst.Call]:
    """The calls of a file that hand on a function of a name."""
    found: list[cst.Call] = []
    for attr in _KINDS:
        for call in index.calls_of(attr, beside=name):
            row = dispatch_of(call)
            if row is not None:
                leaf = row[1].attr if isinstance(row[1], cst.Attribute) else row[1]
                if isinstance(leaf, cst.Name) and leaf.value == name:
                    found.append(call)
    return found


def without_remote(func: cst.BaseExpression) -> cst.BaseExpression:
    """``f`` of Ray's ``f.remote`` and ``f.options(num_gpus=1).remote``; any other function as it is."""
    if not isinstance(func, cst.Attribute) or func.attr.value != "remote":
        return func
    inner = func.value
    if isinstance(inner, cst.Call) and isinstance(inner.func, cst.Attribute) and inner.func.attr.value == "options":
        return inner.func.value
    return inner
