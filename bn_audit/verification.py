"""Verifications: what rounds that were run on tensors showed, as plain data.

:mod:`bn_audit.live.verify` makes them, :mod:`bn_audit.report.verification` renders them.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from bn_audit.exchange.plan import Fate
from bn_audit.profile import StateEntry

__all__ = ["Contrast", "Stop", "Verdict", "Verification", "VerifiedEntry"]


class Verdict(enum.Enum):
    """How the state after the rounds stands to FedBN's. The values are the words of the reports."""

    RIGHT = "right"
    """It equals FedBN's, in every party and for every entry."""
    WRONG = "wrong"
    """All rounds run, and it does not equal FedBN's."""
    STOPS = "stops"
    """An error stops a round."""
    DISAGREES = "disagrees"
    """The real classes do not do what the plan says: the plan is at fault, and neither is to be trusted."""
    OPEN = "open"
    """Not proven: the plan leaves open what happens, and no real classes were asked."""


@dataclass(frozen=True, slots=True)
class Stop:
    """The exception that stops a round.

    Attributes:
        type: the exception's class name.
        text: ``str(exception)``.
        round: how many times the failing party has begun to train; 0 is the exchange before any training.
        exact: False if only the stop is certain, and type and text are the likely ones.
        key: the entry at which it stops; None if it is no single entry's fault, or not known.
    """

    type: str
    text: str
    round: int = 0
    exact: bool = True
    key: str | None = None

    def __str__(self) -> str:
        return f"{self.type}: {self.text}"


@dataclass(frozen=True, slots=True)
class VerifiedEntry:
    """One entry's part of a verification.

    Attributes:
        entry: from the profile.
        norm: class name of the norm layer that owns it, or None.
        expected: what FedBN wants; more than one fate only where it is not known whether the owner is a BatchNorm.
        planned: what the plan says may happen to it, if the round is not stopped.
        source_key: whose tensor it gets by the plan, if misplaced.
        measured: the fates that the tensors before and after the exchanges allow, the plan's first; empty if nothing
            was exchanged. More than one remain where equal values do not tell them apart.
        deviation: the largest absolute difference from FedBN's value in any party after the last round; NaN where it is
            not a number, None if the rounds did not come to their end.
        right: whether it is what FedBN wants; None if that was not settled.
    """

    entry: StateEntry
    norm: str | None
    expected: frozenset[Fate]
    planned: frozenset[Fate]
    source_key: str | None
    measured: tuple[Fate, ...]
    deviation: float | None
    right: bool | None


@dataclass(frozen=True, slots=True)
class Verification:
    """What became of a model in rounds that were run.

    Attributes:
        target: what was verified, as named by the user.
        engine: ``contract`` (the plan, executed), or the framework's own classes, ``wheel`` (out of a file) or
            ``secretflow`` or ``flower`` (as installed).
        parties, rounds: how many.
        settings: names and values.
        entries: in the profile's order.
        stop: the error that stops a round: the plan's with the contract engine, else measured.
        drifts: whether parties end up with different values of an entry that was averaged in every round.
        disagreements: what the plan says and the real classes deny, in words.
        notes: what a reader should know besides.
        verdict: see :class:`Verdict`.
    """

    target: str
    engine: str
    parties: int
    rounds: int
    settings: tuple[tuple[str, str], ...]
    entries: tuple[VerifiedEntry, ...]
    stop: Stop | None
    drifts: bool
    disagreements: tuple[str, ...]
    notes: tuple[str, ...]
    verdict: Verdict

    @property
    def ok(self) -> bool:
        """Whether the state after the rounds equals FedBN's."""
        return self.verdict is Verdict.RIGHT

    @property
    def wrong(self) -> tuple[VerifiedEntry, ...]:
        """The entries that are not what FedBN wants."""
        return tuple(entry for entry in self.entries if entry.right is False)


@dataclass(frozen=True, slots=True)
class Contrast:
    """A fix beside what it fixes."""

    before: Verification
    after: Verification

    @property
    def ok(self) -> bool:
        """Whether the state after the rounds equals FedBN's with the fix."""
        return self.after.ok
