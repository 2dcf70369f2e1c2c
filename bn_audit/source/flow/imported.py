"""Modules that are imported by a name put together at run time, and what is picked in them.

``importlib.import_module(f"servers.{args.method}")`` may be any module of a folder, and ``getattr(module, name)`` any
of its classes. A program that finds its parts in this way can run each of them: all are taken, as far as the parts of
the names that are written down tell.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import libcst as cst

from bn_audit.source.flow.index import FileIndex, arguments_of
from bn_audit.source.flow.values import Imported
from bn_audit.source.nodes import dotted_name
from bn_audit.source.text import SourceError

if TYPE_CHECKING:
    from bn_audit.source.project import Project, PyModule

__all__ = ["IMPORTERS", "imports_of", "imports_with", "picked_in", "text_with_holes"]

Text = tuple[str | None, ...]
"""A text, as far as it is written down; None stands for what is not."""

IMPORTERS = frozenset(["import_module", "__import__"])
"""Functions that import a module by its name."""
_MAX_MODULES = 40
"""Modules of a folder that are looked at."""
_MAX_PICKED = 3
"""Classes of one module that may be picked, where nothing written tells which."""
_MAX_DEPTH = 6
_WORD = r"[A-Za-z0-9_]+"


def text_with_holes(index: FileIndex, node: cst.CSTNode, depth: int = 0) -> Text:
    """The text that an expression makes: ``"servers." + name`` gives ``("servers.", None)``."""
    if isinstance(node, cst.SimpleString):
        value = node.evaluated_value
        return (value,) if isinstance(value, str) else (None,)
    if isinstance(node, cst.ConcatenatedString):
        return (*text_with_holes(index, node.left, depth), *text_with_holes(index, node.right, depth))
    if isinstance(node, cst.FormattedString):
        return tuple(part.value if isinstance(part, cst.FormattedStringText) else None for part in node.parts)
    if isinstance(node, cst.BinaryOperation) and isinstance(node.operator, cst.Add):
        return (*text_with_holes(index, node.left, depth), *text_with_holes(index, node.right, depth))
    if isinstance(node, cst.BinaryOperation) and isinstance(node.operator, cst.Modulo):
        return _filled(text_with_holes(index, node.left, depth), r"%[sdr]")
    if isinstance(node, cst.Call) and isinstance(node.func, cst.Attribute) and node.func.attr.value == "format":
        return _filled(text_with_holes(index, node.func.value, depth), r"\{\w*\}")
    if isinstance(node, cst.Name) and depth < _MAX_DEPTH:
        rows = [row for row in index.scope_of(node).bindings.get(node.value, ()) if row.region is None]
        if len(rows) == 1 and rows[0].how == "value" and not rows[0].path and rows[0].value is not None:
            return text_with_holes(index, rows[0].value, depth + 1)
    return (None,)


def _filled(text: Text, place: str) -> Text:
    """A text whose marked places are filled with what is not known."""
    found: list[str | None] = []
    for part in text:
        for number, piece in enumerate(re.split(place, part) if part is not None else [None]):
            if number:
                found.append(None)
            found.append(piece)
    return tuple(found)


def imports_of(project: Project, index: FileIndex, call: cst.Call) -> Imported | None:
    """The modules of the project that a call of ``import_module`` may import; None if none can be told."""
    positional, keywords, _ = arguments_of(call)
    name = positional[0] if positional else keywords.get("name")
    if name is None:
        return None
    text = text_with_holes(index, name)
    first = text[0] or ""
    # Without a beginning it may be any module at all.
    if "." not in first or not any(part is None for part in text):
        return None
    package = positional[1] if len(positional) > 1 else keywords.get("package")
    folder, rest = _folder(project, index, first, package)
    if folder is None:
        return None
    names = tuple(_matching(project, folder, (rest, *text[1:])))
    return Imported(names) if names else None


def imports_with(module: PyModule, project: Project, path: str) -> list[cst.Call]:
    """The calls of a file that may import another file of the project by a name that is put together."""
    index = module.derive(FileIndex)
    found: list[cst.Call] = []
    for name in sorted(IMPORTERS):
        for call in index.calls_of(name):
            row = imports_of(project, index, call)
            if row is not None and any(os.path.abspath(other) == path for other, _ in row.files):
                found.append(call)
    return found


def _folder(
    project: Project, index: FileIndex, first: str, package: cst.BaseExpression | None
) -> tuple[str | None, str]:
    """The folder in which the first part that is not written down is looked for, and what is written before it."""
    module = index.module
    before, _, rest = first.rpartition(".")
    if not first.startswith("."):
        return _package(project, before, module), rest
    dots = len(first) - len(first.lstrip("."))
    inner = before.strip(".")
    base: str | None = module.folder
    given = text_with_holes(index, package) if package is not None else (None,)
    if len(given) == 1 and given[0] is not None:
        base = _package(project, given[0], module)
    elif package is None or dotted_name(package) not in ("__package__", "__name__"):
        return None, rest
    for _ in range(dots - 1):
        base = os.path.dirname(base) if base is not None else None
    return (os.path.join(base, *inner.split(".")) if base is not None and inner else base), rest


def _package(project: Project, name: str, module: PyModule) -> str | None:
    if project.is_external(name.partition(".")[0]):
        return None
    found = project.find(name, module)
    if found is not None:
        return found.folder if found.is_package else None
    return project.namespace(name, module)


def _matching(project: Project, folder: str, text: Text) -> Iterator[tuple[str, str]]:
    """The files in a folder whose names a text may be, each with what stands for the first part that is not written."""
    ends = [number for number, part in enumerate(text) if part is not None and "." in part]
    own = text if not ends else (*text[: ends[0]], (text[ends[0]] or "").partition(".")[0])
    further = [(text[ends[0]] or "").partition(".")[2], *text[ends[0] + 1 :]] if ends else []
    if any(part is None for part in further):
        return
    inner = "".join(part or "" for part in further)
    pattern = re.compile(
        "".join(re.escape(part) if part is not None else f"({_WORD})" for part in own if part != ""), re.IGNORECASE
    )
    count = 0
    for entry in project.outside.entries(folder, (".py",) if not inner else ("",)):
        stem, ending = os.path.splitext(entry)
        found = pattern.fullmatch(stem)
        if found is None or stem.startswith("__") or (inner and ending):
            continue
        path = os.path.join(folder, entry, *inner.split(".")) + ".py" if inner else os.path.join(folder, entry)
        if inner and not project.outside.is_file(path):
            continue
        yield path, found[1] if found.groups() else stem
        count += 1
        if count >= _MAX_MODULES:
            return


def picked_in(project: Project, imported: Imported, name: Text) -> Iterator[tuple[PyModule, cst.ClassDef]]:
    """The classes that modules define of which a name may be one; one that goes by its module's name is taken first."""
    for path, word in imported.files:
        try:
            module = project.open(path)
        except SourceError:
            continue
        rows = [row for row in module.body if isinstance(row, cst.ClassDef)]
        for row in _named(rows, name, word):
            yield module, row


def _named(rows: Sequence[cst.ClassDef], name: Text, word: str) -> Sequence[cst.ClassDef]:
    if all(part is not None for part in name):
        return [row for row in rows if row.name.value == "".join(part or "" for part in name)]
    wanted = "".join(word if part is None else part for part in name)
    like = [row for row in rows if _plain(row.name.value) == _plain(wanted)]
    if like:
        return like
    pattern = re.compile("".join(re.escape(part) if part is not None else _WORD for part in name), re.IGNORECASE)
    like = [row for row in rows if pattern.fullmatch(row.name.value)]
    return like if len(like) <= _MAX_PICKED else []


def _plain(name: str) -> str:
    return name.replace("_", "").lower()
