"""The bytes of a file after edits: what an edit does not touch stays as it is, whatever the encoding."""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bn_audit.finding import Edit
from bn_audit.fix.edits import Applied, EditError, edit_text
from bn_audit.fix.raw_notebook import edit_cell
from bn_audit.source.parse import is_notebook
from bn_audit.source.text import SourceError, decode

__all__ = ["Edited", "Refused", "edit_bytes", "notebook_text"]


class Refused(Exception):
    """A file is left as it is; the reason, for a person."""


@dataclass(frozen=True, slots=True)
class Edited:
    """The content of a file after edits.

    Attributes:
        data: the bytes.
        applied: what was done to the source, by cell; None is a file that is no notebook.
    """

    data: bytes
    applied: Mapping[int | None, Applied]

    def moved(self, cell: int | None, line: int, column: int) -> tuple[int, int]:
        """Where what stood at a position, outside every edit, stands now."""
        found = self.applied.get(cell)
        return (line, column) if found is None else found.moved(line, column)


def edit_bytes(path: str, data: bytes, edits: Mapping[int | None, Sequence[Edit]]) -> Edited:
    """The content of a file after edits of its cells, or of the file if it is no notebook (then the cell is None).

    Raises:
        Refused: the edits do not fit, or cannot be written in the file's encoding without a change elsewhere.
    """
    try:
        if is_notebook(path):
            return _edit_notebook(data, edits)
        source = decode(data)
        applied = edit_text(source.text, edits.get(None, ()))
        mark = codecs.BOM_UTF8 if source.bom else b""
        return Edited(_spliced(data, mark, applied, lambda text: text.encode(source.encoding)), {None: applied})
    except (EditError, SourceError) as error:
        raise Refused(f"the fix does not fit what stands there: {error}") from error
    except UnicodeEncodeError as error:
        raise Refused(f"the fix cannot be written as {error.encoding}") from error


_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
    (codecs.BOM_UTF8, "utf-8"),
)


def _edit_notebook(data: bytes, edits: Mapping[int | None, Sequence[Edit]]) -> Edited:
    mark, encoding = _encoding(data)

    def encode(text: str) -> bytes:
        return text.encode(encoding, "surrogatepass")

    applied: dict[int | None, Applied] = {}
    for cell, changes in sorted(edits.items(), key=lambda pair: pair[0] or 0):
        if cell is None:
            raise Refused("the fix names no cell")
        raw, applied[cell] = edit_cell(data[len(mark) :].decode(encoding, "surrogatepass"), cell, changes)
        data = _spliced(data, mark, raw, encode)
    return Edited(data, applied)


def notebook_text(data: bytes) -> str:
    """The JSON text of a notebook, without a byte order mark.

    Raises:
        UnicodeError: the bytes are none of its encoding.
    """
    mark, encoding = _encoding(data)
    return data[len(mark) :].decode(encoding, "surrogatepass")


def _encoding(data: bytes) -> tuple[bytes, str]:
    """The byte order mark of a JSON text, and the codec for what follows it."""
    return next(((mark, name) for mark, name in _MARKS if data.startswith(mark)), (b"", json.detect_encoding(data)))


def _spliced(data: bytes, mark: bytes, applied: Applied, encode: Callable[[str], bytes]) -> bytes:
    """The bytes after edits of the text that follows a byte order mark: what stays is taken over, not encoded anew.

    That needs an encoding in which a part of the text is a part of the bytes, which those with a state are not.
    """
    pieces, end = [mark], 0
    kept = len(mark)
    for splice in applied.splices:
        for start, stop, new in ((end, splice.start, None), (splice.start, splice.end, splice.content)):
            old = encode(applied.before[start:stop])
            if data[kept : kept + len(old)] != old:
                raise Refused("its bytes are not those that its encoding would write")
            pieces.append(old if new is None else encode(new))
            kept += len(old)
        end = splice.end
    if data[kept:] != encode(applied.before[end:]):
        raise Refused("its bytes are not those that its encoding would write")
    return b"".join([*pieces, data[kept:]])
