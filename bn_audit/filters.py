"""Which entries of a state dict a piece of code picks: tests on keys, dtypes and owners, as plain data.

A test is what a program writes between ``for key in state`` and what it does with the entry: ``if "bn" not in key``,
``if v.dtype.is_floating_point``, ``if key in shared``. It is asked about an entry and answers yes, no, or that it
cannot tell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from bn_audit.profile import Profile, StateEntry

__all__ = [
    "EVERYTHING",
    "All",
    "Any",
    "Contains",
    "Dtype",
    "Ends",
    "Equals",
    "Floating",
    "IsParameter",
    "Not",
    "OwnedByNorm",
    "Scalar",
    "Starts",
    "Test",
    "Unclear",
    "by_name",
    "picked",
    "text_of",
]


@dataclass(frozen=True, slots=True)
class Contains:
    """``word in key``."""

    word: str
    lower: bool = False
    """Whether the key is lowered first: ``word in key.lower()``."""


@dataclass(frozen=True, slots=True)
class Starts:
    """``key.startswith(words)``."""

    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ends:
    """``key.endswith(words)``."""

    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Equals:
    """``key == word``, ``key in (words)``."""

    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Dtype:
    """``v.dtype == torch.float32``, ``v.dtype in (...)``."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Floating:
    """``v.is_floating_point()``, ``v.dtype.is_floating_point``."""


@dataclass(frozen=True, slots=True)
class Scalar:
    """``v.dim() == 0``, ``not v.shape``."""


@dataclass(frozen=True, slots=True)
class IsParameter:
    """``key in dict(model.named_parameters())``: a parameter, not a buffer."""


@dataclass(frozen=True, slots=True)
class OwnedByNorm:
    """The entry belongs to a module that is a ``_BatchNorm``: ``isinstance(module, nn.BatchNorm2d)``."""


@dataclass(frozen=True, slots=True)
class Unclear:
    """A test that says nothing of an entry that could be told; ``text`` is how it is written."""

    text: str


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite."""

    test: Test


@dataclass(frozen=True, slots=True)
class All:
    """Every one of several; of none, always."""

    tests: tuple[Test, ...]


@dataclass(frozen=True, slots=True)
class Any:
    """At least one of several; of none, never."""

    tests: tuple[Test, ...]


Test = (
    Contains
    | Starts
    | Ends
    | Equals
    | Dtype
    | Floating
    | Scalar
    | IsParameter
    | OwnedByNorm
    | Unclear
    | Not
    | All
    | Any
)


EVERYTHING = All(())


def picked(test: Test, entry: StateEntry, profile: Profile) -> bool | None:
    """Whether a test holds for an entry of a model; None if that cannot be told."""
    if isinstance(test, Not):
        found = picked(test.test, entry, profile)
        return None if found is None else not found
    if isinstance(test, All):
        return _every(picked(part, entry, profile) for part in test.tests)
    if isinstance(test, Any):
        found = _every(_opposite(picked(part, entry, profile)) for part in test.tests)
        return None if found is None else not found
    if isinstance(test, Unclear):
        return None
    return _ASK[type(test)](test, entry, profile)


def by_name(test: Test) -> bool:
    """Whether a test asks for the key itself, and not only for dtypes or owners."""
    if isinstance(test, Not):
        return by_name(test.test)
    if isinstance(test, (All, Any)):
        return any(by_name(part) for part in test.tests)
    return isinstance(test, (Contains, Starts, Ends, Equals))


def text_of(test: Test) -> str:
    """A test as a program writes it, with the key called ``key``."""
    if isinstance(test, Not):
        inner = test.test
        if isinstance(inner, Contains):
            return f"{inner.word!r} not in {'key.lower()' if inner.lower else 'key'}"
        return f"not {text_of(inner)}"
    if isinstance(test, (All, Any)):
        word = " and " if isinstance(test, All) else " or "
        parts = [text_of(part) for part in test.tests]
        return word.join(f"({part})" if " or " in part or " and " in part else part for part in parts) or "True"
    if isinstance(test, Contains):
        return f"{test.word!r} in {'key.lower()' if test.lower else 'key'}"
    if isinstance(test, (Starts, Ends)):
        name = "startswith" if isinstance(test, Starts) else "endswith"
        return f"key.{name}({_words(test.words)})"
    if isinstance(test, Equals):
        return f"key == {test.words[0]!r}" if len(test.words) == 1 else f"key in {_words(test.words)}"
    if isinstance(test, Dtype):
        return f"dtype in ({', '.join(test.names)})"
    return test.text if isinstance(test, Unclear) else _PLAIN[type(test)]


_PLAIN: dict[type, str] = {
    Floating: "is_floating_point",
    Scalar: "dim() == 0",
    IsParameter: "key in named_parameters()",
    OwnedByNorm: "isinstance(module, _BatchNorm)",
}


def _words(words: tuple[str, ...]) -> str:
    return repr(words[0]) if len(words) == 1 else repr(words)


def _every(answers: Iterable[bool | None]) -> bool | None:
    """Three-valued and: a certain no decides."""
    unsure = False
    for answer in answers:
        if answer is False:
            return False
        unsure = unsure or answer is None
    return None if unsure else True


def _opposite(answer: bool | None) -> bool | None:
    return None if answer is None else not answer


def _contains(test: Test, entry: StateEntry, profile: Profile) -> bool | None:
    assert isinstance(test, Contains)
    return test.word in (entry.key.lower() if test.lower else entry.key)


def _starts(test: Test, entry: StateEntry, profile: Profile) -> bool | None:
    assert isinstance(test, Starts)
    return entry.key.startswith(test.words)


def _ends(test: Test, entry: StateEntry, profile: Profile) -> bool | None:
    assert isinstance(test, Ends)
    return entry.key.endswith(test.words)


def _equals(test: Test, entry: StateEntry, profile: Profile) -> bool | None:
    assert isinstance(test, Equals)
    return entry.key in test.words


def _dtype(test: Test, entry: StateEntry, profile: Profile) -> bool | None:
    assert isinstance(test, Dtype)
    return None if entry.dtype is None else entry.dtype in test.names


def _floating(test: Test, entry: StateEntry, profile: Profile) -> bool | None:
    return None if entry.dtype is None else "float" in entry.dtype


def _scalar(test: Test, entry: StateEntry, profile: Profile) -> bool | None:
    return None if entry.shape is None else entry.shape == ()


def _is_parameter(test: Test, entry: StateEntry, profile: Profile) -> bool | None:
    return entry.kind == "parameter"


def _owned(test: Test, entry: StateEntry, profile: Profile) -> bool | None:
    norm = profile.norm_at(entry.module)
    return False if norm is None else norm.batchnorm


_ASK: dict[type, Callable[[Test, StateEntry, Profile], bool | None]] = {
    Contains: _contains,
    Starts: _starts,
    Ends: _ends,
    Equals: _equals,
    Dtype: _dtype,
    Floating: _floating,
    Scalar: _scalar,
    IsParameter: _is_parameter,
    OwnedByNorm: _owned,
}
