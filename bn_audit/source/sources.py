"""What a scan may look at: its files, and what stands in for some of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from bn_audit.source.taught import Teacher

__all__ = ["Sources"]


class Sources(NamedTuple):
    """The files of a scan.

    Attributes:
        files: in the order of the scan.
        roots: the folders that were named, or hold what was named.
        stdin: a further file's name and content.
        contents: what is read in place of what stands in files, by absolute path.
        teacher: what the settings of a file teach the reader.
    """

    files: Sequence[str] = ()
    roots: Sequence[str] = ()
    stdin: tuple[str, bytes] | None = None
    contents: Mapping[str, bytes] = MappingProxyType({})
    teacher: Teacher | None = None
