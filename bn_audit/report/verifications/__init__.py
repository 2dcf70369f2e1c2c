"""The output formats of verifications: ``text``, ``json`` and ``markdown``; ``html`` is the page of ``--html``.

A format has ``render(subject, look)``, which yields lines without their line ends. The subject is a verification, a fix
beside what it fixes, or a round judged from the parties' checkpoints.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bn_audit.parties import PartiesReport
from bn_audit.verification import Contrast, Verification

__all__ = ["FORMATS", "Look", "Renderer", "Subject", "renderer"]

FORMATS = ("text", "json", "markdown")

Subject = Verification | Contrast | PartiesReport


@dataclass(frozen=True, slots=True)
class Look:
    """How a person wants to see it.

    Attributes:
        color: whether escape sequences for colour are wanted.
        width: columns of the terminal.
        every: whether every entry has its own line.
        ascii_only: whether whoever reads it can show nothing else.
    """

    color: bool = False
    width: int = 80
    every: bool = False
    ascii_only: bool = False


Renderer = Callable[[Subject, Look], Iterator[str]]


def renderer(name: str) -> Renderer:
    """The function that writes this format.

    Raises:
        ModuleNotFoundError: no such format.
    """
    found: Renderer = importlib.import_module(f"{__name__}.{name}").render
    return found
