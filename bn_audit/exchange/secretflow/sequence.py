"""A profile as the exchange sees it: a sequence of entries and gaps, each left out of the upload or not.

Everything here is three-valued. A gap may hold any number of entries; None is "not known". Two things are assumed of
what is not known: an unknown dimension is at least 1, and the unknown entries of a gap share no tensor with known ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from bn_audit.exchange.plan import PlanError
from bn_audit.profile import Profile, StateEntry

__all__ = ["PASSED", "UNKNOWN", "Item", "Phase", "at_top_level", "first_stop", "sequence", "tensor_groups", "uploads"]


@dataclass(frozen=True, slots=True)
class Item:
    """An entry, or a gap (``entry`` None), and whether ``skip_bn`` leaves it out of the upload.

    For a gap ``skipped`` is False if none of its entries is left out, None if some may be.
    """

    entry: StateEntry | None
    skipped: bool | None


@dataclass(frozen=True, slots=True)
class Phase:
    """One step of a round: whether it stops the round (None: it may), and the error if it does."""

    stops: bool | None
    error: PlanError | None = None


PASSED = Phase(False)
UNKNOWN = Phase(None)


def sequence(
    profile: Profile, skip: Callable[[StateEntry], bool | None], gap_may_skip: Callable[[str], bool]
) -> list[Item]:
    """Entries and gaps in state order.

    Args:
        skip: whether an entry is left out of the upload.
        gap_may_skip: whether a gap below the given path, one that may hold norm layers, may hold entries that are left
            out.
    """
    items: list[Item] = []
    gaps = sorted(profile.gaps, key=lambda gap: gap.index)
    for index in range(len(profile.entries) + 1):
        while gaps and gaps[0].index <= index:
            gap = gaps.pop(0)
            items.append(Item(None, None if gap.may_hold_norm and gap_may_skip(gap.path) else False))
        if index < len(profile.entries):
            entry = profile.entries[index]
            items.append(Item(entry, skip(entry)))
    return items


def at_top_level(profile: Profile, keep: bool) -> list[Item]:
    """The sequence under SecretFlow's rule: left out is a key whose first component names a ``_BatchNorm`` of the root.

    Args:
        keep: ``skip_bn`` False: nothing is left out.
    """
    if keep:
        return sequence(profile, lambda entry: False, lambda path: False)
    norms = {norm.path: norm.batchnorm for norm in profile.norms if norm.path and not norm.nested}
    containers = {entry.top for entry in profile.entries if entry.module} - set(norms)

    def skip(entry: StateEntry) -> bool | None:
        return norms.get(entry.top, False) if entry.module else False

    def gap_may_skip(path: str) -> bool:
        top = path.partition(".")[0]
        if not path:
            return True
        return norms.get(top, top not in containers and "." not in path) is not False

    return sequence(profile, skip, gap_may_skip)


def uploads(items: Sequence[Item]) -> Iterator[tuple[StateEntry | None, bool]]:
    """What travels, in order: entry (None: a gap) and whether it certainly does."""
    for item in items:
        if item.skipped is not True:
            yield item.entry, item.entry is not None and item.skipped is False


def first_stop(phases: Sequence[Phase]) -> Phase:
    """Steps in the order they run, as one: the first that certainly stops gives the error.

    Its text is certain only if no step before it may stop the round too.
    """
    doubtful = False
    for phase in phases:
        if phase.stops:
            assert phase.error is not None
            error = phase.error
            if doubtful and error.text_certain:
                error = PlanError(error.type, error.text, False, error.key, error.round)
            return Phase(True, error)
        doubtful = doubtful or phase.stops is None
    return UNKNOWN if doubtful else PASSED


def tensor_groups(profile: Profile) -> list[int]:
    """For each entry the index of the first entry that is the same tensor."""
    index = {entry.key: number for number, entry in enumerate(profile.entries)}
    groups: list[int] = []
    for number, entry in enumerate(profile.entries):
        first = index.get(entry.alias_of, number) if entry.alias_of is not None else number
        groups.append(groups[first] if first < number else number)
    return groups
