"""Files looked into by several processes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from bn_audit.source.collection import no_collection
from bn_audit.source.outside import Outside
from bn_audit.source.part import Part, Task

__all__ = ["look_into_all", "processes"]

_MANY = 24
"""From so many files on, the work is spread over processes if nobody says how many."""
_MOST = 8


def processes(jobs: int, tasks: Sequence[Task]) -> int:
    """How many processes to use, if ``jobs`` are asked for, 0 leaving it open."""
    if len(tasks) < 2:
        return 1
    return jobs or (min(cores(), _MOST) if len(tasks) >= _MANY else 1)


def cores() -> int:
    """How many processors this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1


def look_into_all(outside: Outside, tasks: Sequence[Task], count: int) -> Iterator[Part]:
    """What comes of the tasks, in their order."""
    from concurrent.futures import ProcessPoolExecutor

    # Neighbours in the list share what they import, so each process takes a stretch of it.
    size = -(-len(tasks) // (count * 2))
    stretches = [tasks[start : start + size] for start in range(0, len(tasks), size)]
    with ProcessPoolExecutor(max_workers=count) as pool:
        work = [pool.submit(_look_into, outside, stretch) for stretch in stretches]
        for future in work:
            yield from future.result()


def _look_into(outside: Outside, tasks: Sequence[Task]) -> list[Part]:
    from bn_audit.source.inspector import Inspector

    inspector = Inspector(outside)
    with no_collection():
        return [inspector.look_into(task) for task in tasks]
