"""Every format against its golden file in tests/data/report. ``BN_AUDIT_UPDATE=1 pytest`` writes them anew."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest

from bn_audit.report import model
from bn_audit.report.formats import names, renderer
from bn_audit.report.model import Report
from tests.golden import same_as
from tests.report.reports import CLEAN, HOSTILE, INCOMPLETE, REPORT
from tests.report.show import render, view

SCHEMA = json.loads((Path(model.__file__).parent / "schema.json").read_text(encoding="utf-8"))


def test_the_formats_are_found_by_their_files() -> None:
    assert names() == ("concise", "github", "gitlab", "html", "json", "jsonl", "junit", "sarif", "text")
    with pytest.raises(ModuleNotFoundError):
        renderer("xml")


@pytest.mark.parametrize("name", names())
def test_golden(name: str) -> None:
    text = render(name)
    if name == "sarif":  # The rules' pages have golden files of their own.
        document = json.loads(text)
        driver = document["runs"][0]["tool"]["driver"]
        driver["rules"] = [{"id": rule["id"], "name": rule["name"]} for rule in driver["rules"]]
        text = json.dumps(document, indent=2) + "\n"
    same_as(f"report/{name}.txt", text)


@pytest.mark.parametrize("report", [REPORT, HOSTILE])
@pytest.mark.parametrize("name", names())
def test_no_format_prints_what_a_terminal_would_act_upon(name: str, report: Report) -> None:
    assert re.search(r"[^\n\x20-\x7e\xa0-\ud7ff\ue000-\uffff]|\u202e", render(name, report)) is None


@pytest.mark.parametrize("name", names())
def test_no_format_depends_on_the_order_of_sets(name: str) -> None:
    assert render(name, HOSTILE) == render(name, HOSTILE)


def test_colour_changes_nothing_but_colour() -> None:
    colored = render("text", color=True)
    assert "\x1b[31m" in colored
    assert re.sub(r"\x1b\[\d+m", "", colored) == render("text")


def test_without_footer() -> None:
    assert render("text", footer=False).splitlines() == render("text").splitlines()[:-2]
    assert len(render("concise", footer=False).splitlines()) == len(REPORT.findings)


def test_nothing_found() -> None:
    assert render("text", CLEAN) == "No findings (0 federated sites in 1 file).\n"
    assert render("concise", CLEAN, footer=False) == ""
    assert render("github", CLEAN) == ""
    assert render("jsonl", CLEAN) == ""
    assert json.loads(render("json", CLEAN))["findings"] == []
    assert json.loads(render("gitlab", CLEAN)) == []


def test_the_footer_counts_what_is_silenced() -> None:
    assert "(2 FLModel calls in 12 files; 1 suppressed, 1 in the baseline).\n" in render("text")


@pytest.mark.parametrize("report", [REPORT, CLEAN, HOSTILE, INCOMPLETE])
def test_json_keeps_to_its_schema(report: Report) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    document = json.loads(render("json", report))
    jsonschema.validate(document, SCHEMA)
    assert document["summary"]["errors"] == len([f for f in document["findings"] if f["severity"] == "error"])
    assert document["problems"] == list(report.problems)
    assert json.loads("".join(renderer("json", statistics=True)(report, view())))["problems"] == document["problems"]
    assert document["summary"]["suppressed"] == sum(one.by == "comment" for one in report.silenced)
    assert document["summary"]["baselined"] == sum(one.by == "baseline" for one in report.silenced)


@pytest.mark.parametrize("report", [REPORT, HOSTILE])
def test_lines_of_json_are_the_findings_of_json(report: Report) -> None:
    lines = [json.loads(line) for line in render("jsonl", report).splitlines()]
    assert lines == json.loads(render("json", report))["findings"]


def test_the_schema_is_strict() -> None:
    document = json.loads(render("json"))
    document["findings"][0]["line"] = 0
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, SCHEMA)


def test_json_survives_any_path() -> None:
    text = render("json", HOSTILE)
    assert text.isascii()
    assert [finding["path"] for finding in json.loads(text)["findings"]] == list(HOSTILE.paths[:3])


@pytest.mark.parametrize("name", ["text", "concise", "json"])
def test_statistics(name: str) -> None:
    count = renderer(name, statistics=True)
    assert count is not None
    same_as(f"report/{name}.statistics.txt", "".join(f"{line}\n" for line in count(REPORT, view())))


@pytest.mark.parametrize("name", ["github", "gitlab", "html", "jsonl", "junit", "sarif"])
def test_no_statistics(name: str) -> None:
    assert renderer(name, statistics=True) is None
