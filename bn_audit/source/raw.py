"""A file's bytes, and why they cannot be had: what every scan needs, and light enough for one that finds nothing."""

from __future__ import annotations

import codecs
import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bn_audit.site import Unreadable

__all__ = ["MAX_BYTES", "SourceError", "read_bytes", "utf_16_or_32"]

MAX_BYTES = 128 << 20
"""No file larger than this is read whole. Notebooks with images inside reach tens of megabytes; source never does."""

# Longest first: the mark of UTF-32 in little endian begins with that of UTF-16.
_WIDE_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class SourceError(Exception):
    """A file, or a cell of a notebook, cannot be read as Python. Carries the position and the reason, for a person."""

    def __init__(self, reason: str, line: int = 1, column: int = 1, cell: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.line = line
        self.column = column
        self.cell = cell

    def at(self, path: str) -> Unreadable:
        """The same as plain data, for the file at ``path``."""
        # Imported here because most scans read no file that matters, and start-up counts.
        from bn_audit.finding import Location
        from bn_audit.site import Unreadable

        location = Location(path, self.line, self.column, self.line, self.column, self.cell)
        return Unreadable(location, self.reason)


_READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def read_bytes(path: str, most: int = MAX_BYTES) -> bytes:
    """The bytes of a regular file.

    Raises:
        SourceError: it cannot be opened or read, is no regular file, or is larger than ``most`` bytes.
    """
    try:
        # Without O_NONBLOCK, opening a FIFO that took a file's place would wait for a writer that may never come.
        descriptor = os.open(path, _READ)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise SourceError("not a regular file")
            if status.st_size > most:
                raise SourceError(f"the file has {status.st_size:,} bytes, more than the {most:,} that are read")
            return _whole(descriptor, status.st_size, most)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise SourceError(error.strerror or str(error)) from error
    except ValueError as error:  # a null character in the path
        raise SourceError(str(error)) from error


def _whole(descriptor: int, size: int, most: int) -> bytes:
    """All that a file holds, which may be more than its size: it may have grown, and files of /proc have none."""
    parts: list[bytes] = []
    left = most + 1
    size += 1
    while left > 0 and (part := os.read(descriptor, min(size, left))):
        parts.append(part)
        left -= len(part)
        size = 1 << 16
    if left <= 0:
        raise SourceError(f"the file has more than the {most:,} bytes that are read")
    return parts[0] if len(parts) == 1 else b"".join(parts)


def utf_16_or_32(data: bytes) -> str | None:
    """``utf-16`` or ``utf-32`` if the data begins with such a byte order mark. Python refuses these as source."""
    return next((encoding for mark, encoding in _WIDE_MARKS if data.startswith(mark)), None)
