"""What a comment says: which rules it silences, and why."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bn_audit.suppression import directives


@pytest.mark.parametrize(
    ("comment", "kind", "codes", "reason"),
    [
        ("# noqa", "noqa", None, ""),
        ("#noqa", "noqa", None, ""),
        ("# NoQA", "noqa", None, ""),
        ("# noqa because", "noqa", None, "because"),
        ("# noqa: BNA101", "noqa", "BNA101", ""),
        ("# noqa:BNA101,BNA102", "noqa", "BNA101 BNA102", ""),
        ("# noqa : BNA101", "noqa", "BNA101", ""),
        ("# noqa: BNA101 F841,E501", "noqa", "BNA101 F841 E501", ""),
        ("# noqa: BNA101 averaged on purpose", "noqa", "BNA101", "averaged on purpose"),
        ("# noqa: BNA101 - averaged on purpose", "noqa", "BNA101", "averaged on purpose"),
        ("# noqa: BNA101, see #12", "noqa", "BNA101", "see #12"),
        ("# noqa: BNA101  # type: ignore", "noqa", "BNA101", ""),
        ("# type: ignore  # noqa: BNA101 meant", "noqa", "BNA101", "meant"),
        ("# noqa: BNA1", "noqa", "BNA1", ""),
        ("# noqa: bna101", "noqa", "", "bna101"),
        ("# noqa: later", "noqa", "", "later"),
        ("# noqa:", "noqa", "", ""),
        ("# bn-audit: ignore", "ignore", None, ""),
        ("#bn-audit:ignore", "ignore", None, ""),
        ("# bn-audit: ignore[BNA101]", "ignore", "BNA101", ""),
        ("# bn-audit: ignore[BNA101, BNA104] averaged on purpose", "ignore", "BNA101 BNA104", "averaged on purpose"),
        ("# bn-audit: ignore[]", "ignore", "", ""),
        ("# bn-audit: ignore-file", "ignore-file", None, ""),
        ("# bn-audit: ignore-file[BNA101]: a study", "ignore-file", "BNA101", "a study"),
    ],
)
def test_one(comment: str, kind: str, codes: str | None, reason: str) -> None:
    (found,) = directives(comment)
    assert (found.kind, found.reason) == (kind, reason)
    assert (None if found.codes is None else [code.text for code in found.codes]) == (
        None if codes is None else codes.split()
    )
    for code in found.codes or ():
        assert comment[code.start : code.end] == code.text
    assert comment[found.start] == "#"
    assert found.silences("BNA101") == (codes is None or "BNA101" in codes.split())


@pytest.mark.parametrize(
    "comment",
    [
        "# noqabene",
        "# noqa-file",
        "# no qa",
        "# flake8: noqa",
        "# ruff: noqa: BNA101",
        "# the noqa: BNA101 comment",
        "# bn-audit: ignored",
        "# bn-audit: ignore[BNA101",
        "# bn-audit ignore",
        "# BNA101",
    ],
)
def test_none(comment: str) -> None:
    assert directives(comment) == ()


def test_several() -> None:
    found = directives("# noqa: F841 # bn-audit: ignore[BNA101] meant  # bn-audit: ignore-file[BNA102]")
    assert [one.kind for one in found] == ["noqa", "ignore", "ignore-file"]
    assert [one.reason for one in found] == ["", "meant", ""]


WORDS = ["#", " ", "noqa", ":", "BNA101", ",", "bn-audit: ", "ignore", "-file", "[", "]", "why", "é"]


@given(st.lists(st.sampled_from(WORDS), max_size=20).map("".join))
def test_any_comment_has_an_answer(comment: str) -> None:
    end = 0
    for found in directives(f"#{comment}"):
        assert end <= found.start < found.stop <= found.end <= len(comment) + 1
        end = found.end
