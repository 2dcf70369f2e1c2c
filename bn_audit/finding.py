"""What bn-audit says: findings, where they stand, what leads to them and what mends them.

Plain data. This module imports nothing of ours, so that every part of the house may speak in its words.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Literal

__all__ = ["Applicability", "Edit", "Evidence", "Finding", "Fix", "Location", "Severity", "Silenced"]


class Severity(enum.Enum):
    """How much a finding matters; ordered by :attr:`rank`."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"

    @property
    def rank(self) -> int:
        """0 for info, 1 for warning, 2 for error."""
        return _RANKS[self]


_RANKS = {Severity.INFO: 0, Severity.WARNING: 1, Severity.ERROR: 2}


@dataclass(frozen=True, slots=True, order=True)
class Location:
    """A stretch of source text. Lines and columns count from 1, columns in characters.

    ``path`` is as the report shall show it: relative to the working directory where it lies below it. ``cell`` is the
    notebook cell, counted from 1 over all cells; lines then count inside the cell. The end is exclusive.
    """

    path: str
    line: int
    column: int
    end_line: int
    end_column: int
    cell: int | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """One step of the trail a person can follow from the finding to its cause."""

    location: Location
    message: str


class Applicability(enum.Enum):
    """``SAFE`` only if the plan after the fix equals FedBN's expectation."""

    SAFE = "safe"
    UNSAFE = "unsafe"


@dataclass(frozen=True, slots=True)
class Edit:
    """Replace the text between two positions by ``content``; an empty stretch inserts."""

    line: int
    column: int
    end_line: int
    end_column: int
    content: str


@dataclass(frozen=True, slots=True)
class Fix:
    """Edits of the finding's file that belong together."""

    applicability: Applicability
    message: str
    edits: tuple[Edit, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing a rule has to say, with its evidence.

    ``message`` names the consequence at this very place; ``help`` says what to do about it, or is None.
    """

    code: str
    name: str
    severity: Severity
    message: str
    location: Location
    evidence: tuple[Evidence, ...] = ()
    help: str | None = None
    fix: Fix | None = None


@dataclass(frozen=True, slots=True)
class Silenced:
    """A finding that somebody decided not to hear of: by a comment beside it, or by a baseline that knows it.

    ``reason`` is what the comment says about it; "" if nothing.
    """

    finding: Finding
    by: Literal["comment", "baseline"]
    reason: str = ""
