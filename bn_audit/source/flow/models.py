"""From the call that makes a model to what it may hold: one reading for each way its conditions may turn out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import libcst as cst

from bn_audit.profile import Profile
from bn_audit.source.flow.values import Made
from bn_audit.source.interpreter.profiles import RawProfile, to_profile
from bn_audit.source.interpreter.roots import any_object, execute_root
from bn_audit.source.interpreter.run import Budget, Decision, Run, worlds
from bn_audit.source.interpreter.values import ClassVal, Module, Step
from bn_audit.source.project import Project
from bn_audit.source.targets import Tree

__all__ = ["ModelReader", "ModelReading"]

_STEPS = 60_000


@dataclass(slots=True)
class ModelReading:
    """One way a model may turn out.

    ``conditions`` are what has to be so for it, in words; ``trail`` leads from the call that makes it to its class.
    """

    name: str
    raw: RawProfile
    conditions: tuple[str, ...]
    trail: tuple[Step, ...]
    made: Made = field(repr=False)


class ModelReader:
    """Builds models through the interpreter; keeps what it has built."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self._trees: dict[str, Tree] = {}
        self._found: dict[Made, tuple[ModelReading, ...]] = {}

    def readings(self, made: Made) -> tuple[ModelReading, ...]:
        """What a model may hold when the scope that makes it is done with it; empty if it could not be followed."""
        found = self._found.get(made)
        if found is None:
            found = self._found[made] = tuple(self._read(made))
        return found

    def _read(self, made: Made) -> list[ModelReading]:
        found: dict[Profile, tuple[Module, RawProfile, list[tuple[Decision, ...]]]] = {}
        for world in worlds(self.project, lambda run: self._build(run, made), Budget(_STEPS)):
            value = world.run.watched.get(id(made.node))
            if isinstance(value, Module):
                raw = to_profile(value)
                found.setdefault(raw.profile, (value, raw, []))[2].append(tuple(world.run.decisions))
        every = [decisions for _, _, rows in found.values() for decisions in rows]
        return [
            ModelReading(_name(made, value), raw, _conditions(rows, every), tuple(_trail(made, value)), made)
            for value, raw, rows in found.values()
        ]

    def _build(self, run: Run, made: Made) -> None:
        run.watched[id(made.node)] = None
        run.carried = False
        if isinstance(made.node, cst.Call):
            tree = self._trees.get(made.env.module.path)
            if tree is None:
                tree = self._trees[made.env.module.path] = Tree(made.env.module)
            execute_root(run, [tree.target(made.node)])
        elif made.cls is not None:
            run.watched[id(made.node)] = any_object(run, made.cls, run.module_frame(made.cls.module))


def _conditions(rows: Sequence[tuple[Decision, ...]], every: Sequence[tuple[Decision, ...]]) -> tuple[str, ...]:
    """What has to be so for a model to turn out as it did in these worlds, and not as in the others.

    Conditions on the way to the call that makes it (forced) decide whether it is made at all.
    """
    found: dict[str, None] = {}
    for decision in rows[0]:
        same = (decision.key, decision.outcome)
        if not all(same in {(row.key, row.outcome) for row in decisions} for decisions in rows):
            continue
        others = all(same in {(row.key, row.outcome) for row in decisions} for decisions in every)
        if (decision.forced or not others) and decision.outcome:
            found[decision.text] = None
        elif not others:
            found[f"not ({decision.text})"] = None
    return tuple(found)


def _name(made: Made, value: Module) -> str:
    if isinstance(value.cls, ClassVal):
        return value.cls.name
    return made.name or value.type_name


def _trail(made: Made, value: Module) -> list[Step]:
    steps: list[Step] = []
    if isinstance(made.node, cst.Call):
        steps.append(Step(made.env.module, made.node, "the model is made here"))
    if isinstance(value.cls, ClassVal):
        steps.append(Step(value.cls.module, value.cls.node, f"{value.cls.name} is defined here"))
    return steps
