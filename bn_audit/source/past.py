"""What an earlier scan of the same paths left to this one, and what this one leaves to the next."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from bn_audit.source.prefilter import Screening, screen
from bn_audit.source.signature import Signature, signature

if TYPE_CHECKING:
    from bn_audit.source.keeper import Keeper
    from bn_audit.source.memory import Key, Memory, Result, Seen
    from bn_audit.source.outside import Outside

__all__ = ["Past"]

_MANY = 200
"""From so many files on, a look into memory takes less time than a look into the files."""


class Past:
    """The memory of a scan, taken up when it is needed."""

    def __init__(
        self,
        places: Sequence[str],
        files: Sequence[str],
        wanted: tuple[bytes, ...],
        keeper: Callable[[], Keeper] | None,
        jobs: int = 1,
    ) -> None:
        self._places = places
        self._files = files
        self._wanted = wanted
        self._make_keeper = keeper
        self._jobs = jobs
        self._keeper: Keeper | None = None
        self._memory: Memory | None = None
        self._began = time.time_ns()
        self._signatures: dict[str, Signature | None] = {}
        self._screening = Screening({}, ())

    @property
    def memory(self) -> Memory | None:
        """What is remembered."""
        if self._keeper is None and self._make_keeper is not None:
            self._keeper = self._make_keeper()
            self._memory = self._keeper.recall(self._places)
        return self._memory

    @property
    def changed(self) -> frozenset[str]:
        """The files that may hold something else than what is remembered of them; none if nothing is."""
        if self.memory is None:
            return frozenset()
        return frozenset(path for path in self._files if not self._is_same(path, self.memory.files))

    def screen(self, progress: Callable[[int, int], None] | None) -> Screening:
        """Search the files for triggers, as far as it is not known which they hold."""
        self._signatures = {path: signature(path) for path in self._files}
        memory = self.memory if len(self._files) >= _MANY else None
        known = {} if memory is None or memory.wanted != self._wanted else memory.files
        left = [path for path in self._files if not self._is_same(path, known)] if known else self._files
        found = screen(left, self._wanted, progress, self._jobs)
        if known:
            fresh = set(left)
            held = {path: found.hits.get(path, ()) if path in fresh else known[path].held for path in self._files}
            found = found._replace(hits={path: triggers for path, triggers in held.items() if triggers})
        self._screening = found
        return found

    def _is_same(self, path: str, before: Mapping[str, Seen]) -> bool:
        """Whether a file certainly is what it was."""
        seen = before.get(path)
        return seen is not None and seen.signature is not None and seen.signature == self._signatures.get(path)

    def keep_files(self) -> None:
        """Remember which triggers the files hold, if that is worth it."""
        if len(self._files) >= _MANY and self._make_keeper is not None:
            self.keep(None, {})

    def keep(self, outside: Outside | None, results: Mapping[Key, Result]) -> None:
        """Remember this scan, unless all of it is remembered already."""
        from bn_audit.source.memory import Seen, remembered

        before = self.memory
        assert self._keeper is not None
        files = {
            path: Seen(None if path in self._screening.unread else found, self._screening.hits.get(path, ()))
            for path, found in self._signatures.items()
        }
        memory = remembered(self._wanted, files, outside, results, self._began - self._keeper.delay())
        if memory != before:
            self._keeper.keep(self._places, memory)
