"""NVFlare's own classes: persistence, conversion, differences, aggregation. Nothing is sent; models are real."""

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
    "OpenSSL",
    "aiohttp",
    "cryptography",
    "docker",
    "filelock",
    "flask",
    "google",
    "grpc",
    "gunicorn",
    "jwt",
    "msgpack",
    "omegaconf",
    "psutil",
    "pydantic",
    "pyhocon",
    "requests",
    "tenseal",
    "websockets",
    "werkzeug",
    "yaml",
)
_MODULES = {
    "aggregator": "nvflare.app_common.aggregators.intime_accumulate_model_aggregator",
    "api": "nvflare.client.in_process.api",
    "constant": "nvflare.app_common.app_constant",
    "context": "nvflare.apis.fl_context",
    "converter": "nvflare.client.converter_utils",
    "dxo": "nvflare.apis.dxo",
    "fedavg": "nvflare.app_common.workflows.fedavg",
    "generator": "nvflare.app_common.shareablegenerators.full_model_shareable_generator",
    "model": "nvflare.app_common.abstract.fl_model",
    "learnable": "nvflare.app_common.abstract.model",
    "persistence": "nvflare.app_opt.pt.model_persistence_format_manager",
    "shareable": "nvflare.apis.shareable",
    "utils": "nvflare.app_common.utils.fl_model_utils",
}


@contextmanager
def loaded(wheel: Path, folder: Path) -> Iterator[Any]:
    """The modules of a wheel, as attributes."""
    with unpacked(wheel, folder, "nvflare", _STOOD_IN):
        yield SimpleNamespace(**{short: importlib.import_module(name) for short, name in _MODULES.items()})
