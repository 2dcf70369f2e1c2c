"""What the rules on values judge: a model as it is in memory or in a file, with how its running statistics are."""

from __future__ import annotations

from dataclasses import dataclass

from bn_audit.finding import Location
from bn_audit.health import NormHealth
from bn_audit.profile import Profile

__all__ = ["LiveModel"]


@dataclass(frozen=True, slots=True)
class LiveModel:
    """A live module or a checkpoint.

    Attributes:
        profile: its state.
        name: what messages call it; "" if it has no name.
        location: where findings stand.
        health: of its norm layers, as far as the values are at hand.
        saved: whether it comes from a file that somebody saved, rather than from code that may just have built it.
    """

    profile: Profile
    name: str
    location: Location
    health: tuple[NormHealth, ...] = ()
    saved: bool = False

    @property
    def title(self) -> str:
        """What a message calls it."""
        return f"`{self.name}`" if self.name else "the model"
