"""What of a model's state a value carries, and in which form: the vocabulary of the reader of such values."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from bn_audit.filters import EVERYTHING, All, Any, Not, Test, Unclear

if TYPE_CHECKING:
    import libcst as cst

    from bn_audit.source.flow.values import Env, Made

__all__ = [
    "CONSTANT",
    "INDEX",
    "NOTHING",
    "UNKNOWN",
    "Cargo",
    "Cargos",
    "Part",
    "Rebuilt",
    "Shape",
    "Source",
    "both",
    "by_position",
    "taken",
]

Source = Literal["model", "message", "file", "unknown", "gone"]
Shape = Literal["dict", "list", "keys", "pairs", "zip", "any", "none", "unknown"]


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """A call that makes a tensor of an array: ``name`` is what is called (``torch.Tensor``)."""

    name: str
    node: cst.Call
    env: Env


@dataclass(frozen=True, slots=True)
class Part:
    """Entries of one source in a value.

    Attributes:
        source: a live model, a message, a file; ``unknown``; ``gone`` for entries that are taken out again.
        covers: which entries of the state dict.
        what: ``state`` or ``parameters``: what was asked of the model.
        models: whose; empty if they could not be followed, or for a message.
        node, env: where the state was taken.
        keys: for arrays that were given keys by position: the entries that the keys were taken from.
        rebuilt: how an array becomes a tensor.
        tensors: whether a message is known to hold tensors, and no arrays.
        floats: whether all entries were made floats on the way.
        inside: for a submodule's state: the models of which it may be a part, and what the keys begin with there.
        prefixed: whether all keys were given a beginning that the model's own have not: ``{f"model.{k}": v}``.
        stripped: whether something was taken from the keys.
    """

    source: Source
    covers: Test = EVERYTHING
    what: Literal["state", "parameters"] = "state"
    models: tuple[Made, ...] = ()
    node: cst.CSTNode | None = field(default=None, compare=False)
    env: Env | None = field(default=None, compare=False)
    keys: Part | None = None
    rebuilt: Rebuilt | None = None
    tensors: bool = False
    floats: bool = field(default=False, compare=False)
    inside: tuple[tuple[Made, ...], str] | None = field(default=None, compare=False)
    prefixed: bool = field(default=False, compare=False)
    stripped: bool = field(default=False, compare=False)

    def only(self, test: Test) -> Part:
        """The entries of it that pass a test."""
        return self if test == EVERYTHING else replace(self, covers=both(self.covers, test))


@dataclass(frozen=True, slots=True)
class Cargo:
    """One way in which a value may turn out.

    Attributes:
        shape: ``dict`` by key, ``list`` by position, ``keys`` alone, ``pairs`` of keys and entries, ``zip`` of what
            ``zipped`` holds; ``any`` for a message, which is what it is taken for; ``none`` for None.
        parts: what it holds: in a dict a later part takes the place of an earlier one, a list has one after the other.
    """

    shape: Shape
    parts: tuple[Part, ...] = ()
    zipped: tuple[Cargo, ...] = ()

    def shaped(self, shape: Shape) -> Cargo:
        """The same entries in another form."""
        return self if self.shape in ("unknown", "none", "zip") else replace(self, shape=shape)


UNKNOWN = Cargo("unknown", (Part("unknown", Unclear("?")),))
NOTHING = Cargo("none")
CONSTANT = Cargo("none", (Part("gone"),))
"""What is made in the form of an entry, and takes nothing from it: ``torch.zeros_like(value)``."""
INDEX = Cargo("list", ())
"""The numbers that ``enumerate`` and ``range`` give."""

Cargos = tuple[Cargo, ...]


def both(one: Test, other: Test) -> Test:
    """Both tests, flat."""
    rows: list[Test] = []
    for test in (one, other):
        rows.extend(test.tests if isinstance(test, All) else (test,))
    rows = list(dict.fromkeys(rows))
    return rows[0] if len(rows) == 1 else All(tuple(rows))


def taken(cargo: Cargo, source: Source) -> Test:
    """Which entries of a dict or a list come from a source in the end."""
    found: Test = Any(())
    for part in cargo.parts:
        if part.source == source:
            found = part.covers if found == Any(()) else Any((found, part.covers))
        elif part.source == "unknown":
            return Unclear("?")
        elif cargo.shape != "list" and found != Any(()):
            found = both(found, Not(part.covers))
    return found


def by_position(keys: Cargo, entries: Cargo, test: Test, rebuilt: Rebuilt | None) -> Cargo:
    """Arrays that are given keys by their place."""
    named = _in_a_row(keys.parts)
    if named is None or len(entries.parts) != 1:
        return UNKNOWN
    own = entries.parts[0]
    covers = both(named.covers, test)
    made = replace(own, covers=covers, what=named.what, models=own.models or named.models, keys=named.only(test))
    return Cargo("dict", (replace(made, rebuilt=rebuilt or own.rebuilt),))


def _in_a_row(parts: tuple[Part, ...]) -> Part | None:
    """Keys of one model that follow one another, as one part; None if they are not those of one model.

    Where some may be missing nothing is known of the places of those behind them.
    """
    if not parts or any(part.source != "model" or part.models != parts[0].models for part in parts):
        return None
    if len(parts) == 1:
        return parts[0]
    rows: list[Test] = []
    unsure = False
    for part in parts:
        rows.append(both(part.covers, Unclear("?")) if unsure else part.covers)
        unsure = unsure or _is_unsure(part.covers)
    what: Literal["state", "parameters"] = "state" if any(part.what == "state" for part in parts) else "parameters"
    return replace(parts[0], covers=Any(tuple(dict.fromkeys(rows))), what=what)


def _is_unsure(test: Test) -> bool:
    if isinstance(test, Not):
        return _is_unsure(test.test)
    return any(map(_is_unsure, test.tests)) if isinstance(test, (All, Any)) else isinstance(test, Unclear)
