"""The monitor: what it measures beside the definition, what it writes, and what it lets out."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
np = pytest.importorskip("numpy")

import bn_audit  # noqa: E402
from bn_audit.federated import AggregationError  # noqa: E402
from bn_audit.federated.monitor import Monitor, distances_from, mean_of, statistics_of  # noqa: E402
from bn_audit.live.divergence import Options, compare  # noqa: E402
from bn_audit.live.divergence.history import read_history, with_history  # noqa: E402

nn = torch.nn


def party(shift: float = 0.0, seed: int = 1) -> Any:
    """Models of one beginning, trained (in train mode) on data of their own."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Sequential(nn.Linear(6, 3), nn.BatchNorm1d(3))
    )
    torch.manual_seed(seed)
    with torch.no_grad():
        for _ in range(5):
            model(torch.randn(32, 4) + shift)
    return model


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_distances_are_those_from_the_mean(tmp_path: Path) -> None:
    models = {"alice": party(), "bob": party(0.5, 2), "carol": party(1.0, 3)}
    found = Monitor(tmp_path / "rounds.jsonl").record(3, {name: statistics_of(model) for name, model in models.items()})
    for place, path in ((1, "1"), (3, "3.1")):
        layers = {name: model.get_submodule(path).double() for name, model in models.items()}
        mean = torch.stack([layer.running_mean for layer in layers.values()]).mean(0)
        var = torch.stack([layer.running_var for layer in layers.values()]).mean(0)
        for name, layer in layers.items():
            apart = (layer.running_mean - mean) ** 2 + (layer.running_var.sqrt() - var.sqrt()) ** 2
            by_hand = (apart / ((layer.running_var + var) / 2)).sqrt().mean().item()
            assert found[name][path] == pytest.approx(by_hand, rel=1e-12), place
    assert lines(tmp_path / "rounds.jsonl") == [
        {
            "version": 1,
            "round": 3,
            "party": name,
            "layers": [{"path": path, "distance": found[name][path]} for path in ("1", "3.1")],
        }
        for name in models
    ]


def test_compare_reads_what_it_writes(tmp_path: Path) -> None:
    models = {"alice": party(), "bob": party(0.5, 2), "carol": party(1.0, 3)}
    path = tmp_path / "rounds.jsonl"
    monitor = Monitor(path)
    for number in range(3):
        found = monitor.record(number, {name: statistics_of(model) for name, model in models.items()})
    comparison = with_history(bn_audit.compare(models), read_history(path))
    assert [one.number for one in comparison.history] == [0, 1, 2]
    assert comparison.history[2].centre["1"] == tuple(found[name]["1"] for name in models)


def test_statistics_are_written_only_if_asked_for_and_loudly(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    models = {"alice": party(), "bob": party(0.5, 2)}
    statistics = {name: statistics_of(model) for name, model in models.items()}
    with caplog.at_level(logging.WARNING):
        Monitor(tmp_path / "distances.jsonl").record(1, statistics)
    assert not caplog.records
    assert not any("mean" in layer for line in lines(tmp_path / "distances.jsonl") for layer in line["layers"])
    with caplog.at_level(logging.WARNING):
        monitor = Monitor(tmp_path / "statistics.jsonl", statistics=True)
        monitor.record(1, statistics)
        monitor.record(2, statistics)
    (record,) = caplog.records
    assert "They describe the parties' data" in record.getMessage()
    history = read_history(tmp_path / "statistics.jsonl")
    found = compare(history.last(), Options())[0]
    assert list(found.first.distances["nw2"]) == pytest.approx(list(bn_audit.compare(models).first.distances["nw2"]))


def test_own_files_brought_together_are_a_history(tmp_path: Path) -> None:
    names = {"alice": 0.0, "bob": 0.5}
    monitors = {name: Monitor(tmp_path / f"{name}.jsonl") for name in names}
    for number in (1, 2):
        for name, shift in names.items():
            moved = monitors[name].record_own(number, name, statistics_of(party(shift, seed=number)))
            assert bool(moved) == (number == 2)
    before, now = statistics_of(party(0.5, seed=1)), statistics_of(party(0.5, seed=2))
    assert moved == distances_from(before, now)
    assert lines(tmp_path / "bob.jsonl")[1]["layers"][0]["moved"] == moved["1"]
    whole = tmp_path / "rounds.jsonl"
    whole.write_text("".join((tmp_path / f"{name}.jsonl").read_text() for name in names))
    history = read_history(whole)
    found = with_history(compare(history.last(), Options())[0], history)
    parties = {name: statistics_of(party(shift, seed=2)) for name, shift in names.items()}
    centre = mean_of(parties)
    expected = [distances_from(centre, own)["1"] for own in parties.values()]
    assert found.history[1].centre["1"] == pytest.approx(tuple(expected))


def test_distances_measured_elsewhere(tmp_path: Path) -> None:
    monitor = Monitor(tmp_path / "rounds.jsonl")
    monitor.record_distances(1, "alice", {"bn1": 0.25})
    monitor.record_distances(1, "bob", {"bn1": 0.5})
    assert read_history(tmp_path / "rounds.jsonl").rounds[1]["bob"].layers["bn1"].distance == 0.5
    with pytest.raises(ValueError, match="alice: bn1: a distance is a number from 0 on, not nan"):
        monitor.record_distances(2, "alice", {"bn1": float("nan")})
    with pytest.raises(ValueError, match="round 1 of alice has been written"):
        monitor.record_distances(1, "alice", {"bn1": 0.25})


def test_broken_statistics_count_nowhere(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    models = {"alice": party(), "bob": party(0.5, 2), "carol": party(1.0, 3)}
    models["bob"][1].running_var[2] = -1.0
    monitor = Monitor(tmp_path / "rounds.jsonl", statistics=True)
    with caplog.at_level(logging.WARNING):
        for number in (1, 2):
            found = monitor.record(number, {name: statistics_of(model) for name, model in models.items()})
    told = [record.getMessage() for record in caplog.records if record.getMessage().startswith("round")]
    assert told == [
        "round 1: bob: the statistics of 1 are broken (NaN, infinite or a negative variance); the layer is left out of "
        "the history"
    ]
    assert list(found["bob"]) == ["3.1"]
    sound = {name: statistics_of(models[name]) for name in ("alice", "carol")}
    assert found["alice"]["1"] == distances_from(mean_of(sound), sound["alice"])["1"]
    read_history(tmp_path / "rounds.jsonl")


def test_other_architectures_are_told_and_nothing_is_written(tmp_path: Path) -> None:
    monitor = Monitor(tmp_path / "rounds.jsonl")
    parties = {"alice": statistics_of(nn.BatchNorm1d(3)), "bob": statistics_of(nn.BatchNorm1d(4))}
    with pytest.raises(AggregationError, match="bob: 4 channels, but 3 in alice"):
        monitor.record(1, parties)
    assert lines(tmp_path / "rounds.jsonl") == []
    assert monitor.record(1, {"alice": parties["alice"]}) == {}


def test_what_is_read_of_a_model() -> None:
    shared = nn.BatchNorm1d(2)
    model = nn.ModuleDict(
        {
            "a": shared,
            "again": shared,
            "without": nn.BatchNorm1d(2, track_running_stats=False),
            "instance": nn.InstanceNorm1d(2, track_running_stats=True),
            "narrow": nn.BatchNorm1d(2).half(),
            "lazy": nn.LazyBatchNorm1d(),
        }
    )
    found = statistics_of(model)
    assert list(found) == ["a", "instance", "narrow"] == list(statistics_of(model.state_dict()))
    assert found["narrow"].mean.dtype == np.float64
    shared.running_mean += 1
    assert found["a"].mean.tolist() == [0, 0]


def test_a_file_that_is_there_is_not_added_to(tmp_path: Path) -> None:
    path = tmp_path / "below" / "rounds.jsonl"
    Monitor(path).record_distances(1, "alice", {"bn": 0.1})
    with pytest.raises(FileExistsError, match="resume=True"):
        Monitor(path)
    again = Monitor(path, resume=True)
    with pytest.raises(ValueError, match="round 1 of alice has been written"):
        again.record_distances(1, "alice", {"bn": 0.1})
    again.record_distances(2, "alice", {"bn": 0.1})
    assert [line["round"] for line in lines(path)] == [1, 2]
    path.write_text("{}\n")
    with pytest.raises(ValueError, match=r"rounds.jsonl:1 is no line of a history"):
        Monitor(path, resume=True)


def test_tensorboard_has_a_run_for_each_party(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    models = {"alice": party(), "../bob": party(0.5, 2)}
    with Monitor(tmp_path / "rounds.jsonl", tensorboard=tmp_path / "runs") as monitor:
        for number in (1, 2):
            found = monitor.record(number, {name: statistics_of(model) for name, model in models.items()})
    assert sorted(folder.name for folder in (tmp_path / "runs").iterdir()) == ["%2E%2E%2Fbob", "alice"]
    events = EventAccumulator(str(tmp_path / "runs" / "alice"))
    events.Reload()
    assert sorted(events.Tags()["scalars"]) == ["first norm layer", "layers/1", "layers/3.1"]
    scalars = events.Scalars("first norm layer")
    assert [scalar.step for scalar in scalars] == [1, 2]
    assert scalars[1].value == pytest.approx(found["alice"]["1"])


def test_without_tensorboard_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ImportError, match=r"pip install 'tensorboard>="):
        Monitor(tmp_path / "rounds.jsonl", tensorboard=tmp_path / "runs")


def test_statistics_by_other_names() -> None:
    state = {
        "bn.moving_mean": torch.tensor([[[1.0]], [[2.0]]]),
        "bn.moving_std": torch.tensor([[[3.0]], [[-4.0]]]),
        "evo.running_var": torch.ones(2),
        "twice.running_mean_a": torch.ones(2),
        "twice.running_mean_b": torch.ones(2),
        "twice.running_var": torch.ones(2),
    }
    (found,) = statistics_of(state).items()
    assert found[0] == "bn"
    assert found[1].mean.tolist() == [1.0, 2.0]
    # A standard deviation below 0 stays as broken as it is.
    assert found[1].var.tolist() == [9.0, -16.0]


def test_statistics_that_only_a_forward_shows() -> None:
    class Own(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("m", torch.zeros(3))
            self.register_buffer("v", torch.ones(3))

        def forward(self, x: Any) -> Any:
            if self.training:
                self.m, self.v = 0.9 * self.m + 0.1 * x.mean(0), 0.9 * self.v + 0.1 * x.var(0)
            return (x - self.m) / (self.v + 1e-5).sqrt()

    model = nn.Sequential(Own())
    model(torch.randn(8, 3))
    assert statistics_of(model)["0"].var.tolist() == model[0].v.double().tolist()
    assert statistics_of(model.state_dict()) == {}
