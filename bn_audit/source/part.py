"""What there is to do for a file, and what came of it, as plain data."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from bn_audit.federation import FederatedSite
    from bn_audit.site import FLModelSite, Unreadable

    Site = FLModelSite | FederatedSite

__all__ = ["REMEDY", "Limits", "Part", "Task"]

REMEDY = "leave it out with --extend-exclude"
"""What can be done about a file that cannot be looked into."""


class Task(NamedTuple):
    """A file to look into.

    ``names`` are what FLModel is called in it, none if it calls none; ``federated`` says that states may be exchanged
    or combined there.
    """

    path: str
    names: tuple[str, ...] = ()
    federated: bool = False


class Part(NamedTuple):
    """What came of a file.

    Attributes:
        parsed: the files that were parsed for it, by absolute path.
        notes: where trails ended.
        exports: names under which another file may import what it was asked for; None if that was not the question, or
            the file cannot be parsed.
        problems: why nothing is known of the file, in words; this is never kept for another scan.
    """

    sites: tuple[Site, ...] = ()
    unreadable: tuple[Unreadable, ...] = ()
    parsed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    exports: tuple[str, ...] | None = None
    problems: tuple[str, ...] = ()


class Limits(NamedTuple):
    """What one file may cost, and what becomes of one that costs more.

    Attributes:
        seconds: of processor time to look into a file; 0 for no limit.
        contain: whether a fault of ours, or of the memory, is a problem of the file that it happened at, and not the
            end of the scan.
    """

    seconds: float = 0.0
    contain: bool = False
