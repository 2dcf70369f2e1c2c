"""What would change, as a unified diff of bytes that ``git apply`` and ``patch -p1`` take."""

from __future__ import annotations

import os
from collections.abc import Iterator

__all__ = ["unified_diff"]

_NO_NEWLINE = b"\n\\ No newline at end of file\n"
_QUOTED = {ord('"'): b'\\"', ord("\\"): b"\\\\", ord("\t"): b"\\t", ord("\n"): b"\\n", ord("\r"): b"\\r"}


def unified_diff(path: str, old: bytes, new: bytes) -> Iterator[bytes]:
    """The lines of a diff, each with its line end; none if nothing changes.

    A line ends with ``\\n`` and with nothing else, as for git: in a file with other line ends they are part of it.
    """
    import difflib

    before, after = _lines(old), _lines(new)
    for line in difflib.diff_bytes(difflib.unified_diff, before, after, _name("a", path), _name("b", path)):
        yield line if line.endswith(b"\n") else line + _NO_NEWLINE


def _lines(data: bytes) -> list[bytes]:
    lines = data.split(b"\n")
    return [line + b"\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])


def _name(side: str, path: str) -> bytes:
    """A path as git writes it: quoted where it holds what would break the line, closed by a tab where it has spaces."""
    relative = path if os.sep == "/" else path.replace(os.sep, "/")
    name = os.fsencode(relative if relative.startswith("/") else f"{side}/{relative}")
    if any(byte < 0x20 or byte in (0x22, 0x5C, 0x7F) for byte in name):
        escaped = (
            _QUOTED.get(byte, b"\\%03o" % byte if byte < 0x20 or byte == 0x7F else bytes([byte])) for byte in name
        )
        return b'"' + b"".join(escaped) + b'"'
    return name + b"\t" if b" " in name else name
