"""Small models for digits, and data that is learnt in no time."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bn_audit.live.training.data import Data, parties_of

__all__ = ["Last", "Middle", "points"]


class Middle(nn.Module):
    """Convolution, BatchNorm, head: with skip_bn the head is stale."""

    def __init__(self, width: int = 8, classes: int = 10) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, width, 3, padding=1)
        self.bn = nn.BatchNorm2d(width)
        self.fc = nn.Linear(16 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(F.max_pool2d(torch.relu(self.bn(self.conv(x))), 2).flatten(1))
        return out


class Last(Middle):
    """The same network, BatchNorm registered last: with skip_bn it is FedBN."""

    def __init__(self, width: int = 8, classes: int = 10) -> None:
        super().__init__(width, classes)
        bn = self.bn
        del self.bn
        self.bn = bn


class Flat(nn.Module):
    """For vectors of two numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(2)
        self.fc = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(self.bn(x))
        return out


def points(sizes: tuple[int, ...] = (20, 40)) -> Data:
    """Two classes of points, apart along the first axis; each party has them elsewhere."""

    def draw(seed: int) -> dict[str, tuple[tuple[Tensor, Tensor], ...]]:
        generator = torch.Generator().manual_seed(seed)
        parties = {}
        for number, size in enumerate(sizes):
            sets = []
            for _ in range(2):
                labels = torch.arange(size) % 2
                inputs = torch.randn((size, 2), generator=generator) * 0.2 + 3.0 * number
                inputs[:, 0] += labels
                sets.append((inputs, labels))
            parties[f"party {number}"] = tuple(sets)
        return parties

    return Data("points", lambda seed: parties_of("points", draw(seed)))
