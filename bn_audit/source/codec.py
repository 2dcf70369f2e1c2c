"""What came of a file, to JSON and back. The types of the fields are the schema: what does not fit them is refused.

No code is ever run that the data names, and nothing in it depends on the version of Python that wrote it.
"""

from __future__ import annotations

import enum
import functools
import types
import typing
from dataclasses import fields, is_dataclass
from typing import Any, Literal, Union, get_args, get_origin

from bn_audit.source.part import Part

__all__ = ["Malformed", "decode", "encode"]


class Malformed(ValueError):
    """Data that is not what it should be."""


_DEEPEST, _LONGEST = 100, 1000
"""Containers in each other, and bits of a number. Past some more of either, Python's own JSON gives up."""

_KEPT = ("sites", "unreadable", "parsed", "notes", "exports")
"""The fields of a part: one that has problems is not kept."""


@functools.cache
def _part() -> tuple[Any, ...]:
    """What its fields may hold."""
    # Only who decodes needs to know: to make the classes of all kinds of site takes a tenth of a scan of one file.
    from bn_audit.federation import FederatedSite
    from bn_audit.site import FLModelSite, Unreadable

    return (
        tuple[Union[FLModelSite, FederatedSite], ...],  # noqa: UP007
        tuple[Unreadable, ...],
        tuple[str, ...],
        tuple[str, ...],
        Union[tuple[str, ...], None],  # noqa: UP007
    )


def encode(part: Part) -> list[Any]:
    """A part as JSON has it.

    Raises:
        Malformed: there is something in it that JSON cannot have.
    """
    return [_encoded(getattr(part, name)) for name in _KEPT]


def decode(data: object) -> Part:
    """A part from JSON.

    Raises:
        Malformed: it is none.
    """
    if not isinstance(data, list) or len(data) != len(_KEPT):
        raise Malformed("a part has other fields")
    try:
        return Part(*(_decoded(hint, value) for hint, value in zip(_part(), data, strict=True)))
    except RecursionError as error:
        raise Malformed("nested too deep") from error


def _encoded(value: Any, depth: int = 0) -> Any:
    if depth > _DEEPEST:
        raise Malformed("nested too deep")
    if isinstance(value, tuple):
        return [_encoded(item, depth + 1) for item in value]
    if isinstance(value, frozenset):
        return [_encoded(item, depth + 1) for item in sorted(value)]
    if isinstance(value, enum.Enum):
        return {type(value).__name__: value.name}
    if is_dataclass(value):
        values = [_encoded(getattr(value, field.name), depth + 1) for field in fields(value)]
        return {type(value).__name__: values}
    if isinstance(value, int) and value.bit_length() > _LONGEST:
        raise Malformed("a number too large")
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"{type(value).__name__} cannot be kept")


@functools.cache
def _hints(cls: Any) -> tuple[Any, ...]:
    hints = typing.get_type_hints(cls)
    return tuple(hints[field.name] for field in fields(cls))


@functools.cache
def _choices(hint: Any) -> tuple[Any, ...]:
    return get_args(hint)


def _decoded(hint: Any, value: Any) -> Any:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        for choice in _choices(hint):
            if _may_be(choice, value):
                return _decoded(choice, value)
    elif origin is tuple:
        return _tuple(_choices(hint), value)
    elif origin is frozenset:
        return frozenset(_tuple((*_choices(hint), ...), value))
    elif origin is Literal:
        if value in _choices(hint):
            return value
    elif hint in (bool, int, str, type(None)):
        if type(value) is hint:
            return value
    elif hint is float:
        if type(value) in (float, int):
            return value
    elif isinstance(hint, type) and issubclass(hint, enum.Enum):
        return _member(hint, value)
    elif is_dataclass(hint):
        return _object(hint, value)
    raise Malformed(f"{value!r:.50} is no {hint}")


def _may_be(hint: Any, value: Any) -> bool:
    """Whether a value has the outward form of a type: enough to choose among several."""
    origin = get_origin(hint)
    if origin in (tuple, frozenset):
        return isinstance(value, list)
    if origin is Literal:
        return value in _choices(hint)
    if hint is float:
        return type(value) in (float, int)
    if is_dataclass(hint) or (isinstance(hint, type) and issubclass(hint, enum.Enum)):
        name, inside = getattr(hint, "__name__", ""), list if is_dataclass(hint) else str
        return isinstance(value, dict) and [*value] == [name] and isinstance(value[name], inside)
    return type(value) is hint


def _tuple(items: tuple[Any, ...], value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise Malformed(f"{value!r:.50} is no list")
    if len(items) == 2 and items[1] is ...:
        return tuple(_decoded(items[0], item) for item in value)
    if len(items) != len(value):
        raise Malformed(f"{value!r:.50} has another length")
    return tuple(_decoded(hint, item) for hint, item in zip(items, value, strict=True))


def _member(hint: type[enum.Enum], value: Any) -> enum.Enum:
    try:
        return hint[_inside(hint, value)]
    except (KeyError, TypeError) as error:
        raise Malformed(f"{value!r:.50} is no {hint.__name__}") from error


def _object(hint: Any, value: Any) -> Any:
    return hint(*_tuple(_hints(hint), _inside(hint, value)))


def _inside(hint: type[Any], value: Any) -> Any:
    """What is under the name of a class."""
    if not isinstance(value, dict) or [*value] != [hint.__name__]:
        raise Malformed(f"{value!r:.50} is no {hint.__name__}")
    return value[hint.__name__]
