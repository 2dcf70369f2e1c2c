"""``--show-settings``: what holds, as TOML, and where it comes from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import cast

from bn_audit.settings.config import Config, PerFileIgnores, shown
from bn_audit.settings.keys import CODES, EXTEND, KEYS, PER_FILE, Key
from bn_audit.settings.load import place_of
from bn_audit.source.exclusion import DEFAULT_EXCLUDE

__all__ = ["show"]

_COMMENT_COLUMN = 48
_WIDTH = 100


def show(config: Config, *, run: bool, unset: Mapping[str, str]) -> Iterator[str]:
    """What holds by one configuration, all its keys in the order of the documentation.

    Args:
        config: what holds.
        run: whether to show the keys that hold for a run as a whole, or those that hold for each file.
        unset: by key: what holds without it, in words, where the default alone does not say it.
    """
    values = cast(Mapping[str, object], config)
    for key in KEYS.values():
        if key.run is run and key is not EXTEND:
            yield from _lines_of(key, values.get(key.name.replace("-", "_")), config, unset)


def _lines_of(key: Key, value: object, config: Config, unset: Mapping[str, str]) -> Iterator[str]:
    origins = config.get("origins", {}).get(key.name, ())
    if value is None:
        default = _list(DEFAULT_EXCLUDE) if key.name == "exclude" else key.default
        words = unset.get(key.name, "default")
        yield from _assignment(key.name, default, words) if default else [f"# {key.name}: {words}"]
    elif key.kind is PER_FILE:
        rows = cast(PerFileIgnores, value)
        inner = ", ".join(f"{_string(pattern)} = {_list(_codes(codes))}" for pattern, codes in rows)
        yield from _assignment(key.name, f"{{ {inner} }}" if inner else "{}", _places(origins, key.name))
    else:
        items = _codes(cast("Sequence[str]", value)) if key.kind is CODES else value
        yield from _assignment(key.name, _toml(items), _places(origins, key.name))


def _assignment(name: str, value: str, comment: str) -> Iterator[str]:
    text = f"{name} = {value}"
    if len(text) < _COMMENT_COLUMN:
        yield f"{text:<{_COMMENT_COLUMN}}# {comment}"
    else:
        yield f"# {comment}"
        yield text


def _places(origins: Sequence[str], name: str) -> str:
    return ", ".join(origin if origin.startswith("--") else place_of(origin, name) for origin in origins)


def _codes(prefixes: Sequence[str]) -> tuple[str, ...]:
    return tuple(prefix or "ALL" for prefix in prefixes)


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return _list(value)
    return _string(value) if isinstance(value, str) else str(value)


def _list(values: Sequence[str]) -> str:
    items = [_string(value) for value in values]
    short = f"[{', '.join(items)}]"
    if len(short) <= _WIDTH:
        return short
    # No break within an item: a string may hold spaces.
    lines = [""]
    for item in items:
        if lines[-1] and len(lines[-1]) + len(item) > _WIDTH:
            lines.append("")
        lines[-1] += f"{' ' if lines[-1] else ''}{item},"
    return "\n".join(["[", *(f"    {line}" for line in lines), "]"])


def _string(text: str) -> str:
    """A basic string of TOML; its escapes are those of JSON, but for DEL, and for what UTF-8 cannot hold."""
    quoted = json.dumps(shown(text), ensure_ascii=False).replace("\x7f", "\\u007f")
    return quoted.encode("utf-8", "replace").decode("utf-8")
