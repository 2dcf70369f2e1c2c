"""What there is to do for a file, and what came of it, as plain data."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from bn_audit.federation import FederatedSite
    from bn_audit.site import FLModelSite, Unreadable

    Site = FLModelSite | FederatedSite

__all__ = ["Part", "Task"]


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
    """

    sites: tuple[Site, ...] = ()
    unreadable: tuple[Unreadable, ...] = ()
    parsed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    exports: tuple[str, ...] | None = None
