"""Trainings in federation: how well the parties' models do when they share in one way or another, as plain data.

:mod:`bn_audit.live.training` makes them, :mod:`bn_audit.report.trainings` renders them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean, stdev

from bn_audit.verification import Verification

__all__ = ["FEDAVG", "FEDBN", "LOCAL", "Accuracy", "Curves", "Party", "Trained", "Training"]

FEDAVG, FEDBN, LOCAL = "FedAvg", "FedBN", "local only"
"""The ways of sharing that are always tried; a framework's setting is another one, and has the framework's name."""


@dataclass(frozen=True, slots=True)
class Party:
    """Who takes part, with the numbers of examples to train on and to be tested with."""

    name: str
    train: int
    test: int


@dataclass(frozen=True, slots=True)
class Accuracy:
    """The mean over seeds, from 0 to 1, and the standard deviation between them; None of a single seed."""

    mean: float
    spread: float | None

    @classmethod
    def over(cls, values: Iterable[float]) -> Accuracy:
        """Of one value a seed."""
        listed = list(values)
        return cls(fmean(listed), stdev(listed) if len(listed) > 1 else None)


@dataclass(frozen=True, slots=True)
class Curves:
    """The accuracies in the course of one way of sharing.

    Attributes:
        method: its name.
        accuracies: by seed, round and party, from 0 to 1; measured on the party's test examples, in eval mode, with the
            state that the party holds at the end of the round.
        not_finite: by seed, the first round in which a loss was NaN or infinite; None if none was.
    """

    method: str
    accuracies: tuple[tuple[tuple[float, ...], ...], ...]
    not_finite: tuple[int | None, ...]

    def party(self, number: int) -> Accuracy:
        """One party's, after the last round."""
        return Accuracy.over(rounds[-1][number] for rounds in self.accuracies)

    @property
    def mean(self) -> Accuracy:
        """That of the mean over parties, after the last round."""
        return Accuracy.over(fmean(rounds[-1]) for rounds in self.accuracies)

    def above(self, other: Curves) -> Accuracy:
        """How far it ends above another way, seed by seed, in the mean over parties; negative where it is below."""
        pairs = zip(self.accuracies, other.accuracies, strict=True)
        return Accuracy.over(fmean(mine[-1]) - fmean(theirs[-1]) for mine, theirs in pairs)


@dataclass(frozen=True, slots=True)
class Training:
    """One model, trained by the same parties in several ways.

    Attributes:
        target: what was trained, as named by the user.
        data: what it was trained on, in words.
        parties: in the data's order.
        classes: how many the model tells apart.
        rounds, epochs: how many rounds, and local epochs in each.
        seeds: what the model's initial state, the data's split and the order of the examples were drawn with.
        batch_size, learning_rate: of the local training, which is SGD without momentum.
        curves: FedAvg, FedBN, local only, and the framework's setting if it was trained.
        notes: what a reader should know besides.
    """

    target: str
    data: str
    parties: tuple[Party, ...]
    classes: int
    rounds: int
    epochs: int
    seeds: tuple[int, ...]
    batch_size: int
    learning_rate: float
    curves: tuple[Curves, ...]
    notes: tuple[str, ...] = ()

    @property
    def setting(self) -> Curves | None:
        """The curves of the framework's setting."""
        return next((curves for curves in self.curves if curves.method not in (FEDAVG, FEDBN, LOCAL)), None)

    def of(self, method: str) -> Curves:
        """The curves of a way of sharing.

        Raises:
            KeyError: it was not trained.
        """
        for curves in self.curves:
            if curves.method == method:
                return curves
        raise KeyError(method)


@dataclass(frozen=True, slots=True)
class Trained:
    """A training, beside the verification of the framework's setting if one was named."""

    training: Training
    verification: Verification | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing was refuted. Accuracies prove nothing: they are what this data gives."""
        return self.verification is None or self.verification.ok
