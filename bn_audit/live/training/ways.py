"""Ways of sharing what the parties learnt: FedAvg, FedBN, not at all, and by a framework's plan.

FedAvg and FedBN are those of :mod:`bn_audit.federated`; a plan is executed (:mod:`bn_audit.live.execute`) on the states
that the training really led to.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from bn_audit.exchange import flower
from bn_audit.exchange.flower import FlowerSettings
from bn_audit.exchange.frameworks import FrameworkSettings
from bn_audit.exchange.nvflare import NVFlareSettings
from bn_audit.exchange.plan import Fate, Plan
from bn_audit.exchange.secretflow import SecretFlowSettings, plan
from bn_audit.federated import FedAvg, FedBNAggregator, merge_state
from bn_audit.live.errors import require_torch
from bn_audit.live.execute import Exchange, State, execute
from bn_audit.live.rounds import after_training, first_exchange, handed_back, later_plans, zeroed
from bn_audit.profile import Profile

require_torch()

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402

__all__ = ["Alone", "FullState", "Way", "fedavg", "fedbn", "planned_way", "why_not"]

FullState = Mapping[str, Any]
"""A party's whole state dict, what is no tensor in it as well. Tensors are replaced, never written to."""


class Way(ABC):
    """What happens to the parties' states between their trainings."""

    def begin(self, states: Sequence[FullState]) -> Sequence[FullState]:
        """The states with which the first training begins, from the initial ones."""
        return states

    @abstractmethod
    def share(
        self, before: Sequence[FullState], trained: Sequence[FullState], weights: Sequence[float]
    ) -> Sequence[FullState]:
        """The states at the end of a round.

        Args:
            before: those in which its training began.
            trained: those to which it led.
            weights: one a party.
        """


class Alone(Way):
    """Each party keeps all of its own."""

    def share(
        self, before: Sequence[FullState], trained: Sequence[FullState], weights: Sequence[float]
    ) -> Sequence[FullState]:
        return trained


class Server(Way):
    """An aggregator combines the states, and every party loads what it gives."""

    def __init__(self, aggregator: FedAvg | FedBNAggregator) -> None:
        self._aggregator = aggregator

    def share(
        self, before: Sequence[FullState], trained: Sequence[FullState], weights: Sequence[float]
    ) -> Sequence[FullState]:
        shared = self._aggregator.aggregate([_tensors(state) for state in trained], weights)
        return [merge_state(state, shared) for state in trained]


def fedavg() -> Way:
    """Everything is averaged; integers are cut off, as on loading into an integer entry."""
    return Server(FedAvg())


def fedbn(model: nn.Module) -> Way:
    """Everything is averaged but BatchNorm. Other integers, constants or counters as its own, stay what they are."""
    return Server(FedBNAggregator.from_module(model, integer_state="keep-local"))


class _SecretFlow(Way):
    """What the plan of SecretFlow's settings does, beginning with the exchange before any training."""

    def __init__(self, profile: Profile, settings: SecretFlowSettings, planned: Plan) -> None:
        self._profile = profile
        self._settings = settings
        self._first = plan(profile, first_exchange(settings)).entries
        self._later = later_plans(profile, settings, planned)

    def begin(self, states: Sequence[FullState]) -> Sequence[FullState]:
        held = [_tensors(state) for state in states]
        after = execute(self._profile, self._first, Exchange(held, held, [1.0] * len(held), held))
        return [{**state, **shared} for state, shared in zip(states, after, strict=True)]

    def share(
        self, before: Sequence[FullState], trained: Sequence[FullState], weights: Sequence[float]
    ) -> Sequence[FullState]:
        held, done = ([_tensors(state) for state in states] for states in (before, trained))
        steps = [
            {key: new[key] if new[key].dtype is torch.bool else new[key] - old[key] for key in new}
            for old, new in zip(held, done, strict=True)
        ]
        exchange = after_training(self._profile, self._settings, self._later, held, done, steps, weights)
        after = execute(self._profile, self._later, exchange)
        return [{**state, **shared} for state, shared in zip(trained, after, strict=True)]


class _Alike(Way):
    """What the plan of Flower's or NVFlare's settings does: all rounds are alike."""

    def __init__(self, profile: Profile, settings: FlowerSettings | NVFlareSettings, planned: Plan) -> None:
        self._profile = profile
        self._settings = settings
        self._planned = planned
        self._set: State = {}

    def begin(self, states: Sequence[FullState]) -> Sequence[FullState]:
        # All parties begin alike, and so does the server.
        begun = _tensors(states[0])
        zeros, back = zeroed(self._profile, self._settings, begun), handed_back(self._profile, self._settings, begun)
        self._set = {**zeros, **back}
        return states

    def share(
        self, before: Sequence[FullState], trained: Sequence[FullState], weights: Sequence[float]
    ) -> Sequence[FullState]:
        done = [_tensors(state) for state in trained]
        after = execute(self._profile, self._planned.entries, Exchange(done, done, weights, done))
        return [{**state, **shared, **self._set} for state, shared in zip(trained, after, strict=True)]


def planned_way(profile: Profile, settings: FrameworkSettings, planned: Plan) -> Way:
    """What a plan does that :func:`why_not` has nothing against."""
    if isinstance(settings, SecretFlowSettings):
        return _SecretFlow(profile, settings, planned)
    return _Alike(profile, settings, planned)


def why_not(profile: Profile, planned: Plan, settings: FrameworkSettings) -> str:
    """Why a plan cannot be trained by, in words; "" if it can."""
    if planned.error is not None:
        return (
            "it stops before any training" if planned.error.round == 0 else f"it stops in round {planned.error.round}"
        )
    if settings.strategy not in ("fed_avg_w", "fed_avg_u", "fedavg", "scatter_and_gather"):
        return f"{settings.strategy} changes the local training or what is sent of it, which is not imitated"
    # What is zero in every round is nobody's value, and known all the same.
    zeros = flower.zeroed(profile, settings) if isinstance(settings, FlowerSettings) else frozenset[str]()
    fates = {entry.fate for entry in planned.entries if entry.key not in zeros}
    if Fate.CORRUPT in fates:
        return "entries are rebuilt from uninitialised memory, and what follows is chance"
    if planned.stops is None or not planned.complete or None in fates:
        return "its plan leaves open what happens"
    return ""


def _tensors(state: FullState) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if isinstance(value, Tensor)}
