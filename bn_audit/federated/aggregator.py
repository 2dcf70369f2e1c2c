"""FedBN's server as its paper has it, and FedAvg's for contrast."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol, get_args

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from bn_audit.federated.dtypes import AVERAGED, INTEGERS, dtype_name, has_own_arithmetic
from bn_audit.federated.errors import AggregationError
from bn_audit.federated.exact import exact_mean
from bn_audit.federated.layout import Read, as_it_is
from bn_audit.federated.mean import RunningMean, is_finite, weighted_mean
from bn_audit.federated.memory import empty_like
from bn_audit.federated.owners import what_it_is
from bn_audit.federated.state import local_keys, tensor_identity, tied_groups

__all__ = ["FedAvg", "FedAvgIntegers", "FedBNAggregator", "FedBNIntegers"]

FedBNIntegers = Literal["require-equal", "keep-local", "first"]
FedAvgIntegers = Literal["truncate", "promote", "raise"]


class _Entry(Protocol):
    """What has been received of one entry."""

    def add(self, value: Tensor, share: float, weight: float) -> None:
        """Take in a party's value; ``share`` is that of its weight in the weight so far."""

    def fork(self) -> _Entry:
        """The same, on its own from here on."""

    def result(self) -> Tensor: ...


class _Aggregator(ABC):
    """Receives the parties' state dicts and combines them entry by entry; a subclass says which, and its integers."""

    def __init__(self, *, local: Collection[str], exact: bool, check_finite: bool) -> None:
        self._local = _checked_keys(local)
        self._exact = exact
        self._check_finite = check_finite
        self._parties: list[str] = []
        self._weights: list[float] = []
        self._form: dict[str, Tensor] = {}
        self._entries: dict[str, _Entry] = {}
        self._interrupted = False

    @abstractmethod
    def _takes_part(self, key: str, dtype: torch.dtype, party: str) -> bool:
        """Whether an integer entry is combined; raises if it must not be met at all."""

    @abstractmethod
    def _integer_entry(self, dtype: torch.dtype) -> _Entry: ...

    @abstractmethod
    def _check_integers(self, key: str, party: str, value: Tensor, first: Tensor) -> None:
        """Compare an integer entry with the first party's; raises if it may not differ."""

    def add(self, state: Mapping[str, Any], weight: float, party: str | None = None) -> None:
        """Receive a party's state. Its tensors are read now and may change afterwards.

        Memory: in all, one copy of the averaged entries, in float32 where they are narrower; with ``exact``, one copy
        a party. :meth:`aggregate` and :func:`~bn_audit.federated.aggregate_files` need none of them.

        Args:
            state: a state dict, with its local entries or without. On any device; the result is on the first party's.
            weight: its share of the mean, such as its number of training examples.
            party: its name, for errors; ``party 1`` and so on if not given.

        Raises:
            AggregationError: the weight is not positive and finite; an entry is missing, or one too many; it is no
                dense tensor with values; its shape or dtype is not the first party's; NaN or infinity, if asked for;
                the policy for integers forbids it. Nothing has been added then.
        """
        self._require_intact()
        party = f"party {len(self._parties) + 1}" if party is None else party
        weights = [*self._weights, _checked_weight(weight, party)]
        total = _total(weights, party)
        values = self._checked_form(state, party, self._form, self._parties)
        for key, value in values.items():
            first = self._entries[key].result() if self._form and value.dtype in INTEGERS else value
            self._check_value(key, party, value, first, as_it_is)

        self._interrupted = True
        share = weights[-1] / total
        with torch.no_grad():
            self._entries = self._matched(values)
            for entry, value in {id(e): (e, values[key]) for key, e in self._entries.items()}.values():
                entry.add(value, share, weights[-1])
        self._form = self._form or {key: torch.empty_like(value, device="meta") for key, value in values.items()}
        self._weights = weights
        self._parties.append(party)
        self._interrupted = False

    def result(self) -> dict[str, Tensor]:
        """The mean of the states added so far.

        Returns:
            The combined entries in the first party's order, in their shapes, dtypes and memory formats; no local
            entry. Entries that were one tensor in every party's state are one tensor here. The tensors are the
            aggregator's own until another state is added: they are not copied, so change them only when it is done.

        Raises:
            AggregationError: no state has been added.
        """
        self._require_intact()
        if not self._parties:
            raise AggregationError("no party's state has been added")
        with torch.no_grad():
            results = {id(entry): entry.result() for entry in self._entries.values()}
        return {key: results[id(entry)] for key, entry in self._entries.items()}

    def aggregate(
        self, states: Iterable[Mapping[str, Any]], weights: Iterable[float], parties: Iterable[str] | None = None
    ) -> dict[str, Tensor]:
        """The mean of these states, all at hand; what has been added stays out of it, and as it is.

        The same result as adding them to a new aggregator, within the same error, and the same bits if ``exact``. It
        goes through the entries instead of the parties: faster, and with no memory but the result and a few pieces of
        one tensor.

        Args:
            states: a state dict a party.
            weights: one a party.
            parties: their names, for errors.

        Raises:
            AggregationError: as :meth:`add` does, or the lists differ in length.
        """
        return self._aggregate(list(states), list(weights), parties, as_it_is)

    def _aggregate(
        self,
        states: Sequence[Mapping[str, Any]],
        weights: Sequence[float],
        parties: Iterable[str] | None,
        read: Read,
    ) -> dict[str, Tensor]:
        """As :meth:`aggregate`; ``read`` brings values into memory."""
        names = [f"party {number}" for number in range(1, len(states) + 1)] if parties is None else list(parties)
        if not len(states) == len(weights) == len(names):
            raise AggregationError(f"{len(states)} states, {len(weights)} weights, {len(names)} names of parties")
        if not states:
            raise AggregationError("no party's state has been added")
        weights = [_checked_weight(weight, party) for weight, party in zip(weights, names, strict=True)]
        _total(weights, names[-1])
        columns: list[dict[str, Tensor]] = []
        for state, party in zip(states, names, strict=True):
            columns.append(self._checked_form(state, party, columns[0] if columns else {}, names))
        result: dict[str, Tensor] = dict.fromkeys(columns[0], torch.empty(0))
        with torch.no_grad():
            for group in _tied_in_all(columns):
                for key in group:
                    for party, column in zip(names, columns, strict=True):
                        self._check_value(key, party, column[key], columns[0][key], read)
                mean = self._combined([column[group[0]] for column in columns], weights, read)
                result.update(dict.fromkeys(group, mean))
        return result

    def _combined(self, values: Sequence[Tensor], weights: Sequence[float], read: Read) -> Tensor:
        dtype = values[0].dtype
        if dtype in AVERAGED:
            return (exact_mean if self._exact else weighted_mean)(values, weights, read)
        entry = self._integer_entry(dtype)
        for number, value in enumerate(values):
            entry.add(read(value), weights[number] / math.fsum(weights[: number + 1]), weights[number])
        return entry.result()

    def _checked_form(
        self, state: Mapping[str, Any], party: str, form: Mapping[str, Tensor], parties: Sequence[str]
    ) -> dict[str, Tensor]:
        """The entries that are combined, alike in form to those of the first party (none, if it is the first)."""
        given: object = state
        if not isinstance(given, Mapping):
            raise AggregationError(f"a state dict is wanted, and this is {what_it_is(given)}", party=party)
        values: dict[str, Tensor] = {}
        for key, value in state.items():
            if key in self._local:
                continue
            value = _checked_tensor(key, value, party)
            if value.dtype in AVERAGED or self._takes_part(key, value.dtype, party):
                values[key] = value.detach()
        if not form:
            return values
        missing = [key for key in form if key not in values]
        extra = [key for key in values if key not in form]
        for keys, message in (
            (missing, f"missing, but in {parties[0]}"),
            (extra, f"one too many, not in {parties[0]}"),
        ):
            if keys:
                more = f" (and {len(keys) - 1} more)" if len(keys) > 1 else ""
                raise AggregationError(f"{message}{more}", party=party, key=keys[0])
        for key, first in form.items():
            value = values[key]
            if value.shape != first.shape:
                message = f"shape {tuple(value.shape)}, but {tuple(first.shape)} in {parties[0]}"
                raise AggregationError(message, party=party, key=key)
            if value.dtype != first.dtype:
                message = f"{dtype_name(value.dtype)}, but {dtype_name(first.dtype)} in {parties[0]}"
                raise AggregationError(message, party=party, key=key)
        return values

    def _check_value(self, key: str, party: str, value: Tensor, first: Tensor, read: Read) -> None:
        if value.dtype in INTEGERS:
            self._check_integers(key, party, read(value), read(first))
        elif self._check_finite and not is_finite(read(value)):
            raise AggregationError("holds NaN or an infinite value", party=party, key=key)

    def _matched(self, values: Mapping[str, Tensor]) -> dict[str, _Entry]:
        """An entry for each key: one for keys that are one tensor in this state and were in all before it."""
        matched: dict[str, _Entry] = {}
        owners: dict[object, _Entry] = {}
        taken: set[int] = set()
        for key, value in values.items():
            known = self._entries.get(key)
            mark = (id(known), tensor_identity(value) or key)
            if mark not in owners:
                if known is None:
                    owners[mark] = self._new_entry(value.dtype)
                else:
                    owners[mark] = known.fork() if id(known) in taken else known
                    taken.add(id(known))
            matched[key] = owners[mark]
        return matched

    def _new_entry(self, dtype: torch.dtype) -> _Entry:
        if dtype not in AVERAGED:
            return self._integer_entry(dtype)
        return _HeldValues() if self._exact else RunningMean()

    def _require_intact(self) -> None:
        if self._interrupted:
            raise AggregationError("an add was interrupted half-way; start again with a new aggregator")


class FedBNAggregator(_Aggregator):
    """The server of FedBN: everything but BatchNorm is averaged, BatchNorm stays with its party.

    Li, Jiang, Zhang, Kamp and Dou, FedBN: Federated Learning on Non-IID Features via Local Batch Normalization, ICLR
    2021, algorithm 1. For K parties, layers l, and after local training w_k^(l) in round t:

        for each layer l:
            if layer l is not BatchNorm:
                w_(t+1),k^(l) <- 1/K sum_k w_(t+1),k^(l)    for every party k

    The paper's mean is that of equal weights; with the number of training examples as weights it is FedAvg's, over the
    layers that are not BatchNorm. "BatchNorm" is read as :func:`~bn_audit.federated.local_keys` says: the parameters
    *and* the statistics of a BatchNorm, and of every layer that keeps running statistics.

        aggregator = FedBNAggregator.from_module(model)
        for party in parties:
            aggregator.add(party.model.state_dict(), weight=len(party.data))
        shared = aggregator.result()
        for party in parties:
            load_shared(party.model, shared)

    Args:
        local_keys: the keys that stay with the party. A state may hold them or not; they are not looked at. A model
            or a state in their place is a TypeError: see :meth:`from_module` and :meth:`from_state`.
        integer_state: what becomes of the other integer and bool entries, which have no mean: ``require-equal`` takes
            them if all parties have the same and raises otherwise; ``keep-local`` leaves them out of the result;
            ``first`` takes the first party's, so that the result depends on the parties' order.
        exact: the correctly rounded mean (:mod:`bn_audit.federated.exact`), the same in every order of the parties;
            else in the entry's precision, float32 at least (:mod:`bn_audit.federated.mean`).
        check_finite: refuse NaN and infinite values, at the price of one more reading.
    """

    def __init__(
        self,
        local_keys: Collection[str],
        *,
        integer_state: FedBNIntegers = "require-equal",
        exact: bool = False,
        check_finite: bool = False,
    ) -> None:
        super().__init__(local=local_keys, exact=exact, check_finite=check_finite)
        self._integers = _checked_policy(integer_state, get_args(FedBNIntegers))

    @classmethod
    def from_module(
        cls,
        model: nn.Module,
        *,
        integer_state: FedBNIntegers = "require-equal",
        exact: bool = False,
        check_finite: bool = False,
    ) -> FedBNAggregator:
        """For the states of such a model, which may be on the meta device: its modules say what is local."""
        return cls(local_keys(model), integer_state=integer_state, exact=exact, check_finite=check_finite)

    @classmethod
    def from_state(
        cls,
        state: Mapping[str, Any],
        *,
        integer_state: FedBNIntegers = "require-equal",
        exact: bool = False,
        check_finite: bool = False,
    ) -> FedBNAggregator:
        """For states like this one: its keys say what is local, as far as they can (:func:`local_keys`)."""
        return cls(local_keys(state), integer_state=integer_state, exact=exact, check_finite=check_finite)

    def _takes_part(self, key: str, dtype: torch.dtype, party: str) -> bool:
        return self._integers != "keep-local"

    def _integer_entry(self, dtype: torch.dtype) -> _Entry:
        return _FirstValue()

    def _check_integers(self, key: str, party: str, value: Tensor, first: Tensor) -> None:
        if self._integers == "require-equal" and not torch.equal(value.to(first.device), first):
            message = "integer entry differs from the first party's (integer_state='require-equal')"
            raise AggregationError(message, party=party, key=key)


class FedAvg(_Aggregator):
    """The server of FedAvg, for contrast: every entry is averaged, BatchNorm's parameters and statistics among them.

    McMahan, Moore, Ramage, Hampson and Aguera y Arcas, Communication-Efficient Learning of Deep Networks from
    Decentralized Data, AISTATS 2017, algorithm 1: w_(t+1) <- sum_k n_k/n w_(t+1),k.

    Args:
        integer_state: what implementations do with integer and bool entries, such as BatchNorm's counter of batches:
            ``truncate`` their mean towards zero on loading it into the integer entry (bool: whether it is not 0);
            ``promote`` them, so that the result is float64, as NumPy's mean and Flower's aggregation do; ``raise``, as
            in-place arithmetic on them does.
        exact, check_finite: as for :class:`FedBNAggregator`; the mean of integers is taken in float64 always.
    """

    def __init__(
        self, *, integer_state: FedAvgIntegers = "truncate", exact: bool = False, check_finite: bool = False
    ) -> None:
        super().__init__(local=(), exact=exact, check_finite=check_finite)
        self._integers = _checked_policy(integer_state, get_args(FedAvgIntegers))

    def _takes_part(self, key: str, dtype: torch.dtype, party: str) -> bool:
        if self._integers == "raise":
            message = f"{dtype_name(dtype)} has no mean of its own dtype (integer_state='raise')"
            raise AggregationError(message, party=party, key=key)
        return True

    def _check_integers(self, key: str, party: str, value: Tensor, first: Tensor) -> None:
        """They may differ: they have a mean."""

    def _integer_entry(self, dtype: torch.dtype) -> _Entry:
        return _IntegerMean(torch.float64 if self._integers == "promote" else dtype)


class _HeldValues:
    """The values themselves: the exact mean needs all of them at once."""

    def __init__(self, values: Iterable[Tensor] = (), weights: Iterable[float] = ()) -> None:
        self._values = list(values)
        self._weights = list(weights)

    def add(self, value: Tensor, share: float, weight: float) -> None:
        self._values.append(empty_like(value).copy_(value))
        self._weights.append(weight)

    def fork(self) -> _HeldValues:
        return _HeldValues(self._values, self._weights)

    def result(self) -> Tensor:
        return exact_mean(self._values, self._weights)


class _FirstValue:
    """The first party's value, unchanged."""

    def __init__(self, value: Tensor | None = None) -> None:
        self._value = value

    def add(self, value: Tensor, share: float, weight: float) -> None:
        if self._value is None:
            self._value = value.clone()

    def fork(self) -> _FirstValue:
        return _FirstValue(None if self._value is None else self._value.clone())

    def result(self) -> Tensor:
        assert self._value is not None
        return self._value


class _IntegerMean:
    """The mean of integers in float64, and its conversion to a dtype as ``Tensor.to`` does it."""

    def __init__(self, dtype: torch.dtype, mean: RunningMean | None = None) -> None:
        self._dtype = dtype
        self._mean = mean or RunningMean()

    def add(self, value: Tensor, share: float, weight: float) -> None:
        self._mean.add(value.double(), share, weight)

    def fork(self) -> _IntegerMean:
        return _IntegerMean(self._dtype, self._mean.fork())

    def result(self) -> Tensor:
        return self._mean.result().to(self._dtype)


def _checked_keys(local: Collection[str]) -> frozenset[str]:
    """Refuse what could be gone through but is no keys: of a Sequential nothing would be local, of a state all."""
    remedies = {nn.Module: "from_module(model)", Mapping: "from_state(state)"}
    for kind, remedy in remedies.items():
        if isinstance(local, kind):
            raise TypeError(f"local_keys are the keys that stay with the party; FedBNAggregator.{remedy} finds them")
    if isinstance(local, str) or not all(isinstance(key, str) for key in local):
        raise TypeError("local_keys are a collection of strings, keys of a state dict")
    return frozenset(local)


def _checked_policy(policy: str, allowed: Sequence[str]) -> str:
    if policy not in allowed:
        raise ValueError(f"integer_state is one of {', '.join(allowed)}, not {policy!r}")
    return policy


def _checked_weight(weight: float, party: str) -> float:
    number = float(weight)
    if not (math.isfinite(number) and number > 0):
        raise AggregationError(f"a weight is positive and finite, not {weight!r}", party=party)
    return number


def _total(weights: Sequence[float], party: str) -> float:
    total = sum(weights)
    if not math.isfinite(total):
        raise AggregationError("the sum of the weights is not finite", party=party)
    return math.fsum(weights)


def _checked_tensor(key: str, value: Any, party: str) -> Tensor:
    problem = None
    if not isinstance(value, Tensor):
        problem = f"no tensor but {type(value).__name__}"
    elif nn.parameter.is_lazy(value):
        problem = "not initialised yet"
    elif value.is_nested:
        problem = "no dense tensor but nested"
    elif value.layout != torch.strided:
        problem = f"no dense tensor but {value.layout}"
    elif has_own_arithmetic(value):
        problem = f"no dense tensor but {type(value).__name__}"
    elif value.is_meta or isinstance(value, FakeTensor):
        problem = f"{'on the meta device' if value.is_meta else 'a fake tensor'} and without values"
    elif value.dtype not in AVERAGED and value.dtype not in INTEGERS:
        problem = f"{dtype_name(value.dtype)}, which has neither a mean nor a policy"
    if problem is not None:
        raise AggregationError(problem, party=party, key=key)
    assert isinstance(value, Tensor)
    return value


def _tied_in_all(columns: Sequence[Mapping[str, Tensor]]) -> Iterable[list[str]]:
    """The keys in order, those together that are one tensor in every state."""
    groups = list(tied_groups(columns[0], columns[0]))
    for column in columns[1:]:
        groups = [part for group in groups for part in (tied_groups(column, group) if len(group) > 1 else (group,))]
    return groups
