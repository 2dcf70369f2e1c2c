"""Which files and folders are left out by name or path, whatever git says."""

from __future__ import annotations

import re
from collections.abc import Iterable

from bn_audit.source.glob import absolute, forward, is_plain, translate

__all__ = ["DEFAULT_EXCLUDE", "Exclusion"]

DEFAULT_EXCLUDE = (
    ".bn-audit_cache",
    ".bzr",
    ".direnv",
    ".eggs",
    ".git",
    ".git-rewrite",
    ".hg",
    ".ipynb_checkpoints",
    ".mypy_cache",
    ".nox",
    ".pants.d",
    ".pyenv",
    ".pytest_cache",
    ".pytype",
    ".ruff_cache",
    ".svn",
    ".tox",
    ".venv",
    ".vscode",
    "__pypackages__",
    "_build",
    "buck-out",
    "dist",
    "node_modules",
    "site-packages",
    "venv",
)


class Exclusion:
    """What a set of patterns leaves out.

    A pattern without a slash stands for every file or folder of that name; one with a slash is a path relative to
    ``root``, an absolute folder.
    """

    def __init__(self, patterns: Iterable[str], root: str) -> None:
        self.root = root
        plain: set[str] = set()
        names: list[str] = []
        paths: list[str] = []
        for pattern in patterns:
            pattern = absolute(pattern, root)
            if "/" in pattern:
                paths.append(translate(pattern))
            elif not is_plain(pattern):
                names.append(translate(pattern))
            elif pattern:
                plain.add(pattern)
        self._plain = frozenset(plain)
        self._names = re.compile("|".join(names), re.DOTALL) if names else None
        self._paths = re.compile("|".join(paths), re.DOTALL) if paths else None

    def matches(self, name: str, path: str) -> bool:
        """Whether an entry is left out; ``path`` is absolute."""
        return (
            name in self._plain
            or (self._names is not None and self._names.fullmatch(name) is not None)
            or (self._paths is not None and self._paths.fullmatch(forward(path)) is not None)
        )
