"""The state of all that decides what the reader finds: its own files, the parser's release, Python's."""

from __future__ import annotations

import functools
import os
import sys

from bn_audit.source.outside import digest

__all__ = ["versions"]


@functools.cache
def versions() -> tuple[str, ...]:
    """Words that are others whenever another version may find something else. Nothing is imported for it."""
    return _of_our_files(), f"{sys.version_info[0]}.{sys.version_info[1]}", _of_libcst()


def _of_our_files() -> str:
    """The sizes and times of the package's files: a number would stay the same in a checkout, where they change."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    rows = []
    for folder, folders, names in os.walk(package):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        for name in sorted(names):
            status = os.stat(os.path.join(folder, name))
            rows.append(f"{folder} {name} {status.st_size} {status.st_mtime_ns}")
    return digest("\n".join(rows).encode("utf-8", "surrogatepass"))


def _of_libcst() -> str:
    import importlib.util

    spec = importlib.util.find_spec("libcst")
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        try:
            with open(os.path.join(folder, "_version.py"), "rb") as file:
                return digest(file.read())
        except OSError:
            continue
    return ""
