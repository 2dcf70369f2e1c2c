"""Which findings a comment silences, and what is left of a comment that silences nothing."""

from __future__ import annotations

import json

import pytest

from bn_audit.finding import Edit, Finding, Location, Severity
from bn_audit.fix.contents import edit_bytes
from bn_audit.silencing import marks_of, silence, unused

CALL = """\
before = 1
model = FLModel(
    first,
    last,
)
after = 1
"""
"""A finding stands at its call: line 2, column 9, to line 5, column 2."""


def finding(line: int, end_line: int = 0, code: str = "BNA101", cell: int | None = None) -> Finding:
    path = "a.py" if cell is None else "a.ipynb"
    return Finding(code, "x", Severity.WARNING, "", Location(path, line, 9, end_line or line, 12, cell))


def is_silenced(source: str, *place: int, code: str = "BNA101") -> bool:
    marks = marks_of("a.py", source.encode())
    found = silence([finding(*place, code=code)], lambda path: marks)
    assert len(found.findings) + len(found.silenced) == 1
    return bool(found.silenced)


def with_comment(source: str, line: int, comment: str = "# noqa: BNA101") -> str:
    lines = source.split("\n")
    lines[line - 1] += f"  {comment}"
    return "\n".join(lines)


@pytest.mark.parametrize("comment", ["# noqa", "# noqa: BNA101", "# bn-audit: ignore[BNA101]", "# bn-audit: ignore"])
@pytest.mark.parametrize(("line", "silenced"), [(1, False), (2, True), (3, False), (4, False), (5, True), (6, False)])
def test_the_first_and_the_last_line_of_a_call(comment: str, line: int, silenced: bool) -> None:
    assert is_silenced(with_comment(CALL, line, comment), 2, 5) is silenced


@pytest.mark.parametrize("comment", ["# noqa: BNA102", "# noqa: F841", "# noqa:", "# bn-audit: ignore[]", "# BNA101"])
def test_other_rules(comment: str) -> None:
    assert not is_silenced(with_comment(CALL, 2, comment), 2, 5)


def test_the_end_of_the_statement() -> None:
    source = "models = [\n    FLModel(\n        1,\n    ),\n    FLModel(2),\n]  # noqa: BNA101\n"
    assert is_silenced(source, 2, 4)
    assert is_silenced(source, 5)


def test_a_block_is_silenced_at_its_head() -> None:
    source = "for party in (\n    parties\n):\n    total += party\n    total /= n\nafter = 1\n"
    assert [is_silenced(with_comment(source, line), 1, 5) for line in range(1, 7)] == [
        True, False, True, False, False, False,
    ]  # fmt: skip


def test_where_a_line_can_hold_no_comment() -> None:
    string = 'model = FLModel("""a\nb\n""", c,\n    d)\n'
    assert [is_silenced(with_comment(string, line), 1, 4) for line in (3, 4)] == [True, True]
    assert not is_silenced(with_comment(string, 2), 1, 4)
    continued = "model = \\\n    FLModel(a, \\\n        b)\nx = 1\n"
    assert is_silenced(with_comment(continued, 3), 1, 3)
    assert is_silenced(with_comment(continued, 3), 2, 3)
    assert not is_silenced(with_comment(continued, 4), 2, 3)
    long = "f(\n    FLModel(a, \\\n        b),\n    c,\n)\n"
    assert [is_silenced(with_comment(long, line), 2) for line in (1, 3, 4, 5)] == [False, True, False, True]


def test_strings_hold_no_comments() -> None:
    assert not is_silenced('model = FLModel("# noqa: BNA101")\n', 1)
    assert not is_silenced('"""\n# bn-audit: ignore-file\n"""\nmodel = FLModel()\n', 4)


def test_a_comment_on_a_line_of_its_own() -> None:
    for comment, silenced in (("# bn-audit: ignore[BNA101] why", True), ("# noqa: BNA101", False)):
        assert is_silenced(f"{comment}\n\n# more\nmodel = FLModel()\n", 4) is silenced
    assert not is_silenced("# bn-audit: ignore[BNA101]\nx = 1\nmodel = FLModel()\n", 3)
    assert not is_silenced("x = 1  # bn-audit: ignore[BNA101]\nmodel = FLModel()\n", 2)


@pytest.mark.parametrize("where", [1, 6])
def test_a_whole_file(where: int) -> None:
    assert is_silenced(with_comment(CALL, where, "# bn-audit: ignore-file[BNA101]"), 2, 5)
    assert is_silenced(with_comment(CALL, where, "# bn-audit: ignore-file"), 2, 5)
    assert not is_silenced(with_comment(CALL, where, "# bn-audit: ignore-file[BNA102]"), 2, 5)


@pytest.mark.parametrize(
    "source",
    [
        "model = FLModel(  # noqa: BNA901\n",
        "if True\n    x = 'open  # no\nmodel = FLModel()  # noqa: BNA901\n",
        "x = '\xff'  # noqa: BNA901\n",
    ],
)
def test_what_cannot_be_parsed(source: str) -> None:
    line = source.count("\n")
    marks = marks_of("a.py", source.encode("latin-1"))
    assert silence([finding(line, code="BNA901")], lambda path: marks).silenced


def test_the_reason_is_kept() -> None:
    source = "model = FLModel()  # noqa: BNA101  # bn-audit: ignore[BNA101] averaged on purpose\n"
    marks = marks_of("a.py", source.encode())
    (found,) = silence([finding(1)], lambda path: marks).silenced
    assert (found.by, found.reason) == ("comment", "averaged on purpose")


def notebook(*cells: str) -> bytes:
    made = [{"cell_type": "code", "source": cell.splitlines(keepends=True)} for cell in cells]
    return json.dumps({"cells": made, "nbformat": 4}, indent=1).encode()


def test_cells_are_silenced_one_by_one() -> None:
    marks = marks_of(
        "a.ipynb", notebook("x = FLModel()  # noqa: BNA101", "x = FLModel()", "%time x = FLModel() # noqa")
    )
    found = silence([finding(1, cell=cell) for cell in (1, 2, 3)], lambda path: marks)
    assert [one.location.cell for one in found.findings] == [2]


def test_a_file_is_a_whole_notebook() -> None:
    marks = marks_of("a.ipynb", notebook("# bn-audit: ignore-file[BNA101]\n", "x = FLModel()"))
    assert silence([finding(1, cell=2)], lambda path: marks).silenced


def after(source: str, *findings: Finding, applied: str = "BNA101 BNA102 BNA901") -> tuple[list[str], str]:
    """The codes that are used for nothing, and the source without them."""
    data = source.encode()
    codes: list[str] = []
    while True:  # Of two suppressions in one comment the first goes first.
        marks = marks_of("a.py", data)
        found = unused(marks, silence(findings, {"a.py": marks}.__getitem__).used, applied.split().__contains__)
        if not found:
            return codes, data.decode()
        codes += [*found[0].unused, *found[0].unknown]
        data = edit_bytes("a.py", data, {None: found[0].edits}).data


@pytest.mark.parametrize(
    ("source", "codes", "left"),
    [
        ("x = 1  # noqa: BNA101\n", "BNA101", "x = 1\n"),
        ("x = 1\t# noqa: BNA101 why", "BNA101", "x = 1"),
        ("x = 1  # noqa: BNA101, F841\n", "BNA101", "x = 1  # noqa: F841\n"),
        ("x = 1  # noqa: F841,BNA101 why\n", "BNA101", "x = 1  # noqa: F841 why\n"),
        ("x = 1  # noqa: E501 BNA101 F841 why\n", "BNA101", "x = 1  # noqa: E501 F841 why\n"),
        ("x = 1  # noqa:BNA101,BNA102\n", "BNA101 BNA102", "x = 1\n"),
        ("x = 1  # type: ignore  # noqa: BNA101\n", "BNA101", "x = 1  # type: ignore\n"),
        ("x = 1  # noqa: BNA101 why  # type: ignore\n", "BNA101", "x = 1  # type: ignore\n"),
        ("x = 1  # a # noqa: BNA101 # b\n", "BNA101", "x = 1  # a # b\n"),
        ("x = 1  # bn-audit: ignore[BNA101, BNA303]\n", "BNA101", "x = 1  # bn-audit: ignore[BNA303]\n"),
        ("x = 1  # noqa: BNA101  # bn-audit: ignore[BNA102]\n", "BNA101 BNA102", "x = 1\n"),
        ("# bn-audit: ignore-file[BNA101]\nx = 1\n", "BNA101", "x = 1\n"),
        ("x = 1\n    # bn-audit: ignore[BNA101]\n", "BNA101", "x = 1\n"),
        ("x = 1\r\n# noqa: BNA101\r\ny = 1\r\n", "BNA101", "x = 1\r\ny = 1\r\n"),
        ("# noqa: BNA101", "BNA101", ""),
        ("x = 'é'  # noqa: BNA101\n", "BNA101", "x = 'é'\n"),
        ("x = 1  # noqa: BNA101, BNA101\n", "BNA101", "x = 1\n"),
        ("x = 1  # noqa: BNA7, BNA999\n", "BNA7 BNA999", "x = 1\n"),
        ("x = 1  # bn-audit: ignore[missing-skip-bn]\n", "missing-skip-bn", "x = 1\n"),
        # Not ours to judge.
        ("x = 1  # noqa\n", "", "x = 1  # noqa\n"),
        ("x = 1  # noqa: F841, BNAB12\n", "", "x = 1  # noqa: F841, BNAB12\n"),
        ("x = 1  # bn-audit: ignore\n", "", "x = 1  # bn-audit: ignore\n"),
        ("x = 1  # noqa: BNA303\n", "", "x = 1  # noqa: BNA303\n"),
        ("x = 1  # noqa: BNA101, BNA902\n", "", "x = 1  # noqa: BNA101, BNA902\n"),
        ("x = '# noqa: BNA101'\n", "", "x = '# noqa: BNA101'\n"),
    ],
)
def test_unused(source: str, codes: str, left: str) -> None:
    found, text = after(source)
    assert found == codes.split()
    assert text == left


def test_what_is_used_stays() -> None:
    assert after("x = FLModel()  # noqa: BNA101\n", finding(1))[0] == []
    assert after("x = FLModel()  # noqa: BNA101, BNA102\n", finding(1)) == (
        ["BNA102"],
        "x = FLModel()  # noqa: BNA101\n",
    )
    # Each of several that silence the same is used.
    source = "# bn-audit: ignore-file[BNA101]\nx = FLModel()  # noqa: BNA101\n"
    assert after(source, finding(2)) == ([], source)


def test_codes_that_are_no_rules_are_told_whatever_was_applied() -> None:
    assert after("x = 1  # noqa: BNA101, BNA999\n", applied="") == (["BNA999"], "x = 1  # noqa: BNA101\n")


def test_a_line_of_a_notebook() -> None:
    data = notebook("# bn-audit: ignore-file[BNA101]\n", "  # noqa: BNA101\n  x = 1  # noqa: BNA101")
    marks = marks_of("a.ipynb", data)
    found = unused(marks, frozenset(), lambda code: True)
    assert [one.location.cell for one in found] == [1, 2, 2]
    edits: dict[int | None, list[Edit]] = {}
    for one in found:
        edits.setdefault(one.location.cell, []).extend(one.edits)
    cells = json.loads(edit_bytes("a.ipynb", data, edits).data)["cells"]
    assert ["".join(cell["source"]) for cell in cells] == ["", "  x = 1"]
