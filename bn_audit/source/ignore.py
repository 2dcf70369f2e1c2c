"""What git would ignore: .gitignore files of a repository, its .git/info/exclude, and .ignore files.

The rules of a folder hold below it and give way to those of a deeper folder; within one folder ``.ignore`` wins over
``.gitignore`` and that over ``.git/info/exclude``. As in git, and in ruff, nothing is ignored outside a repository, a
repository inside another one is on its own, and what lies in an ignored folder cannot be brought back. The user's
global ignore file is not read: what a scan finds shall not depend on whose machine it runs on.

pathspec, which knows git's pattern language, is imported when the first pattern is met.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

__all__ = ["IgnoreRules", "enter", "outside", "repository_of", "rules_above"]


@dataclass(frozen=True, slots=True)
class _Patterns:
    """The patterns of one file. ``quick`` matches whatever any of them may match."""

    folder_length: int
    spec: GitIgnoreSpec
    quick: re.Pattern[str]


@dataclass(frozen=True, slots=True)
class IgnoreRules:
    """The rules that hold in a folder: the files of patterns, the weakest first; None outside a repository."""

    patterns: tuple[_Patterns, ...] | None

    def ignores(self, path: str) -> bool:
        """Whether an entry of the folder is ignored. ``path`` is absolute with ``/``, a folder's ends with ``/``."""
        for patterns in reversed(self.patterns or ()):
            relative = path[patterns.folder_length :]
            if patterns.quick.match(relative):
                verdict = patterns.spec.check_file(relative, separators=()).include
                if verdict is not None:
                    return verdict
        return False


def outside() -> IgnoreRules:
    """The rules outside a repository, and where ignore files shall not count: none."""
    return IgnoreRules(None)


def repository_of(folder: str) -> str | None:
    """The root of the repository a folder lies in: the nearest folder at or above it with a ``.git``."""
    while not os.path.lexists(os.path.join(folder, ".git")):
        above = os.path.dirname(folder)
        if above == folder:
            return None
        folder = above
    return folder


def rules_above(folder: str) -> IgnoreRules:
    """The rules that the folders above an absolute path impose on it."""
    root = repository_of(os.path.dirname(folder))
    if root is None or folder == root:
        return outside()
    rules = outside()
    path = root
    for part in ("", *os.path.relpath(os.path.dirname(folder), root).split(os.sep)):
        if part != os.curdir:
            path = os.path.join(path, part) if part else path
            rules = enter(rules, path, _names_of_interest(path))
    return rules


def enter(rules: IgnoreRules, folder: str, names: Iterable[str]) -> IgnoreRules:
    """The rules inside a folder, from those around it and the names of its entries."""
    present = _INTERESTING.intersection(names)
    if not present:
        return rules
    patterns = rules.patterns
    if ".git" in present:
        patterns = _read(os.path.join(_git_directory(folder), "info", "exclude"), folder)
    if patterns is None:
        return rules
    for name in (".gitignore", ".ignore"):
        if name in present:
            patterns += _read(os.path.join(folder, name), folder)
    return IgnoreRules(patterns)


_INTERESTING = frozenset((".git", ".gitignore", ".ignore"))


def _names_of_interest(folder: str) -> Sequence[str]:
    return [name for name in _INTERESTING if os.path.lexists(os.path.join(folder, name))]


def _git_directory(folder: str) -> str:
    """Where the repository of a working tree keeps what its working trees share; ``.git`` is a file in linked ones."""
    path = os.path.join(folder, ".git")
    pointer = _first_line(path)
    if pointer is not None and pointer.startswith("gitdir:"):
        path = os.path.join(folder, pointer.removeprefix("gitdir:").strip())
        common = _first_line(os.path.join(path, "commondir"))
        if common is not None:
            path = os.path.join(path, common)
    return path


def _first_line(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.readline().strip()
    except OSError:
        return None


def _read(path: str, folder: str) -> tuple[_Patterns, ...]:
    """The patterns in a file, relative to a folder; empty if there are none, or the file cannot be read."""
    try:
        if not os.path.isfile(path):
            return ()
        with open(path, encoding="utf-8-sig", errors="surrogateescape") as file:
            lines = file.read().split("\n")
    except OSError:
        return ()
    spec = _spec(lines)
    expressions = [pattern.regex.pattern for pattern in spec.patterns if pattern.regex is not None]
    if not expressions:
        return ()
    # The same group cannot be named in every branch of an alternation.
    quick = "|".join(expression.replace("(?P<ps_d>", "(?:") for expression in expressions)
    try:
        compiled = re.compile(quick)
    except re.error:
        compiled = re.compile("")
    return (_Patterns(len(folder.rstrip("/")) + 1, spec, compiled),)


def _spec(lines: list[str]) -> GitIgnoreSpec:
    from pathspec import GitIgnoreSpec

    try:
        return GitIgnoreSpec.from_lines(lines)
    except (ValueError, re.error):  # one bad line: git takes it to match nothing
        return GitIgnoreSpec.from_lines(line for line in lines if _valid(line))


def _valid(line: str) -> bool:
    from pathspec import GitIgnoreSpec

    try:
        GitIgnoreSpec.from_lines([line])
    except (ValueError, re.error):
        return False
    return True
