"""What federated frameworks call by themselves: methods of classes that derive from theirs, functions they decorate.

Only frameworks are named here whose own loop leaves a model's mode alone (read in the wheels: flwr 1.42, nvflare 2.9,
fedml 0.9.6). OpenFL's task runner and FL4Health's client call ``eval()`` and ``train()`` themselves before they call
what the user wrote: nothing can be said of a mode there.
"""

from __future__ import annotations

import re

import libcst as cst

from bn_audit.source.interpreter import classes
from bn_audit.source.interpreter.values import ClassVal, Func
from bn_audit.source.nodes import walk

__all__ = ["driven_by", "keeps_clients", "methods_called"]

_FRAMEWORKS = {"flwr": "Flower", "nvflare": "NVFlare", "fedml": "FedML"}
_KEPT = re.compile(r"flwr\.client\.(?:\w+\.)*(?:start_client|start_numpy_client)$")
"""What takes one client for all rounds. Given a function, Flower makes a client for each message."""


def driven_by(cls: ClassVal) -> str | None:
    """The framework that calls a class's methods, by its name; None if there is none, or it changes modes itself."""
    for base in classes.external_bases(cls):
        framework = _FRAMEWORKS.get(base.name.partition(".")[0])
        if framework is not None:
            return framework
    return None


def keeps_clients(name: str) -> bool:
    """Whether a call of this dotted name is given one client for all rounds."""
    return _KEPT.match(name) is not None


def methods_called(cls: ClassVal) -> list[Func]:
    """The methods that a framework may call: those of the project that no method of the class calls itself."""
    found: dict[str, Func] = {}
    called: set[str] = set()
    for entry in classes.mro(cls):
        if not isinstance(entry, ClassVal):
            continue
        for name, member in entry.attrs.items():
            if isinstance(member, Func) and isinstance(member.node, cst.FunctionDef):
                if not name.startswith("__"):
                    found.setdefault(name, member)
                called.update(_own_calls(member.node))
    return [func for name, func in found.items() if name not in called]


def _own_calls(function: cst.FunctionDef) -> set[str]:
    """The names of methods that a method calls on its own object."""
    params = [*function.params.posonly_params, *function.params.params]
    own = params[0].name.value if params else ""
    return {
        node.func.attr.value
        for node in walk(function.body)
        if isinstance(node, cst.Call)
        and isinstance(node.func, cst.Attribute)
        and (
            (isinstance(node.func.value, cst.Name) and node.func.value.value == own)
            or isinstance(node.func.value, cst.Call)
        )
    }
