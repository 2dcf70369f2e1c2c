"""The models on which forms are tried: one for every dtype and shape, and some with several things at once."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import nn

__all__ = ["COMPOSED", "MODELS", "SINGLE"]

_DTYPES = (
    "float32",
    "float16",
    "bfloat16",
    "float64",
    "int64",
    "int32",
    "int16",
    "int8",
    "uint8",
    "bool",
    "complex64",
    "complex128",
)
_SHAPES = {"0-d": (), "1-d": (3,), "2-d": (2, 3), "empty": (0, 3)}


class Single(nn.Module):
    """A weight, one entry to look at, and another weight."""

    def __init__(self, dtype: str, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.zeros(2, 2))
        self.register_buffer("entry", torch.zeros(shape).to(getattr(torch, dtype)))
        self.last = nn.Parameter(torch.zeros(3))


class Several(nn.Module):
    """Members as they are given: tensors become buffers."""

    def __init__(self, **members: nn.Module | torch.Tensor) -> None:
        super().__init__()
        for name, member in members.items():
            if isinstance(member, (nn.Module, nn.Parameter)):
                setattr(self, name, member)
            else:
                self.register_buffer(name, member)


def _net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)))


def _mixed() -> nn.Module:
    return Several(
        flag=torch.ones(2, dtype=torch.bool),
        conv=nn.Conv2d(1, 3, 3),
        index=torch.arange(4, dtype=torch.int32),
        bn=nn.BatchNorm2d(3),
        brain=torch.zeros(3, dtype=torch.bfloat16),
        z=torch.zeros(3, dtype=torch.complex64),
        fc=nn.Linear(3, 2).double(),
    )


def _tied() -> nn.Module:
    a, b = nn.Linear(3, 3), nn.Linear(3, 3)
    b.weight = a.weight
    return Several(a=a, bn=nn.BatchNorm1d(3), b=b)


def _shared() -> nn.Module:
    norm = nn.BatchNorm1d(3)
    return nn.Sequential(nn.Linear(3, 3), norm, nn.Linear(3, 3), norm)


SINGLE: dict[str, Callable[[], nn.Module]] = {
    f"{dtype} {name}": partial(Single, dtype, shape) for dtype in _DTYPES for name, shape in _SHAPES.items()
}
COMPOSED: dict[str, Callable[[], nn.Module]] = {
    "net": _net,
    "half net": lambda: _net().half(),
    "brain net": lambda: _net().bfloat16(),
    "no norm": lambda: nn.Sequential(nn.Linear(3, 3), nn.GroupNorm(1, 3)),
    "norm without statistics": lambda: nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3, track_running_stats=False)),
    "norm without weights": lambda: nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3, affine=False)),
    "instance norm": lambda: nn.Sequential(nn.InstanceNorm2d(3, affine=True, track_running_stats=True)),
    "mixed": _mixed,
    "tied": _tied,
    "shared norm": _shared,
}
MODELS = {**SINGLE, **COMPOSED}
