"""Blocks whose width nobody has said: whether a shortcut is made hangs on how often it is the width, which is known."""

from __future__ import annotations

import types
from pathlib import Path

import pytest

from bn_audit.federation import AveragingSite
from bn_audit.source.read import ReadOptions, read

torch = pytest.importorskip("torch")

_MODEL = """\
from torch import nn


class Block(nn.Module):
    expansion = EXPANSION

    def __init__(self, inputs, planes, stride=1):
        super().__init__()
        self.conv = nn.Conv2d(inputs, planes * self.expansion, 3, stride)
        self.norm = nn.BatchNorm2d(planes * self.expansion)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != self.expansion * planes:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, self.expansion * planes, 1), nn.BatchNorm2d(planes))


class Net(nn.Module):
    def __init__(self, block, blocks, width):
        super().__init__()
        self.inputs = WIDTH
        self.layer1 = self._make(block, width * 1, blocks[0], 1)
        self.layer2 = self._make(block, width * 2, blocks[1], 2)
        self.layer3 = self._make(block, (width * 4) // 2, blocks[2], 1)

    def _make(self, block, planes, count, stride):
        layers = []
        for step in [stride] + [1] * (count - 1):
            layers.append(block(self.inputs, planes, step))
            self.inputs = planes * block.expansion
        return nn.Sequential(*layers)
"""
_OPTIONS = """\
import argparse

from model import Block, Net

parser = argparse.ArgumentParser()
parser.add_argument("--width", type=int, default=16)
args = parser.parse_args()

server = Net(Block, [2, 2, 1], args.width)
states = [Net(Block, [2, 2, 1], args.width).state_dict() for client in range(3)]
server.load_state_dict({key: sum(state[key] for state in states) / len(states) for key in states[0]})
"""
_SERVER = """\
from model import Block, Net


def federated(clients, width):
    server = Net(Block, [2, 2, 1], width)
    states = [Net(Block, [2, 2, 1], width).state_dict() for _ in clients]
    server.load_state_dict({key: sum(state[key] for state in states) / len(states) for key in states[0]})
"""


@pytest.mark.parametrize("server", [_SERVER, _OPTIONS], ids=["parameter", "option"])
@pytest.mark.parametrize("expansion", [1, 4])
@pytest.mark.parametrize("width", ["width", "width // 1", "3 * width // 3"])
def test_shortcuts_are_those_of_the_model(expansion: int, width: str, server: str, tmp_path: Path) -> None:
    source = _MODEL.replace("EXPANSION", str(expansion)).replace("WIDTH", width)
    (tmp_path / "model.py").write_text(source)
    (tmp_path / "server.py").write_text(server)
    module = types.ModuleType("model")
    exec(source, module.__dict__)
    keys = list(module.Net(module.Block, [2, 2, 1], 8).state_dict())
    (site,) = read([str(tmp_path)], options=ReadOptions(jobs=1)).sites
    assert isinstance(site, AveragingSite)
    assert {row.conditions for row in site.participants} == {()}
    assert [[entry.key for entry in row.profile.entries] for row in site.participants] == [keys] * len(
        site.participants
    )


def test_half_a_width_may_be_rounded(tmp_path: Path) -> None:
    """``width // 2 * 2`` is the width if that is even."""
    (tmp_path / "model.py").write_text(_MODEL.replace("EXPANSION", "1").replace("WIDTH", "width // 2 * 2"))
    (tmp_path / "server.py").write_text(_SERVER)
    sites = read([str(tmp_path)], options=ReadOptions(jobs=1)).sites
    assert {len(row.conditions) for site in sites if isinstance(site, AveragingSite) for row in site.participants} == {
        1
    }
