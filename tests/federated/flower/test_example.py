"""The example's app, on Flower's own classes: each way runs, and only FedAvg shows anybody a BatchNorm."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn", reason="the digits are scikit-learn's")
pytest.importorskip("flwr", reason="runs Flower itself")

import numpy as np  # noqa: E402

from tests.federated.flower.inprocess import Nodes, context  # noqa: E402

pytestmark = pytest.mark.flower
FOLDER = Path(__file__).parents[3] / "examples" / "flower_digits"


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module("digits.app")
    for name in [name for name in sys.modules if name == "digits" or name.startswith("digits.")]:
        del sys.modules[name]


@pytest.mark.parametrize("way", ["fedavg", "fedbn", "local"])
def test_each_way_runs(app: Any, way: str, capsys: pytest.CaptureFixture[str]) -> None:
    contexts = {n + 1: context(n + 1, **{"partition-id": n, "num-partitions": 5}) for n in range(5)}
    for own in contexts.values():
        own.run_config = {"way": way, "seed": 0, "rounds": 3}
    grid = Nodes(app.client, contexts)
    app.server(grid, contexts[1])
    told = json.loads(capsys.readouterr().out.partition("RESULT ")[2])
    assert told["way"] == way and len(told["accuracy"]) == 3
    assert 0.05 < told["accuracy"][0] <= told["accuracy"][2] < 1
    assert not any(message.has_error() for message in grid.messages())
    held = any(b"running_mean" in written for written in grid.sent)
    assert held == (way != "fedbn")
    if way == "local":
        # What goes round is what the server began with, but for the rounding of a mean of equal values.
        first, *rest = (m.content["arrays"]["fc.weight"].numpy() for m in grid.messages() if "arrays" in m.content)
        assert all(np.allclose(one, first) for one in rest)
