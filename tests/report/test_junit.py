"""JUnit's XML, read by a parser of XML."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from bn_audit.report.model import Report
from tests.report.reports import CLEAN, ERROR, HOSTILE, INCOMPLETE, INFO, REPORT, WARNING
from tests.report.show import render

# What the schema of Jenkins' xUnit plugin allows inside each element, and which attributes it wants.
CHILDREN = {
    "testsuites": {"testsuite"},
    "testsuite": {"testcase"},
    "testcase": {"error", "failure", "system-out"},
    "failure": set(),
    "error": set(),
    "system-out": set(),
}
ATTRIBUTES = {
    "testsuites": {"name", "tests", "failures", "errors"},
    "testsuite": {"name", "tests", "failures", "errors", "file"},
    "testcase": {"name", "classname"},
    "failure": {"type", "message"},
    "error": {"type", "message"},
    "system-out": set(),
}


def suites(report: Report = REPORT) -> ElementTree.Element:
    return ElementTree.fromstring(render("junit", report).encode())


@pytest.mark.parametrize("report", [REPORT, CLEAN, HOSTILE, INCOMPLETE])
def test_shape(report: Report) -> None:
    root = suites(report)
    for element in root.iter():
        assert {child.tag for child in element} <= CHILDREN[element.tag]
        assert (element.keys() and set(element.keys()) <= ATTRIBUTES[element.tag]) or element.tag == "system-out"
    for suite in [root, *root]:
        cases = list(suite.iter("testcase"))
        assert suite.get("tests") == str(len(cases))
        assert suite.get("failures") == str(len(list(suite.iter("failure"))))
        assert suite.get("errors") == str(len(list(suite.iter("error"))))
        assert len({(case.get("classname"), case.get("name")) for case in cases}) == len(cases)


def test_a_suite_a_file() -> None:
    names = {suite.get("name"): [case.get("name") for case in suite] for suite in suites()}
    assert names == {
        "models.py": ["BNA404 sync-batchnorm (line 3, column 12)"],
        "notebooks/a.ipynb": ["BNA108 model-not-resolved (cell 4, line 2, column 1)"],
        "setup.py": ["bn-audit"],
        "train.py": ["BNA101 missing-skip-bn (line 5, column 12)"],
    }


def test_what_does_not_fail_the_command_passes() -> None:
    def failing(report: Report) -> list[str | None]:
        return [
            case.get("name", "").partition(" ")[0]
            for case in suites(report).iter("testcase")
            if len(case) and case[0].tag == "failure"
        ]

    assert failing(REPORT) == ["BNA404", "BNA101"]
    assert failing(REPORT._replace(failing=frozenset({ERROR, INFO, WARNING}))) == [
        "BNA404",
        "BNA108",
        "BNA101",
    ]
    assert failing(REPORT._replace(failing=frozenset({ERROR}))) == ["BNA101"]


def test_an_incomplete_scan_is_an_error() -> None:
    first = suites(INCOMPLETE)[0]
    assert first.get("errors") == "1"
    assert first[0].get("name") == "b: Permission denied"


def test_text_survives() -> None:
    (failure,) = [case[0] for case in suites().iter("testcase") if "BNA101" in case.get("name", "")]
    assert failure.get("message") == ERROR.message
    assert failure.text is not None
    assert "models.py:3:12: `模型` is a BatchNorm2d" in failure.text.splitlines()
    hostile = ["".join(case.itertext()) for case in suites(HOSTILE).iter("testcase")]
    assert any(r"""\n::error::x,y:z% 100%0A"'<&>]]>\x1b[2J\x00\udcff\u202e""" in text for text in hostile)
