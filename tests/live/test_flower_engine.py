"""The flower engine: what the installed Flower does to a model, judged as the plan is."""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("flwr", reason="runs Flower itself")
pytest.importorskip("ray", reason="runs Flower's simulation")

from click.testing import CliRunner  # noqa: E402
from torch import nn  # noqa: E402

import bn_audit  # noqa: E402
from bn_audit.cli.verify import command  # noqa: E402
from bn_audit.exchange.flower import FlowerSettings  # noqa: E402
from bn_audit.exchange.keep import Keep  # noqa: E402
from bn_audit.live import flower_app, flower_engine  # noqa: E402
from bn_audit.live.errors import MissingExtra, TargetError  # noqa: E402
from bn_audit.live.profile import profile as profile_of  # noqa: E402
from bn_audit.live.verify import verify_exchange  # noqa: E402
from bn_audit.loading import How  # noqa: E402
from bn_audit.verification import Verdict  # noqa: E402
from tests.exchange.handwritten.models import MODELS  # noqa: E402
from tests.federated.flower.inprocess import Nodes, context  # noqa: E402

pytestmark = pytest.mark.flower


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3))
        self.fc = nn.Linear(3, 2)


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same apps, without Ray and the processes that it starts."""
    task = pytest.importorskip("flwr.supercore.task_identity").TaskIdentity
    for name, value in (("_task_id", 1), ("_run_id", 7), ("_node_id", 99)):
        monkeypatch.setattr(task, name, value)

    def simulate(folder: Path, log: Path) -> None:
        log.touch()
        flower_app._job.cache_clear()
        job = flower_app._job(folder)
        client, server = flower_app._message_apps(folder, job)
        grid = Nodes(client, {n + 1: context(n + 1, **{"partition-id": n}) for n in range(job.parties)})
        try:
            server(grid, context(99))
        except Exception:
            assert (folder / flower_app.ERROR).exists()

    monkeypatch.setattr(flower_engine, "_simulate", simulate)


NORMS, BN = Keep(norms=True), Keep(words=("bn", "1."))


@pytest.mark.parametrize("name", ["net", "half net", "brain net", "mixed", "tied", "shared norm", "float32 empty"])
@pytest.mark.parametrize(
    "settings",
    [
        FlowerSettings("message"),
        FlowerSettings("message", "fedprox", keeps=NORMS, load=How.LENIENT),
        FlowerSettings("message", keeps=BN, load=How.COPY),
        FlowerSettings("message", keeps=NORMS),
    ],
    ids=["whole", "norms kept", "words kept", "norms kept, strict"],
)
@pytest.mark.usefixtures("in_process")
def test_the_verdict_is_that_of_the_plan(name: str, settings: FlowerSettings) -> None:
    model = MODELS[name]()
    planned = verify_exchange(model, settings, rounds=2)
    found = verify_exchange(model, settings, rounds=2, engine="flower")
    assert found.disagreements == ()
    assert (found.verdict, found.engine) == (planned.verdict, "flower")
    assert [(entry.planned, entry.right) for entry in found.entries] == [
        (entry.planned, entry.right) for entry in planned.entries
    ]
    if planned.stop is not None:
        assert found.stop is not None and (found.stop.type, found.stop.text, found.stop.round) == (
            planned.stop.type,
            planned.stop.text,
            planned.stop.round,
        )
    else:
        assert [entry.measured for entry in found.entries] == [entry.measured for entry in planned.entries]


def test_a_real_simulation() -> None:
    """Ray and all: whole lists of a NumPyClient, of which the counter comes back as 0."""
    found = bn_audit.verify(Net(), "flower", api="numpy", engine="flower", rounds=1)
    planned = bn_audit.verify(Net(), "flower", api="numpy", rounds=1)
    assert found.verdict is planned.verdict is Verdict.WRONG
    assert found.disagreements == ()
    assert [(e.planned, e.measured, e.right) for e in found.entries] == [
        (e.planned, e.measured, e.right) for e in planned.entries
    ]
    assert ("flwr_version", importlib.metadata.version("flwr")) in found.settings


def test_what_a_failed_simulation_wrote_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # A class that this process has, and no other will find.
    module = types.ModuleType("only_here")
    Net.__module__, kept = "only_here", Net.__module__
    module.Net = Net  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "only_here", module)
    monkeypatch.setattr(flower_engine.tempfile, "mkdtemp", lambda prefix: str(tmp_path))
    try:
        with pytest.raises(TargetError, match="simulation failed; what the simulation wrote is in") as caught:
            bn_audit.verify(Net(), "flower", engine="flower")
    finally:
        Net.__module__ = kept
    assert str(tmp_path / "simulation.log") in str(caught.value)
    assert "No module named 'only_here'" in (tmp_path / "simulation.log").read_text()


def test_a_simulation_that_does_not_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(flower_engine, "_TIMEOUT", 0.01)
    monkeypatch.setattr(flower_engine.tempfile, "mkdtemp", lambda prefix: str(tmp_path))
    with pytest.raises(TargetError, match="did not end within 0 seconds; what the simulation wrote is in"):
        bn_audit.verify(Net(), "flower", engine="flower")


@pytest.mark.parametrize(("name", "title"), [("flwr", "Flower"), ("ray", "Ray, which Flower's simulation runs in,")])
def test_what_is_not_installed_is_named(name: str, title: str, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda one, *rest: None if one == name else find(one, *rest))
    with pytest.raises(MissingExtra, match=f"{title} is not installed here: pip install 'flwr"):
        bn_audit.verify(Net(), "flower", engine="flower")


def test_what_cannot_be_run() -> None:
    settings = FlowerSettings("message")
    for model, changed, told in (
        (profile_of(Net()), settings, "needs a module"),
        (Net(), FlowerSettings("message", flwr_version="1.20.0"), "and 1.20.0 was asked for"),
        (Net(), FlowerSettings("message", load=None), "needs to know load"),
        (Net(), FlowerSettings("message", "fedadam"), "does not hand out the weighted mean"),
    ):
        with pytest.raises(TargetError, match=told):
            verify_exchange(model, changed, engine="flower")
    with pytest.raises(ValueError, match="does not run this framework's rounds"):
        verify_exchange(Net(), settings, engine="secretflow")

    class Unsendable(Net):
        def __reduce__(self) -> Any:
            raise TypeError("not that")

    with pytest.raises(TargetError, match="cannot be sent to the simulation's processes: not that"):
        verify_exchange(Unsendable(), settings, engine="flower")


def test_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.py").write_text("from torch import nn\n\nNet = lambda: nn.Sequential(nn.Linear(2, 2))\n")
    monkeypatch.chdir(tmp_path)
    for framework in ("nvflare", "secretflow"):
        done = CliRunner().invoke(command, ["model.py:Net", "--framework", framework, "--engine", "flower"])
        assert done.exit_code == 2 and f"{framework}" in done.stderr and "--engine flower" in done.stderr
    monkeypatch.setattr(flower_engine, "_simulate", lambda folder, log: log.write_text("Ray is out of memory"))
    done = CliRunner().invoke(command, ["model.py:Net", "--framework", "flower", "--engine", "flower"])
    assert done.exit_code == 2
    said = done.stderr.splitlines()
    assert said[0] == "Starting Flower's simulation in Ray. This takes up to a minute."
    assert "what the simulation wrote is in" in said[1]
    log = Path(said[1].rpartition(" is in ")[2])
    assert log.read_text() == "Ray is out of memory"
    flower_engine.shutil.rmtree(log.parent)
