"""What a configuration sets, as plain data."""

from __future__ import annotations

import os
from typing import TypedDict

__all__ = ["SHARED", "STANDALONE", "TABLE", "Config", "ConfigError", "PerFileIgnores", "shown"]

STANDALONE, SHARED = "bn-audit.toml", "pyproject.toml"
"""The files settings are read from: ours, and the one that many tools share, if it has our table."""
TABLE = "bn-audit"
"""Our table in a shared file: ``[tool.bn-audit]``."""

PerFileIgnores = tuple[tuple[str, tuple[str, ...]], ...]
"""Patterns, absolute if they hold a slash and ``!`` before them to turn them round, each with prefixes of codes."""


class ConfigError(Exception):
    """A configuration that cannot be used; the text names the file, the line if there is one, and what is wrong."""


class Config(TypedDict, total=False):
    """What a configuration sets; a key that it does not set is not there.

    The keys are those of the file, with ``_`` for ``-``, and a few that say where it comes from. Paths are absolute,
    codes upper case, ``ALL`` the empty prefix. (A dict, because a dataclass takes longer to define than the file to
    read, and every scan comes by here.)
    """

    path: str
    """The configuration file; not there if there is none."""
    root: str
    """The folder it governs."""
    files: tuple[str, ...]
    """All the files it was read from, those that it extends among them."""
    origins: dict[str, tuple[str, ...]]
    """By key, as it is written in a file: where its value comes from, the strongest last. A file, or a flag."""

    select: tuple[str, ...]
    extend_select: tuple[str, ...]
    ignore: tuple[str, ...]
    per_file_ignores: PerFileIgnores
    extend_per_file_ignores: PerFileIgnores
    exclude: tuple[str, ...]
    extend_exclude: tuple[str, ...]
    force_exclude: bool
    respect_gitignore: bool
    fail_on: str
    output_format: str
    cache_dir: str
    baseline: str
    jobs: int
    timeout: int
    secretflow_version: str
    models_with_batchnorm: tuple[str, ...]
    models_without_batchnorm: tuple[str, ...]
    batchnorm_classes: tuple[str, ...]
    flmodel_wrappers: tuple[str, ...]


def shown(path: str) -> str:
    """A file as a message names it: relative to the working directory where it lies below it."""
    return path.removeprefix(os.path.join(os.getcwd(), ""))
