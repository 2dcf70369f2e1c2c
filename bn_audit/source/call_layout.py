"""How a call is laid out, and where one more keyword argument fits in.

People write calls on one line, one argument a line, in rows, aligned with the parenthesis, with a trailing comma or
without, with commas that lead, with comments behind and between the arguments. A new argument is written as the
others are.

Everything here is text: what lies between the arguments of a call is white space, commas, comments and backslashes, and
no string that could hold any of these.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Argument", "CallText", "Insertion", "add_keyword"]

Insertion = tuple[int, str]
"""An offset, and what to write there."""

_WIDTH = 79
"""A row of several arguments is continued in a new one where it would be longer than this, and than all the others."""

_BLANK = r"[ \t\f]|\\?\n|#[^\n]*(?![^\n])"
_GAP = re.compile(rf"(?:{_BLANK}|,)*")
_TO_PARENTHESIS = re.compile(rf"(?:{_BLANK}|\))*\(")
_COMMA = re.compile(rf"(?:{_BLANK})*,")
_REST = re.compile(r"[ \t\f]*(#[^\n]*)?(?=\n|\Z)")


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument: where it begins and ends, without the comma after it; ``star`` is ``*``, ``**`` or ""."""

    start: int
    end: int
    star: str = ""
    bare_generator: bool = False
    """Whether it is a generator without parentheses of its own, which it may be only if it stands alone."""


@dataclass(frozen=True, slots=True)
class CallText:
    """A call in a text: offsets of what is after its opening parenthesis, and of its closing one."""

    text: str
    opening: int
    closing: int
    arguments: tuple[Argument, ...]

    @classmethod
    def find(cls, text: str, callee_end: int, end: int, arguments: Sequence[Argument]) -> CallText | None:
        """The call that ends at ``end`` and whose callee, without its own parentheses, ends at ``callee_end``.

        None if the text is not what it should be, so that nothing can be said about it.
        """
        parenthesis = _TO_PARENTHESIS.match(text, callee_end)
        if parenthesis is None or text[end - 1 : end] != ")":
            return None
        call = cls(text, parenthesis.end(), end - 1, tuple(arguments))
        if not all(_is_gap(text, *call.gap(number)) for number in range(len(arguments) + 1)):
            return None
        return call

    def gap(self, number: int) -> tuple[int, int]:
        """What lies before an argument; before the closing parenthesis if the number is one too high."""
        start = self.arguments[number - 1].end if number else self.opening
        return start, self.arguments[number].start if number < len(self.arguments) else self.closing

    def begins_line(self, number: int) -> bool:
        """Whether an argument stands on another line than what comes before it."""
        return "\n" in self.text[slice(*self.gap(number))]

    def lead(self, number: int) -> tuple[str, str]:
        """Of an argument that begins a line: the line end before it, and what stands between that and itself."""
        start, end = self.gap(number)
        line = self.text.rindex("\n", start, end) + 1
        newline = "\\\n" if self.text[line - 2 : line - 1] == "\\" else "\n"
        return newline, self.text[line:end]

    def space(self) -> str:
        """What stands between a comma and the next argument on the same line."""
        for number in range(len(self.arguments) - 1, 0, -1):
            gap = self.text[slice(*self.gap(number))]
            _, comma, after = gap.partition(",")
            if comma and "#" not in gap and "\n" not in gap:
                return after
        return " "


def _is_gap(text: str, start: int, end: int) -> bool:
    return start <= end and _GAP.fullmatch(text, start, end) is not None


def add_keyword(call: CallText, argument: str) -> tuple[Insertion, ...]:
    """What to write to give a call one more keyword argument: after the others, but before ``**`` ones at its end."""
    if not call.arguments:
        return (_alone(call, argument),)
    after = len(call.arguments)
    while after and call.arguments[after - 1].star == "**":
        after -= 1
    if not after:
        return (_before_all(call, argument),)
    found = list(_after(call, after - 1, argument))
    if call.arguments[0].bare_generator:
        generator = call.arguments[0]
        found = [(generator.start, "("), (generator.end, ")"), *found]
    return _joined(found)


def _alone(call: CallText, argument: str) -> Insertion:
    if "\n" not in call.text[call.opening : call.closing]:
        return call.opening, argument
    indent = _indentation(call.text, call.opening)
    return call.opening, f"\n{indent}{_deeper(indent)}{argument},"


def _before_all(call: CallText, argument: str) -> Insertion:
    """Before arguments that are all unpacked."""
    if not call.begins_line(0):
        return call.arguments[0].start, f"{argument},{call.space()}"
    newline, lead = call.lead(0)
    rest = _REST.match(call.text, call.opening)
    # Behind a comment after the parenthesis, and before the comments on the lines that follow.
    place = rest.end() if rest is not None else call.opening
    return place, (f" {newline}" if newline != "\n" else newline) + f"{lead}{argument},"


def _after(call: CallText, anchor: int, argument: str) -> list[Insertion]:
    """After an argument, as the arguments around it are laid out."""
    end = call.arguments[anchor].end
    comma = _COMMA.match(call.text, end, call.gap(anchor + 1)[1])
    place = comma.end() if comma is not None else end
    model = _row(call, anchor)
    if model is None:
        written = f"{call.space()}{argument}," if comma is not None else f",{call.space()}{argument}"
        if not _too_long(call, place, written):
            return [(place, written)]
        model = next((number for number in range(anchor, -1, -1) if call.begins_line(number)), None)
        if model is None:
            return [(place, written)]
    newline, lead = call.lead(model)
    if "," in lead:  # commas lead
        rest = _REST.match(call.text, end)
        return [(rest.end() if rest is not None else end, f"{newline}{lead}{argument}")]
    line = newline if newline == "\n" else f" {newline}"
    rest = _REST.match(call.text, place)
    if comma is not None:
        return [(rest.end() if rest is not None else place, f"{line}{lead}{argument},")]
    if rest is not None and rest[1]:
        return [(place, ","), (rest.end(), f"{line}{lead}{argument}")]
    return [(place, f",{line}{lead}{argument}")]


def _row(call: CallText, anchor: int) -> int | None:
    """The argument as which a new one shall begin a line; None if the arguments do not stand one a line."""
    count = len(call.arguments)
    if count == 1:
        return 0 if call.begins_line(0) else None
    if not all(call.begins_line(number) for number in range(1, count)):
        return None
    return anchor if call.begins_line(anchor) else 1


def _too_long(call: CallText, place: int, written: str) -> bool:
    """Whether what is written makes a row of a call over several lines longer than it should be."""
    text = call.text
    if "\n" not in text[call.opening : call.closing]:
        return False
    first, last = text.rfind("\n", 0, call.opening) + 1, _line_end(text, call.closing)
    longest = max(len(line) for line in text[first:last].split("\n"))
    row = _line_end(text, place) - text.rfind("\n", 0, place) - 1
    return row + len(written) > max(longest, _WIDTH)


def _line_end(text: str, offset: int) -> int:
    end = text.find("\n", offset)
    return len(text) if end < 0 else end


def _indentation(text: str, offset: int) -> str:
    """The white space at the beginning of a line."""
    start = text.rfind("\n", 0, offset) + 1
    end = start
    while text[end : end + 1] in (" ", "\t", "\f") and end < offset:
        end += 1
    return text[start:end]


def _deeper(indent: str) -> str:
    return "\t" if "\t" in indent else "    "


def _joined(insertions: Sequence[Insertion]) -> tuple[Insertion, ...]:
    """Insertions at one place made one."""
    found: dict[int, str] = {}
    for offset, content in insertions:
        found[offset] = found.get(offset, "") + content
    return tuple(sorted(found.items()))
