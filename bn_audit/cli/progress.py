"""A progress bar for work that takes long, and only for people who look."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

__all__ = ["ProgressBar"]


class ProgressBar:
    """Shows itself on stderr once a second has passed; gone when the work is done.

    rich is imported only then: it takes as long to import as most scans take to run.
    """

    def __init__(self, delay: float = 1.0, label: str = "reading") -> None:
        self._label = label
        self._start = time.monotonic() + delay
        self._bar: tuple[Progress, TaskID] | None = None

    def __enter__(self) -> ProgressBar:
        return self

    def __call__(self, done: int, total: int) -> None:
        """Report that ``done`` of ``total`` pieces of the work are done."""
        if time.monotonic() < self._start:
            return
        if self._bar is None:
            self._bar = self._show(total)
        progress, task = self._bar
        progress.update(task, completed=done, total=total)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar[0].stop()

    def _show(self, total: int) -> tuple[Progress, TaskID]:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        progress = Progress(
            TextColumn(self._label),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        task = progress.add_task(self._label, total=total)
        progress.start()
        return progress, task
