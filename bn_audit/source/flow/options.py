"""What a program's options are if nobody says otherwise: the defaults of its command line, and files of settings.

They decide nothing. Where a model depends on an option, each way is looked at and told with its condition; the
defaults say which way is looked at first, and which is taken where there are more conditions than can be tried.
"""

from __future__ import annotations

import ast
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import libcst as cst

from bn_audit.source.flow.following import Finder
from bn_audit.source.flow.index import FileIndex, arguments_of
from bn_audit.source.flow.settings_files import Setting, read_settings
from bn_audit.source.interpreter.values import Const
from bn_audit.source.outside import Query
from bn_audit.source.project import Project, PyModule
from bn_audit.source.text import SourceError

__all__ = ["Options"]

_MAX_FILES = 3
"""Files with options that are opened for one file."""
_ADDS = "add_argument"
_MAX_ABOVE = 4
"""Folders, from a file's own upwards, in which files of settings are looked for."""
_MAX_SETTINGS = 12
"""Files of settings that are read for one file."""
_MAX_SIZE = 60_000
_SUFFIXES = (".yaml", ".yml", ".json")
_NAMES = re.compile(r"conf|setting|arg", re.IGNORECASE)
"""What files of JSON are called that hold settings: there are too many others."""
_FOLDERS = ("", "conf", "config", "configs")
_MAX_BELOW = 3
"""Folders within folders of settings that are looked into."""
_MAX_SHARING = 2
"""Programs in one folder that are taken to share their settings."""
_MAX_BESIDE = 48
"""Files of settings that are read for the variants of one program."""
_FIRST = ("config", "base", "default", "defaults", "fedml_config", "main", "settings", "args")
"""What files of settings are called of which a program takes one if nobody names another."""
_FLAGS = {"store_true": False, "store_false": True}


class Options:
    """Looks for options; keeps what it has found."""

    def __init__(self, project: Project, finder: Finder) -> None:
        self._project = project
        self._finder = finder
        self._known: dict[str, Mapping[str, Const]] = {}
        self._beside: dict[tuple[str, str], tuple[tuple[Mapping[str, object], ...], set[Query]]] = {}

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

    def beside(self, module: PyModule, key: str) -> Sequence[Mapping[str, object]]:
        """What each of the files of settings says that lie nearest to a file and have a key: the variants in which it
        is run. A key is the last two of a path, ``model_args.model``."""
        known = self._beside.get((module.path, key))
        if known is None:
            with self._project.outside.apart() as asked:
                known = self._beside[module.path, key] = (tuple(self._variants(module, key)), asked)
        self._project.outside.again(known[1])
        return known[0]

    def _variants(self, module: PyModule, key: str) -> Iterator[Mapping[str, object]]:
        for folder in self._above(module):
            below = [os.path.join(folder, name) for name in _FOLDERS if name]
            paths = [*self._below(folder, 0), *(path for place in below for path in self._below(place, _MAX_BELOW))]
            found: list[Mapping[str, object]] = []
            for path in self._for(module, folder, sorted(paths, key=_rank)[:_MAX_BESIDE]):
                settings = {name: value.value for name, value in _hints(self._read(path))}
                if key in settings:
                    found.append(settings)
            if found:
                yield from found
                return

    def _for(self, module: PyModule, folder: str, paths: list[str]) -> list[str]:
        """Of the files of settings in a folder those that may be a program's. A client and a server share theirs; where
        there are more programs, each has those whose paths name it: ``config/NLP/base.yaml`` for ``run_nlp.py``."""
        outside = self._project.outside
        if folder != module.folder or not paths:
            return paths
        beside = (os.path.join(folder, entry) for entry in outside.entries(folder, (".py",)))
        if sum(outside.holds(path, [b"__main__"]) for path in beside) <= _MAX_SHARING:
            return paths
        own = _words(os.path.splitext(os.path.basename(module.path))[0])
        return [path for path in paths if own & _words(os.path.relpath(path, folder))]

    def _below(self, folder: str, depth: int) -> Iterator[str]:
        """The files of settings in a folder, and in those within it."""
        outside = self._project.outside
        if not outside.is_folder(folder):
            return
        yield from (os.path.join(folder, entry) for entry in outside.entries(folder, _SUFFIXES))
        if depth:
            for entry in outside.entries(folder, ("",)):
                if "." not in entry:
                    yield from self._below(os.path.join(folder, entry), depth - 1)

    def _read(self, path: str) -> list[Setting]:
        try:
            data = self._project.outside.read(path)
        except SourceError:
            return []
        return read_settings(data.decode("utf-8", "replace"), path) if len(data) <= _MAX_SIZE else []

    def _above(self, module: PyModule) -> Iterator[str]:
        """A file's folder and those above it, as far as its project reaches."""
        root = self._project.root(module.path)
        folder = module.folder
        for _ in range(_MAX_ABOVE):
            yield folder
            if folder == root or os.path.dirname(folder) == folder:
                return
            folder = os.path.dirname(folder)

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
        paths: list[str] = []
        for folder in self._above(module):
            for name in _FOLDERS:
                place = os.path.join(folder, name) if name else folder
                paths.extend(os.path.join(place, entry) for entry in outside.entries(place, _SUFFIXES))
        for path in sorted(dict.fromkeys(paths), key=_rank)[:_MAX_SETTINGS]:
            if not path.endswith(".json") or _NAMES.search(os.path.basename(path)):
                yield from _hints(self._read(path))


def _words(text: str) -> set[str]:
    return {word for word in re.split(r"[\W_]+", text.lower()) if word}


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
