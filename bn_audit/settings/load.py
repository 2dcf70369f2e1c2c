"""From a configuration file, and those that it extends, to what it sets."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

from bn_audit.settings.config import SHARED, TABLE, Config, ConfigError, shown
from bn_audit.settings.keys import EXTEND, KEYS, Source, Vocabulary
from bn_audit.settings.layers import inherit
from bn_audit.settings.peek import may_have_table
from bn_audit.source.raw import SourceError, read_bytes

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["Vocabulary", "has_table", "load", "place_of", "read_inline", "read_table"]

INLINE = "--config"
_AT = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)")


def load(path: str, vocabulary: Vocabulary, *, root: str | None = None) -> Config | None:
    """The configuration in a file; None for a pyproject.toml without our table.

    Args:
        path: absolute.
        vocabulary: what values may say.
        root: the folder that patterns and the cache's path are relative to; None for each file's own.

    Raises:
        ConfigError: a file cannot be read, is no TOML, sets something wrong, or extends itself.
    """
    return _load(path, vocabulary, root, ())


def has_table(path: str) -> bool:
    """Whether a shared file has our table, as far as it can be read: most are not about us."""
    try:
        return _table(path) is not None
    except ConfigError:
        return False


def read_inline(text: str, vocabulary: Vocabulary) -> Config:
    """What ``key = value`` on the command line sets; what is relative in it is relative to the working directory.

    Raises:
        ConfigError: it is no TOML, or sets something wrong.
    """
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{INLINE}: {text!r} is neither a file nor TOML: {error}") from error
    if EXTEND.name in table:
        raise ConfigError(f"{INLINE}: `{EXTEND.name}` must stand in a file")
    here = os.getcwd()
    values = read_table(table, Source(here, here, vocabulary), lambda name: INLINE)
    return cast(Config, {**values, "origins": dict.fromkeys(table, (INLINE,))})


def read_table(
    table: Mapping[str, Any], source: Source, place: Callable[[str], str] = lambda name: TABLE
) -> dict[str, object]:
    """The values of a table as a configuration has them; ``place`` says for a key where it stands.

    Raises:
        ConfigError: a key is not known, or its value is none that it may have.
    """
    values: dict[str, object] = {}
    for name, value in table.items():
        key = KEYS.get(name)
        if key is None:
            raise ConfigError(f"{place(name)}: unknown key `{name}`{_nearest(name, KEYS)}")
        try:
            values[name.replace("-", "_")] = key.kind.read(value, source)
        except ValueError as error:
            raise ConfigError(f"{place(name)}: `{name}` {error}") from error
    return values


def place_of(path: str, *key: str) -> str:
    """A file, and the line on which it sets a key of ours, if that can be told: ``pyproject.toml:12``."""
    from bn_audit.settings.lines import line_of

    where = ("tool", TABLE, *key) if os.path.basename(path) == SHARED else key
    try:
        line = line_of(_text(path, _bytes(path)), where) if where else None
    except ConfigError:
        line = None
    return shown(path) if line is None else f"{shown(path)}:{line}"


def _load(path: str, vocabulary: Vocabulary, root: str | None, chain: tuple[str, ...]) -> Config | None:
    table = _table(path)
    if table is None:
        return None
    folder = os.path.dirname(path)
    source = Source(folder if root is None else root, folder if root is None else root, vocabulary)
    values = read_table(table, source, lambda name: place_of(path, name))
    values.pop(EXTEND.name, None)
    origins = {key: (path,) for key in table if key != EXTEND.name}
    config = cast(Config, {"path": path, "root": source.root, "files": (path,), "origins": origins, **values})
    if EXTEND.name not in table:
        return config
    base = os.path.normpath(os.path.join(folder, os.path.expanduser(table[EXTEND.name])))
    where = place_of(path, EXTEND.name)
    links = (*chain, path)
    if any(os.path.realpath(link) == os.path.realpath(base) for link in links):
        raise ConfigError(f"{where}: a configuration extends itself: {' -> '.join(map(shown, (*links, base)))}")
    if not os.path.isfile(base):
        raise ConfigError(f"{where}: `{EXTEND.name}`: there is no file {shown(base)}")
    parent = _load(base, vocabulary, root, links)
    if parent is None:
        raise ConfigError(f"{where}: `{EXTEND.name}`: {shown(base)} has no table `tool.{TABLE}`")
    return inherit(parent, config)


def _table(path: str) -> dict[str, Any] | None:
    """Our table in a file; None if it is a shared one without it."""
    shared = os.path.basename(path) == SHARED
    if shared and not may_have_table(path):
        return None  # whatever else is wrong with it is not ours to say
    table: object = _parse(path, _bytes(path))
    if shared:
        tool = table.get("tool") if isinstance(table, dict) else None
        table = tool.get(TABLE) if isinstance(tool, dict) else None
        if table is None:
            return None
    elif isinstance(table, dict) and TABLE in (table["tool"] if isinstance(table.get("tool"), dict) else ()):
        raise ConfigError(f"{shown(path)}: has no head: its keys stand there without `[tool.{TABLE}]`")
    if not isinstance(table, dict):
        raise ConfigError(f"{place_of(path)}: `tool.{TABLE}` must be a table")
    return table


def _bytes(path: str) -> bytes:
    try:
        return read_bytes(path)
    except SourceError as error:
        raise ConfigError(f"{shown(path)}: {error.reason}") from error


def _text(path: str, data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{shown(path)}: {error}") from error


def _parse(path: str, data: bytes) -> dict[str, Any]:
    try:
        return tomllib.loads(_text(path, data))
    except tomllib.TOMLDecodeError as error:
        place = _AT.search(str(error))
        if place is None:
            raise ConfigError(f"{shown(path)}: {error}") from error
        at = f"{place[1]}:{place[2]}" if place[1] else str(_text(path, data).rstrip().count("\n") + 1)
        raise ConfigError(f"{shown(path)}:{at}: {_AT.sub('', str(error))}") from error
    except RecursionError as error:
        raise ConfigError(f"{shown(path)}: nested too deeply") from error
    except ValueError as error:  # a number of more digits than Python reads
        raise ConfigError(f"{shown(path)}: {error}") from error


def _nearest(key: str, known: Iterable[str]) -> str:
    import difflib

    close = difflib.get_close_matches(key, sorted(known), n=1)
    return f"; did you mean `{close[0]}`?" if close else f"; known keys are {', '.join(sorted(known))}"
