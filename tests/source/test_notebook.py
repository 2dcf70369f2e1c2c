"""Notebooks: which cells count, what is not Python in them, and where things stand."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bn_audit.source.notebook import read_notebook
from bn_audit.source.parse import parse
from bn_audit.source.positions import locate
from bn_audit.source.text import SourceError


def notebook(*cells: object, **metadata: object) -> bytes:
    """A notebook whose cells are given by their sources, or as they are."""
    made = [
        cell if isinstance(cell, dict) else {"cell_type": "code", "metadata": {}, "outputs": [], "source": cell}
        for cell in cells
    ]
    return json.dumps({"cells": made, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}).encode()


def code(source: object) -> str:
    (cell,) = read_notebook(notebook(source))
    return cell.code


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = 1", "x = 1"),
        (["x = 1\n", "y = 2"], "x = 1\ny = 2"),
        ("", ""),
        ("%matplotlib inline\nx = 1", "pass\nx = 1"),
        ("!pip install torch\nx = 1", "pass\nx = 1"),
        ("  \n%matplotlib inline\nx", "  \npass\nx"),
        ("!pip install \\\n  torch \\\n  timm\nx", "pass\n\n\nx"),
        ("!echo \"it's\nx = 'a'", "pass\nx = 'a'"),
        ("%load_ext autoreload", "pass"),
        ("if x:\n    !ls\n    %cd ..\ny", "if x:\n    pass\n    pass\ny"),
        ("if x:\n\t!ls", "if x:\n\tpass"),
        ("files = !ls *.py\nx", "files = get_ipython()\nx"),
        ("a, b = %magic 1\nx", "a, b = get_ipython()\nx"),
        ("self.files[0] = !ls", "self.files[0] = get_ipython()"),
        ("x = !ls \\\n  -l\ny", "x = get_ipython()\n\ny"),
        ("model?", "pass"),
        ("model.fc??\nx", "pass\nx"),
        ("?model", "pass"),
        ("layers[0].weight?", "pass"),
        ("%timeit?", "pass"),
        ("nn.*Norm?", "pass"),
        ("x = 1 # really?", "x = 1 # really?"),
        ("print('why?')", "print('why?')"),
        ("/print 1", "pass"),
        (",print a b", "pass"),
        ("plt.plot(x);", "plt.plot(x);"),
        ("x != y\nx == !y", "x != y\nx == !y"),
        ("x = (a\n  % b)\n%magic", "x = (a\n  % b)\npass"),
        ("x = a \\\n  % b\n!ls", "x = a \\\n  % b\npass"),
        ("s = '''\n%magic\n!ls\n'''\n!ls", "s = '''\n%magic\n!ls\n'''\npass"),
        ('s = f"""\n!ls {x!r:>{w}}\n"""\n!ls', 's = f"""\n!ls {x!r:>{w}}\n"""\npass'),
        ("# !ls\n# 'quote\n!ls", "# !ls\n# 'quote\npass"),
        ("d = {\n 'a': 1}\n%magic", "d = {\n 'a': 1}\npass"),
        ("%%time\nx = 1", "\nx = 1"),
        ("\n%%capture out --no-stderr\nx = 1\n!ls", "\n\nx = 1\npass"),
        ("%%bash\nls | grep x\necho 'a", "\n\n"),
        ("%%writefile model.py\nfrom a import FLModel", "\n"),
        ("%%capture\n%%!\nwget https://example.org/1m.zip", "\n\n"),
        ("%%capture\n%%time\nx = 1", "\n\nx = 1"),
        ("%%html\n<b>'</b>", "\n"),
        ("%%timeit -n 10", ""),
        ("x\r\n!ls\r\ny", "x\npass\ny"),
        ("await f()", "await f()"),
    ],
)
def test_only_python_is_left(source: object, expected: str) -> None:
    assert code(source) == expected


@pytest.mark.parametrize(
    ("source", "expected", "shifts"),
    [
        ("%time model.fit(x)\ny", "model.fit(x)\ny", {1: 6}),
        ("if a:\n  %time  b = f(\n    c)\nd", "if a:\n  b = f(\n    c)\nd", {2: 7}),
        ("%time !ls", "pass", {1: 6}),
        ("    x = 1\n    y = 2\n\n    if x:\n      z", "x = 1\ny = 2\n\nif x:\n  z", {1: 4, 2: 4, 4: 4, 5: 4}),
        ("  %time x", "x", {1: 8}),
    ],
)
def test_lines_that_lose_their_beginning(source: str, expected: str, shifts: dict[int, int]) -> None:
    (cell,) = read_notebook(notebook(source))
    assert cell.code == expected
    assert cell.shifts == shifts
    assert cell.source == source


def test_cells_are_numbered_over_all_of_them() -> None:
    markdown = {"cell_type": "markdown", "source": "# Title"}
    raw = {"cell_type": "raw", "source": "x"}
    other = {"cell_type": "code", "source": "SELECT 1", "metadata": {"vscode": {"languageId": "sql"}}}
    cells = read_notebook(notebook(markdown, "a", raw, other, "b"))
    assert [(cell.number, cell.code) for cell in cells] == [(2, "a"), (5, "b")]


@pytest.mark.parametrize(
    ("metadata", "python"),
    [
        ({}, True),
        ({"kernelspec": {"name": "python3", "language": "python"}}, True),
        ({"kernelspec": {"name": "python3", "display_name": "Python 3 (ipykernel)"}}, True),
        ({"language_info": {"name": "python"}}, True),
        ({"language_info": {"name": "R"}}, False),
        ({"kernelspec": {"name": "julia-1.9", "language": "julia"}}, False),
        ({"kernelspec": None, "language_info": 3}, True),
    ],
)
def test_languages(metadata: dict[str, object], python: bool) -> None:
    assert bool(read_notebook(notebook("x", **metadata))) is python


def test_nbformat_3() -> None:
    cells = [
        {"cell_type": "markdown", "source": ["text"]},
        {"cell_type": "code", "language": "python", "input": ["a\n", "b"]},
        {"cell_type": "code", "language": "ruby", "input": "puts"},
    ]
    second = [{"cell_type": "code", "input": "c"}]
    data = json.dumps({"nbformat": 3, "worksheets": [{"cells": cells}, {"cells": second}], "metadata": {}}).encode()
    assert [(cell.number, cell.code) for cell in read_notebook(data)] == [(2, "a\nb"), (4, "c")]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b" \n", "empty file"),
        (b"# Python\n", "not valid JSON"),
        (b'{"cells": [', "not valid JSON"),
        (b"[]", "not a JSON object"),
        (b"{}", "no list of cells"),
        (b'{"cells": {}}', "no list of cells"),
        (b'{"worksheets": [{"cells": 1}]}', "worksheet 1 are not a list"),
        (b'{"cells": [1]}', "not a JSON object"),
        (b'{"cells": [{"cell_type": "code", "source": 1}]}', "neither a string nor a list"),
        (b'{"cells": [{"cell_type": "code", "source": ["a", 1]}]}', "neither a string nor a list"),
        (b'{"a": "\xff"}', "not valid utf-8"),
        (b"[" * 100_000, "not valid JSON"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "not valid JSON"),
    ],
)
def test_what_is_no_notebook(data: bytes, reason: str) -> None:
    with pytest.raises(SourceError, match=reason):
        read_notebook(data)


def test_position_of_a_json_error() -> None:
    with pytest.raises(SourceError) as caught:
        read_notebook(b'{\n  "cells": [,]\n}')
    assert (caught.value.line, caught.value.column) == (2, 13)


def test_cells_make_one_module() -> None:
    data = notebook(
        "%matplotlib inline\nimport a", "x = (", "y = a.b\nz = y", {"cell_type": "markdown", "source": ""}, "w"
    )
    parsed = parse("n.ipynb", data)
    assert parsed.module.code.split() == ["pass", "import", "a", "y", "=", "a.b", "z", "=", "y", "w"]
    assert [part.cell for part in parsed.parts] == [1, 3, 5]
    (broken,) = parsed.unreadable
    assert (broken.location.cell, broken.location.line, broken.location.column) == (2, 1, 5)
    assert broken.reason == "'(' was never closed"
    last = parsed.module.body[-1]
    assert locate(parsed, [last])[id(last)].cell == 5


def test_positions_are_those_of_the_cell() -> None:
    source = "!ls\n%time y = f(\n  1)\nif y:\n    %time g(y)"
    parsed = parse("n.ipynb", notebook("x", source))
    statements = parsed.parts[1].module.body
    lines = source.split("\n")
    call, branch = (locate(parsed, [statement])[id(statement)] for statement in statements[1:])
    assert (call.cell, call.line, call.end_line) == (2, 2, 3)
    assert lines[1][call.column - 1 :] == "y = f("
    assert lines[2][: call.end_column - 1] == "  1)"
    assert (branch.line, branch.column, branch.end_line, branch.end_column) == (4, 1, 5, len(lines[4]) + 1)


def test_position_of_an_error_in_a_shifted_line() -> None:
    parsed = parse("n.ipynb", notebook("%time x = = 1"))
    assert (parsed.unreadable[0].location.line, parsed.unreadable[0].location.column) == (1, 11)


def test_lone_surrogates() -> None:
    parsed = parse("n.ipynb", b'{"cells": [{"cell_type": "code", "source": "x = \'\\ud800\'\\ny"}]}')
    assert len(parsed.parts) == 1
    assert not parsed.unreadable


def test_a_cell_that_is_too_deep_is_broken_alone() -> None:
    parsed = parse("n.ipynb", notebook("(" * 1000, "x"))
    assert [part.cell for part in parsed.parts] == [2]
    assert "nested brackets" in parsed.unreadable[0].reason


_PYTHON = [
    "x = 1",
    "if x:",
    "    y = [1,",
    "2]",
    "'''",
    "f(a, b=c)",
    "# c",
    "x?",
    "!ls",
    "%magic",
    "z = !ls",
    "%time f()",
    "",
]


@given(st.lists(st.sampled_from(_PYTHON), max_size=8).map("\n".join))
def test_lines_stay_lines(source: str) -> None:
    (cell,) = read_notebook(notebook(source))
    assert cell.code.count("\n") == source.count("\n")
    if not any(mark in source for mark in "!%?") and not source.lstrip("\n").startswith(" "):
        assert cell.code == source


@given(st.text(st.sampled_from("ab =!%?\n'\"(){}\\#:;f"), max_size=40))
def test_anything_can_stand_in_a_cell(source: str) -> None:
    parsed = parse("n.ipynb", notebook(source, "tail"))
    assert parsed.parts[-1].cell == 2
    assert [part.cell for part in parsed.parts[:-1]] + [broken.location.cell for broken in parsed.unreadable] == [1]
