"""Keyword arguments from the command line."""

from __future__ import annotations

import pytest

from bn_audit.live.arguments import parse_arguments
from bn_audit.live.errors import TargetError


def test_values_are_literals_or_strings() -> None:
    texts = ["n=10", "lr=-1e-3", "norm=batch", "name='a b'", "dims=[1, (2, 3)]", "flag=True", "none=None", "empty="]
    assert parse_arguments([*texts, "path=a/b-c.pt", "eq=a=b", " x = 1 "]) == {
        "n": 10,
        "lr": -1e-3,
        "norm": "batch",
        "name": "a b",
        "dims": [1, (2, 3)],
        "flag": True,
        "none": None,
        "empty": "",
        "path": "a/b-c.pt",
        "eq": "a=b",
        "x": 1,
    }


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        (["n"], "write NAME=VALUE"),
        (["=1"], "write NAME=VALUE"),
        (["a.b=1"], "write NAME=VALUE"),
        (["a=1", "a=2"], "given twice"),
        (["a=[1,"], "no Python literal"),
        (["a='b"], "no Python literal"),
        (["a=" + "(" * 10_000], "no Python literal"),
        (["a=[f(1)]"], "no Python literal"),
        (["a=true"], "write True, or 'true' in quotes"),
        (["a=none"], "write None, or 'none' in quotes"),
    ],
)
def test_what_is_meant_otherwise_is_refused(texts: list[str], reason: str) -> None:
    with pytest.raises(TargetError, match=reason):
        parse_arguments(texts)


def test_nothing_is_evaluated() -> None:
    assert parse_arguments(["a=__import__('os').getcwd()"]) == {"a": "__import__('os').getcwd()"}
