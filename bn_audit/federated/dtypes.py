"""What an aggregator does with a dtype: nothing is cast that is not named here."""

from __future__ import annotations

import torch
from torch._subclasses.fake_tensor import FakeTensor

__all__ = ["AVERAGED", "INTEGERS", "dtype_name", "has_own_arithmetic"]


def _those_of(names: str) -> frozenset[torch.dtype]:
    """Those that this release of torch has."""
    return frozenset(getattr(torch, name) for name in names.split() if hasattr(torch, name))


AVERAGED = _those_of(
    "float64 float32 float16 bfloat16 float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz complex64 complex128"
)
"""Have a mean of their own dtype. Packed and quantised dtypes have none, nor has complex32 the arithmetic for one."""

INTEGERS = _those_of("bool uint8 int8 int16 int32 int64 uint16 uint32 uint64")
"""Have none that is again of their dtype: a policy says what becomes of them."""


def dtype_name(dtype: torch.dtype) -> str:
    """``float32``."""
    return str(dtype).removeprefix("torch.")


def has_own_arithmetic(value: torch.Tensor) -> bool:
    """Whether a tensor's class takes all operations to itself, as DTensor and MaskedTensor do: what it holds is not, or
    not only, an array of its shape and dtype. Fake tensors, which have no values, do so too, and do not count."""
    return type(value).__torch_dispatch__ is not torch.Tensor.__torch_dispatch__ and not isinstance(value, FakeTensor)
