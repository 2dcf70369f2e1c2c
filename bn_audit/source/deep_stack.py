"""Run recursive work where the stack is deep enough for it.

Syntax trees nest as deep as people, and generators of code, write expressions. libcst's native parser recurses on the C
stack, its nodes and our own walk on Python's. Both limits are lifted for one thread, made for the purpose.
"""

from __future__ import annotations

import contextvars
import sys
import threading
from collections.abc import Callable
from typing import TypeVar

__all__ = ["run_with_deep_stack"]

_Result = TypeVar("_Result")

_STACK_SIZES = (512 << 20, 128 << 20, 32 << 20)
"""Address space, of which the system provides only what is touched; a limit on it may refuse the larger ones."""

_RECURSION_LIMIT = 100_000

_here = threading.local()


def run_with_deep_stack(function: Callable[[], _Result]) -> _Result:
    """Call ``function`` in a thread with a large stack and a high recursion limit, and wait for it.

    Its result is returned and its exception raised, ``SystemExit`` and ``KeyboardInterrupt`` among them. An interrupt
    of the waiting thread is passed on, so that ``finally`` blocks of ``function`` run; a second one is not waited for.
    Context variables are those of the caller; thread-local state is not. Inside such a thread the function is simply
    called.
    """
    if getattr(_here, "deep", False):
        return function()
    results: list[_Result] = []
    errors: list[BaseException] = []
    context = contextvars.copy_context()
    done = threading.Event()

    def work() -> None:
        _here.deep = True
        try:
            results.append(context.run(function))
        except BaseException as error:
            errors.append(error)
        finally:
            done.set()

    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, _RECURSION_LIMIT))
    try:
        thread = _start(work)
        try:
            while not done.wait(1.0):  # on Windows a wait without a timeout cannot be interrupted
                pass
        except KeyboardInterrupt:
            _interrupt(thread)
            done.wait(2.0)
            raise
    finally:
        sys.setrecursionlimit(limit)
    if errors:
        raise errors[0]
    return results[0]


def _start(work: Callable[[], None]) -> threading.Thread:
    """A started thread with the largest stack that the system grants."""
    for size in _STACK_SIZES:
        # A daemon, because after a second interrupt the program shall end though the work has not.
        thread = threading.Thread(target=work, name="bn-audit-deep-stack", daemon=True)
        previous = threading.stack_size(size)
        try:
            thread.start()
        except RuntimeError:
            if size == _STACK_SIZES[-1]:
                raise
        else:
            return thread
        finally:
            threading.stack_size(previous)
    raise AssertionError("unreachable")


def _interrupt(thread: threading.Thread) -> None:
    """Raise KeyboardInterrupt in the thread, where it next runs Python code."""
    import ctypes

    if thread.ident is not None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(KeyboardInterrupt))
