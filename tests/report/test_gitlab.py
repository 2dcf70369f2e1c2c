"""Code quality issues, held against what GitLab's documentation says of them."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import jsonschema
import pytest

from bn_audit.finding import Location
from bn_audit.report.formats import gitlab
from bn_audit.report.model import Report, View
from tests.report.reports import CLEAN, ERROR, HOSTILE, REPORT
from tests.report.show import render

TEXT = {"type": "string", "minLength": 1}
# From the table in GitLab's documentation of the report; GitLab drops an issue that lacks one of the required fields.
SCHEMA = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["description", "check_name", "fingerprint", "severity", "location"],
        "properties": {
            "description": TEXT,
            "check_name": TEXT,
            "fingerprint": TEXT,
            "severity": {"enum": ["info", "minor", "major", "critical", "blocker"]},
            "location": {
                "type": "object",
                "required": ["path", "lines"],
                "properties": {
                    "path": {"type": "string", "pattern": r"^(?!\./)"},
                    "lines": {
                        "type": "object",
                        "required": ["begin"],
                        "properties": {"begin": {"type": "integer", "minimum": 1}},
                    },
                },
            },
        },
    },
}


def issues(report: Report = REPORT) -> list[dict[str, Any]]:
    document = json.loads(render("gitlab", report))
    jsonschema.validate(document, SCHEMA)
    assert isinstance(document, list)
    return document


@pytest.mark.parametrize("report", [REPORT, CLEAN, HOSTILE])
def test_shape(report: Report) -> None:
    assert len(issues(report)) == len(report.findings)
    assert len({issue["fingerprint"] for issue in issues(report)}) == len(report.findings)


def test_no_lone_surrogates() -> None:
    """GitLab's parser gives up on them."""
    render("gitlab", HOSTILE).encode()
    json.dumps(issues(HOSTILE), ensure_ascii=False).encode()


def test_a_cell_is_told_in_words() -> None:
    (issue,) = [issue for issue in issues() if issue["location"]["path"].endswith(".ipynb")]
    assert issue["location"]["lines"] == {"begin": 402, "end": 402}
    assert issue["description"].startswith("BNA108: cell 4, line 2: ")


def test_fingerprints_stay_while_lines_move_and_tell_equal_findings_apart() -> None:
    lines = ["fl_model = FLModel(server,", "    model)", "", "fl_model = FLModel(server,", "    model)"]

    def fingerprints(source: list[str]) -> list[str]:
        places = [number for number, line in enumerate(source, start=1) if "FLModel" in line]
        findings = tuple(
            dataclasses.replace(ERROR, location=Location("a.py", line, 12, line + 1, 11)) for line in places
        )
        view = View(lambda path, cell, line: source[line - 1])
        (text,) = gitlab.render(Report(findings, files=1, parsed=1, sites=1), view)
        return [issue["fingerprint"] for issue in json.loads(text)]

    before = fingerprints(lines)
    assert len(set(before)) == 2
    assert fingerprints(["import os", *lines, "print()"]) == before
    assert fingerprints(["fl_model = FLModel(  # noqa: F841", "  server, model,)", *lines[2:]]) != before
    assert set(fingerprints([lines[0].replace("server", "charlie"), *lines[1:]])) & set(before) == {before[0]}
