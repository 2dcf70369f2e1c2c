from __future__ import annotations

import pytest

from bn_audit.audit import Selection, Versions, audit, tidy
from bn_audit.finding import Finding, Location, Severity
from bn_audit.site import Unreadable
from tests.rules.sites import ModelBuilder, reading, site

HERE = Location("a.py", 1, 1, 1, 2)


def finding(code: str, location: Location = HERE, severity: Severity = Severity.ERROR, message: str = "") -> Finding:
    return Finding(code, code.lower(), severity, message, location)


@pytest.mark.parametrize(
    ("selection", "inside", "outside"),
    [
        (Selection(), "BNA101 BNA901", ""),
        (Selection(("BNA1",)), "BNA101 BNA108", "BNA303"),
        (Selection(("BNA1",), ignore=("BNA103",)), "BNA101", "BNA103"),
        (Selection(("BNA103",), ignore=("BNA1",)), "BNA103", "BNA101 BNA303"),
        (Selection(ignore=("BNA4",)), "BNA101", "BNA401"),
        (Selection(("BNA1",), extend_select=("BNA303",)), "BNA101 BNA303", "BNA401"),
        (Selection(("",), ignore=("BNA901",)), "BNA101", "BNA901"),
        (Selection(("BNA101",), ignore=("BNA101",)), "", "BNA101"),
    ],
)
def test_the_longer_prefix_wins(selection: Selection, inside: str, outside: str) -> None:
    assert all(code in selection for code in inside.split())
    assert not any(code in selection for code in outside.split())


def test_what_is_silent_never_speaks() -> None:
    selection = Selection(("BNA101",), silent=("BNA1",))
    assert "BNA101" not in selection


def test_findings_are_sorted_and_told_once() -> None:
    later, other = Location("a.py", 10, 1, 10, 2), Location("b.py", 1, 1, 1, 2)
    mild, grave = finding("BNA402", severity=Severity.INFO), finding("BNA402")
    given = [finding("BNA103", other), finding("BNA101", later), mild, grave, finding("BNA101"), mild]
    assert tidy(given) == (finding("BNA101"), grave, finding("BNA101", later), finding("BNA103", other))


def test_cells_come_in_their_order() -> None:
    places = [Location("n.ipynb", line, 1, line, 2, cell=cell) for cell, line in [(10, 1), (9, 7), (9, 2)]]
    found = tidy(finding("BNA101", place) for place in places)
    assert [(one.location.cell, one.location.line) for one in found] == [(9, 2), (9, 7), (10, 1)]


def test_unreadable_files_are_findings() -> None:
    broken = Unreadable(HERE, "unexpected end of file")
    (found,) = audit([], [broken], Selection(), lambda path: Versions())
    assert (found.code, found.location, found.severity) == ("BNA901", HERE, Severity.ERROR)
    assert "unexpected end of file" in found.message
    assert audit([], [broken], Selection(ignore=("BNA9",)), lambda path: Versions()) == ()


def test_versions_are_asked_for_by_file() -> None:
    model = ModelBuilder().linear("fc", 4, 2).norm("bn", 2)
    asked: list[str] = []

    def versions(path: str) -> Versions:
        asked.append(path)
        return Versions(secretflow="1.3.0b0")

    (found,) = audit([site(reading(model, skip_bn=True))], [], Selection(), versions)
    assert asked == ["train.py"]
    assert found.code == "BNA105"


def test_order_does_not_depend_on_the_order_of_sites() -> None:
    model = ModelBuilder().linear("fc", 4, 2).norm("bn", 2)
    sites = [
        site(reading(model), location=Location(f"{name}.py", 1, 1, 2, 2), call=Location(f"{name}.py", 1, 1, 2, 2))
        for name in "cab"
    ]
    one, other = (audit(order, [], Selection(), lambda path: Versions()) for order in (sites, sites[::-1]))
    assert one == other
    assert [found.location.path for found in one] == ["a.py", "b.py", "c.py"]
