"""Where nodes of a tree stand in the source: only the nodes that are asked for, in one pass of code generation.

libcst's nodes hold no positions. Its PositionProvider generates the module's code and notes how far it has come at each
node; so does this, with the same results, but only for chosen nodes, and without the copy of the tree that a
MetadataWrapper makes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from functools import lru_cache, partial
from typing import TYPE_CHECKING

from bn_audit.finding import Location
from bn_audit.source.deep_stack import run_with_deep_stack
from bn_audit.source.notebook import read_notebook
from bn_audit.source.parse import ParsedFile, Part, is_notebook
from bn_audit.source.text import SourceError, decode, read_bytes

if TYPE_CHECKING:
    from libcst import CSTNode

    from bn_audit.source.recorder import Point

__all__ = ["excerpt", "forget", "locate", "source_lines"]


def locate(parsed: ParsedFile, nodes: Iterable[CSTNode]) -> dict[int, Location]:
    """The locations of nodes of a parsed file, by ``id(node)``; a node that is not in the file has none.

    A location spans what libcst's PositionProvider says: the node without the white space around it, a definition
    without its decorators, an expression without the parentheses around it.
    """
    from bn_audit.source.recorder import spans

    wanted = {id(node) for node in nodes}
    locations: dict[int, Location] = {}
    for part in parsed.parts:
        missing = wanted - locations.keys()
        if not missing:
            break
        found = run_with_deep_stack(partial(spans, part.module, missing))
        lines = _Lines(part)
        locations.update(
            (identity, _location(parsed.path, part, *lines.span(*span))) for identity, span in found.items()
        )
        for suite in part.suites:
            missing = wanted - locations.keys()
            if not missing:
                break
            if suite.whole is not None:
                found = run_with_deep_stack(partial(spans, suite.whole, missing))
                moved = suite.source.first - 2  # its first line is the second one below the head it is parsed with
                for identity, ((line, column), (end_line, end_column)) in found.items():
                    span = (line + moved, column), (end_line + moved, end_column)
                    locations[identity] = _location(parsed.path, part, *span)
    return locations


class _Lines:
    """Where the lines of a sketch stand in the text."""

    def __init__(self, part: Part) -> None:
        self._bodies = [suite.source for suite in part.suites]
        self._places = [body.place for body in self._bodies]

    def span(self, start: Point, end: Point) -> tuple[Point, Point]:
        """A span of the text, given one of the sketch."""
        number = bisect_left(self._places, end[0])
        if number < len(self._places) and self._places[number] == end[0]:
            # What ends where a body was left out ends with the body.
            body = self._bodies[number]
            return (self._line(start[0]), start[1]), (body.last, body.end_column)
        return (self._line(start[0]), start[1]), (self._line(end[0]), end[1])

    def _line(self, line: int) -> int:
        before = bisect_left(self._places, line)
        if not before:
            return line
        body = self._bodies[before - 1]
        return line - body.place + body.last


def _location(path: str, part: Part, start: Point, end: Point) -> Location:
    (line, column), (end_line, end_column) = start, end
    column += part.shifts.get(line, 0) + 1
    end_column += part.shifts.get(end_line, 0) + 1
    return Location(path, line, column, end_line, end_column, part.cell)


def excerpt(path: str, cell: int | None, line: int) -> str | None:
    """A line of a source file, or of a notebook's cell, for a report to show; None if there is no such line."""
    lines = _lines(path).get(cell, ())
    return lines[line - 1] if 1 <= line <= len(lines) else None


def forget() -> None:
    """Look at files anew from here on: they have been changed."""
    _lines.cache_clear()


def source_lines(path: str, data: bytes) -> dict[int | None, tuple[str, ...]]:
    """The lines of a file by cell, which is None for a file that is no notebook; none if it cannot be decoded."""
    try:
        if is_notebook(path):
            return {cell.number: tuple(cell.source.split("\n")) for cell in read_notebook(data)}
        return {None: tuple(decode(data).normalized.split("\n"))}
    except SourceError:
        return {}


@lru_cache(maxsize=16)
def _lines(path: str) -> dict[int | None, tuple[str, ...]]:
    try:
        return source_lines(path, read_bytes(path))
    except SourceError:
        return {}
