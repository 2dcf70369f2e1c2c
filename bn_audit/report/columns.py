"""Tables of text: columns as wide as what stands in them, and words wrapped where the terminal ends."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest

__all__ = ["columns", "wrapped"]

GAP = "  "


def columns(
    rows: Sequence[Sequence[str]],
    *,
    right: frozenset[int] = frozenset(),
    paint: Callable[[int, int, str], str] = lambda row, column, text: text,
    width: int = 0,
) -> Iterator[str]:
    """Rows as lines, each column as wide as its widest cell.

    Args:
        rows: cells; all rows have as many.
        right: the columns that are set flush right.
        paint: gives a cell, known by its row and column, its colour; escape sequences take no space.
        width: where lines end: the last column is wrapped there. 0 is nowhere.
    """
    if not rows:
        return
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    last = len(widths) - 1
    if width:
        widths[last] = min(widths[last], max(width - sum(widths[:last]) - len(GAP) * last, 20))
    for number, row in enumerate(rows):
        parts = textwrap.wrap(row[last], widths[last], break_on_hyphens=False) or [""]
        cells = [[cell] for cell in row[:last]] + [parts]
        for line in zip_longest(*cells, fillvalue=""):
            placed = []
            for column, text in enumerate(line):
                space = " " * (widths[column] - len(text))
                shown = paint(number, column, text) if text else ""
                placed.append(space + shown if column in right else shown + space)
            yield GAP.join(placed).rstrip()


def wrapped(text: str, width: int, *, indent: str = "", first: str | None = None) -> Iterator[str]:
    """Lines of running text; long names are not broken."""
    lead = indent if first is None else first
    yield from textwrap.wrap(
        text,
        max(width, 40),
        initial_indent=lead,
        subsequent_indent=indent,
        break_on_hyphens=False,
        break_long_words=False,
    )
