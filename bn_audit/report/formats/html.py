"""A page for people: each finding with its source and evidence, filtered by rule, file and words.

It needs jinja2, which is not among what every installation has: the command line sees to that before it writes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from bn_audit.report.formats.text import finding_lines, footer
from bn_audit.report.model import Report, View
from bn_audit.report.pages import page
from bn_audit.report.words import position, printable

__all__ = ["render"]


def render(report: Report, view: View) -> Iterator[str]:
    """The page, whole in one file."""
    plain = view._replace(color=False)
    rules = Counter((finding.code, finding.name) for finding in report.findings)
    files = Counter(finding.location.path for finding in report.findings)
    values: dict[str, object] = {
        "title": "bn-audit scan",
        "version": report.version,
        "summary": " ".join(footer(report)),
        "rules": [{"code": code, "name": name, "count": number} for (code, name), number in sorted(rules.items())],
        "files": [{"path": printable(path), "count": number} for path, number in sorted(files.items())],
        "problems": [printable(problem) for problem in report.problems],
        "findings": [
            {
                "code": finding.code,
                "name": finding.name,
                "severity": finding.severity.value,
                "path": printable(finding.location.path),
                "position": position(finding.location),
                "message": printable(finding.message),
                "fixable": report.fixes(finding),
                # The first line is what stands above it on the page.
                "frames": "\n".join(list(finding_lines(finding, plain, fixable=False))[1:]),
            }
            for finding in report.findings
        ],
    }
    yield page("scan", values).rstrip("\n")
