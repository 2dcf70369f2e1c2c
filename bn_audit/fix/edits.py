"""Edits and texts, as pure functions: what a text is after some edits, and which edits go together.

A position is a line and a column, both from 1. Lines end with ``\\n``, ``\\r\\n`` or a lone ``\\r``, as Python counts
them; columns are characters. Nothing outside an edit changes, and what an edit writes has the line ends of the lines
around it.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bn_audit.finding import Applicability, Edit, Finding

__all__ = ["Applied", "EditError", "applicable", "apply_edits", "compatible", "edit_text"]

_NEWLINE = re.compile(r"\r\n?|\n")


class EditError(ValueError):
    """Edits that overlap, or that lie outside their text."""


@dataclass(frozen=True, slots=True)
class Splice:
    """An edit of a text by offsets, as it will be written."""

    start: int
    end: int
    content: str


class Applied:
    """A text after some edits.

    Attributes:
        before: the text before.
        text: the text after.
        splices: what was done, in order.
    """

    __slots__ = ("_lines", "before", "splices", "text")

    def __init__(self, before: str, splices: Sequence[Splice]) -> None:
        self.before = before
        self.splices = tuple(splices)
        self.text = "".join(self.pieces())
        self._lines: tuple[list[int], list[int]] | None = None

    def pieces(self) -> list[str]:
        """The text after, cut where an edit begins or ends: what stays at even places, what is new at odd ones."""
        found = []
        end = 0
        for splice in self.splices:
            found += [self.before[end : splice.start], splice.content]
            end = splice.end
        return [*found, self.before[end:]]

    def moved(self, line: int, column: int) -> tuple[int, int]:
        """Where what stood at a position, outside every edit, stands now."""
        if self._lines is None:
            self._lines = _line_starts(self.before), _line_starts(self.text)
        old, new = self._lines
        offset = old[line - 1] + column - 1
        offset += sum(len(one.content) - (one.end - one.start) for one in self.splices if one.start < offset)
        number = bisect_right(new, offset)
        return number, offset - new[number - 1] + 1


def apply_edits(text: str, edits: Iterable[Edit]) -> str:
    """A text after edits, which may come in any order; equal ones are one.

    Raises:
        EditError: two of them overlap, or one lies outside the text.
    """
    return edit_text(text, edits).text


def edit_text(text: str, edits: Iterable[Edit]) -> Applied:
    """The same as :func:`apply_edits`, with what was done."""
    starts = _line_starts(text)
    splices: list[Splice] = []
    for edit in sorted(set(edits), key=_place):
        start, end = (
            _offset(text, starts, edit.line, edit.column),
            _offset(text, starts, edit.end_line, edit.end_column),
        )
        if end < start or (splices and start < splices[-1].end):
            raise EditError(f"the edits at line {edit.line}, column {edit.column} overlap")
        newline = _newline_at(text, starts, edit.line)
        splices.append(Splice(start, end, edit.content.replace("\n", newline)))
    return Applied(text, splices)


def applicable(finding: Finding, *, unsafe: bool) -> bool:
    """Whether a finding has a fix that may be applied: a safe one, or any if ``unsafe``."""
    fix = finding.fix
    return fix is not None and bool(fix.edits) and (unsafe or fix.applicability is Applicability.SAFE)


def compatible(findings: Iterable[Finding], *, unsafe: bool = False) -> list[Finding]:
    """The findings whose fixes can be applied together, in order: of fixes that overlap the first one.

    Fixes that are the same are one; all their findings are among the result. Paths and cells are kept apart.
    """
    taken: dict[tuple[str, int | None], set[Edit]] = {}
    chosen = []
    for finding in findings:
        if finding.fix is None or not applicable(finding, unsafe=unsafe):
            continue
        edits = taken.setdefault((finding.location.path, finding.location.cell), set())
        own = set(finding.fix.edits)
        if own <= edits or not any(_overlap(one, other) for one in own for other in edits):
            edits |= own
            chosen.append(finding)
    return chosen


def _place(edit: Edit) -> tuple[int, int, int, int, str]:
    return edit.line, edit.column, edit.end_line, edit.end_column, edit.content


def _overlap(one: Edit, other: Edit) -> bool:
    """Whether two edits touch the same text, or write at the same place."""
    start, other_start = (one.line, one.column), (other.line, other.column)
    if start == other_start:
        return True
    return start < (other.end_line, other.end_column) and other_start < (one.end_line, one.end_column)


def _line_starts(text: str) -> list[int]:
    return [0, *(match.end() for match in _NEWLINE.finditer(text))]


def _offset(text: str, starts: Sequence[int], line: int, column: int) -> int:
    if not 1 <= line <= len(starts):
        raise EditError(f"there is no line {line}")
    end = starts[line] if line < len(starts) else len(text)
    offset = starts[line - 1] + column - 1
    if not starts[line - 1] <= offset <= end - len(_newline_of(text, starts, line)):
        raise EditError(f"line {line} has no column {column}")
    return offset


def _newline_of(text: str, starts: Sequence[int], line: int) -> str:
    """How a line ends; "" if the text ends first."""
    if line >= len(starts):
        return ""
    end = starts[line]
    return "\r\n" if text.endswith("\r\n", starts[line - 1], end) else text[end - 1]


def _newline_at(text: str, starts: Sequence[int], line: int) -> str:
    """How a new line at a line shall end: as that one does, or, being the last one, as the one before it does."""
    return _newline_of(text, starts, line) or (_newline_of(text, starts, line - 1) if line > 1 else "") or "\n"
