"""The catalogue as a whole: codes, pages, and every example run through the reader that its rule judges."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bn_audit.audit import Selection, Versions, audit
from bn_audit.finding import Finding
from bn_audit.hearing import content_of, hear
from bn_audit.report.formats import renderer
from bn_audit.report.model import Report, View
from bn_audit.rules import catalogue, collect
from bn_audit.rules.page import as_data, page
from bn_audit.rules.rule import Example, Rule
from bn_audit.scanning import resolver
from bn_audit.source.read import ReadOptions, ReadResult, read
from tests.golden import same_as

ROOT = str(Path(__file__).parent.parent.parent)
RULES = list(catalogue().values())
NUMBERS = (
    101,
    102,
    103,
    104,
    105,
    106,
    107,
    108,
    201,
    202,
    203,
    204,
    205,
    206,
    207,
    208,
    301,
    302,
    303,
    401,
    402,
    403,
    404,
    405,
    406,
    407,
    408,
    409,
    901,
    902,
)
CODES = [f"BNA{number}" for number in NUMBERS]


def write(example: Example, folder: Path) -> None:
    for name, source in example.files:
        (folder / name).write_text(source, encoding="utf-8")


def scan(example: Example, folder: Path) -> tuple[ReadResult, tuple[Finding, ...]]:
    write(example, folder)
    result = read(["."], options=ReadOptions())
    versions = Versions(torch="2.13.0")
    findings = audit(result.sites, result.unreadable, Selection(), lambda path: versions)
    return result, hear(findings, result, resolver(isolated=True), content_of(None, {})).findings


def look_at(example: Example, folder: Path, form: str) -> str:
    """What ``inspect`` says of an example's target, in a process of its own: the examples' modules are called alike."""
    pytest.importorskip("torch")
    write(example, folder)
    assert example.target is not None
    command = [sys.executable, "-m", "bn_audit", "inspect", example.target, "--output-format", form]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env={**os.environ, "PYTHONPATH": ROOT})
    assert done.returncode in (0, 1), done.stderr
    return done.stdout


def spoken_of(example: Example, folder: Path) -> set[str]:
    """The codes of the findings about an example."""
    if example.target is not None:
        return {finding["code"] for finding in json.loads(look_at(example, folder, "json"))["findings"]}
    return {finding.code for finding in scan(example, folder)[1]}


def cases(kind: str) -> list[object]:
    return [
        pytest.param(rule, example, id=f"{rule.code}-{number}")
        for rule in RULES
        for number, example in enumerate(getattr(rule, kind))
    ]


def test_every_rule_is_there() -> None:
    assert list(catalogue()) == CODES


def test_two_rules_of_one_code_or_name_are_refused() -> None:
    first = RULES[0]
    with pytest.raises(ValueError, match=f"{first.code} is the code of both"):
        collect([first, dataclasses.replace(first, name="another")])
    with pytest.raises(ValueError, match=f"{first.name} is the name of both"):
        collect([first, dataclasses.replace(first, code="BNA999")])


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)
def test_every_rule_has_a_whole_page(rule: Rule[object]) -> None:
    assert rule.bad and rule.good
    assert not rule.summary.endswith(".")
    text = page(rule)
    for title in ("What it finds", "Why it is bad", "Example", "What to do", "When it stays silent", "Fix safety"):
        assert f"\n## {title}\n\n" in text
    for part in (rule.finds, rule.why, rule.remedy, rule.silent, rule.fix_safety):
        assert part.strip().endswith((".", ")")), part
    assert not re.search(r"[ \t]$", text, flags=re.MULTILINE)
    assert as_data(rule)["markdown"] == text


@pytest.mark.parametrize(("rule", "example"), cases("bad"))
def test_it_speaks_in_its_bad_examples(
    rule: Rule[object], example: Example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert rule.code in spoken_of(example, tmp_path)


@pytest.mark.parametrize(("rule", "example"), cases("good"))
def test_it_is_silent_in_its_good_examples(
    rule: Rule[object], example: Example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if example.target is not None:
        assert rule.code not in spoken_of(example, tmp_path)
        return
    result, findings = scan(example, tmp_path)
    assert rule.code not in {finding.code for finding in findings}
    # Silence proves something only if the call was seen and its model known.
    if "FLModel(" in example.files[0][1]:
        assert result.sites
        assert "BNA108" not in {finding.code for finding in findings}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)
def test_golden(rule: Rule[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a person reads about the first bad example."""
    monkeypatch.chdir(tmp_path)
    example = rule.bad[0]
    if example.target is not None:
        _, _, section = look_at(example, tmp_path, "text").partition("\nFindings\n")
        same_as(f"rules/{rule.code}.txt", section)
        return
    result, findings = scan(example, tmp_path)
    spoken = tuple(finding for finding in findings if finding.code == rule.code)
    report = Report(spoken, files=result.files, parsed=result.parsed, sites=len(result.sites))
    render = renderer("text")
    assert render is not None
    sources = {name: source.split("\n") for name, source in rule.bad[0].files}
    view = View(lambda path, cell, line: sources[path][line - 1] if line <= len(sources[path]) else None)
    same_as(f"rules/{rule.code}.txt", "".join(f"{line}\n" for line in render(report, view)))
