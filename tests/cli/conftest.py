"""Small projects to scan, and a command line to scan them with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from bn_audit.cli import run
from bn_audit.source import positions

TRAIN = """\
import secretflow as sf
from secretflow.security.aggregation import SecureAggregator
from secretflow_fl.ml.nn import FLModel
from secretflow_fl.ml.nn.core.torch import TorchModel

from models import Net

alice, bob, charlie = sf.PYU("alice"), sf.PYU("bob"), sf.PYU("charlie")
fl_model = FLModel(
    server=charlie,
    device_list=[alice, bob],
    model=TorchModel(model_fn=Net),
    aggregator=SecureAggregator(charlie, [alice, bob]),
    backend="torch",
)
"""
MODELS = """\
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 8)
        self.bn = nn.BatchNorm1d(8)
"""


@dataclass(frozen=True)
class Outcome:
    """What a command line came to."""

    status: int
    out: str
    err: str


Command = Callable[..., Outcome]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A federation with one finding, BNA101, in the working directory."""
    positions._lines.cache_clear()  # Of files of these names, in another test's folder.
    (tmp_path / ".git").mkdir()
    (tmp_path / "train.py").write_text(TRAIN, encoding="utf-8")
    (tmp_path / "models.py").write_text(MODELS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def bn_audit(capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command line in this process."""

    def command(*arguments: str) -> Outcome:
        status = run(arguments)
        captured = capsys.readouterr()
        return Outcome(status, captured.out, captured.err)

    return command
