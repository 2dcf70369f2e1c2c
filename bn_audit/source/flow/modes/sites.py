"""From the models of federations to the places where their mode is wrong, as plain data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import libcst as cst

from bn_audit.federation import EvaluationSite, Participant, TrainingSite
from bn_audit.finding import Evidence
from bn_audit.source.flow.eval_edit import eval_edit, written
from bn_audit.source.flow.exchanges import Client
from bn_audit.source.flow.follow import Follower
from bn_audit.source.flow.hunt import Federation
from bn_audit.source.flow.loops import loops_around
from bn_audit.source.flow.models import ModelReader, ModelReading
from bn_audit.source.flow.modes.setting import Forward, Mode, Setting
from bn_audit.source.flow.modes.walk import ModeWalk
from bn_audit.source.flow.objects import ObjectFollower, original
from bn_audit.source.flow.purpose import measured, trained_by, tunes_statistics
from bn_audit.source.flow.values import Env, Made
from bn_audit.source.interpreter.values import Step
from bn_audit.source.locate import Locator

__all__ = ["ModeSites"]

_MAX_ROOTS = 4
"""Programs that are gone through for one model."""
_MAX_CLIMB = 12
"""Calls from where a model is made up to where its program begins."""
_FOLLOW_STEPS = 20_000
"""What following expressions may take for one model."""

ToParticipants = Callable[[Iterable[ModelReading]], tuple[Participant, ...]]
Site = EvaluationSite | TrainingSite


@dataclass(slots=True)
class _Seen:
    """A forward, and what it is for."""

    forward: Forward
    measured: Step | None = None
    trained: tuple[Step, frozenset[Made]] | None = None


@dataclass(slots=True)
class _Program:
    """Where a program begins, the models that it makes, and the scopes by way of which it does."""

    root: Env
    models: list[Made] = field(default_factory=list)
    ways: set[int] = field(default_factory=set)


class ModeSites:
    """Finds where models of federations are in the wrong mode; keeps what it has found out of each model."""

    def __init__(self, follower: Follower, reader: ModelReader, locator: Locator, plain: ToParticipants) -> None:
        self.follower = ObjectFollower.beside(follower)
        self.reader = reader
        self.locator = locator
        self.plain = plain
        self._found: dict[Made, tuple[Site, ...]] = {}
        self.notes: list[str] = []

    def sites(self, federations: Sequence[Federation], clients: Sequence[Client]) -> list[Site]:
        """Those of the models that take part in federations, or that clients of frameworks send or load."""
        models: dict[Made, Step] = {}
        for federation in federations:
            step = Step(federation.env.module, federation.averaging.node, "its state is combined with other parties'")
            for reading in federation.readings:
                models.setdefault(original(reading.made), step)
        for client in clients:
            step = Step(client.module, client.node, f"{client.framework.title} exchanges its state by way of this")
            for made in _exchanged(client):
                models.setdefault(original(made), step)
        found: list[Site] = []
        for made in models:
            if made in self._found:
                found.extend(self._found[made])
        unseen = {made: step for made, step in models.items() if made not in self._found and self._concerns(made)}
        self._found.update((made, ()) for made in models if made not in self._found)
        for program in self._programs(unseen):
            sites = tuple(self._walk(program, unseen))
            for made in program.models:
                self._found[made] = (*self._found[made], *sites)
            found.extend(sites)
        return list(dict.fromkeys(found))

    # --- programs ----------------------------------------------------------------------------------------------------

    def _concerns(self, made: Made) -> bool:
        """Whether a model certainly has running statistics, in one of its readings at least."""
        return any(_tracks(reading) for reading in self.reader.readings(made))

    def _programs(self, models: Iterable[Made]) -> list[_Program]:
        """The programs that make some models."""
        found: dict[int, _Program] = {}
        for made in models:
            roots, ways = self._roots(made)
            for root in roots:
                program = found.setdefault(id(root.scope), _Program(root))
                program.models.append(made)
                program.ways |= ways
        return list(found.values())

    def _walk(self, program: _Program, federated: Mapping[Made, Step]) -> Iterator[Site]:
        """Go through one program, and judge what was seen of the models."""
        models = program.models
        walk = self._through(program)
        if walk is None:
            name = self.follower.project.display(program.root.module.path)
            self.notes.append(f"{name}: more to follow for the modes of its models than the limit allows")
            return
        found = _Judgement(self.follower, federated, [self._purpose(forward) for forward in walk.forwards])
        wrong = list(found.evaluations())
        if wrong:
            # As if `eval()` were called there: is the model then trained in eval mode?
            nodes = [one.forward.node for one, _ in wrong]
            after = self._through(program, nodes)
            mendable = set(models) - _trained_in_eval_mode(after, nodes) if after is not None else set()
            for one, made in wrong:
                yield self._evaluation(one, made, found.federated[made[0]], mendable.issuperset(made))
        for one, made in found.trainings():
            yield self._training(one, made, found.federated[made[0]])

    def _through(self, program: _Program, evaluations: Sequence[cst.CSTNode] = ()) -> ModeWalk | None:
        self.follower.steps, self.follower.exhausted = _FOLLOW_STEPS, False
        walk = ModeWalk(self.follower, program.models, program.ways, evaluations)
        walk.run(program.root)
        return None if walk.exhausted else walk

    def _roots(self, made: Made) -> tuple[list[Env], set[int]]:
        """Where the programs begin that make a model; and the scopes by way of which they do, by identity."""
        env = begin = made.env
        ways = {id(env.scope)}
        while env.caller is not None:
            env = env.caller
            ways.add(id(env.scope))
        found: dict[int, Env] = {}
        seen: set[int] = set()
        queue: list[tuple[Env, int]] = [(env, 0), (begin, 0)]
        while queue and len(found) < _MAX_ROOTS:
            env, depth = queue.pop(0)
            scope = env.scope
            while isinstance(scope.node, (cst.ClassDef, cst.Lambda)) and scope.parent is not None:
                scope = scope.parent
            if id(scope) in seen:
                continue
            seen.add(id(scope))
            env = self.follower.alone(env.module, scope)
            if scope.function is None or depth >= _MAX_CLIMB:
                found[id(scope)] = env
                continue
            above = [caller for _, caller in self.follower.callers.running(env)]
            if not above:
                found[id(scope)] = env
            queue.extend((caller, depth + 1) for caller in above)
        return list(found.values()), ways | seen

    def _purpose(self, forward: Forward) -> _Seen:
        if forward.quiet is not None:
            return _Seen(forward, measured=measured(self.follower, forward.around))
        return _Seen(forward, trained=trained_by(self.follower, forward.around))

    # --- plain data --------------------------------------------------------------------------------------------------

    def _evaluation(self, one: _Seen, models: Sequence[Made], federation: Step, mendable: bool) -> EvaluationSite:
        forward = one.forward
        assert forward.quiet is not None and one.measured is not None
        calls = [setting for made in models for setting in forward.settings(made) if setting.mode is Mode.TRAIN]
        index = self.follower.index(forward.env.module)
        return EvaluationSite(
            location=self.locator.at(Step(forward.env.module, forward.node)),
            model=_code(forward),
            participants=self._participants(_as_met(forward, models)),
            quiet=self._evidence(forward.quiet, "gradients are off here"),
            measured=self._evidence(one.measured),
            trained=self._settings(calls, "put into train mode here"),
            federation=self._evidence(federation),
            through=self._calls(forward),
            edits=eval_edit(index, self.locator, forward) if mendable else (),
        )

    def _training(self, one: _Seen, models: Sequence[Made], federation: Step) -> TrainingSite:
        forward = one.forward
        assert one.trained is not None
        calls = [setting for made in models for setting in forward.settings(made) if setting.mode is Mode.EVAL]
        return TrainingSite(
            location=self.locator.at(Step(forward.env.module, forward.node)),
            model=_code(forward),
            participants=self._participants(_as_met(forward, models)),
            step=self._evidence(one.trained[0], "the optimizer takes a step here"),
            evaluated=self._settings(calls, "put into eval mode here"),
            federation=self._evidence(federation),
            through=self._calls(forward),
        )

    def _participants(self, models: Iterable[Made]) -> tuple[Participant, ...]:
        return self.plain(reading for made in models for reading in self.reader.readings(made) if _tracks(reading))

    def _evidence(self, step: Step, message: str = "") -> Evidence:
        return Evidence(self.locator.at(step), message or step.message)

    def _settings(self, settings: Iterable[Setting], message: str) -> tuple[Evidence, ...]:
        steps = [Step(setting.env.module, setting.node, message) for setting in settings]
        return tuple(sorted({self._evidence(step) for step in steps}, key=lambda row: row.location))

    def _calls(self, forward: Forward) -> tuple[Evidence, ...]:
        steps = [Step(env.module, call, "called here") for call, env in forward.calls]
        return tuple(dict.fromkeys(self._evidence(step) for step in steps))


def _exchanged(client: Client) -> Iterator[Made]:
    """The models that a client sends or loads."""
    for load in client.loads:
        yield from load.models
    for send in client.sends:
        for way in send.ways:
            for part in way.parts:
                yield from part.models


def _as_met(forward: Forward, models: Sequence[Made]) -> list[Made]:
    """Models as a forward has them: of what one function makes for several callers, those that it made for this one,
    whose layers may be others."""
    found: list[Made] = []
    for model in models:
        runs = {made.env.key: made for made in map(original, forward.objects) if made == model}
        found.extend(runs.values() if len(runs) == 1 else [model])
    return found


def _tracks(reading: ModelReading) -> bool:
    return any(norm.tracked is True and norm.family != "other" for norm in reading.raw.profile.norms)


@dataclass(slots=True)
class _Judgement:
    """What is wrong with the modes that were seen, of models that take part in a federation."""

    follower: Follower
    federated: Mapping[Made, Step]
    seen: Sequence[_Seen]

    def evaluations(self) -> Iterator[tuple[_Seen, list[Made]]]:
        """Evaluations in train mode, each with the models of which that is certain."""
        for one in self.seen:
            if one.measured is not None and not tunes_statistics(one.forward.around):
                models = [made for made in self._models(one) if self._in_train_mode(one.forward, made)]
                if models:
                    yield one, models

    def trainings(self) -> Iterator[tuple[_Seen, list[Made]]]:
        """Trainings in eval mode, each with the models of which that is certain."""
        for one in self.seen:
            if one.trained is not None:
                models = [made for made in self._models(one) if self._in_eval_mode(one, made)]
                if models:
                    yield one, models

    def _models(self, one: _Seen) -> list[Made]:
        met = set(one.forward.models)
        return [made for made in self.federated if made in met]  # in an order that is the same in every run

    def _in_train_mode(self, forward: Forward, model: Made) -> bool:
        """Whether a model is in train mode, and nobody put it there for anything else than training."""
        settings = forward.settings(model)
        return (
            bool(settings)
            and all(setting.mode.trains for setting in settings)
            and all(self._for_training(setting, model) for setting in settings if setting.mode is not Mode.FRESH)
        )

    def _for_training(self, setting: Setting, model: Made) -> bool:
        """Whether a call of ``train()`` is followed by training: by what it is set for itself, or by what is trained
        after it in the same function."""
        trainings = [one.forward for one in self.seen if one.trained is not None and model in one.forward.models]
        return any(setting in forward.settings(model) or self._follows(forward, setting) for forward in trainings)

    def _follows(self, forward: Forward, setting: Setting) -> bool:
        """Whether a forward comes after a setting in the function where the mode is set, or by a call there."""
        order = self.follower.index(setting.env.module).order
        return any(env.scope is setting.env.scope and order(node) > order(setting.node) for node, env in forward.around)

    def _in_eval_mode(self, one: _Seen, model: Made) -> bool:
        """Whether a model comes to its training from an evaluation, and nothing puts it into train mode on any way."""
        forward = one.forward
        assert one.trained is not None
        settings = forward.settings(model)
        objects = {made for made in forward.objects if original(made) == model}
        left = [setting for setting in settings if setting.mode is Mode.EVAL]
        return (
            bool(left)
            and all(setting.mode in (Mode.FRESH, Mode.EVAL) or self._at_birth(setting, model) for setting in settings)
            and all(setting.one and self._for_evaluation(setting, model, forward) for setting in left)
            and len(objects) == 1
            and objects <= one.trained[1]
        )

    def _at_birth(self, setting: Setting, model: Made) -> bool:
        """Whether a model is put into train mode where it is made, once: ``model = Net(); model.train(True)``."""
        made = original(model)
        if setting.mode is not Mode.TRAIN or setting.env.scope is not made.env.scope:
            return False
        index = self.follower.index(setting.env.module)
        loops = [loop.node for loop in loops_around(index, setting.node)]
        return loops == [loop.node for loop in loops_around(index, made.node)]

    def _for_evaluation(self, setting: Setting, model: Made, training: Forward) -> bool:
        """Whether a call of ``eval()`` is followed by an evaluation, and not by this training."""
        evaluations = [one.forward for one in self.seen if one.measured is not None and model in one.forward.models]
        order = self.follower.index(setting.env.module).order
        ahead = [node for node, env in training.around if env.scope is setting.env.scope]
        for forward in evaluations:
            if setting not in forward.settings(model):
                continue
            places = [order(node) for node, env in forward.around if env.scope is setting.env.scope]
            # Set ahead of the training in the same function, with no evaluation between: somebody wants it so.
            if not ahead or not places or not order(setting.node) < order(ahead[0]) < places[0]:
                return True
        return False


def _trained_in_eval_mode(walk: ModeWalk, nodes: Sequence[cst.CSTNode]) -> set[Made]:
    """The models that come to a forward with gradients from one of some evaluations, still in eval mode."""
    return {
        original(made)
        for forward in walk.forwards
        if forward.quiet is None
        for made, setting in forward.modes
        if setting.mode is Mode.EVAL and any(setting.node is node for node in nodes)
    }


def _code(forward: Forward) -> str:
    return forward.env.module.tree.code_for_node(written(forward)).strip()
