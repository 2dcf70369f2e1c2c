"""Which files need a closer look, told from their bytes.

Nearly every file of a project holds no trigger, and for those this is all the work there is: one open, one read into a
buffer that is used again and again, one search per trigger. Searching for literals is three times faster than one
regular expression, and no content is kept.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache, partial
from typing import NamedTuple

from bn_audit.source.raw import utf_16_or_32

__all__ = ["Screening", "hits_in", "mentions", "screen", "triggers_in"]

_BLOCK = 1 << 20
_PROGRESS_STEP = 256
_MANY = 2_000
"""From so many files on, the search is shared by processes."""


class Screening(NamedTuple):
    """What a search through files gave.

    Attributes:
        hits: by file, in the order of the files, the triggers it holds; files without any are left out.
        problems: files that could not be read, in words.
        unread: the same files, by their paths.
    """

    hits: dict[str, tuple[bytes, ...]]
    problems: tuple[str, ...]
    unread: frozenset[str] = frozenset()


def screen(
    files: Sequence[str],
    triggers: Sequence[bytes],
    progress: Callable[[int, int], None] | None = None,
    jobs: int = 1,
) -> Screening:
    """Search files for triggers: ASCII names, found wherever these bytes stand, also inside words and strings.

    ``progress`` is told now and then how many files are done, and how many there are. ``jobs``: how many processes to
    use for many files; 0 chooses.
    """
    if jobs == 1 or len(files) < _MANY:
        return _screen(triggers, files, progress)
    from bn_audit.source.workers import share

    parts = share(partial(_screen, triggers), files, jobs)
    if progress is not None:
        progress(len(files), len(files))
    return Screening(
        {path: held for part in parts for path, held in part.hits.items()},
        tuple(problem for part in parts for problem in part.problems),
        frozenset().union(*(part.unread for part in parts)),
    )


def _screen(
    triggers: Sequence[bytes], files: Sequence[str], progress: Callable[[int, int], None] | None = None
) -> Screening:
    hits: dict[str, tuple[bytes, ...]] = {}
    problems: list[str] = []
    unread: set[str] = set()
    buffer = bytearray(_BLOCK)
    for number, path in enumerate(files):
        try:
            found = triggers_in(path, triggers, buffer)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            problems.append(f"{path}: {reason}")
            unread.add(path)
        else:
            if found:
                hits[path] = found
        if progress is not None and number % _PROGRESS_STEP == 0:
            progress(number, len(files))
    if progress is not None:
        progress(len(files), len(files))
    return Screening(hits, tuple(problems), frozenset(unread))


def hits_in(
    contents: Mapping[str, bytes],
    files: Sequence[str],
    triggers: Sequence[bytes],
    hits: Mapping[str, tuple[bytes, ...]],
) -> dict[str, tuple[bytes, ...]]:
    """The hits of a search through ``files``, if some of them, by absolute path, held what ``contents`` says."""
    if not contents:
        return dict(hits)
    found = {}
    for path in files:
        data = contents.get(os.path.abspath(path))
        held = hits.get(path, ()) if data is None else tuple(trigger for trigger in triggers if trigger in data)
        if held:
            found[path] = held
    return found


def triggers_in(path: str, triggers: Sequence[bytes], buffer: bytearray | None = None) -> tuple[bytes, ...]:
    """The triggers that a file holds, in the order given. However large the file, one ``buffer`` of it is in memory.

    Raises:
        OSError: the file cannot be read, or is not a regular one.
    """
    buffer = bytearray(_BLOCK) if buffer is None else buffer
    # Without O_NONBLOCK, opening a FIFO that took a file's place would wait for a writer that may never come.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with open(descriptor, "rb", buffering=0) as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError("not a regular file")
        size = file.readinto(buffer)
        if utf_16_or_32(bytes(buffer[:4])) is not None:
            # Nothing to run, but worth an error if the file matters; these files are rare and small.
            return _in_wide_text(bytes(buffer[:size]) + file.read(), triggers)
        if size < len(buffer):
            return tuple(trigger for trigger in triggers if buffer.find(trigger, 0, size) >= 0)
        found: set[bytes] = set()
        overlap = max((len(trigger) for trigger in triggers), default=1) - 1
        while True:
            found.update(trigger for trigger in triggers if trigger not in found and buffer.find(trigger, 0, size) >= 0)
            if len(found) == len(triggers):
                break
            buffer[:overlap] = buffer[size - overlap : size]
            with memoryview(buffer) as view:
                more = file.readinto(view[overlap:])
            if not more:
                break
            size = overlap + more
    return tuple(trigger for trigger in triggers if trigger in found)


def _in_wide_text(data: bytes, triggers: Sequence[bytes]) -> tuple[bytes, ...]:
    text = data.decode(utf_16_or_32(data) or "utf-16", "replace").encode("utf-8", "replace")
    return tuple(trigger for trigger in triggers if trigger in text)


def mentions(data: bytes, names: Iterable[str]) -> frozenset[str]:
    """Which of the names stand in the data as whole words. For the few files that hold a trigger."""
    found = _words(frozenset(names)).findall(data)
    return frozenset(name.decode() for name in found)


@lru_cache(maxsize=32)
def _words(names: frozenset[str]) -> re.Pattern[bytes]:
    # Every byte from 0x80 on belongs to a letter of some script, in any encoding that extends ASCII.
    alternatives = b"|".join(re.escape(name.encode()) for name in sorted(names, key=lambda name: (-len(name), name)))
    return re.compile(rb"(?<![0-9A-Za-z_\x80-\xff])(?:" + (alternatives or rb"(?!)") + rb")(?![0-9A-Za-z_\x80-\xff])")
