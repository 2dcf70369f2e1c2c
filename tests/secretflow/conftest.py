"""Where SecretFlow's wheel comes from: ``SECRETFLOW_WHEEL``, pytest's cache, or the package index."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

REQUIREMENT = "secretflow==1.13.0b0"
# One wheel for all: its Python files are read, whatever runs here.
_TARGET = ["--only-binary=:all:", "--python-version=3.11", "--platform=manylinux2014_x86_64"]


@pytest.fixture(scope="session")
def secretflow_wheel(pytestconfig: pytest.Config) -> Path:
    """SecretFlow's wheel, 4.8 MB. Without an index these tests are skipped, but not in CI."""
    if given := os.environ.get("SECRETFLOW_WHEEL"):
        return Path(given)
    assert pytestconfig.cache is not None
    folder = Path(pytestconfig.cache.mkdir("secretflow"))
    if not list(folder.glob("*.whl")):
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
            REQUIREMENT,
        ]
        fetched = subprocess.run(command, capture_output=True, text=True, check=False)
        if fetched.returncode:
            message = f"{REQUIREMENT} cannot be fetched: {fetched.stderr.strip()[-400:]}"
            if os.environ.get("CI", "").lower() in ("1", "true"):
                pytest.fail(message)
            pytest.skip(message)
    return next(iter(sorted(folder.glob("*.whl"))))
