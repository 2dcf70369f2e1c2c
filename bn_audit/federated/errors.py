"""What the aggregators raise."""

from __future__ import annotations

__all__ = ["AggregationError"]


class AggregationError(ValueError):
    """States that cannot be combined, or loaded; the message names party and key where there are any.

    Attributes:
        party: the party's name, or None.
        key: the entry's key, or None.
    """

    def __init__(self, message: str, *, party: str | None = None, key: str | None = None) -> None:
        super().__init__(": ".join(part for part in (party, key, message) if part))
        self.party = party
        self.key = key
