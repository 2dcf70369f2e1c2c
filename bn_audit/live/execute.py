"""A plan, executed on tensors: the parties' states before an exchange give those after it.

An exchange moves one payload per party and entry: weights, the updates of a local training, or gradients. The mean of
a payload lands where the plan says. What a party holds afterwards is

    offset + scale * mean(payload of the source)

where the source is the entry itself (averaged) or another one (misplaced). The offset is zero where weights travel, the
party's own weights before training (or, for fed_avg_u, after it) where updates do, and its own parameters where
gradients do.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bn_audit.exchange.plan import EntryPlan, Fate
from bn_audit.exchange.secretflow.settings import release
from bn_audit.live.errors import TargetError, require_torch
from bn_audit.profile import Profile, StateEntry

require_torch()

import torch  # noqa: E402

__all__ = ["Exchange", "Outcome", "State", "close", "execute", "outcomes", "party_states", "training_steps"]

State = Mapping[str, torch.Tensor]
"""One party's tensors by key, in the profile's order. Tensors are replaced, never written to."""

Outcome = tuple["Fate | None", "str | None"]
"""What an exchange did to an entry: averaged, misplaced and whose, corrupt, or None: each party kept its own."""

COUNTER = "num_batches_tracked"

_TOLERANCES = {torch.float16: 4e-3, torch.bfloat16: 4e-2, torch.complex32: 4e-3}
_TOLERANCE = 2e-4
"""Absolute and relative. Above the error of SecureAggregator's fixed point (18 bits), far below what tells two entries
apart."""


_TAKES_THE_FIRST = (release(torch.__version__) or (0, 0)) < (2, 13)
"""Older releases of torch load the first element of any vector into a scalar; it is not known which were the last."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """What goes into an exchange, party by party.

    Attributes:
        before: the states at the moment the aggregate is loaded.
        payload: what each party sent, by key.
        weights: the parties' weights, in any scale.
        trained: what each party's training led to, whatever of it was sent: what FedBN averages.
        offset: what a received mean is added to; None is zero.
        scale: what the mean is multiplied by.
    """

    before: Sequence[State]
    payload: Sequence[State]
    weights: Sequence[float]
    trained: Sequence[State]
    offset: Sequence[State] | None = None
    scale: float = 1.0

    def mean(self, key: str, size: int | None = None) -> torch.Tensor:
        """The scaled weighted mean of one entry's payload, in float64 (complex128 for complex entries).

        Args:
            size: give no more than so many leading elements, as a vector.
        """
        parts = [_wide(state[key] if size is None else _leading(state[key], size)) for state in self.payload]
        mean = parts[0] * self.weights[0]
        for part, weight in zip(parts[1:], self.weights[1:], strict=True):
            mean.add_(part, alpha=weight)
        # Divided at the end: the mean of equal integers is that integer, which rounded weights do not give.
        return mean.div_(sum(self.weights)).mul_(self.scale)

    def arrival(self, party: int, source: str, mean: torch.Tensor) -> torch.Tensor:
        """What arrives at a party for a source, before it is cast to the dtype of the entry it lands in."""
        return mean if self.offset is None else _wide(self.offset[party][source]) + mean


def party_states(profile: Profile, parties: int, seed: int = 0) -> list[State]:
    """A different state for every party, with the profile's shapes and dtypes; the same for the same arguments.

    Floating point values are drawn from [0.1, 1.1). Integer and bool entries differ from each other but are the same in
    every party, as constants of an architecture are; a 0-d integer keeps its known value.

    Raises:
        TargetError: for an entry without a shape or of a dtype that torch cannot compute with.
    """
    return [
        _aliased(profile, {entry.key: _initial(entry, party, seed) for entry in profile.entries})
        for party in range(parties)
    ]


def training_steps(profile: Profile, parties: int, round_: int, seed: int = 0) -> list[State]:
    """What a local training would add to every entry: a stand-in for training, as different as the parties' data.

    Floating point entries move by values from [-0.05, 0.05), those called ``running_var`` upwards only; counters by the
    number of batches, which differs between parties; other integer and bool entries not at all.
    """
    return [
        _aliased(profile, {entry.key: _step(entry, party, round_, seed) for entry in profile.entries})
        for party in range(parties)
    ]


def execute(profile: Profile, plans: Sequence[EntryPlan], exchange: Exchange) -> list[State]:
    """The parties' states after an exchange in which every entry meets its planned fate.

    An entry whose fate is open keeps its value. A corrupt one gets noise, another in every party: what uninitialised
    memory holds is nobody's value.

    Raises:
        ValueError: if an entry is planned to fail; such an exchange has no state after it.
    """
    after: list[dict[str, torch.Tensor]] = [{} for _ in exchange.before]
    for entry, plan in zip(profile.entries, plans, strict=True):
        fate = plan.fate
        if fate is Fate.FAILS:
            raise ValueError(f"the round stops at {entry.key}")
        source = plan.source_key if fate is Fate.MISPLACED else entry.key
        receives = fate is Fate.AVERAGED or (fate is Fate.MISPLACED and source is not None)
        mean = exchange.mean(source) if receives and source is not None else None
        for party, state in enumerate(exchange.before):
            own = state[entry.key]
            if mean is not None and source is not None:
                after[party][entry.key] = _landed(exchange.arrival(party, source, mean), own)
            elif fate is Fate.CORRUPT:
                after[party][entry.key] = _noise(entry, party)
            else:
                after[party][entry.key] = own
    return [_aliased(profile, state) for state in after]


def outcomes(profile: Profile, exchange: Exchange, after: Sequence[State]) -> dict[str, frozenset[Outcome]]:
    """Whose value every entry holds after an exchange, in all parties alike.

    More than one outcome is given where equal values do not tell them apart, and ``(CORRUPT, None)`` alone where the
    value is nobody's. Keys that share a tensor count as one source.
    """
    groups = {entry.key: entry.alias_of or entry.key for entry in profile.entries}
    sources = exchange.payload[0]
    firsts = {key: _firsts(exchange, key) for key in sources}
    found = {}
    for entry in profile.entries:
        holds: set[Outcome] = set()
        values = [state[entry.key] for state in after]
        if all(_same(state[entry.key], value) for state, value in zip(exchange.before, values, strict=True)):
            holds.add((None, None))
        own = [_leading(value, 1).tolist() for value in values]
        for source, tensor in sources.items():
            if not _lands(tensor, values[0]) or not _alike(own, firsts[source], values[0].dtype):
                continue
            # What has one element has been compared; the rest of others is only now.
            if values[0].numel() == 1 or _arrived(exchange, source, values):
                same = groups[source] == groups[entry.key]
                holds.add((Fate.AVERAGED, None) if same else (Fate.MISPLACED, source))
        found[entry.key] = frozenset(holds) or frozenset({(Fate.CORRUPT, None)})
    return found


def close(value: torch.Tensor, other: torch.Tensor, dtype: torch.dtype) -> bool:
    """Whether two tensors of one shape are equal up to what an exchange of this dtype may round."""
    if value is other:
        return True
    if dtype is torch.bool:
        return _same(value, other)
    a, b = _comparable(value), _comparable(other)
    tolerance = _tolerance(dtype)
    if dtype.is_floating_point or dtype.is_complex:
        near = (a - b).abs() <= b.abs().mul_(tolerance).add_(tolerance)
        # Of NaN and infinities no difference is a number.
        return bool(near.all()) or bool((near | (a == b) | (a.isnan() & b.isnan())).all())
    return bool(((a - b).abs_() <= tolerance).all())


def _tolerance(dtype: torch.dtype) -> float:
    if not (dtype.is_floating_point or dtype.is_complex):
        # An aggregator in floating point may come out just below an integer, and the load cuts off.
        return 1
    return _TOLERANCES.get(dtype, 0.2 if dtype.itemsize == 1 else _TOLERANCE)


def _arrived(exchange: Exchange, source: str, values: Sequence[torch.Tensor]) -> bool:
    """Whether every party holds what arrived for a source."""
    mean = exchange.mean(source)
    return all(
        close(value, _landed(exchange.arrival(party, source, mean), value), value.dtype)
        for party, value in enumerate(values)
    )


def _firsts(exchange: Exchange, source: str) -> list[list[complex]]:
    """The first element of what arrives for a source, party by party; nothing of what is empty."""
    mean = exchange.mean(source, 1)
    if exchange.offset is None:
        return [mean.tolist()] * len(exchange.before)
    return [(mean + _wide(_leading(state[source], 1))).tolist() for state in exchange.offset]


def _alike(values: Sequence[Sequence[complex]], arrivals: Sequence[Sequence[complex]], dtype: torch.dtype) -> bool:
    """Whether the first elements are close, in every party. Most tensors are told apart here, unread."""
    tolerance = _tolerance(dtype)
    relative = tolerance if dtype.is_floating_point or dtype.is_complex else 0
    for value, arrival in zip(values, arrivals, strict=True):
        for a, b in zip(value, arrival, strict=False):
            both_nan = a != a and b != b
            if not (both_nan or a == b or abs(a - b) <= tolerance + relative * abs(b)):
                return False
    return True


def _leading(tensor: torch.Tensor, size: int) -> torch.Tensor:
    return tensor.reshape(-1)[:size]


def _comparable(tensor: torch.Tensor) -> torch.Tensor:
    """In a dtype that arithmetic and comparisons are fast in, and that holds every value."""
    if tensor.dtype in (torch.float32, torch.complex64):
        return tensor
    if tensor.is_floating_point() and tensor.dtype.itemsize < 4:
        return tensor.float()
    return _wide(tensor)


def _lands(arrival: torch.Tensor, entry: torch.Tensor) -> bool:
    """Whether ``load_state_dict`` may take an array for an entry: of its shape, or a vector for a scalar."""
    if entry.dim() == 0 and arrival.dim() == 1:
        return arrival.numel() == 1 or (_TAKES_THE_FIRST and arrival.numel() > 0)
    return arrival.shape == entry.shape


def _landed(arrival: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    """What an arriving array becomes in an entry: the entry's shape and dtype."""
    if own.dim() == 0 and arrival.dim() == 1:
        arrival = arrival[0]
    return _cast(arrival.reshape(own.shape), own.dtype)


def _cast(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    if tensor.is_complex() and not dtype.is_complex:
        tensor = tensor.real
    return tensor.to(dtype)


def _wide(tensor: torch.Tensor) -> torch.Tensor:
    """A copy in double precision."""
    return tensor.to(torch.complex128 if tensor.is_complex() else torch.float64, copy=True)


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Equal in every element; NaN equals NaN."""
    if one is other:
        return True
    if one.is_floating_point() or one.is_complex():
        a, b = _comparable(one), _comparable(other)
        return torch.equal(a, b) or bool(((a == b) | (a.isnan() & b.isnan())).all())
    return torch.equal(one, other)


def _aliased(profile: Profile, state: dict[str, torch.Tensor]) -> State:
    """The state with one tensor for all keys that share one. Of written ones the last wins, as in a load."""
    groups = {entry.key: entry.alias_of or entry.key for entry in profile.entries}
    last = {groups[key]: tensor for key, tensor in state.items()}
    return {key: last[groups[key]] for key in state}


def _generator(entry: StateEntry, *salt: object) -> torch.Generator:
    """Randomness that depends on the entry and the salt alone, so that no order of drawing matters."""
    text = " ".join(map(str, (entry.alias_of or entry.key, *salt)))
    return torch.Generator().manual_seed(zlib.crc32(text.encode("utf-8", "surrogateescape")))


def _shape(entry: StateEntry) -> tuple[int, ...]:
    if entry.shape is None or None in entry.shape:
        raise TargetError(
            f"{entry.key} has no shape yet: run one forward through the model, which initialises its lazy modules"
        )
    return tuple(size for size in entry.shape if size is not None)


def _dtype(entry: StateEntry) -> torch.dtype:
    dtype = getattr(torch, entry.dtype or "", None)
    if not isinstance(dtype, torch.dtype) or dtype in (torch.qint8, torch.quint8, torch.qint32):
        raise TargetError(f"{entry.key} has the dtype {entry.dtype}, which cannot be averaged")
    return dtype


def _initial(entry: StateEntry, party: int, seed: int) -> torch.Tensor:
    shape, dtype = _shape(entry), _dtype(entry)
    if dtype.is_floating_point:
        return (torch.rand(shape, generator=_generator(entry, "initial", party, seed)) + 0.1).to(dtype)
    generator = _generator(entry, "constant", seed)
    if dtype.is_complex:
        own = _generator(entry, "initial", party, seed)
        return torch.complex(torch.rand(shape, generator=own), torch.rand(shape, generator=own)).to(dtype)
    if dtype is torch.bool:
        return torch.rand(shape, generator=generator) < 0.5
    if entry.value is not None:
        return torch.full(shape, entry.value, dtype=dtype)
    if entry.name == COUNTER:
        return torch.zeros(shape, dtype=dtype)
    return torch.randint(1, 100, shape, generator=generator).to(dtype)


def _step(entry: StateEntry, party: int, round_: int, seed: int) -> torch.Tensor:
    shape, dtype = _shape(entry), _dtype(entry)
    if dtype.is_floating_point or dtype.is_complex:
        step = (torch.rand(shape, generator=_generator(entry, "step", party, round_, seed)) - 0.5) / 10
        return (step.abs() if entry.name == "running_var" else step).to(dtype)
    return torch.full(shape, 2 + party if entry.name == COUNTER else 0, dtype=dtype)


def _noise(entry: StateEntry, party: int) -> torch.Tensor:
    shape, dtype = _shape(entry), _dtype(entry)
    generator = _generator(entry, "noise", party)
    if dtype.is_floating_point or dtype.is_complex:
        return (torch.rand(shape, generator=generator) * 100 + 100).to(dtype)
    return torch.randint(101, 127, shape, generator=generator).to(dtype)
