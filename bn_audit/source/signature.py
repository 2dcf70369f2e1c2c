"""What tells from outside that a file may have changed: its size, times and number.

A file that is changed again within the tick of the clock in which it was read looks the same as before. So, as git does
with its index, what was touched too shortly before is not trusted, and read again next time.
"""

from __future__ import annotations

import os
import time

__all__ = ["MARGIN", "Signature", "is_settled", "now", "signature"]

Signature = tuple[int, int, int, int]
"""Size in bytes, time of the last change of the content and of the file's entry in nanoseconds, number of the file."""

MARGIN = 2_000_000_000
"""Nanoseconds: two ticks of the coarsest clock of a file system in use, which is FAT's."""


def signature(path: str) -> Signature | None:
    """A file's, or None if it cannot be had."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def now(folder: str | None = None) -> int:
    """The time in nanoseconds, by the clock of this machine or by that of a folder's file system, if that is behind."""
    here = time.time_ns()
    if folder is None:
        return here
    try:
        os.utime(folder)
        return min(here, os.stat(folder).st_mtime_ns)
    except OSError:
        return here


def is_settled(found: Signature, began: int) -> bool:
    """Whether a file was last touched well before its reading ``began``, so that its next change will show."""
    return max(found[1], found[2]) < began - MARGIN
