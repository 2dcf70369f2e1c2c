"""How a model is wrapped in ``local_batchnorm`` of :mod:`bn_audit.federated.secretflow`: plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["INTEGERS", "Integers", "Wrapping"]

Integers = Literal["refuse", "local"]
"""What becomes of integer and bool entries that are no BatchNorm's: the model is refused, or they stay with the
party."""

INTEGERS: tuple[Integers, ...] = ("refuse", "local")


@dataclass(frozen=True, slots=True)
class Wrapping:
    """The arguments of a call of ``local_batchnorm``.

    Attributes:
        strategy: the strategy that is named to it; None if none is, or it is not known: then the one that FLModel is
            given is looked at when the model is made.
        integers: None if it is not known.
    """

    strategy: str | None = None
    integers: Integers | None = "refuse"
