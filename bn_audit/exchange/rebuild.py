"""How an array becomes a tensor again."""

from __future__ import annotations

from bn_audit.exchange.arithmetic import Value, numpy
from bn_audit.handwritten import Rebuild

__all__ = ["rebuilt"]


def rebuilt(value: Value, how: Rebuild) -> tuple[Value, bool]:
    """The tensor, and whether the value was taken for a size, so that it holds uninitialised memory.

    Raises:
        Refused: what torch refuses.
    """
    match how:
        case Rebuild.FROM_NUMPY:
            return numpy.from_numpy(value), False
        case Rebuild.TENSOR_CLASS:
            return numpy.tensor_class(value)
        case Rebuild.TENSOR:
            return numpy.tensor(value), False
