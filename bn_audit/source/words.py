"""Which files of a scan mention a word: whoever calls a function names it, and most often the module it comes from.

To search all files for every function would take longer than all the rest. So each file is cut into words once, and of
each word a number is kept: four bytes for each different word of a file, some 1.6 KB for a file of average size.
"""

from __future__ import annotations

import os
import re
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from itertools import islice, takewhile
from zlib import crc32

from bn_audit.source.prefilter import mentions

__all__ = ["Table", "WordIndex", "numbers", "words"]

_LETTERS = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz" + bytes(range(0x80, 0x100))
# Every byte from 0x80 on belongs to a letter of some script, in any encoding that extends ASCII.
_BLANKS = bytes(byte if byte in _LETTERS else 0x20 for byte in range(0x100))

Table = list["array[int]"]
"""By file: the numbers of its words, sorted."""


def words(data: bytes) -> set[bytes]:
    """The words of a text. Far faster than a regular expression."""
    return set(data.translate(_BLANKS).split())


def numbers(data: bytes) -> array[int]:
    """The numbers of the words of a text, sorted. Two words may have the same one."""
    return array("I", sorted(set(map(crc32, words(data)))))


class WordIndex:
    """The words of a set of files, which are read when it is first asked.

    Args:
        files: in order.
        read: what a file holds.

    Attributes:
        table: the numbers of their words, once they are known.
    """

    def __init__(self, files: Sequence[str], read: Callable[[str], bytes]) -> None:
        self._files = files
        self._read = read
        self.table: Table | None = None

    def mentioning(self, name: str, stem: str) -> list[str]:
        """The files that mention two words, in order."""
        return [path for path in self._with(name, stem) if self._mentions(path, name, stem)]

    def near(self, name: str, module: str, use: bytes, most: int) -> list[str]:
        """The files that use a name, at most so many: a module's own first, which has it, then the nearest to it.

        ``use`` is a regular expression in which ``%s`` stands for the name.
        """
        pattern = re.compile(use % re.escape(name.encode()))
        ordered = sorted((steps_between(module, path), path) for path in self._with(name))
        used = (path for steps, path in ordered if steps < 0 or pattern.search(self._read(path)) is not None)
        return list(islice(used, most))

    def mentions(self, path: str, name: str) -> bool:
        """Whether a file mentions a word. Of this file alone."""
        data = self._read(path)
        return name.encode() in data and bool(mentions(data, [name]))

    def uses(self, path: str, name: str, module: str, use: bytes) -> bool:
        """Whether :meth:`near` would take a file, if none were nearer."""
        if not self.mentions(path, name):
            return False
        if steps_between(module, path) < 0:
            return True
        return re.search(use % re.escape(name.encode()), self._read(path)) is not None

    def _with(self, *names: str) -> Iterator[str]:
        """The files that have words with the numbers of these."""
        if self.table is None:
            self.table = [numbers(self._read(path)) for path in self._files]
        wanted = [crc32(os.fsencode(name)) for name in names]
        for path, row in zip(self._files, self.table, strict=True):
            if all(_holds(row, number) for number in wanted):
                yield path

    def _mentions(self, path: str, *names: str) -> bool:
        data = self._read(path)
        return all(mentions(data, [name]) for name in names)


def steps_between(module: str, path: str) -> int:
    """How many folders up and down a file lies from a module, given by its absolute path; -1 if it is the module."""
    absolute = os.path.abspath(path)
    if absolute == module:
        return -1
    folder, other = os.path.dirname(module).split(os.sep), os.path.dirname(absolute).split(os.sep)
    common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(folder, other, strict=False)))
    return len(folder) + len(other) - 2 * common


def _holds(row: array[int], number: int) -> bool:
    position = bisect_left(row, number)
    return position < len(row) and row[position] == number
