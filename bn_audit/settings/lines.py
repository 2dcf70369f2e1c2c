"""Where a key stands in a TOML file: its parser does not say.

The text is known to be TOML; only as much of its grammar is followed as it takes to tell keys from values.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["line_of"]

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_PART = re.compile(r"""[ \t]*(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|([\w-]+))[ \t]*\.?""")
_HEAD = re.compile(r"\[\[?")
_VALUE = re.compile(
    r"""
    \"""(?:[^\\]|\\.)*?\"{3,5} | '''.*?'{3,5} | "(?:[^"\\\n]|\\.)*" | '[^'\n]*'
    | \#[^\n]* | (?P<open>[\[{]) | (?P<close>[\]}]) | (?P<end>\n) | [^"'\#\[\]{}\n]+ | .""",
    re.VERBOSE | re.DOTALL,
)


def line_of(text: str, key: Sequence[str]) -> int | None:
    """The line, from 1, on which a key given by its full path stands; of one inside a value, the line of that value.

    None if it is not there.
    """
    wanted = tuple(key)
    best: tuple[int, int] | None = None
    for path, position in _statements(text):
        # A table is made by its head or by what is in it; a value holds all the keys within it.
        fits = path[: len(wanted)] == wanted or wanted[: len(path)] == path
        length = min(len(path), len(wanted))
        if fits and (best is None or length > best[0]):
            best = length, position
    return None if best is None else text.count("\n", 0, best[1]) + 1


def _statements(text: str) -> Iterator[tuple[tuple[str, ...], int]]:
    """The full path of every key and of every table's head, with where it begins."""
    table: tuple[str, ...] = ()
    position = _end(_BLANK, text, 0)
    while position < len(text):
        start = position
        head = _HEAD.match(text, position)
        path, position = _path(text, head.end() if head is not None else position)
        if head is not None:
            table = path
            yield table, start
        else:
            yield (*table, *path), start
        position = _end(_BLANK, text, _statement_end(text, position))


def _path(text: str, position: int) -> tuple[tuple[str, ...], int]:
    parts: list[str] = []
    while (match := _PART.match(text, position)) is not None:
        double, single, bare = match.groups()
        parts.append(_unescaped(double) if double is not None else single if single is not None else bare)
        position = match.end()
        if not match[0].endswith("."):
            break
    return tuple(parts), position


def _statement_end(text: str, position: int) -> int:
    """Where the line ends that does not lie in brackets or a string."""
    depth = 0
    while position < len(text):
        match = _VALUE.match(text, position)
        assert match is not None  # its last branch takes anything
        position = match.end()
        if match["open"]:
            depth += 1
        elif match["close"]:
            depth -= 1
        elif match["end"] and depth <= 0:
            break
    return position


def _unescaped(text: str) -> str:
    return str(tomllib.loads(f'key = "{text}"')["key"])


def _end(pattern: re.Pattern[str], text: str, position: int) -> int:
    match = pattern.match(text, position)
    return position if match is None else match.end()
