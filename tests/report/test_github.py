"""Annotations, read as GitHub's runner reads them."""

from __future__ import annotations

import re

import pytest

from bn_audit.report.model import Report
from bn_audit.report.words import printable
from tests.report.reports import HOSTILE, NASTY, REPORT
from tests.report.show import render

COMMAND = re.compile(r"::(?P<command>[a-z]+) (?P<properties>[^:]*)::(?P<data>.*)")


def read(line: str) -> tuple[str, dict[str, str], str]:
    """The command in a line, as the runner's ActionCommand takes it apart."""
    found = COMMAND.fullmatch(line)
    assert found is not None, line
    properties = dict(pair.split("=", 1) for pair in found["properties"].split(","))
    return (
        found["command"],
        {key: unescaped(value, {"%2C": ",", "%3A": ":"}) for key, value in properties.items()},
        unescaped(found["data"], {}),
    )


def unescaped(text: str, more: dict[str, str]) -> str:
    for escape, character in {"%0D": "\r", "%0A": "\n", **more, "%25": "%"}.items():
        text = text.replace(escape, character)
    return text


@pytest.mark.parametrize("report", [REPORT, HOSTILE])
def test_a_command_a_finding(report: Report) -> None:
    commands = [read(line) for line in render("github", report).splitlines()]
    assert [command for command, _, _ in commands] == [
        {"error": "error", "warning": "warning", "info": "notice"}[finding.severity.value]
        for finding in report.findings
    ]
    for (_, properties, _), finding in zip(commands, report.findings, strict=True):
        assert properties["title"] == f"{finding.code} {finding.name}"


def test_positions() -> None:
    (_, one_line, _), (_, in_cell, message), (_, several_lines, _) = [
        read(line) for line in render("github").splitlines()
    ]
    assert one_line["file"] == "models.py"
    assert [one_line[key] for key in ("line", "endLine", "col", "endColumn")] == ["3", "3", "12", "29"]
    assert (several_lines["line"], several_lines["endLine"]) == ("5", "14")
    assert "col" not in several_lines
    assert (in_cell["line"], in_cell["col"]) == ("402", "5")
    assert message.startswith("cell 4, line 2: where `args.model`")


def test_names_survive_as_far_as_a_log_may_hold_them() -> None:
    files = [read(line)[1]["file"] for line in render("github", HOSTILE).splitlines()]
    assert files[1:] == ["/elsewhere/über uns/100%,a:b.py", "模型\u200d.py"]
    expected = NASTY
    for character in "\x1b\x00\udcff\u202e":
        expected = expected.replace(character, printable(character))
    assert files[0] == f"{expected}.py"


def test_one_line_each() -> None:
    assert len(render("github", HOSTILE).split("\n")) == len(HOSTILE.findings) + 1
