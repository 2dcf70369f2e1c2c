"""Flower's simulation in Ray: three parties, one of which fails and one lies; and twenty, half of them in a round."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("flwr", reason="runs Flower itself")
pytest.importorskip("ray", reason="runs Flower's simulation")

import numpy as np  # noqa: E402

from bn_audit.federated import FedBNAggregator, local_keys  # noqa: E402
from tests.federated.flower.deployed import assert_no_batchnorm, last  # noqa: E402
from tests.federated.flower.models import Net  # noqa: E402

pytestmark = pytest.mark.flower
ROOT = Path(__file__).parents[3]


def simulated(folder: Path, parties: int) -> dict[str, object]:
    environment = {
        **os.environ,
        "BN_AUDIT_RUN": str(folder),
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)]),
        "FLWR_TELEMETRY_ENABLED": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "tests.federated.flower.simulate", str(parties)]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=folder, timeout=400, check=False
    )
    told = folder / "server.json"
    assert told.exists(), f"{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
    found: dict[str, object] = json.loads(told.read_text())
    return found


def assert_own_batchnorm(folder: Path, party: int) -> None:
    seen, own = torch.load(folder / f"seen-{party}.pt"), last(folder, party)
    for key in local_keys(Net()):
        assert torch.equal(seen[key], own[key]), (party, key)


def test_three_parties(tmp_path: Path) -> None:
    found = simulated(tmp_path, 3)
    # The liar is named, and its reply is the one message with BatchNorm in it: it went round the mod.
    liars = [path for path in sorted(tmp_path.glob("message-*")) if b"bn.running_mean" in path.read_bytes()]
    assert len(liars) == 1
    liars[0].rename(tmp_path / "liar")
    (rejected,) = found["rejected"]  # type: ignore[misc]
    messages = assert_no_batchnorm(tmp_path)
    nodes = {message.metadata.dst_node_id for message in messages if message.metadata.message_type == "train"}
    assert rejected[0] == 2
    (node,) = {node for node in nodes if f"node {node}: " in rejected[1]}
    assert rejected[1].startswith(f"node {node}: block.downsample.1.weight: BatchNorm, which stays with the node")
    # One failed; the third round is all of them again, and each has the BatchNorm that it had.
    assert sum(message.has_error() for message in messages) == 1
    assert not (tmp_path / "trained-1-002.pt").exists()
    for party in range(3):
        assert_own_batchnorm(tmp_path, party)
    states = [last(tmp_path, party) for party in range(3)]
    mean = FedBNAggregator.from_module(Net()).aggregate(states, [10.0, 11.0, 12.0])
    assert np.allclose(found["fc.weight"], mean["fc.weight"].numpy())


def test_twenty_parties(tmp_path: Path) -> None:
    simulated(tmp_path, 20)
    messages = assert_no_batchnorm(tmp_path)
    assert not any(message.has_error() for message in messages)
    trained = sorted(tmp_path.glob("trained-*.pt"))
    assert len(trained) == 3 * 10
    rounds = {path.name.split("-")[1]: path for path in trained}
    assert 10 <= len(rounds) <= 20
    # Also those that were not asked to train in the last rounds.
    for party in map(int, rounds):
        assert_own_batchnorm(tmp_path, party)
    begun = Net().state_dict()
    for party in set(range(20)) - set(map(int, rounds)):
        seen = torch.load(tmp_path / f"seen-{party}.pt")
        assert torch.equal(seen["bn.running_mean"], begun["bn.running_mean"])
