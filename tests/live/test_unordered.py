"""What is said of a file that does not keep the order of the state dict holds for every order."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import nn

from bn_audit.exchange.plan import Fate
from bn_audit.exchange.secretflow import SecretFlowSettings, plan
from bn_audit.exchange.secretflow.strategies import strategies
from bn_audit.inspection import aggregators
from bn_audit.live.profile import profile


class Mixed(nn.Module):
    """A BatchNorm at the top, state of other dtypes."""

    def __init__(self, top: bool) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 2, 1)
        self.norm = nn.BatchNorm1d(2) if top else nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
        self.half = nn.Linear(2, 2).half()
        self.register_buffer("table", torch.arange(3))


MODELS = {
    "flat": nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 2)),
    "top": Mixed(True),
    "nested": Mixed(False),
    "instance": nn.Sequential(nn.Linear(2, 2), nn.InstanceNorm1d(2, track_running_stats=True)),
}


def every_settings() -> Iterator[SecretFlowSettings]:
    for strategy in strategies("torch"):
        for aggregator in aggregators(strategy.name):
            for skip_bn in (False, True):
                yield SecretFlowSettings(
                    backend="torch",
                    strategy=strategy.name,
                    aggregator=aggregator,
                    skip_bn=skip_bn,
                    torch_version="2.13",
                )


@pytest.mark.parametrize("name", MODELS)
def test_what_is_certain_without_an_order_is_so_in_every_order(name: str) -> None:
    known = profile(MODELS[name])
    chance = random.Random(0)
    orders = [tuple(chance.sample(known.entries, len(known.entries))) for _ in range(6)]
    for settings in every_settings():
        said = plan(replace(known, ordered=False), settings)
        possible = {entry.key: entry.possible for entry in said.entries}
        for entries in (known.entries, *orders):
            made = plan(replace(known, entries=entries), settings)
            assert said.stops is None or made.stops is None or said.stops == made.stops, settings
            assert said.drifts is None or made.drifts is None or said.drifts == made.drifts, settings
            assert said.error is None or not said.error.text_certain or said.error == made.error, settings
            for entry in made.entries:
                # Where the round stops depends on the order.
                stops_here = Fate.FAILS in entry.possible or Fate.FAILS in possible[entry.key]
                assert stops_here or entry.possible <= possible[entry.key], (settings, entry)
