"""How far apart the parties' data is, as their BatchNorms tell it: plain data.

:mod:`bn_audit.live.divergence` measures, :mod:`bn_audit.report.comparisons` renders.
"""

from __future__ import annotations

import enum
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

__all__ = [
    "HELLINGER",
    "JEFFREYS",
    "METRICS",
    "NW2",
    "UNITS",
    "W2",
    "Affine",
    "Calibration",
    "Channel",
    "ComparedLayer",
    "Comparison",
    "LeftOut",
    "Level",
    "Outlier",
    "Pairs",
    "Round",
]

NW2, HELLINGER, JEFFREYS, W2 = "nw2", "hellinger", "jeffreys", "w2"
METRICS = (NW2, HELLINGER, JEFFREYS, W2)
UNITS: Mapping[str, str] = {
    NW2: "standard deviations, mean over channels",
    HELLINGER: "from 0 to 1, mean over channels",
    JEFFREYS: "nats, mean over channels",
    W2: "the activations' own unit, over all channels",
}
"""What the numbers of a distance are; the formulas stand in :mod:`bn_audit.federated.distances`."""


class Level(enum.Enum):
    """How far apart two parties are at a layer. The values are the words of the reports.

    The first is told by the line that chance keeps below; the others by nW2, at the marks that Cohen set for a
    difference in standard deviations (Statistical Power Analysis for the Behavioral Sciences, 2nd ed., 1988): below a
    small effect (0.2) it is mild, from a medium one (0.5) on it is strong. It is a mean over channels, some of which
    see nothing of most shifts.
    """

    INDISTINGUISHABLE = "indistinguishable"
    MILD = "mild"
    MODERATE = "moderate"
    STRONG = "strong"

    @classmethod
    def of(cls, distance: float, line: float) -> Level:
        """The level of an nW2, beside the line for these two parties."""
        if distance <= line:
            return cls.INDISTINGUISHABLE
        if distance < 0.2:
            return cls.MILD
        return cls.MODERATE if distance < 0.5 else cls.STRONG


@dataclass(frozen=True, slots=True)
class Pairs(Sequence[float]):
    """A number for every pair of parties, in the order (0, 1), (0, 2), ..., (1, 2), ...

    Attributes:
        parties: how many.
        values: doubles, one a pair.
    """

    parties: int
    values: array[float]

    def of(self, one: int, other: int) -> float:
        """That of two parties; 0 of a party and itself."""
        if one == other:
            return 0.0
        first, second = sorted((one, other))
        return self.values[first * self.parties - first * (first + 1) // 2 + second - first - 1]

    def rows(self) -> Iterator[tuple[int, int, float]]:
        """Both parties, and their number."""
        values = iter(self.values)
        for one in range(self.parties):
            for other in range(one + 1, self.parties):
                yield one, other, next(values)

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, number):  # type: ignore[no-untyped-def]
        return self.values[number]


@dataclass(frozen=True, slots=True)
class Affine:
    """How far apart weight and bias are: the root of the mean square difference over channels, in their own unit."""

    weight: Pairs
    bias: Pairs


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel's distances.

    Attributes:
        number: from 0.
        mean: over the pairs.
        largest: of all pairs.
        pair: whose that is.
    """

    number: int
    mean: float
    largest: float
    pair: tuple[int, int]


@dataclass(frozen=True, slots=True)
class ComparedLayer:
    """One norm layer.

    Attributes:
        path: of the module.
        features: how many channels were compared.
        comparable: whether all parties have close weights before it; else its channels do not mean the same thing.
        distances: of every pair, by metric; empty where only the first layer's pairs were asked for.
        centre: nW2 of each party from the mean of the parties (mean of the means, mean of the variances).
        affine: None if it has no weight and bias, or they were not asked for.
        channels: by number, of the first metric; empty unless asked for.
        lines: the nW2 that chance stays below with 99 % for each pair; None if that is not known.
    """

    path: str
    features: int
    comparable: bool
    distances: Mapping[str, Pairs]
    centre: tuple[float, ...]
    affine: Affine | None = None
    channels: tuple[Channel, ...] = ()
    lines: Pairs | None = None

    def level(self, one: int, other: int) -> Level | None:
        """How far apart two parties are; None if there is no line, or the layer means nothing."""
        if self.lines is None or not self.comparable or NW2 not in self.distances or one == other:
            return None
        return Level.of(self.distances[NW2].of(one, other), self.lines.of(one, other))


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A norm layer that is not compared, and why."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Calibration:
    """Where the lines come from.

    Attributes:
        how: ``split-half`` (of the parties' own data) or ``bound`` (a formula).
        splits: how many splits a party; 0 for the bound.
        examples: how many of each party's examples it rests on.
        batch_size, momentum: of the training; momentum None is the plain mean over all batches.
    """

    how: str
    splits: int
    examples: tuple[int, ...]
    batch_size: int
    momentum: float | None


@dataclass(frozen=True, slots=True)
class Outlier:
    """A party that lies apart from the rest.

    Attributes:
        party: its number.
        median: of its distances to the others, at the first layer.
        typical: the median of that over the parties.
    """

    party: int
    median: float
    typical: float


@dataclass(frozen=True, slots=True)
class Round:
    """One round of a history.

    Attributes:
        number: of the round.
        centre: by layer path, the parties' nW2 from their mean; None of a party that is missing.
    """

    number: int
    centre: Mapping[str, tuple[float | None, ...]]


@dataclass(frozen=True, slots=True)
class Comparison:
    """What ``bn-audit compare`` has to say.

    Attributes:
        parties: their names, in the order given.
        metrics: those that were computed, the one to show first.
        layers: in the model's order; the first is the headline.
        left_out: norm layers that are not among them.
        weights: how far each party's weights are from the first party's, as a share of their size: the largest of all
            entries that are no norm layer's; None if the parties have no such entries in common.
        calibration: None without one.
        groups: parties that lie close together, at the first layer; empty if there are none to tell apart.
        outliers: the farthest first.
        places: of the parties on a map of two dimensions, so that distances at the first layer are kept as well as they
            can be; empty where there is none.
        places_share: of the squared distances that the map shows, from 0 to 1.
        history: by round; empty without one.
        notes: what a reader should know besides.
    """

    parties: tuple[str, ...]
    metrics: tuple[str, ...]
    layers: tuple[ComparedLayer, ...]
    left_out: tuple[LeftOut, ...] = ()
    weights: tuple[float | None, ...] = ()
    calibration: Calibration | None = None
    groups: tuple[tuple[int, ...], ...] = ()
    outliers: tuple[Outlier, ...] = ()
    places: tuple[tuple[float, float], ...] = ()
    places_share: float | None = None
    history: tuple[Round, ...] = field(default=())
    notes: tuple[str, ...] = ()

    @property
    def first(self) -> ComparedLayer:
        """The layer that tells most of the data: deeper ones can be blind."""
        return self.layers[0]
