"""The keys of a configuration: what each means, what its value may be, and what holds without it.

This table is what files are read by, what the schema for editors is made of, and what ``--show-settings`` lists.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from bn_audit.settings.versions import VERSION, parse_version
from bn_audit.source.glob import absolute

__all__ = ["EXTEND", "KEYS", "Key", "Source", "Vocabulary"]

SEVERITIES = ("error", "warning", "info")


class Vocabulary(NamedTuple):
    """Words that only other parts of the house know."""

    codes: tuple[str, ...]
    """Every rule's code."""
    formats: tuple[str, ...]
    """Every output format's name."""


class Source(NamedTuple):
    """Where a value is written."""

    folder: str
    """What paths are relative to."""
    root: str
    """What patterns are relative to."""
    vocabulary: Vocabulary


class Kind(NamedTuple):
    """What a value may be.

    Attributes:
        read: the value as a configuration has it, from the one in the file. ValueError says what it must be, in words
            that go on after the key's name.
        schema: the same for JSON Schema.
    """

    read: Callable[[object, Source], object]
    schema: Callable[[Vocabulary], dict[str, Any]]


class Key(NamedTuple):
    """One key.

    Attributes:
        default: what holds without it, as TOML; "" if nothing does.
        run: whether it holds for a run as a whole and not for each file.
    """

    name: str
    kind: Kind
    help: str
    default: str = "[]"
    run: bool = False


def _strings(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError("must be a list of strings")
    return tuple(value)


def _string(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("must be a string that is not empty")
    return value


def _codes(value: object, source: Source) -> tuple[str, ...]:
    words = tuple(word.upper() for word in _strings(value))
    for word in words:
        if not word or not (word == "ALL" or any(code.startswith(word) for code in source.vocabulary.codes)):
            raise ValueError(f"names no rule: no rule's code begins with `{word}`" if word else "holds an empty code")
    return tuple("" if word == "ALL" else word for word in words)


def _codes_schema(vocabulary: Vocabulary) -> dict[str, Any]:
    prefixes = sorted({code[:length] for code in vocabulary.codes for length in range(1, len(code) + 1)})
    # Any case will do; editors that complete offer what the enumeration says.
    letters = {letter: f"[{letter}{letter.lower()}]" for letter in "ABLN"}
    patterns = ("".join(letters.get(letter, letter) for letter in word) for word in ("ALL", *prefixes))
    known = ["ALL", *(prefix for prefix in prefixes if len(prefix) >= len("BNA"))]
    return {
        "type": "array",
        "items": {"type": "string", "anyOf": [{"enum": known}, {"pattern": _whole("|".join(patterns))}]},
    }


def _patterns(value: object, source: Source) -> tuple[str, ...]:
    return tuple(absolute(pattern, source.root) for pattern in _strings(value))


def _per_file(value: object, source: Source) -> tuple[tuple[str, tuple[str, ...]], ...]:
    if not isinstance(value, Mapping):
        raise ValueError("must be a table of patterns, each with a list of codes")
    rows = []
    for pattern, codes in value.items():
        try:
            prefixes = _codes(codes, source)
        except ValueError as error:
            raise ValueError(f"for {pattern!r} {error}") from error
        turned = "!" if pattern.startswith("!") else ""
        rows.append((turned + absolute(pattern.removeprefix("!"), source.root), prefixes))
    return tuple(rows)


def _per_file_schema(vocabulary: Vocabulary) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": _codes_schema(vocabulary)}


_PART = r"[^\W\d]\w*"
_NAME = rf"{_PART}(?:\.{_PART})*"
_DOTTED = rf"{_PART}(?:\.{_PART})+"


def _names(value: object, source: Source) -> tuple[str, ...]:
    names = _strings(value)
    for name in names:
        if re.fullmatch(_NAME, name) is None:
            raise ValueError(f"must be a list of dotted names, which {name!r} is not")
    return names


def _dotted(value: object, source: Source) -> tuple[str, ...]:
    names = _names(value, source)
    for name in names:
        if "." not in name:
            raise ValueError(f"must be a list of dotted names with their module, which {name!r} lacks")
    return names


def _bool(value: object, source: Source) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def _number(value: object, source: Source) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError("must be a whole number from 0")
    return value


def _severity(value: object, source: Source) -> str:
    if not isinstance(value, str) or value not in SEVERITIES:
        raise ValueError(f"must be one of {', '.join(SEVERITIES)}")
    return value


def _format(value: object, source: Source) -> str:
    if not isinstance(value, str) or value not in source.vocabulary.formats:
        raise ValueError(f"must be one of {', '.join(source.vocabulary.formats)}")
    return value


def _path(value: object, source: Source) -> str:
    return os.path.normpath(os.path.join(source.folder, os.path.expanduser(_string(value))))


def _version(value: object, source: Source) -> str:
    if not isinstance(value, str):
        raise ValueError('must be a version, written as a string ("1.13.0b0")')
    try:
        return parse_version(value)
    except ValueError as error:
        raise ValueError(f"must be a version: {error}") from error


def _whole(pattern: str) -> str:
    """A pattern for JSON Schema, which means all of a string; to Python, ``$`` alone would let a line end follow."""
    return rf"^(?:{pattern})(?!\n)$"


def _list_of(pattern: str | None = None) -> dict[str, Any]:
    items = {"type": "string"} if pattern is None else {"type": "string", "pattern": _whole(pattern)}
    return {"type": "array", "items": items}


CODES = Kind(_codes, _codes_schema)
PATTERNS = Kind(_patterns, lambda vocabulary: _list_of())
PER_FILE = Kind(_per_file, _per_file_schema)
NAMES = Kind(_names, lambda vocabulary: _list_of(_NAME))
DOTTED = Kind(_dotted, lambda vocabulary: _list_of(_DOTTED))
BOOL = Kind(_bool, lambda vocabulary: {"type": "boolean"})
NUMBER = Kind(_number, lambda vocabulary: {"type": "integer", "minimum": 0})
SEVERITY = Kind(_severity, lambda vocabulary: {"enum": list(SEVERITIES)})
FORMAT = Kind(_format, lambda vocabulary: {"enum": list(vocabulary.formats)})
PATH = Kind(_path, lambda vocabulary: {"type": "string", "minLength": 1})
RELEASE = Kind(_version, lambda vocabulary: {"type": "string", "pattern": rf"^\s*{VERSION}\s*$"})

EXTEND = Key(
    "extend",
    PATH,
    "Another configuration file, which this one is laid over: a key set here takes the place of the same key there, "
    "but lists called extend-* are added. Relative to this file.",
    "",
)
KEYS = {
    key.name: key
    for key in (
        EXTEND,
        Key("select", CODES, "Rules to apply: codes or prefixes of them, or ALL.", '["ALL"]'),
        Key("extend-select", CODES, "Rules to apply on top of the others."),
        Key("ignore", CODES, "Rules not to apply. Of two selectors, the longer one counts."),
        Key("per-file-ignores", PER_FILE, "Rules not to apply to files that match a pattern.", "{}"),
        Key(
            "extend-per-file-ignores",
            PER_FILE,
            "Rules not to apply to files that match a pattern, on top of per-file-ignores.",
            "{}",
        ),
        Key("exclude", PATTERNS, "Files and folders to leave out, instead of the default ones.", ""),
        Key("extend-exclude", PATTERNS, "Files and folders to leave out as well."),
        Key("force-exclude", BOOL, "Leave excluded files out even when they are named.", "false", run=True),
        Key("respect-gitignore", BOOL, "Leave out what git ignores.", "true", run=True),
        Key("fail-on", SEVERITY, "The least severity that makes the exit status 1.", '"warning"'),
        Key("output-format", FORMAT, "The format of the report.", '"text"', run=True),
        Key(
            "cache-dir",
            PATH,
            "The folder of the cache, `.bn-audit_cache` in the project's root unless set. Relative to this file.",
            "",
            run=True,
        ),
        Key("baseline", PATH, "A baseline: known findings, which are left out. Relative to this file.", "", run=True),
        Key("jobs", NUMBER, "Processes to use; 0 chooses.", "0", run=True),
        Key(
            "timeout",
            NUMBER,
            "Seconds of processor time that one file may take; 0 for no limit. A file that takes more is given up: the "
            "report lacks it, a message names it, and the exit status is 2.",
            "60",
            run=True,
        ),
        Key("secretflow-version", RELEASE, "The release of SecretFlow; else the project's pin, else 1.13.", ""),
        Key(
            "models-with-batchnorm",
            DOTTED,
            "Functions and classes, by dotted name, whose result is a torch model with a BatchNorm in it that keeps "
            "running statistics. Where it lies and what else the model holds stays unknown.",
        ),
        Key(
            "models-without-batchnorm",
            DOTTED,
            "Functions and classes, by dotted name, whose result is a torch model without any layer that keeps running "
            "statistics.",
        ),
        Key(
            "batchnorm-classes",
            NAMES,
            "Classes of layers that keep running statistics as BatchNorm does: by dotted name, or by a bare name that "
            "stands for every class so called.",
        ),
        Key(
            "flmodel-wrappers",
            DOTTED,
            "Functions and classes, by dotted name, that make an FLModel of SecretFlow and take its parameters by the "
            "same names.",
        ),
    )
}
