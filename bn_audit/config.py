"""Settings of a project: ``[tool.bn-audit]`` in pyproject.toml, or a bn-audit.toml, nearest upwards.

[tool.bn-audit]
select = ["BNA1", "BNA303"]
ignore = ["BNA106"]
extend-exclude = ["third_party"]
fail-on = "error"
secretflow-version = "1.13.0b0"
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypedDict, cast

if TYPE_CHECKING:
    from bn_audit.finding import Severity

__all__ = ["Config", "ConfigError", "find", "load", "parse_version"]

STANDALONE, SHARED = "bn-audit.toml", "pyproject.toml"
TABLE = "bn-audit"


class ConfigError(Exception):
    """A configuration that cannot be used; the text names the file and what is wrong in it."""


class Config(TypedDict, total=False):
    """What a configuration file sets; a key that it does not set is not there.

    The keys are the file's, with ``_`` for ``-``; ``path`` is the file itself. (A dict, because a dataclass takes
    longer to define than the file to read, and every scan comes by here.)
    """

    path: str
    select: tuple[str, ...]
    ignore: tuple[str, ...]
    extend_select: tuple[str, ...]
    exclude: tuple[str, ...]
    extend_exclude: tuple[str, ...]
    fail_on: Severity
    secretflow_version: str


def find(start: str) -> Config:
    """The nearest configuration at or above a folder; an empty one if there is none.

    A pyproject.toml without our table does not count. Where one folder has both files, bn-audit.toml wins.

    Raises:
        ConfigError: a file that counts cannot be read, is no TOML, or sets something wrong.
    """
    folder = os.path.abspath(start)
    while True:
        for name in (STANDALONE, SHARED):
            path = os.path.join(folder, name)
            if os.path.isfile(path):
                config = load(path)
                if config is not None:
                    return config
        parent = os.path.dirname(folder)
        if parent == folder:
            return Config()
        folder = parent


def load(path: str) -> Config | None:
    """The configuration in a file; None for a pyproject.toml without our table.

    Raises:
        ConfigError: see :func:`find`.
    """
    shared = os.path.basename(path) == SHARED
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    # Most files named pyproject.toml are not about us, and the TOML parser is dear at start-up.
    if shared and TABLE.encode() not in data:
        return None
    table: object = _parse(path, data)
    if shared:
        tool = table.get("tool") if isinstance(table, dict) else None
        table = tool.get(TABLE) if isinstance(tool, dict) else None
        if table is None:
            return None
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: `tool.{TABLE}` must be a table")
    return _read(path, table)


def parse_version(text: str) -> str:
    """A release of SecretFlow as it is written (``1.13.0b0``).

    Raises:
        ValueError: it is none.
    """
    import re

    if re.fullmatch(r"v?\d+(\.\d+)*((a|b|rc|\.?dev|\.?post)\d*)*(\+[\w.]+)?", text.strip()) is None:
        raise ValueError(f"{text!r} is not a version")
    return text.strip().removeprefix("v")


def _parse(path: str, data: bytes) -> dict[str, Any]:
    import sys

    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        return tomllib.loads(data.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error


def _read(path: str, table: Mapping[str, object]) -> Config:
    known = {name.replace("_", "-") for name in Config.__annotations__} - {"path"}
    values: dict[str, object] = {"path": path}
    for key, value in table.items():
        if key not in known:
            raise ConfigError(f"{path}: unknown key `{key}`{_nearest(key, known)}")
        values[key.replace("-", "_")] = _value(path, key, value)
    return cast(Config, values)


def _value(path: str, key: str, value: object) -> object:
    if key == "fail-on":
        from bn_audit.finding import Severity

        names = [severity.value for severity in Severity]
        if value not in names:
            raise ConfigError(f"{path}: `{key}` must be one of {', '.join(names)}")
        return Severity(value)
    if key == "secretflow-version":
        try:
            if not isinstance(value, str):
                raise ValueError("a version is written as a string")
            return parse_version(value)
        except ValueError as error:
            raise ConfigError(f"{path}: `{key}`: {error}") from error
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ConfigError(f"{path}: `{key}` must be a list of strings")
    return tuple(value)


def _nearest(key: str, known: set[str]) -> str:
    import difflib

    close = difflib.get_close_matches(key, sorted(known), n=1)
    return f"; did you mean `{close[0]}`?" if close else f"; known keys are {', '.join(sorted(known))}"
