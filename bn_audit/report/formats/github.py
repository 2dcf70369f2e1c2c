"""Workflow commands of GitHub Actions: each finding becomes an annotation at its line.

A command is one line. What GitHub's own toolkit escapes is escaped: in the message a percent sign and line ends, in a
property also the colon and the comma that would end it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from bn_audit.finding import Finding, Severity
from bn_audit.report.model import Report, View
from bn_audit.report.words import forward, in_cell, position, printable, sentence

__all__ = ["render"]

_UNFIT = re.compile("[\x00-\x09\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but line ends, what turns the direction of text, and lone surrogates: bytes that are no UTF-8."""
_COMMANDS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "notice"}


def render(report: Report, view: View) -> Iterator[str]:
    """A command for each finding; nothing if there are none."""
    for finding in report.findings:
        properties = ",".join(f"{key}={_property(value)}" for key, value in _properties(finding, view).items())
        yield f"::{_COMMANDS[finding.severity]} {properties}::{_data(_message(finding))}"


def _properties(finding: Finding, view: View) -> dict[str, str]:
    place = view.in_file(finding.location)
    found = {
        "title": f"{finding.code} {finding.name}",
        "file": _file(place.path),
        "line": str(place.line),
        "endLine": str(place.end_line),
    }
    if place.line == place.end_line:  # GitHub takes columns within one line only.
        found |= {"col": str(place.column), "endColumn": str(place.end_column)}
    return found


def _message(finding: Finding) -> str:
    """What is wrong, what to do, and the trail, as GitHub shows it below the line."""
    lines = [in_cell(finding.location, printable(sentence(finding.message)))]
    if finding.help is not None:
        lines.append(f"help: {printable(finding.help)}")
    lines += [f"{position(step.location)}: {printable(step.message)}" for step in finding.evidence]
    return "\n".join(lines)


def _file(path: str) -> str:
    """The path as it is, for GitHub must find the file, but for what would harm the log."""
    return _UNFIT.sub(lambda match: printable(match[0]), forward(path))


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
