"""One entry of all parties, piece by piece: what keeps the averages' memory small and in cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

__all__ = ["Kernel", "Read", "as_it_is", "each_piece"]

Kernel = Callable[[Tensor, "list[Tensor]"], None]
"""Fills its first argument from the parties' values: all flat, of one length, dtype and device."""

Read = Callable[[Tensor], Tensor]
"""How a party's values come into memory: given a tensor, or a piece of one, it returns what holds its values."""

# On a CPU the pieces of the result and of one party fit into a core's second-level cache; on an accelerator a launch
# should be worth its while.
_CPU_PIECE = 1 << 16
_DEVICE_PIECE = 1 << 22


def as_it_is(value: Tensor) -> Tensor:
    """It is in memory."""
    return value


def each_piece(values: Sequence[Tensor], kernel: Kernel, read: Read = as_it_is) -> Tensor:
    """A tensor like the first of ``values`` (shape, dtype, device, memory format), filled by ``kernel``.

    Args:
        values: one tensor a party, of one shape and dtype; they may lie on different devices and in different memory
            formats, and are copied where they do. Complex ones reach the kernel as pairs of real numbers.
        kernel: called once for each piece.
        read: is called for each party's piece.
    """
    result = torch.empty_like(values[0])
    if result.is_complex():
        target, values = torch.view_as_real(result), [torch.view_as_real(value.resolve_conj()) for value in values]
    else:
        target = result
    # In the order of the result's memory, so that neither channels_last nor a transposed matrix costs a copy.
    order = sorted(range(target.dim()), key=target.stride, reverse=True)
    flat = target.permute(order).view(-1)
    parties = [value.to(flat.device).permute(order).reshape(-1) for value in values]
    step = _CPU_PIECE if flat.device.type == "cpu" else _DEVICE_PIECE
    for start in range(0, flat.numel(), step):
        piece = slice(start, start + step)
        kernel(flat[piece], [read(party[piece]) for party in parties])
    return result
