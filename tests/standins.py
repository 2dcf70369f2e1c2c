"""A framework's own modules, out of its wheel, without what they need to talk to each other.

The wheel is read as files, and nothing of it is changed. Packages for messages, transport and encryption that it
imports are replaced by modules in which every name is an empty class: nothing here sends anything.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

__all__ = ["unpacked"]


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

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:
        if not _below(name, self.names):
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: Any) -> ModuleType:
        return _Empty(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


def _below(name: str, packages: Sequence[str]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


@contextmanager
def unpacked(wheel: Path, folder: Path, package: str, stood_in: Sequence[str]) -> Iterator[None]:
    """A wheel's package can be imported inside; what it imported is forgotten again afterwards.

    Args:
        folder: where the wheel is unpacked.
        package: that the wheel is imported as.
        stood_in: the packages that are replaced, installed or not.
    """
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    names = (package, *stood_in)
    before = {name: module for name, module in sys.modules.items() if _below(name, names)}
    for name in before:
        del sys.modules[name]
    finder = _Finder(stood_in)
    sys.meta_path.insert(0, finder)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        sys.meta_path.remove(finder)
        for name in [name for name in sys.modules if _below(name, names)]:
            del sys.modules[name]
        sys.modules.update(before)
