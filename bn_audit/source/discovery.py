"""Which files a scan looks at: Python files, stubs and notebooks below the given folders, and whatever file is named
itself.

The rules are ruff's: folders of caches, environments and installed packages are left out by name, then what git
ignores. A path that is given explicitly is read whatever its suffix, unless ``force_exclude`` says that exclusions hold
for it too (pre-commit names every file). Symbolic links to folders are followed, which ruff does not, but each real
folder is read only once, by its real path where it has one below the given folders, and never is a folder that contains
the one being scanned.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bn_audit.source.ignore import IgnoreRules

__all__ = ["DEFAULT_EXCLUDE", "Discovery", "DiscoveryOptions", "discover"]

DEFAULT_EXCLUDE = (
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

_SUFFIXES = (".py", ".pyi", ".ipynb")


@dataclass(frozen=True, slots=True)
class DiscoveryOptions:
    """What to leave out.

    Attributes:
        exclude: patterns in place of :data:`DEFAULT_EXCLUDE`, if there are any. A pattern without a slash stands for
            every file or folder of that name; one with a slash is a path relative to ``root``. ``*`` and ``?`` match
            slashes too, as in ruff.
        extend_exclude: further patterns.
        force_exclude: leave out explicitly given paths too, if they or a folder above them match a pattern.
        respect_gitignore: leave out what git ignores.
        root: the folder that patterns with a slash are relative to; the working directory if empty.
    """

    exclude: tuple[str, ...] = ()
    extend_exclude: tuple[str, ...] = ()
    force_exclude: bool = False
    respect_gitignore: bool = True
    root: str = ""


@dataclass(frozen=True, slots=True)
class Discovery:
    """What was found.

    Attributes:
        files: each once, sorted; relative to the working directory if below it, else absolute.
        problems: what could not be read, in words.
        missing: given paths that do not exist.
    """

    files: tuple[str, ...]
    problems: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


def discover(paths: Sequence[str], options: DiscoveryOptions | None = None) -> Discovery:
    """Find the files to scan.

    ``paths`` are files and folders. File names may hold anything the system allows: bytes that are not UTF-8 come as
    lone surrogates, as from :func:`os.fsdecode`.
    """
    options = options if options is not None else DiscoveryOptions()
    walk = _Walk(_Exclusion(options), options.respect_gitignore)
    missing = []
    for path in paths:
        absolute = os.path.abspath(path)
        try:
            mode = os.stat(absolute).st_mode
        except (FileNotFoundError, NotADirectoryError):
            missing.append(path)
            continue
        except (OSError, ValueError) as error:
            walk.problems.append(_problem(path, error))
            continue
        if options.force_exclude and walk.exclusion.covers(absolute):
            continue
        if stat.S_ISDIR(mode):
            walk.below(absolute)
        elif stat.S_ISREG(mode):
            walk.files.add(absolute)
        else:
            walk.problems.append(f"{path}: not a regular file")
    walk.follow_links()
    here = os.path.join(os.getcwd(), "")
    files = sorted(path.removeprefix(here) for path in walk.files)
    return Discovery(tuple(files), tuple(dict.fromkeys(walk.problems)), tuple(dict.fromkeys(missing)))


@dataclass(slots=True)
class _Walk:
    """The files found so far, and what is left to look at: links, which must wait until all real paths are known."""

    exclusion: _Exclusion
    respect_gitignore: bool
    files: set[str] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)
    folders: set[str] = field(default_factory=set)
    links: list[tuple[str, IgnoreRules]] = field(default_factory=list)

    def below(self, folder: str) -> None:
        """Find what lies below a folder given by its absolute path."""
        # Imported here because a scan of files needs no rules, and start-up counts.
        from bn_audit.source.ignore import IgnoreRules, rules_above

        self._walk(folder, rules_above(folder) if self.respect_gitignore else IgnoreRules())

    def follow_links(self) -> None:
        """Look at the links, in order of their paths, that lead to something not seen yet."""
        real_files = {os.path.realpath(path) for path in self.files} if self.links else set()
        while self.links:
            links, self.links = sorted(self.links, key=lambda link: link[0]), []
            for path, rules in links:
                real = os.path.realpath(path)
                if self.exclusion.matches(os.path.basename(real), real):
                    continue
                if os.path.isdir(real):
                    if real not in self.folders and not self._contains_any(real):
                        self._walk(path, rules, real)
                elif path.endswith(_SUFFIXES) and os.path.isfile(real) and real not in real_files:
                    real_files.add(real)
                    self.files.add(path)

    def _contains_any(self, real: str) -> bool:
        inside = os.path.join(real, "")
        return any(folder.startswith(inside) for folder in self.folders)

    def _walk(self, folder: str, rules: IgnoreRules, real: str | None = None) -> None:
        from bn_audit.source.ignore import enter

        waiting = [(folder, os.path.realpath(folder) if real is None else real, rules)]
        while waiting:
            folder, real, rules = waiting.pop()
            if real in self.folders:
                continue
            self.folders.add(real)
            try:
                with os.scandir(folder) as entries:
                    listing = list(entries)
            except OSError as error:
                self.problems.append(_problem(folder, error))
                continue
            if self.respect_gitignore:
                rules = enter(rules, folder, [entry.name for entry in listing])
            waiting += self._entries(folder, real, rules, listing)

    def _entries(
        self, folder: str, real: str, rules: IgnoreRules, listing: Iterable[os.DirEntry[str]]
    ) -> Iterator[tuple[str, str, IgnoreRules]]:
        """Take the files among a folder's entries; the folders among them are still to be walked."""
        for entry in listing:
            name, path = entry.name, entry.path
            python = name.endswith(_SUFFIXES)
            try:
                is_folder = entry.is_dir(follow_symlinks=False)
                is_link = not is_folder and entry.is_symlink()
                if not (is_folder or is_link or (python and entry.is_file(follow_symlinks=False))):
                    continue
            except OSError as error:
                self.problems.append(_problem(path, error))
                continue
            if self.exclusion.matches(name, path) or (
                rules and rules.ignores(_forward(path), is_folder or (is_link and os.path.isdir(path)))
            ):
                continue
            if is_folder:
                yield path, os.path.join(real, name), rules
            elif is_link:
                self.links.append((path, rules))
            else:
                self.files.add(path)


class _Exclusion:
    """Which paths the patterns of the options leave out."""

    def __init__(self, options: DiscoveryOptions) -> None:
        root = _glob_literal(_forward(os.path.abspath(options.root or os.curdir)).rstrip("/"))
        plain: set[str] = set()
        names: list[str] = []
        paths: list[str] = []
        for pattern in (*(options.exclude or DEFAULT_EXCLUDE), *options.extend_exclude):
            pattern = _forward(pattern).rstrip("/")
            if "/" in pattern:
                paths.append(_glob(pattern if os.path.isabs(pattern) else f"{root}/{pattern.removeprefix('./')}"))
            elif _GLOB_CHARACTER.search(pattern):
                names.append(_glob(pattern))
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
            or (self._paths is not None and self._paths.fullmatch(_forward(path)) is not None)
        )

    def covers(self, path: str) -> bool:
        """Whether an absolute path or a folder above it is left out."""
        while True:
            above, name = os.path.split(path)
            if self.matches(name, path):
                return True
            if above == path:
                return False
            path = above


def _glob(pattern: str) -> str:
    """A glob as a regular expression: ``*``, ``**``, ``?``, ``[...]``, ``{a,b}``. ``*`` and ``?`` match slashes too."""
    parts = []
    braces = 0
    for token in _GLOB_TOKEN.findall(pattern):
        if token == "/**/":
            part = "/(?:.*/)?"
        elif token.startswith("*"):
            part = ".*"
        elif token == "?":
            part = "."
        elif token.startswith("[") and len(token) > 2:
            negated = token[1] in "!^"
            members = re.sub(r"([\\\[\]&~|^])", r"\\\1", token[2 if negated else 1 : -1])
            part = f"[{'^' if negated else ''}{members}]"
        elif token == "{":
            part = "(?:"
            braces += 1
        elif token == "}" and braces:
            part = ")"
            braces -= 1
        elif token == "," and braces:
            part = "|"
        else:
            part = re.escape(token)
        parts.append(part)
    expression = "(?:" + "".join(parts) + ")" * (braces + 1)
    try:
        re.compile(expression)
    except re.error:  # a range that runs backwards
        return re.escape(pattern)
    return expression


_GLOB_CHARACTER = re.compile(r"[*?\[{]")
_GLOB_TOKEN = re.compile(r"/\*\*/|\*+|\[[!^]?\]?[^\]]*\]|.", re.DOTALL)


def _glob_literal(text: str) -> str:
    """A glob that matches the text itself."""
    return re.sub(r"[*?\[{}]", lambda match: f"[{match[0]}]", text)


def _forward(path: str) -> str:
    return path if os.sep == "/" else path.replace(os.sep, "/")


def _problem(path: str, error: Exception) -> str:
    here = os.path.join(os.getcwd(), "")
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"{path.removeprefix(here)}: {reason}"
