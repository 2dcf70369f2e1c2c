"""The fixture ``assert_federated_safe``, in a pytest run of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

ROOT = Path(__file__).resolve().parent.parent

TESTS = """
from torch import nn

class Net(nn.Module):
    def __init__(self, last):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        if not last:
            self.bn = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 2)
        if last:
            self.bn = nn.BatchNorm2d(4)

def test_right(assert_federated_safe):
    assert assert_federated_safe(Net(last=True), skip_bn=True, aggregator="secure").ok

def test_local_batchnorm(assert_federated_safe):
    assert assert_federated_safe(Net(last=False), skip_bn=True, local_batchnorm=True).ok

def test_flower(assert_federated_safe):
    assert assert_federated_safe(Net(last=False), framework="flower", keep_norms=True).ok

def test_wrong(assert_federated_safe):
    assert_federated_safe(Net(last=False), skip_bn=True)
"""


def _pytest(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_models.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "bn_audit.pytest_plugin", "-p", "no:cacheprovider"]
    # By its name, and so without the entry point, which an installation may have or not.
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [*command, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_a_failure_shows_the_fates(tmp_path: Path) -> None:
    result = _pytest(tmp_path)
    assert "1 failed, 3 passed" in result.stdout, result.stdout + result.stderr
    assert "2 of 9 entries are not what FedBN leaves: 2 stale" in result.stdout
    assert "averaged     stale          stale           2  fc" in result.stdout
    assert "verify.py" not in result.stdout


def test_the_plugin_is_light() -> None:
    program = "import sys, bn_audit.pytest_plugin; print([m for m in ('torch', 'libcst', 'rich') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
