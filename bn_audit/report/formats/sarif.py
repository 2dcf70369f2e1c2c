"""SARIF 2.1.0, for GitHub's code scanning, editors and whatever else reads it.

Every result has a place in a file, for GitHub refuses an upload that holds one without; a cell of a notebook is told in
the message. The evidence is in ``relatedLocations``, and the message links to it, else GitHub would not show it.
GitHub computes the fingerprint ``primaryLocationLineHash`` by itself; ours has a key of its own.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from bn_audit.finding import Applicability, Evidence, Finding, Fix, Location, Severity, Silenced
from bn_audit.fingerprint import Fingerprint, fingerprints
from bn_audit.report.model import Report, View
from bn_audit.report.words import forward, in_cell, printable, sentence

if TYPE_CHECKING:
    from bn_audit.rules.rule import Rule

__all__ = ["render"]

FINGERPRINT = "bnAuditSource/v1"
BASE = "%SRCROOT%"
_LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}
_PROBLEM_SEVERITIES = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "recommendation"}
_TAGS = ["batch-normalization", "correctness", "federated-learning", "pytorch"]
_LONGEST = 1024
"""Characters that GitHub takes of a rule's description and help."""

Data = dict[str, Any]


def render(report: Report, view: View) -> Iterator[str]:
    """The whole report as one run. ASCII only."""
    yield json.dumps(_log(report, view), indent=2)


def _log(report: Report, view: View) -> Data:
    silenced = {id(one.finding): one for one in report.silenced}
    findings = sorted([*report.findings, *(one.finding for one in report.silenced)], key=_order)
    rules = _rules({finding.code for finding in findings})
    indexes = {rule["id"]: index for index, rule in enumerate(rules)}
    results = []
    for finding, fingerprint in zip(findings, fingerprints(findings, view.excerpt), strict=True):
        result = _result(finding, indexes, fingerprint, view)
        if silenced:  # All results of a run must have this, or none.
            result["suppressions"] = _suppressions(silenced.get(id(finding)))
        results.append(result)
    run = {
        "tool": {"driver": {"name": "bn-audit", "version": report.version, "rules": rules}},
        "invocations": [_invocation(report)],
        "originalUriBaseIds": {BASE: {"description": {"text": "The folder that bn-audit was run in."}}},
        "columnKind": "unicodeCodePoints",
        "results": results,
    }
    return {"$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0", "runs": [run]}


def _order(finding: Finding) -> tuple[str, int, int, int, str]:
    place = finding.location
    return place.path, place.cell or 0, place.line, place.column, finding.code


def _rules(codes: Iterable[str]) -> list[Data]:
    """What is known of the rules that have something to say."""
    from bn_audit.rules import catalogue

    known = catalogue()
    return [_rule(known[code]) for code in sorted(codes)]


def _rule(rule: Rule[Any]) -> Data:
    from bn_audit.rules.page import page

    return {
        "id": rule.code,
        "name": rule.name,
        "shortDescription": {"text": sentence(rule.summary)},
        "fullDescription": {"text": _shortened(rule.finds)},
        "help": {"text": _shortened(rule.remedy), "markdown": page(rule)},
        "defaultConfiguration": {"level": _LEVELS[rule.severity]},
        "properties": {
            "precision": "high",
            "problem.severity": _PROBLEM_SEVERITIES[rule.severity],
            "tags": _TAGS,
        },
    }


def _shortened(markdown: str) -> str:
    """A text in one line, cut between words where it is too long."""
    text = " ".join(markdown.split())
    if len(text) <= _LONGEST:
        return text
    return f"{text[: _LONGEST - 3].rpartition(' ')[0]}..."


def _invocation(report: Report) -> Data:
    notes = [{"level": "error", "message": {"text": _plain(problem)}} for problem in report.problems]
    return {
        "executionSuccessful": report.status in (0, 1),
        "exitCode": report.status,
        "toolExecutionNotifications": notes,
    }


def _result(finding: Finding, indexes: Mapping[str, int], fingerprint: Fingerprint, view: View) -> Data:
    result: Data = {
        "ruleId": finding.code,
        "ruleIndex": indexes[finding.code],
        "level": _LEVELS[finding.severity],
        "message": {"text": _message(finding)},
        "locations": [{"physicalLocation": _physical(finding.location, view)}],
        "partialFingerprints": {FINGERPRINT: f"{fingerprint.digest}:{fingerprint.number}"},
    }
    if finding.evidence:
        result["relatedLocations"] = [
            _related(number, step, view) for number, step in enumerate(finding.evidence, start=1)
        ]
    if finding.fix is not None and finding.location.cell is None:  # A viewer knows no cells, and would edit elsewhere.
        result["fixes"] = [_fix(finding.fix, finding.location.path)]
    return result


def _message(finding: Finding) -> str:
    """What is wrong, what to do, and links to the evidence by its numbers among the related locations."""
    lines = [_plain(in_cell(finding.location, sentence(finding.message)))]
    if finding.help is not None:
        lines.append(_plain(f"Help: {sentence(finding.help)}"))
    links = [f"[{_link_text(step)}]({number})" for number, step in enumerate(finding.evidence, start=1)]
    if links:
        lines.append(f"Evidence: {', '.join(links)}.")
    return "\n".join(lines)


def _related(number: int, step: Evidence, view: View) -> Data:
    return {
        "id": number,
        "message": {"text": _plain(in_cell(step.location, step.message))},
        "physicalLocation": _physical(step.location, view),
    }


def _link_text(step: Evidence) -> str:
    return re.sub(r"([\\\[\]])", r"\\\1", in_cell(step.location, printable(step.message)))


def _plain(text: str) -> str:
    """Text in which nothing is a link, whatever the names in it are."""
    return printable(text).replace("](", "] (")


def _physical(location: Location, view: View) -> Data:
    place = view.in_file(location)
    return {
        "artifactLocation": _artifact(place.path),
        "region": {
            "startLine": place.line,
            "startColumn": place.column,
            "endLine": place.end_line,
            "endColumn": place.end_column,
        },
    }


def _artifact(path: str) -> Data:
    """Where a file is: relative to the folder of the run, if it lies below it."""
    from urllib.parse import quote

    name = os.fsencode(forward(path))
    if os.path.isabs(path):
        uri = quote(name, safe="/:")
        return {"uri": f"file://{'' if uri.startswith('/') else '/'}{uri}"}
    return {"uri": quote(name), "uriBaseId": BASE}


def _fix(fix: Fix, path: str) -> Data:
    unsafe = " (unsafe: read what it does first)" if fix.applicability is Applicability.UNSAFE else ""
    replacements = [
        {
            "deletedRegion": {
                "startLine": edit.line,
                "startColumn": edit.column,
                "endLine": edit.end_line,
                "endColumn": edit.end_column,
            },
            "insertedContent": {"text": edit.content},
        }
        for edit in fix.edits
    ]
    return {
        "description": {"text": f"{_plain(fix.message)}{unsafe}"},
        "artifactChanges": [{"artifactLocation": _artifact(path), "replacements": replacements}],
    }


def _suppressions(silenced: Silenced | None) -> list[Data]:
    if silenced is None:
        return []
    if silenced.by == "baseline":
        return [{"kind": "external", "justification": "known to the baseline"}]
    reason = {"justification": printable(silenced.reason)} if silenced.reason else {}
    return [{"kind": "inSource", **reason}]
