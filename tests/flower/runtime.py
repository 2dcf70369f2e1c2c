"""Flower's own classes: arrays, records, strategies. Messages are not made; models, NumPy and torch are real."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.standins import unpacked

__all__ = ["loaded"]

_STOOD_IN = (
    "Crypto",
    "alembic",
    "certifi",
    "cryptography",
    "fastapi",
    "google",
    "grpc",
    "grpc_health",
    "httpx",
    "iterators",
    "pathspec",
    "prompt_toolkit",
    "ray",
    "requests",
    "sqlalchemy",
    "starlette",
    "tomli",
    "tomli_w",
    "typer",
    "uvicorn",
    "yaml",
    # Generated modules, which protobuf fills with names when they are imported.
    "flwr.proto",
)

_MODULES = {
    "legacy": "flwr.server.strategy",
    "message": "flwr.serverapp.strategy",
    "app": "flwr.app",
    "common": "flwr.common",
}


@contextmanager
def loaded(wheel: Path, folder: Path) -> Iterator[Any]:
    """The modules of a wheel, as attributes; None for those of the newer API in a wheel that has none."""
    with unpacked(wheel, folder, "flwr", _STOOD_IN):
        found = {}
        for short, name in _MODULES.items():
            there = (folder / name.replace(".", "/") / "__init__.py").exists()
            found[short] = importlib.import_module(name) if there else None
        yield SimpleNamespace(**found)
