"""SARIF against its schema, and against what GitHub wants beyond that."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote, unquote_to_bytes

import jsonschema
import pytest

from bn_audit.finding import Location, Severity
from bn_audit.report.formats import sarif
from bn_audit.report.model import Report, View
from bn_audit.rules import catalogue
from tests.report.reports import CLEAN, ERROR, HOSTILE, INCOMPLETE, REPORT, excerpt
from tests.report.show import render

SCHEMA = json.loads((Path(__file__).parent.parent / "data/schemas/sarif-2.1.0.json").read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)


def run(report: Report = REPORT) -> dict[str, Any]:
    document = json.loads(render("sarif", report))
    VALIDATOR.validate(document)
    (found,) = document["runs"]
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("report", [REPORT, CLEAN, HOSTILE, INCOMPLETE])
def test_shape(report: Report) -> None:
    found = run(report)
    assert render("sarif", report).isascii()
    assert len(found["results"]) == len(report.findings) + len(report.silenced)
    rules = found["tool"]["driver"]["rules"]
    for result in found["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        places = [*result["locations"], *result.get("relatedLocations", [])]
        assert result["locations"]
        for place in places:
            region = place["physicalLocation"]["region"]
            start, end = (region["startLine"], region["startColumn"]), (region["endLine"], region["endColumn"])
            assert (1, 1) <= start <= end
        # A link leads to a related location; nothing else is a link.
        ids = [place["id"] for place in result.get("relatedLocations", [])]
        links = re.findall(r"(?<!\\)\[(?:\\.|[^\[\]\\])*\]\(([^)]*)\)", result["message"]["text"])
        assert [str(number) for number in ids] == links


def test_the_schema_is_strict() -> None:
    document = json.loads(render("sarif"))
    document["runs"][0]["results"][0]["locations"][0]["physicalLocation"]["region"]["startLine"] = 0
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate(document)


def test_an_empty_run() -> None:
    found = run(CLEAN)
    assert found["results"] == []
    assert found["tool"]["driver"]["rules"] == []
    assert found["invocations"] == [{"executionSuccessful": True, "exitCode": 0, "toolExecutionNotifications": []}]


def test_an_incomplete_run() -> None:
    (invocation,) = run(INCOMPLETE)["invocations"]
    assert (invocation["executionSuccessful"], invocation["exitCode"]) == (False, 2)
    assert [note["message"]["text"] for note in invocation["toolExecutionNotifications"]] == ["b: Permission denied"]


def test_what_a_result_says() -> None:
    (result,) = [result for result in run()["results"] if result["ruleId"] == "BNA101"]
    assert result["level"] == "error"
    first, help_, evidence = result["message"]["text"].split("\n")
    assert first == f"{ERROR.message}."
    assert help_ == f"Help: {ERROR.help}."
    assert evidence == r"Evidence: [the model is built from `ConvNetBN`](1), [`模型` is a BatchNorm2d](2)."
    assert [place["message"]["text"] for place in result["relatedLocations"]] == [
        step.message for step in ERROR.evidence
    ]
    (fix,) = result["fixes"]
    (change,) = fix["artifactChanges"]
    assert change["artifactLocation"] == {"uri": "train.py", "uriBaseId": "%SRCROOT%"}
    assert change["replacements"] == [
        {
            "deletedRegion": {"startLine": 13, "startColumn": 16, "endLine": 13, "endColumn": 16},
            "insertedContent": {"text": "\n    skip_bn=True,"},
        }
    ]


def test_a_notebook_has_lines_of_its_file_and_no_fixes() -> None:
    finding = dataclasses.replace(ERROR, location=Location("a.ipynb", 5, 12, 5, 20, cell=3))
    (result,) = run(REPORT._replace(findings=(finding,), silenced=()))["results"]
    assert result["locations"][0]["physicalLocation"]["region"]["startLine"] == 305
    assert result["message"]["text"].startswith("cell 3, line 5: ")
    assert "fixes" not in result


def test_silenced_findings_stay_and_are_marked() -> None:
    by_rule = {result["ruleId"]: result["suppressions"] for result in run()["results"] if result["suppressions"]}
    assert by_rule == {
        "BNA102": [{"kind": "inSource", "justification": "averaged on purpose"}],
        "BNA404": [{"kind": "external", "justification": "known to the baseline"}],
    }
    assert [result["suppressions"] for result in run()["results"] if result["ruleId"] == "BNA101"] == [[]]
    assert not any("suppressions" in result for result in run(INCOMPLETE)["results"])


def test_paths_are_uris() -> None:
    uris = [
        result["locations"][0]["physicalLocation"]["artifactLocation"]
        for result in run(HOSTILE._replace(silenced=()))["results"]
    ]
    assert all(re.fullmatch(r"[A-Za-z0-9_.~/:%-]+", uri["uri"]) for uri in uris)
    by_base = {uri.get("uriBaseId"): uri["uri"] for uri in uris if "%0A" not in uri["uri"]}
    assert by_base[None].startswith("file:///elsewhere/")
    assert unquote(by_base[None]).removeprefix("file://") == HOSTILE.paths[1]
    assert unquote(by_base["%SRCROOT%"]) == HOSTILE.paths[2]
    (odd,) = [uri["uri"] for uri in uris if "%0A" in uri["uri"]]
    assert unquote_to_bytes(odd).decode("utf-8", "surrogateescape") == HOSTILE.paths[0]
    assert not odd.startswith("%0A/")


@pytest.mark.parametrize("rule", catalogue().values(), ids=lambda rule: rule.code)
def test_every_rule_is_as_github_wants_it(rule: Any) -> None:
    finding = dataclasses.replace(ERROR, code=rule.code, name=rule.name)
    (found,) = run(Report((finding,), files=1, parsed=1, sites=1))["tool"]["driver"]["rules"]
    for text in (found["shortDescription"], found["fullDescription"], found["help"]):
        assert 0 < len(text["text"]) <= 1024
    assert found["help"]["markdown"].startswith(f"# {rule.name}")
    assert (
        found["defaultConfiguration"]["level"]
        == {"error": "error", "warning": "warning", "info": "note"}[rule.severity.value]
    )
    properties = found["properties"]
    assert properties["problem.severity"] in ("error", "warning", "recommendation")
    assert properties["precision"] in ("very-high", "high", "medium", "low")
    assert len(properties["tags"]) <= 20
    assert "security-severity" not in properties


def test_levels() -> None:
    levels = {"error": "error", "warning": "warning", "info": "note"}
    for severity in Severity:
        finding = dataclasses.replace(ERROR, severity=severity)
        (result,) = run(Report((finding,), files=1, parsed=1, sites=1))["results"]
        assert result["level"] == levels[severity.value]


def test_fingerprints_stay_under_edits_elsewhere() -> None:
    def fingerprint(down: int) -> dict[str, str]:
        def moved(path: str, cell: int | None, line: int) -> str | None:
            return excerpt(path, cell, line - down) if line > down else "import os"

        place = ERROR.location
        finding = dataclasses.replace(
            ERROR,
            location=dataclasses.replace(place, line=place.line + down, end_line=place.end_line + down),
            message=f"another message {down}",
        )
        (text,) = sarif.render(Report((finding,), files=1, parsed=1, sites=1), View(moved))
        found = json.loads(text)["runs"][0]["results"][0]["partialFingerprints"]
        assert isinstance(found, dict)
        return found

    assert fingerprint(0) == fingerprint(7)
    assert "primaryLocationLineHash" not in fingerprint(0)
