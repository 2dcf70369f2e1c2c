"""Words of files, beside regular expressions."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bn_audit.source.prefilter import mentions
from bn_audit.source.words import WordIndex, numbers, steps_between, words

NAMES = ["load", "loads", "_load", "Größe", "x", "load_state_dict"]
TEXTS = st.text("load_s.( )\n'\"ö\u00df\u2028x1", max_size=40) | st.lists(
    st.sampled_from([*NAMES, " ", ".", "(", "ß", "1"]), max_size=8
).map("".join)


@given(TEXTS)
def test_words_are_those_a_regular_expression_finds(text: str) -> None:
    data = text.encode()
    assert {name for name in NAMES if name.encode() in words(data)} == mentions(data, NAMES)


@given(st.lists(TEXTS, max_size=6), st.sampled_from(NAMES), st.sampled_from(NAMES))
def test_the_index_finds_what_a_search_finds(texts: list[str], name: str, stem: str) -> None:
    files = {f"f{number}.py": text.encode() for number, text in enumerate(texts)}
    index = WordIndex(list(files), files.__getitem__)
    assert index.mentioning(name, stem) == [
        path for path, data in files.items() if mentions(data, [name]) and mentions(data, [stem])
    ]
    assert set(index.near(name, "/else.py", b"%s", 99)) == {
        path for path, data in files.items() if mentions(data, [name])
    }


def test_two_words_with_one_number_are_told_apart() -> None:
    """CRC-32 maps these two to one number; the text decides."""
    one, other = b"plumless", b"buckeroo"
    assert numbers(one) == numbers(other)
    index = WordIndex(["a.py", "b.py"], {"a.py": one, "b.py": other}.__getitem__)
    assert index.mentioning("plumless", "plumless") == ["a.py"]
    assert index.near("buckeroo", "/x.py", b"%s", 5) == ["b.py"]


@pytest.mark.parametrize(
    ("path", "steps"),
    [("/a/b/m.py", -1), ("/a/b/x.py", 0), ("/a/x.py", 1), ("/a/b/c/x.py", 1), ("/a/c/x.py", 2), ("/z/x.py", 3)],
)
def test_how_far_files_lie_apart(path: str, steps: int) -> None:
    assert steps_between("/a/b/m.py", path) == steps


def test_the_nearest_come_first_and_no_more_than_wanted(tmp_path: Path) -> None:
    places = ["z.py", "a/b/m.py", "a/b/y.py", "a/x.py", "a/b/c/w.py"]
    files = [str(tmp_path / place) for place in places]
    index = WordIndex(files, lambda path: b"run" if "x.py" not in path else b"runs")
    near = index.near("run", str(tmp_path / "a" / "b" / "m.py"), b"%s", 3)
    assert near == [str(tmp_path / place) for place in ("a/b/m.py", "a/b/y.py", "a/b/c/w.py")]
