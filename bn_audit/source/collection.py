"""Python's garbage collection while trees are made."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["no_collection"]


@contextmanager
def no_collection() -> Iterator[None]:
    """Do not look for garbage inside.

    Trees are millions of objects, nearly all of them alive: to go over them again and again takes a fifth of all the
    time. They are not looked at afterwards either, which would take as long as to report what was found, and once more
    when Python ends: what is garbage by then is taken away the next time somebody comes here.
    """
    enabled = gc.isenabled()
    if enabled and gc.get_freeze_count():
        gc.unfreeze()
        gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.freeze()
            gc.enable()
