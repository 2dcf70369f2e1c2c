"""From a file's bytes to its text, as Python's own tokenizer would read it (PEP 263).

What a position means everywhere in the source reader: lines are counted as Python counts them, so that ``\\n``,
``\\r\\n`` and a lone ``\\r`` end a line while form feed, vertical tab and U+2028 do not; columns are characters (code
points), not bytes and not UTF-16 units; both count from 1.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass

from bn_audit.source.raw import MAX_BYTES, SourceError, read_bytes, utf_16_or_32

__all__ = ["MAX_BYTES", "SourceError", "SourceText", "decode", "normalize_newlines", "read_bytes", "utf_16_or_32"]

_NEWLINE = re.compile(r"\r\n?|\n")
_BYTES_NEWLINE = re.compile(rb"\r\n?|\n")
_COOKIE = re.compile(rb"[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)")
_BLANK_OR_COMMENT = re.compile(rb"[ \t\f]*(?:#|$)")


@dataclass(frozen=True, slots=True)
class SourceText:
    """A file's text.

    Attributes:
        text: decoded, without a byte order mark, line ends as they are in the file.
        encoding: the codec's name: ``utf-8`` unless the file declares another.
        bom: whether the file begins with the byte order mark of UTF-8.
        newline: how the first line ends; ``\\n`` if no line ends at all.
        mixed: whether other line ends follow.
    """

    text: str
    encoding: str
    bom: bool
    newline: str
    mixed: bool

    @property
    def normalized(self) -> str:
        """The text with every line end as ``\\n``. Lines and columns are those of the file."""
        return normalize_newlines(self.text)

    def encode(self) -> bytes:
        """The file's bytes again."""
        return (codecs.BOM_UTF8 if self.bom else b"") + self.text.encode(self.encoding)


def decode(data: bytes) -> SourceText:
    """Decode Python source by PEP 263.

    Raises:
        SourceError: an unknown or contradictory encoding declaration, bytes that are invalid in the encoding, or NUL
            bytes.
    """
    wide = utf_16_or_32(data)
    if wide is not None:
        raise SourceError(
            f"the file is encoded as {wide.upper()}, which Python does not read as source; save it as UTF-8"
        )
    bom = data.startswith(codecs.BOM_UTF8)
    if bom:
        data = data[len(codecs.BOM_UTF8) :]
    encoding = _declared_encoding(data, bom)
    nul = data.find(b"\0")
    if nul >= 0:
        raise SourceError("source code cannot contain null bytes", *_position(data[:nul].decode(encoding, "replace")))
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        before = data[: error.start].decode(encoding, "replace")
        byte = data[error.start]
        raise SourceError(f"not valid {encoding}: byte 0x{byte:02x}, {error.reason}", *_position(before)) from error
    except (LookupError, UnicodeError) as error:  # a codec that is not for text, or one that refuses without a position
        raise SourceError(f"cannot decode as {encoding}: {error}") from error
    newline, mixed = _newlines(text)
    return SourceText(text, encoding, bom, newline, mixed)


def normalize_newlines(text: str) -> str:
    """Every line end as ``\\n``."""
    return _NEWLINE.sub("\n", text) if "\r" in text else text


def _declared_encoding(data: bytes, bom: bool) -> str:
    """The encoding that a comment in the first two lines declares, else UTF-8; ``data`` has no byte order mark."""
    start = 0
    for number in (1, 2):
        end = _BYTES_NEWLINE.search(data, start)
        line = data[start : end.start() if end else len(data)]
        cookie = _COOKIE.match(line)
        if cookie is not None:
            return _known_encoding(cookie[1].decode("ascii", "replace"), bom, number, cookie.start(1) + 1)
        if end is None or not _BLANK_OR_COMMENT.match(line):
            break
        start = end.end()
    return "utf-8"


def _known_encoding(declared: str, bom: bool, line: int, column: int) -> str:
    name = declared[:12].lower().replace("_", "-")
    if name == "utf-8" or name.startswith("utf-8-"):
        return "utf-8"
    if bom:
        raise SourceError(f"the byte order mark says utf-8, the encoding declaration {declared}", line, column)
    try:
        return codecs.lookup(declared).name
    except (LookupError, UnicodeError) as error:
        raise SourceError(f"unknown encoding: {declared}", line, column) from error


def _newlines(text: str) -> tuple[str, bool]:
    first = _NEWLINE.search(text)
    if first is None:
        return "\n", False
    crlf = text.count("\r\n")
    counts = {"\r\n": crlf, "\n": text.count("\n") - crlf, "\r": text.count("\r") - crlf}
    return first[0], any(count for newline, count in counts.items() if newline != first[0])


def _position(before: str) -> tuple[int, int]:
    """Line and column of the character that follows ``before``."""
    line, start = 1, 0
    for newline in _NEWLINE.finditer(before):
        line, start = line + 1, newline.end()
    return line, len(before) - start + 1
