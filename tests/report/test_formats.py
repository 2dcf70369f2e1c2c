"""Every format against its golden file in tests/data/report. ``BN_AUDIT_UPDATE=1 pytest`` writes them anew."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest

from bn_audit.report import model
from bn_audit.report.formats import names, renderer
from bn_audit.report.model import Report, View
from tests.golden import same_as
from tests.report.reports import CLEAN, REPORT, excerpt

SCHEMA = json.loads((Path(model.__file__).parent / "schema.json").read_text(encoding="utf-8"))


def render(name: str, report: Report = REPORT, *, color: bool = False, footer: bool = True) -> str:
    write = renderer(name)
    assert write is not None
    return "".join(f"{line}\n" for line in write(report, View(excerpt, color=color, footer=footer)))


def test_the_formats_are_found_by_their_files() -> None:
    assert {"concise", "json", "text"} <= set(names())
    with pytest.raises(ModuleNotFoundError):
        renderer("xml")


@pytest.mark.parametrize("name", names())
def test_golden(name: str) -> None:
    same_as(f"report/{name}.txt", render(name))


@pytest.mark.parametrize("name", names())
def test_no_format_prints_control_characters(name: str) -> None:
    assert re.search(r"[^\n\x20-\x7e\u0080-\uffff]", render(name)) is None


def test_colour_changes_nothing_but_colour() -> None:
    colored = render("text", color=True)
    assert "\x1b[31m" in colored
    assert re.sub(r"\x1b\[\d+m", "", colored) == render("text")


def test_without_footer() -> None:
    assert render("text", footer=False).splitlines() == render("text").splitlines()[:-2]
    assert len(render("concise", footer=False).splitlines()) == len(REPORT.findings)


def test_nothing_found() -> None:
    assert render("text", CLEAN) == "No findings (0 FLModel calls in 1 file).\n"
    assert render("concise", CLEAN, footer=False) == ""
    assert json.loads(render("json", CLEAN))["findings"] == []


@pytest.mark.parametrize("report", [REPORT, CLEAN])
def test_json_keeps_to_its_schema(report: Report) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    document = json.loads(render("json", report))
    jsonschema.validate(document, SCHEMA)
    assert document["summary"]["errors"] == len([f for f in document["findings"] if f["severity"] == "error"])


def test_the_schema_is_strict() -> None:
    document = json.loads(render("json"))
    document["findings"][0]["line"] = 0
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, SCHEMA)


def test_json_survives_any_path() -> None:
    finding = REPORT.findings[0]
    odd = Report(
        (
            type(finding)(
                "BNA901", "unreadable", finding.severity, "x", type(finding.location)("a\udcff\n.py", 1, 1, 1, 1)
            ),
        ),
        files=1,
        parsed=0,
        sites=0,
    )
    text = render("json", odd)
    assert text.isascii()
    assert json.loads(text)["findings"][0]["path"] == "a\udcff\n.py"


@pytest.mark.parametrize("name", ["text", "concise", "json"])
def test_statistics(name: str) -> None:
    count = renderer(name, statistics=True)
    assert count is not None
    same_as(f"report/{name}.statistics.txt", "".join(f"{line}\n" for line in count(REPORT, View(excerpt))))
