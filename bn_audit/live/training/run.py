"""The rounds: every party trains, then they share, in one way or another; and again with the next seed.

All ways begin with the same states, and meet the same examples in the same order, so that what is shared is all that
differs.
"""

from __future__ import annotations

import copy
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from bn_audit.exchange.frameworks import NAMES, FrameworkSettings, plan
from bn_audit.federated import AggregationError
from bn_audit.live.errors import TargetError, require_torch
from bn_audit.live.profile import profile as profile_of
from bn_audit.live.training.data import Data, PartyData
from bn_audit.live.training.local import Local, accuracy_of, train_locally
from bn_audit.live.training.on_cpu import on_cpu
from bn_audit.live.training.seeds import seeded
from bn_audit.live.training.ways import Alone, FullState, Way, fedavg, fedbn, planned_way, why_not
from bn_audit.live.user_code import running
from bn_audit.training import FEDAVG, FEDBN, LOCAL, Curves, Party, Training

require_torch()

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402

__all__ = ["Options", "train"]

Progress = Callable[[int, int], None]
"""Is told how many of how many trainings are done, each of one party in one round."""


@dataclass(frozen=True, slots=True)
class Options:
    """How long, and how.

    Attributes:
        rounds: at least 1.
        seeds: how many, at least 1; they are 0, 1, 2 and so on.
        local: what a party does between two exchanges.
    """

    rounds: int = 30
    seeds: int = 3
    local: Local = field(default_factory=Local)


@on_cpu()
def train(
    build: Callable[[], nn.Module],
    data: Data,
    options: Options,
    settings: FrameworkSettings | None = None,
    *,
    target: str = "",
    notes: Sequence[str] = (),
    progress: Progress = lambda done, total: None,
) -> Training:
    """Train a model in federation: by FedAvg, by FedBN, by each party alone, and by a framework's setting if it can be.

    The same arguments give the same accuracies on one machine; on another one, rounding may differ.

    Args:
        build: gives the model. It is called once a seed, with the generators seeded by it; what it gives is copied.
        data: the parties'.
        settings: whose plan is to be trained by as well. Where that cannot be, a note says why.
        target: what to call the model; its class by default.
        notes: what else a report shall say.

    Raises:
        TargetError: the model and the data do not fit each other, or the user's code raises.
    """
    model = _built(build, 0)
    profile = profile_of(model)
    ways: dict[str, Way] = {FEDAVG: fedavg(), FEDBN: fedbn(model), LOCAL: Alone()}
    said = list(notes)
    if settings is not None:
        planned = plan(profile, settings)
        reason = why_not(profile, planned, settings)
        if reason:
            said.append(f"the setting is not trained: {reason}")
        else:
            ways[NAMES[type(settings)]] = planned_way(profile, settings, planned)
    courses: dict[str, list[_Course]] = {name: [] for name in ways}
    done = 0
    for seed in range(options.seeds):
        model = model if seed == 0 else _built(build, seed)
        initial = _snapshot(model)
        with seeded(seed):
            drawn = data.draw(seed)
        if seed and [one.name for one in drawn] != [one.name for one in courses[FEDAVG][0].parties]:
            raise TargetError(f"{data.what} gives other parties for seed {seed} than for seed 0")
        total = options.seeds * len(ways) * options.rounds * len(drawn)
        for name, way in ways.items():
            course = _Course(model, drawn, options, seed)
            with _threads(data.threads):
                for _ in course.run(initial, way):
                    done += 1
                    progress(done, total)
            courses[name].append(course)
    first = courses[FEDAVG][0]
    return Training(
        target=target or profile.type,
        data=data.what,
        parties=first.parties,
        classes=first.classes,
        rounds=options.rounds,
        epochs=options.local.epochs,
        seeds=tuple(range(options.seeds)),
        batch_size=options.local.batch_size,
        learning_rate=options.local.learning_rate,
        curves=tuple(
            Curves(name, tuple(one.curve for one in taken), tuple(one.not_finite for one in taken))
            for name, taken in courses.items()
        ),
        notes=tuple(said),
    )


@contextmanager
def _threads(number: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(before if number is None else number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Course:
    """One way of sharing, with one seed.

    Attributes, once it has run:
        parties, classes: as the data and the model's logits have them.
        curve: accuracies, by round and party.
        not_finite: the first round in which a loss was not.
    """

    def __init__(self, model: nn.Module, data: Sequence[PartyData], options: Options, seed: int) -> None:
        self._model = model
        self._data = data
        self._options = options
        self._seed = seed
        self.parties: tuple[Party, ...] = ()
        self.classes = 0
        self.curve: tuple[tuple[float, ...], ...] = ()
        self.not_finite: int | None = None

    def run(self, initial: FullState, way: Way) -> Iterator[None]:
        """Go through the rounds; yields after each training of a party."""
        try:
            states = way.begin([initial] * len(self._data))
            for number in range(1, self._options.rounds + 1):
                trained: list[FullState] = []
                examples: list[int] = []
                for party, (data, state) in enumerate(zip(self._data, states, strict=True)):
                    examples.append(self._train(data, state, number, party))
                    trained.append(_snapshot(self._model))
                    yield
                states = way.share(states, trained, examples)
                self.curve += (self._tested(states, examples),)
        except AggregationError as error:
            raise TargetError(f"the parties' states cannot be averaged: {error}") from error

    def _train(self, data: PartyData, state: FullState, number: int, party: int) -> int:
        self._load(state)
        # What is drawn is the same for all ways of sharing.
        seed = zlib.crc32(f"{self._seed} {number} {party}".encode())
        examples, finite = train_locally(self._model, data, self._options.local, seed)
        if not finite and self.not_finite is None:
            self.not_finite = number
        return examples

    def _tested(self, states: Sequence[FullState], examples: Sequence[int]) -> tuple[float, ...]:
        accuracies, parties = [], []
        for data, state, trained in zip(self._data, states, examples, strict=True):
            self._load(state)
            found = accuracy_of(self._model, data.test)
            accuracies.append(found.accuracy)
            parties.append(Party(data.name, trained, found.examples))
            self.classes = found.classes
        self.parties = tuple(parties)
        return tuple(accuracies)

    def _load(self, state: FullState) -> None:
        with running("loading a state into the model"):
            self._model.load_state_dict(dict(state))


def _built(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """A model of our own, on which a training does not show elsewhere."""
    with seeded(seed), running("copying the model"):
        model = copy.deepcopy(build())
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise TargetError(f"{type(model).__name__} has no parameter that is trained")
    if any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers())):
        raise TargetError(f"{type(model).__name__} is on the meta device, where nothing can be trained")
    return model


def _snapshot(model: nn.Module) -> FullState:
    with running("taking the state dict of the model"):
        state = model.state_dict()
    return {key: value.detach().clone() if isinstance(value, Tensor) else value for key, value in state.items()}
