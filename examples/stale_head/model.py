"""The network of SecretFlow's own FedBN test has this order: convolution, BatchNorm, linear layer."""

from secretflow_fl.ml.nn.core.torch import BaseModule
from torch import nn
from torch.nn import functional as F


class DigitNet(BaseModule):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 8, kernel_size=3)
        self.bn = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8 * 13 * 13, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn(self.conv(x))), 2)
        return self.fc(x.view(x.size(0), -1))
