"""Paths as far as they are written down: whether two may be those of one file."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bn_audit.source.flow.paths import Gap, Path, alike, same_words

_TEXT = st.text(alphabet="ab_/.", max_size=4)
_PIECES = st.lists(st.one_of(_TEXT, st.just(Gap("i", wide=True))), max_size=5).map(tuple)


def _pattern(path: Path) -> re.Pattern[str]:
    return re.compile("".join("[^/]*" if isinstance(piece, Gap) else re.escape(piece) for piece in path))


def _name(path: Path) -> Path:
    """The last part, without folders."""
    return tuple(piece if isinstance(piece, Gap) else piece.replace("/", "") for piece in path)


@given(_PIECES, st.lists(st.text(alphabet="ab_.", max_size=3), min_size=5, max_size=5))
def test_a_path_is_like_what_fills_its_gaps(path: Path, fillings: list[str]) -> None:
    rest = iter(fillings)
    name = "x" + "".join(next(rest) if isinstance(piece, Gap) else piece for piece in _name(path))
    assert alike(("x", *_name(path)), (name,))


@given(_PIECES, st.text(alphabet="ab_.", min_size=1, max_size=6))
def test_a_name_that_does_not_fit_is_not_alike(path: Path, name: str) -> None:
    own: Path = ("x", *_name(path))
    assert alike(own, ("x" + name,)) == (_pattern(own).fullmatch("x" + name) is not None)


@given(_PIECES, _PIECES)
def test_being_alike_goes_both_ways(one: Path, other: Path) -> None:
    assert alike(one, other) == alike(other, one)
    assert same_words(one, other) == same_words(other, one)


@pytest.mark.parametrize(
    ("one", "other", "expected", "words"),
    [
        (("client_", Gap("i"), ".pth"), ("client_", Gap("cid"), ".pth"), True, {"client"}),
        (("client_", Gap("i"), ".pth"), ("work/client_3.pth",), True, {"client"}),
        ((Gap("folder"), "/client_", Gap("i"), ".pth"), ("client_3.pth",), True, {"client"}),
        (("client_", Gap("i"), ".pth"), ("site_", Gap("i"), ".pth"), False, set()),
        (("client_", Gap("i"), "/model.pt"), ("client_", Gap("i"), "/model.pt"), True, {"client"}),
        (("client_", Gap("i"), ".pth"), ("client_", Gap("i"), "_head.pth"), False, {"client"}),
        (("client_", Gap("*", wide=True), ".pth"), ("client_", Gap("i"), "_head.pth"), True, {"client"}),
        ((Gap("cfg.private"), "/client_1.pt"), (Gap("cfg.public"), "/client_1.pt"), False, {"client"}),
        ((Gap("self.folder"), "/client_1.pt"), (Gap("args.work"), "/client_1.pt"), True, {"client"}),
        (("alice/client_1.pt",), ("bob/client_1.pt",), False, {"client"}),
        (("model_", Gap("i"), ".pt"), ("model_", Gap("j"), ".pt"), True, set()),  # any file of a model is called so
        ((Gap("path"),), (Gap("path"),), True, set()),
        (("./clients/", Gap("i")), ("clients//", Gap("name"), ".pkl"), True, {"clients"}),
    ],
)
def test_paths_of_one_file(one: Path, other: Path, expected: bool, words: set[str]) -> None:
    assert alike(one, other) is expected
    assert same_words(one, other) == words
