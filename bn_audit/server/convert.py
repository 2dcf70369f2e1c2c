"""Findings in the words of the Language Server Protocol: positions in UTF-16 units that count from 0."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from lsprotocol import types
from pygls.uris import from_fs_path

from bn_audit.finding import Edit, Finding, Location, Severity

__all__ = ["diagnostic", "edit", "line_of", "to_range", "to_uri", "whole"]

Lines = Callable[[str], Sequence[str]]
"""The lines of a file by its absolute path; none if it cannot be read."""

_SEVERITIES = {
    Severity.ERROR: types.DiagnosticSeverity.Error,
    Severity.WARNING: types.DiagnosticSeverity.Warning,
    Severity.INFO: types.DiagnosticSeverity.Information,
}


def to_uri(path: str) -> str:
    """The URI of a file."""
    return from_fs_path(os.path.abspath(path)) or ""


def diagnostic(finding: Finding, lines: Lines) -> types.Diagnostic:
    """A finding, its evidence as related information."""
    help_ = f"\n{finding.help}" if finding.help else ""
    return types.Diagnostic(
        range=to_range(finding.location, lines),
        severity=_SEVERITIES[finding.severity],
        code=finding.code,
        source="bn-audit",
        message=f"{finding.message}{help_}",
        related_information=[
            types.DiagnosticRelatedInformation(
                location=types.Location(uri=to_uri(step.location.path), range=to_range(step.location, lines)),
                message=step.message,
            )
            for step in finding.evidence
            if step.location.cell is None
        ],
    )


def to_range(place: Location, lines: Lines) -> types.Range:
    """A stretch of source. ``place`` counts characters from 1."""
    rows = lines(os.path.abspath(place.path))
    return types.Range(
        start=_position(rows, place.line, place.column), end=_position(rows, place.end_line, place.end_column)
    )


def edit(change: Edit, rows: Sequence[str]) -> types.TextEdit:
    """One edit of a fix."""
    return types.TextEdit(
        range=types.Range(
            start=_position(rows, change.line, change.column), end=_position(rows, change.end_line, change.end_column)
        ),
        new_text=change.content,
    )


def whole(before: Sequence[str], after: Sequence[str]) -> list[types.TextEdit]:
    """The edits of lines that make one text the other; the two have the same number of lines."""
    return [
        types.TextEdit(
            range=types.Range(
                start=types.Position(line=number, character=0),
                end=types.Position(line=number, character=_units(old)),
            ),
            new_text=new,
        )
        for number, (old, new) in enumerate(zip(before, after, strict=True))
        if old != new
    ]


def line_of(place: types.Range) -> int:
    """The line a range begins in, counted from 1."""
    return place.start.line + 1


def _position(rows: Sequence[str], line: int, column: int) -> types.Position:
    text = rows[line - 1] if 1 <= line <= len(rows) else ""
    return types.Position(line=max(line - 1, 0), character=_units(text[: column - 1]))


def _units(text: str) -> int:
    """The length of a text in UTF-16 code units."""
    return len(text) + sum(ord(character) > 0xFFFF for character in text)
