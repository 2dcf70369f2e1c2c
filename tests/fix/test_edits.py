"""Edits of texts: outside of them not a character changes."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bn_audit.finding import Applicability, Edit, Finding, Fix, Location, Severity
from bn_audit.fix.edits import EditError, applicable, apply_edits, compatible, edit_text


@pytest.mark.parametrize(
    ("text", "edits", "after"),
    [
        ("f(a)\n", [Edit(1, 4, 1, 4, ", b")], "f(a, b)\n"),
        ("f(False)", [Edit(1, 3, 1, 8, "True")], "f(True)"),
        ("a\nb\nc\n", [Edit(2, 1, 2, 2, "B"), Edit(1, 1, 1, 2, "A")], "A\nB\nc\n"),
        # Line ends are those of the line, or of the one before the last.
        ("f(\r\n  a,\r\n)", [Edit(2, 5, 2, 5, "\n  b,")], "f(\r\n  a,\r\n  b,\r\n)"),
        ("f(\r  a,\r)", [Edit(2, 5, 2, 5, "\n  b,")], "f(\r  a,\r  b,\r)"),
        ("f(\n  a,\r\n)", [Edit(2, 5, 2, 5, "\n  b,")], "f(\n  a,\r\n  b,\r\n)"),
        ("f(\r\n  a,\n)", [Edit(2, 5, 2, 5, "\n  b,")], "f(\r\n  a,\n  b,\n)"),
        ("f(\r\n  a)", [Edit(2, 4, 2, 4, ",\n  b")], "f(\r\n  a,\r\n  b)"),
        ("f(a)", [Edit(1, 4, 1, 4, ",\nb")], "f(a,\nb)"),
        # What ends no line in Python ends none here.
        ("\x0c\u2028\x85x = f(a)\n", [Edit(1, 11, 1, 11, ", b")], "\x0c\u2028\x85x = f(a, b)\n"),
        ("f(😀)\n", [Edit(1, 4, 1, 4, ", b")], "f(😀, b)\n"),
        ("", [Edit(1, 1, 1, 1, "a")], "a"),
        ("a\n", [Edit(2, 1, 2, 1, "b\n")], "a\nb\n"),
        ("a", [Edit(1, 1, 1, 2, "b"), Edit(1, 1, 1, 2, "b")], "b"),
    ],
)
def test_texts(text: str, edits: list[Edit], after: str) -> None:
    assert apply_edits(text, edits) == after


@pytest.mark.parametrize(
    "edit",
    [
        Edit(0, 1, 1, 1, ""),
        Edit(3, 1, 3, 1, ""),
        Edit(1, 0, 1, 1, ""),
        Edit(1, 3, 1, 3, ""),  # behind the line end
        Edit(2, 3, 2, 3, ""),
        Edit(2, 1, 1, 1, ""),
    ],
)
def test_what_lies_outside_is_an_error(edit: Edit) -> None:
    with pytest.raises(EditError):
        apply_edits("a\r\nb", [edit])


def test_what_overlaps_is_an_error() -> None:
    with pytest.raises(EditError, match="overlap"):
        apply_edits("abc", [Edit(1, 1, 1, 3, "x"), Edit(1, 2, 1, 4, "y")])


texts = st.lists(st.sampled_from(["a", "\n", "\r\n", "\r", "\x0c", "😀", "é", " ", "\t", "\u2028"]), max_size=30)


@st.composite
def edited(draw: st.DrawFn) -> tuple[str, list[Edit]]:
    """A text and edits of it that do not overlap."""
    text = "".join(draw(texts))
    lines = re.split(r"\r\n?|\n", text)
    places = sorted((number, column) for number, line in enumerate(lines) for column in range(len(line) + 1))
    cuts = sorted(draw(st.sets(st.integers(0, len(places) - 1), min_size=1, max_size=6)))
    edits = []
    for start, end in zip(cuts[::2], cuts[1::2] or cuts, strict=False):
        first, last = places[start], places[draw(st.sampled_from([start, end]))]
        content = draw(st.sampled_from(["", "x", "xy\n", "\nz"]))
        edits.append(Edit(first[0] + 1, first[1] + 1, last[0] + 1, last[1] + 1, content))
    return text, edits


@given(edited())
def test_nothing_else_changes(pair: tuple[str, list[Edit]]) -> None:
    text, edits = pair
    done = edit_text(text, edits)
    pieces = done.pieces()
    assert "".join(pieces) == done.text
    # What stays is the text without what was edited, in its order.
    kept, end = [], 0
    for splice in done.splices:
        kept.append(text[end : splice.start])
        end = splice.end
    assert pieces[::2] == [*kept, text[end:]]
    for splice, content in zip(done.splices, pieces[1::2], strict=True):
        assert splice.content == content
    assert [re.sub(r"\r\n?", "\n", one) for one in pieces[1::2]] == [
        edit.content for edit in sorted(set(edits), key=lambda edit: (edit.line, edit.column))
    ]


@given(edited())
def test_positions_move_along(pair: tuple[str, list[Edit]]) -> None:
    text, edits = pair
    done = edit_text(text, edits)
    new_lines = re.split(r"\r\n?|\n", done.text)
    for number, line in enumerate(re.split(r"\r\n?|\n", text), start=1):
        for column in range(1, len(line) + 1):
            inside = any(
                (edit.line, edit.column) <= (number, column) < (edit.end_line, edit.end_column) for edit in edits
            )
            if not inside:
                new_line, new_column = done.moved(number, column)
                if (number, column) not in {(edit.line, edit.column) for edit in edits}:
                    assert new_lines[new_line - 1][new_column - 1] == line[column - 1]


def finding(*edits: Edit, line: int = 1, path: str = "a.py", cell: int | None = None, unsafe: bool = False) -> Finding:
    fix = Fix(Applicability.UNSAFE if unsafe else Applicability.SAFE, "do", edits)
    place = Location(path, line, 1, line, 2, cell)
    return Finding("BNA101", "missing-skip-bn", Severity.ERROR, "", place, fix=fix)


def test_which_fixes_go_together() -> None:
    first = finding(Edit(1, 1, 1, 5, "x"))
    overlapping = finding(Edit(1, 4, 1, 8, "y"), line=2)
    behind = finding(Edit(1, 5, 1, 5, "z"), line=3)
    same = finding(Edit(1, 1, 1, 5, "x"), line=4)
    there = finding(Edit(1, 1, 1, 1, "w"), line=5)
    assert compatible([first, overlapping, behind, same, there]) == [first, behind, same]
    other_file, other_cell = finding(Edit(1, 1, 1, 5, "v"), path="b.py"), finding(Edit(1, 1, 1, 5, "v"), cell=2)
    assert compatible([first, other_file, other_cell]) == [first, other_file, other_cell]


def test_unsafe_fixes_are_asked_for() -> None:
    unsafe = finding(Edit(1, 1, 1, 5, "x"), unsafe=True)
    none = replace(unsafe, fix=None)
    assert compatible([unsafe, none]) == []
    assert compatible([unsafe, none], unsafe=True) == [unsafe]
    assert not applicable(none, unsafe=True)
    assert not applicable(finding(), unsafe=True)
