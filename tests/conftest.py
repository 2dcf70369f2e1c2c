"""Where SecretFlow's wheel comes from: ``SECRETFLOW_WHEEL``, pytest's cache, or the package index."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

# One wheel for all: its Python files are read, whatever runs here.
_TARGET = ["--only-binary=:all:", "--python-version=3.11", "--platform=manylinux2014_x86_64"]


@pytest.fixture(scope="session")
def secretflow_wheel(pytestconfig: pytest.Config) -> Path:
    """The newest wheel with FLModel."""
    given = os.environ.get("SECRETFLOW_WHEEL")
    return Path(given) if given else _fetched(pytestconfig, "1.13.0b0")


@pytest.fixture(scope="session")
def early_secretflow_wheel(pytestconfig: pytest.Config) -> Path:
    """The last wheel whose fed_avg_w and fed_prox send everything, whatever ``skip_bn``."""
    return _fetched(pytestconfig, "1.6.1b0")


def _fetched(pytestconfig: pytest.Config, version: str) -> Path:
    """A wheel of SecretFlow's, of 4.8 MB. Without an index these tests are skipped, but not in CI."""
    assert pytestconfig.cache is not None
    requirement = f"secretflow=={version}"
    folder = Path(pytestconfig.cache.mkdir("secretflow"))
    pattern = f"secretflow-{version}-*.whl"
    if not list(folder.glob(pattern)):
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            *_TARGET,
            "--dest",
            str(folder),
            requirement,
        ]
        fetched = subprocess.run(command, capture_output=True, text=True, check=False)
        if fetched.returncode:
            message = f"{requirement} cannot be fetched: {fetched.stderr.strip()[-400:]}"
            if os.environ.get("CI", "").lower() in ("1", "true"):
                pytest.fail(message)
            pytest.skip(message)
    return min(folder.glob(pattern))
