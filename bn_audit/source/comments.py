"""The comments of a Python text, and for which lines a comment at the end of a line can speak.

Works on any text, parseable or not: comments are found where Python would find them, never in strings, and where the
text makes no sense the rest of the line is left out. It costs about a seventh of what parsing does.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from bn_audit.source.notebook import read_notebook
from bn_audit.source.parse import is_notebook
from bn_audit.source.scanner import STRINGS, fstring_text
from bn_audit.source.text import SourceError, decode, normalize_newlines, utf_16_or_32

__all__ = ["Comment", "Comments", "comments_in", "comments_of"]

_TOKEN = re.compile(
    r"(?P<comment>\#[^\n]*) | (?P<continued>\\\n) |"
    + STRINGS
    + r"| (?P<open>[(\[{]) | (?P<close>[)\]}]) | (?P<newline>\n) | (?P<colon>:)",
    re.VERBOSE | re.DOTALL,
)
_SPECIFICATION = re.compile(r"[{}]")
_OPENING = {")": "(", "]": "[", "}": "{"}


@dataclass(frozen=True, slots=True)
class Comment:
    """A comment.

    Attributes:
        line, column: where its ``#`` stands, counted from 1.
        text: from there to the end of the line.
        alone: whether it has the line to itself.
        gap: how many characters of white space stand before it.
    """

    line: int
    column: int
    text: str
    alone: bool
    gap: int

    @property
    def end_column(self) -> int:
        """The column after its last character."""
        return self.column + len(self.text)


@dataclass(frozen=True, slots=True)
class Comments:
    """What is known of a text, or of a notebook's cell.

    Attributes:
        cell: the cell's number; None for a text that is no notebook.
        comments: in order.
        lines: how many lines there are.
    """

    cell: int | None
    comments: tuple[Comment, ...]
    lines: int
    _ends: tuple[int, ...]
    """The last line of each logical line, in order."""
    _joined: frozenset[int]
    """Lines that end inside a string, or in a backslash: no comment can stand at their end."""
    _empty: frozenset[int]
    """Lines without code."""

    def statement(self, line: int) -> tuple[int, int]:
        """The first and the last line of the logical line (a simple statement, the head of a compound one) that a line
        belongs to."""
        number = bisect_left(self._ends, line)
        first = self._ends[number - 1] + 1 if number else 1
        return first, self._ends[number] if number < len(self._ends) else self.lines

    def place(self, line: int) -> int:
        """The first line, from this one on, at whose end a comment can stand."""
        while line in self._joined and line < self.lines:
            line += 1
        return line

    def holds(self, line: int) -> bool:
        """Whether a comment can stand at the end of a line."""
        return line not in self._joined

    def next_code(self, line: int) -> int | None:
        """The first line after this one that holds code."""
        return next((after for after in range(line + 1, self.lines + 1) if after not in self._empty), None)


def comments_of(path: str, data: bytes) -> tuple[Comments, ...]:
    """The comments in the bytes of a file; of a notebook, cell by cell. What cannot be read at all has none."""
    if is_notebook(path):
        try:
            cells = read_notebook(data)
        except SourceError:
            return ()
        return tuple(comments_in(cell.code, cell.number, cell.shifts) for cell in cells)
    try:
        text = decode(data).text
    except SourceError:
        if utf_16_or_32(data) is not None:
            return ()
        text = data.decode("utf-8-sig", "replace")
    return (comments_in(normalize_newlines(text)),)


def comments_in(text: str, cell: int | None = None, shifts: Mapping[int, int] | None = None) -> Comments:
    """The comments in a text with ``\\n`` line ends.

    Args:
        text: Python, or nearly so.
        cell: the number of the notebook's cell that it stands in.
        shifts: by line, how many characters further to the right the text really stands.
    """
    starts = [0, *(match.end() for match in re.finditer("\n", text))]
    shifts = shifts or {}
    found: list[Comment] = []
    ends: list[int] = []
    joined: set[int] = set()
    for kind, start, end in _tokens(text):
        line = bisect_right(starts, start)
        if kind == "comment":
            before = text[starts[line - 1] : start]
            column = start - starts[line - 1] + shifts.get(line, 0) + 1
            code = before.rstrip()
            found.append(Comment(line, column, text[start:end], not code, len(before) - len(code)))
        elif kind == "end":
            ends.append(line)
        else:
            joined.update(range(line, bisect_right(starts, end) + (kind == "open")))
    blank = {number for number, line in enumerate(text.split("\n"), start=1) if not line.strip()}
    empty = (blank - joined) | {comment.line for comment in found if comment.alone}
    return Comments(cell, tuple(found), len(starts), tuple(ends), frozenset(joined), frozenset(empty))


def _tokens(text: str) -> Iterator[tuple[str, int, int]]:
    """``comment``s, ``end``s of logical lines, and stretches whose line ends are ``joined``, or that never end and are
    left ``open``; each with its offsets."""
    frames: list[tuple[str, re.Pattern[str], str]] = []  # what is open: its kind, how to search it, its closing quote
    position = 0
    while position < len(text):
        kind, pattern, quote = frames[-1] if frames else ("", _TOKEN, "")
        start = position
        match = pattern.search(text, position)
        if kind in ("text", "specification"):
            if match is None:
                yield "open", start, len(text)
                return
            position = match.end()
            yield "joined", start, position - 1
            if match[0] == "{":
                frames.append(("field", _TOKEN, ""))
            elif match[0] == "}" and kind == "specification":
                del frames[-2:]  # and with it the field
            elif match[0] == quote:
                frames.pop()
            elif match[0] == "\n":  # an f-string without its closing quote
                frames.pop()
                position -= 1
            continue
        if match is None:
            return
        token, position = match.lastgroup, match.end()
        if token == "comment":
            yield "comment", match.start(), position
        elif token == "newline":
            if not frames:
                yield "end", match.start(), position
            elif any(frame[0] == "text" for frame in frames):
                yield "joined", match.start(), position
        elif token == "continued":
            yield "joined", match.start(), position
        elif token == "string":
            if "\n" in match[0]:
                yield "joined", match.start(), position
        elif token == "fstring":
            closing = match[0].lstrip("fFtTrR")
            frames.append(("text", fstring_text(closing, "r" in match[0].lower()), closing))
        elif token == "unterminated":
            if text.startswith(match[0] * 3, match.start()):
                yield "open", match.start(), len(text)
                return
            stop = text.find("\n", position)
            position = len(text) if stop < 0 else stop
        elif token == "open":
            frames.append((match[0], _TOKEN, ""))
        elif token == "close":
            if kind == _OPENING[match[0]] or (kind == "field" and match[0] == "}"):
                frames.pop()
        elif token == "colon" and kind == "field":
            frames.append(("specification", _SPECIFICATION, ""))
