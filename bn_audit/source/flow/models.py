"""From the call that makes a model to what it may hold: one reading for each way its conditions may turn out."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import libcst as cst

from bn_audit.profile import NormLayer
from bn_audit.source.flow.circumstances import Condition, contrary, impossible, told
from bn_audit.source.flow.given import settled, written
from bn_audit.source.flow.options import Options
from bn_audit.source.flow.plans import MadeByPlan
from bn_audit.source.flow.values import Env, Made
from bn_audit.source.interpreter.planned import make
from bn_audit.source.interpreter.profiles import RawProfile, to_profile
from bn_audit.source.interpreter.roots import any_object, execute_root
from bn_audit.source.interpreter.run import Budget, Decision, Run, worlds
from bn_audit.source.interpreter.statements import UNDECIDED
from bn_audit.source.interpreter.values import ClassVal, Const, External, Module, Step, Unknown, Value
from bn_audit.source.nodes import leaf_name
from bn_audit.source.project import Project, PyModule, Seen
from bn_audit.source.targets import Tree

__all__ = ["ModelReader", "ModelReading", "chain_of"]

_STEPS = 60_000
"""What building one model may take where it is made."""
_OUTER_STEPS = 30_000
"""What building it from the outermost call on may take, which may be a whole program."""
_ALL_STEPS = 180_000
"""What building all models of one search may take."""
_WORLDS = 8
"""Ways in which one model's conditions may turn out that are looked at."""


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
    own: tuple[Condition, ...] = ()
    """The conditions without those of the way to the call that makes it."""
    every: tuple[Condition, ...] = ()
    """All conditions, those too that are not told."""


class _Kept(NamedTuple):
    """What a model may hold, with the steps that were granted for it, those that it took, and what was looked at."""

    readings: tuple[ModelReading, ...]
    granted: int
    spent: int
    seen: Seen

    def holds(self, granted: int) -> bool:
        """Whether the same would be found with so many steps."""
        return granted == self.granted or self.spent < min(self.granted, granted)


class ModelReader:
    """Builds models through the interpreter; keeps what it has built."""

    def __init__(self, project: Project, options: Options) -> None:
        self.project = project
        self._options = options
        self._left = _ALL_STEPS
        self._found: dict[tuple[Made, tuple[int, ...]], tuple[ModelReading, ...]] = {}
        self._first: dict[Made, tuple[ModelReading, ...]] = {}

    def readings(self, made: Made) -> tuple[ModelReading, ...]:
        """What a model may hold when the scope that makes it is done with it; empty if it could not be followed.

        The outermost call on the way is run first, with the arguments it gives; where that leads nowhere, the
        constructor of a subclass that says what its base is to make; then the scope that makes the model by itself,
        with parameters that are not known.
        """
        if made.picked:
            return ()  # the call stands beside it by itself: it makes what the name picks by default
        chain = chain_of(made)
        place = (made, tuple(id(call) for _, call in chain))
        found = self._found.get(place)
        if found is None:
            way = self._way(chain, made.env)
            if made in self._first and self._left < _ALL_STEPS // 2:
                # Calls of one function from several places seldom differ in the model: only in when they are made.
                found = self._found[place] = tuple(_reached(row, way) for row in self._first[made] if _may_be(row, way))
                return found
            found = ()
            for begin in _beginnings(chain) if not impossible(way) else ():
                own = self._kept(made, chain[begin:], way)
                found = own if not found or not all(map(_cut_off, own)) else found
                if found and not all(map(_cut_off, found)):
                    break
            self._found[place] = found
            self._first.setdefault(made, found)
        return found

    def readings_beside(self, made: Made, way: Sequence[Condition]) -> list[ModelReading]:
        """What a model may hold on a way of the program to somewhere else; empty if it is made on none that goes
        there."""
        if way:
            chain = chain_of(made)
            if contrary(way, [*self._way(chain, made.env), *self._otherwise(chain)]):
                return []
        return [reading for reading in self.readings(made) if not contrary(way, reading.every)]

    def _kept(
        self, made: Made, chain: Sequence[tuple[PyModule, cst.Call]], way: Sequence[Condition]
    ) -> tuple[ModelReading, ...]:
        """What a search before this one has found, if this one would find the same; it takes the same steps."""
        likely = self._likely(chain)
        hints = tuple((name, value.value) for name, value in likely.items())
        key = (
            ModelReader,
            id(made.node),
            made.name,
            made.settings,
            tuple(id(call) for _, call in chain),
            tuple(way),
            hints,
        )
        kept = self.project.kept.get(key)
        granted = max(min(_OUTER_STEPS if len(chain) > 1 else _STEPS, self._left), 0)
        if isinstance(kept, _Kept) and kept.holds(granted) and self.project.seen_again(kept.seen):
            self._left -= kept.spent
            return kept.readings
        left = self._left
        with self.project.watching() as seen:
            readings = tuple(self._read(made, chain, way, likely, granted))
        if not self.project.exhausted:
            self.project.kept[key] = _Kept(readings, granted, left - self._left, seen)
        return readings

    def _likely(self, chain: Sequence[tuple[PyModule, cst.Call]]) -> Mapping[str, Const]:
        """What options are by default in the files of a chain; the outermost is asked first."""
        found: dict[str, Const] = {}
        for module in dict.fromkeys(module for module, _ in chain):
            found = {**self._options.of(module), **found}
        return found

    def _read(
        self,
        made: Made,
        chain: Sequence[tuple[PyModule, cst.Call]],
        way: Sequence[Condition],
        likely: Mapping[str, Const],
        granted: int,
    ) -> list[ModelReading]:
        found: dict[tuple[NormLayer, ...], tuple[str, Module, RawProfile]] = {}
        rows: dict[tuple[NormLayer, ...], list[tuple[Decision, ...]]] = {}
        every: list[tuple[Decision, ...]] = []
        budget = Budget(granted)
        ways = worlds(self.project, lambda run: self._build(run, made, chain, likely), budget)
        for world in itertools.islice(ways, _WORLDS):
            value = world.run.watched.get(id(made.node))
            if world.complete or isinstance(value, Module):
                every.append(tuple(world.run.decisions))
            assumed = [Condition(row.text, row.holds) for row in world.run.decisions]
            if isinstance(value, Module) and _is_of(made, value) and not impossible([*way, *assumed]):
                raw = to_profile(value)
                norms = raw.profile.norms
                # Ways that have the same norm layers are one; what is best known of it is kept.
                if norms not in found or len(raw.profile.gaps) < len(found[norms][2].profile.gaps):
                    found[norms] = (self._name(made, value, world.run.made_by.get(id(made.node))), value, raw)
                rows.setdefault(norms, []).append(tuple(world.run.decisions))
        self._left -= granted - budget.left
        readings: list[ModelReading] = []
        for norms, (name, value, raw) in found.items():
            own = tuple(_conditions(rows[norms], every))
            readings.append(
                ModelReading(name, raw, told((*way, *own)), tuple(_trail(made, value)), made, own, (*way, *own))
            )
        return readings

    def _build(
        self, run: Run, made: Made, chain: Sequence[tuple[PyModule, cst.Call]], likely: Mapping[str, Const]
    ) -> None:
        run.likely = likely
        run.beside = self._options.beside
        run.watched[id(made.node)] = None
        if made.settings:
            run.settings[id(made.node)] = made.settings
        run.carried = False
        if chain:
            targets = [self._tree(module).target(call) for module, call in chain]
            execute_root(run, targets[:1], targets[1:])
            if made.cls is not None and isinstance(run.watched[id(made.node)], Unknown) and _is_closed_over(made):
                run.watched[id(made.node)] = any_object(run, made.cls, run.module_frame(made.cls.module))
        elif isinstance(made, MadeByPlan) and made.cls is not None:
            run.watched[id(made.node)] = make(run, made.plan, run.module_frame(made.cls.module), made.node)
        elif made.cls is not None:
            run.watched[id(made.node)] = any_object(run, made.cls, run.module_frame(made.cls.module))

    def _name(self, made: Made, value: Module, maker: Value | None) -> str:
        """What a message calls a model: its class, the library's function that made it, which may be one of several, or
        where a container of layers is kept."""
        if isinstance(value.cls, ClassVal):
            return value.cls.name
        if isinstance(maker, External):
            part = self._tree(made.env.module).part_of(made.node) if maker.name.startswith("torch.nn.") else ""
            return part or maker.name
        return value.type_name if made.cls is not None or not made.name else made.name

    def _tree(self, module: PyModule) -> Tree:
        return module.derive(Tree)

    def _otherwise(self, chain: Sequence[tuple[PyModule, cst.Call]]) -> Iterator[Condition]:
        """The conditions that fail where the calls of a chain are reached."""
        for module, call in chain:
            for test in self._tree(module).conditions(call, holds=False):
                yield Condition(" ".join(module.tree.code_for_node(test).split()), False)

    def _way(self, chain: Sequence[tuple[PyModule, cst.Call]], env: Env) -> list[Condition]:
        """The conditions under which the calls of a chain are reached, as their branches say; ``env`` is the run of the
        scope that the last stands in. What is written out at a call is no condition any more."""
        found: list[Condition] = []
        run: Env | None = env
        for module, call in reversed(chain):
            tests = self._tree(module).conditions(call)
            values = written(run) if tests and run is not None else {}
            for test in tests:
                text = " ".join(module.tree.code_for_node(test).split())
                if "__name__" not in text and not (values and settled(test, values)):
                    found.append(Condition(text, True))
            run = run.caller if run is not None else None
        return found[::-1]


def _may_be(reading: ModelReading, way: Sequence[Condition]) -> bool:
    """Whether a model may be reached on another way, too."""
    return not impossible([*way, *reading.own])


def _reached(reading: ModelReading, way: Sequence[Condition]) -> ModelReading:
    """The same model, reached on another way."""
    every = (*way, *reading.own)
    return replace(reading, conditions=told(every), every=every)


def _is_closed_over(made: Made) -> bool:
    """Whether what is called was given to a function around: ``def factory(cls): def make(): return cls()``. A run of
    the inner one does not see it; the follower has, at the calls of the outer one."""
    func = made.node.func if isinstance(made.node, cst.Call) else None
    if not isinstance(func, cst.Name) or func.value in made.env.scope.bindings:
        return False
    scope = made.env.scope
    while scope.parent is not None:
        if scope.takes(func.value):
            return scope is not made.env.scope
        scope = scope.parent
    return False


def _cut_off(reading: ModelReading) -> bool:
    """Whether nothing is known of norm layers, as more conditions were met than can be tried."""
    profile = reading.raw.profile
    return not profile.norms and any(gap.reason == UNDECIDED and gap.may_hold_norm for gap in profile.gaps)


def chain_of(made: Made) -> list[tuple[PyModule, cst.Call]]:
    """The calls that lead to the one that makes a model, outermost first, that one last; empty if there is none."""
    if not isinstance(made.node, cst.Call):
        return []
    found = [(made.env.module, made.node)]
    env: Env | None = made.env
    while (
        env is not None and env.call is not None and env.caller is not None and (env.receiver is None or _begins(env))
    ):
        found.append((env.caller.module, env.call))
        env = env.caller
    return found[::-1]


def _is_of(made: Made, value: Module) -> bool:
    """Whether an object is of the class that is asked for: a call may make objects of several."""
    return made.cls is None or not isinstance(value.cls, ClassVal) or value.cls.node is made.cls.node


def _beginnings(chain: Sequence[tuple[PyModule, cst.Call]]) -> Iterator[int]:
    """Where a chain may be run from: the first call, ``super().__init__(...)``, the last."""
    yield 0
    for number, (_, call) in enumerate(chain[1:], 1):
        if number == len(chain) - 1 or leaf_name(call.func) == "__init__":
            yield number


def _begins(env: Env) -> bool:
    """Whether a run is that of a constructor, by the call that makes the object or by a subclass's constructor."""
    function = env.scope.function
    made = env.receiver
    if not isinstance(function, cst.FunctionDef) or function.name.value != "__init__" or made is None:
        return False
    above = env.caller
    return made.node is env.call or (above is not None and above.receiver is made and _begins(above))


def _conditions(rows: Sequence[tuple[Decision, ...]], every: Sequence[tuple[Decision, ...]]) -> Iterator[Condition]:
    """What has to be so for a model to turn out as it did in these worlds, and not as in the others."""
    for decision in rows[0]:
        same = (decision.key, decision.outcome)
        if not all(same in {(row.key, row.outcome) for row in decisions} for decisions in rows):
            continue
        if decision.aside and not any(_turned(decision, rows[0], other) for other in every):
            continue
        if not all(same in {(row.key, row.outcome) for row in decisions} for decisions in every):
            yield Condition(decision.text, decision.holds)
    for text in dict.fromkeys(row.text for decisions in rows for row in decisions if row.holds and " or " in row.text):
        if all(_one_holds(text, decisions) for decisions in rows) and not all(
            _one_holds(text, decisions) for decisions in every
        ):
            yield Condition(text, True)


def _turned(decision: Decision, own: tuple[Decision, ...], other: tuple[Decision, ...]) -> bool:
    """Whether a decision turned out otherwise in another world, which is at odds with its own in nothing that stands on
    the way to the model: then something else came of it."""
    theirs = {row.key: row.outcome for row in other}
    return theirs.get(decision.key, decision.outcome) is not decision.outcome and all(
        theirs.get(row.key, row.outcome) is row.outcome for row in own if not row.aside
    )


def _one_holds(text: str, decisions: tuple[Decision, ...]) -> bool:
    """Whether ``a or b`` holds in a world: by its last part, which is told with all before it, or by an earlier one."""
    return any(row.holds and (row.text == text or text.startswith(f"{row.text} or ")) for row in decisions)


def _trail(made: Made, value: Module) -> list[Step]:
    steps: list[Step] = []
    if isinstance(made.node, cst.Call):
        steps.append(Step(made.env.module, made.node, "the model is made here"))
    if isinstance(value.cls, ClassVal):
        steps.append(Step(value.cls.module, value.cls.node, f"{value.cls.name} is defined here"))
    return steps
