"""The small network of the figures in README.md: ``bn-audit verify benchmarks/digits_cnn.py:SmallCNN --train``."""

from __future__ import annotations

from torch import Tensor, nn


class SmallCNN(nn.Module):
    """Two convolutions with BatchNorm, and a linear layer, for images of one channel and 8 by 8 pixels."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
        )
        self.head = nn.Linear(8 * width, 10)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(x))
        return logits
