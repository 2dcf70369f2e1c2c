"""Conditions: which a message tells, and which exclude one another."""

from __future__ import annotations

import pytest

from bn_audit.source.flow.circumstances import Condition, contrary, impossible, set_apart, told


def conditions(*rows: str) -> list[Condition]:
    return [Condition(row.removeprefix("- "), not row.startswith("- ")) for row in rows]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (("args.model == 'a'",), ("args.model == 'a'",)),
        (("- args.model == 'a'",), ("not (args.model == 'a')",)),
        (("- args.model == 'a'", "args.model == 'b'"), ("args.model == 'b'",)),
        (("torch.cuda.is_available()", "- device == 'cpu'", "x"), ("x",)),
        (("a", "- b", "c", "d", "e"), ("c", "d", "e")),
        (("- a == 1", "- b == 2", "c", "- d == 3"), ("not (b == 2)", "c", "not (d == 3)")),
        (("- name == 'a' or name == 'resnet...", "name == 'b'"), ("name == 'b'",)),
        (("args.model=='a'", 'args.model == "a"'), ("args.model=='a'",)),
        (("- not valid python ]", "x"), ("not (not valid python ])", "x")),
        (("- not args.wide",), ("args.wide",)),
        (("- not a and b",), ("not (not a and b)",)),
        (("os.path.exists(path)", "- not folder.exists()", "x"), ("x",)),
    ],
)
def test_what_is_told(rows: tuple[str, ...], expected: tuple[str, ...]) -> None:
    assert told(conditions(*rows)) == expected


@pytest.mark.parametrize(
    ("rows", "excluded"),
    [
        (("args.alg == 'a'", "args.alg == 'b'"), True),
        (("args.alg == 'a'", "args.alg == 'a'"), False),
        (("args.alg == 'a'", "- args.alg == 'a'"), True),
        (("args.alg == 'a'", "- args.alg == 'b'"), False),
        (("args.alg == 'a' and n == 1", "n == 2"), True),
        (("args.alg == 'a' or n == 1", "n == 2"), False),
        (("args.alg == other", "args.alg == 'b'"), False),
        (("args.alg == 'a' and n == 1", "- args.alg == 'a' and n == 2"), False),
        (("args.alg == 'a' and n == 1", "- args.alg == 'a' and n == 1"), True),
        (("args.alg == 'a'", "- args.alg == 'a' and ready"), False),
        (("args.alg == 'a'", "- not valid python ]"), False),
    ],
)
def test_what_excludes_one_another(rows: tuple[str, ...], excluded: bool) -> None:
    assert impossible(conditions(*rows)) is excluded


def test_what_has_to_be_set() -> None:
    defaults = {"dataset": "mnist", "model": "cnn", "rounds": 3}
    rows = ("args.dataset == 'reddit'", "args.model == 'cnn'", "not (args.rounds == 3)", "args.other == 1", "a or b")
    assert set_apart(rows, defaults) == {"dataset"}
    assert set_apart(("args.dataset == 'reddit' and cfg.rounds == 9",), defaults) == {"dataset", "rounds"}
    assert set_apart(rows, {}) == set()


@pytest.mark.parametrize(
    ("one", "other", "excluded"),
    [
        ("args.alg == 'a'", "args.alg == 'b'", True),
        ("args.alg == 'a'", "args.alg == 'a'", False),
        ("- args.alg == 'a'", "args.alg == 'a'", True),
        ("args.alg == 'a' and args.n == 1", "args.n == 2", True),
        ("name == 'a'", "name == 'b'", False),
        ("self.name == 'a'", "self.name == 'b'", False),
        ("self.name == 'a' and args.n == 1", "args.n == 2", False),
        ("args.alg", "args.alg == 'b'", False),
    ],
)
def test_what_excludes_each_other_on_different_ways(one: str, other: str, excluded: bool) -> None:
    assert contrary(conditions(one), conditions(other)) is excluded
    assert contrary(conditions(other), conditions(one)) is excluded
