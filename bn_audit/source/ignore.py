"""What is to be ignored: .gitignore files of a repository, its .git/info/exclude, and .ignore files anywhere.

The rules of a folder hold below it and give way to those of a deeper folder; ``.ignore`` wins over ``.gitignore`` and
that over ``.git/info/exclude``. As in git, and in ruff, a .gitignore counts only inside a repository, a repository
inside another one is on its own, and what lies in an ignored folder cannot be brought back. The user's global ignore
file is not read: what a scan finds shall not depend on whose machine it runs on.

A walk asks about every folder before it enters it, as git does, so a pattern has to match an entry itself and never a
folder above it. pathspec cannot be asked that: its patterns match what lies below as well, and its GitIgnoreSpec
ignores the folders of the idiom ``*``, ``!*/``, ``!*.py`` (seen with 1.1.1). So the patterns are translated here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass

from bn_audit.source.glob import FEW, frugal
from bn_audit.source.raw import SourceError, read_bytes

__all__ = ["IgnoreRules", "enter", "rules_above"]


@dataclass(frozen=True, slots=True)
class _Pattern:
    """A line of an ignore file. ``expression`` matches the whole path of an entry, relative to the file's folder."""

    expression: re.Pattern[str]
    negated: bool
    folders_only: bool


@dataclass(frozen=True, slots=True)
class _Patterns:
    """The patterns of one file, the last first. ``any`` matches whatever one of them may match: mostly nothing does."""

    folder_length: int
    patterns: tuple[_Pattern, ...]
    any: re.Pattern[str]

    def verdict(self, path: str, is_folder: bool) -> bool | None:
        """Whether the file has the entry ignored or kept; None if it does not speak of it."""
        relative = path[self.folder_length :]
        if self.any.fullmatch(relative):
            for pattern in self.patterns:
                if (is_folder or not pattern.folders_only) and pattern.expression.fullmatch(relative):
                    return not pattern.negated
        return None


@dataclass(frozen=True, slots=True)
class IgnoreRules:
    """The rules that hold in a folder: patterns of git's files and of ``.ignore`` files, each with the weakest first.

    ``git`` is None outside a repository.
    """

    git: tuple[_Patterns, ...] | None = None
    ignore: tuple[_Patterns, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.git or self.ignore)

    def ignores(self, path: str, is_folder: bool) -> bool:
        """Whether an entry of the folder is ignored. ``path`` is absolute, with ``/``."""
        for patterns in (*reversed(self.ignore), *reversed(self.git or ())):
            verdict = patterns.verdict(path, is_folder)
            if verdict is not None:
                return verdict
        return False


def rules_above(folder: str) -> IgnoreRules:
    """The rules that the folders above an absolute path impose on it."""
    above: list[str] = []
    path = folder
    while (parent := os.path.dirname(path)) != path:
        above.append(parent)
        path = parent
    rules = IgnoreRules()
    for path in reversed(above):
        rules = enter(rules, path, [name for name in _INTERESTING if os.path.lexists(os.path.join(path, name))])
    return rules


def enter(rules: IgnoreRules, folder: str, names: Iterable[str]) -> IgnoreRules:
    """The rules inside a folder, from those around it and the names of its entries."""
    present = _INTERESTING.intersection(names)
    if not present:
        return rules
    git = rules.git
    if ".git" in present:
        git = _read(os.path.join(_git_directory(folder), "info", "exclude"), folder)
    if git is not None and ".gitignore" in present:
        git += _read(os.path.join(folder, ".gitignore"), folder)
    ignore = rules.ignore
    if ".ignore" in present:
        ignore += _read(os.path.join(folder, ".ignore"), folder)
    return IgnoreRules(git, ignore)


_MOST_BYTES = 1 << 20
"""No ignore file that people write is larger; one that is, is as good as none."""
_INTERESTING = frozenset((".git", ".gitignore", ".ignore"))


def _git_directory(folder: str) -> str:
    """Where a repository keeps what its working trees share; ``.git`` is a file in linked ones."""
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
        line = read_bytes(path, most=_MOST_BYTES).partition(b"\n")[0]
    except SourceError:
        return None
    return line.decode("utf-8", "surrogateescape").strip()


def _read(path: str, folder: str) -> tuple[_Patterns, ...]:
    """The patterns in a file, relative to a folder; empty if there are none, or the file cannot be read."""
    try:
        data = read_bytes(path, most=_MOST_BYTES)
    except SourceError:
        return ()
    lines = data.decode("utf-8-sig", "surrogateescape").split("\n")
    patterns = tuple(pattern for line in reversed(lines) if (pattern := _pattern(line)) is not None)
    if not patterns:
        return ()
    alternatives = "|".join(dict.fromkeys(f"(?:{pattern.expression.pattern})" for pattern in patterns))
    return (_Patterns(len(folder.rstrip(os.sep)) + 1, patterns, re.compile(alternatives, re.DOTALL)),)


def _pattern(line: str) -> _Pattern | None:
    """A line of an ignore file, as gitignore(5) says; None for a comment, a blank line, and what matches nothing."""
    line = line.removesuffix("\r")
    if line.startswith("#"):
        return None
    kept = line.rstrip(" ")
    escaped = (len(kept) - len(kept.rstrip("\\"))) % 2 == 1
    line = line[: len(kept) + escaped]  # a space after a backslash stays
    negated = line.startswith("!")
    text = line[negated:]
    folders_only = text.endswith("/")
    text = text[:-1] if folders_only else text
    if not text:
        return None
    anchored = "/" in text
    expression = _expression(text.removeprefix("/"))
    if expression is None:
        return None
    return _Pattern(re.compile(expression if anchored else f"(?:.*/)?{expression}", re.DOTALL), negated, folders_only)


def _expression(text: str) -> str | None:
    """git's wildmatch as a regular expression; None if nothing can match."""
    parts: list[str] = []
    position = 0
    while position < len(text):
        match = _WILDCARD.match(text, position)
        if match is None:  # a backslash at the end, or a bracket that is not closed
            return None
        stars, bracket, escaped, plain = match.group("stars", "bracket", "escaped", "plain")
        start, position = match.span()
        if stars is not None:
            whole = len(stars) > 1 and (start == 0 or text[start - 1] == "/")
            if whole and text.startswith("/", position):
                parts.append(_FOLDERS)
                position += 1
            elif whole and position == len(text):
                parts.append(".*")
            else:
                parts.append(_STAR)
        elif bracket is not None:
            members = _bracket(bracket)
            if members is None:
                return None
            parts.append(members)
        elif plain == "?":
            parts.append("[^/]")
        else:
            parts.append(re.escape(plain or escaped))
    if parts.count(_STAR) + parts.count(_FOLDERS) <= FEW:
        return "".join(parts)
    return _sparingly(parts)


_FOLDERS, _STAR = "(?:.*/)?", "[^/]*"


def _sparingly(parts: list[str]) -> str:
    """The parts put together so that many stars take no time to speak of: see :mod:`bn_audit.source.glob`.

    That a star takes the least is right within one name, and that ``**/`` does within all names up to the next one.
    """
    whole: list[str] = []
    folders: list[int] = []
    name: list[str] = []
    for part in (*parts, ""):
        if part in ("/", _FOLDERS, ""):
            stars = [number for number, one in enumerate(name) if one == _STAR]
            whole.append(frugal([f"{one}?" if number in stars[:-1] else one for number, one in enumerate(name)], stars))
            if part == _FOLDERS:
                folders.append(len(whole))
            whole.append(part)
            name = []
        else:
            name.append(part)
    return frugal(["(?:.*?/)??" if number in folders[:-1] else one for number, one in enumerate(whole)], folders)


_WILDCARD = re.compile(
    r"(?P<stars>\*+) | \[(?P<bracket>[!^]?\]?(?:\[:[a-z]*:\]|\\.|[^]\\])*)\] | \\(?P<escaped>.) | (?P<plain>[^[\\])",
    re.VERBOSE | re.DOTALL,
)
_CLASSES = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "blank": r"\x20\t",
    "cntrl": r"\x00-\x1f\x7f",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": r"\x20-~",
    "punct": r"!-/:-@\[-`{-~",
    "space": r"\x20\t-\r",
    "upper": "A-Z",
    "xdigit": "0-9A-Fa-f",
}
_MEMBER = re.compile(r"\[:(?P<name>[a-z]*):\]|\\?(?P<low>.)(?:-\\?(?P<high>.))?", re.DOTALL)


def _bracket(text: str) -> str | None:
    """A bracket expression, which never matches a slash."""
    negated = text[:1] in ("!", "^")
    members = []
    for member in _MEMBER.finditer(text, int(negated)):
        name, low, high = member.group("name", "low", "high")
        if name is not None:
            if name not in _CLASSES:
                return None
            members.append(_CLASSES[name])
        else:
            members.append(re.escape(low))  # even of a range that runs backwards, git has the first one match
            if high is not None and low <= high:
                members.append(f"{re.escape(low)}-{re.escape(high)}")
    if not members:
        return "[^/]" if negated else None
    return f"(?!/)[{'^' if negated else ''}{''.join(members)}]"
