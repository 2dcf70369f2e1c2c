"""FedBN over checkpoint files: one piece of a tensor of each party at a time."""

from __future__ import annotations

import bisect
import os
import pickle
import sys
import zipfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from bn_audit.extras import MissingExtra, install
from bn_audit.federated.aggregator import FedBNAggregator, FedBNIntegers
from bn_audit.federated.errors import AggregationError
from bn_audit.federated.memory import give_back
from bn_audit.federated.state import local_keys as local_keys_of

__all__ = ["aggregate_files"]


def aggregate_files(
    paths: Iterable[str | os.PathLike[str]],
    weights: Iterable[float],
    *,
    local_keys: Collection[str] | None = None,
    key: str | None = None,
    integer_state: FedBNIntegers = "require-equal",
    exact: bool = False,
    check_finite: bool = False,
) -> dict[str, Tensor]:
    """FedBN's mean of the state dicts in checkpoint files, as :meth:`FedBNAggregator.aggregate` takes it.

    The files are mapped into memory and, on Linux, their pages given back piece by piece, so that it needs little
    memory beside the result, however many files there are. Elsewhere the system takes the pages back when it has need
    of them. Files in torch's format from before 1.6, which is no zip archive, or of another byte order are read whole.

    Args:
        paths: ``torch.save``'s files, read with ``weights_only``, and ``.safetensors`` (needs safetensors).
        weights: one a file.
        local_keys: the keys that stay with the party, for example ``local_keys(model)``; if not given, as the first
            file's keys tell.
        key: the name of the entry that holds the state dict in a file of ``torch.save``, if it is not the file itself.
        integer_state, exact, check_finite: as for :class:`FedBNAggregator`.

    Returns:
        The combined entries, on the CPU.

    Raises:
        AggregationError: as :meth:`FedBNAggregator.add` does, the parties named by their paths; a file holds no state
            dict, is damaged, or holds more than ``weights_only`` reads.
        ImportError: safetensors is not installed.
        OSError: a file cannot be opened.
    """
    names = [os.fspath(path) for path in paths]
    states: list[Mapping[str, Any]] = []
    for name in names:
        state = _mapped_state(name, key)
        local_keys = local_keys_of(state) if local_keys is None else local_keys
        # The tensors themselves, unread, take half a megabyte for each ResNet50.
        states.append({entry: value for entry, value in state.items() if entry not in local_keys})
    aggregator = FedBNAggregator(local_keys or (), integer_state=integer_state, exact=exact, check_finite=check_finite)
    return aggregator._aggregate(states, list(weights), names, _Mappings(names).read)


def _mapped_state(path: str, key: str | None) -> Mapping[str, Any]:
    """A file's state dict; its tensors are the file's own pages, which nothing may write to."""
    if path.endswith(".safetensors"):
        return _mapped_safetensors(path)
    content = _loaded(path)
    state = content
    if key is not None:
        if not isinstance(content, Mapping) or key not in content:
            raise AggregationError(f"no entry {key!r} that could be the state dict", party=path)
        state = content[key]
    if not isinstance(state, Mapping):
        raise AggregationError(f"no state dict but {type(state).__name__}", party=path)
    if not all(isinstance(name, str) for name in state):
        raise AggregationError("no state dict but a mapping with keys that are no strings", party=path)
    if not any(isinstance(value, Tensor) for value in state.values()):
        inside = [name for name, value in state.items() if isinstance(value, Mapping)]
        meant = f": key={inside[0]!r} takes what lies there (of {', '.join(inside)})" if inside and key is None else ""
        raise AggregationError(f"no state dict but a mapping without tensors{meant}", party=path)
    return state


def _loaded(path: str) -> Any:
    with open(path, "rb") as file:
        if not file.read(1):
            raise AggregationError("is empty", party=path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=_is_mappable(path))
    except pickle.UnpicklingError as error:
        message = (
            "holds more than tensors and plain containers, or is no checkpoint, and is not read: save the state dict "
            "alone, torch.save(model.state_dict(), ...)"
        )
        raise AggregationError(message, party=path) from error
    except Exception as error:  # of a damaged file any may come
        said = (str(error).strip().splitlines() or [""])[0]
        message = f"is damaged, cut off, or no checkpoint of torch.save's ({type(error).__name__}: {said[:200]})"
        raise AggregationError(message, party=path) from error


def _is_mappable(path: str) -> bool:
    """Whether it is a zip archive, of this machine's byte order: torch would write the other's into the mapping."""
    try:
        if not zipfile.is_zipfile(path):
            return False
        with zipfile.ZipFile(path) as archive:
            orders = [archive.read(name) for name in archive.namelist() if name.endswith("/byteorder")]
    except zipfile.BadZipFile:  # torch says better what is wrong with it
        return False
    return all(order.decode("ascii", "replace") == sys.byteorder for order in orders)


def _mapped_safetensors(path: str) -> dict[str, Tensor]:
    try:
        from safetensors import safe_open
    except ImportError as error:
        raise MissingExtra(f"reading .safetensors needs safetensors: {install('torch')}") from error
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
    except OSError:
        raise
    except Exception as error:
        raise AggregationError(f"no valid safetensors file: {error}", party=path) from error


class _Mappings:
    """The parts of memory that the kernel fills from these files. Linux only; elsewhere it knows of none.

    Their pages count as the process's memory once they are read. Given back, they are read from the file again when
    they are needed: the mappings are private, and nothing writes to them.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self._ranges: list[tuple[int, int]] = []
        if sys.platform != "linux":
            return
        files = {os.path.realpath(path) for path in paths}
        with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
            for line in maps:
                addresses, _, _, _, _, *path = line.rstrip("\n").split(maxsplit=5)
                if path and path[0] in files:
                    start, _, end = addresses.partition("-")
                    self._ranges.append((int(start, 16), int(end, 16)))
        self._ranges.sort()

    def read(self, value: Tensor) -> Tensor:
        """A copy of a mapped tensor; then its file's pages are given back, for the kernel maps more than was asked for.

        A tensor in other memory, which would lose what it holds, is returned as it is.
        """
        place = bisect.bisect_right(self._ranges, (value.data_ptr(), sys.maxsize)) - 1
        if place < 0 or not value.numel():
            return value
        start, end = self._ranges[place]
        if value.data_ptr() >= end:
            return value
        copy = value.clone()
        give_back(start, end)
        return copy
