"""Comments for findings: where they go, and that nothing else changes."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

from bn_audit.finding import Finding, Location, Severity
from bn_audit.fix.add_noqa import annotate
from bn_audit.hearing import content_of, hear
from bn_audit.scanning import judge, resolver
from bn_audit.silencing import marks_of, silence
from bn_audit.source.read import ReadOptions, read
from tests.fix.test_layouts import CASES, PROGRAM


def finding(line: int, end_line: int = 0, code: str = "BNA101", cell: int | None = None) -> Finding:
    path = "a.py" if cell is None else "a.ipynb"
    return Finding(code, "x", Severity.WARNING, "", Location(path, line, 1, end_line or line, 5, cell))


def added(source: str, *findings: Finding) -> str:
    """The source with comments, which silence the findings, and are nothing but comments."""
    data = source.encode()
    done = annotate("a.py", data, findings)
    assert done.left == ()
    assert done.added == len(findings)
    marks = marks_of("a.py", done.data)
    assert silence(findings, lambda path: marks).findings == ()
    assert ast.dump(ast.parse(data)) == ast.dump(ast.parse(done.data))
    return done.data.decode()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("f()\n", "f()  # noqa: BNA101\n"),
        ("f()", "f()  # noqa: BNA101"),
        ("f()   \n", "f()  # noqa: BNA101\n"),
        ("f()\r\ng()\r\n", "f()  # noqa: BNA101\r\ng()\r\n"),
        ("\ufefff('é')\n", "\ufefff('é')  # noqa: BNA101\n"),
        ("f()  # why\n", "f()  # why  # noqa: BNA101\n"),
        ("f()  # type: ignore\n", "f()  # type: ignore  # noqa: BNA101\n"),
        ("f()  # noqa: F841\n", "f()  # noqa: F841, BNA101\n"),
        ("f()  # noqa: F841,E501 why\n", "f()  # noqa: F841,E501,BNA101 why\n"),
        ("f()  # noqa: F841 E501\n", "f()  # noqa: F841 E501 BNA101\n"),
        ("f()  # noqa: later\n", "f()  # noqa: later  # noqa: BNA101\n"),
        ("f()  # bn-audit: ignore[BNA102]\n", "f()  # bn-audit: ignore[BNA102]  # noqa: BNA101\n"),
        ("f(\n    1,\n)\n", "f(  # noqa: BNA101\n    1,\n)\n"),
        ('f("""a\nb""", c,\n    d)\n', 'f("""a\nb""", c,  # noqa: BNA101\n    d)\n'),
        ("f(1, \\\n    2)\n", "f(1, \\\n    2)  # noqa: BNA101\n"),
        ("x = \\\n    f(\n        1)\n", "x = \\\n    f(  # noqa: BNA101\n        1)\n"),
        ("for x in y:\n    f()\n", "for x in y:  # noqa: BNA101\n    f()\n"),
        ("if x: f()\n", "if x: f()  # noqa: BNA101\n"),
    ],
)
def test_where_it_goes(before: str, after: str) -> None:
    assert added(before, finding(1, before.count("\n") or 1)) == after


def test_several_rules_on_a_line() -> None:
    source = "f()\ng()\n"
    findings = [finding(1, code="BNA303"), finding(1), finding(2, code="BNA404")]
    assert added(source, *findings) == "f()  # noqa: BNA101, BNA303\ng()  # noqa: BNA404\n"


def test_twice_is_once() -> None:
    done = annotate("a.py", b"f(), f()\n", [finding(1), finding(1)])
    assert (done.data, done.added) == (b"f(), f()  # noqa: BNA101\n", 1)


@pytest.mark.parametrize(
    ("source", "one", "reason"),
    [
        (b"f(\n", finding(1, code="BNA901"), "left as it is"),
        (b"f()  # noqa: BNA104\n", finding(1, code="BNA902"), "--fix"),
        (b"x = '''\nf()\n", finding(2), "no line that could hold a comment"),
        (b"f()\n", finding(7), "not there any more"),
        (b"\xff\xfef\0", finding(1), "not there any more"),
    ],
)
def test_what_gets_none(source: bytes, one: Finding, reason: str) -> None:
    done = annotate("a.py", source, [one])
    assert (done.data, done.added) == (source, 0)
    ((_, why),) = done.left
    assert reason in why


def test_a_notebook() -> None:
    cells = [["%%time\n", "f(\n", "    1)"], ["%time f()\n", "g()"]]
    raw = json.dumps({"cells": [{"cell_type": "code", "source": cell} for cell in cells], "nbformat": 4}, indent=1)
    findings = (finding(2, 3, cell=1), finding(1, cell=2))
    done = annotate("a.ipynb", raw.encode(), findings)
    sources = [cell["source"] for cell in json.loads(done.data)["cells"]]
    assert sources == [["%%time\n", "f(  # noqa: BNA101\n", "    1)"], ["%time f()  # noqa: BNA101\n", "g()"]]
    marks = marks_of("a.ipynb", done.data)
    assert silence(findings, lambda path: marks).findings == ()


def test_every_layout_of_a_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a scan finds is silenced by what is added for it, and the program stays the same."""
    monkeypatch.chdir(tmp_path)
    before = {f"layout{number}.py": f"{PROGRAM}{call}\n".encode() for number, (_, call, _) in enumerate(CASES)}
    for path, data in before.items():
        Path(path).write_bytes(data)
    settings = resolver(isolated=True)

    def scan() -> tuple[Finding, ...]:
        result = read(["."], options=ReadOptions(jobs=1))
        return hear(judge(result, settings), result, settings, content_of(None, {})).findings

    found = scan()
    assert {one.location.path for one in found} == before.keys()
    for path, data in before.items():
        done = annotate(path, data, [one for one in found if one.location.path == path])
        assert done.left == ()
        assert ast.dump(ast.parse(done.data)) == ast.dump(ast.parse(data))
        Path(path).write_bytes(done.data)
    assert scan() == ()
