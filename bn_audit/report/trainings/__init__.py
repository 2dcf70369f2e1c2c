"""The output formats of trainings: each module here but ``tables`` and ``plot`` is one, and its name is the format's.

A format has ``render(trained, look)``, which yields lines without their line ends. Where a framework's setting was
verified as well, that comes first, as :mod:`bn_audit.report.verifications` writes it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator

from bn_audit.report.verifications import Look
from bn_audit.training import Trained

__all__ = ["FORMATS", "Renderer", "renderer"]

FORMATS = ("text", "json", "markdown")

Renderer = Callable[[Trained, Look], Iterator[str]]


def renderer(name: str) -> Renderer:
    """The function that writes this format.

    Raises:
        ModuleNotFoundError: no such format.
    """
    found: Renderer = importlib.import_module(f"{__name__}.{name}").render
    return found
