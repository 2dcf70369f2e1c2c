"""A plan, executed on tensors: the parties' states before an exchange give those after it.

An exchange moves one payload per party and entry: weights, the updates of a local training, or gradients. The mean of
a payload lands where the plan says. What a party holds afterwards is

    offset + scale * mean(payload of the source)

where the source is the entry itself (averaged) or another one (misplaced). The offset is zero where weights travel, the
party's own weights before training (or, for fed_avg_u, after it) where updates do, and its own parameters where
gradients do.
"""

from __future__ import annotations

import bisect
import cmath
import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter

from bn_audit.exchange.fedbn import constants
from bn_audit.exchange.plan import EntryPlan, Fate
from bn_audit.exchange.secretflow.settings import release
from bn_audit.live.errors import TargetError, require_torch
from bn_audit.profile import Profile, StateEntry

require_torch()

import torch  # noqa: E402

from bn_audit.federated.dtypes import AVERAGED, INTEGERS  # noqa: E402

__all__ = [
    "Exchange",
    "Outcome",
    "Rounding",
    "State",
    "execute",
    "outcomes",
    "party_states",
    "training_steps",
    "uninitialised",
    "wide",
    "within",
]

State = Mapping[str, torch.Tensor]
"""One party's tensors by key, in the profile's order. Tensors are replaced, never written to."""

Outcome = tuple["Fate | None", "str | None"]
"""What an exchange did to an entry: averaged, misplaced and whose, corrupt, or None: each party kept its own."""

COUNTER = "num_batches_tracked"

_TAKES_THE_FIRST = (release(torch.__version__) or (0, 0)) < (2, 13)
"""Older releases of torch load the first element of any vector into a scalar; it is not known which were the last."""


@dataclass(frozen=True, slots=True)
class Rounding:
    """How far what an exchange leaves may lie from exact arithmetic, and still be no more than rounding.

    The bound is that of the sum of products (Higham, Accuracy and Stability of Numerical Algorithms, 2002, chapter 3):
    for every element n u / (1 - n u) times the magnitudes that go in, where u is the unit roundoff of the coarsest
    format on the way. Nothing else is tolerated, so that the least drift is told from rounding.

    Attributes:
        operations: n, the roundings on the way from what the parties sent to what one of them holds.
        unit: the unit roundoff of the format in which arrays travel; that of the entry's own dtype counts as well.
        grid: the distance between the numbers of a fixed point to which every party's weighted part is cut; 0 if none.
    """

    operations: int = 2
    unit: float = 0.0
    grid: float = 0.0

    def relative(self, dtype: torch.dtype) -> float:
        """The bound for magnitudes of 1, of values that end up in a dtype."""
        unit = max(self.unit, torch.finfo(dtype).eps / 2 if dtype.is_floating_point or dtype.is_complex else _DOUBLE)
        return self.operations * unit / max(1 - self.operations * unit, 0.5)


_DOUBLE = 2.0**-53


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
        rounding: what is allowed to come of the arithmetic.
    """

    before: Sequence[State]
    payload: Sequence[State]
    weights: Sequence[float]
    trained: Sequence[State]
    offset: Sequence[State] | None = None
    scale: float = 1.0
    rounding: Rounding = Rounding()

    def mean(self, key: str, size: int | None = None, *, magnitude: bool = False) -> torch.Tensor:
        """The scaled weighted mean of one entry's payload, in float64 (complex128 for complex entries).

        Args:
            size: give no more than so many leading elements, as a vector.
            magnitude: of the absolute values instead.
        """
        parts = [wide(state[key] if size is None else _leading(state[key], size)) for state in self.payload]
        if magnitude:
            parts = [part.abs() for part in parts]
        mean = parts[0] * self.weights[0]
        for part, weight in zip(parts[1:], self.weights[1:], strict=True):
            mean.add_(part, alpha=weight)
        # Divided at the end: the mean of equal integers is that integer, which rounded weights do not give.
        return mean.div_(sum(self.weights)).mul_(abs(self.scale) if magnitude else self.scale)

    def arrival(self, party: int, source: str, mean: torch.Tensor) -> torch.Tensor:
        """What arrives at a party for a source, before it is cast to the dtype of the entry it lands in."""
        return mean if self.offset is None else wide(self.offset[party][source]) + mean

    def magnitude(self, party: int, source: str, size: int | None = None) -> torch.Tensor:
        """How large the numbers are that go into what arrives at a party for a source, element by element."""
        magnitude = self.mean(source, size, magnitude=True)
        if self.offset is not None:
            own = self.offset[party][source]
            magnitude += wide(own if size is None else _leading(own, size)).abs()
        return magnitude

    @property
    def cut(self) -> float:
        """What a fixed point cuts off a mean, at most."""
        return self.rounding.grid * len(self.payload) / sum(self.weights) * abs(self.scale)


def party_states(profile: Profile, parties: int, seed: int = 0) -> list[State]:
    """A different state for every party, with the profile's shapes and dtypes; the same for the same arguments.

    Floating point values are drawn from [0.1, 1.1). Integer and bool entries differ from each other but are the same in
    every party, as constants of an architecture are, and so are those of frozen norm layers; a 0-d integer keeps its
    known value.

    Raises:
        TargetError: for an entry without a shape or of a dtype that torch cannot compute with.
    """
    still = constants(profile)
    return [
        _aliased(
            profile, {entry.key: _initial(entry, 0 if entry.key in still else party, seed) for entry in profile.entries}
        )
        for party in range(parties)
    ]


def training_steps(profile: Profile, parties: int, round_: int, seed: int = 0) -> list[State]:
    """What a local training would add to every entry: a stand-in for training, as different as the parties' data.

    Floating point entries move by values from [-0.05, 0.05), those called ``running_var`` upwards only; counters by the
    number of batches, which differs between parties; other integer and bool entries not at all, nor frozen norm layers.
    """
    still = constants(profile)

    def step(entry: StateEntry, party: int) -> torch.Tensor:
        moved = _step(entry, party, round_, seed)
        return torch.zeros_like(moved) if entry.key in still else moved

    return [_aliased(profile, {entry.key: step(entry, party) for entry in profile.entries}) for party in range(parties)]


def execute(profile: Profile, plans: Sequence[EntryPlan], exchange: Exchange) -> list[State]:
    """The parties' states after an exchange in which every entry meets its planned fate.

    An entry whose fate is open keeps its value, and so does a misplaced one if it is open whose it gets. A corrupt one
    gets noise, another in every party: what uninitialised memory holds is nobody's value.

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
        landed: torch.Tensor | None = None
        for party, state in enumerate(exchange.before):
            own = state[entry.key]
            if mean is not None and source is not None:
                if landed is None or exchange.offset is not None:
                    landed = _landed(exchange.arrival(party, source, mean), own)
                after[party][entry.key] = landed
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
    by_shape: dict[tuple[int, ...], list[str]] = {}
    for source, tensor in sources.items():
        by_shape.setdefault(tuple(tensor.shape), []).append(source)
    for_scalars = [source for shape, keys in by_shape.items() if len(shape) < 2 for source in keys]
    nearby = {shape: _Nearby(keys, firsts) for shape, keys in by_shape.items()}
    nearby[()] = _Nearby(for_scalars, firsts)
    nowhere = _Nearby((), firsts)
    found = {}
    for entry in profile.entries:
        holds: set[Outcome] = set()
        values = [state[entry.key] for state in after]
        if all(_same(state[entry.key], value) for state, value in zip(exchange.before, values, strict=True)):
            holds.add((None, None))
        own = [_leading(value, 1).tolist() for value in values]
        shape = tuple(values[0].shape)
        for source in nearby.get(shape, nowhere).of(own[0], values[0].dtype, exchange):
            if not _lands(sources[source], values[0]):
                continue
            if not _alike(own, firsts[source], values[0].dtype, exchange):
                continue
            # What has one element has been compared; the rest of others is only now.
            if values[0].numel() == 1 or _arrived(exchange, source, values):
                same = groups[source] == groups[entry.key]
                holds.add((Fate.AVERAGED, None) if same else (Fate.MISPLACED, source))
        found[entry.key] = frozenset(holds) or frozenset({(Fate.CORRUPT, None)})
    return found


def within(
    value: torch.Tensor, exact: torch.Tensor, magnitude: Callable[[int | None], torch.Tensor], exchange: Exchange
) -> bool:
    """Whether what an entry holds is a result of exact arithmetic, but for what an exchange may round.

    Args:
        value: what it holds.
        exact: the result, of the same shape, in double precision or in the entry's own.
        magnitude: how large the numbers are that went into it, as a vector of so many leading elements or of all. It is
            asked for only where the result's own size does not do.
    """
    landed = _cast(exact, value.dtype)
    if _same(value, landed):
        return True
    if value.dtype is torch.bool:
        return False
    relative = exchange.rounding.relative(value.dtype)
    if not (value.is_floating_point() or value.is_complex()):
        # The load cuts off what is behind the point, of a number on either side of the exact one.
        slack = magnitude(None).mul_(relative).add_(exchange.cut)
        target, held = _real(wide(exact)).reshape(-1), wide(value).reshape(-1)
        return bool(((target - slack).trunc_() <= held).all() and (held <= (target + slack).trunc_()).all())
    absolute = exchange.cut + _smallest(value.dtype) * exchange.rounding.operations
    have, want = _comparable(value), _comparable(landed)
    # What is as large as what went into it needs no more; so are most results. Differences to infinity are no numbers.
    if bool(((have - want).abs().sub_(want.abs().mul_(relative).add_(absolute)) <= 0).all()):
        return True
    return all(
        _near(value, exact, landed, size, magnitude(size).mul_(relative).add_(absolute)) for size in (_GLANCE, None)
    )


_GLANCE = 16
"""Elements that are looked at before all are: what is wrong mostly is from the beginning."""


def _near(
    value: torch.Tensor, exact: torch.Tensor, landed: torch.Tensor, size: int | None, bound: torch.Tensor
) -> bool:
    """Whether leading elements are no further from each other than a bound, or the same."""
    held, target, same = (_leading(tensor, size) for tensor in (value, exact, landed))
    other = wide(target) if value.is_complex() else _real(wide(target))
    near = (wide(held) - other).abs().sub_(bound) <= 0
    a, b = _comparable(held), _comparable(same)
    return bool((near | (a == b) | (a.isnan() & b.isnan())).all())


def _smallest(dtype: torch.dtype) -> float:
    """Half the distance between a dtype's smallest numbers, which no relative bound covers."""
    info = torch.finfo(dtype)
    return info.smallest_normal * info.eps / 2


def _arrived(exchange: Exchange, source: str, values: Sequence[torch.Tensor]) -> bool:
    """Whether every party holds what arrived for a source."""
    mean = exchange.mean(source)

    def arrived(party: int, value: torch.Tensor) -> bool:
        exact = _fitted(exchange.arrival(party, source, mean), value)

        def magnitude(size: int | None) -> torch.Tensor:
            return exchange.magnitude(party, source, exact.numel() if size is None else size)

        return within(value, exact, magnitude, exchange)

    return all(arrived(party, value) for party, value in enumerate(values))


def _firsts(exchange: Exchange, source: str) -> list[list[tuple[complex, float]]]:
    """The first element of what arrives for a source and its magnitude, party by party; nothing of what is empty."""
    mean = exchange.mean(source, 1)
    found = []
    for party in range(len(exchange.before)):
        arrival = mean
        if exchange.offset is not None:
            arrival = mean + wide(_leading(exchange.offset[party][source], 1))
        found.append(list(zip(arrival.tolist(), exchange.magnitude(party, source, 1).tolist(), strict=True)))
        if exchange.offset is None:
            return found * len(exchange.before)
    return found


class _Nearby:
    """Sources by the first element of what arrives for them at the first party, so that an entry is compared with those
    that come near it, and not with every other of its shape."""

    def __init__(self, sources: Sequence[str], firsts: Mapping[str, list[list[tuple[complex, float]]]]) -> None:
        self._all = sources
        self._others: list[str] = []
        self._ordered: list[tuple[float, str]] = []
        self._largest = 0.0
        for source in sources:
            first = firsts[source][0]
            if first and cmath.isfinite(first[0][0]) and math.isfinite(first[0][1]):
                self._ordered.append((first[0][0].real, source))
                self._largest = max(self._largest, first[0][1])
            else:
                self._others.append(source)
        self._ordered.sort()

    def of(self, value: Sequence[complex], dtype: torch.dtype, exchange: Exchange) -> Sequence[str]:
        """Those that :func:`_alike` may find alike, and a few more."""
        if not value or dtype is torch.bool or not cmath.isfinite(value[0]):
            return self._all
        reach = exchange.cut + exchange.rounding.relative(dtype) * self._largest
        # What is behind the point of a number that is put into an integer is cut off.
        floats = dtype.is_floating_point or dtype.is_complex
        reach = 2 * (reach + (_smallest(dtype) * exchange.rounding.operations if floats else 1.0))
        at = value[0].real
        begin = bisect.bisect_left(self._ordered, at - reach, key=itemgetter(0))
        end = bisect.bisect_right(self._ordered, at + reach, key=itemgetter(0))
        return [*(source for _, source in self._ordered[begin:end]), *self._others]


def _alike(
    values: Sequence[Sequence[complex]],
    arrivals: Sequence[Sequence[tuple[complex, float]]],
    dtype: torch.dtype,
    exchange: Exchange,
) -> bool:
    """Whether the first elements are close, in every party. Most tensors are told apart here, unread."""
    relative, absolute = exchange.rounding.relative(dtype), exchange.cut
    number = dtype.is_floating_point or dtype.is_complex
    if number:
        absolute += _smallest(dtype) * exchange.rounding.operations
    for value, arrival in zip(values, arrivals, strict=True):
        for a, (b, size) in zip(value, arrival, strict=False):
            if dtype is torch.bool:
                same = a == (b != 0)
            elif not cmath.isfinite(b) or not cmath.isfinite(a):
                # What is infinite in a narrow dtype may be finite in the arithmetic.
                same = a == b or (a != a and b != b) or (cmath.isinf(a) and abs(b) > torch.finfo(dtype).max / 2)
            elif number:
                same = abs(a - (b if dtype.is_complex else b.real)) <= absolute + relative * size
            else:
                slack = absolute + relative * size
                same = math.trunc(b.real - slack) <= a.real <= math.trunc(b.real + slack)
            if not same:
                return False
    return True


def _leading(tensor: torch.Tensor, size: int | None) -> torch.Tensor:
    return tensor.reshape(-1)[:size]


def _comparable(tensor: torch.Tensor) -> torch.Tensor:
    """In a dtype that arithmetic and comparisons are fast in, and that holds every value."""
    if tensor.dtype in (torch.float32, torch.complex64):
        return tensor
    if tensor.is_floating_point() and tensor.dtype.itemsize < 4:
        return tensor.float()
    return wide(tensor)


def _lands(arrival: torch.Tensor, entry: torch.Tensor) -> bool:
    """Whether ``load_state_dict`` may take an array for an entry: of its shape, or a vector for a scalar."""
    if entry.dim() == 0 and arrival.dim() == 1:
        return arrival.numel() == 1 or (_TAKES_THE_FIRST and arrival.numel() > 0)
    return arrival.shape == entry.shape


def _landed(arrival: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    """What an arriving array becomes in an entry: the entry's shape and dtype."""
    return _cast(_fitted(arrival, own), own.dtype)


def _fitted(arrival: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    """An arriving array in an entry's shape: of a vector a scalar takes the first element."""
    if own.dim() == 0 and arrival.dim() == 1:
        arrival = arrival[0]
    return arrival.reshape(own.shape)


def _real(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.real if tensor.is_complex() else tensor


def _cast(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    if tensor.is_complex() and not dtype.is_complex:
        tensor = tensor.real
    return tensor.to(dtype)


def wide(tensor: torch.Tensor) -> torch.Tensor:
    """A copy in double precision, complex if need be."""
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


def uninitialised(key: str) -> str:
    """Why no round can be run, and what to do."""
    return f"{key} has no shape yet: run one forward through the model, which initialises its lazy modules"


def _shape(entry: StateEntry) -> tuple[int, ...]:
    if entry.shape is None or None in entry.shape:
        raise TargetError(uninitialised(entry.key))
    return tuple(size for size in entry.shape if size is not None)


def _dtype(entry: StateEntry) -> torch.dtype:
    dtype = getattr(torch, entry.dtype or "", None)
    if dtype not in AVERAGED and dtype not in INTEGERS:
        raise TargetError(f"{entry.key} has the dtype {entry.dtype}, which cannot be averaged")
    assert isinstance(dtype, torch.dtype)
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
