"""Settings in files beside a program, as far as lines of ``key: value`` tell them: YAML's plain form, and JSON.

They are hints, as the defaults of a command line are: which file a program reads, and what is changed before, is not
known. So no more of YAML is read than what a line says by itself; anchors, merges and blocks of text are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ["Setting", "read_settings"]

Setting = tuple[tuple[str, ...], object]
"""A path of keys, and a number, a truth value, None or a text."""

_LINE = re.compile(r"^(?P<indent> *)(?P<key>[\w.\-]+) *:(?:[ \t]+(?P<value>.*))?$")
_WORDS = {"true": True, "false": False, "null": None, "~": None, "yes": True, "no": False}
_MAX_LINES = 2_000


def read_settings(text: str, name: str) -> list[Setting]:
    """The settings that a file's text holds, in its order; ``name`` tells JSON from YAML."""
    return list(_json(text) if name.endswith(".json") else _yaml(text))


def _yaml(text: str) -> Iterator[Setting]:
    above: list[tuple[int, str]] = []
    for line in text.splitlines()[:_MAX_LINES]:
        found = _LINE.match(line.rstrip())
        if found is None:
            continue
        indent = len(found["indent"])
        while above and above[-1][0] >= indent:
            above.pop()
        path = (*(key for _, key in above), found["key"])
        value = _without_comment(found["value"] or "")
        if value:
            yield path, _scalar(value)
        else:
            above.append((indent, found["key"]))


def _without_comment(value: str) -> str:
    if value[:1] in ("'", '"'):
        end = value.find(value[0], 1)
        return value[: end + 1] if end > 0 else value
    return re.split(r"(?:^|\s)#", value, maxsplit=1)[0].strip()


def _scalar(value: str) -> object:
    if value[:1] in ("'", '"') and value[-1:] == value[:1] and len(value) > 1:
        return value[1:-1]
    if value.lower() in _WORDS:
        return _WORDS[value.lower()]
    if re.fullmatch(r"[+-]?\d+", value):
        return int(value)
    if re.fullmatch(r"[+-]?(?:\d+\.\d*|\.\d+|\d+)(?:[eE][+-]?\d+)?", value):
        return float(value)
    return value


def _json(text: str) -> Iterator[Setting]:
    import json

    try:
        stack: list[tuple[tuple[str, ...], object]] = [((), json.loads(text))]
    except (ValueError, RecursionError):
        return
    while stack:
        path, value = stack.pop()
        if isinstance(value, dict):
            stack.extend(((*path, str(key)), item) for key, item in reversed(value.items()))
        elif path and (value is None or isinstance(value, (str, int, float))):
            yield path, value
        elif path and isinstance(value, list):
            yield path, _listed(value)


def _listed(value: list[object]) -> str:
    """A list as YAML writes it in one line."""
    plain = all(isinstance(item, (str, int, float)) for item in value)
    return repr(value) if plain else "[...]"
