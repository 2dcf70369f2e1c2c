"""A profile as the exchange sees it: a sequence of entries and gaps, each left out of the upload or not.

Everything here is three-valued. A gap may hold any number of entries; None is "not known".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bn_audit.profile import Gap, Profile, StateEntry

__all__ = ["Item", "at_top_level", "uploads"]


@dataclass(frozen=True, slots=True)
class Item:
    """An entry, or a gap (``entry`` None), and whether ``skip_bn`` leaves it out of the upload.

    For a gap ``skipped`` is False if none of its entries is left out, None if some may be.
    """

    entry: StateEntry | None
    skipped: bool | None


def at_top_level(profile: Profile, skips: bool, own_stay: bool = False) -> list[Item]:
    """Entries and gaps in state order, under SecretFlow's rule for what is left out.

    It leaves out what lies below a ``_BatchNorm`` (Keras: a BatchNormalization) that is an attribute of the root.

    Args:
        skips: whether ``skip_bn`` works; otherwise nothing is left out.
        own_stay: whether the root's own entries are left out too.
    """
    norms = {
        norm.path: norm.batchnorm if norm.nested is False or not norm.batchnorm else None
        for norm in profile.norms
        if norm.path and not norm.nested
    }
    containers = {entry.top for entry in profile.entries if entry.module} - set(norms)

    def entry_skipped(entry: StateEntry) -> bool | None:
        if not skips:
            return False
        return norms.get(entry.top, False) if entry.module else own_stay

    def gap_skipped(gap: Gap) -> bool | None:
        top = gap.path.partition(".")[0]
        if not skips:
            return False
        if not top:
            return None if own_stay or gap.may_hold_norm else False
        # What is not seen at a path without known entries may itself be a BatchNorm.
        possible = norms.get(top, "." not in gap.path and top not in containers) is not False
        return None if possible and gap.may_hold_norm else False

    items: list[Item] = []
    gaps = sorted(profile.gaps, key=lambda gap: gap.index)
    for index in range(len(profile.entries) + 1):
        while gaps and gaps[0].index <= index:
            items.append(Item(None, gap_skipped(gaps.pop(0))))
        if index < len(profile.entries):
            entry = profile.entries[index]
            items.append(Item(entry, entry_skipped(entry)))
    return items


def uploads(items: Sequence[Item]) -> Iterator[tuple[StateEntry | None, bool]]:
    """What travels, in order: entry (None: a gap) and whether it certainly does."""
    for item in items:
        if item.skipped is not True:
            yield item.entry, item.entry is not None and item.skipped is False
