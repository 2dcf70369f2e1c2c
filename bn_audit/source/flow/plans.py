"""What OpenFL's plan hands the constructor of a flow.

A workspace has its code in ``src/`` and ``plan/plan.yaml`` beside it. Under ``federated_flow`` a plan names the flow's
class, and the objects that its constructor gets: by their dotted names, with the settings they are made with, to any
depth. No call of the constructor stands in the code.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bn_audit.source.flow.settings_files import Setting, read_settings
from bn_audit.source.flow.values import Made
from bn_audit.source.interpreter.planned import Planned
from bn_audit.source.interpreter.values import Const
from bn_audit.source.text import SourceError

if TYPE_CHECKING:
    from bn_audit.source.project import Project, PyModule

__all__ = ["MadeByPlan", "given_by_plan"]

_PLANS = ("plan.yaml", "plan.yml")
_MAX_SIZE = 60_000
_MAX_DEPTH = 12

Tree = dict[str, object]


@dataclass(frozen=True, slots=True, eq=False)
class MadeByPlan(Made):
    """A model that a plan names: ``node`` is its class, ``plan`` what it is made with."""

    plan: Planned


def given_by_plan(project: Project, module: PyModule, flow: str, name: str) -> Planned | Const | None:
    """What a plan hands a flow's constructor under a name; None if there is no plan of it, or it says nothing."""
    root = os.path.dirname(module.folder)
    package = os.path.basename(module.folder)
    stem = os.path.splitext(os.path.basename(module.path))[0]
    for entry in _PLANS:
        path = os.path.join(root, "plan", entry)
        if not project.outside.is_file(path):
            continue
        try:
            data = project.outside.read(path)
        except SourceError:
            continue
        tree = _tree(read_settings(data.decode("utf-8", "replace"), path)) if len(data) <= _MAX_SIZE else {}
        section = tree.get("federated_flow")
        if not isinstance(section, dict) or section.get("template") != f"{package}.{stem}.{flow}":
            continue
        settings = section.get("settings")
        return _planned(settings[name]) if isinstance(settings, dict) and name in settings else None
    return None


def _tree(settings: list[Setting]) -> Tree:
    """Paths of keys as dicts within dicts."""
    found: Tree = {}
    for path, value in settings:
        inner = found
        for key in path[:-1]:
            below = inner.setdefault(key, {})
            if not isinstance(below, dict):
                break
            inner = below
        else:
            inner[path[-1]] = value
    return found


def _planned(value: object, depth: int = 0) -> Planned | Const | None:
    if isinstance(value, str) and "." in value.strip(".") and value.replace(".", "").isidentifier():
        return Planned(value)
    if not isinstance(value, Mapping):
        return Const(value)
    template, settings = value.get("template"), value.get("settings")
    if not isinstance(template, str) or depth > _MAX_DEPTH:
        return None
    rows: list[tuple[str, Planned | Const]] = []
    for key, inner in sorted(settings.items()) if isinstance(settings, Mapping) else ():
        made = _planned(inner, depth + 1)
        if made is None:
            return None
        rows.append((str(key), made))
    return Planned(template, tuple(rows))
