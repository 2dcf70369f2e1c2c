"""Run recursive work where the stack is deep enough for it, and for no longer than it may take.

Syntax trees nest as deep as people, and generators of code, write expressions. libcst's native parser recurses on the C
stack, its nodes and our own walk on Python's. Both limits are lifted for one thread, made for the purpose.
"""

from __future__ import annotations

import contextvars
import sys
import threading
import time
from collections.abc import Callable
from typing import TypeVar

__all__ = ["OutOfTime", "run_with_deep_stack"]

_Result = TypeVar("_Result")

_STACK_SIZES = (512 << 20, 128 << 20, 32 << 20)
"""Address space, of which the system provides only what is touched; a limit on it may refuse the larger ones."""

_RECURSION_LIMIT = 100_000

_AGAIN = 1.0
"""Seconds after which work that goes on though its time is over is told so once more: what an exception meets in a
finalizer is dropped."""

_here = threading.local()


class OutOfTime(BaseException):
    """The work took more time than it was given. No ``Exception``, so that nothing on its way takes it for a fault of
    what it reads."""


def run_with_deep_stack(function: Callable[[], _Result], seconds: float = 0.0) -> _Result:
    """Call ``function`` in a thread with a large stack and a high recursion limit, and wait for it.

    Its result is returned and its exception raised, ``SystemExit`` and ``KeyboardInterrupt`` among them. An interrupt
    of the waiting thread is passed on, so that ``finally`` blocks of ``function`` run; a second one is not waited for.
    Context variables are those of the caller; thread-local state is not. Inside such a thread the function is simply
    called.

    Args:
        seconds: of processor time of this process, after which the work is ended where it next runs Python code; 0
            for no end. Processor time, so that it makes no difference what else the machine has to do.

    Raises:
        OutOfTime: they have passed.
    """
    if getattr(_here, "deep", False):
        return function()
    results: list[_Result] = []
    errors: list[BaseException] = []
    context = contextvars.copy_context()
    done = threading.Event()
    ending = threading.Lock()
    over = False

    def work() -> None:
        nonlocal over
        _here.deep = True
        try:
            try:
                results.append(context.run(function))
            except BaseException as error:
                errors.append(error)
            finally:
                with ending:  # from here on nobody raises anything in this thread
                    over = True
                done.set()
        except OutOfTime:  # raised just when the work was done
            over = True
            done.set()

    def end() -> None:
        with ending:
            if not over:
                _raise(thread, OutOfTime)

    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, _RECURSION_LIMIT))
    try:
        thread = _start(work)
        try:
            _wait(done, seconds, end)
        except KeyboardInterrupt:
            _raise(thread, KeyboardInterrupt)
            done.wait(2.0)
            raise
    finally:
        sys.setrecursionlimit(limit)
    if errors:
        raise errors[0]
    if not results:  # ended between the result and the note of it
        raise OutOfTime
    return results[0]


def _wait(done: threading.Event, seconds: float, end: Callable[[], None]) -> None:
    """Wait until the work is done; call ``end``, again and again, once it has taken too long."""
    limit = time.process_time() + seconds
    pause = 1.0  # on Windows a wait without a timeout cannot be interrupted
    while True:
        if seconds:
            left = limit - time.process_time()
            pause = min(
                max(left, 0.01), 1.0
            )  # time on the clock is at least that of the processor, as one thread works
            if left <= 0:
                end()
                pause = _AGAIN
        if done.wait(pause):
            return


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


def _raise(thread: threading.Thread, error: type[BaseException]) -> None:
    """Raise an exception in the thread, where it next runs Python code."""
    import ctypes

    if thread.ident is not None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(error))
