"""Comments and logical lines, held against Python's own tokenizer where that one can read the text."""

from __future__ import annotations

import io
import sys
import tokenize
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bn_audit.source.comments import comments_in, comments_of
from tests.source.test_notebook import notebook

ROOT = Path(__file__).parent.parent.parent
FILES = [
    *sorted(ROOT.joinpath("bn_audit").rglob("*.py")),
    *sorted(ROOT.joinpath("tests/source").glob("*.py")),
    *sorted(ROOT.joinpath("examples").rglob("*.py")),
]


def python(text: str) -> tuple[list[tuple[int, int, str]], list[tuple[int, int]]]:
    """The comments of a text, and the first and last lines of its logical lines, as Python's tokenizer sees them."""
    comments, statements = [], []
    first: int | None = None
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            comments.append((token.start[0], token.start[1] + 1, token.string))
        elif token.type == tokenize.NEWLINE:
            assert first is not None
            statements.append((first, token.start[0]))
            first = None
        elif token.type not in (tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER) and first is None:
            first = token.start[0]
    return comments, statements


def ours(text: str) -> list[tuple[int, int, str]]:
    return [(comment.line, comment.column, comment.text) for comment in comments_in(text).comments]


def test_as_python_sees_them() -> None:
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        comments, statements = python(text)
        found = comments_in(text)
        assert ours(text) == comments, path
        for first, last in statements:
            assert {found.statement(line) for line in range(first, last + 1)} == {(first, last)}, path


ODD = {
    "a string": ('x = "# no"  # yes\n', ["# yes"]),
    "a long string": ('"""\n# no\n"""  # yes\n', ["# yes"]),
    "quotes in a comment": ("x = 1  # don't\ny = '# no'  # yes\n", ["# don't", "# yes"]),
    "an escaped quote": (r"x = 'it\'s # no'  # yes", ["# yes"]),
    "a raw string": ("x = r'\\'  # no'\n# yes", ["# yes"]),
    "a continued line": ("x = 1 + \\\n    2  # yes\n", ["# yes"]),
    "a backslash in a comment": ("# yes \\\n# too\n", ["# yes \\", "# too"]),
    "an f-string": ("f'{x!r:#x} # no {y}'  # yes\n", ["# yes"]),
    "an f-string in an f-string": ('f"{f"{x["#"]} # no"} # no"  # yes\n', ["# yes"]),
    "doubled braces": ("f'{{# no'  # yes\n", ["# yes"]),
    "a comment in a field": ("f'''{\nx  # yes\n}'''\n", ["# yes"]),
    "an unterminated string": ("x = 'open # no\ny = 1  # yes\n", ["# yes"]),
    "an unterminated f-string": ("x = f'open # no\ny = 1  # yes\n", ["# yes"]),
    "an unterminated long string": ('x = """open # no\ny = 1  # no\n', []),
    "open brackets": ("x = (((  # yes\ny = 1  # too\n", ["# yes", "# too"]),
    "too many closing brackets": ("x = )))  # yes\ny = 1  # too\n", ["# yes", "# too"]),
    "nothing": ("", []),
    "only a comment": ("#", ["#"]),
    "a name that ends like a prefix": ("buf'x # no'  # yes\n", ["# yes"]),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_texts(name: str) -> None:
    text, comments = ODD[name]
    assert [comment for _, _, comment in ours(text)] == comments


ALPHABET = [
    "#",
    "'",
    '"',
    "'''",
    '"""',
    "\\",
    "\n",
    "f",
    "r",
    "{",
    "}",
    "(",
    ")",
    "[",
    "]",
    ":",
    "x",
    " ",
    ",",
    "=",
    "1",
]


@settings(max_examples=400)
@given(st.lists(st.sampled_from(ALPHABET), max_size=40).map("".join))
def test_any_text_has_an_answer(text: str) -> None:
    found = comments_in(text)
    lines = text.split("\n")
    assert found.lines == len(lines)
    for comment in found.comments:
        assert lines[comment.line - 1][comment.column - 1 :] == comment.text
        assert comment.alone == (not lines[comment.line - 1][: comment.column - 1].strip())
    for line in range(1, len(lines) + 1):
        first, last = found.statement(line)
        assert 1 <= first <= line <= last <= len(lines)
        assert line <= found.place(line) <= len(lines)
        assert (found.next_code(line) or line + 1) > line


@pytest.mark.skipif(sys.version_info < (3, 12), reason="older tokenizers take f-strings for plain strings")
@settings(max_examples=400)
@given(st.lists(st.sampled_from(ALPHABET), max_size=12).map("".join))
def test_a_text_that_python_can_read(text: str) -> None:
    try:
        compile(text, "text", "exec")
        comments, _ = python(text)
    except (SyntaxError, ValueError, tokenize.TokenError):
        return
    assert ours(text) == comments


def test_where_a_comment_can_stand() -> None:
    text = 'f(\n    """a\n    b""",\n    1 + \\\n    2,\n)\nx = f"""{a}\n{\nb\n}\n"""\ny = 1\n'
    found = comments_in(text)
    places = [found.place(line) for line in range(1, 13)]
    assert places == [1, 3, 3, 5, 5, 6, 11, 11, 11, 11, 11, 12]
    assert found.statement(1) == (1, 6)
    assert found.statement(8) == (7, 11)


def test_the_next_line_of_code() -> None:
    found = comments_in("# a\n\n# b\nx = 1  # c\n\n# d\n")
    assert [found.next_code(line) for line in (1, 2, 3, 4, 6)] == [4, 4, 4, None, None]
    assert [comment.alone for comment in found.comments] == [True, True, False, True]


def test_positions_in_a_file() -> None:
    (found,) = comments_of("a.py", "\ufeffx = 'é'  # a\r\n# b\r# c\n".encode())
    assert [(one.line, one.column, one.text) for one in found.comments] == [
        (1, 10, "# a"),
        (2, 1, "# b"),
        (3, 1, "# c"),
    ]


@pytest.mark.parametrize(
    "data", [b"x = '\xff'  # here\n", b"x = '\0'  # here\n", b"# coding: nonsense\nx = 1  # here\n"]
)
def test_a_file_that_cannot_be_decoded_has_comments(data: bytes) -> None:
    (found,) = comments_of("a.py", data)
    assert [comment.text for comment in found.comments][-1] == "# here"


def test_what_cannot_be_read_at_all_has_none() -> None:
    assert comments_of("a.py", "# a".encode("utf-16")) == ()
    assert comments_of("a.ipynb", b"{") == ()


def test_notebooks() -> None:
    cells = ["x = 1  # a\n", "%time y = f(x)  # b\n!pip install # c\n", "%%bash\n# d\n", "  # e\n  z = '# no'  # f"]
    found = [
        (one.cell, comment.line, comment.column, comment.text)
        for one in comments_of("a.ipynb", notebook(*cells))
        for comment in one.comments
    ]
    assert found == [(1, 1, 8, "# a"), (2, 1, 17, "# b"), (4, 1, 3, "# e"), (4, 2, 15, "# f")]
