"""What the parties train on and are tested with, from the digits or from a factory of the user's.

A factory is a function that gives the parties' data, as a mapping of their names to ``(train, test)``, or as a sequence
of such pairs. If it has a parameter ``seed`` it is called once a seed, else once. Each of train and test is one of

- a map-style ``torch.utils.data.Dataset`` of ``(input, target)``;
- a pair ``(inputs, targets)`` of tensors or arrays of one length;
- batches: a ``DataLoader``, a list, or whatever else gives ``(inputs, targets)`` each time it is iterated over.

Batches are taken as they come; of the others we draw batches, of another order in each epoch. An input is one tensor,
the only argument of the model's ``forward``; a target is the number of a class.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bn_audit.live.errors import TargetError, require_torch
from bn_audit.live.target import load_attribute
from bn_audit.live.training.seeds import seeded
from bn_audit.live.user_code import running

require_torch()

import torch  # noqa: E402
from torch import Tensor  # noqa: E402
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset  # noqa: E402

__all__ = ["Data", "Examples", "PartyData", "given_data", "parties_of"]


@dataclass(frozen=True, slots=True)
class Examples:
    """Pairs of input and target that can be gone through any number of times.

    Attributes:
        source: a dataset, or batches.
        what: its name in errors: "the training data of 'alice'".
    """

    source: Dataset[Any] | Iterable[Any]
    what: str

    def batches(self, size: int, generator: torch.Generator | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches ``(inputs, targets)``, targets as int64.

        Args:
            size: of the batches that are drawn here.
            generator: draws their order; without one it is that of the data.

        Raises:
            TargetError: what comes is no such pair, with the traceback where it is the user's code that raised.
        """
        loader: Any = self.source
        if isinstance(self.source, TensorDataset):
            loader = _drawn(self.source, size, generator)
        elif isinstance(self.source, Dataset) and not isinstance(self.source, IterableDataset):
            loader = DataLoader(self.source, size, shuffle=generator is not None, generator=generator)
        with running(f"reading {self.what}"):
            iterator = iter(loader)
        number = 0
        while True:
            with running(f"reading {self.what}"):
                try:
                    batch = next(iterator)
                except StopIteration:
                    break
            yield self._pair(batch, number)
            number += 1
        if not number:
            raise TargetError(f"{self.what} gives no batches")

    def _pair(self, batch: Any, number: int) -> tuple[Tensor, Tensor]:
        where = f"batch {number} of {self.what}"
        if not isinstance(batch, (tuple, list)) or len(batch) != 2:
            length = f" of {len(batch)}" if isinstance(batch, (tuple, list)) else ""
            raise TargetError(f"{where} is a {type(batch).__name__}{length}, not (inputs, targets)")
        inputs, targets = (_tensor(part) for part in batch)
        for part, value, name in ((batch[0], inputs, "inputs"), (batch[1], targets, "targets")):
            if value is None:
                raise TargetError(f"{where}: the {name} are of type {type(part).__name__}, no tensor")
        assert inputs is not None and targets is not None
        if targets.is_floating_point() or targets.is_complex():
            dtype = str(targets.dtype).removeprefix("torch.")
            raise TargetError(f"{where}: the targets are {dtype}; an accuracy needs numbers of classes, as integers")
        if not inputs.dim() or not targets.dim() or len(inputs) != len(targets):
            shapes = f"{list(inputs.shape)} and {list(targets.shape)}"
            raise TargetError(f"{where}: inputs and targets of shapes {shapes} are not one for each example")
        return inputs, targets.long()


@dataclass(frozen=True, slots=True)
class PartyData:
    """One party's examples."""

    name: str
    train: Examples
    test: Examples


@dataclass(frozen=True, slots=True)
class Data:
    """The parties' data for any seed.

    Attributes:
        what: in words, for a report.
        draw: gives the parties of a seed.
        threads: how many a training runs on; None leaves that to torch. More than one are no help to small images,
            and cost many times the work where other processes want the cores.
    """

    what: str
    draw: Callable[[int], Sequence[PartyData]]
    threads: int | None = None


def given_data(text: str) -> Data:
    """The data that a user's factory gives; naming it runs the user's code.

    Args:
        text: ``package.module:factory`` or ``file.py:factory``.

    Raises:
        TargetError: there is no such function, or it raises; :attr:`Data.draw` raises it for what it gives.
    """
    with seeded(0):
        factory = load_attribute(text)
    if not callable(factory):
        raise TargetError(f"{text} is of type {type(factory).__name__}, no function that gives the parties' data")
    by_seed = _takes_seed(factory)
    kept: list[Sequence[PartyData]] = []

    def draw(seed: int) -> Sequence[PartyData]:
        if kept and not by_seed:
            return kept[0]
        with running(f"calling {text}"):
            value = factory(seed=seed) if by_seed else factory()
        kept[:] = [parties_of(text, value)]
        return kept[0]

    return Data(text, draw)


def parties_of(text: str, value: object) -> list[PartyData]:
    """The parties in what a factory gave, by the contract above.

    Raises:
        TargetError: it keeps to no form of the contract.
    """
    if isinstance(value, Mapping):
        named = [(str(name), pair) for name, pair in value.items()]
    elif isinstance(value, (list, tuple)):
        named = [(f"party {number}", pair) for number, pair in enumerate(value, start=1)]
    else:
        raise TargetError(
            f"{text} gives a {type(value).__name__}, not a mapping of the parties' names to (train, test)"
        )
    if len(named) < 2:
        raise TargetError(f"{text} gives the data of {len(named)} parties; a federation has at least two")
    parties = []
    for name, pair in named:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise TargetError(f"{text}: the data of {name!r} is a {type(pair).__name__}, not (train, test)")
        train, test = (
            Examples(_source(f"{text}: the {kind} data of {name!r}", part), f"the {kind} data of {name!r} ({text})")
            for kind, part in zip(("training", "test"), pair, strict=True)
        )
        parties.append(PartyData(name, train, test))
    return parties


def _drawn(tensors: TensorDataset, size: int, generator: torch.Generator | None) -> Iterator[tuple[Tensor, ...]]:
    """What a DataLoader would give, without asking for the examples one by one."""
    number = len(tensors)
    order = torch.arange(number) if generator is None else torch.randperm(number, generator=generator)
    return (tensors[order[first : first + size]] for first in range(0, number, size))


def _source(what: str, value: object) -> Dataset[Any] | Iterable[Any]:
    if isinstance(value, Dataset) and not isinstance(value, IterableDataset):
        if not hasattr(value, "__len__"):
            raise TargetError(f"{what} is a Dataset without a length")
        return value
    if isinstance(value, tuple) and len(value) == 2:
        inputs, targets = (_tensor(part) for part in value)
        if inputs is not None and targets is not None:
            if len(inputs) != len(targets) or not len(inputs):
                raise TargetError(f"{what} has {len(inputs)} inputs and {len(targets)} targets")
            return TensorDataset(inputs, targets)
    if not isinstance(value, Iterable) or isinstance(value, (str, bytes, Mapping)):
        raise TargetError(
            f"{what} is of type {type(value).__name__}: give a Dataset, a pair (inputs, targets), or batches"
        )
    if iter(value) is value:
        raise TargetError(f"{what} is a {type(value).__name__}, which can be read only once: give a list of it")
    return value


def _tensor(value: object) -> Tensor | None:
    """A tensor, or an array as one; None for anything else."""
    if isinstance(value, Tensor):
        return value
    if hasattr(value, "__array__") and hasattr(value, "dtype"):
        try:
            return torch.as_tensor(value)
        except (TypeError, ValueError, RuntimeError):  # of strings, of objects
            return None
    return None


def _takes_seed(factory: Callable[..., object]) -> bool:
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):
        return False
    return "seed" in parameters
