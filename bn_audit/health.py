"""The health of running statistics, as plain data: what the torch reader measures and the rules judge."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["NormHealth"]


@dataclass(frozen=True, slots=True)
class NormHealth:
    """What the running statistics of one norm layer hold.

    Attributes:
        path: of the layer.
        counter: ``num_batches_tracked``; None if it has none, or its value is not at hand.
        known: whether the values are at hand; they are not on the meta device, and before a lazy layer is initialised.
            The counts are 0 then, and ``untrained`` is None.
        nan, inf: how many values of mean and variance are NaN, and infinite.
        negative, zero: how many variances are below 0 (-inf among them), and exactly 0.
        saved: whether they are in the state dict; where they are not, nothing is known of them.
        untrained: every mean is 0, every variance 1 and the counter, if there is one, 0, as when the layer was built.
    """

    path: str
    counter: int | None = None
    known: bool = True
    nan: int = 0
    inf: int = 0
    negative: int = 0
    zero: int = 0
    untrained: bool | None = None
    saved: bool = True

    @property
    def broken(self) -> bool:
        """Whether a forward in eval mode gives NaN or infinite outputs for it."""
        return bool(self.nan or self.inf or self.negative)
