"""JSON for programs. The schema lies beside this package's modules: ``schema.json``, version 1."""

from __future__ import annotations

import json
from collections.abc import Iterator

from bn_audit.finding import Evidence, Finding, Fix, Severity
from bn_audit.report.model import Report, View

__all__ = ["VERSION", "as_data", "render", "statistics"]

VERSION = 1


def render(report: Report, view: View) -> Iterator[str]:
    """The whole report as one object. ASCII only, so that every path survives every encoding."""
    yield json.dumps(
        {
            "version": VERSION,
            "findings": [as_data(finding) for finding in report.findings],
            "problems": list(report.problems),
            "summary": _summary(report),
        },
        indent=2,
    )


def statistics(report: Report, view: View) -> Iterator[str]:
    """How often each rule spoke, sorted by code."""
    rules: dict[str, dict[str, object]] = {}
    counts: dict[str, int] = {}
    for finding in report.findings:
        rules.setdefault(finding.code, {"code": finding.code, "name": finding.name})
        counts[finding.code] = counts.get(finding.code, 0) + 1
    rows = [{**rules[code], "count": counts[code]} for code in sorted(rules)]
    data = {"version": VERSION, "statistics": rows, "problems": list(report.problems), "summary": _summary(report)}
    yield json.dumps(data, indent=2)


def _summary(report: Report) -> dict[str, int]:
    return {
        "files": report.files,
        "parsed": report.parsed,
        "errors": report.count(Severity.ERROR),
        "warnings": report.count(Severity.WARNING),
        "infos": report.count(Severity.INFO),
        "fixable": report.fixable,
        "suppressed": report.suppressed,
        "baselined": report.baselined,
    }


def as_data(finding: Finding) -> dict[str, object]:
    """A finding as the schema has it."""
    location = finding.location
    return {
        "code": finding.code,
        "name": finding.name,
        "severity": finding.severity.value,
        "message": finding.message,
        "path": location.path,
        "line": location.line,
        "column": location.column,
        "end_line": location.end_line,
        "end_column": location.end_column,
        "cell": location.cell,
        "evidence": [_evidence(evidence) for evidence in finding.evidence],
        "help": finding.help,
        "fix": None if finding.fix is None else _fix(finding.fix),
    }


def _evidence(evidence: Evidence) -> dict[str, object]:
    location = evidence.location
    return {
        "path": location.path,
        "line": location.line,
        "column": location.column,
        "cell": location.cell,
        "message": evidence.message,
    }


def _fix(fix: Fix) -> dict[str, object]:
    return {
        "applicability": fix.applicability.value,
        "message": fix.message,
        "edits": [
            {
                "line": edit.line,
                "column": edit.column,
                "end_line": edit.end_line,
                "end_column": edit.end_column,
                "content": edit.content,
            }
            for edit in fix.edits
        ],
    }
