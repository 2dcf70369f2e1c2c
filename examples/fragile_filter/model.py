from torch import nn


class Block(nn.Module):
    def __init__(self, inside, outside):
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(outside)
        self.shortcut = nn.Sequential(nn.Conv2d(inside, outside, 1), nn.BatchNorm2d(outside))

    def forward(self, x):
        return (self.bn1(self.conv1(x)) + self.shortcut(x)).relu()


class SmallResNet(nn.Module):
    def __init__(self, classes=10):
        super().__init__()
        self.block = Block(3, 16)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(16, classes)

    def forward(self, x):
        return self.fc(self.pool(self.block(x)).flatten(1))
