"""Where frameworks' wheels come from: an environment variable, pytest's cache, or the package index; and a profile."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import hypothesis
import pytest

# A busy machine is no fault of what is tested.
hypothesis.settings.register_profile("steady", deadline=None)
hypothesis.settings.load_profile("steady")


@pytest.fixture(autouse=True)
def _no_width_of_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports are as wide as they are without a terminal, whoever runs the tests (xdist's workers have 80 columns)."""
    monkeypatch.delenv("COLUMNS", raising=False)


# One wheel for all: its Python files are read, whatever runs here.
_TARGET = ["--only-binary=:all:", "--python-version=3.11", "--platform=manylinux2014_x86_64"]


@pytest.fixture(scope="session")
def secretflow_wheel(pytestconfig: pytest.Config) -> Path:
    """The newest wheel with FLModel."""
    given = os.environ.get("SECRETFLOW_WHEEL")
    return Path(given) if given else _fetched(pytestconfig, "secretflow", "1.13.0b0")


@pytest.fixture(scope="session")
def early_secretflow_wheel(pytestconfig: pytest.Config) -> Path:
    """The last wheel whose fed_avg_w and fed_prox send everything, whatever ``skip_bn``."""
    return _fetched(pytestconfig, "secretflow", "1.6.1b0")


@pytest.fixture(scope="session")
def flower_wheel(pytestconfig: pytest.Config) -> Path:
    """A new wheel of Flower's."""
    given = os.environ.get("FLOWER_WHEEL")
    return Path(given) if given else _fetched(pytestconfig, "flwr", "1.42.0")


@pytest.fixture(scope="session")
def early_flower_wheel(pytestconfig: pytest.Config) -> Path:
    """The last wheel whose FedAvg makes floating point of integers."""
    return _fetched(pytestconfig, "flwr", "1.11.1")


@pytest.fixture(scope="session")
def nvflare_wheel(pytestconfig: pytest.Config) -> Path:
    """A new wheel of NVFlare's."""
    given = os.environ.get("NVFLARE_WHEEL")
    return Path(given) if given else _fetched(pytestconfig, "nvflare", "2.9.0")


@pytest.fixture(scope="session")
def torchvision_wheel(pytestconfig: pytest.Config) -> Path:
    """For its Python files; what is compiled in it may be for another build of torch than is installed."""
    return _fetched(pytestconfig, "torchvision", "0.28.0", "--platform", "manylinux_2_28_x86_64")


@pytest.fixture(scope="session")
def timm_wheel(pytestconfig: pytest.Config) -> Path:
    return _fetched(pytestconfig, "timm", "1.0.31")


def _fetched(pytestconfig: pytest.Config, name: str, version: str, *more: str) -> Path:
    """A wheel, of 8 MB at most. Without an index these tests are skipped, but not in CI."""
    assert pytestconfig.cache is not None
    requirement = f"{name}=={version}"
    folder = Path(pytestconfig.cache.mkdir(name))
    pattern = f"{name}-{version}-*.whl"
    if not list(folder.glob(pattern)):
        # Beside, then renamed: another process may be looking for the same wheel.
        beside = Path(tempfile.mkdtemp(dir=folder))
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            *_TARGET,
            *more,
            "--dest",
            str(beside),
            requirement,
        ]
        fetched = subprocess.run(command, capture_output=True, text=True, check=False)
        if fetched.returncode:
            message = f"{requirement} cannot be fetched: {fetched.stderr.strip()[-400:]}"
            if os.environ.get("CI", "").lower() in ("1", "true"):
                pytest.fail(message)
            pytest.skip(message)
        for wheel in beside.iterdir():
            wheel.replace(folder / wheel.name)
        beside.rmdir()
    return min(folder.glob(pattern))
