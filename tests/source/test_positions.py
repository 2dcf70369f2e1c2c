"""Positions, beside libcst's own PositionProvider and beside the text itself."""

from __future__ import annotations

import random
import textwrap
from pathlib import Path

import libcst
import pytest
from hypothesis import given
from hypothesis import strategies as st
from libcst.metadata import MetadataWrapper, PositionProvider

import bn_audit
from bn_audit.finding import Location
from bn_audit.source.parse import parse
from bn_audit.source.positions import excerpt, locate
from tests.source.conftest import Tree

OURS = sorted(Path(bn_audit.__file__).parent.rglob("*.py"))

SNIPPETS = [
    "x = 1\n",
    "é = f('ü', *a, **{'k': v})  # comment\n",
    "@d(1)\nclass A(B, metaclass=M):\n\n    '''doc\n    more'''\n\n    @p\n    def f(self, *, a: int = 1): return a\n",
    "if a:\n    pass\nelif (b\n      or c):\n    d; e\nelse:\n    # end\n    pass\n",
    "with (open(x) as f, g() as h):\n    y = [i for i in f if i]\n",
    "try:\n    a\nexcept (B, C) as e:\n    raise D from e\nfinally:\n    del x, y\n",
    "match x:\n    case {'a': [1, *_], **r} if r: pass\n    case C(a=1) | None: pass\n",
    "async def f():\n    async for x in y: await (z)\n    return lambda *a, b=1: (yield)\n",
    "x = ((1 +\n      2)) if not (a) else -b ** c\n",
    "import a.b as c, d\nfrom .. import (e,\n  f as g)\n",
    "x = f'{a!r:>{w}} {b=}' 'c'\n",
    "while True:\n\tx[1:2, ::3] = y = z\n\tcontinue\n",
    "global a, b; assert x, y\n",
    "\n\n# a comment\n",
    "",
]


def spans(location: Location) -> tuple[int, int, int, int]:
    return location.line, location.column - 1, location.end_line, location.end_column - 1


def agree(source: str, chosen: int | None = None, seed: int = 0) -> None:
    """Compare all nodes of a source, or some of them at random, with PositionProvider."""
    parsed = parse("a.py", source.encode())
    expected = MetadataWrapper(parsed.module, unsafe_skip_copy=True).resolve(PositionProvider)
    nodes = list(expected)
    if chosen is not None:
        nodes = random.Random(seed).sample(nodes, min(chosen, len(nodes)))
    found = locate(parsed, nodes)
    assert found.keys() == {id(node) for node in nodes}
    for node in nodes:
        range_ = expected[node]
        location = found[id(node)]
        assert spans(location) == (range_.start.line, range_.start.column, range_.end.line, range_.end.column), node


@given(st.lists(st.sampled_from(SNIPPETS), max_size=6).map("".join), st.booleans())
def test_agrees_with_libcst(source: str, last_newline: bool) -> None:
    agree(source if last_newline else source.rstrip("\n"))


@given(st.lists(st.sampled_from(SNIPPETS), min_size=1, max_size=4).map("".join), st.integers(1, 5), st.integers(0, 999))
def test_agrees_when_few_are_asked_for(source: str, chosen: int, seed: int) -> None:
    agree(source, chosen, seed)


@pytest.mark.parametrize("path", OURS[::4], ids=lambda path: path.name)
def test_agrees_on_real_files(path: Path) -> None:
    agree(path.read_text(encoding="utf-8"))


@given(
    st.lists(st.sampled_from(SNIPPETS), max_size=5),
    st.sampled_from(["\r\n", "\r", "\n"]),
    st.sampled_from(["", "\ufeff"]),
)
def test_line_ends_and_marks_change_nothing(snippets: list[str], newline: str, mark: str) -> None:
    source = "".join(snippets)
    plain, other = parse("a.py", source.encode()), parse("a.py", (mark + source.replace("\n", newline)).encode())
    assert [spans(locate(plain, [node])[id(node)]) for node in plain.module.body] == [
        spans(locate(other, [node])[id(node)]) for node in other.module.body
    ]


def text_at(source: str, location: Location) -> str:
    lines = source.split("\n")[location.line - 1 : location.end_line]
    lines[-1] = lines[-1][: location.end_column - 1]
    lines[0] = lines[0][location.column - 1 :]
    return "\n".join(lines)


@pytest.mark.parametrize(
    "source",
    [
        "a = 1\n\x0cb = c\n",
        "class A:\n\x0c\n  x = 1\n\x0c  y = 2\n\x0c\x0c  z = 3\n  \x0c  w = 4\n",
        "x = (1,\n\x0c 2)\n\x0c\n\x0cdef f(): pass\n",
        's = """\n\x0ca\n"""\n\x0c\x0cb = s\n',
        "if a:\n    x = '\u2028\x85'; y = 1\n\x0bz = 1\n".replace("\x0b", ""),
        "\x0cx = 1",
    ],
)
def test_form_feeds(source: str) -> None:
    """libcst moves what follows a form feed; the text says where it really is."""
    parsed = parse("a.py", source.encode())
    names: list[libcst.Name] = []

    class Names(libcst.CSTVisitor):
        def visit_Name(self, node: libcst.Name) -> None:
            names.append(node)

    parsed.module.visit(Names())
    locations = locate(parsed, names)
    assert names
    assert [text_at(source, locations[id(name)]) for name in names] == [name.value for name in names]


def test_nodes_of_other_trees_have_no_location() -> None:
    parsed = parse("a.py", b"x = 1\n")
    assert locate(parsed, [libcst.Name("x")]) == {}
    assert locate(parsed, []) == {}


def test_deep_trees() -> None:
    parsed = parse("a.py", b"x = a" + b".b()" * 500 + b"\n")
    (statement,) = parsed.module.body
    assert spans(locate(parsed, [statement])[id(statement)]) == (1, 0, 1, 2_005)


def test_excerpt(tree: Tree) -> None:
    notebook = '{"cells": [{"cell_type": "markdown"}, {"cell_type": "code", "source": "x\\n%time f()"}]}'
    tree(
        {
            "a.py": "# coding: latin-1\r\nx = '\xe9'\x0c\rlast".encode("latin-1"),
            "n.ipynb": notebook,
            "bad.py": b"\xff",
            "bad.ipynb": b"",
        }
    )
    assert [excerpt("a.py", None, line) for line in range(5)] == [
        None,
        "# coding: latin-1",
        "x = 'é'\x0c",
        "last",
        None,
    ]
    assert excerpt("n.ipynb", 2, 2) == "%time f()"
    assert excerpt("n.ipynb", 1, 1) is None
    assert excerpt("n.ipynb", None, 1) is None
    assert [excerpt(path, None, 1) for path in ("bad.py", "bad.ipynb", "gone.py", "x\0")] == [None] * 4


def test_dedented_example_keeps_its_columns() -> None:
    source = textwrap.dedent(
        """
        def run(model):
            fl = FLModel(model=model,
                         skip_bn=True)
        """
    )
    parsed = parse("a.py", source.encode())
    calls = [node for node in _walk(parsed.module) if isinstance(node, libcst.Call)]
    assert locate(parsed, calls)[id(calls[0])] == Location("a.py", 3, 10, 4, 31)


def _walk(node: libcst.CSTNode) -> list[libcst.CSTNode]:
    return [node, *(below for child in node.children for below in _walk(child))]
