"""From bytes to libcst's tree, for a module or for a notebook's cells, without ever harming the process.

Each cell of a notebook is parsed alone, so that a broken one is reported alone; the statements of all of them make one
module, because names flow from cell to cell.
"""

from __future__ import annotations

import ast
import re
import tokenize
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bn_audit.site import Unreadable
from bn_audit.source.deep_stack import run_with_deep_stack
from bn_audit.source.notebook import Cell, read_exported, read_notebook
from bn_audit.source.scanner import check_length, check_size
from bn_audit.source.text import SourceError, decode

if TYPE_CHECKING:
    import libcst

    from bn_audit.source.suite import LazySuite

__all__ = ["ParsedFile", "Part", "is_notebook", "parse", "run_with_deep_stack"]

_LIBCST_POSITION = re.compile(r"error at (\d+):(\d+)")
_SURROGATE = re.compile("[\ud800-\udfff]")
_INDENTED_BY_A_TAB = re.compile(r"^ *\t", re.MULTILINE)
_LEADING_FORM_FEED = re.compile(r"^[ \t\f]*\f", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Part:
    """A parsed module, or one parsed cell of a notebook.

    Attributes:
        cell: the cell's number; None for a module.
        source: the text as people see it, with ``\\n`` line ends.
        module: its tree.
        shifts: by line, how many characters further to the right than in the tree the text stands in ``source``.
        suites: the bodies of functions that are parsed only when somebody looks into them, in order; ``module`` is then
            the tree of a sketch.
    """

    cell: int | None
    source: str
    module: libcst.Module
    shifts: Mapping[int, int] = field(default_factory=dict)
    suites: tuple[LazySuite, ...] = ()


@dataclass(frozen=True, slots=True)
class ParsedFile:
    """A parsed file.

    Attributes:
        path: as given.
        parts: one for a module; one a readable code cell, in order, for a notebook.
        module: the statements of all parts; the very nodes of the parts.
        unreadable: the cells that could not be parsed.
    """

    path: str
    parts: tuple[Part, ...]
    module: libcst.Module
    unreadable: tuple[Unreadable, ...] = ()


def is_notebook(path: str) -> bool:
    """Whether a file is read as a notebook."""
    return path.lower().endswith(".ipynb")


def parse(path: str, data: bytes, *, lazily: bool = False) -> ParsedFile:
    """Parse the bytes of a file, a notebook if its name says so.

    Args:
        lazily: leave the bodies of a module's functions until somebody looks into them. Whether libcst can parse them
            is not known before; if it cannot, looking raises :class:`~bn_audit.source.suite.UnreadableBody`.

    Raises:
        SourceError: the file as a whole cannot be read. A broken cell is no error: it is listed in the result.
    """
    return run_with_deep_stack(
        lambda: _parse_notebook(path, data) if is_notebook(path) else _parse_module(path, data, lazily)
    )


def _parse_module(path: str, data: bytes, lazily: bool) -> ParsedFile:
    text = decode(data).normalized
    part = _parse_sketch(path, text) if lazily else None
    if part is not None:
        return ParsedFile(path, (part,), part.module)
    try:
        module, shifts = _tree(text)
    except SourceError:
        exported = read_exported(text)
        if exported is None:
            raise
        try:
            module, moved = _tree(exported[0])
        except SourceError:
            pass
        else:
            lines = exported[1].keys() | moved.keys()
            both = {line: exported[1].get(line, 0) + moved.get(line, 0) for line in lines}
            return ParsedFile(path, (Part(None, text, module, both),), module)
        raise  # as of what it was taken for at first
    return ParsedFile(path, (Part(None, text, module, shifts),), module)


def _parse_sketch(path: str, text: str) -> Part | None:
    """A module without the bodies of its functions; None if it has to be parsed as a whole."""
    from bn_audit.source.libcst_parser import parse_module
    from bn_audit.source.sketch import sketch
    from bn_audit.source.suite import install

    check_size(text)
    rest = sketch(text)
    if rest is None:
        return None
    try:
        module = parse_module(rest.text)
    except BaseException as error:
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            return None
        raise
    suites = install(module, rest.bodies, path)
    return None if suites is None else Part(None, text, module, {}, tuple(suites))


def _parse_notebook(path: str, data: bytes) -> ParsedFile:
    import libcst

    parts = []
    unreadable = []
    cells = read_notebook(data)
    check_length([cell.code for cell in cells])
    for cell in cells:
        try:
            parts.append(_part(cell))
        except SourceError as error:
            unreadable.append(error.at(path))
    module = libcst.Module(body=[statement for part in parts for statement in part.module.body])
    return ParsedFile(path, tuple(parts), module, tuple(unreadable))


def _part(cell: Cell) -> Part:
    try:
        module, shifts = _tree(cell.code)
    except SourceError as error:
        column = error.column + cell.shifts.get(error.line, 0)
        raise SourceError(error.reason, error.line, column, cell.number) from error
    lines = cell.shifts.keys() | shifts.keys()
    both = {line: cell.shifts.get(line, 0) + shifts.get(line, 0) for line in lines}
    return Part(cell.number, cell.source, module, both)


def _tree(text: str) -> tuple[libcst.Module, dict[int, int]]:
    """The tree of a text with ``\\n`` line ends, and the shifts of lines that libcst moved."""
    import libcst

    from bn_audit.source.libcst_parser import parse_module

    check_size(text)
    # Only escapes in a notebook's JSON and a few codecs yield lone surrogates; libcst takes UTF-8 and could not.
    text = _SURROGATE.sub("\ufffd", text)
    moved: dict[int, int] = {}
    try:
        try:
            module = parse_module(text)
        except libcst.ParserSyntaxError:
            blanks = _indented_by_blanks(text)
            if blanks is None:
                raise
            text, moved = blanks
            module = parse_module(text)
    except libcst.ParserSyntaxError as error:
        raise _syntax_error(text, error) from error
    except (RecursionError, MemoryError) as error:
        raise SourceError("the source is nested too deeply to be parsed") from error
    except BaseException as error:
        # A panic in libcst's Rust code arrives as an exception that is no Exception.
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            raise SourceError(f"libcst {_libcst_version()} cannot parse this: {_first_line(error)}") from error
        raise
    return module, moved or (_form_feed_shifts(text, module) if "\f" in text else {})


def _indented_by_blanks(text: str) -> tuple[str, dict[int, int]] | None:
    """A text whose lines are indented by blanks alone, and how much further to the left they stood; None if tabs are
    not what libcst has against it.

    libcst wants a block to begin with the very characters that the block around it begins with. CPython counts columns,
    a tab up to the next multiple of eight, and is content if tabs of one would give the same blocks.
    """
    if _INDENTED_BY_A_TAB.search(text) is None:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(text)
        rows = iter([f"{row}\n" for row in text.split("\n")])
        inside = {
            line
            for token in tokenize.generate_tokens(rows.__next__)
            if token.start[0] < token.end[0] and token.type not in (tokenize.NEWLINE, tokenize.NL)
            for line in range(token.start[0] + 1, token.end[0] + 1)
        }
    except (SyntaxError, tokenize.TokenError, RecursionError, MemoryError, ValueError):
        return None
    lines = text.split("\n")
    shifts: dict[int, int] = {}
    for number, line in enumerate(lines, start=1):
        bare = line.lstrip(" \t")
        indent = line[: len(line) - len(bare)]
        if "\t" in indent and number not in inside:
            lines[number - 1] = indent.expandtabs() + bare
            shifts[number] = len(indent) - len(indent.expandtabs())
    return "\n".join(lines), shifts


def _syntax_error(text: str, error: libcst.ParserSyntaxError) -> SourceError:
    """What CPython says about the text, which is better placed and better worded than what libcst says.

    libcst reads a newer grammar than an old interpreter does, never the reverse, or so it intends: if CPython finds no
    fault, then libcst is at fault, and the reason says so.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(text)
    except SyntaxError as refused:
        return SourceError(refused.msg, refused.lineno or 1, max(refused.offset or 1, 1))
    except (RecursionError, MemoryError, ValueError):
        reason = "invalid syntax"
    else:
        reason = f"libcst {_libcst_version()} cannot parse this"
    position = _LIBCST_POSITION.search(error.message)
    line = int(position[1]) if position is not None else error.raw_line
    return SourceError(reason, line, 1)


def _form_feed_shifts(text: str, module: libcst.Module) -> dict[int, int]:
    """libcst drops a form feed among the white space before a statement, which moves the line to the left."""
    if not _LEADING_FORM_FEED.search(text):
        return {}
    lines, parsed = text.split("\n"), module.code.split("\n")
    if len(lines) != len(parsed):
        return {}
    pairs = enumerate(zip(lines, parsed, strict=True), start=1)
    return {number: len(line) - len(shorter) for number, (line, shorter) in pairs if len(line) != len(shorter)}


def _libcst_version() -> str:
    from libcst import LIBCST_VERSION

    return LIBCST_VERSION


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0]
