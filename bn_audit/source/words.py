"""Which files of a scan mention a word: whoever calls a function names it, and most often the module it comes from.

To search all files for every function would take longer than all the rest. So each file is cut into words once, and of
each word a number is kept, with the files of a block that hold it: some 0.6 KB for a file of average size.
"""

from __future__ import annotations

import os
import re
from array import array
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import accumulate, islice, takewhile
from operator import le
from typing import Literal
from zlib import crc32

from bn_audit.source.puts import PUTS

__all__ = ["USES", "Use", "Using", "WordIndex", "calls", "defines", "derives", "fills", "gives", "words"]

_LETTERS = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz" + bytes(range(0x80, 0x100))
# Every byte from 0x80 on belongs to a letter of some script, in any encoding that extends ASCII.
_BLANKS = bytes(byte if byte in _LETTERS else 0x20 for byte in range(0x100))

_BLOCK = 128
"""Files whose words are kept together, neighbours as a rule; at most as many as a byte can number."""
_SEARCHES = 2
"""How often the files of a block are searched, each by itself, before their words are kept, which takes as long as four
searches."""

Use = Callable[[bytes, str], bool]
"""Whether a text uses a name in some way."""
Using = Literal["call", "give", "base", "define", "fill"]
"""In which: to call it, to call it with arguments, to have it for a base of a class, to define it, to put something
into it."""


def words(data: bytes) -> set[bytes]:
    """The words of a text. Far faster than a regular expression."""
    return set(data.translate(_BLANKS).split())


class _Block:
    """The words of some neighbouring files: their numbers, sorted, and of each the files that hold it."""

    def __init__(self, texts: Iterable[bytes]) -> None:
        by_word: dict[bytes, bytearray] = defaultdict(bytearray)
        for file, data in enumerate(texts):
            for word in words(data):
                by_word[word].append(file)
        rows = sorted((crc32(word), bytes(files)) for word, files in by_word.items())
        self._numbers = array("I", [number for number, _ in rows])
        self._files = b"".join([files for _, files in rows])
        self._starts = array("I", accumulate((len(files) for _, files in rows), initial=0))

    def holding(self, name: str) -> bytes:
        """The places in the block of the files that may hold a word: two words may have the same number."""
        number = _number(name)
        first = bisect_left(self._numbers, number)
        return self._files[self._starts[first] : self._starts[bisect_right(self._numbers, number, first)]]


class WordIndex:
    """The words of a set of files, each of which is read when it is first asked for.

    Args:
        files: in order.
        read: what a file holds.
    """

    def __init__(self, files: Sequence[str], read: Callable[[str], bytes]) -> None:
        self._files = files
        self._read = read
        self._blocks: dict[int, _Block] = {}
        self._searches: dict[int, int] = {}
        self._rings: dict[tuple[str, str], list[list[int]]] = {}
        self._places: dict[str, dict[str, list[int]]] = {}
        self._sorted: array[int] | None = None

    def mentioning(self, name: str, stem: str, root: str) -> list[str]:
        """The files below a folder that mention two words, in order; of all, if the folder has no name."""
        whole = range(len(self._files))
        places = sorted(place for row in self._folders(root).values() for place in row) if root else whole
        found = map(self._files.__getitem__, self._that_may_hold(self._that_may_hold(places, name), stem))
        return [path for path in found if self._mentions(path, name, stem)]

    def near(self, name: str, module: str, use: Use, root: str, most: int) -> list[str]:
        """The files below a folder that use a name, at most so many: a module's own first, which has it, then the
        nearest to it."""
        # Looked for from the nearest on: of a name that many use, most files need not be read.
        own = self._own(module, root)
        found = (
            self._files[place]
            for place in self._that_may_hold(self._from(module, root, own), name)
            if place in own or use(self._read(self._files[place]), name)
        )
        return list(islice(found, most))

    def mentions(self, path: str, name: str) -> bool:
        """Whether a file mentions a word. Of this file alone."""
        return self._mentions(path, name)

    def uses(self, path: str, name: str, module: str, use: Use) -> bool:
        """Whether :meth:`near` would take a file, if none were nearer."""
        if not self.mentions(path, name):
            return False
        return os.path.abspath(path) == module or use(self._read(path), name)

    def forget(self) -> None:
        """Let go of all words: where many projects are scanned, those of one are not asked for in the next."""
        self._blocks.clear()
        self._searches.clear()
        self._rings.clear()
        self._places.clear()

    def _that_may_hold(self, places: Iterable[int], name: str) -> Iterator[int]:
        """Those places whose file may hold a word."""
        held: dict[int, Collection[int] | None] = {}
        for place in places:
            block = place // _BLOCK
            # A block is asked once; one that is not known yet anew each time, for it may be by then.
            found = held.get(block)
            if found is None:
                found = held[block] = self._held(block, name)
            if (place % _BLOCK in found) if found is not None else self._mentions(self._files[place], name):
                yield place

    def _held(self, number: int, name: str) -> Collection[int] | None:
        """Which files of a block may hold a word; None as long as it is better to search them."""
        block = self._blocks.get(number)
        if block is None:
            files = self._files[number * _BLOCK : (number + 1) * _BLOCK]
            self._searches[number] = self._searches.get(number, 0) + 1
            if self._searches[number] <= _SEARCHES * len(files):
                return None
            block = self._blocks[number] = _Block(map(self._read, files))
        return block.holding(name)

    def _path(self, place: int) -> str:
        # Made each time: of a hundred thousand files, the paths would take more memory than all else that is kept here.
        return os.path.abspath(self._files[place])

    def _own(self, module: str, root: str) -> list[int]:
        """The place of a module, if it is among the files below a folder."""
        if not module.startswith(os.path.join(root, "")):
            return []
        near = self._folders(root).get(os.path.dirname(module), ())
        return [place for place in near if self._path(place) == module]

    def _from(self, module: str, root: str, own: Sequence[int]) -> Iterator[int]:
        """The places of the files below a folder, by how far they lie from a module, whose own place comes first."""
        yield from own
        rings = iter(self._around(os.path.dirname(module), root))
        yield from (place for place in next(rings, ()) if place not in own)
        for ring in rings:
            yield from ring

    def _around(self, folder: str, root: str) -> list[list[int]]:
        """The same for all modules of a folder: the files that lie equally far, in order, the nearest first."""
        found = self._rings.get((folder, root))
        if found is None:
            by_distance: dict[int, list[int]] = {}
            for other, places in self._folders(root).items():
                by_distance.setdefault(folders_between(folder, other), []).extend(places)
            found = [sorted(by_distance[steps], key=self._files.__getitem__) for steps in sorted(by_distance)]
            self._rings[folder, root] = found
        return found

    def _folders(self, root: str) -> dict[str, list[int]]:
        """By folder, the places of the files below a root."""
        found = self._places.get(root)
        if found is None:
            found = self._places[root] = {}
            places, below = self._in_order, os.path.join(root, "")
            for number in range(bisect_left(places, below, key=self._path), len(places)):
                path = self._path(places[number])
                if not path.startswith(below):
                    break
                found.setdefault(os.path.dirname(path), []).append(places[number])
            for row in found.values():
                row.sort()
        return found

    @property
    def _in_order(self) -> array[int]:
        """The places in the alphabetical order of absolute paths, so that those below a root are neighbours."""
        if self._sorted is None:
            places = range(len(self._files))
            # To sort a hundred thousand takes 20 MB, and those below the working directory are sorted as a rule.
            done = not any(map(os.path.isabs, self._files)) and all(map(le, self._files, islice(self._files, 1, None)))
            self._sorted = array("I", places if done else sorted(places, key=self._path))
        return self._sorted

    def _mentions(self, path: str, *names: str) -> bool:
        data = self._read(path)
        return all(_word(name).search(data) for name in names)


def calls(data: bytes, name: str) -> bool:
    """Whether something of a name is called."""
    return any(not _is_defined(data, place) for place in _places(_called(name.encode()), data))


def gives(data: bytes, name: str) -> bool:
    """Whether something of a name is called with something between the brackets, or was given it before."""
    if b"partial" in data:
        return calls(data, name)
    return any(not _is_defined(data, place) for place in _places(_given(name.encode()), data))


def defines(data: bytes, name: str) -> bool:
    """Whether a function or a class of a name may be defined."""
    return any(_is_defined(data, place) for place in _places(_called(name.encode()), data))


def _places(pattern: re.Pattern[bytes], data: bytes) -> Iterator[int]:
    """Where a word begins that a pattern begins with."""
    # Begun with what is certain to be there, a search is ten times as fast as one that looks behind at every byte.
    for match in pattern.finditer(data):
        if match.start() == 0 or not _LETTER.match(data, match.start() - 1):
            yield match.start()


def _is_defined(data: bytes, place: int) -> bool:
    return _DEFINED.search(data, max(0, place - _DEFINITION), place) is not None


def derives(data: bytes, name: str) -> bool:
    """Whether a class has something of a name among its bases."""
    # Bases stand between a class's name and the next bracket that closes.
    closed, before = 0, 0
    head = _HEAD.search(data)
    for match in _whole(name.encode()).finditer(data):
        closed = max(closed, data.rfind(b")", before, match.start()) + 1)
        before = match.start()
        if head is not None and head.start() < closed:
            head = _HEAD.search(data, closed)
        if head is None:
            return False
        if head.end() <= match.start():
            return True
    return False


def fills(data: bytes, name: str) -> bool:
    """Whether something may be put into a container of a name, ``name.append(value)``, ``name[key] = value``, or it has
    another name where it is imported."""
    return any(True for _ in _places(_filled(name.encode()), data))


USES: dict[str, Use] = {"call": calls, "give": gives, "base": derives, "define": defines, "fill": fills}
"""By :data:`Using`."""

_LETTER = re.compile(rb"\w")
_DEFINED = re.compile(rb"(?:def|class)[ \t]+\Z")
_DEFINITION = 12
"""Bytes before a name in which it is said that it is defined; with more blanks, it is taken for called."""


@lru_cache(maxsize=512)
def _called(word: bytes) -> re.Pattern[bytes]:
    return re.compile(re.escape(word) + rb"\s*\)?\(")


@lru_cache(maxsize=512)
def _given(word: bytes) -> re.Pattern[bytes]:
    return re.compile(re.escape(word) + rb"\s*\)?\(\s*(?=[^\s)])")


@lru_cache(maxsize=512)
def _filled(word: bytes) -> re.Pattern[bytes]:
    puts = b"|".join(name.encode() for name in sorted(PUTS))
    return re.compile(re.escape(word) + rb"\s*(?:\.\s*(?:%s)\s*\(|\[[^\]\n]{0,200}\]\s*=(?!=)|\s+as\s)" % puts)


_HEAD = re.compile(rb"class\s+\w+\s*\(")


@lru_cache(maxsize=512)
def _word(name: str) -> re.Pattern[bytes]:
    # Begun with what is certain to be there, as above.
    word, letter = re.escape(name.encode()), rb"[0-9A-Za-z_\x80-\xff]"
    return re.compile(rb"%s(?<!%s%s)(?!%s)" % (word, letter, word, letter))


@lru_cache(maxsize=512)
def _whole(word: bytes) -> re.Pattern[bytes]:
    # Begun with what is certain to be there, as above.
    return re.compile(rb"%s(?<!\w%s)(?!\w)" % (re.escape(word), re.escape(word)))


def steps_between(module: str, path: str) -> int:
    """How many folders up and down a file lies from a module, given by its absolute path; -1 if it is the module."""
    absolute = os.path.abspath(path)
    return -1 if absolute == module else folders_between(os.path.dirname(module), os.path.dirname(absolute))


def folders_between(one: str, other: str) -> int:
    """How many folders up and down one folder lies from another, both absolute."""
    here, there = one.split(os.sep), other.split(os.sep)
    common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(here, there, strict=False)))
    return len(here) + len(there) - 2 * common


@lru_cache(maxsize=512)
def _number(word: str) -> int:
    return crc32(os.fsencode(word))
