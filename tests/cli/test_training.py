"""``bn-audit verify --train``: flags, exit statuses, the plot and the progress bar."""

from __future__ import annotations

import io
import json
import os
import sys
from importlib import resources
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

torch = pytest.importorskip("torch")

from bn_audit.cli import training  # noqa: E402
from bn_audit.cli.verify import command  # noqa: E402

MODEL = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.first = nn.Linear(2, width)
        self.bn = nn.BatchNorm1d(width)
        self.fc = nn.Linear(width, 2)

    def forward(self, x):
        return self.fc(self.bn(self.first(x)))

class Last(Net):
    def __init__(self, width=4):
        super().__init__(width)
        bn = self.bn
        del self.bn
        self.bn = bn

instance = Last()

def parties(seed):
    def examples(shift):
        x = torch.randn(24, 2)
        return x + shift, (x[:, 0] > 0).long()
    return {name: (examples(n), examples(n)) for n, name in enumerate(("alice", "bob"))}

def broken():
    raise RuntimeError("no data today")
"""
DATA = ("--data", "model.py:parties")
QUICK = ("--train", "--rounds", "2", "--seeds", "2", *DATA)
SECRETFLOW = ("--framework", "secretflow", "--skip-bn")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "model.py").write_text(MODEL)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(command, arguments)


def test_a_training() -> None:
    result = _run("model.py:Net", *QUICK)
    assert result.exit_code == 0, result.output
    assert "2 parties on model.py:parties; 24 examples to train on and 24 to test with each" in result.output
    assert "2 rounds of 1 epoch, SGD with learning rate 0.1 on batches of 32; 2 seeds" in result.output
    assert "FedBN ends" in result.output
    assert result.output == _run("model.py:Net", *QUICK).output


def test_the_flags_are_heeded() -> None:
    flags = ("--epochs", "3", "--batch-size", "5", "--lr", "0.25", "--rounds", "1", "--seeds", "1", "--train", *DATA)
    output = _run("model.py:Net", "--arg", "width=8", *flags).output
    assert "1 round of 3 epochs, SGD with learning rate 0.25 on batches of 5; 1 seed\n" in output


@pytest.mark.parametrize(("name", "status", "verdict"), [("Net", 1, "wrong"), ("Last", 0, "right")])
def test_the_status_is_that_of_the_proof(name: str, status: int, verdict: str) -> None:
    result = _run(f"model.py:{name}", *QUICK, *SECRETFLOW, "--output-format", "json")
    assert result.exit_code == status, result.output
    from jsonschema import Draft202012Validator

    schema = json.loads(resources.files("bn_audit.report").joinpath("verification.schema.json").read_text())
    data = json.loads(result.output)
    Draft202012Validator(schema).validate(data)
    assert data["verification"]["verdict"] == verdict
    assert data["verification"]["rounds"] == 2
    assert [one["method"] for one in data["training"]["methods"]] == ["FedAvg", "FedBN", "local only", "SecretFlow"]


def test_a_setting_of_flower() -> None:
    flags = ("--framework", "flower", "--keep-norms", "--output-format", "json")
    result = _run("model.py:Net", *QUICK, *flags)
    assert result.exit_code == 0, result.output
    data = json.loads(result.output)
    methods = {one["method"]: one["curves"] for one in data["training"]["methods"]}
    assert methods["Flower"] == methods["FedBN"]
    result = _run("model.py:Net", *QUICK, "--framework", "flower", "--strategy", "fedprox", "--keep-norms")
    assert "the setting is not trained: fedprox changes the local training" in result.output
    result = _run("model.py:Net", *QUICK, "--framework", "flower", "--strategy", "fedadam")
    assert result.exit_code == 2
    assert "fedadam does not hand out the weighted mean" in result.output


def test_an_instance_begins_every_seed_with_its_state() -> None:
    result = _run("model.py:instance", *QUICK, "--output-format", "markdown")
    assert result.exit_code == 0
    assert "model.py:instance is a model: every seed begins with its state" in result.output
    assert result.output == _run("model.py:instance", *QUICK, "--output-format", "markdown").output


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_the_plot(folder: Path, suffix: str) -> None:
    pytest.importorskip("matplotlib")
    path = folder / f"curves.{suffix}"
    path.write_text("before")
    result = _run("model.py:Net", *QUICK, "--plot", path.name)
    assert result.exit_code == 0, result.output
    assert path.read_bytes().startswith(b"\x89PNG" if suffix == "png" else b"<?xml")
    assert sorted(os.listdir(folder)) == [f"curves.{suffix}", "model.py"]


def test_a_plot_that_fails_leaves_what_was_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    path = folder / "curves.png"
    path.write_text("before")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    result = _run("model.py:Net", *QUICK, "--plot", "curves.png")
    assert result.exit_code == 2
    assert "curves.png: No space left on device" in result.output
    assert path.read_text() == "before"
    assert sorted(os.listdir(folder)) == ["curves.png", "model.py"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("model.py:Net", "--seeds", "2"), "--seeds needs --train"),
        (("model.py:Net", "--batch-size", "2"), "--batch-size needs --train"),
        (("model.py:Net", "--plot", "a.png"), "--plot needs --train"),
        (("model.py:Net", *DATA), "--data needs --train"),
        (("--train",), "name a TARGET to train"),
        (("model.py:Net", "--train", "--meta"), "leave out --meta"),
        (("model.py:Net", *QUICK, "--parties", "a.pt"), "--parties compares others"),
        (("model.py:Net", *QUICK, "--before", "", "--after", ""), "--before compares others"),
        (("model.py:Net", *QUICK, "--lr", "0"), "not in the range"),
        (("model.py:Net", *QUICK, "--plot", "a.pdf"), "ends in .png or .svg"),
        (("model.py:Net", *QUICK, "--plot", "none/a.png"), "there is no folder"),
        (("model.py:Net", "--train", "--data", "model.py:broken"), "no data today"),
        (("model.py:Net", "--train", "--data", "model.py:Net"), "gives a Net, not a mapping"),
        (("model.py:Net", "--train", "--data", "none.py:parties"), "there is no file none.py"),
        (("state.pt", *QUICK), "is state without a model; --train needs the code"),
    ],
)
def test_errors_are_2(folder: Path, arguments: tuple[str, ...], message: str) -> None:
    torch.save({"weight": torch.ones(2)}, folder / "state.pt")
    result = _run(*arguments)
    assert result.exit_code == 2, result.output
    assert message in result.output
    assert "cli/verify.py" not in result.output


def test_a_model_that_takes_no_digits_is_told_of_data() -> None:
    pytest.importorskip("sklearn")
    result = _run("model.py:Net", "--train")
    assert result.exit_code == 2
    assert "takes the digits in no form that was tried" in result.output
    assert "pass data of its own with --data" in result.output


def test_the_users_traceback_is_shown() -> None:
    result = _run("model.py:Net", "--train", "--data", "model.py:broken")
    assert "Traceback" in result.output
    assert 'raise RuntimeError("no data today")' in result.output


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training.importlib.util, "find_spec", lambda name: None)
    result = _run("model.py:Net", *QUICK, "--plot", "a.png")
    assert result.exit_code == 2
    assert (
        "--plot needs matplotlib, which is not installed: pip install 'matplotlib>=3.8' 'scikit-learn>=1.3'"
        in result.output
    )


def test_without_scikit_learn_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    result = _run("model.py:Net", "--train")
    assert result.exit_code == 2
    assert "pip install 'matplotlib>=3.8' 'scikit-learn>=1.3', or pass data of your own with --data" in result.output


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("stderr", "wanted"), [(Terminal, True), (io.StringIO, False)])
def test_a_progress_bar_if_anybody_looks(
    monkeypatch: pytest.MonkeyPatch, stderr: type[io.StringIO], wanted: bool
) -> None:
    from bn_audit.cli.progress import ProgressBar

    monkeypatch.setattr(sys, "stderr", stderr())
    assert isinstance(training._progress(), ProgressBar) is wanted


def test_the_progress_bar_says_what_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    from bn_audit.cli.progress import ProgressBar

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with ProgressBar(0, "training") as progress:
        progress(3, 7)
    assert "training" in terminal.getvalue() and "3/7" in terminal.getvalue()
