"""Edits of a notebook's cells in the JSON text itself: of all its characters, only some of the edited source change.

A notebook that is loaded and written again comes out with other escapes, another indentation and another order; a
reviewer would look for one argument among ten thousand lines. So the strings of the cell are found in the raw text,
and what is written goes between their quotes, escaped as JSON wants it.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bn_audit.finding import Edit
from bn_audit.fix.edits import Applied, EditError, Splice, edit_text

__all__ = ["edit_cell", "place"]

_NEWLINE = re.compile(r"\r\n?|\n")
_SPACE = re.compile(r"[ \t\n\r]*")
_STRING = re.compile(r'"([^"\\]*(?:\\.[^"\\]*)*)"', re.DOTALL)
_SCALAR = re.compile(r"[^\s,\]}]+")
_NESTING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]', re.DOTALL)
_CHARACTERS = re.compile(r"\\u([0-9a-fA-F]{4})|\\(.)|[^\\]", re.DOTALL)
_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


@dataclass(frozen=True, slots=True)
class _Literal:
    """A string of the JSON text: where what stands between its quotes begins and ends there."""

    start: int
    end: int


class _Source:
    """The source of a cell: its strings, what they say when joined, and where each character of it stands."""

    def __init__(self, raw: str, literals: Sequence[_Literal], opening: int | None) -> None:
        self.raw = raw
        self.literals = literals
        self.opening = opening
        """Where the list of strings begins; None if the source is one string."""
        self.starts: list[int] = []
        """By string, the offset in the joined text at which it begins."""
        self._places: list[int] = []
        """By character of the joined text, its offset in the JSON text."""
        characters: list[str] = []
        for literal in literals:
            self.starts.append(len(characters))
            for offset, character in _decoded(raw, literal):
                characters.append(character)
                self._places.append(offset)
        self.text = "".join(characters)

    def splice(self, one: Splice) -> Splice:
        """An edit of the joined text, as one of the JSON text."""
        number = self._number(one.start, one.end)
        literal = self.literals[number]
        stop = self.starts[number + 1] if number + 1 < len(self.starts) else len(self.text)
        start, end = (self._places[at] if at < stop else literal.end for at in (one.start, one.end))
        return Splice(start, end, self._written(one.content, number))

    def place(self, line: int, column: int) -> tuple[int, int]:
        """A position in the joined text, as line and column of the JSON text."""
        starts = [0, *(match.end() for match in _NEWLINE.finditer(self.text))]
        start = starts[min(line, len(starts)) - 1]
        end = starts[line] - 1 if line < len(starts) else len(self.text)
        at = min(start + column - 1, end)
        offset = self._places[at] if at < len(self._places) else self.literals[-1].end
        before = self.raw[:offset]
        newlines = [match.end() for match in _NEWLINE.finditer(before)]
        return len(newlines) + 1, offset - (newlines[-1] if newlines else 0) + 1

    def _number(self, start: int, end: int) -> int:
        """The string in which an edit lies; at a border, the one whose line goes on."""
        number = max(bisect_right(self.starts, start) - 1, 0)
        if start == end and start == self.starts[number] and number and not self.text[:start].endswith(("\n", "\r")):
            number -= 1
        if number + 1 < len(self.starts) and end > self.starts[number + 1]:
            raise EditError("an edit reaches from one string of the cell's source into another")
        return number

    def _written(self, content: str, number: int) -> str:
        """Content as it stands between quotes. Where every line is a string of its own, so is a new one."""
        ascii_only = self.raw.isascii()
        if self.opening is None:
            return _escaped(content, ascii_only)
        between = self._between(number)
        parts = re.split(r"(?<=\n)|(?<=\r)(?!\n)", content)
        return between.join(_escaped(part, ascii_only) for part in parts)

    def _between(self, number: int) -> str:
        """What stands between two strings of the list, their quotes among it."""
        if number + 1 < len(self.literals):
            return self.raw[self.literals[number].end : self.literals[number + 1].start]
        if number:
            return self.raw[self.literals[number - 1].end : self.literals[number].start]
        assert self.opening is not None
        return f'",{self.raw[self.opening : self.literals[0].start]}'


def edit_cell(raw: str, cell: int, edits: Sequence[Edit]) -> tuple[Applied, Applied]:
    """The JSON text of a notebook after edits of a code cell, and the cell's source after them.

    Args:
        raw: the JSON text of a notebook that can be read.
        cell: the cell's number, counted from 1 over all cells.
        edits: with positions inside the cell.

    Raises:
        EditError: there is no such cell, or the edits do not fit its source.
    """
    source = _source(raw, cell)
    inside = edit_text(source.text, edits)
    return Applied(raw, [source.splice(one) for one in inside.splices]), inside


def place(raw: str, cell: int, line: int, column: int) -> tuple[int, int]:
    """Where a position in the source of a code cell stands in the JSON text: line and column, from 1.

    A position at the end of a line, or beyond what there is, is where the line's string ends.

    Raises:
        EditError: there is no such cell, or it has no source.
    """
    return _source(raw, cell).place(line, column)


def _source(raw: str, cell: int) -> _Source:
    notebook = dict(_members(raw, 0))
    if "cells" in notebook:
        cells = list(_items(raw, notebook["cells"]))
    else:
        sheets = [dict(_members(raw, sheet)) for sheet in _items(raw, notebook["worksheets"])]
        cells = [place for sheet in sheets if "cells" in sheet for place in _items(raw, sheet["cells"])]
    if not 1 <= cell <= len(cells):
        raise EditError(f"the notebook has no cell {cell}")
    members = dict(_members(raw, cells[cell - 1]))
    start = members.get("source", members.get("input", -1))
    if start < 0:
        raise EditError(f"cell {cell} has no source")
    if raw[start] == "[":
        strings = [_STRING.match(raw, place) for place in _items(raw, start)]
        opening: int | None = start + 1
    else:
        strings = [_STRING.match(raw, start)]
        opening = None
    if not strings or not all(strings):
        raise EditError(f"cell {cell} has no source")
    return _Source(raw, [_Literal(*string.span(1)) for string in strings if string is not None], opening)


def _members(raw: str, start: int) -> Iterator[tuple[str, int]]:
    """The keys of an object and where their values begin. Of a key that is there twice, the last one counts."""
    place = _skip(raw, start)
    if raw[place] != "{":
        raise EditError("not an object")
    place = _skip(raw, place + 1)
    while raw[place] != "}":
        key = _STRING.match(raw, place)
        if key is None:
            raise EditError("not a key")
        value = _skip(raw, _skip(raw, key.end()) + 1)
        yield json.loads(key[0]), value
        place = _next(raw, value)


def _items(raw: str, start: int) -> Iterator[int]:
    """Where the values of an array begin."""
    place = _skip(raw, start)
    if raw[place] != "[":
        raise EditError("not an array")
    place = _skip(raw, place + 1)
    while raw[place] != "]":
        yield place
        place = _next(raw, place)


def _next(raw: str, value: int) -> int:
    """Where what follows a value begins: the next key or value, or the end of what holds it."""
    place = _skip(raw, _end(raw, value))
    return _skip(raw, place + 1) if raw[place] == "," else place


def _end(raw: str, value: int) -> int:
    if raw[value] == '"':
        string = _STRING.match(raw, value)
        assert string is not None
        return string.end()
    if raw[value] not in "[{":
        scalar = _SCALAR.match(raw, value)
        assert scalar is not None
        return scalar.end()
    depth = 0
    for token in _NESTING.finditer(raw, value):
        if token[0] in "[{":
            depth += 1
        elif token[0] in "]}":
            depth -= 1
            if depth == 0:
                return token.end()
    raise EditError("the JSON ends too early")


def _skip(raw: str, place: int) -> int:
    space = _SPACE.match(raw, place)
    assert space is not None
    return space.end()


def _decoded(raw: str, literal: _Literal) -> Iterator[tuple[int, str]]:
    """The characters that a string stands for, and where each is written."""
    matches = list(_CHARACTERS.finditer(raw, literal.start, literal.end))
    number = 0
    while number < len(matches):
        match = matches[number]
        number += 1
        if match[1] is not None:
            code = int(match[1], 16)
            low = matches[number] if number < len(matches) else None
            if 0xD800 <= code < 0xDC00 and low is not None and low[1] is not None:
                second = int(low[1], 16)
                if 0xDC00 <= second < 0xE000:
                    code = 0x10000 + ((code - 0xD800) << 10) + (second - 0xDC00)
                    number += 1
            yield match.start(), chr(code)
        elif match[2] is not None:
            yield match.start(), _ESCAPES.get(match[2], match[2])
        else:
            yield match.start(), match[0]


def _escaped(content: str, ascii_only: bool) -> str:
    return json.dumps(content, ensure_ascii=ascii_only)[1:-1]
