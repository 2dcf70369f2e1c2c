"""Histories: lines of JSON, whole and broken, and what they add to a comparison."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import bn_audit  # noqa: E402
from bn_audit.live.divergence import Options, compare  # noqa: E402
from bn_audit.live.divergence.history import read_history, with_history  # noqa: E402
from bn_audit.live.errors import TargetError  # noqa: E402
from tests.live.divergence.test_compare import party  # noqa: E402


def line(number: int, name: str, *layers: dict[str, Any]) -> dict[str, Any]:
    return {"version": 1, "round": number, "party": name, "layers": list(layers)}


def layer(path: str = "bn1", **values: Any) -> dict[str, Any]:
    return {"path": path, **values}


def written(folder: Path, *lines: dict[str, Any]) -> Path:
    path = folder / "history.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    return path


def test_distances_are_taken_as_they_are(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        line(2, "bob", layer(distance=0.4)),
        line(1, "alice", layer(distance=0.1), layer("bn2", distance=9)),
        line(1, "bob", layer(distance=0.2)),
        line(2, "eve", layer(distance=0.2)),
    )
    comparison = bn_audit.compare({"alice": party(seed=1), "bob": party(seed=2), "carol": party(seed=3)})
    found = with_history(comparison, read_history(path))
    assert [(one.number, one.centre["bn1"]) for one in found.history] == [(1, (0.1, 0.2, None)), (2, (None, 0.4, None))]
    assert found.history[0].centre["bn2"] == (9.0, None, None)
    assert "the history knows nothing of carol" in found.notes
    assert "the history has parties that are not compared: eve" in found.notes


def _statistics(model: Any) -> dict[str, Any]:
    return {"mean": model.bn1.running_mean.tolist(), "var": model.bn1.running_var.tolist()}


def test_statistics_are_measured_and_compared(tmp_path: Path) -> None:
    models = {"alice": party(seed=1), "bob": party(shift=0.5, seed=2), "carol": party(shift=1.0, seed=3)}
    lines = [line(7, name, layer(**_statistics(model))) for name, model in models.items()]
    history = read_history(written(tmp_path, line(3, "alice", layer(distance=0.1)), *lines))
    found = with_history(compare(history.last(), Options())[0], history)
    whole = bn_audit.compare(models, layers=["bn1"])
    assert list(found.first.distances["nw2"]) == pytest.approx(list(whole.first.distances["nw2"]))
    assert found.history[-1].centre["bn1"] == pytest.approx(whole.first.centre)
    assert found.parties == ("alice", "bob", "carol")
    assert found.weights == (None, None, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no rounds"),
        ("\n\n", "holds no rounds"),
        ('{"version": 1, "rou', "history.jsonl:1: the file is cut off in the middle of this line"),
        ('{"version": 1, "rou\n{}\n', "history.jsonl:1: no JSON"),
        ("[]\n", "a line is an object"),
        (json.dumps({**line(1, "a", layer(distance=1)), "version": 2}), "version 2 is not known"),
        (json.dumps(line(-1, "a", layer(distance=1))), "round is -1"),
        (json.dumps(line(True, "a", layer(distance=1))), "round is True"),
        (json.dumps(line(1, "", layer(distance=1))), "party is ''"),
        (json.dumps(line(1, "a")), "layers is no list"),
        (json.dumps(line(1, "a", {"distance": 1})), "a layer is an object with a path"),
        (json.dumps(line(1, "a", layer(distance=1), layer(distance=1))), "bn1 stands there twice"),
        (json.dumps(line(1, "a", layer(distance=-1))), "bn1: distance is -1"),
        (json.dumps(line(1, "a", layer(distance=float("nan")))), "bn1: distance is nan"),
        (json.dumps(line(1, "a", layer(distance="far"))), "bn1: distance is 'far'"),
        (json.dumps(line(1, "a", layer())), "neither distance nor mean and var"),
        (json.dumps(line(1, "a", layer(mean=[1.0]))), "mean and var belong together"),
        (json.dumps(line(1, "a", layer(mean=[1.0], var=[1.0, 2.0]))), "mean and var belong together"),
        (json.dumps(line(1, "a", layer(mean=[float("inf")], var=[1.0]))), "mean is no list of finite numbers"),
        (json.dumps(line(1, "a", layer(mean=[1.0], var=[-1.0]))), "a variance is negative"),
        ((json.dumps(line(1, "a", layer(distance=1))) + "\n") * 2, "history.jsonl:2: round 1 has a twice"),
    ],
)
def test_what_is_no_history_says_so(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text(text)
    with pytest.raises(TargetError) as caught:
        read_history(path)
    assert message in str(caught.value)


def test_what_does_not_fit_says_so(tmp_path: Path) -> None:
    history = read_history(written(tmp_path, line(1, "eve", layer(distance=1.0))))
    with pytest.raises(TargetError, match="has none of the parties party 1, party 2; it has eve"):
        with_history(bn_audit.compare([party(seed=1), party(seed=2)]), history)
    with pytest.raises(TargetError, match="round 1 has no statistics of eve, only distances"):
        history.last()
    sizes = [line(1, name, layer(mean=[0.0] * n, var=[1.0] * n)) for n, name in ((6, "party 1"), (5, "party 2"))]
    with pytest.raises(TargetError, match="in round 1 bn1 has 5 and 6 channels"):
        with_history(bn_audit.compare([party(seed=1), party(seed=2)]), read_history(written(tmp_path, *sizes)))
    with pytest.raises(TargetError, match=r"none\.jsonl: No such file"):
        read_history(tmp_path / "none.jsonl")
