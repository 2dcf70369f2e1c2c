"""The output formats of comparisons: ``text`` and ``json`` here are formats, ``html`` is the page of ``--html``.

A format has ``render(comparison, look)``, which yields lines without their line ends.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator

from bn_audit.comparison import Comparison
from bn_audit.report.verifications import Look

__all__ = ["FORMATS", "Renderer", "renderer"]

FORMATS = ("text", "json")

Renderer = Callable[[Comparison, Look], Iterator[str]]


def renderer(name: str) -> Renderer:
    """The function that writes this format.

    Raises:
        ModuleNotFoundError: no such format.
    """
    found: Renderer = importlib.import_module(f"{__name__}.{name}").render
    return found
