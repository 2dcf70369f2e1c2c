"""Headers of safetensors files, read and checked without torch.

The format (https://huggingface.co/docs/safetensors): 8 bytes, the length N of the header as an unsigned little-endian
integer; N bytes of JSON, ``{"key": {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, ...}``; the rest of
the file is the data. Offsets count from the end of the header, lie inside the file, and cover all of it without overlap
or hole. Everything in a header is checked before it is believed.
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import NoReturn, TypeGuard

from bn_audit.live.errors import TargetError

__all__ = ["Header", "Stored", "read_header", "read_integer"]

# The limit of the reference implementation.
_LONGEST_HEADER = 100_000_000
# torch's limit on the rank of a tensor.
_MOST_DIMENSIONS = 64
_LARGEST = 2**63 - 1

_TYPES: Mapping[str, tuple[int, str | None]] = MappingProxyType(
    {
        "BOOL": (8, "bool"),
        "U8": (8, "uint8"),
        "I8": (8, "int8"),
        "U16": (16, "uint16"),
        "I16": (16, "int16"),
        "U32": (32, "uint32"),
        "I32": (32, "int32"),
        "U64": (64, "uint64"),
        "I64": (64, "int64"),
        "F16": (16, "float16"),
        "BF16": (16, "bfloat16"),
        "F32": (32, "float32"),
        "F64": (64, "float64"),
        "C64": (64, "complex64"),
        "F8_E4M3": (8, "float8_e4m3fn"),
        "F8_E4M3FNUZ": (8, "float8_e4m3fnuz"),
        "F8_E5M2": (8, "float8_e5m2"),
        "F8_E5M2FNUZ": (8, "float8_e5m2fnuz"),
        "F8_E8M0": (8, "float8_e8m0fnu"),
        # torch packs these; its shapes are not the header's.
        "F6_E2M3": (6, None),
        "F6_E3M2": (6, None),
        "F4": (4, None),
    }
)
"""Bits of one element, and torch's name of the dtype, None where it has none of that size."""

_INTEGERS: Mapping[str, str] = MappingProxyType(
    {
        "int8": "<b",
        "uint8": "<B",
        "int16": "<h",
        "uint16": "<H",
        "int32": "<i",
        "uint32": "<I",
        "int64": "<q",
        "uint64": "<Q",
    }
)
"""How ``struct`` reads an integer of each dtype."""


@dataclass(frozen=True, slots=True)
class Stored:
    """One tensor of a file: torch's dtype name (None: torch has none), shape, and its bytes, counted from the file's
    beginning, ``end`` exclusive."""

    dtype: str | None
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True, slots=True, eq=False)
class Header:
    """What a file says it holds, checked. ``tensors`` is in the header's order, which is the writer's and no state
    dict's: the reference writer sorts by dtype and name."""

    path: Path
    tensors: Mapping[str, Stored]
    metadata: Mapping[str, str]


def read_header(path: Path) -> Header:
    """Read and check the header of a safetensors file. The data is not read.

    Raises:
        TargetError: if the file is not what the format asks for.
        OSError: if it cannot be read.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        beginning = file.read(8)
        if len(beginning) < 8:
            _refuse(path, f"it has {len(beginning)} bytes, fewer than the length of a header")
        if beginning.startswith(b"PK\x03\x04"):
            _refuse(path, "it is a zip archive, as torch.save writes them: name it .pt")
        (length,) = struct.unpack("<Q", beginning)
        if length > _LONGEST_HEADER:
            _refuse(path, f"its header claims {length:,} bytes, more than the format's {_LONGEST_HEADER:,}")
        if length > size - 8:
            _refuse(path, f"its header claims {length:,} bytes of {size - 8:,}")
        text = file.read(length)
    if len(text) < length:
        _refuse(path, "it ends inside its header")
    header = _parse(path, text)
    metadata = _metadata(path, header.pop("__metadata__", {}))
    tensors = {key: _stored(path, key, value, 8 + length) for key, value in header.items()}
    _check_cover(path, tensors, 8 + length, size)
    return Header(path, MappingProxyType(tensors), MappingProxyType(metadata))


def read_integer(path: Path, stored: Stored) -> int | None:
    """The value of a 0-d integer tensor; None for any other."""
    form = _INTEGERS.get(stored.dtype or "")
    if form is None or stored.shape:
        return None
    with path.open("rb") as file:
        file.seek(stored.begin)
        data = file.read(stored.end - stored.begin)
    value: int = struct.unpack(form, data)[0]
    return value


def _parse(path: Path, text: bytes) -> dict[str, object]:
    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        result = dict(pairs)
        if len(result) < len(pairs):
            _refuse(path, "a name stands twice in its header")
        return result

    if not text.startswith(b"{"):
        _refuse(path, "its header is no JSON object")
    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=unique)
    except (ValueError, RecursionError, MemoryError) as error:
        raise TargetError(f"{path} is no safetensors file: its header is no JSON ({error})") from error
    assert isinstance(header, dict)  # it begins with a brace
    return header


def _metadata(path: Path, value: object) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        _refuse(path, "its __metadata__ does not map strings to strings")
    return value


def _stored(path: Path, key: str, value: object, start: int) -> Stored:
    if not isinstance(value, dict):
        _refuse(path, f"{key!r} is not described by an object")
    dtype, shape, offsets = value.get("dtype"), value.get("shape"), value.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in _TYPES:
        _refuse(path, f"{key!r} has the dtype {str(dtype)[:40]!r}, which the format does not know")
    if not _naturals(shape) or len(shape) > _MOST_DIMENSIONS:
        _refuse(path, f"{key!r} has no valid shape")
    if not _naturals(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        _refuse(path, f"{key!r} has no valid data_offsets")
    bits, name = _TYPES[dtype]
    needed, rest = divmod(math.prod(shape) * bits, 8)
    if rest or needed != offsets[1] - offsets[0]:
        _refuse(path, f"{key!r} has {offsets[1] - offsets[0]:,} bytes, but its shape and dtype take {needed:,}")
    return Stored(name, tuple(shape), start + offsets[0], start + offsets[1])


def _naturals(value: object) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(item) is int and 0 <= item <= _LARGEST for item in value)


def _check_cover(path: Path, tensors: Mapping[str, Stored], start: int, size: int) -> None:
    """The tensors' bytes follow each other from the header's end to the end of the file."""
    position = start
    for key, stored in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        if stored.end > size:
            _refuse(path, f"{key!r} ends at byte {stored.end:,} of a file of {size:,}: it is cut off, or lies")
        if stored.begin != position:
            what = "overlaps the tensor before it" if stored.begin < position else "leaves a hole before it"
            _refuse(path, f"{key!r} {what}")
        position = stored.end
    if position != size:
        _refuse(path, f"{size - position:,} bytes at its end belong to no tensor")


def _refuse(path: Path, reason: str) -> NoReturn:
    raise TargetError(f"{path} is no valid safetensors file: {reason}")
