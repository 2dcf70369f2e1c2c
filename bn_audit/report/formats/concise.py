"""One line for each finding, for editors, ``grep`` and logs."""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.report.formats.text import MARK, footer, statistics
from bn_audit.report.model import Report, View
from bn_audit.report.words import position, printable

__all__ = ["render", "statistics"]


def render(report: Report, view: View) -> Iterator[str]:
    """``path:line:column: CODE name [severity] message``, ``[*]`` before a message whose finding ``--fix`` mends; a
    footer."""
    for finding in report.findings:
        yield (
            f"{position(finding.location)}: {finding.code} {finding.name} "
            f"[{finding.severity.value}] {MARK + ' ' if report.fixes(finding) else ''}{printable(finding.message)}"
        )
    if view.footer:
        yield from footer(report)
