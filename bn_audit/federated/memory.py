"""What the kernel is told of the memory of large tensors. Linux only; elsewhere nothing is, and nothing is lost.

A new tensor's pages are mapped one by one while it is filled, which takes as long as filling it: pages of 2 MiB halve
that.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import sys
from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["empty_like", "give_back"]

_LARGE = 1 << 21


def empty_like(value: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """As ``torch.empty_like``; in large pages, if it is large."""
    empty = torch.empty_like(value, dtype=dtype)
    if sys.platform == "linux" and empty.device.type == "cpu" and empty.nbytes >= _LARGE:
        _advise(empty.data_ptr(), empty.data_ptr() + empty.nbytes, mmap.MADV_HUGEPAGE)
    return empty


def give_back(start: int, end: int) -> None:
    """Let go of the pages between two addresses of a file's private mapping; they are read again when needed."""
    if sys.platform == "linux":
        _advise(start, end, mmap.MADV_DONTNEED)


def _advise(start: int, end: int, advice: int) -> None:
    start -= start % mmap.PAGESIZE
    _madvise()(ctypes.c_void_p(start), ctypes.c_size_t(end - start), advice)


@functools.cache
def _madvise() -> Callable[..., int]:
    return ctypes.CDLL(None).madvise
