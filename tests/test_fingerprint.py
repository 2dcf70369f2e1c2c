"""Fingerprints: what changes them, and what does not."""

from __future__ import annotations

import pytest

from bn_audit.finding import Finding, Location, Severity
from bn_audit.fingerprint import content_digest, fingerprints


def digest(source: str) -> str:
    lines = source.split("\n")
    place = Location("a.py", 1, 1, len(lines), len(lines[-1]) + 1)
    return content_digest(place, lambda path, cell, line: lines[line - 1])


CALL = 'FLModel(server=charlie, device_list=[alice, bob], strategy="fed_avg_w", aggregator=make())'


@pytest.mark.parametrize(
    "same",
    [
        "FLModel(\n    server=charlie,\n    device_list=[alice, bob],\n    strategy='fed_avg_w', aggregator=make(),\n)",
        CALL.replace(", ", ","),
        f"{CALL}  # noqa: BNA101",
        CALL.replace("charlie,", "charlie,  # the server\n   # and more\n"),
    ],
)
def test_a_formatter_changes_nothing(same: str) -> None:
    assert digest(same) == digest(CALL)


@pytest.mark.parametrize(
    "other", [CALL.replace("bob", "carol"), CALL[:-1], f"x = {CALL}", CALL.replace("fed_avg_w", "fed_avg_#w")]
)
def test_another_call_is_another(other: str) -> None:
    assert digest(other) != digest(CALL)


def test_a_comment_is_its_own_content() -> None:
    assert len({digest(text) for text in ("# noqa: BNA101", "# noqa: BNA102", "")}) == 3


def test_an_empty_stretch_is_its_line() -> None:
    place = Location("a.py", 2, 4, 2, 4)
    assert content_digest(place, lambda path, cell, line: f"line {line}") == digest("line 2")
    assert content_digest(place, lambda path, cell, line: None) == digest("")


def test_equal_findings_are_counted_by_rule_and_file() -> None:
    def finding(code: str, path: str, line: int) -> Finding:
        return Finding(code, "x", Severity.ERROR, f"message {line}", Location(path, line, 1, line, 9))

    places = [("BNA101", "a.py", 1), ("BNA101", "a.py", 2), ("BNA102", "a.py", 3), ("BNA101", "b.py", 4)]
    found = fingerprints([finding(*place) for place in places], lambda path, cell, line: "FLModel()")
    assert len({one.digest for one in found}) == 1
    assert [(one.code, one.number) for one in found] == [("BNA101", 0), ("BNA101", 1), ("BNA102", 0), ("BNA101", 0)]
