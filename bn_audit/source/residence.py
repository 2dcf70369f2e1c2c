"""How much memory this process holds, for whoever keeps things that could be made again.

Known on Linux, where it costs some microseconds to ask; elsewhere nothing is known, and what is kept is bounded by its
length alone.
"""

from __future__ import annotations

import os

__all__ = ["Residence", "give_back", "resident"]

_MOST = 1 << 30
"""Bytes above which what is kept is dropped. Scans of real projects stay below 400 MB."""


class Residence:
    """Whether the process holds much, beside what it cannot give back."""

    def __init__(self) -> None:
        self._limit = _MOST

    def is_much(self) -> bool:
        """Whether it is time to drop what is kept."""
        return resident() > self._limit

    def begin(self) -> None:
        """What could be dropped has been; a system that takes no memory back must not make us drop all we keep."""
        self._limit = max(_MOST, resident() + _MOST // 2)


def resident() -> int:
    """The process's resident memory in bytes; 0 if that is not known."""
    try:
        with open("/proc/self/statm", "rb", buffering=0) as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError, AttributeError):
        return 0


def give_back() -> None:
    """Let the system have what was freed. glibc keeps all that lies below a block that is still in use: after some
    thousand syntax trees, most of what it holds. Other C libraries have no such call, and get none."""
    import ctypes

    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):
        return
    trim(0)
