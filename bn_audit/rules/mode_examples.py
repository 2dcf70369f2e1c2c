"""Whole programs for the examples of the rules on modes, from the lines that matter."""

from __future__ import annotations

from bn_audit.rules.rule import Example

__all__ = ["mode_example"]

_MODEL = """\
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3)
        self.norm = {norm}
        self.fc = nn.Linear(8, 10)
"""
_CLIENT = """\
import flwr as fl
import torch

from model import Net


class Client(fl.client.NumPyClient):
    def __init__(self, train_loader, test_loader):
        self.model = Net()
        self.train_loader = train_loader
        self.test_loader = test_loader

    def set_parameters(self, parameters):
        state = {{key: torch.as_tensor(value) for key, value in zip(self.model.state_dict(), parameters)}}
        self.model.load_state_dict(state)

    def fit(self, parameters, config):
        self.set_parameters(parameters)
        optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
{train}        for x, y in self.train_loader:
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(self.model(x), y).backward()
            optimizer.step()
        return [value.numpy() for value in self.model.state_dict().values()], len(self.train_loader), {{}}

    def evaluate(self, parameters, config):
        self.set_parameters(parameters)
        correct = total = 0
{eval}        with torch.no_grad():
            for x, y in self.test_loader:
                correct += (self.model(x).argmax(1) == y).sum().item()
                total += len(y)
        return 0.0, total, {{"accuracy": correct / total}}


def main(train_loader, test_loader):
    client = Client(train_loader, test_loader)
    fl.client.start_client(server_address="server:8080", client=client.to_client())
"""


def mode_example(*, train: bool, eval: bool, norm: str = "nn.BatchNorm2d(8)") -> Example:
    """A client of Flower that trains and evaluates its model.

    Args:
        train: whether it calls ``train()`` before it trains.
        eval: whether it calls ``eval()`` before it evaluates.
        norm: the norm layer of the model.
    """
    client = _CLIENT.format(
        train="        self.model.train()\n" if train else "", eval="        self.model.eval()\n" if eval else ""
    )
    return Example((("client.py", client), ("model.py", _MODEL.format(norm=norm))))
