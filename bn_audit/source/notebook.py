"""Jupyter notebooks: the Python in their code cells, at the positions it has there.

A cell may hold what only IPython understands: magics (``%matplotlib inline``), shell lines (``!pip install``), help
(``model?``). They are replaced by something neutral on the same line, so that every line of the code is a line of the
cell. Where text before some code had to go (``%time model.fit()``, a cell that is indented as a whole), a shift per
line tells how far its columns moved.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from bn_audit.source.scanner import logical_line_end
from bn_audit.source.text import SourceError, normalize_newlines

__all__ = ["Cell", "read_exported", "read_notebook"]

# Cell magics that run the rest of their cell as Python in the notebook's own namespace. Any other may do anything with
# it.
_PYTHON_CELL_MAGICS = frozenset(
    [
        "capture",
        "debug",
        "ipytest",
        "lprun",
        "memit",
        "mprun",
        "prun",
        "pyinstrument",
        "scalene",
        "snakeviz",
        "time",
        "timeit",
        "wandb",
    ]
)

_CELL_MAGIC = re.compile(r"%%(\w*)")
# Help comes after a name, with attributes and subscripts of literals; `*` is a wildcard of IPython's.
_HELP = re.compile(r"[ \t]*%{0,2}[^\W\d][\w.*]*(?:\[[\w'\"-]+\][\w.*]*)*\?{1,2}[ \t]*;?[ \t]*(?:#.*)?(?=\n|$)")
_ESCAPED = re.compile(r"[ \t]*(?:[!%?]|[,;/](?=[^\W\d]))")
_TIMED_STATEMENT = re.compile(r"([ \t]*)(%time[ \t]+)(?=\S)")
_ASSIGNED = re.compile(r"([ \t]*[^\W\d][^=\n#!%()]*=[ \t]*)[!%](?!=)")
_EXPORTED = re.compile(r"^[ \t]*(?:[^\W\d]\w*[ \t]*=[ \t]*)?[!%][ \t]*[A-Za-z]", re.MULTILINE)
"""A magic or shell line: ``!pip install flwr``, ``%cd /content``, ``files = !ls``."""
_UNKNOWN_VALUE = "get_ipython()"
"""What a name gets that is assigned the output of a magic: an expression that nobody can evaluate statically."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A code cell.

    Attributes:
        number: counted from 1 over all cells, code or not.
        source: as in the notebook, but for line ends, which are ``\\n``.
        code: only Python; the same lines.
        shifts: by line, how many characters further to the right than in ``code`` the text stands in ``source``.
    """

    number: int
    source: str
    code: str
    shifts: Mapping[int, int] = field(default_factory=dict)


def read_notebook(data: bytes) -> tuple[Cell, ...]:
    """The code cells of a notebook (nbformat 1 to 4) in order; none if its language is not Python.

    Raises:
        SourceError: not JSON, or not a notebook.
    """
    notebook = _load(data)
    if not _is_python(notebook):
        return ()
    cells = []
    for number, cell in enumerate(_cells(notebook), start=1):
        source = _code_of(cell, number)
        if source is not None:
            code, shifts = _python_only(source)
            cells.append(Cell(number, source, code, shifts))
    return tuple(cells)


def read_exported(source: str) -> tuple[str, dict[int, int]] | None:
    """The Python of a module that a notebook was exported to with its magics and shell lines, as Colab does it, and the
    shifts of its lines; None if it has none of them. Only for what is no Python as it stands."""
    if _EXPORTED.search(source) is None:
        return None
    shifts: dict[int, int] = {}
    return "".join(_statements(source, shifts)), shifts


def _load(data: bytes) -> dict[str, Any]:
    if not data.strip():
        raise SourceError("the notebook is an empty file")
    try:
        notebook = json.loads(data)
    except json.JSONDecodeError as error:
        raise SourceError(f"the notebook is not valid JSON: {error.msg}", error.lineno, error.colno) from error
    except UnicodeDecodeError as error:
        raise SourceError(f"the notebook is not valid {error.encoding}: {error.reason}") from error
    except (RecursionError, ValueError) as error:  # nested too deeply, or a number with too many digits
        raise SourceError(f"the notebook is not valid JSON: {error}") from error
    if not isinstance(notebook, dict):
        raise SourceError("the notebook is not a JSON object")
    return notebook


def _is_python(notebook: dict[str, Any]) -> bool:
    """Whether the kernel runs Python. A notebook that does not say so is taken for Python, as Jupyter takes it."""
    metadata = _mapping(notebook.get("metadata"))
    kernel = _mapping(metadata.get("kernelspec"))
    languages = (_mapping(metadata.get("language_info")).get("name"), kernel.get("language"), metadata.get("language"))
    language = next((name for name in languages if isinstance(name, str) and name), "python")
    return _is_python_name(language)


def _is_python_name(language: str) -> bool:
    return language.lower() in ("python", "python3", "ipython")


def _cells(notebook: dict[str, Any]) -> list[Any]:
    cells = notebook.get("cells")
    if cells is None and isinstance(notebook.get("worksheets"), list):  # nbformat 3 and older
        cells = []
        for number, sheet in enumerate(notebook["worksheets"], start=1):
            sheet_cells = _mapping(sheet).get("cells", [])
            if not isinstance(sheet_cells, list):
                raise SourceError(f"the cells of the notebook's worksheet {number} are not a list")
            cells += sheet_cells
    if not isinstance(cells, list):
        raise SourceError("the notebook has no list of cells")
    return cells


def _code_of(cell: Any, number: int) -> str | None:
    """The source of a cell with Python code; None for any other cell."""
    if not isinstance(cell, dict):
        raise SourceError("the cell is not a JSON object", cell=number)
    if cell.get("cell_type") != "code":
        return None
    # nbformat 3 names the language in each cell, Visual Studio Code in the metadata of a cell that differs.
    languages = (cell.get("language"), _mapping(_mapping(cell.get("metadata")).get("vscode")).get("languageId"))
    if not all(_is_python_name(language) for language in languages if isinstance(language, str)):
        return None
    source = cell.get("source", cell.get("input", ""))
    if isinstance(source, list) and all(isinstance(line, str) for line in source):
        source = "".join(source)
    if not isinstance(source, str):
        raise SourceError("the source of the cell is neither a string nor a list of strings", cell=number)
    return normalize_newlines(source)


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _python_only(source: str) -> tuple[str, dict[int, int]]:
    """The Python of a cell, each line of it where it was, and the shifts of lines whose beginning was cut off."""
    shifts: dict[int, int] = {}
    start = _first_statement(source)
    while (magic := _CELL_MAGIC.match(source, start)) is not None:  # one may run another
        if magic[1] not in _PYTHON_CELL_MAGICS:
            return "\n" * source.count("\n"), shifts
        source = source[:start] + source[_line_end(source, start) :]
        start = _first_statement(source)
    return "".join(_statements(_dedent(source, shifts), shifts)), shifts


def _statements(source: str, shifts: dict[int, int]) -> Iterator[str]:
    """The logical lines of a cell, what is not Python replaced. ``shifts`` is added to."""
    position = 0
    line = 1
    while position < len(source):
        timed = _TIMED_STATEMENT.match(source, position)
        if timed is not None:
            yield timed[1]
            shifts[line] = shifts.get(line, 0) + len(timed[2])
            position = timed.end()
        if _ESCAPED.match(source, position) or _HELP.match(source, position):
            end = _escaped_end(source, position)
            indent = source[position:end][: _indent(source[position:end])]
            yield f"{indent}pass" + "\n" * source.count("\n", position, end)
        elif (assigned := _ASSIGNED.match(source, position)) is not None:
            end = _escaped_end(source, position)
            yield assigned[1] + _UNKNOWN_VALUE + "\n" * source.count("\n", position, end)
        else:
            end = logical_line_end(source, position)
            yield source[position:end]
        line += source.count("\n", position, end)
        position = end


def _dedent(source: str, shifts: dict[int, int]) -> str:
    """A cell that begins indented, as IPython reads it: without that indentation in every line that has it."""
    start = _first_statement(source)
    width = _indent(source[start : _line_end(source, start)])
    if width == 0:
        return source
    indent = source[start : start + width]
    lines = source.split("\n")
    for number, line in enumerate(lines, start=1):
        if line.startswith(indent):
            lines[number - 1] = line[width:]
            shifts[number] = width
    return "\n".join(lines)


def _first_statement(source: str) -> int:
    """Where the first line that is not blank begins."""
    text = len(source) - len(source.lstrip())
    return source.rfind("\n", 0, text) + 1


def _line_end(source: str, start: int) -> int:
    end = source.find("\n", start)
    return len(source) if end < 0 else end


def _escaped_end(source: str, start: int) -> int:
    """Where a magic or shell line that begins at ``start`` ends; a backslash continues it."""
    end = _line_end(source, start)
    while end < len(source) and source[end - 1 : end] == "\\":
        end = _line_end(source, end + 1)
    return min(end + 1, len(source))


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" \t"))
