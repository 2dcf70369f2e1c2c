"""The output formats: each module here is one, and its name is the format's.

A format has ``render(report, view)``, which yields lines without their line ends, and may have
``statistics(report, view)``, which yields the counts by rule instead.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator

from bn_audit.report.model import Report, View

__all__ = ["Renderer", "names", "renderer"]

Renderer = Callable[[Report, View], Iterator[str]]


def names() -> tuple[str, ...]:
    """Every format's name, sorted."""
    import pkgutil

    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def renderer(name: str, *, statistics: bool = False) -> Renderer | None:
    """The function that writes this format; None if it knows no statistics.

    Raises:
        ModuleNotFoundError: no such format.
    """
    module = importlib.import_module(f"{__name__}.{name}")
    found: Renderer | None = getattr(module, "statistics" if statistics else "render", None)
    return found
