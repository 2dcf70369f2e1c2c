"""Values of arguments as the source reader knows them: plain Python values, module templates, and what is not known.

None, int, float, bool, str, tuple, list and dict stand for themselves, a :class:`~bn_audit.source.state.ModuleState`
for a module, :class:`DType` for ``torch.float16`` and its like.
"""

from __future__ import annotations

import enum
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final, Literal

__all__ = [
    "REST",
    "REST_KEYWORDS",
    "UNKNOWN",
    "DType",
    "Unknown",
    "bind",
    "dim",
    "dims",
    "dtype_name",
    "flag",
    "layer_count",
    "number",
]


class Unknown(enum.Enum):
    """The type of :data:`UNKNOWN`."""

    UNKNOWN = "unknown"
    REST = "rest"


UNKNOWN: Final = Unknown.UNKNOWN
"""A value the reader could not find out: it may be anything."""

REST: Final = Unknown.REST
"""As a positional argument: from here on any number of unknown arguments (``*args``)."""

REST_KEYWORDS: Final = "**"
"""As a keyword, with any value: unknown keyword arguments beside the ones that are listed (``**kwargs``)."""


@dataclass(frozen=True, slots=True)
class DType:
    """A torch dtype by its name: ``DType("float16")``."""

    name: str


_MAX_LAYERS = 1000


def dim(value: object) -> int | None:
    """A dimension, None if it is not known to be a number."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def layer_count(value: object) -> int | None:
    """How many layers to make, None if that is not known, or more than anybody makes."""
    number = dim(value)
    return number if number is not None and number <= _MAX_LAYERS else None


def dims(value: object, rank: int) -> tuple[int | None, ...] | None:
    """What torch's ``_ntuple(rank)`` makes of a number or a sequence; None if not even the length is known."""
    if isinstance(value, tuple | list):
        return tuple(dim(item) for item in value)
    if value is UNKNOWN or dim(value) is not None:
        return (dim(value),) * rank
    return None


def flag(value: object) -> bool | None:
    """The truth of an argument, None if it is not known."""
    if isinstance(value, Unknown):
        return None
    return value is not None and bool(value)


def number(value: object) -> float | None:
    """A float, None if it is not known or no number."""
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return None


def dtype_name(value: object) -> str | None:
    """The dtype of a factory argument ``dtype=``: torch's default for None; None if it is not known."""
    if value is None:
        return "float32"
    return value.name if isinstance(value, DType) else None


@cache
def _signature(function: Callable[..., object]) -> inspect.Signature:
    return inspect.signature(function)


def bind(
    function: Callable[..., object], args: tuple[object, ...], kwargs: Mapping[str, object]
) -> tuple[dict[str, object], Literal["exact", "open", "wrong"]]:
    """Arguments by name, defaults filled in, and how far they are known.

    ``open``: ``*args`` or ``**kwargs`` may pass more, so that everything not listed is UNKNOWN. ``wrong``: the call
    would raise TypeError (or is one of another version of the library); then everything that does not bind is UNKNOWN.
    """
    signature = _signature(function)
    listed = args[: args.index(REST)] if REST in args else args
    keywords = {name: value for name, value in kwargs.items() if name != REST_KEYWORDS}
    is_open = len(listed) != len(args) or REST_KEYWORDS in kwargs
    try:
        bound = signature.bind_partial(*listed, **keywords) if is_open else signature.bind(*listed, **keywords)
    except TypeError:
        known = {name: value for name, value in keywords.items() if name in signature.parameters}
        return {name: known.get(name, UNKNOWN) for name in signature.parameters}, "wrong"
    values: dict[str, object] = dict(bound.arguments)
    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.VAR_POSITIONAL:
            values.setdefault(name, ())
        elif name not in values and parameter.kind is not parameter.VAR_KEYWORD:
            values[name] = UNKNOWN if is_open else parameter.default
    return values, "open" if is_open else "exact"
