"""One entry of all parties, piece by piece: what keeps the averages' memory small and in cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from bn_audit.federated.memory import empty_like

__all__ = ["Kernel", "Read", "as_it_is", "each_piece"]

Kernel = Callable[[Tensor, "list[Tensor]"], None]
"""Fills its first argument from the parties' values: all flat, of one length, dtype and device."""

Read = Callable[[Tensor], Tensor]
"""How a party's values come into memory: given a tensor, or a piece of one, it returns what holds its values."""

# On an accelerator a launch should be worth its while.
_DEVICE_PIECE = 1 << 22


def as_it_is(value: Tensor) -> Tensor:
    """It is in memory."""
    return value


def each_piece(values: Sequence[Tensor], kernel: Kernel, length: int) -> Tensor:
    """A tensor like the first of ``values`` (shape, dtype, device, memory format), filled by ``kernel``.

    Args:
        values: one tensor a party, of one shape and dtype; they may lie on different devices and in different memory
            formats, and are copied where they do. Complex ones reach the kernel as pairs of real numbers.
        kernel: called once for each piece.
        length: of a piece, in elements, on a CPU.
    """
    result = empty_like(values[0])
    if result.is_complex():
        target, values = torch.view_as_real(result), [torch.view_as_real(value.resolve_conj()) for value in values]
    else:
        target = result
    device = target.device
    values = [value if value.device == device else value.to(device) for value in values]
    flat, *parties = _in_memory_order(target, values)
    if device.type != "cpu":
        length = _DEVICE_PIECE
    for start in range(0, flat.numel(), length):
        piece = slice(start, start + length)
        kernel(flat[piece], [party[piece] for party in parties])
    return result


def _in_memory_order(target: Tensor, values: Sequence[Tensor]) -> list[Tensor]:
    """The target and the values as vectors, so that neither channels_last nor a transposed matrix costs a copy."""
    if target.is_contiguous():
        return [target.view(-1), *(value.reshape(-1) for value in values)]
    order = sorted(range(target.dim()), key=target.stride, reverse=True)
    return [target.permute(order).view(-1), *(value.permute(order).reshape(-1) for value in values)]
