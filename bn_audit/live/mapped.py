"""Tensors of safetensors files, mapped when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from bn_audit.live.errors import TargetError, require_torch
from bn_audit.live.safetensors import Header

if TYPE_CHECKING:
    import torch

__all__ = ["SafeTensors"]


class SafeTensors(Mapping[str, "torch.Tensor"]):
    """The tensors of one or more files by key. torch is imported with the first that is read.

    Nothing is read when a tensor is made: its memory is the file's, private to this process, and pages come in as they
    are touched.
    """

    def __init__(self, places: Mapping[str, Header]) -> None:
        self._places = places
        self._files: dict[Header, torch.Tensor] = {}

    def __getitem__(self, key: str) -> torch.Tensor:
        """The tensor of a key.

        Raises:
            KeyError: if there is none.
            TargetError: if torch has no such dtype.
            MissingExtra: if torch is not installed.
        """
        header = self._places[key]
        require_torch()
        import torch

        stored = header.tensors[key]
        dtype = getattr(torch, stored.dtype or "", None)
        if not isinstance(dtype, torch.dtype):
            raise TargetError(f"{header.path}: torch {torch.__version__} has no dtype for {key!r}")
        if stored.begin == stored.end:
            return torch.empty(stored.shape, dtype=dtype, device="cpu")
        data = self._bytes(header)[stored.begin : stored.end]
        if stored.begin % dtype.itemsize:
            # The format asks for no alignment; a view does.
            data = data.clone()
        return data.view(dtype).reshape(stored.shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def _bytes(self, header: Header) -> torch.Tensor:
        import torch

        whole = self._files.get(header)
        if whole is None:
            size = header.path.stat().st_size
            if size < max(stored.end for stored in header.tensors.values()):
                raise TargetError(f"{header.path} has changed since its header was read")
            whole = torch.from_file(str(header.path), shared=False, size=size, dtype=torch.uint8)
            self._files[header] = whole
        return whole
