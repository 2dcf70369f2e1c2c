"""What is known of a value in the arithmetic of an exchange."""

from __future__ import annotations

import enum
from dataclasses import dataclass

__all__ = ["Kind", "Refused", "Unsettled", "Value"]


class Kind(enum.Enum):
    """What a value is to Python."""

    TENSOR = "tensor"
    ARRAY = "array"
    """A NumPy array, of any number of dimensions."""
    SCALAR = "scalar"
    """A NumPy scalar, which is what most operations make of 0-d arrays."""
    NUMBER = "number"
    """A number of Python's. Its dtype is int64 or float64, and gives way to that of any array."""


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor, array or number.

    Attributes:
        dtype: by name.
        kind: what it is to Python.
        scalar: whether it has no dimension.
        empty: whether it has no element.
    """

    dtype: str
    kind: Kind = Kind.TENSOR
    scalar: bool = False
    empty: bool = False

    @property
    def type_name(self) -> str | None:
        """The class of the value, as errors name it; None for a tensor."""
        match self.kind:
            case Kind.TENSOR:
                return None
            case Kind.ARRAY:
                return "numpy.ndarray"
            case Kind.SCALAR:
                return f"numpy.{self.dtype}"
            case Kind.NUMBER:
                return "float" if self.dtype == "float64" else "int"


class Refused(Exception):
    """An operation that raises: the exception's class name and its text, as torch or NumPy raises it."""

    def __init__(self, type_: str, text: str) -> None:
        super().__init__(type_, text)
        self.type = type_
        self.text = text


class Unsettled(Exception):
    """An operation of which it is not known what it does: nobody writes it, or versions differ."""
