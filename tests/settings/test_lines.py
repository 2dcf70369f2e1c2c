"""Lines of keys, in files as people write them and in files as nobody does."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bn_audit.settings.lines import line_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DOCUMENT = '''\
# select = "in a comment"
title = """
select = 1
"""
[project]
select = [
    "]", # ]
    'x',
]
"a b".'c.d' = 1

[tool.bn-audit]  # the table
select = { x = 1, "y" = [1,
  2] }
ignore = "\\"\\n[tool.other]"
per-file-ignores."tests/*" = ["BNA1"]

[[tool.other.list]]
select = 1
[tool.bn-audit.extend-per-file-ignores]
'a\\b' = []
"\\u00e4" = []
'''


@pytest.mark.parametrize(
    ("key", "line"),
    [
        (("title",), 2),
        (("project", "select"), 6),
        (("project", "a b", "c.d"), 10),
        (("tool", "bn-audit", "select"), 13),
        (("tool", "bn-audit", "select", "x"), 13),
        (("tool", "bn-audit", "ignore"), 15),
        (("tool", "bn-audit", "per-file-ignores", "tests/*"), 16),
        (("tool", "bn-audit", "per-file-ignores"), 16),
        (("tool", "other", "list"), 18),
        (("tool", "bn-audit", "extend-per-file-ignores"), 20),
        (("tool", "bn-audit", "extend-per-file-ignores", "a\\b"), 21),
        (("tool", "bn-audit", "extend-per-file-ignores", "ä"), 22),
        (("tool", "bn-audit"), 12),
        (("none",), None),
    ],
)
def test_a_document(key: tuple[str, ...], line: int | None) -> None:
    tomllib.loads(DOCUMENT)
    assert line_of(DOCUMENT, key) == line


KEYS = st.one_of(
    st.from_regex(r"[A-Za-z0-9_-]{1,6}", fullmatch=True),
    st.text("ab.#[]='\"\\ \tä", max_size=5).map(
        lambda text: '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\t", "\\t") + '"'
    ),
    st.text('ab.#[]="\\ ä', max_size=5).map(lambda text: f"'{text}'"),
)
VALUES = st.recursive(
    st.sampled_from(
        [
            "1",
            "true",
            "'a # b'",
            '"[\\"]"',
            '"""\n[x]\nk = 1\n"""',
            "'''\n'k' = [\n'''",
            '""',
            "''",
            "1979-05-27",
            '""""x""""',
        ]
    ),
    lambda inner: st.lists(inner, max_size=3).map(lambda items: "[ # ]\n" + ", ".join(items) + "\n]"),
    max_leaves=4,
)


@given(
    st.lists(st.tuples(st.sampled_from(["", "[{}]", "[[{}]]"]), st.lists(KEYS, min_size=1, max_size=2), KEYS, VALUES))
)
def test_any_document(rows: list[tuple[str, list[str], str, str]]) -> None:
    """Every key that the parser sees is found on the line it was written on."""
    text, expected = "", {}
    table: tuple[str, ...] = ()
    for number, (head, names, key, value) in enumerate(rows):
        if head:
            text += head.format(" . ".join([*names, str(number)])) + "\n\n"
            table = tuple(_bare(name) for name in (*names, str(number)))
        line = text.count("\n") + 1
        text += f" {key}.k{number} = {value} # end\n"
        expected[(*table, _bare(key), f"k{number}")] = line
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError:  # one key twice, in spite of the numbers
        return
    assert set(expected) <= set(_paths(document, ()))
    assert {key: line_of(text, key) for key in expected} == expected


def _bare(key: str) -> str:
    (name,) = tomllib.loads(f"{key} = 1")
    return str(name)


def _paths(value: object, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _paths(inner, (*path, key))
    elif isinstance(value, list):
        for inner in value:
            yield from _paths(inner, path)
