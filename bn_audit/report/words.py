"""Words that several formats share: positions, counts, and text that is safe to print."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bn_audit.finding import Location

__all__ = ["count", "enumerate_words", "forward", "in_cell", "position", "printable", "sentence"]


def printable(text: str) -> str:
    r"""Escape what a terminal would act upon or could not encode: control and format characters, lone surrogates.

    A file may be called ``a\x1b[2J.py``, and a string literal may hold anything.
    """
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def position(location: Location) -> str:
    """``path:line:column``, and ``path:cell 3:line:column`` in a notebook."""
    cell = "" if location.cell is None else f":cell {location.cell}"
    return f"{printable(location.path)}{cell}:{location.line}:{location.column}"


def count(number: int, noun: str, plural: str = "") -> str:
    """``1 error``, ``2 errors``; ``plural`` where that is not the noun and an s."""
    return f"{number} {noun}" if number == 1 else f"{number} {plural or noun + 's'}"


def enumerate_words(words: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"


def sentence(text: str) -> str:
    """The text with a full stop, unless it ends in a mark of its own."""
    return text if text.endswith((".", "!", "?", ":")) else f"{text}."


def in_cell(location: Location, text: str) -> str:
    """The text, with the cell and the line there before it; for formats whose positions are those of files."""
    return text if location.cell is None else f"cell {location.cell}, line {location.line}: {text}"


def forward(path: str) -> str:
    """A path with ``/`` between its parts, as URIs and the formats of other systems have it."""
    return path if os.sep == "/" else path.replace(os.sep, "/")
