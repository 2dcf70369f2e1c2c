"""Real architectures, with their own forward, in SecretFlow's own classes: FedBN's state after every exchange."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
for _module in ("numpy", "pandas", "scipy", "sparse", "torchmetrics", "tqdm"):
    pytest.importorskip(_module)

_LAYERS = {"torchvision resnet18": (100, 22), "timm efficientnet_b0": (245, 115)}
"""Entries that stay, five for each BatchNorm, and entries that travel."""


@pytest.mark.secretflow
def test_they_go_through_fedbn(
    secretflow_wheel: Path, torchvision_wheel: Path, timm_wheel: Path, tmp_path: Path
) -> None:
    if not torch.__version__.startswith("2.13."):
        pytest.skip("torchvision 0.28 goes with torch 2.13")
    for wheel in (torchvision_wheel, timm_wheel):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(tmp_path, [name for name in archive.namelist() if name.endswith(".py")])
    command = [sys.executable, "-m", "tests.secretflow.architectures", str(secretflow_wheel), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert set(found) == {f"{name}, {aggregator}" for name in _LAYERS for aggregator in ("plain", "secure", "sparse")}
    for cell, counts in found.items():
        local, shared = _LAYERS[cell.partition(",")[0]]
        assert (counts["local"], counts["shared"], counts["wrong"]) == (local, shared, 0), cell
        assert counts["exchanges"] >= 2
        assert counts["moved apart"] >= local // 2, cell
