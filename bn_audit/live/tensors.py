"""What a profile says of a tensor: shape, dtype and value."""

from __future__ import annotations

from typing import TypeGuard

from bn_audit.live.errors import require_torch
from bn_audit.profile import Shape

require_torch()

import torch  # noqa: E402
from torch.nn.parameter import is_lazy  # noqa: E402

from bn_audit.federated.dtypes import has_own_arithmetic  # noqa: E402

__all__ = ["dtype_name", "integer_value", "is_dense", "other_than_dense", "shape_of"]


def shape_of(tensor: torch.Tensor) -> Shape | None:
    """The dimensions; None for what has none yet (an uninitialised lazy parameter) or none at all (nested)."""
    if is_lazy(tensor) or tensor.is_nested:
        return None
    # Symbolic sizes of an exported program are not numbers.
    return tuple(size if isinstance(size, int) else None for size in tensor.shape)


def dtype_name(tensor: torch.Tensor) -> str:
    """``float32`` for ``torch.float32``."""
    return str(tensor.dtype).removeprefix("torch.")


def integer_value(tensor: torch.Tensor) -> int | None:
    """The value of a 0-d integer tensor; None for any other, and for one without data (meta, fake, lazy)."""
    if is_lazy(tensor) or tensor.is_nested or tensor.dim() or tensor.is_meta or tensor.is_quantized:
        return None
    if tensor.dtype is torch.bool or tensor.is_floating_point() or tensor.is_complex():
        return None
    try:
        return int(tensor)
    except RuntimeError:  # a fake tensor has a device, but no data
        return None


def other_than_dense(tensor: torch.Tensor) -> str | None:
    """What a tensor is that no array can be made of: ``torch.sparse_coo``, ``nested``, the name of a class that brings
    an arithmetic of its own (``DTensor``, ``MaskedTensor``); None if it is dense."""
    if is_lazy(tensor):
        return None
    if tensor.is_nested:
        return "nested"
    if has_own_arithmetic(tensor):
        return type(tensor).__name__
    return None if tensor.layout is torch.strided else str(tensor.layout)


def is_dense(value: object) -> TypeGuard[torch.Tensor]:
    """Whether something is a tensor that an array can be made of as it is."""
    return isinstance(value, torch.Tensor) and other_than_dense(value) is None
