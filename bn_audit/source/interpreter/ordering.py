"""Sorting and picking: ``sorted``, ``list.sort``, ``min`` and ``max`` over values of which enough is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bn_audit.source.interpreter.values import Const, Hole, ListVal, Value

__all__ = ["ordered", "picked"]

_Key = Callable[[Value], Value] | None


def ordered(items: list[Value | Hole], key: _Key, reverse: bool) -> list[Value | Hole] | None:
    """The items in order; None where that is not certain."""
    keys = _sort_keys(items, key)
    if keys is None:
        return None
    try:
        numbers = sorted(range(len(items)), key=keys.__getitem__, reverse=reverse)
    except TypeError:
        return None
    return [items[number] for number in numbers]


def picked(items: list[Value | Hole], key: _Key, largest: bool) -> Value | None:
    """The smallest or the largest item, the first of equal ones; None where that is not certain."""
    keys = _sort_keys(items, key)
    if not keys:
        return None
    choose: Callable[..., int] = max if largest else min
    try:
        found = items[choose(range(len(items)), key=keys.__getitem__)]
    except TypeError:
        return None
    return found if isinstance(found, Value) else None


def _sort_keys(items: list[Value | Hole], key: _Key) -> list[Any] | None:
    """Python's own keys: constants and tuples of them, cut off before what is no constant where the rest decides
    nothing."""
    found: list[Any] = []
    whole = True
    for item in items:
        if isinstance(item, Hole):
            return None
        value = item if key is None else key(item)
        plain, complete = _plain(value)
        if plain is None:
            return None
        found.append(plain[0])
        whole = whole and complete
    if not whole:
        try:
            if len(set(found)) != len(found):
                return None
        except TypeError:
            return None
    return found


def _plain(value: Value | Hole) -> tuple[tuple[Any], bool] | tuple[None, bool]:
    """The constant for a value, in a tuple of one, and whether all of the value is in it."""
    if isinstance(value, Const):
        return (value.value,), True
    if not isinstance(value, ListVal) or value.kind not in ("tuple", "list"):
        return None, False
    parts: list[Any] = []
    for item in value.items:
        plain, complete = _plain(item)
        if plain is None:
            return ((tuple(parts),), False) if parts else (None, False)
        parts.append(plain[0])
        if not complete:
            return (tuple(parts),), False
    return (tuple(parts),), True
