"""Where a project begins: the folder that imports are looked up to, and the one that all of it lies below."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

__all__ = ["MAX_ABOVE", "project_root", "search_root", "whole_root"]

_MARKERS = (".git", "pyproject.toml", "setup.py", "setup.cfg")
MAX_ABOVE = 12
"""Folders above a file that are looked at."""
_LOOSE = 3
"""Folders above that of a script of no project and no package in which what uses it may lie. Whoever scans a folder of
many things would otherwise have all of them searched for each."""


def project_root(path: str, is_there: Callable[[str], bool] = os.path.lexists) -> str:
    """The nearest folder at or above a file's that looks like a project's root, else the file's own folder."""
    return _nearest(path, _MARKERS, is_there) or os.path.dirname(os.path.abspath(path))


def whole_root(path: str) -> str:
    """The root of the repository that a file lies in, which may hold several projects; else that of its project."""
    return _nearest(path, _MARKERS[:1], os.path.lexists) or project_root(path)


def search_root(
    path: str, scanned: Sequence[str], is_there: Callable[[str], bool], is_file: Callable[[str], bool]
) -> str:
    """The folder below which whatever uses a file's classes and functions lies.

    That of the repository or project; where nothing marks one, the folder that holds the package which the file is part
    of, or else what is scanned, but not further up than three folders above the file's own.

    Args:
        path: the file, absolute.
        scanned: folders.
        is_there, is_file: as in :mod:`os.path`.
    """
    marked = _nearest(path, _MARKERS[:1], is_there) or _nearest(path, _MARKERS, is_there)
    if marked is not None:
        return marked
    folder = os.path.dirname(path)
    package = False
    while is_file(os.path.join(folder, "__init__.py")) and os.path.dirname(folder) != folder:
        folder, package = os.path.dirname(folder), True
    if package:
        return os.path.dirname(folder) if os.path.basename(folder) == "src" else folder
    above = [root for root in map(os.path.abspath, scanned) if path.startswith(os.path.join(root, ""))]
    root = max(above, key=len, default=folder)
    for _ in range(_LOOSE):
        if folder == root:
            break
        folder = os.path.dirname(folder)
    return folder


def _nearest(path: str, markers: tuple[str, ...], is_there: Callable[[str], bool]) -> str | None:
    folder = os.path.dirname(os.path.abspath(path))
    for _ in range(MAX_ABOVE):
        if any(is_there(os.path.join(folder, marker)) for marker in markers):
            return folder
        above = os.path.dirname(folder)
        if above == folder:
            break
        folder = above
    return None
