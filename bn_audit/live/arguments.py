"""``--arg NAME=VALUE``: keyword arguments for what a TARGET names, parsed as Python literals."""

from __future__ import annotations

import ast
from collections.abc import Iterable

from bn_audit.live.errors import TargetError

__all__ = ["parse_arguments"]

_BEGINS_A_LITERAL = "'\"[({"
_MISSPELT = {"true": "True", "false": "False", "none": "None", "null": "None"}


def parse_arguments(texts: Iterable[str]) -> dict[str, object]:
    """Keyword arguments from ``name=value`` texts. A value that is no Python literal is a string: ``depth=deep``.

    Raises:
        TargetError: for a text without a name, a name given twice, a broken literal, and for ``true``, ``false`` and
            ``none``, which as strings would all be true.
    """
    arguments: dict[str, object] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        name = name.strip()
        if not equals or not name.isidentifier():
            raise TargetError(f"--arg {text}: write NAME=VALUE")
        if name in arguments:
            raise TargetError(f"--arg {name} is given twice")
        arguments[name] = _value(text, value.strip())
    return arguments


def _value(text: str, value: str) -> object:
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        if value[:1] and value[0] in _BEGINS_A_LITERAL:
            raise TargetError(f"--arg {text}: {value!r} is no Python literal") from error
    meant = _MISSPELT.get(value)
    if meant is not None:
        raise TargetError(f"--arg {text}: write {meant}, or '{value}' in quotes for the string")
    return value
