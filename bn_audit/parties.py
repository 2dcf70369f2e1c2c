"""A round that really ran, judged by what the parties saved: plain data.

:mod:`bn_audit.live.parties` judges the checkpoints, :mod:`bn_audit.report.verifications` renders what it found.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from bn_audit.profile import Shape

__all__ = ["PartiesReport", "PartyEntry", "Standing"]


class Standing(enum.Enum):
    """How an entry stands in the parties' checkpoints. The values are the words of the reports."""

    EQUAL = "equal"
    """The same in every party, as an averaged entry is."""
    LOCAL = "local"
    """A norm layer's, and each party has its own; or the same in all for a reason that is told."""
    NOT_SYNCHRONISED = "not synchronised"
    """No norm layer's, and it differs between parties."""
    SHARED = "shared"
    """A norm layer's, and the same in every party without a reason."""
    UNCHANGED = "unchanged"
    """The same in every party, and the same as before the round."""
    NOT_FINITE = "not finite"
    """NaN, infinite, or a negative variance, in some party."""
    MISMATCHED = "mismatched"
    """Missing in some party, or of another shape or dtype."""

    @property
    def right(self) -> bool:
        """Whether FedBN leaves an entry so."""
        return self in (Standing.EQUAL, Standing.LOCAL)


@dataclass(frozen=True, slots=True)
class PartyEntry:
    """One entry in the parties' checkpoints.

    Attributes:
        key: without the prefix of a wrapper.
        shape, dtype: in the first party that has it.
        norm: class name of the norm layer that owns it, or None.
        standing: see :class:`Standing`.
        difference: the largest absolute difference between two parties; None where they cannot be compared.
        detail: which party, and what a reader should know to judge it; "" if there is nothing to say.
    """

    key: str
    shape: Shape
    dtype: str
    norm: str | None
    standing: Standing
    difference: float | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class PartiesReport:
    """A round, as the parties' checkpoints show it.

    Attributes:
        parties: what the checkpoints are called, in the order given.
        previous: whether checkpoints from before the round were at hand.
        entries: in the order of the first party's state dict; keys that only others have follow.
        notes: what a reader should know besides.
    """

    parties: tuple[str, ...]
    previous: bool
    entries: tuple[PartyEntry, ...]
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the checkpoints are what FedBN leaves behind."""
        return not self.wrong

    @property
    def wrong(self) -> tuple[PartyEntry, ...]:
        """The entries that are not as FedBN leaves them."""
        return tuple(entry for entry in self.entries if not entry.standing.right)
