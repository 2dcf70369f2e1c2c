"""A file gets new content: all of it or nothing, whatever happens on the way.

The new content is written beside the file, under a hidden name that no scan and no import takes for Python, and put
in the file's place in one step. A link is followed: its target changes, not the link.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import tempfile

from bn_audit.fix.contents import Refused
from bn_audit.source.text import SourceError, read_bytes

__all__ = ["TEMPORARY", "put", "take", "write"]

TEMPORARY = ".bn-audit-"
"""What the names of files begin with that a killed process may leave behind."""


def take(path: str) -> bytes:
    """The content of a file that shall be changed.

    Raises:
        Refused: it is not there, cannot be read, or may not be written.
    """
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        raise Refused(_reason(error)) from error
    # Whoever may write to its folder could replace a read-only file. It was made read-only for a reason.
    if not status.st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH) or not os.access(path, os.W_OK):
        raise Refused("it is read-only")
    try:
        return read_bytes(path)
    except SourceError as error:
        raise Refused(error.reason) from error


def put(path: str, old: bytes, new: bytes) -> None:
    """Put new content in the place of the old.

    Mode and owner stay, the owner as far as the system lets us.

    Raises:
        Refused: the file does not hold ``old`` any more, or the new content cannot be written; nothing has changed.
    """
    target = os.path.realpath(path)
    folder = os.path.dirname(target)
    temporary = ""
    try:
        before = os.stat(target)
        if take(target) != old:
            raise Refused("it has changed since it was read")
        descriptor, temporary = tempfile.mkstemp(prefix=TEMPORARY, suffix=".tmp", dir=folder)
        with open(descriptor, "wb") as file:
            file.write(new)
            file.flush()
            _keep_owner_and_mode(file.fileno(), temporary, before)
            os.fsync(file.fileno())
        if _stamp(os.stat(target)) != _stamp(before):
            raise Refused("it has changed since it was read")
        os.replace(temporary, target)
        temporary = ""
    except OSError as error:
        raise Refused(_reason(error)) from error
    finally:
        if temporary:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
    _flush_folder(folder)


def write(path: str, data: bytes) -> None:
    """Write a file whole: what was there before stays until all of the new content is on the disk.

    A file that was there keeps its mode. What is no regular file (``/dev/null``, a pipe) is written to as it is.

    Raises:
        OSError: it cannot be written; nothing has changed.
    """
    target = os.path.realpath(path)
    mode: int | None = None
    with contextlib.suppress(FileNotFoundError):
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            with open(path, "wb") as file:
                file.write(data)
            return
        if not os.access(target, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        mode = stat.S_IMODE(status.st_mode)
    folder = os.path.dirname(target)
    temporary = os.path.join(folder, f"{TEMPORARY}{secrets.token_hex(8)}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        if mode is not None:
            os.chmod(temporary, mode)
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    _flush_folder(folder)


def _stamp(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _keep_owner_and_mode(descriptor: int, path: str, status: os.stat_result) -> None:
    if hasattr(os, "fchown"):
        mine = os.fstat(descriptor)
        for owner, group in ((status.st_uid, -1), (-1, status.st_gid)):
            if (owner, group) not in ((mine.st_uid, -1), (-1, mine.st_gid)):
                with contextlib.suppress(PermissionError):
                    os.fchown(descriptor, owner, group)
    os.chmod(path, stat.S_IMODE(status.st_mode))


def _flush_folder(folder: str) -> None:
    """See to it that the new name is on the disk; a system that cannot do that for folders is left alone."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
