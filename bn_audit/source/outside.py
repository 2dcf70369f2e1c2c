"""The reader's only way to what lies outside a parsed file: what files hold, what lies in folders, which files mention
a word, what settings teach.

Each question is noted with its answer. Reading a file is a function of these answers, so whoever keeps what came of it
together with them can tell later whether it still holds, without reading the file again.

With a memory of an earlier scan, a question about what files hold is answered from it, as far as their signatures are
what they were.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from bn_audit.source.raw import SourceError, read_bytes
from bn_audit.source.root import search_root as root_of
from bn_audit.source.signature import Signature, signature

if TYPE_CHECKING:
    from bn_audit.source.memory import Memory
    from bn_audit.source.sources import Sources
    from bn_audit.source.taught import Taught
    from bn_audit.source.words import Use, Using, WordIndex

__all__ = ["ABOUT_CONTENT", "ABOUT_WORDS", "Answer", "Outside", "Query"]

Query = tuple[str, ...]
"""What was asked: a word for the kind of question, then its arguments. Paths are absolute."""
Answer = str
"""What came back, in a form that can be kept and compared; several words or paths with NUL between them."""

ABOUT_CONTENT = frozenset(["read", "holds", "gives", "triggers", "imports"])
"""Questions about what the file holds that is their first argument."""
ABOUT_WORDS = frozenset(["mention", "near", "holding"])
"""Questions about what all files of the scan hold. Their answers are files, as the scan calls them."""

YES, NO, UNREADABLE, UNSTABLE = "yes", "no", "!", "?"
"""``UNREADABLE`` comes before the reason. ``UNSTABLE``: two answers in one run were not the same, so no later is."""
_MANY = 300
"""Questions about files from which on it is worth it to answer them in several processes."""
MOST_NEAR = 24
"""Files that are looked into for something that is named, but not where it comes from."""


class Outside:
    """Answers questions about what lies outside, the same ones alike as long as it lives.

    Attributes:
        asked: the questions since the last :meth:`begin`.
        answers: all answers so far.
        signatures: of the files that answers are about, by absolute path, from before they were read.
        remembers: whether somebody wants to know, in the end, what was asked.
    """

    def __init__(
        self,
        sources: Sources,
        memory: Memory | None = None,
        changed: frozenset[str] = frozenset(),
        answers: Mapping[Query, Answer] | None = None,
        *,
        remembers: bool = True,
    ) -> None:
        """
        Args:
            sources: the files of the scan.
            memory: of an earlier one.
            changed: the files of this scan, as it calls them, that may hold something else than they did in that one.
            answers: what is known already.
            remembers: whether somebody wants to know, in the end, what was asked.
        """
        self.sources = sources
        self.asked: set[Query] = set()
        self.answers: dict[Query, Answer] = dict(answers or {})
        self.signatures: dict[str, Signature | None] = {}
        self.remembers = remembers
        self._memory = memory
        self._contents = {os.path.abspath(path): data for path, data in sources.contents.items()}
        self._stdin = None if sources.stdin is None else sources.stdin[0]
        if sources.stdin is not None:
            self._contents[os.path.abspath(sources.stdin[0])] = sources.stdin[1]
        # Only what is remembered is asked for places and changes.
        remembered = () if memory is None else self.files
        self._places = {path: number for number, path in enumerate(remembered)}
        self._changed = changed | {path for path in remembered if os.path.abspath(path) in self._contents}
        self._words: WordIndex | None = None
        self._listings: dict[str, frozenset[str]] = {}
        self._search_roots: dict[str, tuple[str, set[Query]]] = {}
        """By folder: below which folder callers are looked for, and what that was asked for."""

    def begin(self) -> None:
        """Start a list of questions."""
        self.asked = set()

    def noted(self) -> dict[Query, Answer]:
        """The questions since :meth:`begin`, and the answers; none if nobody wants to know."""
        return {query: self.answers[query] for query in sorted(self.asked)} if self.remembers else {}

    @contextmanager
    def apart(self) -> Iterator[set[Query]]:
        """The questions asked inside, for whoever has to ask them again when it uses what came of them once more."""
        before, self.asked = self.asked, set()
        try:
            yield self.asked
        finally:
            before |= self.asked
            self.asked = before

    def again(self, queries: set[Query]) -> None:
        """Note that something rests on the answers to these questions too, which have been asked before."""
        self.asked |= queries

    # --- questions ---------------------------------------------------------------------------------------------------

    def ask(self, query: Query) -> Answer:
        """The answer to a question."""
        self.asked.add(query)
        found = self.answers.get(query)
        if found is None:
            found = self._recalled(query)
            self.answers[query] = found = self._found_out(query) if found is None else found
        return found

    def read(self, path: str) -> bytes:
        """What a file holds.

        Raises:
            SourceError: it cannot be read.
        """
        query = ("read", path)
        self.asked.add(query)
        self._sign(path)
        try:
            data = self._data(path)
        except SourceError as error:
            self._settle(query, f"{UNREADABLE}{error.reason}")
            raise
        self._settle(query, digest(data))
        return data

    def lists(self, folder: str, name: str) -> bool:
        """Whether a folder lists an entry of exactly this name."""
        return self.ask(("lists", folder, name)) == YES

    def is_file(self, path: str) -> bool:
        """As :func:`os.path.isfile`."""
        return self.ask(("file", path)) == YES

    def is_folder(self, path: str) -> bool:
        """As :func:`os.path.isdir`."""
        return self.ask(("folder", path)) == YES

    def is_there(self, path: str) -> bool:
        """As :func:`os.path.lexists`."""
        return self.ask(("there", path)) == YES

    def entries(self, folder: str, suffixes: tuple[str, ...]) -> tuple[str, ...]:
        """The names in a folder that end in one of some suffixes, sorted; none if it cannot be read."""
        return _several(self.ask(("entries", folder, *suffixes)))

    def holds(self, path: str, words: Sequence[bytes]) -> bool:
        """Whether some bytes stand in a file."""
        return self.ask(("holds", path, *(word.decode() for word in words))) == YES

    def gives(self, path: str, name: str) -> bool:
        """Whether a module may have a name: the name stands in its file, or it imports all that others have."""
        return self.ask(("gives", path, name)) == YES

    def triggers(self, path: str) -> tuple[str, ...]:
        """What a file with a trigger is worth a look for, as :func:`bn_audit.source.first_look.kinds` says.

        Raises:
            SourceError: it cannot be read.
        """
        found = self.ask(("triggers", path))
        if found.startswith(UNREADABLE):
            raise SourceError(found.removeprefix(UNREADABLE))
        return _several(found)

    def imports(self, path: str, module: str, names: Sequence[str]) -> bool:
        """Whether a file may take one of some names from a module, both by their absolute paths."""
        return self.ask(("imports", path, module, *names)) == YES

    def mentioning(self, name: str, stem: str, module: str = "") -> tuple[str, ...]:
        """The files of the scan that mention both words, in its order, as it calls them; of the project that a module
        belongs to, if its path is given."""
        return _several(self.ask(("mention", name, stem, self.search_root(module) if module else "")))

    def near(self, name: str, module: str, using: Using) -> tuple[str, ...]:
        """The nearest files to a module, by its absolute path, that use something of a name: its own first. Of these,
        only files of the same project."""
        return _several(self.ask(("near", name, module, using, self.search_root(module))))

    def search_root(self, module: str) -> str:
        """The folder below which whatever uses a file's classes and functions lies."""
        folder = os.path.dirname(module)
        known = self._search_roots.get(folder)
        if known is None:
            with self.apart() as asked:
                root = root_of(module, self.sources.roots, self.is_there, self.is_file)
            known = self._search_roots[folder] = (root, asked)
        else:
            self.again(known[1])
        return known[0]

    def holding(self, names: Sequence[str]) -> tuple[str, ...]:
        """The files of the scan in which one of some names stands, be it within a word."""
        return _several(self.ask(("holding", *names)))

    def taught(self, path: str) -> Taught | None:
        """What the settings of a file teach the reader."""
        found = self._taught(path)
        self.asked.add(("taught", path))
        self._settle(("taught", path), "" if found is None else found.summary)
        return found

    @property
    def files(self) -> Sequence[str]:
        """The files of the scan, a program from stdin among them."""
        files = self.sources.files
        return files if self._stdin is None or self._stdin in files else (*files, self._stdin)

    def read_all(self, queries: Sequence[Query], jobs: int) -> None:
        """Find the answers to questions about what files hold, if they are many: in several processes, for whoever asks
        later. ``jobs``: how many; 0 chooses."""
        if jobs == 1 or len(queries) < _MANY:
            return
        left = []
        for query in queries:
            found = self._recalled(query)
            if found is None:
                self._sign(query[1])
                left.append(query)
            else:
                self.answers[query] = found
        if len(left) < _MANY:
            return
        from bn_audit.source.workers import share

        sources = self.sources._replace(files=(), teacher=None)  # nobody asks for these
        for answers in share(partial(_answers, sources), left, jobs):
            self.answers.update(answers)

    # --- answers -----------------------------------------------------------------------------------------------------

    def _found_out(self, query: Query) -> Answer:
        match query:
            case "lists", folder, name:
                return _yes_or_no(name in self._listing(folder))
            case "file", path:
                return _yes_or_no(os.path.isfile(path))
            case "folder", path:
                return _yes_or_no(os.path.isdir(path))
            case "there", path:
                return _yes_or_no(os.path.lexists(path))
            case "entries", folder, *suffixes:
                return "\0".join(sorted(name for name in self._listing(folder) if name.endswith(tuple(suffixes))))
            case "taught", path:
                found = self._taught(path)
                return "" if found is None else found.summary
            case "mention", name, stem, root:
                return "\0".join(self._index.mentioning(name, stem, root))
            case "near", name, module, using, root:
                return "\0".join(self._index.near(name, module, _use(using), root, MOST_NEAR))
            case "holding", *names:
                return "\0".join(self._holding(names, self.files))
        return self._about_content(query)

    def _about_content(self, query: Query) -> Answer:
        kind, path, *rest = query
        self._sign(path)
        try:
            data = self._data(path)
        except SourceError as error:
            return f"{UNREADABLE}{error.reason}"
        if kind == "read":
            return digest(data)
        if kind == "triggers":
            from bn_audit.source.first_look import kinds

            return "\0".join(kinds(data))
        if kind == "holds":
            return _yes_or_no(any(word.encode() in data for word in rest))
        if kind == "imports":
            from bn_audit.source.first_look import may_import

            return _yes_or_no(may_import(data, rest[1:], rest[0]))
        (name,) = rest
        return _yes_or_no(name.encode() in data or not name.isascii() or re.search(_IMPORTS_ALL, data) is not None)

    def _recalled(self, query: Query) -> Answer | None:
        """The answer that memory has, if it still holds."""
        if self._memory is None:
            return None
        found = self._memory.answers.get(query)
        if found is None:
            return None
        if query[0] in ABOUT_CONTENT:
            path = query[1]
            known = self._memory.signatures.get(path)
            return found if known is not None and path not in self._contents and self._sign(path) == known else None
        if query[0] == "near":
            return found if self._is_near_still(query, _several(found)) else None
        held = {path for path in _several(found) if path in self._places and path not in self._changed}
        held.update(self._held_by_changed(query))
        return "\0".join(sorted(held, key=self._places.__getitem__))

    def _held_by_changed(self, query: Query) -> Iterator[str]:
        """The changed files that belong to an answer about words."""
        if query[0] == "holding":
            yield from self._holding(query[1:], [path for path in self.files if path in self._changed])
            return
        _, name, stem, root = query
        below = os.path.join(root, "") if root else ""
        for path in self._changed:
            if not os.path.abspath(path).startswith(below):
                continue
            if self._index.mentions(path, name) and self._index.mentions(path, stem):
                yield path

    def _is_near_still(self, query: Query, found: tuple[str, ...]) -> bool:
        """Whether no change can have touched which files are the nearest that use a name."""
        from bn_audit.source.words import steps_between

        _, name, module, using, root = query
        if any(path not in self._places for path in found):
            return False
        last = max(((steps_between(module, path), path) for path in found), default=(0, ""))
        below = os.path.join(root, "")
        for path in self._changed:
            if not os.path.abspath(path).startswith(below):
                continue
            uses = self._index.uses(path, name, module, _use(using))
            if uses is (path in found):
                continue
            if path in found or len(found) < MOST_NEAR or (steps_between(module, path), path) < last:
                return False
        return True

    def _holding(self, names: Sequence[str], files: Sequence[str]) -> list[str]:
        from bn_audit.source.prefilter import hits_in, screen

        wanted = [name.encode() for name in names]
        found = dict.fromkeys(hits_in(self.sources.contents, files, wanted, screen(files, wanted).hits))
        if self.sources.stdin is not None and any(name in self.sources.stdin[1] for name in wanted):
            found[self.sources.stdin[0]] = None
        return [path for path in files if path in found]

    def forget(self) -> None:
        """Let go of what is found out again when it is asked for: files' words, and answers if nobody wants to know
        what was asked. Not of those that took a search through all files."""
        if self._words is not None:
            self._words.forget()
        if not self.remembers:
            searched = ("mention", "holding")
            self.answers = {query: answer for query, answer in self.answers.items() if query[0] in searched}
            for kept in (self.signatures, self._listings, self._search_roots):
                kept.clear()

    @property
    def _index(self) -> WordIndex:
        if self._words is None:
            from bn_audit.source.words import WordIndex

            self._words = WordIndex(self.files, self.quietly)
        return self._words

    def _taught(self, path: str) -> Taught | None:
        return None if self.sources.teacher is None else self.sources.teacher(path)

    def _listing(self, folder: str) -> frozenset[str]:
        found = self._listings.get(folder)
        if found is None:
            try:
                found = frozenset(os.listdir(folder))
            except OSError:
                found = frozenset()
            self._listings[folder] = found
        return found

    def _data(self, path: str) -> bytes:
        found = self._contents.get(path)
        return read_bytes(path) if found is None else found

    def quietly(self, path: str) -> bytes:
        """What a file holds; nothing if it cannot be read. Nothing is noted but the answer that is made from it."""
        try:
            return self._data(os.path.abspath(path) if self._contents else path)
        except SourceError:
            return b""

    def _sign(self, path: str) -> Signature | None:
        """A file's signature, as it was when it was first asked for."""
        if self._memory is None and not self.remembers:
            return None
        if path not in self.signatures:
            self.signatures[path] = None if path in self._contents else signature(path)
        return self.signatures[path]

    def _settle(self, query: Query, answer: Answer) -> None:
        if self.answers.setdefault(query, answer) != answer:
            self.answers[query] = UNSTABLE


def _answers(sources: Sources, queries: Sequence[Query]) -> dict[Query, Answer]:
    outside = Outside(sources, remembers=False)
    return {query: outside.ask(query) for query in queries}


_IMPORTS_ALL = rb"import\s*(?:\(\s*)?\*|import\s*\\"


def digest(data: bytes) -> str:
    """What tells one content from another."""
    import hashlib

    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _use(using: str) -> Use:
    from bn_audit.source.words import USES

    return USES[using]


def _yes_or_no(value: bool) -> Answer:
    return YES if value else NO


def _several(answer: Answer) -> tuple[str, ...]:
    return tuple(answer.split("\0")) if answer else ()
