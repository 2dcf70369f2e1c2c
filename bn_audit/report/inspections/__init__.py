"""The output formats of inspections: ``text``, ``json`` and ``markdown``; ``html`` is the page of ``--html``.

A format has ``render(inspection, look)``, which yields lines without their line ends.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bn_audit.inspection import Inspection

__all__ = ["FORMATS", "Look", "Renderer", "renderer"]

FORMATS = ("text", "json", "markdown")


@dataclass(frozen=True, slots=True)
class Look:
    """How a person wants to see an inspection.

    Attributes:
        color: whether escape sequences for colour are wanted.
        width: columns of the terminal.
        every: whether every entry and every norm layer has its own line.
        tree: whether the tree of modules is wanted.
        ascii_only: whether nothing but ASCII can be shown.
    """

    color: bool = False
    width: int = 80
    every: bool = False
    tree: bool = False
    ascii_only: bool = False


Renderer = Callable[[Inspection, Look], Iterator[str]]


def renderer(name: str) -> Renderer:
    """The function that writes this format.

    Raises:
        ModuleNotFoundError: no such format.
    """
    found: Renderer = importlib.import_module(f"{__name__}.{name}").render
    return found
