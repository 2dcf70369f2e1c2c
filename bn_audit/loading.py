"""Which entries of a state are meant, and what puts them into a model: what plans of every kind speak of."""

from __future__ import annotations

import enum
from dataclasses import dataclass

__all__ = ["EVERYTHING", "Covers", "How"]


@dataclass(frozen=True, slots=True)
class Covers:
    """Which entries are meant.

    Attributes:
        parameters: those of ``parameters()`` alone: no buffer, and of shared ones the first.
        floating: those of floating point alone: ``if v.dtype.is_floating_point``.
        keys: those with these keys alone; None is all.
        without: not those with these keys.
    """

    parameters: bool = False
    floating: bool = False
    keys: frozenset[str] | None = None
    without: frozenset[str] = frozenset()


EVERYTHING = Covers()


class How(enum.Enum):
    """What puts an average into a model."""

    STATE_DICT = "load_state_dict(avg)"
    LENIENT = "load_state_dict(avg, strict=False)"
    COPY = "p.data.copy_(avg)"
    """``p.data.copy_(v)``, ``state[k].copy_(v)``, ``p.data[:] = v``; what has fewer dimensions is broadcast."""
    ASSIGN = "p.data = avg"
