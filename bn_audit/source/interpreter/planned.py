"""Objects that a file of settings names, with what they are made with, as OpenFL's plan does for its flows.

An object is named by where it is found, ``src.flow.Net``. A class is called with its settings, by name; if its
constructor takes ``*args``, with their values in the order of their names. What is no class is given as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import libcst as cst

from bn_audit.source.interpreter import attributes, calls, classes, scopes
from bn_audit.source.interpreter.values import ClassVal, Const, External, Func, Value

if TYPE_CHECKING:
    from bn_audit.source.interpreter.frames import Frame
    from bn_audit.source.interpreter.run import Run

__all__ = ["Planned", "make"]

_TAKES_ANY = frozenset(["torch.nn.Sequential", "torch.nn.Identity"])
"""Classes of torch whose constructor takes ``*args``."""


@dataclass(frozen=True, slots=True)
class Planned:
    """One object: its dotted name, and the settings it is made with, sorted by name."""

    template: str
    settings: tuple[tuple[str, Planned | Const], ...] = ()


def make(run: Run, planned: Planned | Const, frame: Frame, node: cst.CSTNode) -> Value:
    """What a plan names, as the frame's module would import it; ``node`` is where messages say that it is made."""
    if isinstance(planned, Const):
        return planned
    module, _, name = planned.template.rpartition(".")
    found = attributes.get(run, scopes.import_module(run, frame.module, module, node), name, frame, node)
    if not isinstance(found, ClassVal) and not (isinstance(found, External) and found.leaf[:1].isupper()):
        return found
    given = {key: make(run, value, frame, node) for key, value in planned.settings}
    if _takes_any(found):
        return calls.call(run, found, list(given.values()), {}, False, frame, node)
    return calls.call(run, found, [], given, False, frame, node)


def _takes_any(found: ClassVal | External) -> bool:
    if isinstance(found, External):
        return found.name in _TAKES_ANY
    init = classes.find(found, "__init__")
    func = init[0] if init is not None else None
    return isinstance(func, Func) and isinstance(func.node.params.star_arg, cst.Param)
