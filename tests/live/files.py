"""Files as they should be, and as they should not: safetensors by hand, pickles with a payload."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path

__all__ = ["Payload", "header_of", "write_safetensors"]


def header_of(tensors: Mapping[str, tuple[str, list[int], bytes]]) -> dict[str, object]:
    """The header of tensors that follow each other: dtype, shape and data by key."""
    header: dict[str, object] = {}
    position = 0
    for key, (dtype, shape, data) in tensors.items():
        header[key] = {"dtype": dtype, "shape": shape, "data_offsets": [position, position + len(data)]}
        position += len(data)
    return header


def write_safetensors(path: Path, header: object, data: bytes = b"", length: int | None = None) -> Path:
    """Write a file with a given header; ``length`` is what it claims its header to be.

    A header that is no bytes becomes JSON, padded to 8 bytes as the reference writer does.
    """
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    if not isinstance(header, bytes):
        text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


class Payload:
    """Unpickled without care, it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return os.system, (f"touch {self.path}",)
