"""Flower's own classes, out of its wheel, without what they need to talk to each other.

The wheel is read as files. Arrays, records, strategies and clients are Flower's, unmodified; the packages for messages,
transport and encryption that they import (protobuf, gRPC and others) are replaced by modules in which every name is an
empty class: nothing here sends anything. The models, NumPy and torch are real.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

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
    "requests",
    "sqlalchemy",
    "starlette",
    "tomli",
    "tomli_w",
    "typer",
    "uvicorn",
    "yaml",
)


class _AnyType(type):
    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _type(name)

    def __or__(cls, other: Any) -> Any:
        return cls

    __ror__ = __or__

    def __iter__(cls) -> Iterator[Any]:
        return iter(())


class _Anything(metaclass=_AnyType):
    """Takes every call and has every attribute; a decorator of this kind gives back what it decorates."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Anything()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return args[0] if len(args) == 1 and callable(args[0]) else _Anything()

    def __class_getitem__(cls, _: Any) -> Any:
        return cls

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def __getitem__(self, key: Any) -> Any:
        return _Anything()


def _type(name: str) -> Any:
    return _AnyType(name, (_Anything,), {})


class _Empty(ModuleType):
    __path__: ClassVar[list[str]] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        found = _type(name)
        setattr(self, name, found)
        return found


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Empty modules for packages that are not asked for anything here, installed or not."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:
        if name.partition(".")[0] not in _STOOD_IN and not name.startswith("flwr.proto"):
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: Any) -> ModuleType:
        return _Empty(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


@contextmanager
def loaded(wheel: Path, folder: Path) -> Iterator[Any]:
    """The modules of a wheel, as attributes: what they import is forgotten again afterwards."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    before = dict(sys.modules)
    for name in [name for name in sys.modules if name.partition(".")[0] in ("flwr", *_STOOD_IN)]:
        del sys.modules[name]
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    sys.path.insert(0, str(folder))
    try:
        names = {
            "legacy": "flwr.server.strategy",
            "aggregate": "flwr.server.strategy.aggregate",
            "message": "flwr.serverapp.strategy",
            "app": "flwr.app",
            "common": "flwr.common",
            "client": "flwr.client",
        }
        modules = ModuleType("flower")
        for short, name in names.items():
            # An early wheel has the older API alone.
            found = short in ("message", "app") and not (folder / (name.replace(".", "/") + "/__init__.py")).exists()
            setattr(modules, short, None if found else importlib.import_module(name))
        yield modules
    finally:
        sys.path.remove(str(folder))
        sys.meta_path.remove(finder)
        for name in [name for name in sys.modules if name.partition(".")[0] in ("flwr", *_STOOD_IN)]:
            del sys.modules[name]
        sys.modules.update({k: v for k, v in before.items() if k.partition(".")[0] in ("flwr", *_STOOD_IN)})
