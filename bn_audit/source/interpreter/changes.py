"""What stands against a change that a run supposes: who does not take the new argument, or minds its value.

The interpreter runs what leads to FLModel and passes over the rest, a check of the arguments among it. So a function
that is handed the changed value is looked at for what may end in an exception. In doubt the change is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import libcst as cst

from bn_audit.source.interpreter.libraries import is_flmodel
from bn_audit.source.interpreter.run import Change
from bn_audit.source.interpreter.values import BoundMethod, ClassVal, External, Func, Partial, Value
from bn_audit.source.nodes import children, walk

__all__ = ["check_arguments", "check_call", "check_function"]

_READERS = ("get", "pop", "setdefault")
"""Methods of a dict that look at one key."""


def check_arguments(change: Change, node: cst.Call, kwargs: dict[str, Value], open_kwargs: bool) -> None:
    """Give a call its new keyword, if it is the one; it must not be there already, nor perhaps."""
    if change.node is node:
        change.refused = change.refused or open_kwargs or change.keyword in kwargs
        kwargs[change.keyword] = change.value


def check_call(change: Change, func: Value, kwargs: Mapping[str, Value]) -> None:
    """Refuse to hand a new keyword to something of which is not known what it takes: neither the project's nor
    FLModel."""
    if not change.new or not any(value is change.value for value in kwargs.values()):
        return
    called = func.func if isinstance(func, BoundMethod) else func
    name = called.name if isinstance(called, External) else called
    flmodel = isinstance(name, str) and is_flmodel(name.removesuffix(".__init__"))
    change.refused = change.refused or not (flmodel or isinstance(called, (Func, ClassVal, Partial)))


def check_function(
    change: Change,
    func: Func,
    positional: Iterable[str],
    kwargs: Mapping[str, Value],
    left: Mapping[str, Value],
    bound: Mapping[str, Value | None],
) -> None:
    """Look at a function that is called.

    Args:
        change: what is supposed.
        func: the function.
        positional: its parameters that take no keyword in this call: they have their value by position.
        kwargs: the keywords it is called with.
        left: those that no parameter takes by name.
        bound: its parameters and what they are.
    """
    if change.refused:
        return
    params = func.node.params
    given = [name for name, value in kwargs.items() if value is change.value]
    only_positional = {param.name.value for param in params.posonly_params} | set(positional)
    if any(name in only_positional or (name in left and params.star_kwarg is None) for name in given):
        change.refused = True
        return
    if any(name in left for name in given) and params.star_kwarg is not None:
        change.refused = not _handed_on(func, params.star_kwarg.name.value)
    names = {name for name, value in bound.items() if value is change.value}
    change.refused = change.refused or _minded(func, names)


def _handed_on(func: Func, name: str) -> bool:
    """Whether a function hands its ``**kwargs`` on in one call, and only looks at single keys of it besides."""
    parents: dict[int, cst.CSTNode] = {}
    calls = 0
    for node in walk(func.node.body):
        for child in children(node):
            parents[id(child)] = node
        if not (isinstance(node, cst.Name) and node.value == name):
            continue
        above = parents.get(id(node))
        if isinstance(above, cst.Arg) and above.star == "**":
            calls += 1
        elif isinstance(above, cst.Attribute) and above.value is node:
            if above.attr.value not in _READERS:
                return False
        elif not (isinstance(above, cst.Subscript) and above.value is node):
            return False
    return calls == 1


def _minded(func: Func, names: set[str]) -> bool:
    """Whether a function may raise on the value of one of its parameters."""
    if not names:
        return False
    for node in walk(func.node.body):
        if isinstance(node, cst.Assert):
            raises = True
        elif isinstance(node, (cst.If, cst.While)):
            raises = any(isinstance(inner, cst.Raise) for inner in walk(node))
        else:
            continue
        if raises and any(isinstance(inner, cst.Name) and inner.value in names for inner in walk(node.test)):
            return True
    return False
