"""A user's factory of data: every form that it may give, and what is said of every other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset  # noqa: E402

from bn_audit.live.errors import TargetError  # noqa: E402
from bn_audit.live.training import Local, Options, given_data, train  # noqa: E402
from bn_audit.live.training.data import parties_of  # noqa: E402
from tests.live.training.models import Flat  # noqa: E402

X, Y = torch.rand(10, 2, generator=torch.Generator().manual_seed(0)), torch.arange(10) % 2
ONE = Options(rounds=1, seeds=1, local=Local(batch_size=4))


class Own(Dataset[Any]):
    def __len__(self) -> int:
        return 10

    def __getitem__(self, number: int) -> Any:
        return X[number], int(Y[number])


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter([(X, Y)])


FORMS = {
    "tensors": (X, Y),
    "arrays": (X.numpy(), Y.numpy()),
    "small integers": (X, Y.to(torch.uint8)),
    "dataset": TensorDataset(X, Y),
    "own dataset": Own(),
    "loader": DataLoader(Own(), batch_size=5),
    "stream's loader": DataLoader(Stream(), batch_size=None),
    "stream": Stream(),
    "list of batches": [(X[:4], Y[:4]), (X[4:], Y[4:])],
    "two batches": ((X[:4], Y[:4]), (X[4:], Y[4:])),
    "batches as lists": [[X, Y]],
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form(name: str) -> None:
    (party, _) = parties_of("f", {"a": (FORMS[name], FORMS[name]), "b": ((X, Y), (X, Y))})
    for _ in range(2):
        inputs, targets = (torch.cat(parts) for parts in zip(*party.train.batches(3), strict=True))
        assert torch.equal(inputs, X)
        assert torch.equal(targets, Y)
        assert targets.dtype is torch.int64


@pytest.mark.parametrize("name", ["tensors", "own dataset"])
def test_what_we_draw_is_shuffled(name: str) -> None:
    (party, _) = parties_of("f", [(FORMS[name], FORMS[name])] * 2)
    generator = torch.Generator().manual_seed(1)
    first, second = (torch.cat([x for x, _ in party.train.batches(3, generator)]) for _ in range(2))
    assert not torch.equal(first, X) and not torch.equal(first, second)
    assert torch.equal(first.sort(0).values, X.sort(0).values)
    assert [len(x) for x, _ in party.train.batches(3, generator)] == [3, 3, 3, 1]


def test_a_sequence_has_numbers_for_names() -> None:
    assert [party.name for party in parties_of("f", [((X, Y), (X, Y))] * 2)] == ["party 1", "party 2"]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "gives a NoneType, not a mapping of the parties' names"),
        (7, "gives a int, not a mapping"),
        ({}, "the data of 0 parties; a federation has at least two"),
        ({"a": ((X, Y), (X, Y))}, "the data of 1 parties"),
        ({"a": X, "b": X}, r"f: the data of 'a' is a Tensor, not \(train, test\)"),
        ({"a": ((X, Y),), "b": 1}, r"f: the data of 'a' is a tuple, not \(train, test\)"),
        ({"a": (3, (X, Y)), "b": 1}, "the training data of 'a' is of type int: give a Dataset, a pair"),
        ({"a": ((X, Y), "text"), "b": 1}, "the test data of 'a' is of type str"),
        ({"a": ({"x": X}, (X, Y)), "b": 1}, "the training data of 'a' is of type dict"),
        ({"a": ((X, Y[:4]), (X, Y)), "b": 1}, "the training data of 'a' has 10 inputs and 4 targets"),
        ({"a": ((X, Y), (X[:0], Y[:0])), "b": 1}, "the test data of 'a' has 0 inputs and 0 targets"),
        ({"a": (iter([(X, Y)]), (X, Y)), "b": 1}, "is a list_iterator, which can be read only once"),
    ],
)
def test_what_is_no_data(value: object, reason: str) -> None:
    with pytest.raises(TargetError, match=reason):
        parties_of("f", value)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ([], "the training data of 'a' .* gives no batches"),
        ([X], r"batch 0 of the training data of 'a' .* is a Tensor, not \(inputs, targets\)"),
        ([(X, Y), (X, Y, X)], "batch 1 of the training data of 'a' .* is a tuple of 3"),
        ([(X, list(range(10)))], "the targets are of type list, no tensor"),
        ([("text", Y)], "the inputs are of type str, no tensor"),
        ([(X, Y.float())], "the targets are float32; an accuracy needs numbers of classes"),
        ([(X, Y[:3])], r"shapes \[10, 2\] and \[3\] are not one for each example"),
        ([(X, torch.tensor(1))], "are not one for each example"),
        ([(X, Y + 1)], "has the target 2, and the model tells 2 classes apart, 0 to 1"),
        ([(X, Y - 1)], "has the target -1, and the model"),
        ([(X, Y[:, None])], r"gives \[10, 2\] for targets of shape \[10, 1\]"),
        ([(torch.rand(10, 7), Y)], "training the model on the training data of 'a' .* raised"),
    ],
)
def test_batches_that_do_not_do(source: object, reason: str) -> None:
    from bn_audit.live.training import Data

    data = Data("f", lambda seed: parties_of("f", {"a": (source, (X, Y)), "b": ((X, Y), (X, Y))}))
    with pytest.raises(TargetError, match=reason):
        train(Flat, data, ONE)


def test_a_dataset_that_raises_shows_where() -> None:
    class Broken(Own):
        def __getitem__(self, number: int) -> Any:
            raise OSError("no such picture")

    from bn_audit.live.training import Data

    data = Data("f", lambda seed: parties_of("f", [(Broken(), (X, Y))] * 2))
    with pytest.raises(TargetError, match=r"reading the training data of 'party 1' \(f\) raised OSError") as caught:
        train(Flat, data, ONE)
    assert "no such picture" in caught.value.traceback


FACTORIES = """
import torch

X, Y = torch.rand(10, 2), torch.arange(10) % 2
calls = []

def plain():
    calls.append(None)
    return {"a": ((X, Y), (X, Y)), "b": ((X, Y), (X, Y))}

def by_seed(seed):
    calls.append(seed)
    return plain()

def drawn():
    return [((torch.rand(10, 2), Y), (X, Y))] * 2

def moody(seed):
    return {name: ((X, Y), (X, Y)) for name in ("a", f"b{seed}")}

def broken():
    raise ValueError("no data today")

number = 3
"""


@pytest.fixture
def factories(tmp_path: Path) -> str:
    (tmp_path / "factories.py").write_text(FACTORIES)
    return f"{tmp_path}/factories.py"


def test_a_factory_is_called_once_or_once_a_seed(factories: str) -> None:
    import sys

    options = Options(rounds=1, seeds=2)
    assert train(Flat, given_data(f"{factories}:plain"), options).data == f"{factories}:plain"
    assert sys.modules["factories"].calls == [None]
    train(Flat, given_data(f"{factories}:by_seed"), options)
    assert sys.modules["factories"].calls == [0, None, 1, None]


def test_what_a_factory_draws_is_always_the_same(factories: str) -> None:
    first, second = (train(Flat, given_data(f"{factories}:drawn"), Options(rounds=2, seeds=1)) for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("number", "is of type int, no function that gives the parties' data"),
        ("nothing", "has no attribute 'nothing'"),
        ("broken", "calling .*factories.py:broken raised ValueError: no data today"),
        ("moody", "gives other parties for seed 1 than for seed 0"),
    ],
)
def test_a_factory_that_is_none(factories: str, name: str, reason: str) -> None:
    with pytest.raises(TargetError, match=reason):
        train(Flat, given_data(f"{factories}:{name}"), Options(rounds=1, seeds=2))


def test_a_file_is_no_factory(factories: str) -> None:
    with pytest.raises(TargetError, match="name what makes the model in it"):
        given_data(factories)
