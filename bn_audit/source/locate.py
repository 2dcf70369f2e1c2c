"""Steps of trails to locations: positions are computed once a file, and only for what is reported."""

from __future__ import annotations

from dataclasses import replace

import libcst as cst

from bn_audit.finding import Location
from bn_audit.profile import Profile
from bn_audit.source.interpreter.profiles import RawProfile
from bn_audit.source.interpreter.values import Step
from bn_audit.source.positions import locate
from bn_audit.source.project import Project, PyModule

__all__ = ["Locator"]


class Locator:
    """Collects the nodes that will be reported, then computes all their positions in one pass a file.

    What is found is kept with the parsed file.
    """

    def __init__(self, project: Project) -> None:
        self._project = project
        self._wanted: dict[str, dict[int, cst.CSTNode]] = {}

    def want(self, step: Step) -> None:
        """Say that a step's location will be asked for."""
        node = _shown(step.node)
        path = step.module.path
        if id(node) not in step.module.derive(_positions):
            self._wanted.setdefault(path, {})[id(node)] = node

    def at(self, step: Step) -> Location:
        """Where a step stands; its path as a report shows it."""
        path = step.module.path
        self.want(step)
        wanted = self._wanted.pop(path, None)
        known = step.module.derive(_positions)
        if wanted:
            known.update(locate(step.module.parsed, wanted.values()))
        found = known.get(id(_shown(step.node)))
        shown = self._project.display(path)
        if found is None:
            # Only a node that code generation never visits has no position; there is none such among the steps we make.
            return Location(shown, 1, 1, 1, 1)
        return Location(shown, found.line, found.column, found.end_line, found.end_column, found.cell)

    def profile(self, raw: RawProfile) -> Profile:
        """A profile with its norm layers and gaps located."""
        for step in (*raw.norm_steps, *raw.gap_steps):
            if step is not None:
                self.want(step)
        norms = tuple(
            norm if step is None else replace(norm, location=self.at(step))
            for norm, step in zip(raw.profile.norms, raw.norm_steps, strict=True)
        )
        gaps = tuple(
            gap if step is None else replace(gap, location=self.at(step))
            for gap, step in zip(raw.profile.gaps, raw.gap_steps, strict=True)
        )
        return replace(raw.profile, norms=norms, gaps=gaps)


def _positions(module: PyModule) -> dict[int, Location]:
    """Where nodes of a file stand, by identity, as far as it is known."""
    return {}


def _shown(node: cst.CSTNode) -> cst.CSTNode:
    """What of a node is framed: of a definition its name, of a parameter or import what stands for it."""
    if isinstance(node, (cst.FunctionDef, cst.ClassDef, cst.Param)):
        return node.name
    return node
