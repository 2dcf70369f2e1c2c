"""Models, and a stand-in for their training: other values in every entry, node and round."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

__all__ = ["Block", "Net", "Wide", "moved"]


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, width, 3)
        # 'bn' is in the name of what is none, and not in that of one that is.
        self.subnet = nn.Linear(width, width)
        self.downsample = nn.Sequential(nn.Conv2d(1, width, 1), nn.BatchNorm2d(width))


class Net(nn.Module):
    """BatchNorm nested, in the middle, at the end; one without statistics, and an InstanceNorm with some."""

    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.block = Block(width)
        self.bn = nn.BatchNorm1d(width)
        self.fc = nn.Linear(width, 2)
        self.bare = nn.BatchNorm1d(2, track_running_stats=False)
        self.instance = nn.InstanceNorm1d(2, track_running_stats=True)
        self.scale = nn.Parameter(torch.tensor(1.5))


class Wide(Net):
    def __init__(self) -> None:
        super().__init__(5)


def moved(model: Any, node: int, round_: int) -> None:
    """Values that no other node or round has."""
    generator = torch.Generator().manual_seed(1000 * node + round_)
    with torch.no_grad():
        for tensor in {id(t): t for t in model.state_dict(keep_vars=True).values()}.values():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5 + node)
            elif tensor.is_complex():
                drawn = torch.rand(tensor.shape, generator=generator)
                tensor.copy_(torch.complex(drawn, -drawn))
            elif tensor.dtype is torch.bool:
                tensor.copy_(torch.rand(tensor.shape, generator=generator) < 0.5)
            else:
                tensor.copy_(torch.randint(1, 90, tensor.shape, generator=generator))
