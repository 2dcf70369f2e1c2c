"""Checkpoints that are laid out exactly as one that was read before: only the bytes that are wanted are read of them.

The parties of a federation save the same entries of the same shapes in the same order, so that their files differ in
the tensors' values and in nothing else: the header of a safetensors file is the same, byte for byte, and so is the
pickle in an archive of torch.save. What it says, it then says of all of them, and need not be made out again.
"""

from __future__ import annotations

import mmap
import os
import struct
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bn_audit.live.errors import require_torch

require_torch()

import numpy as np  # noqa: E402
import torch  # noqa: E402

__all__ = ["Twins", "twins_of"]

_DTYPES: Mapping[torch.dtype, str] = {
    torch.float32: "<f4",
    torch.float64: "<f8",
    torch.float16: "<f2",
    torch.int64: "<i8",
}
_LOCAL = 30
"""Bytes of a zip archive's local header before the name."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the leading elements of a tensor lie: in a record of an archive, or in the file itself (record "")."""

    record: str
    offset: int
    dtype: str
    count: int


@dataclass(frozen=True, slots=True)
class Twins:
    """The layout of a file.

    Attributes:
        archive: whether it is one of torch.save's; else it is safetensors.
        size: of the file, in bytes.
        structure: the pickle, or the header.
        records: of an archive, names and sizes in order.
        places: of the tensors that are wanted.
    """

    archive: bool
    size: int
    structure: bytes
    records: tuple[tuple[str, int], ...]
    places: tuple[_Place, ...]

    def read(self, path: Path) -> list[np.ndarray] | None:
        """The leading elements of the wanted tensors, as vectors; None if the file is laid out in another way."""
        try:
            with path.open("rb") as file:
                if os.fstat(file.fileno()).st_size != self.size:
                    return None
                starts = _starts(file.fileno(), path, self) if self.archive else _same_header(file.fileno(), self)
                if starts is None:
                    return None
                return [_values(file.fileno(), starts[place.record] + place.offset, place) for place in self.places]
        except (OSError, ValueError, zipfile.BadZipFile, struct.error):
            # Whatever is wrong with it, the reader of all checkpoints says so.
            return None


def twins_of(path: Path, tensors: Sequence[torch.Tensor]) -> Twins | None:
    """The layout of a file, from the tensors that were mapped from it; None if it cannot be made out.

    What it gives is held against the tensors before it is believed.

    Args:
        path: of the file.
        tensors: what is wanted of it; contiguous views of the mapping, the leading elements of its tensors.
    """
    # Where positions of a file cannot be read without moving in it, the quick way is none.
    if not hasattr(os, "pread"):
        return None
    if not all(tensor.dtype in _DTYPES and tensor.is_contiguous() and tensor.numel() for tensor in tensors):
        return None
    counts = [(_DTYPES[tensor.dtype], tensor.numel()) for tensor in tensors]
    try:
        size = path.stat().st_size
        if path.suffix == ".safetensors":
            with path.open("rb") as file:
                (length,) = struct.unpack("<Q", file.read(8))
                found = _by_header(size, file.read(length), length, tensors, counts)
        else:
            found = _by_archive(path, size, tensors, counts)
    except (OSError, ValueError, zipfile.BadZipFile, struct.error):
        return None
    values = None if found is None else found.read(path)
    if values is None:
        return None
    same = all(
        np.array_equal(value, tensor.detach().reshape(-1).numpy(), equal_nan=True)
        for value, tensor in zip(values, tensors, strict=True)
    )
    return found if same else None


def _by_header(
    size: int, header: bytes, length: int, tensors: Sequence[torch.Tensor], counts: Sequence[tuple[str, int]]
) -> Twins | None:
    # All are views of one mapping that begins where the file does.
    bases = {tensor.untyped_storage().data_ptr() for tensor in tensors}
    if len(bases) != 1:
        return None
    base = bases.pop()
    places = tuple(
        _Place("", tensor.data_ptr() - base, dtype, count)
        for tensor, (dtype, count) in zip(tensors, counts, strict=True)
    )
    return Twins(False, size, header[:length], (), places)


def _by_archive(
    path: Path, size: int, tensors: Sequence[torch.Tensor], counts: Sequence[tuple[str, int]]
) -> Twins | None:
    with path.open("rb") as file, zipfile.ZipFile(file) as archive:
        infos = archive.infolist()
        pickles = [info.filename for info in infos if info.filename.endswith("/data.pkl")]
        if len(pickles) != 1 or any(info.compress_type != zipfile.ZIP_STORED for info in infos):
            return None
        structure = archive.read(pickles[0])
        starts = {_start(file.fileno(), info): info.filename for info in infos if "/data/" in info.filename}
    pointers = [tensor.untyped_storage().data_ptr() for tensor in tensors]
    # The file was mapped as a whole, nobody says where; but every storage begins where a record does.
    bases = {pointers[0] - start for start in starts}
    fits = [
        base for base in bases if base % mmap.PAGESIZE == 0 and all(pointer - base in starts for pointer in pointers)
    ]
    if len(fits) != 1:
        return None
    (base,) = fits
    places = tuple(
        _Place(_inside(starts[pointer - base]), tensor.data_ptr() - pointer, dtype, count)
        for tensor, pointer, (dtype, count) in zip(tensors, pointers, counts, strict=True)
    )
    records = tuple((_inside(info.filename), info.file_size) for info in infos)
    return Twins(True, size, structure, records, places)


def _inside(name: str) -> str:
    """A record's name without the archive's own folder, which torch.save calls after the file."""
    return name.partition("/")[2]


def _starts(descriptor: int, path: Path, layout: Twins) -> dict[str, int] | None:
    """Where the records of an archive begin, if it is laid out alike."""
    with zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
        if tuple((_inside(info.filename), info.file_size) for info in infos) != layout.records:
            return None
        if any(info.compress_type != zipfile.ZIP_STORED for info in infos):
            return None
        (pickled,) = (info for info in infos if _inside(info.filename) == "data.pkl")
        if os.pread(descriptor, pickled.file_size, _start(descriptor, pickled)) != layout.structure:
            return None
        wanted = {place.record for place in layout.places}
        return {_inside(info.filename): _start(descriptor, info) for info in infos if _inside(info.filename) in wanted}


def _start(descriptor: int, info: zipfile.ZipInfo) -> int:
    """Where the content of a record begins: behind its local header, which is of a length of its own."""
    header = os.pread(descriptor, _LOCAL, info.header_offset)
    name, extra = (int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
    return info.header_offset + _LOCAL + name + extra


def _same_header(descriptor: int, layout: Twins) -> dict[str, int] | None:
    length = len(layout.structure)
    beginning = os.pread(descriptor, 8 + length, 0)
    return {"": 0} if beginning == struct.pack("<Q", length) + layout.structure else None


def _values(descriptor: int, start: int, place: _Place) -> np.ndarray:
    content = os.pread(descriptor, np.dtype(place.dtype).itemsize * place.count, start)
    return np.frombuffer(content, dtype=place.dtype, count=place.count)
