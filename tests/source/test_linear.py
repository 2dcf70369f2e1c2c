"""What is made to keep a regular expression busy takes time that grows with its length, not with its square."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bn_audit import pins
from bn_audit.silencing import marks_of
from bn_audit.source import first_look, glob, ignore, outside, words

LENGTH = 300_000
SECONDS = 5.0
"""At a square, the fastest of these took minutes."""
BLANKS = b" " * LENGTH

CASES: dict[str, Callable[[], object]] = {
    "from and blanks": lambda: first_look.may_import(b"from" + BLANKS, ["Net"], "/a/b.py"),
    "from and dots": lambda: first_look.may_import(b"from " + b"." * LENGTH, ["Net"], "/a/b.py"),
    "brackets that never close": lambda: first_look.may_import(
        b"from a import (\n" * (LENGTH // 15), ["Net"], "/a/b.py"
    ),
    "subscripts that never close": lambda: words.fills(b"states[" * (LENGTH // 7), "states"),
    "bases that never end": lambda: words.derives(b"class a(" * (LENGTH // 8), "Net"),
    "bases of one name": lambda: words.derives(b"Net " * (LENGTH // 4), "Net"),
    "classes of one name": lambda: words.derives(b"class Net(" * (LENGTH // 10), "Net"),
    "words of parties": lambda: first_look.may_federate(b"set_parameters " + b"part" * (LENGTH // 4)),
    "averages of all sorts": lambda: first_look.may_federate(
        b"set_parameters " + b" ".join(b"averag%d" % number for number in range(LENGTH // 12))
    ),
    "averages of averages": lambda: first_look.may_federate(b"set_parameters " + b"averag" * (LENGTH // 6)),
    "import and blanks": lambda: re.search(outside._IMPORTS_ALL, b"import" + BLANKS),
    "a comment that says noqa, and blanks": lambda: marks_of("a.py", b"x = 1  # noqa" + BLANKS + b"x"),
    "a requirement of blanks": lambda: list(pins._requirement("torch" + " " * LENGTH + "x")),
    "requirements of blanks": lambda: [
        list(pins._requirement("torch" + " " * 990 + "x")) for _ in range(LENGTH // 1000)
    ],
    "requirements of letters": lambda: [
        list(pins._requirement("a==" + "1." * 490 + "-")) for _ in range(LENGTH // 1000)
    ],
    "an ignored name of blanks": lambda: ignore._pattern(" " * LENGTH + "x"),
    "a name of stars": lambda: re.fullmatch(glob.translate("*a" * 60 + "b"), "a" * 255),
    "folders of stars": lambda: re.fullmatch(glob.translate("/**/a*" * 60 + "b"), "/aa" * 1300),
    "choices of stars": lambda: re.fullmatch(glob.translate("{a,b}*" * 5 + "*a" * 30 + "b"), "a" * 4000),
    "an ignored name of stars": lambda: re.fullmatch(ignore._expression("*a" * 60 + "b") or "", "a" * 255),
    "ignored folders": lambda: re.fullmatch(ignore._expression("**/a*/" * 60 + "b") or "", "aa/" * 1300),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_no_square(case: Callable[[], object]) -> None:
    start = time.process_time()
    case()
    assert time.process_time() - start < SECONDS


def test_setup_cfg_of_blanks(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "setup.cfg").write_text("[options]\n" + " " * LENGTH + "x\n", encoding="utf-8")
    start = time.process_time()
    assert pins.pinned(str(tmp_path / "a.py"), ("torch",)) is None
    assert time.process_time() - start < SECONDS


TOKENS = st.sampled_from(["a", "b", "*", "*", "**", "/**/", "**/", "/**", "?", "/", "[ab]", "{", "}", ",", "c"])
PATHS = st.text("aabc//", max_size=14)


@given(st.lists(TOKENS, min_size=3, max_size=12).map("".join), st.lists(PATHS, min_size=10, max_size=30))
def test_many_stars_match_what_they_match_one_by_one(pattern: str, paths: list[str]) -> None:
    tokens = re.findall(glob._TOKEN, pattern, re.DOTALL)
    if (choices := glob._choices(tokens)) is not None:
        sparingly = re.compile("|".join(glob._sparingly(pattern, choice) for choice in choices), re.DOTALL)
        plainly = re.compile(glob._plainly(pattern, tokens), re.DOTALL)
        for path in paths:
            assert bool(sparingly.fullmatch(path)) is bool(plainly.fullmatch(path))


@given(st.lists(TOKENS, min_size=3, max_size=12).map("".join), st.lists(PATHS, min_size=10, max_size=30))
def test_many_stars_ignore_what_they_ignore_one_by_one(pattern: str, paths: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ignore, "FEW", 0)
        sparingly = re.compile(ignore._expression(pattern) or "", re.DOTALL)
        patch.setattr(ignore, "FEW", 100)
        plainly = re.compile(ignore._expression(pattern) or "", re.DOTALL)
    for path in paths:
        assert bool(sparingly.fullmatch(path)) is bool(plainly.fullmatch(path))
