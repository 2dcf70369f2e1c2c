from __future__ import annotations

import pytest

from bn_audit.finding import Location
from bn_audit.report.words import count, enumerate_words, position, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("模型 é", "模型 é"),
        ("a\x1b[2Jb", r"a\x1b[2Jb"),
        ("a\nb\tc", r"a\nb\tc"),
        ("right\u202eleft", r"right\u202eleft"),
        ("bad\udcff", r"bad\udcff"),
    ],
)
def test_printable(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable(text).isprintable()


def test_position() -> None:
    assert position(Location("a/b.py", 3, 7, 3, 9)) == "a/b.py:3:7"
    assert position(Location("a.ipynb", 3, 7, 3, 9, cell=2)) == "a.ipynb:cell 2:3:7"


def test_counts_and_lists() -> None:
    assert [count(number, "file") for number in (0, 1, 2)] == ["0 files", "1 file", "2 files"]
    assert enumerate_words([]) == ""
    assert enumerate_words(["a"]) == "a"
    assert enumerate_words(["a", "b", "c"]) == "a, b and c"
