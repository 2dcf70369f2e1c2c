"""BatchNorms last, as SecretFlow's skip_bn needs them."""

from torch import nn


class SensorNet(nn.Module):
    def __init__(self, features=64, classes=6):
        super().__init__()
        self.hidden1 = nn.Linear(features, 128)
        self.hidden2 = nn.Linear(128, 64)
        self.head = nn.Linear(64, classes)
        self.norm1 = nn.BatchNorm1d(128)
        self.norm2 = nn.BatchNorm1d(64)
        self.act = nn.ReLU()

    def forward(self, x):
        x = self.act(self.norm1(self.hidden1(x)))
        x = self.act(self.norm2(self.hidden2(x)))
        return self.head(x)
