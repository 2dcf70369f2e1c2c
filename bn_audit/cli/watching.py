"""``--watch``: scan again whenever a file changes that may matter."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable

import click

from bn_audit.cli.output import Failure
from bn_audit.source.root import project_root

__all__ = ["watch"]

_SUFFIXES = (".py", ".pyi", ".ipynb", ".toml", ".lock")
_NAMES = frozenset([".gitignore", "Pipfile", "Pipfile.lock", "setup.cfg"])
_PAUSE = 300
"""Milliseconds from when changes are noted to the first scan, and at most between looks for an interrupt."""


def watch(paths: Iterable[str], extra: Iterable[str], scan: Callable[[], object]) -> None:
    """Scan, and again whenever something changes in the projects around some paths. Ends with KeyboardInterrupt alone.

    A configuration or a file that cannot be used, in the middle of an edit, is told and does not end it.

    Args:
        paths: what is scanned.
        extra: other files, absolute, that a scan depends on whatever they are called.
        scan: scans and reports.

    Raises:
        Failure: watchfiles is not installed, or the system does not watch (exit status 2).
    """
    try:
        import watchfiles
    except ModuleNotFoundError as error:
        if error.name != "watchfiles":
            raise
        from bn_audit.extras import install

        raise Failure(f"--watch needs watchfiles: {install('watch')}") from error
    others = frozenset(extra)
    ignored = watchfiles.DefaultFilter()

    def matters(change: watchfiles.Change, path: str) -> bool:
        return path in others or (_may_matter(path) and ignored(change, path))

    roots = sorted({project_root(os.path.join(path, "_") if os.path.isdir(path) else path) for path in paths})
    begun = False
    try:
        # The first comes empty, when changes are being noted: none is missed that is made during the first scan.
        for changes in watchfiles.watch(*roots, watch_filter=matters, yield_on_timeout=True, rust_timeout=_PAUSE):
            if changes or not begun:
                begun = True
                _again(scan)
    except OSError as error:
        raise Failure(f"cannot watch {', '.join(roots)}: {error.strerror or error}") from error


def _again(scan: Callable[[], object]) -> None:
    from bn_audit import pins
    from bn_audit.source import positions

    positions.forget()
    pins.forget()
    if sys.stdout.isatty():
        click.clear()
    try:
        scan()
    except Failure as error:
        error.show()
    sys.stdout.flush()


def _may_matter(path: str) -> bool:
    """Whether a file may be source, settings or a pin, and is no part of a cache, ours among them."""
    folder, name = os.path.split(path)
    if os.path.exists(os.path.join(folder, "CACHEDIR.TAG")):
        return False
    pin = name.endswith(".txt") and ("requirements" in name or os.path.basename(folder) == "requirements")
    return pin or name in _NAMES or name.lower().endswith(_SUFFIXES)
