"""Two halves of one network, made by one function: what is said of one names the layers of that one."""

from __future__ import annotations

from pathlib import Path

import pytest

from bn_audit.audit import Selection, Versions, audit
from bn_audit.source.read import ReadOptions, read

_NETS = """\
from torch import nn


class Net(nn.Module):
    def __init__(self, place):
        super().__init__()
        if place == "client":
            self.first = nn.BatchNorm1d(8)
        if place == "server":
            self.second = nn.BatchNorm1d(8)


def half(place):
    return Net(place)
"""
_MAIN = """\
import copy

import torch
from torch import nn

from nets import half


class Trainer:
    def __init__(self, loaders):
        self.loaders = loaders
        self.clients = [half("client") for _ in loaders]
        self.server = half("server")
        self.optimizer = torch.optim.SGD(self.server.parameters(), lr=0.1)
        self.criterion = nn.CrossEntropyLoss()

    def average(self, states):
        total = copy.deepcopy(states[0])
        for key in total:
            for state in states[1:]:
                total[key] += state[key]
            total[key] = torch.div(total[key], len(states))
        return total

    def fit(self):
        for _ in range(10):
            for client, loader in zip(self.clients, self.loaders):
                client.train()
                for x, y in loader:
                    self.optimizer.zero_grad()
                    loss = self.criterion(self.server(client(x).detach()), y)
                    loss.backward()
                    self.optimizer.step()
                self.test(client, loader)
            shared = self.average([client.state_dict() for client in self.clients])
            for client in self.clients:
                client.load_state_dict(shared)

    def test(self, client, loader):
        client.eval()
        {server}
        with torch.no_grad():
            for x, y in loader:
                print(self.criterion(self.server(client(x)), y).item())


if __name__ == "__main__":
    Trainer([]).fit()
"""


@pytest.mark.parametrize(
    ("server", "code"), [("self.server.eval()", "BNA302"), ("pass", "BNA301")], ids=["trained in eval mode", "measured"]
)
def test_the_layers_are_those_of_the_half_in_the_wrong_mode(server: str, code: str, tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(_NETS)
    (tmp_path / "main.py").write_text(_MAIN.format(server=server))
    result = read([str(tmp_path)], options=ReadOptions(jobs=1))
    rows = audit(result.sites, result.unreadable, lambda _: Selection((code,)), lambda _: Versions())
    messages = [row.message for row in rows]
    assert len(messages) == 1
    assert "`second`" in messages[0]
    assert "`first`" not in messages[0]
