"""Calls of what is not called by its own name: ``SERVERS[args.method](model)``, ``get_server(args)(model)``.

A class that is put into a table, returned by a function or found by the name of its file is called where the table is
read. Who does so names the table or the function. Looked for are the words by which others can get at a class, in the
text of the files that name it; then the calls that have one of these words in what they call. Whether such a call runs
the class in question, whoever asks has to find out: by following what is called there.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import libcst as cst

from bn_audit.source.flow.imported import IMPORTERS, imports_with
from bn_audit.source.flow.index import FileIndex, Scope, arguments_of
from bn_audit.source.parse import is_notebook
from bn_audit.source.text import SourceError

if TYPE_CHECKING:
    from bn_audit.source.flow.following import Finder
    from bn_audit.source.project import Project, PyModule

__all__ = ["handing_calls", "indirect_calls", "words_for"]

_MAX_FILES = 8
"""Files that name a class, or a table it is in, which are looked into."""
_MAX_WORDS = 12
_MAX_PLACES = 60
"""Lines of a file that name a class which are looked at."""
_MAX_CALLS = 16
_MAX_HANDED = 8
"""Calls that are given a function itself which are looked at."""
_HEAD = re.compile(r"\s*(?:async\s+)?def\s+(\w+)")
_BOUND = re.compile(r"\s*(?:[\w.]+\.)?(\w+)\s*(?:\[[^\]\n]*\]\s*)?(?::[^=\n]+)?=(?!=)")
_KEPT = re.compile(r"\s*(?:[\w.]+\.(\w+)|(\w+)\s*\[[^\]\n]*\])\s*=(?!=)")
_PASSED = ("import ", "from ", "class ", "#", "@", "def ")


def indirect_calls(
    project: Project, finder: Finder, name: str, module: PyModule, *, objects: bool = False
) -> Iterator[tuple[PyModule, cst.Call]]:
    """The calls that may run a class or function of a module through something else than its name; with ``objects``,
    those that may call an object of the class."""
    seen: set[int] = set()
    for holder, word in _objects(project, name, module) if objects else _words(project, finder, name, module):
        for path in _files(project, word, holder):
            try:
                other = project.open(path)
            except SourceError:
                continue
            for call in _calls(other.derive(FileIndex), word):
                if id(call) not in seen:
                    seen.add(id(call))
                    yield other, call
                    if len(seen) >= _MAX_CALLS:
                        return


def handing_calls(project: Project, name: str, module: PyModule) -> Iterator[tuple[PyModule, cst.Call, int | str]]:
    """The calls that are given a class or function of a module itself, ``run(fed_avg, clients)``, each with the place
    or the name by which it is given."""
    given = re.compile(rf"[(,=]\s*{re.escape(name)}\s*[,)]")
    found = 0
    for path in _files(project, name, module):
        try:
            other = project.open(path)
        except SourceError:
            continue
        if not any(name in part.source and given.search(part.source) for part in other.parsed.parts):
            continue
        for call in other.derive(FileIndex).calls_with(name):
            positional, keywords, stars = arguments_of(call)
            rows = [*(() if stars else enumerate(positional)), *keywords.items()]
            for place, value in rows:
                if isinstance(value, cst.Name) and value.value == name:
                    yield other, call, place
                    found += 1
            if found >= _MAX_HANDED:
                return


def _words(project: Project, finder: Finder, name: str, module: PyModule) -> list[tuple[PyModule, str]]:
    """The words by which a class may be got at, each with the file in which it is bound."""
    found: dict[tuple[str, str], tuple[PyModule, str]] = {}
    for path in _files(project, name, module):
        for other, word in _in_file(project, path, name):
            found.setdefault((other.path, word), (other, word))
    written = [form.encode() for form in _written(os.path.basename(module.folder))]
    beside = [form.encode() for form in _written("")]
    for importer in sorted(IMPORTERS):
        for path in finder(importer, module):
            place = os.path.abspath(path)
            own = beside if os.path.dirname(place) == module.folder else ()
            if place == module.path or not project.outside.holds(place, [importer.encode()]):
                continue
            if not project.outside.holds(place, [*written, *own]):
                continue
            try:
                other = project.open(path)
            except SourceError:
                continue
            if imports_with(other, project, module.path):
                for _, word in _in_file(project, path, importer):
                    found.setdefault((other.path, word), (other, word))
    return list(found.values())[:_MAX_WORDS]


def _objects(project: Project, name: str, module: PyModule) -> list[tuple[PyModule, str]]:
    """What objects of a class are called, each with the file in which it is: ``self.combine = FedAvg()``."""
    found: dict[tuple[str, str], tuple[PyModule, str]] = {}
    made = re.compile(rf"\b{re.escape(name)}\s*\(")
    for path in _files(project, name, module):
        try:
            other = project.open(path)
        except SourceError:
            continue
        for part in other.parsed.parts:
            for line in itertools.islice((line for line in part.source.splitlines() if name in line), _MAX_PLACES):
                bound = _BOUND.match(line)
                if bound is not None and made.search(line, bound.end()) is not None:
                    found.setdefault((other.path, bound[1]), (other, bound[1]))
    return list(found.values())[:_MAX_WORDS]


def _written(package: str) -> list[str]:
    """How a package stands before what is filled in, in the name of a module of it that is put together: what is
    written down of such a name is most often the package."""
    whole = [f"{quote}{package}{quote}" for quote in "\"'"] if package else []
    return [*(f"{package}.{after}" for after in "{%"), *(f"{package}.{quote}" for quote in "\"'"), *whole]


def _in_file(project: Project, path: str, name: str) -> Iterator[tuple[PyModule, str]]:
    try:
        module = project.open(path)
    except SourceError:
        return
    for part in module.parsed.parts:
        for word in words_for(part.source, name):
            yield module, word


def _files(project: Project, word: str, module: PyModule) -> list[str]:
    """The files that name something of a module, its own first: who takes it from there names the module too."""
    if is_notebook(module.path):
        return [module.path]
    stem = os.path.basename(module.folder) if module.is_package else os.path.splitext(os.path.basename(module.path))[0]
    others = [
        path for path in project.outside.mentioning(word, stem, module.path) if os.path.abspath(path) != module.path
    ]
    if len(others) >= _MAX_FILES:
        # Files that are called as their class is, one in each of several folders: who means this one names its folder.
        folder = [os.path.basename(module.folder).encode()]
        others.sort(key=lambda path: not project.outside.holds(os.path.abspath(path), folder))
    return [module.path, *others][:_MAX_FILES]


def words_for(text: str, name: str) -> list[str]:
    """The names that a text binds to something of a name, or to what holds it; and the functions that name it."""
    found: dict[str, None] = {}
    lines = text.splitlines()
    importer = name in IMPORTERS
    pattern = re.compile(rf"\b{re.escape(name)}\b" + ("" if importer else r"(?!\s*[(=:])"))
    places = (number for number, line in enumerate(lines) if name in line)
    alias = re.compile(rf"\b{re.escape(name)}\s+as\s+(\w+)")
    for number in itertools.islice(places, _MAX_PLACES):
        renamed = alias.search(lines[number])
        if renamed is not None:
            found[renamed[1]] = None
        if not lines[number].lstrip().startswith(_PASSED) and pattern.search(lines[number]) is not None:
            found.update(dict.fromkeys(_around(lines, number, importer)))
    found.pop(name, None)
    return [word for word in found if word not in ("self", "cls", "__init__")]


def _around(lines: list[str], number: int, importer: bool) -> Iterator[str]:
    bound = _BOUND.match(lines[number])
    if bound is not None:
        yield bound[1]
    indent = _indent(lines[number])
    place = number
    while place > 0 and indent > 0:
        place -= 1
        line = lines[place]
        if not line.strip() or _indent(line) >= indent:
            continue
        indent = _indent(line)
        head = _HEAD.match(line)
        if head is not None:
            yield head[1]
            yield from _kept_below(lines, place)
            return
        bound = _BOUND.match(line)
        if bound is not None:
            yield bound[1]
    if importer and place != number:
        # What a loop at the top of a file fills: ``for n in names: table[n] = getattr(import_module(n), "A")``.
        yield from _kept_below(lines, place)


def _kept_below(lines: list[str], place: int) -> Iterator[str]:
    """Attributes and containers that a block puts something into."""
    indent = _indent(lines[place])
    for line in lines[place + 1 :]:
        if line.strip() and _indent(line) <= indent:
            return
        kept = _KEPT.match(line)
        if kept is not None:
            yield kept[1] or kept[2]


def _is_imported(index: FileIndex, name: cst.Name) -> bool:
    """Whether an import binds a name where it is used."""
    scope: Scope | None = index.scope_of(name)
    while scope is not None:
        rows = scope.bindings.get(name.value)
        if rows and not isinstance(scope.node, cst.ClassDef):
            return all(isinstance(row.node, cst.ImportFrom) for row in rows)
        scope = scope.parent
    return False


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _calls(index: FileIndex, word: str) -> Iterator[cst.Call]:
    """The calls of a file whose function is got by a word: ``word[key](...)``, ``word(...)(...)``, or a local name."""
    pattern = re.compile(rf"\b{re.escape(word)}\b")
    for call in index.calls_with(word):
        func = call.func
        if isinstance(func, cst.Name):
            rows = index.scope_of(func).bindings.get(func.value, ())
            values = [row.value for row in rows if row.how == "value" and row.value is not None]
            if (func.value == word and (values or _is_imported(index, func))) or any(
                pattern.search(index.code(value)) for value in values
            ):
                yield call
        elif isinstance(func, cst.Attribute):
            if func.attr.value == word:
                yield call
        elif isinstance(func, (cst.Subscript, cst.Call)) and pattern.search(index.code(func)):
            yield call
