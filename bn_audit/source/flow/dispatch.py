"""Calls that are made by somebody else: ``pool.map(train, clients)``, ``executor.submit(train, client)``, Ray's
``client.train.remote(state)``, ``Process(target=train, args=(client,))``, joblib's ``delayed(train)(client)``.

What such a call gives is taken for what the function gives: a future, and a list of results, are as good as the result.
A process or an initializer gives nothing; what it is handed is what the function gets.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import libcst as cst

from bn_audit.source.flow.index import FileIndex, arguments_of
from bn_audit.source.nodes import leaf_name
from bn_audit.source.project import PyModule

__all__ = ["Dispatch", "dispatch_of", "dispatched_in", "without_remote"]

How = Literal["map", "starmap", "submit", "apply", "spawn", "start"]

_KINDS: dict[str, How] = {
    "map": "map",
    "imap": "map",
    "imap_unordered": "map",
    "map_async": "map",
    "starmap": "starmap",
    "starmap_async": "starmap",
    "submit": "submit",
    "apply_async": "apply",
    "apply": "apply",
    "spawn": "spawn",
    "Process": "start",
    "Thread": "start",
}
_POOLS = ("Pool", "PoolExecutor")
"""How classes are called that take a function to begin each of their processes with, and a tuple of what it gets."""


class Dispatch(NamedTuple):
    """A function that is handed on to be called.

    Attributes:
        how: ``map`` where each parameter gets the items of what is given, ``starmap`` where items are tuples of all;
            else each gets what is given.
        function: as it is written.
        given: what the parameters get, in order; None for what the caller itself gives.
        named: the same, by name.
    """

    how: How
    function: cst.BaseExpression
    given: tuple[cst.BaseExpression | None, ...]
    named: dict[str, cst.BaseExpression]

    @property
    def gives(self) -> bool:
        """Whether what the function returns comes back."""
        return self.how != "start" and self.how != "spawn"


def dispatch_of(call: cst.Call) -> Dispatch | None:
    """How a call hands a function on to be called; None if it does not look like one."""
    delayed = _delayed(call.func)
    if delayed is not None:
        positional, keywords, _ = arguments_of(call)
        return Dispatch("submit", delayed, tuple(positional), keywords)
    name = leaf_name(call.func)
    how = _KINDS.get(name)
    if len(call.args) < 2 or (how is None and not name.endswith(_POOLS)):
        return None
    positional, keywords, _ = arguments_of(call)
    function = positional[0] if positional else None
    given: tuple[cst.BaseExpression | None, ...] = tuple(positional[1:])
    named: dict[str, cst.BaseExpression] = {}
    if how is None or how == "start":
        how = "start"
        place = 1
        function = keywords.get("target") if name in _KINDS else keywords.get("initializer")
        if function is None:
            function = positional[place] if len(positional) > place else None
        arguments = keywords.get("args") if name in _KINDS else keywords.get("initargs")
        if arguments is None and len(positional) > place + 1 and name not in _KINDS:
            arguments = positional[place + 1]
        given, named = _items(arguments), _entries(keywords.get("kwargs"))
    elif how == "apply" or how == "spawn":
        arguments = keywords.get("args", positional[1] if len(positional) > 1 else None)
        given, named = _items(arguments), _entries(keywords.get("kwds"))
        if how == "spawn":
            given = (None, *given)  # the number of the process comes first
    elif how == "submit":
        named = keywords
    elif not given or not isinstance(call.func, cst.Attribute):
        return None
    return Dispatch(how, function, given, named) if isinstance(function, (cst.Name, cst.Attribute)) else None


def _delayed(func: cst.BaseExpression) -> cst.Name | cst.Attribute | None:
    """``train`` of joblib's ``delayed(train)(client, state)``."""
    if not isinstance(func, cst.Call) or leaf_name(func.func) != "delayed" or len(func.args) != 1:
        return None
    given = func.args[0].value
    return given if isinstance(given, (cst.Name, cst.Attribute)) else None


def _items(node: cst.BaseExpression | None) -> tuple[cst.BaseExpression, ...]:
    """The items of a tuple or list that is written out."""
    return tuple(row.value for row in node.elements) if isinstance(node, (cst.Tuple, cst.List)) else ()


def _entries(node: cst.BaseExpression | None) -> dict[str, cst.BaseExpression]:
    found: dict[str, cst.BaseExpression] = {}
    for row in node.elements if isinstance(node, cst.Dict) else ():
        if isinstance(row, cst.DictElement) and isinstance(row.key, cst.SimpleString):
            found[str(row.key.evaluated_value)] = row.value
    return found


def dispatched_in(index: FileIndex, name: str) -> list[cst.Call]:
    """The calls of a file that hand on a function of a name."""
    words = index.module.derive(_words)
    if not words:
        return []
    found: list[cst.Call] = []
    for call in index.calls_like(words, beside=name):
        row = dispatch_of(call)
        if row is not None and leaf_name(row.function) == name:
            found.append(call)
    return found


def _words(module: PyModule) -> tuple[str, ...]:
    """What calls that hand on functions end in, of what stands in a file at all."""
    texts = [part.source for part in module.parsed.parts]
    return tuple(word for word in (*_KINDS, *_POOLS, "delayed") if any(f"{word}(" in text for text in texts))


def without_remote(func: cst.BaseExpression) -> cst.BaseExpression:
    """``f`` of Ray's ``f.remote`` and ``f.options(num_gpus=1).remote``; any other function as it is."""
    if not isinstance(func, cst.Attribute) or func.attr.value != "remote":
        return func
    inner = func.value
    if isinstance(inner, cst.Call) and isinstance(inner.func, cst.Attribute) and inner.func.attr.value == "options":
        return inner.func.value
    return inner
