"""Which release of a package a project runs with, as far as its own files say so exactly.

Read are lock files (uv, poetry, pdm, Pipenv), requirements files, pyproject.toml, setup.cfg and Pipfile, in this order,
in the nearest folder at or above a file that says anything. A range (``>=1.3``) says nothing exact; two files of one
kind that disagree say nothing either.
"""

from __future__ import annotations

import functools
import glob
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from bn_audit.source.raw import SourceError, read_bytes

__all__ = ["forget", "pinned"]

_MOST_BYTES = 32 << 20
"""No lock file that tools write is larger; one that is, says nothing."""

# PEP 508, as far as an exact pin needs it: name, extras, and the one clause that pins.
_REQUIREMENT = re.compile(
    r"\s*([A-Za-z0-9][\w.-]*)\s*(?:\[[^\]]*\])?\s*\(?\s*(===?|~=)\s*v?([\w.!+]+?)(\.\*)?\s*\)?\s*(?:[;#\\].*|\s--.*)?"
)
_LONGEST = 1_000
"""Characters of a line that may be a pin. Of blanks, each run counts as one: to match many takes time that grows with
their cube."""
_CLAUSE = re.compile(r"\s*(===?|~=)?\s*v?(\d[\w.!+]*?)(\.\*)?\s*")


def pinned(path: str, packages: tuple[str, ...]) -> str | None:
    """The release of one of ``packages`` (distribution names) that the project around ``path`` pins, or None.

    The search goes upwards from the file's folder and ends at the root of a repository (a folder with ``.git``).
    """
    return _above(os.path.dirname(os.path.abspath(path)), tuple(_normal(package) for package in packages))


def forget() -> None:
    """Look at the projects' files anew from here on: they may have been changed."""
    _above.cache_clear()


@functools.lru_cache(maxsize=4096)
def _above(folder: str, packages: tuple[str, ...]) -> str | None:
    for read in _KINDS:
        found = {version for name, version in read(folder) if name in packages}
        if found:
            return found.pop() if len(found) == 1 else None
    parent = os.path.dirname(folder)
    if parent == folder or os.path.exists(os.path.join(folder, ".git")):
        return None
    return _above(parent, packages)


def _normal(name: str) -> str:
    """PEP 503's normal form of a distribution's name."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _requirement(text: str) -> Iterator[tuple[str, str]]:
    match = _REQUIREMENT.fullmatch(" ".join(text.split())) if len(text) < _LONGEST else None
    if match is not None:
        yield _normal(match[1]), match[3]


def _poetry(table: object) -> Iterator[tuple[str, str]]:
    """Poetry's and Pipenv's tables: a bare version is a range to Poetry, so only ``==`` pins."""
    if not isinstance(table, dict):
        return
    for name, value in table.items():
        clause = value.get("version") if isinstance(value, dict) else value
        text = " ".join(clause.split()) if isinstance(clause, str) and len(clause) < _LONGEST else ""
        match = _CLAUSE.fullmatch(text)
        if match is not None and match[1] is not None:
            yield _normal(name), match[2]


def _locked(folder: str) -> Iterator[tuple[str, str]]:
    for name in ("uv.lock", "poetry.lock", "pdm.lock"):
        packages = _toml(os.path.join(folder, name)).get("package")
        for package in packages if isinstance(packages, list) else ():
            version = package.get("version") if isinstance(package, dict) else None
            if isinstance(version, str) and isinstance(package.get("name"), str):
                yield _normal(package["name"]), version
    try:
        lock = json.loads(_text(os.path.join(folder, "Pipfile.lock")) or "{}")
    except (ValueError, RecursionError):
        return
    if isinstance(lock, dict):
        yield from _poetry(lock.get("default"))


def _requirements(folder: str) -> Iterator[tuple[str, str]]:
    base = glob.escape(folder)
    for pattern in ("requirements*.txt", os.path.join("requirements", "*.txt")):
        for path in sorted(glob.glob(os.path.join(base, pattern))):
            for line in _text(path).splitlines():
                yield from _requirement(line)


def _pyproject(folder: str) -> Iterator[tuple[str, str]]:
    document = _toml(os.path.join(folder, "pyproject.toml"))
    project = document.get("project")
    if isinstance(project, dict):
        yield from _listed(project.get("dependencies"))
        yield from _each(project.get("optional-dependencies"), _listed)
    yield from _each(document.get("dependency-groups"), _listed)
    tool = document.get("tool")
    poetry = tool.get("poetry") if isinstance(tool, dict) else None
    if isinstance(poetry, dict):
        yield from _poetry(poetry.get("dependencies"))
        yield from _each(poetry.get("group"), lambda group: _poetry(group.get("dependencies")))


def _setup_cfg(folder: str) -> Iterator[tuple[str, str]]:
    text = _text(os.path.join(folder, "setup.cfg"))
    if not text or any(len(line) > _LONGEST for line in text.splitlines()):  # configparser has the same trouble
        return
    import configparser

    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string(text)
    except configparser.Error:
        return
    if parser.has_option("options", "install_requires"):
        yield from _listed(parser.get("options", "install_requires").splitlines())
    if parser.has_section("options.extras_require"):
        for _, lines in parser.items("options.extras_require"):
            yield from _listed(lines.splitlines())


def _pipfile(folder: str) -> Iterator[tuple[str, str]]:
    yield from _poetry(_toml(os.path.join(folder, "Pipfile")).get("packages"))


_KINDS: tuple[Callable[[str], Iterator[tuple[str, str]]], ...] = (
    _locked,
    _requirements,
    _pyproject,
    _setup_cfg,
    _pipfile,
)


def _listed(requirements: object) -> Iterator[tuple[str, str]]:
    for requirement in requirements if isinstance(requirements, list) else ():
        if isinstance(requirement, str):
            yield from _requirement(requirement)


def _each(table: object, read: Callable[[Any], Iterator[tuple[str, str]]]) -> Iterator[tuple[str, str]]:
    for value in table.values() if isinstance(table, dict) else ():
        if isinstance(value, (list, dict)):
            yield from read(value)


def _toml(path: str) -> dict[str, Any]:
    try:
        return tomllib.loads(_text(path))
    except (ValueError, RecursionError):
        return {}


def _text(path: str) -> str:
    """A file's text, "" if it cannot be read: a project's other files are not ours to judge."""
    try:
        data = read_bytes(path, most=_MOST_BYTES)
    except SourceError:
        return ""
    return data.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n")
