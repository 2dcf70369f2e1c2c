"""GitLab's code quality report, a subset of Code Climate's format: an array of issues.

GitLab compares the reports of two branches by the fingerprints of the issues, so that one must stay while the lines
above its issue move, and must be there only once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

from bn_audit.finding import Finding, Severity
from bn_audit.fingerprint import Fingerprint, fingerprints
from bn_audit.report.model import Report, View
from bn_audit.report.words import forward, in_cell, printable

__all__ = ["render"]

_SEVERITIES = {Severity.ERROR: "critical", Severity.WARNING: "major", Severity.INFO: "info"}


def render(report: Report, view: View) -> Iterator[str]:
    """The whole report as one array, an empty one if nothing was found. ASCII only."""
    prints = fingerprints(report.findings, view.excerpt)
    yield json.dumps([_issue(*pair, view) for pair in zip(report.findings, prints, strict=True)], indent=2)


def _issue(finding: Finding, fingerprint: Fingerprint, view: View) -> dict[str, object]:
    place = view.in_file(finding.location)
    return {
        "description": f"{finding.code}: {in_cell(finding.location, printable(finding.message))}",
        "check_name": finding.code,
        "fingerprint": _unique(finding.location.path, fingerprint),
        "severity": _SEVERITIES[finding.severity],
        "location": {
            "path": _path(place.path),
            "lines": {"begin": place.line, "end": place.end_line},
        },
    }


def _unique(path: str, fingerprint: Fingerprint) -> str:
    parts = forward(path), fingerprint.code, fingerprint.digest, str(fingerprint.number)
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()


def _path(path: str) -> str:
    """The path as it is; a byte that is not UTF-8, for which JSON's readers have no letter, comes as an escape."""
    return forward(path).encode("utf-8", "backslashreplace").decode()
