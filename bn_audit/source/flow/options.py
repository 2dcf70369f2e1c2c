"""What a program's options are if nobody says otherwise: the defaults of its command line, and files of settings.

They decide nothing. Where a model depends on an option, each way is looked at and told with its condition; the
defaults say which way is looked at first, and which is taken where there are more conditions than can be tried.
"""

from __future__ import annotations

import ast
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping

import libcst as cst

from bn_audit.source.flow.following import Finder
from bn_audit.source.flow.index import FileIndex, arguments_of
from bn_audit.source.flow.settings_files import Setting, read_settings
from bn_audit.source.interpreter.values import Const
from bn_audit.source.project import Project, PyModule
from bn_audit.source.text import SourceError

__all__ = ["Options"]

_MAX_FILES = 3
"""Files with options that are opened for one file."""
_ADDS = "add_argument"
_MAX_SETTINGS = 12
"""Files of settings that are read for one file."""
_MAX_SIZE = 60_000
_SUFFIXES = (".yaml", ".yml", ".json")
_NAMES = re.compile(r"conf|setting|arg", re.IGNORECASE)
"""What files of JSON are called that hold settings: there are too many others."""
_FOLDERS = ("", "conf", "config", "configs")
_FIRST = ("config", "base", "default", "defaults", "fedml_config", "main", "settings", "args")
"""What files of settings are called of which a program takes one if nobody names another."""
_FLAGS = {"store_true": False, "store_false": True}


class Options:
    """Looks for options; keeps what it has found."""

    def __init__(self, project: Project, finder: Finder) -> None:
        self._project = project
        self._finder = finder
        self._known: dict[str, Mapping[str, Const]] = {}

    def of(self, module: PyModule) -> Mapping[str, Const]:
        """The defaults of options that a file may get, by their names: its own, and those of the nearest files."""
        known = self._known.get(module.path)
        if known is None:
            found: dict[str, Const] = {}
            for each in self._files(module):
                for name, value in each.derive(_defaults):
                    found.setdefault(name, value)
            for name, value in self._settings(module):
                found.setdefault(name, value)
            known = self._known[module.path] = found
        return known

    def _files(self, module: PyModule) -> Iterator[PyModule]:
        yield module
        root = self._project.root(module.path)
        for path in [path for path in self._finder(_ADDS, module) if self._project.root(path) == root][:_MAX_FILES]:
            try:
                yield self._project.open(path)
            except SourceError:
                continue

    def _settings(self, module: PyModule) -> Iterator[tuple[str, Const]]:
        """What files of settings near a file say: by the last key where a file has it once, and by the last two."""
        outside = self._project.outside
        root = self._project.root(module.path)
        folder = module.folder
        paths: list[str] = []
        for _ in range(4):
            for name in _FOLDERS:
                place = os.path.join(folder, name) if name else folder
                paths.extend(os.path.join(place, entry) for entry in outside.entries(place, _SUFFIXES))
            if folder == root or os.path.dirname(folder) == folder:
                break
            folder = os.path.dirname(folder)
        for path in sorted(dict.fromkeys(paths), key=_rank)[:_MAX_SETTINGS]:
            if path.endswith(".json") and not _NAMES.search(os.path.basename(path)):
                continue
            try:
                data = outside.read(path)
            except SourceError:
                continue
            if len(data) <= _MAX_SIZE:
                yield from _hints(read_settings(data.decode("utf-8", "replace"), path))


def _rank(path: str) -> int:
    return 0 if os.path.splitext(os.path.basename(path))[0] in _FIRST else 1


def _hints(settings: list[Setting]) -> Iterator[tuple[str, Const]]:
    counts = Counter(path[-1] for path, _ in settings)
    for path, value in settings:
        if counts[path[-1]] == 1 and value is not None:
            yield path[-1], Const(value)
        if len(path) > 1:
            yield ".".join(path[-2:]), Const(value)


def _defaults(module: PyModule) -> list[tuple[str, Const]]:
    """The options that a file adds to a parser, with their defaults; the first choice of one that has none."""
    found: list[tuple[str, Const]] = []
    for call in module.derive(FileIndex).calls_of(_ADDS):
        positional, keywords, _ = arguments_of(call)
        name = _name(positional, keywords.get("dest"))
        value = keywords.get("default")
        flag = _FLAGS.get(str(_literal(keywords.get("action"))))
        choices = _literal(keywords.get("choices"))
        default = _literal(value) if value is not None else flag
        if value is None and flag is None and isinstance(choices, (list, tuple)) and choices:
            default = choices[0]
        if name and isinstance(default, (str, bool, int, float)):
            found.append((name, Const(default)))
    return found


def _name(flags: list[cst.BaseExpression], dest: cst.BaseExpression | None) -> str:
    """The attribute in which a parser keeps an option: that of the first long flag."""
    given = _literal(dest)
    if isinstance(given, str):
        return given
    names = [name for name in map(_literal, flags) if isinstance(name, str)]
    long = next((name for name in names if name.startswith("--")), names[0] if names else "")
    return long.lstrip("-").replace("-", "_")


def _literal(node: cst.BaseExpression | None) -> object:
    if node is None:
        return None
    try:
        return ast.literal_eval(cst.Module([]).code_for_node(node))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
