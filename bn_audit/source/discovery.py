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
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from bn_audit.source.glob import forward

if TYPE_CHECKING:
    from bn_audit.source.exclusion import Exclusion
    from bn_audit.source.ignore import IgnoreRules

__all__ = ["Discovery", "DiscoveryOptions", "Exclusions", "discover"]

Exclusions = Callable[[str, "Sequence[str] | None"], "Exclusion"]
"""What is left out of an absolute folder, by the settings that hold there; with the names of its entries, if known."""

_SUFFIXES = (".py", ".pyi", ".ipynb")


class DiscoveryOptions(NamedTuple):
    """What to leave out.

    Attributes:
        exclude: patterns in place of :data:`bn_audit.source.exclusion.DEFAULT_EXCLUDE`, if there are any. A pattern
            without a slash stands for every file or folder of that name; one with a slash is a path relative to
            ``root``. ``*`` and ``?`` match slashes too, as in ruff.
        extend_exclude: further patterns.
        force_exclude: leave out explicitly given paths too, if they or a folder above them match a pattern.
        respect_gitignore: leave out what git ignores.
        root: the folder that patterns with a slash are relative to; the working directory if empty.
        exclusions: says for each folder what is left out of it, in place of ``exclude`` and ``extend_exclude``.
    """

    exclude: tuple[str, ...] = ()
    extend_exclude: tuple[str, ...] = ()
    force_exclude: bool = False
    respect_gitignore: bool = True
    root: str = ""
    exclusions: Exclusions | None = None


class Discovery(NamedTuple):
    """What was found.

    Attributes:
        files: each once, sorted; relative to the working directory if below it, else absolute.
        problems: what could not be read, in words.
        missing: given paths that do not exist.
    """

    files: tuple[str, ...]
    problems: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def complaints(self) -> tuple[str, ...]:
        """What is not there and what could not be read, in words."""
        return (*(f"{path}: no such file or folder" for path in self.missing), *self.problems)


def discover(paths: Sequence[str], options: DiscoveryOptions | None = None) -> Discovery:
    """Find the files to scan.

    ``paths`` are files and folders. File names may hold anything the system allows: bytes that are not UTF-8 come as
    lone surrogates, as from :func:`os.fsdecode`.
    """
    options = options if options is not None else DiscoveryOptions()
    walk = _Walk(options.exclusions or _everywhere(options), options.respect_gitignore)
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
        if options.force_exclude and walk.covers(absolute):
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


def _everywhere(options: DiscoveryOptions) -> Exclusions:
    """The same exclusion for every folder; made for the first that is asked about."""
    found: Exclusion | None = None

    def exclusions(folder: str, names: Sequence[str] | None) -> Exclusion:
        nonlocal found
        if found is None:
            from bn_audit.source.exclusion import DEFAULT_EXCLUDE, Exclusion

            patterns = (*(options.exclude or DEFAULT_EXCLUDE), *options.extend_exclude)
            found = Exclusion(patterns, os.path.abspath(options.root or os.curdir))
        return found

    return exclusions


class _Walk:
    """The files found so far, and what is left to look at: links, which must wait until all real paths are known."""

    def __init__(self, exclusions: Exclusions, respect_gitignore: bool) -> None:
        self.exclusions = exclusions
        self.respect_gitignore = respect_gitignore
        self.files: set[str] = set()
        self.problems: list[str] = []
        self.folders: set[str] = set()
        self.links: list[tuple[str, IgnoreRules]] = []

    def covers(self, path: str) -> bool:
        """Whether an absolute path is left out, or a folder above it within the project that the settings are of."""
        while True:
            above, name = os.path.split(path)
            exclusion = self.exclusions(above, None)
            if exclusion.matches(name, path):
                return True
            if above in (path, exclusion.root):
                return False
            path = above

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
                if self.exclusions(os.path.dirname(real), None).matches(os.path.basename(real), real):
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
            names = [entry.name for entry in listing]
            if self.respect_gitignore:
                rules = enter(rules, folder, names)
            waiting += self._entries(real, rules, self.exclusions(folder, names), listing)

    def _entries(
        self, real: str, rules: IgnoreRules, exclusion: Exclusion, listing: Iterable[os.DirEntry[str]]
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
            if exclusion.matches(name, path) or (
                rules and rules.ignores(forward(path), is_folder or (is_link and os.path.isdir(path)))
            ):
                continue
            if is_folder:
                yield path, os.path.join(real, name), rules
            elif is_link:
                self.links.append((path, rules))
            else:
                self.files.add(path)


def _problem(path: str, error: Exception) -> str:
    here = os.path.join(os.getcwd(), "")
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"{path.removeprefix(here)}: {reason}"
