"""Work that several processes share."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from bn_audit.source.outside import Answer, Outside, Query
from bn_audit.source.part import REMEDY, Limits, Part, Task

if TYPE_CHECKING:
    from bn_audit.source.inspector import Inspector
    from bn_audit.source.signature import Signature
    from bn_audit.source.sources import Sources

    _Found = tuple[list[tuple[Part, Mapping[Query, Answer]]], dict[str, Signature | None]]

__all__ = ["cores", "look_into_all", "processes", "share", "stretches"]

_MANY = 8
"""From so many files to look into on, the work is spread over processes if nobody says how many: each has a parser to
import first, which takes as long as to look into one or two files."""
_MOST = 8
_SHORTEST = 4
"""Files of a stretch: neighbours share what they import, which is parsed once for all of a stretch."""

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

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


def share(function: Callable[[Sequence[_Item]], _Result], items: Sequence[_Item], jobs: int) -> list[_Result]:
    """What a function makes of the parts of a sequence, in their order: of the first one here, of the others in other
    processes. ``jobs``: how many processes; 0 chooses."""
    count = jobs or min(cores(), _MOST)
    if count == 1:
        return [function(items)]
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool

    first, *others = (items[len(items) * at // count : len(items) * (at + 1) // count] for at in range(count))
    with ProcessPoolExecutor(max_workers=count - 1, initializer=_end_at_an_interrupt) as pool:
        work = [pool.submit(function, part) for part in others]
        found = [function(first)]
        for part, one in zip(others, work, strict=True):
            try:
                found.append(one.result())
            except BrokenProcessPool:  # a system that is short of memory may have ended it
                found.append(function(part))
    return found


def look_into_all(
    outside: Outside, tasks: Sequence[Task], count: int, limits: Limits | None = None
) -> Iterator[tuple[Part, Mapping[Query, Answer]]]:
    """What comes of each task, in their order, and the answers it rests on.

    A process may die of a file: a system that is short of memory kills it, or its parser aborts. Then the files that
    are left are looked into by one process each until it is found, and the others are judged as ever.
    """
    from concurrent.futures.process import BrokenProcessPool

    done = 0
    try:
        for found in _together(outside, tasks, count, limits):
            yield found
            done += 1
    except BrokenProcessPool:
        if limits is None or not limits.contain:
            raise
        for task in tasks[done:]:
            try:
                yield from _together(outside, [task], 1, limits)
            except BrokenProcessPool:
                reason = f"the process that looked into it was ended from outside, or ran out of memory; {REMEDY}"
                yield Part(problems=(f"{task.path}: {reason}",)), {}


def _together(
    outside: Outside, tasks: Sequence[Task], count: int, limits: Limits | None
) -> Iterator[tuple[Part, Mapping[Query, Answer]]]:
    import multiprocessing
    from concurrent.futures import Future, ProcessPoolExecutor

    parts = stretches(tasks, count)
    others = multiprocessing.active_children()
    start = (outside.sources, outside.answers, outside.remembers, limits)
    with ProcessPoolExecutor(max_workers=count, initializer=_start, initargs=start) as pool:
        work: dict[int, Future[_Found]] = {}
        try:
            for number, (_, part) in sorted(enumerate(parts), key=lambda row: (row[1][0], row[0])):
                work[number] = pool.submit(_look_into, part)
            for number in range(len(parts)):
                found, signatures = work[number].result()
                outside.signatures = {**signatures, **outside.signatures}
                yield from found
        except BaseException:  # somebody interrupts, and does not want to wait for what is under way
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                if process not in others:
                    process.terminate()
            raise


def stretches(tasks: Sequence[Task], count: int) -> list[tuple[int, Sequence[Task]]]:
    """The tasks in stretches, in order, each with the turn in which it is to be taken up.

    Neighbours in the list share what they import. So each process is to go through a part of it of its own, in
    stretches that another can take over: half of what is left of the part each time, so that none has much left when
    the others are done.
    """
    found = []
    for process in range(count):
        start, end = (len(tasks) * at // count for at in (process, process + 1))
        turn = 0
        while start < end:
            size = max((end - start + 1) // 2, min(_SHORTEST, end - start))
            found.append((turn, tasks[start : start + size]))
            start, turn = start + size, turn + 1
    return found


def _start(sources: Sources, answers: Mapping[Query, Answer], remembers: bool, limits: Limits | None) -> None:
    global _inspector
    _end_at_an_interrupt()
    from bn_audit.source.inspector import Inspector

    _inspector = Inspector(Outside(sources, answers=answers, remembers=remembers), limits)
    gc.disable()  # see collection.py; this process lives as long as there are files to look into


def _end_at_an_interrupt() -> None:
    import signal

    # An interrupt goes to all processes of a terminal; the first one says what there is to say.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _look_into(tasks: Sequence[Task]) -> _Found:
    assert _inspector is not None
    found: list[tuple[Part, Mapping[Query, Answer]]] = []
    for task in tasks:
        part = _inspector.look_into(task)
        found.append((part, _inspector.outside.noted()))
    return found, _inspector.outside.signatures
