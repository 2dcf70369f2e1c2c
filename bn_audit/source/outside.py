"""The reader's only way to what lies outside a parsed file: what files hold, what lies in folders, which files mention
a word, what settings teach.

Each question is noted with its answer. Reading a file is a function of these answers, so whoever keeps what came of it
together with them can tell later whether it still holds, without reading the file again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from bn_audit.source.raw import SourceError, read_bytes

if TYPE_CHECKING:
    from bn_audit.source.sources import Sources
    from bn_audit.source.taught import Taught
    from bn_audit.source.words import WordIndex

__all__ = ["Answer", "Outside", "Query"]

Query = tuple[str, ...]
"""What was asked: a word for the kind of question, then its arguments. Paths are absolute."""
Answer = str
"""What came back, in a form that can be kept and compared."""

_USES = {"call": rb"(?<!\w)%s\s*\(", "base": rb"class\s+\w+\s*\([^)]*(?<!\w)%s(?!\w)"}
"""What it looks like when a name is called, or a class derives from it."""
MOST_NEAR = 24
"""Files that are looked into for something that is named, but not where it comes from."""
YES, NO, UNSTABLE = "yes", "no", "?"
"""``UNSTABLE``: two answers in one run were not the same, so no later one can be."""


class Outside:
    """Answers questions about what lies outside, the same ones alike as long as it lives.

    Attributes:
        asked: the questions since the last :meth:`begin`.
    """

    def __init__(self, sources: Sources, words: WordIndex | None = None) -> None:
        self.sources = sources
        self.asked: set[Query] = set()
        self.answers: dict[Query, Answer] = {}
        self._contents = {os.path.abspath(path): data for path, data in sources.contents.items()}
        self._stdin = None if sources.stdin is None else sources.stdin[0]
        if sources.stdin is not None:
            self._contents[os.path.abspath(sources.stdin[0])] = sources.stdin[1]
        self._words = words
        self._listings: dict[str, frozenset[str]] = {}

    def begin(self) -> None:
        """Start a list of questions."""
        self.asked = set()

    def noted(self) -> dict[Query, Answer]:
        """The questions since :meth:`begin`, and the answers."""
        return {query: self.answers[query] for query in sorted(self.asked)}

    @contextmanager
    def apart(self) -> Iterator[set[Query]]:
        """The questions asked inside, for whoever has to ask them again when it uses what came of them once more."""
        before, self.asked = self.asked, set()
        try:
            yield self.asked
        finally:
            before |= self.asked
            self.asked = before

    def read(self, path: str) -> bytes:
        """What a file holds.

        Raises:
            SourceError: it cannot be read.
        """
        query = ("read", path)
        try:
            data = self._contents.get(path)
            if data is None:
                data = read_bytes(path)
        except SourceError as error:
            self._note(query, f"!{error.reason}")
            raise
        self._note(query, digest(data))
        return data

    def lists(self, folder: str, name: str) -> bool:
        """Whether a folder lists an entry of exactly this name."""
        return self._yes_or_no(("lists", folder, name))

    def is_file(self, path: str) -> bool:
        """As :func:`os.path.isfile`."""
        return self._yes_or_no(("file", path))

    def is_folder(self, path: str) -> bool:
        """As :func:`os.path.isdir`."""
        return self._yes_or_no(("folder", path))

    def is_there(self, path: str) -> bool:
        """As :func:`os.path.lexists`."""
        return self._yes_or_no(("there", path))

    def entries(self, folder: str, suffixes: tuple[str, ...]) -> tuple[str, ...]:
        """The names in a folder that end in one of some suffixes, sorted; none if it cannot be read."""
        query = ("entries", folder, *suffixes)
        if query not in self.answers:
            self.answers[query] = "\0".join(sorted(name for name in self._listing(folder) if name.endswith(suffixes)))
        return self._files_of(query)

    def holds(self, path: str, words: Sequence[bytes]) -> bool:
        """Whether some bytes stand in a file."""
        query = ("holds", path, *(word.decode() for word in words))
        if query not in self.answers:
            data = self._quietly(path)
            self.answers[query] = YES if any(word in data for word in words) else NO
        self.asked.add(query)
        return self.answers[query] == YES

    def gives(self, path: str, name: str) -> bool:
        """Whether a module may have a name: the name stands in its file, or it imports all that others have."""
        query = ("gives", path, name)
        if query not in self.answers:
            data = self._quietly(path)
            gives = name.encode() in data or _imports_all(data) or not name.isascii()
            self.answers[query] = YES if gives else NO
        self.asked.add(query)
        return self.answers[query] == YES

    def mentioning(self, name: str, stem: str) -> tuple[str, ...]:
        """The files of the scan that mention both words, in its order, as it calls them."""
        return self._files_of(("mention", name, stem))

    def near(self, name: str, module: str, using: Literal["call", "base"]) -> tuple[str, ...]:
        """The nearest files to a module, by its absolute path, that call something of a name, or derive from it: its
        own first."""
        return self._files_of(("near", name, module, using))

    def taught(self, path: str) -> Taught | None:
        """What the settings of a file teach the reader."""
        found = None if self.sources.teacher is None else self.sources.teacher(path)
        self._note(("taught", path), "" if found is None else found.summary)
        return found

    def again(self, queries: set[Query]) -> None:
        """Note that something rests on the answers to these questions too, which have been asked before."""
        self.asked |= queries

    @property
    def words(self) -> WordIndex:
        """The words of the files of the scan."""
        if self._words is None:
            from bn_audit.source.words import WordIndex

            self._words = WordIndex(self.files, self._quietly)
        return self._words

    @property
    def files(self) -> Sequence[str]:
        """The files of the scan, a program from stdin among them."""
        files = self.sources.files
        return files if self._stdin is None or self._stdin in files else (*files, self._stdin)

    def _yes_or_no(self, query: Query) -> bool:
        found = self.answers.get(query)
        if found is None:
            found = self.answers[query] = YES if self._look(query) else NO
        self.asked.add(query)
        return found == YES

    def _files_of(self, query: Query) -> tuple[str, ...]:
        found = self.answers.get(query)
        if found is None:
            found = self.answers[query] = "\0".join(self._paths_of(query))
        self.asked.add(query)
        return tuple(found.split("\0")) if found else ()

    def _paths_of(self, query: Query) -> Sequence[str]:
        match query:
            case "near", name, module, using:
                return self.words.near(name, module, _USES[using], MOST_NEAR)
            case _, name, stem:
                return self.words.mentioning(name, stem)
        raise AssertionError(query)

    def _look(self, query: Query) -> bool:
        match query:
            case "lists", folder, name:
                return name in self._listing(folder)
            case "file", path:
                return os.path.isfile(path)
            case "folder", path:
                return os.path.isdir(path)
            case _, path:
                return os.path.lexists(path)
        raise AssertionError(query)

    def _listing(self, folder: str) -> frozenset[str]:
        found = self._listings.get(folder)
        if found is None:
            try:
                found = frozenset(os.listdir(folder))
            except OSError:
                found = frozenset()
            self._listings[folder] = found
        return found

    def _quietly(self, path: str) -> bytes:
        """What a file holds; nothing if it cannot be read. Nothing is noted but the answer that is made from it."""
        data = self._contents.get(os.path.abspath(path))
        try:
            return read_bytes(path) if data is None else data
        except SourceError:
            return b""

    def _note(self, query: Query, answer: Answer) -> None:
        if self.answers.setdefault(query, answer) != answer:
            self.answers[query] = UNSTABLE
        self.asked.add(query)


def digest(data: bytes) -> str:
    """What tells one content from another."""
    import hashlib

    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _imports_all(data: bytes) -> bool:
    import re

    return re.search(rb"import\s*\(?\s*\*|import\s*\\", data) is not None
