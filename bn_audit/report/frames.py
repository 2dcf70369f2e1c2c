"""Framed source: the lines around a location, with the location underlined.

The frames are those of rustc and ruff. A stretch within one line is underlined::

       |
    12 |         self.bn1 = nn.BatchNorm2d(16)
       |                    ^^^^^^^^^^^^^^^^^^
       |

and one over several lines is bracketed, with its middle left out where it is long::

       |
    31 |   fl_model = FLModel(
       |  ____________^
    32 | |     server=server,
    33 | | )
       | |_^
       |
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from bn_audit.finding import Location
from bn_audit.report.model import Excerpt
from bn_audit.report.words import printable

__all__ = ["Style", "frame", "line_frame", "shown"]

TAB = 4
"""Columns a tab is shown as, wherever it stands."""
WIDTH = 140
"""Columns of source shown of a line; of a longer one, the part around what is underlined."""
HEAD, TAIL = 5, 2
"""Lines shown of a long stretch, from its beginning and from its end."""


@dataclass(frozen=True, slots=True)
class Style:
    """How the underline looks: its character, and what colours gutter and underline (identity where none is wanted)."""

    underline: str
    gutter: Callable[[str], str]
    mark: Callable[[str], str]


def frame(location: Location, excerpt: Excerpt, style: Style, *, margin: int, context: int = 0) -> Iterator[str]:
    """Lines of a frame around a stretch of source; none where the source cannot be shown.

    Args:
        location: what to underline.
        excerpt: gives the lines of source.
        style: how it looks.
        margin: width of the line numbers' column.
        context: lines shown above and below a stretch within one line, unless they are blank.
    """
    if excerpt(location.path, location.cell, location.line) is None:
        return
    bar = style.gutter("|")
    yield f"{' ' * margin} {bar}"
    if location.end_line > location.line:
        yield from _bracket(location, excerpt, style, margin)
    else:
        for line in range(max(1, location.line - context), location.line + context + 1):
            text = excerpt(location.path, location.cell, line) or ""
            if line == location.line:
                yield from _underlined([location], text, style, margin)
            elif text.strip():
                yield f"{style.gutter(str(line).rjust(margin))} {bar} {_shown(text, 0, 0)[0]}".rstrip()
    yield f"{' ' * margin} {bar}"


def line_frame(locations: Sequence[Location], excerpt: Excerpt, style: Style, *, margin: int) -> Iterator[str]:
    """Lines of a frame around the one line on which some stretches begin, each underlined as far as that line goes.

    Args:
        locations: what to underline; all of one line.
        excerpt, style, margin: as for :func:`frame`.
    """
    text = excerpt(locations[0].path, locations[0].cell, locations[0].line)
    if text is None:
        return
    blank = f"{' ' * margin} {style.gutter('|')}"
    yield blank
    yield from _underlined(locations, text, style, margin)
    yield blank


def shown(text: str) -> str:
    """A line of source as a frame shows it."""
    return _shown(text, 0, 0)[0]


def _underlined(locations: Sequence[Location], text: str, style: Style, margin: int) -> Iterator[str]:
    """A line of source, and one that underlines stretches that begin in it."""
    stop = len(text.rstrip())
    stretches = sorted(
        (place.column - 1, max(stop if place.end_line > place.line else place.end_column - 1, place.column))
        for place in locations
    )
    shown, indent, _ = _shown(text, *stretches[0])
    marks = ""
    for start, end in stretches:
        same, left, width = _shown(text, start, end)
        if same == shown:  # Else the line is too long to show both.
            marks = marks.ljust(left - indent) + style.underline * (
                left - indent + width - max(len(marks), left - indent)
            )
    bar = style.gutter("|")
    yield f"{style.gutter(str(locations[0].line).rjust(margin))} {bar} {shown}".rstrip()
    yield f"{' ' * margin} {bar} {' ' * indent}{style.mark(marks)}"


def _bracket(location: Location, excerpt: Excerpt, style: Style, margin: int) -> Iterator[str]:
    bar = style.gutter("|")
    blank = f"{' ' * margin} {bar}"
    side = style.mark("|")
    numbers: list[int | None] = list(range(location.line, location.end_line + 1))
    if len(numbers) > HEAD + TAIL + 1:
        numbers[HEAD:-TAIL] = [None]
    for number in numbers:
        if number is None:
            yield f"{style.gutter('...'.rjust(margin))} {bar} {side}"
            continue
        text = excerpt(location.path, location.cell, number) or ""
        gutter = f"{style.gutter(str(number).rjust(margin))} {bar}"
        if number == location.line:
            shown, left, _ = _shown(text, location.column - 1, location.column)
            yield f"{gutter}   {shown}".rstrip()
            yield f"{blank}  {style.mark('_' * (left + 1) + style.underline)}"
        else:
            end = location.end_column - 1 if number == location.end_line else 0
            shown, left, _ = _shown(text, max(end - 1, 0), end)
            yield f"{gutter} {side} {shown}".rstrip()
            if number == location.end_line:
                yield f"{blank} {style.mark('|' + '_' * (left + 1) + style.underline)}"


def _shown(text: str, start: int, end: int) -> tuple[str, int, int]:
    """The line as it is shown, the column at which characters ``start:end`` begin in it, and how wide they are."""
    cells = [_cell(character) for character in text]
    widths = [_width(cell) for cell in cells]
    before, marked = sum(widths[:start]), max(sum(widths[start:end]), 1)
    if sum(widths) <= WIDTH:
        return "".join(cells), before, marked
    # A long line: begin a third of the width before what is underlined, and end where the width does.
    skip, left = 0, before
    while left > WIDTH // 3:
        left -= widths[skip]
        skip += 1
    stop, width = skip, 0
    while stop < len(cells) and width + widths[stop] <= WIDTH:
        width += widths[stop]
        stop += 1
    lead, trail = "..." if skip else "", "..." if stop < len(cells) else ""
    return f"{lead}{''.join(cells[skip:stop])}{trail}", left + len(lead), min(marked, max(width - left, 1))


def _cell(character: str) -> str:
    return " " * TAB if character == "\t" else printable(character)


def _width(cell: str) -> int:
    """Columns a terminal gives to a character: two if East Asian wide, none if it combines with the one before."""
    if len(cell) != 1 or cell.isascii():
        return len(cell)
    if unicodedata.combining(cell):
        return 0
    return 2 if unicodedata.east_asian_width(cell) in "WF" else 1
