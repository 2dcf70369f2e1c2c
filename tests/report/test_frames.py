"""Frames are compared as a person sees them. ``$`` in front of a line marks where it begins."""

from __future__ import annotations

import textwrap
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from bn_audit.finding import Location
from bn_audit.report.frames import WIDTH, Style, frame, line_frame
from bn_audit.report.model import Excerpt

PLAIN = Style("^", str, str)


def source(text: str) -> Excerpt:
    lines = text.split("\n")
    return lambda path, cell, line: lines[line - 1] if 1 <= line <= len(lines) else None


def shown(text: str, line: int, column: int, end_line: int, end_column: int, *, context: int = 0) -> str:
    location = Location("a.py", line, column, end_line, end_column)
    return "\n".join(frame(location, source(text), PLAIN, margin=3, context=context))


def expected(text: str) -> str:
    return textwrap.dedent(text).strip("\n").replace("$", "")


def test_within_a_line() -> None:
    assert shown("a = 1\nself.bn = BatchNorm2d(3)\nb = 2", 2, 11, 2, 25, context=1) == expected(
        """
        $    |
        $  1 | a = 1
        $  2 | self.bn = BatchNorm2d(3)
        $    |           ^^^^^^^^^^^^^^
        $  3 | b = 2
        $    |
        """
    )


def test_context_ends_with_the_file() -> None:
    assert shown("f(x)", 1, 1, 1, 5, context=2) == "    |\n  1 | f(x)\n    | ^^^^\n    |"


def test_blank_lines_are_no_context() -> None:
    assert shown("\nf(x)\n   \n", 2, 1, 2, 5, context=1) == "    |\n  2 | f(x)\n    | ^^^^\n    |"


def test_over_several_lines() -> None:
    assert shown("m = FLModel(\n    a,\n    b,\n)", 1, 5, 4, 2) == expected(
        """
        $    |
        $  1 |   m = FLModel(
        $    |  _____^
        $  2 | |     a,
        $  3 | |     b,
        $  4 | | )
        $    | |_^
        $    |
        """
    )


def test_stretches_that_begin_on_one_line_share_a_frame() -> None:
    text = 'settings = {"backend": "torch", "skip_bn": FLAG(  '
    places = [(44, 2, 3), (24, 1, 31), (1, 1, 9)]
    locations = [Location("a.py", 1, column, end_line, end) for column, end_line, end in places]
    assert "\n".join(line_frame(locations, source(text), PLAIN, margin=3)) == expected(
        """
        $    |
        $  1 | settings = {"backend": "torch", "skip_bn": FLAG(
        $    | ^^^^^^^^               ^^^^^^^             ^^^^^
        $    |
        """
    )
    assert list(line_frame([Location("a.py", 9, 1, 9, 2)], source(text), PLAIN, margin=3)) == []


def test_the_middle_of_a_long_stretch_is_left_out() -> None:
    text = "m = FLModel(\n" + "".join(f"    argument_{number},\n" for number in range(20)) + ")"
    lines = shown(text, 1, 5, 22, 2).split("\n")
    assert "... | |" in lines
    assert [line.split(" | ")[0].strip() for line in lines if " | |  " in line] == ["2", "3", "4", "5", "21"]
    assert lines[-2:] == ["    | |_^", "    |"]


def test_tabs_and_wide_characters_keep_the_underline_below() -> None:
    assert shown("\tself.模型 = BatchNorm(3)  # 模", 1, 12, 1, 24) == expected(
        """
        $    |
        $  1 |     self.模型 = BatchNorm(3)  # 模
        $    |                 ^^^^^^^^^^^^
        $    |
        """
    )


def test_control_characters_are_escaped_and_counted() -> None:
    assert shown("a\x0cb = c", 1, 3, 1, 4) == "    |\n  1 | a\\x0cb = c\n    |      ^\n    |"


def test_an_empty_stretch_is_one_mark_wide() -> None:
    assert shown("abc", 1, 4, 1, 4).endswith("| abc\n    |    ^\n    |")


def test_a_long_line_is_cut_around_what_is_underlined() -> None:
    text = "x = '" + "a" * 1000 + "'; f(); y = '" + "b" * 1000 + "'"
    column = text.index("f()") + 1
    lines = shown(text, 1, column, 1, column + 3).split("\n")
    start = lines[2].index("^")
    assert lines[1][start : start + 3] == "f()"
    assert lines[2].count("^") == 3
    assert len(lines[1]) <= WIDTH + 12


def test_without_source_there_is_no_frame() -> None:
    assert shown("one line", 9, 1, 9, 2) == ""


@given(
    st.text(st.sampled_from("ab\t模é\u0301\x07 "), min_size=1, max_size=400),
    st.data(),
)
def test_the_underline_stands_below_its_characters(text: str, data: st.DataObject) -> None:
    text += "."  # Spaces at the end of a line are not shown.
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start + 1, len(text)))
    _, line, marks, _ = frame(Location("a.py", 1, start + 1, 1, end + 1), source(text), PLAIN, margin=1)
    columns = "".join(character + " " * (_wide(character) - 1) for character in line if _wide(character))
    first, count = marks.index("^"), marks.count("^")
    # What stands above the first mark is the first character underlined, unless that one takes no room of its own.
    visible = next((character for character in text[start:end] if _wide(character)), None)
    if visible is not None and text[start] == visible and first < len(columns):
        assert columns[first] == {"\t": " ", "\x07": "\\"}.get(visible, visible)
    assert first + count <= max(len(columns), first + 1)


def _wide(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) == "W" else 1
