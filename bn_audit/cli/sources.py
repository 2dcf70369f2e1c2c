"""The source that a report shows: lines of files, and of the program that was read from stdin."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bn_audit.finding import Location

__all__ = ["Sources"]


class Sources:
    """Reads what a report asks for, when it asks. ``stdin`` is the name and content of the program read there."""

    def __init__(self, stdin: tuple[str, bytes] | None = None) -> None:
        self._stdin = stdin
        self._raw: dict[str, str] = {}

    def excerpt(self, path: str, cell: int | None, line: int) -> str | None:
        """A line of source, without its end; None if there is none."""
        if self._stdin is None or path != self._stdin[0]:
            from bn_audit.source.positions import excerpt

            return excerpt(path, cell, line)
        lines = self._lines.get(cell, ())
        return lines[line - 1] if 1 <= line <= len(lines) else None

    def in_file(self, location: Location) -> Location:
        """Where a stretch of a notebook's cell stands in its file; a stretch of another file stays as it is."""
        if location.cell is None:
            return location
        from bn_audit.finding import Location
        from bn_audit.fix.edits import EditError
        from bn_audit.fix.raw_notebook import place

        raw = self._notebook(location.path)
        try:
            if not raw:
                raise EditError("it cannot be read any more")
            line, column = place(raw, location.cell, location.line, location.column)
            end_line, end_column = place(raw, location.cell, location.end_line, location.end_column)
        except EditError:
            return Location(location.path, 1, 1, 1, 1)
        return Location(location.path, line, column, end_line, end_column)

    def _notebook(self, path: str) -> str:
        """The JSON text of a notebook; empty if it cannot be read."""
        import json

        from bn_audit.fix.contents import notebook_text
        from bn_audit.source.text import SourceError, read_bytes

        if path not in self._raw:
            try:
                data = self._stdin[1] if self._stdin is not None and path == self._stdin[0] else read_bytes(path)
                self._raw[path] = notebook_text(data)
                json.loads(self._raw[path])
            except (SourceError, ValueError, RecursionError):
                self._raw[path] = ""
        return self._raw[path]

    @cached_property
    def _lines(self) -> dict[int | None, tuple[str, ...]]:
        """The lines of the program from stdin, by cell."""
        from bn_audit.source.positions import source_lines

        assert self._stdin is not None
        return source_lines(*self._stdin)
