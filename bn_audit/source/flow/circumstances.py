"""The conditions under which a model is what it is, as a message tells them: few, and those that say most.

A program comes to a model through many conditions. That an option has one value says that it has no other; that it
has none of several says little; and on which device a program runs says nothing about norm layers.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

__all__ = ["Condition", "contrary", "impossible", "set_apart", "told"]

_MAX_TOLD = 3
_ENVIRONMENT = ("is_available", "device", "__version__", "rank", "__name__", ".exists(", ".isfile(", ".isdir(")
"""What stands in conditions on where a program runs, and on what files are there."""


class Condition(NamedTuple):
    """A condition as it is written, and whether it holds."""

    text: str
    holds: bool


def told(conditions: Iterable[Condition]) -> tuple[str, ...]:
    """The conditions that a message tells, in their order."""
    once: dict[tuple[str, bool], Condition] = {}
    for row in conditions:
        once.setdefault((_plain(row.text), row.holds), row)
    rows = [row for row in once.values() if not any(word in row.text for word in _ENVIRONMENT)]
    settled = {subject for row in rows if row.holds for subject, _ in _equalities(row.text)}
    rows = [row for row in rows if row.holds or not _subjects(row.text) & settled]
    if sum(row.holds for row in rows) >= _MAX_TOLD:
        rows = [row for row in rows if row.holds]
    # The nearest to the model say most: what stands last.
    return tuple(row.text if row.holds else _denied(row.text) for row in rows[-_MAX_TOLD:])


def _denied(text: str) -> str:
    node = _parsed(text)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return ast.get_source_segment(text.strip(), node.operand) or ast.unparse(node.operand)
    return f"not ({text})"


def impossible(conditions: Sequence[Condition]) -> bool:
    """Whether conditions exclude one another: one option is to have two values."""
    values: dict[str, object] = {}
    for row in conditions:
        if row.holds:
            for subject, value in _equalities(row.text):
                if values.setdefault(subject, value) != value:
                    return True
    return any(not row.holds and _all_hold(row.text, values) for row in conditions)


def contrary(one: Iterable[Condition], other: Iterable[Condition]) -> bool:
    """Whether conditions on different ways of a program cannot hold at once: an option is to have two values. Names of
    functions' own, and attributes of objects, may have another value elsewhere."""
    rows = [row for row in (*one, *other) if all(map(_is_option, _subjects(row.text)))]
    return impossible(rows)


def _is_option(subject: str) -> bool:
    """``args.model``: what stands for the same thing wherever it is asked for."""
    root, dot, _ = subject.partition(".")
    return bool(dot) and root.isidentifier() and root not in ("self", "cls")


def _all_hold(text: str, values: Mapping[str, object]) -> bool:
    """Whether a condition holds by the values that are known: each part of it, where several must hold."""
    found = _equalities(text)
    return 0 < len(found) == len(_parts(text)) and all(
        subject in values and values[subject] == value for subject, value in found
    )


def set_apart(conditions: Iterable[str], defaults: Mapping[str, object]) -> set[str]:
    """The options that have to be something else than by default for conditions to hold, which are given as text."""
    found = (row for text in conditions for row in _equalities(text))
    names = ((subject.rpartition(".")[2], value) for subject, value in found)
    return {name for name, value in names if name in defaults and defaults[name] != value}


@lru_cache(maxsize=2048)
def _equalities(text: str) -> tuple[tuple[str, object], ...]:
    """``args.model == "a"`` as (args.model, a), each where several must hold."""
    found: list[tuple[str, object]] = []
    for part in _parts(text):
        if (
            isinstance(part, ast.Compare)
            and len(part.ops) == 1
            and isinstance(part.ops[0], ast.Eq)
            and isinstance(part.comparators[0], ast.Constant)
            and isinstance(part.left, (ast.Name, ast.Attribute))
        ):
            found.append((ast.unparse(part.left), part.comparators[0].value))
    return tuple(found)


def _parts(text: str) -> list[ast.expr]:
    """What must hold for a condition to hold."""
    node = _parsed(text)
    if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.And):
        return node.values
    return [node] if node is not None else []


def _subjects(text: str) -> set[str]:
    """What a condition compares with constants."""
    node = _parsed(text)
    if node is None:
        return {text.partition(" == ")[0]} if " == " in text else set()
    return {ast.unparse(part.left) for part in ast.walk(node) if isinstance(part, ast.Compare)}


def _plain(text: str) -> str:
    """A condition without its blanks and quotes, which are others elsewhere."""
    node = _parsed(text)
    return text if node is None else ast.unparse(node)


@lru_cache(maxsize=2048)
def _parsed(text: str) -> ast.expr | None:
    try:
        return ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
