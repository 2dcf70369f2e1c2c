"""The cache: memories of scans on disk.

A folder with one file for each set of paths that was scanned from one working directory. A file is JSON behind a line
with its length and checksum; nothing in it is run, and one that is cut off, changed, of another version or not of the
expected form is as good as none. It is written beside and renamed, so that scans at the same time see either the old
one or the new one, and the last to finish wins: what it wrote is as true as what it replaced. Where nothing can be
written, nothing is kept, and scans are as slow as the first.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bn_audit.source.memory import Memory, Result, Seen
from bn_audit.source.outside import Answer, Query, digest
from bn_audit.source.raw import SourceError, read_bytes
from bn_audit.source.signature import Signature, now

__all__ = ["FORMAT", "TAG", "Keeper", "clean"]

FORMAT = 1
TAG = "CACHEDIR.TAG"
_MARKS = {
    TAG: """\
Signature: 8a477f597d28d172789f06886806bc55
# This folder is a cache of bn-audit. It can be removed at any time; `bn-audit clean` does so.
# For information about cache directory tags see https://bford.info/cachedir/
""",
    ".gitignore": "# Made by bn-audit.\n*\n",
}
"""What else stands in the folder: for programs that save or search files, and for git."""
_SUFFIX, _TEMPORARY = ".json", ".part"
_DAYS, _MOST = 30, 64
"""Memories that nobody used for so long, or beyond so many, are dropped."""


_MOST_BYTES = 1 << 30


class Keeper:
    """Keeps memories in a folder.

    Attributes:
        notes: why something could not be kept or recalled, in words.
    """

    def __init__(self, folder: str, version: str) -> None:
        """
        Args:
            folder: need not be there yet.
            version: of the tool. What another one has left is not used.
        """
        self.folder = folder
        self._version = version
        self.notes: list[str] = []

    def recall(self, places: Sequence[str]) -> Memory | None:
        """What is remembered of a scan of these places, made in this working directory; None if nothing is."""
        key = self._key(places)
        try:
            if not os.path.lexists(self._path(key)):
                return None
            data = read_bytes(self._path(key), most=_MOST_BYTES)
            with contextlib.suppress(OSError):
                os.utime(self._path(key))  # it is in use
        except SourceError as error:
            self.notes.append(f"{self.folder}: the cache cannot be read: {error.reason}")
            return None
        try:
            return _unpacked(data, key)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
            self.notes.append(f"{self._path(key)}: not used, it is damaged ({type(error).__name__})")
            return None

    def delay(self) -> int:
        """How far the clock of the cache's file system is behind that of this machine, in nanoseconds."""
        return max(0, now() - now(self.folder))

    def keep(self, places: Sequence[str], memory: Memory) -> None:
        """Remember a scan. If it cannot be, a note says why, and nothing else happens."""
        key = self._key(places)
        path = self._path(key)
        beside = f"{path}.{os.urandom(4).hex()}{_TEMPORARY}"
        try:
            self._prepare()
            with open(beside, "wb") as file:
                file.write(_packed(memory, key))
            os.replace(beside, path)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            self.notes.append(f"{self.folder}: nothing is kept for the next scan: {reason}")
            with contextlib.suppress(OSError):
                os.remove(beside)
            return
        self._tidy(os.path.basename(path))

    def _key(self, places: Sequence[str]) -> str:
        """All that a memory depends on but the files themselves: versions, the working directory, what is scanned."""
        from bn_audit.source.versions import versions

        return json.dumps([FORMAT, self._version, *versions(), os.getcwd(), *places])

    def _path(self, key: str) -> str:
        return os.path.join(self.folder, f"{digest(key.encode('utf-8', 'surrogatepass'))}{_SUFFIX}")

    def _prepare(self) -> None:
        """Make the folder.

        Raises:
            OSError: that is not possible.
            ValueError: it is there and holds something else.
        """
        os.makedirs(self.folder, exist_ok=True)
        # In this order: whoever makes the same folder at the same time writes the tag before all else.
        if os.listdir(self.folder) and not os.path.exists(os.path.join(self.folder, TAG)):
            raise ValueError("it holds something else")
        for name, text in _MARKS.items():  # the tag is the first of them
            path = os.path.join(self.folder, name)
            # Not through a link that leads elsewhere; and somebody else may be making the same folder.
            with contextlib.suppress(FileExistsError), open(path, "x", encoding="ascii", newline="\n") as file:
                file.write(text)

    def _tidy(self, own: str) -> None:
        """Drop what is too old, and what a process that was killed has left."""
        rows = sorted(_ours(self.folder), reverse=True)
        limit = time.time() - _DAYS * 86_400
        for number, (touched, name) in enumerate(rows):
            stale = touched < limit or (name.endswith(_TEMPORARY) and touched < time.time() - 3_600)
            if name != own and (stale or number >= _MOST):
                with contextlib.suppress(OSError):
                    os.remove(os.path.join(self.folder, name))


def clean(folder: str) -> bool:
    """Remove a cache; whether there was one. What is not ours stays, and with it the folder.

    Raises:
        OSError: something of ours cannot be removed.
    """
    if not _is_marked(folder, TAG):
        return False
    for _, name in _ours(folder):
        os.remove(os.path.join(folder, name))
    for name in reversed(_MARKS):
        if _is_marked(folder, name):
            os.remove(os.path.join(folder, name))
    with contextlib.suppress(OSError):
        os.rmdir(folder)
    return True


def _is_marked(folder: str, name: str) -> bool:
    """Whether a mark of ours stands in a folder, as we write it."""
    try:
        with open(os.path.join(folder, name), "rb") as file:
            return file.read(1000) == _MARKS[name].encode()
    except OSError:
        return False


def _ours(folder: str) -> Iterator[tuple[float, str]]:
    """When each of our files was last written, and its name."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                stem, dot, rest = entry.name.partition(".")
                ours = len(stem) == 32 and dot and (f".{rest}" == _SUFFIX or rest.endswith(_TEMPORARY))
                if ours and entry.is_file(follow_symlinks=False):
                    yield entry.stat(follow_symlinks=False).st_mtime, entry.name
    except OSError:
        return


# --- form ------------------------------------------------------------------------------------------------------------


def _packed(memory: Memory, key: str) -> bytes:
    folders: dict[str, list[Any]] = {}
    for path, seen in memory.files.items():
        folder, name = os.path.split(path)
        row: list[Any] = [name, *(seen.signature or ())]
        if seen.held:
            row.append([memory.wanted.index(trigger) for trigger in seen.held])
        folders.setdefault(folder, []).append(row)
    questions: dict[tuple[Query, Answer], int] = {}

    def number(pairs: Mapping[Query, Answer]) -> list[int]:
        return [questions.setdefault(pair, len(questions)) for pair in pairs.items()]

    answers = number(memory.answers)
    results = [[list(done), result.part, number(result.answers)] for done, result in memory.results.items()]
    body = json.dumps(
        {
            "key": key,
            "wanted": [trigger.decode() for trigger in memory.wanted],
            "files": folders,
            "signatures": {path: list(signature) for path, signature in memory.signatures.items()},
            "questions": [[*query, answer] for query, answer in questions],
            "answers": answers,
            "results": results,
        },
        separators=(",", ":"),
    ).encode("ascii")
    return f"bn-audit {FORMAT} {len(body)} {digest(body)}\n".encode("ascii") + body


def _unpacked(data: bytes, key: str) -> Memory | None:
    """A memory from its file; None if it is one of something else. Any exception means that it is damaged."""
    head, _, body = data.partition(b"\n")
    name, form, length, checksum = head.decode("ascii").split(" ")
    if (name, form) != ("bn-audit", str(FORMAT)):
        return None
    if int(length) != len(body) or checksum != digest(body):
        raise ValueError("cut off or changed")
    table = json.loads(body)
    if table["key"] != key:
        return None
    if not isinstance(table["wanted"], list):
        raise TypeError("expected a list")
    wanted = tuple(_text(word).encode() for word in table["wanted"])
    questions = [(tuple(map(_text, query)), _text(answer)) for *query, answer in table["questions"]]
    return Memory(
        wanted,
        {
            os.path.join(folder, _text(row[0])): _seen(row, wanted)
            for folder, rows in table["files"].items()
            for row in rows
        },
        {path: _signature(row) for path, row in table["signatures"].items()},
        dict(questions[number] for number in table["answers"]),
        {
            tuple(map(_text, done)): Result(part, dict(questions[number] for number in numbers))
            for done, part, numbers in table["results"]
        },
    )


def _seen(row: list[Any], wanted: tuple[bytes, ...]) -> Seen:
    held = tuple(wanted[number] for number in row[-1]) if isinstance(row[-1], list) else ()
    rest = row[1:-1] if isinstance(row[-1], list) else row[1:]
    return Seen(_signature(rest) if rest else None, held)


def _signature(row: list[Any]) -> Signature:
    size, modified, changed, number = row
    if not type(size) is type(modified) is type(changed) is type(number) is int:
        raise TypeError("a signature is four numbers")
    return size, modified, changed, number


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("expected a string")
    return sys.intern(value) if len(value) < 64 else value
