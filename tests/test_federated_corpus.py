"""The labelled corpus: small federated projects, each judged right.

A case is a text file below ``tests/data/federated/FAMILY/``: ``=== path`` heads each file of its project, and a line on
which something is to be found ends in ``# CODE``. Nothing else may be found by the rules that are labelled there.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from bn_audit.audit import Selection, Versions, audit
from bn_audit.fix.edits import applicable
from bn_audit.fix.files import take
from bn_audit.fix.rounds import fix_files
from bn_audit.source.read import ReadOptions, read
from tests.fix.programs import judge

CASES = sorted((Path(__file__).parent / "data" / "federated").glob("*/*.txt"))
RULES = ("BNA2", "BNA301", "BNA302", "BNA409")
_LABEL = re.compile(r"#\s*(BNA\d{3}(?:,\s*BNA\d{3})*)\s*$")


def unpack(case: Path, folder: Path) -> dict[tuple[str, int], set[str]]:
    """Write a case's files; what is to be found, by file and line."""
    expected: dict[tuple[str, int], set[str]] = {}
    (folder / ".git").mkdir()
    for part in case.read_text().split("=== ")[1:]:
        name, _, content = part.partition("\n")
        path = folder / name.strip()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        for number, line in enumerate(content.splitlines(), start=1):
            label = _LABEL.search(line)
            if label is not None:
                expected[name.strip(), number] = {code.strip() for code in label[1].split(",")}
    return expected


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.parent.name}/{case.stem}")
def test_a_case_is_judged_right(case: Path, tmp_path: Path) -> None:
    expected = unpack(case, tmp_path)
    result = read([str(tmp_path)], options=ReadOptions(jobs=1))
    found: dict[tuple[str, int], set[str]] = {}
    for finding in audit(result.sites, result.unreadable, lambda _: Selection(RULES), lambda _: Versions()):
        place = (os.path.relpath(finding.location.path, tmp_path), finding.location.line)
        found.setdefault(place, set()).add(finding.code)
    assert found == expected


def _is_fixable(case: Path) -> bool:
    return any(code in case.read_text() for code in ("# BNA205", "# BNA301"))


@pytest.mark.parametrize("case", [*filter(_is_fixable, CASES)], ids=lambda case: f"{case.parent.name}/{case.stem}")
def test_what_can_be_fixed_is_fixed(case: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As ``scan --fix --unsafe-fixes`` does it: nothing is refused, and a second run has nothing to do."""
    unpack(case, tmp_path)
    monkeypatch.chdir(tmp_path)
    first = judge(["."])
    fixable = [finding for finding in first.findings if applicable(finding, unsafe=True)]
    outcome = fix_files(first, lambda contents: judge(["."], contents), take, unsafe=True)
    assert outcome.refused == ()
    assert sum(len(file.fixed) for file in outcome.files) >= len(fixable)
    assert not any(applicable(finding, unsafe=True) for finding in outcome.judgement.findings)
    assert len(outcome.judgement.findings) <= len(first.findings) - len(fixable)
