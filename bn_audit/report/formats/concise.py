"""One line for each finding, for editors, ``grep`` and logs."""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.report.formats.text import footer, statistics
from bn_audit.report.model import Report, View
from bn_audit.report.words import position, printable

__all__ = ["render", "statistics"]


def render(report: Report, view: View) -> Iterator[str]:
    """``path:line:column: CODE name [severity] message``, and a footer with the counts."""
    for finding in report.findings:
        yield (
            f"{position(finding.location)}: {finding.code} {finding.name} "
            f"[{finding.severity.value}] {printable(finding.message)}"
        )
    if view.footer:
        yield footer(report)
