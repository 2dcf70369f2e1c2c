"""The monitor in Flower: what nodes share if they are told to, and what they write down for themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("flwr", reason="runs Flower itself")

from flwr.app import ConfigRecord  # noqa: E402

from bn_audit.federated import AggregationError  # noqa: E402
from bn_audit.federated.flower import FedBN, LocalBatchNormMod, make_arrays  # noqa: E402
from bn_audit.federated.monitor import Monitor, distances_from, mean_of, statistics_of  # noqa: E402
from bn_audit.live.divergence.history import read_history  # noqa: E402
from tests.federated.flower.inprocess import Nodes, Trainer, context  # noqa: E402
from tests.federated.flower.models import Net, moved  # noqa: E402
from tests.federated.flower.test_rounds import trained  # noqa: E402

pytestmark = pytest.mark.flower


def name(own: Any) -> str:
    return {1: "alice", 2: "bob", 3: "carol"}[own.node_id]


def test_nodes_that_share_are_in_the_history(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    app = Trainer(Net, moved, mods=[LocalBatchNormMod(Net, share_statistics=True, party=name)])
    grid = Nodes(app, {number: context(number) for number in (1, 2, 3)})
    with Monitor(tmp_path / "rounds.jsonl") as monitor:
        FedBN(model=Net(), monitor=monitor).start(grid, make_arrays(Net()), num_rounds=2)
    history = read_history(tmp_path / "rounds.jsonl")
    for round_, lines in history.rounds.items():
        parties = {name(context(n)): statistics_of(state) for n, state in trained(Net, round_).items()}
        centre = mean_of(parties)
        for party, line in lines.items():
            found = {path: layer.distance for path, layer in line.layers.items()}
            assert list(found) == ["block.downsample.1", "bn", "instance"]
            assert found == pytest.approx(distances_from(centre, parties[party]))
    assert sorted(history.rounds) == [1, 2] and history.parties == ("alice", "bob", "carol")
    told = [record.getMessage() for record in caplog.records if "running statistics" in record.getMessage()]
    assert sorted(told) == [
        f"node {number} sends the running statistics of 3 norm layers to the server, since share_statistics=True. They "
        "describe the node's data."
        for number in (1, 2, 3)
    ]


def test_nodes_that_do_not_share_send_nothing_whatever_the_server_wants(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    grid = Nodes(Trainer(Net, moved, mods=[LocalBatchNormMod(Net)]), {number: context(number) for number in (1, 2, 3)})
    monitor = Monitor(tmp_path / "rounds.jsonl")
    FedBN(model=Net(), monitor=monitor).start(grid, make_arrays(Net()), num_rounds=2)
    assert monitor.path.read_text() == ""
    assert not any("bn_audit.statistics" in message.content for message in grid.messages())
    (told,) = {record.getMessage() for record in caplog.records if "share no statistics" in record.getMessage()}
    assert told.startswith("3 nodes share no statistics, and are not in ")


def test_what_a_server_without_a_monitor_is_sent_reaches_no_strategy() -> None:
    app = Trainer(Net, moved, mods=[LocalBatchNormMod(Net, share_statistics=True)])
    seen: list[Any] = []

    class Watched(FedBN):
        def _check_and_log_replies(self, replies: Any, *rest: Any, **more: Any) -> Any:
            seen.extend(set(reply.content) for reply in replies)
            return super()._check_and_log_replies(replies, *rest, **more)

    grid = Nodes(app, {number: context(number) for number in (1, 2)})
    Watched(model=Net()).start(grid, make_arrays(Net()), num_rounds=1)
    assert seen == [{"arrays", "metrics"}] * 2 + [{"metrics"}] * 2


@pytest.mark.parametrize(
    ("record", "told"),
    [
        ({"party": "a"}, "no statistics as LocalBatchNormMod sends them"),
        ({"party": "a", "layers": ["bn"], "mean 0": [1.0, 1.0, 1.0]}, "no mean and variance of 'bn'"),
        ({"party": "a", "layers": ["bn"], "mean 0": [1.0], "var 0": [1.0]}, "statistics of 1 channels, unlike"),
        ({"party": "alice", "layers": []}, "another node calls itself 'alice' too"),
    ],
)
def test_statistics_that_are_none(record: dict[str, Any], told: str) -> None:
    def junk(message: Any, own: Any, call_next: Any) -> Any:
        reply = call_next(message, own)
        if own.node_id == 2:
            reply.content["bn_audit.statistics"] = ConfigRecord(record)
        return reply

    app = Trainer(Net, moved, mods=[junk, LocalBatchNormMod(Net, share_statistics=True, party=name)])
    grid = Nodes(app, {number: context(number) for number in (1, 2, 3)})
    with pytest.raises(AggregationError, match=f"round 1: node [12]: .*{told}"):
        FedBN(model=Net()).start(grid, make_arrays(Net()), num_rounds=1)


def test_a_node_s_own_history(tmp_path: Path) -> None:
    grid = Nodes(Trainer(Net, moved, mods=[LocalBatchNormMod(Net, party=name)]), {})
    for number in (1, 2):
        grid.contexts[number] = context(number, **{"bn-audit-folder": str(tmp_path / str(number))})
    FedBN(model=Net()).start(grid, make_arrays(Net()), num_rounds=2)
    assert not any("bn_audit.statistics" in message.content for message in grid.messages())
    path = tmp_path / "2" / "rounds-7.jsonl"
    first, second = (json.loads(line) for line in path.read_text().splitlines())
    before, now = (statistics_of(trained(Net, round_)[2]) for round_ in (1, 2))
    assert {layer["path"]: layer["moved"] for layer in second["layers"]} == pytest.approx(distances_from(before, now))
    assert all("moved" in layer for layer in first["layers"])
    whole = tmp_path / "rounds.jsonl"
    whole.write_text("".join((tmp_path / str(n) / "rounds-7.jsonl").read_text() for n in (1, 2)))
    assert read_history(whole).parties == ("alice", "bob")
