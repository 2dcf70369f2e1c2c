"""Which entries are meant, and whose value meets whose key where the two are zipped."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from bn_audit.exchange.arithmetic import KNOWN, Value
from bn_audit.loading import Covers
from bn_audit.profile import Profile, StateEntry

__all__ = ["covered", "leading", "pairs", "values_of"]


def covered(entry: StateEntry, covers: Covers) -> bool | None:
    """Whether an entry is meant; None if that is not known."""
    if covers.keys is not None and entry.key not in covers.keys:
        return False
    if entry.key in covers.without:
        return False
    if covers.parameters and (entry.kind != "parameter" or entry.alias_of is not None):
        return False
    if covers.floating:
        return None if entry.dtype is None else entry.dtype.startswith(("float", "bfloat"))
    return True


def values_of(entry: StateEntry) -> tuple[Value | None, ...]:
    """All tensors that the entry may be, as far as arithmetic asks; None for one whose arithmetic is not known.

    A dtype that is not known is taken to be one whose arithmetic is.
    """
    scalar = None if entry.shape is None else entry.shape == ()
    return _values(entry.dtype, scalar, entry.shape is not None and 0 in entry.shape)


@functools.lru_cache(maxsize=256)
def _values(dtype: str | None, scalar: bool | None, empty: bool) -> tuple[Value | None, ...]:
    if dtype is not None and dtype not in KNOWN:
        return (None,)
    dtypes = [dtype] if dtype is not None else sorted(KNOWN)
    scalars = [False, True] if scalar is None else [scalar]
    return tuple(Value(one, scalar=each, empty=empty) for one in dtypes for each in scalars)


def pairs(profile: Profile, names: Covers, values: Covers) -> list[tuple[bool | None, StateEntry | None]]:
    """For each entry whether a value meets its key where keys and values are zipped, and whose (None: not known)."""
    if names == values:
        return [(covered(entry, names), entry) for entry in profile.entries]
    sent, certain_values = leading(profile, values)
    keys, certain_names = leading(profile, names)
    place = {entry.key: number for number, entry in enumerate(keys)}
    found: list[tuple[bool | None, StateEntry | None]] = []
    for entry in profile.entries:
        named = covered(entry, names)
        number = place.get(entry.key)
        if named is False:
            found.append((False, None))
        elif number is None:
            found.append((None, None))
        elif number < len(sent):
            found.append((True, sent[number]))
        else:
            found.append((False, None) if certain_values and certain_names else (None, None))
    return found


def leading(profile: Profile, covers: Covers) -> tuple[Sequence[StateEntry], bool]:
    """The covered entries whose place among the covered ones is certain, and whether those are all."""
    gap = min((gap.index for gap in profile.gaps), default=None)
    found: list[StateEntry] = []
    for number, entry in enumerate(profile.entries):
        if number == gap:
            return found, False
        which = covered(entry, covers)
        if which is None:
            return found, False
        if which:
            found.append(entry)
    return found, gap is None and profile.ordered
