"""What a client keeps to itself: it neither sends it nor takes it over from what it receives."""

from __future__ import annotations

from dataclasses import dataclass

from bn_audit.exchange.fedbn import fates_by_module
from bn_audit.exchange.plan import Fate
from bn_audit.profile import Profile

__all__ = ["Keep"]


@dataclass(frozen=True, slots=True)
class Keep:
    """A choice of entries.

    Attributes:
        norms: all entries that FedBN wants local, picked by the module that owns them, and by no other name.
        words: entries whose key has one of these words in it: ``if "bn" not in name``.
    """

    norms: bool = False
    words: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.norms or bool(self.words)

    def __str__(self) -> str:
        return ", ".join([*(["norm layers"] if self.norms else []), *(f"{word!r} in the key" for word in self.words)])

    def keys(self, profile: Profile) -> frozenset[str]:
        """The keys of a profile that are chosen."""
        return frozenset(
            entry.key
            for entry, fates in zip(profile.entries, fates_by_module(profile), strict=True)
            if (self.norms and Fate.LOCAL in fates) or any(word in entry.key for word in self.words)
        )
