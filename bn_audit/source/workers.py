"""Work that several processes share."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from bn_audit.source.collection import no_collection
from bn_audit.source.outside import Answer, Outside, Query
from bn_audit.source.part import Part, Task

if TYPE_CHECKING:
    from bn_audit.source.inspector import Inspector
    from bn_audit.source.signature import Signature
    from bn_audit.source.sources import Sources

__all__ = ["cores", "look_into_all", "processes"]

_MANY = 8
"""From so many files to look into on, the work is spread over processes if nobody says how many: each has a parser to
import first, which takes as long as to look into one or two files."""
_MOST = 8

_inspector: Inspector | None = None
"""Of a process that works for another."""


def processes(jobs: int, tasks: Sequence[Task]) -> int:
    """How many processes to use, if ``jobs`` are asked for, 0 leaving it open."""
    if len(tasks) < 2:
        return 1
    return min(jobs or (min(cores(), _MOST) if len(tasks) >= _MANY else 1), len(tasks))


def cores() -> int:
    """How many processors this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1


def look_into_all(outside: Outside, tasks: Sequence[Task], count: int) -> Iterator[tuple[Part, Mapping[Query, Answer]]]:
    """What comes of each task, in their order, and the answers it rests on."""
    from concurrent.futures import ProcessPoolExecutor

    # Neighbours in the list share what they import, so each process takes a stretch of it.
    size = -(-len(tasks) // (count * 4))
    stretches = [tasks[start : start + size] for start in range(0, len(tasks), size)]
    start = (outside.sources, outside.answers)
    with ProcessPoolExecutor(max_workers=count, initializer=_start, initargs=start) as pool:
        for future in [pool.submit(_look_into, stretch) for stretch in stretches]:
            found, signatures = future.result()
            outside.signatures = {**signatures, **outside.signatures}
            yield from found


def _start(sources: Sources, answers: Mapping[Query, Answer]) -> None:
    global _inspector
    from bn_audit.source.inspector import Inspector

    _inspector = Inspector(Outside(sources, answers=answers))


def _look_into(
    tasks: Sequence[Task],
) -> tuple[list[tuple[Part, Mapping[Query, Answer]]], dict[str, Signature | None]]:
    assert _inspector is not None
    found: list[tuple[Part, Mapping[Query, Answer]]] = []
    with no_collection():
        for task in tasks:
            part = _inspector.look_into(task)
            found.append((part, _inspector.outside.noted()))
    return found, _inspector.outside.signatures
