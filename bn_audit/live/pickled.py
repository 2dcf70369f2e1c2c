"""Checkpoints that ``torch.save`` wrote: read with ``weights_only``, mapped instead of read where the format allows.

Nothing in such a file is ever executed. A file that holds more than tensors and plain containers is refused, and what
it asks for is named without importing it.
"""

from __future__ import annotations

import io
import itertools
import pickle
import pickletools
import re
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal

from bn_audit.live.errors import TargetError, require_torch

require_torch()

import torch  # noqa: E402

__all__ = ["LARGEST_IN_MEMORY", "load", "load_format"]

LARGEST_IN_MEMORY = 1 << 30
"""Bytes. What cannot be mapped (the format before torch 1.6, compressed archives) is read into memory up to this size;
of a larger file of the old format only names, shapes and dtypes are read."""

_ZIP = b"PK\x03\x04"
"""What zip archives begin with."""

_MOST_NAMED = 10

_OTHERS = (
    (rb"version https://git-lfs", "Git LFS's pointer to one: `git lfs pull` fetches it"),
    (rb"\x1f\x8b", "packed by gzip: unpack it first"),
    (rb"\x89HDF", "an HDF5 file, as Keras writes them; only torch's own can be read"),
    (rb"\x93NUMPY", "a single array of NumPy's"),
    (rb"\s*<", "a page of HTML or XML, as a download that failed leaves"),
    (rb".{8}\{", "what looks like safetensors: give it that suffix"),
)
"""What other files begin with that go by a checkpoint's name, and what to say of them."""

_MAGIC = pickle.dumps(torch.serialization.MAGIC_NUMBER, 2)
_PICKLES = 5
"""In a file of the old format, before the tensors' data: a number, a version, the system, the object, its storages."""

_CONTAINERS_PROTOCOL = 2
"""The protocol that torch.save writes, and the only one that ``weights_only`` reads."""


def load_format(path: Path) -> Literal["zip", "legacy"]:
    """Which of torch's two formats a file has: a zip archive since torch 1.6, a sequence of pickles before.

    Raises:
        TargetError: if it is neither.
        OSError: if it cannot be read.
    """
    with path.open("rb") as file:
        beginning = file.read(32)
    if not beginning:
        raise TargetError(f"{path} is empty")
    if beginning.startswith(_ZIP):
        return "zip"
    # Protocol 2 and later begin with the opcode PROTO and the protocol's number.
    if beginning[0] == 0x80 and beginning[1:2] <= b"\x05":
        return "legacy"
    what = next((words for mark, words in _OTHERS if re.match(mark, beginning, re.DOTALL)), None)
    if what is not None:
        raise TargetError(f"{path} is no checkpoint but {what}")
    raise TargetError(f"{path} is no checkpoint: torch.save writes a zip archive or a pickle, and this is neither")


def load(path: Path) -> tuple[object, bool]:
    """What a checkpoint holds, and whether its tensors have their values (those of a large old file are on meta).

    Raises:
        TargetError: if the file is damaged, or needs more than ``weights_only`` allows.
        OSError: if it cannot be read.
    """
    if load_format(path) == "zip":
        mapped = _check_archive(path)
        return _load(path, "cpu", mapped), True
    small = path.stat().st_size <= LARGEST_IN_MEMORY
    return _load(path, "cpu" if small else "meta", mapped=False), small


def _load(path: Path, location: str, mapped: bool) -> object:
    try:
        with warnings.catch_warnings():
            # About tensor classes of old; the file is not the reader's to mend.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location=location, weights_only=True, mmap=mapped)
    except OSError:
        raise
    except Exception as error:
        # Of a hostile or damaged file any exception may come.
        if load_format(path) == "legacy":
            _refuse_pickle(path, error)
        offenders = _unsafe_globals(path)
        if not offenders:
            offenders = re.findall(r"GLOBAL ([\w.]+)", str(error))
        if offenders:
            more = f" and {len(offenders) - _MOST_NAMED} more" if len(offenders) > _MOST_NAMED else ""
            raise TargetError(
                f"{path} holds more than weights, and is not read: unpickling it would run {_joined(offenders)}{more}; "
                "save the state dict alone, torch.save(model.state_dict(), ...), or, if you trust it, name a "
                "file.py:ATTRIBUTE that loads it"
            ) from error
        raise TargetError(f"{path} cannot be read, it is damaged or no checkpoint: {_reason(error)}") from error


def _joined(names: list[str]) -> str:
    return ", ".join(names[:_MOST_NAMED])


def _refuse_pickle(path: Path, error: Exception) -> None:
    """Say of a pickle that could not be read what is wrong with it, if that is what it is.

    Raises:
        TargetError: if it is none of torch.save's, or cut off.
    """
    with path.open("rb") as file:
        begins_as_torchs = file.read(len(_MAGIC)) == _MAGIC
        found = [protocol for _, _, protocol in itertools.islice(_pickles(file), _PICKLES)]
    newest = max(found, default=0)
    if newest > _CONTAINERS_PROTOCOL:
        raise TargetError(
            f"{path} is a pickle of protocol {newest}, and cannot be read without running what is in it; torch.save "
            "writes protocol 2 unless it is told otherwise: save the state dict with "
            "torch.save(model.state_dict(), ...)"
        ) from error
    if not found or (begins_as_torchs and len(found) < _PICKLES):
        raise TargetError(f"{path} is no checkpoint of torch.save's, or cut off") from error


def _reason(error: Exception) -> str:
    """The first line that says something: torch puts advice before what its unpickler found."""
    text = str(error).rpartition("WeightsUnpickler error:")[2].strip()
    return f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__


def _check_archive(path: Path) -> bool:
    """Whether the tensors of a zip archive may be mapped; they may if they are stored without compression.

    Raises:
        TargetError: if it is no archive of torch.save's, or would unpack to more than memory is meant for.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise TargetError(f"{path} is a damaged zip archive, perhaps cut off: {error}") from error
    names = [record.filename for record in records]
    if any(name.endswith("/constants.pkl") for name in names):
        raise TargetError(
            f"{path} is a TorchScript archive, a program and not only weights; it is not loaded. "
            "Name a file.py:ATTRIBUTE that loads it with torch.jit.load, if you trust it"
        )
    if any(name.endswith(("/models/model.json", "serialized_exported_program.json")) for name in names):
        raise TargetError(
            f"{path} is an exported program and not only weights; it is not loaded. "
            "Name a file.py:ATTRIBUTE that loads it with torch.export.load, if you trust it"
        )
    if any(name.endswith(".npy") for name in names):
        raise TargetError(
            f"{path} is NumPy's archive of arrays, and not read: load them into the model, and save its state "
            "dict with torch.save(model.state_dict(), ...)"
        )
    if not any(name.endswith("/data.pkl") for name in names):
        raise TargetError(f"{path} is a zip archive, but none that torch.save wrote: it has no data.pkl")
    packed = [record for record in records if record.compress_type != zipfile.ZIP_STORED]
    unpacked = sum(record.file_size for record in packed)
    if unpacked > LARGEST_IN_MEMORY:
        raise TargetError(f"{path} is compressed, and would unpack to {unpacked:,} bytes; torch.save does not compress")
    return not packed


def _unsafe_globals(path: Path) -> list[str]:
    """The globals that a file asks for and ``weights_only`` does not allow, found without importing any."""
    find = getattr(torch.serialization, "get_unsafe_globals_in_checkpoint", None)
    if find is None:  # torch before 2.6
        return []
    found: set[str] = set()
    try:
        whole = zipfile.is_zipfile(path)
    except zipfile.BadZipFile:  # it ends like an archive on several disks, and zipfile asks no further
        return []
    for checkpoint in [path] if whole else _as_archives(path):
        try:
            found.update(find(checkpoint))
        except Exception:
            # Torch's own walk knows protocol 2 only, and a damaged file may be anything.
            continue
    return sorted(found)


def _as_archives(path: Path) -> Iterator[BinaryIO]:
    """The pickles of a file of the old format, each put into a zip archive, the only format torch finds globals in."""
    with path.open("rb") as file:
        for begin, end, _ in _pickles(file):
            file.seek(begin)
            buffer = io.BytesIO()
            with zipfile.ZipFile(buffer, "w") as archive:
                archive.writestr("archive/data.pkl", file.read(end - begin))
                archive.writestr("archive/version", "3\n")
            buffer.seek(0)
            yield buffer


def _pickles(file: BinaryIO) -> Iterator[tuple[int, int, int]]:
    """Where each whole pickle of a file begins and ends, and its protocol; none of it is run."""
    end = 0
    while True:
        begin, protocol = end, 0
        file.seek(begin)
        try:
            for opcode, argument, _ in pickletools.genops(file):
                if opcode.name == "PROTO" and isinstance(argument, int):
                    protocol = argument
        except Exception:
            # The tensors' data follow the last pickle.
            return
        end = file.tell()
        yield begin, end, protocol
