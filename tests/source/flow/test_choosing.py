"""What is left out where a list is gone through: parties, of which each sends all, or entries of a state."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from bn_audit.audit import Selection, Versions, audit
from bn_audit.source.read import ReadOptions, read

_PROGRAM = """\
import copy

import numpy as np
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 8)
        self.bn = nn.BatchNorm1d(8)


def train(model, loader):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for x, y in loader:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model.state_dict(), len(loader)


def fedavg(states):
    average = copy.deepcopy(states[0])
    for key in average:
        for state in states[1:]:
            average[key] = average[key] + state[key]
        average[key] = average[key] / len(states)
    return average


"""
_SIMULATION = """\
def simulate(clients, rounds, bad):
    net = Net()
    for _ in range(rounds):
        states, sizes, updates = [], [], []
        for loader in clients:
            state, size = train(copy.deepcopy(net), loader)
            states.append(copy.deepcopy(state))
            sizes.append(size)
            updates.append({"state": state, "loss": size})
        %s
        net.load_state_dict(fedavg(states))
"""
PARTIES = {
    "that there are": "states = [state for state in states if state is not None]",
    "by place": "states = [state for i, state in enumerate(states) if i not in bad]",
    "by place, asked for": "states = [states[i] for i in range(len(states)) if i not in bad]",
    "by what comes with them": "states = [u['state'] for u in updates if u['loss'] < 2]",
    "by their sizes": "states = [state for state, size in zip(states, sizes) if size > 10]",
    "in a function": "states = chosen(states, bad)",
    "in a function that gives more": "states, left = parted(states, bad)",
    "in a list of a comprehension": "states = [s for s in [train(net, c)[0] for c in clients] if len(s) > 2]",
    "twice": "states = [s for s in states if s is not bad]\n        states = [s for s in states[:9] if s is not None]",
}
_CHOOSERS = """\
def chosen(states, bad):
    return [state for i, state in enumerate(states) if i not in bad]


def parted(states, bad):
    left = [state for i, state in enumerate(states) if i not in bad]
    return left, len(states) - len(left)


"""
_POSITIONS = """\
def simulate(clients, rounds, local):
    net = Net()
    for _ in range(rounds):
        rows = []
        for loader in clients:
            state, size = train(copy.deepcopy(net), loader)
            %s
            rows.append(entries)
        average = [torch.stack(same).float().mean(0) for same in zip(*rows)]
        net.load_state_dict(dict(zip(net.state_dict().keys(), average)))
"""
ENTRIES = {
    "a list of all, chosen by place": "entries = list(state.values())\n"
    "            entries = [entry for i, entry in enumerate(entries) if i not in local]",
    "at once": "entries = [entry for i, entry in enumerate(state.values()) if i not in local]",
    "a list that a loop fills": "held = []\n"
    "            for entry in state.values():\n"
    "                held.append(entry)\n"
    "            entries = [entry for i, entry in enumerate(held) if i not in local]",
    "by what they are": "held = [entry for key, entry in state.items()]\n"
    "            entries = [entry for entry in held if entry.dim() > 1]",
    "with their keys": "held = list(zip(state.keys(), state.values()))\n"
    "            entries = [pair[1] for pair in held if 'bn' not in pair[0]]",
}


def _codes(text: str, folder: Path) -> set[str]:
    (folder / "main.py").write_text(text, encoding="utf-8")
    result = read([str(folder)], options=ReadOptions(jobs=1))
    findings = audit(result.sites, result.unreadable, lambda _: Selection(("BNA2",)), lambda _: Versions())
    return {finding.code for finding in findings}


@pytest.mark.parametrize("form", PARTIES)
def test_parties_are_left_out_and_no_entry(form: str, tmp_path: Path) -> None:
    assert _codes(_PROGRAM + _CHOOSERS + _SIMULATION % PARTIES[form], tmp_path) == {"BNA202"}


@pytest.mark.parametrize("form", ENTRIES)
def test_entries_are_left_out(form: str, tmp_path: Path) -> None:
    """Which ones is not known, or BatchNorm's: nothing says that BatchNorm is averaged."""
    assert "BNA202" not in _codes(_PROGRAM + _POSITIONS % ENTRIES[form], tmp_path)


def test_without_a_condition_the_entries_are_averaged(tmp_path: Path) -> None:
    """What the tests above would find if a condition on entries were taken for one on parties."""
    assert _codes(_PROGRAM + _POSITIONS % "entries = list(state.values())", tmp_path) == {"BNA202"}


def test_a_state_that_may_have_gone_many_ways_through_conditions(tmp_path: Path) -> None:
    """Twenty conditions on entries, each of which may be passed or not, are a million ways: the trail is given up."""
    step = "        if bad[%d]:\n            state = {k: v for k, v in state.items() if k not in bad[%d]}\n"
    steps = "".join(step % (number, number) for number in range(20))
    body = f"""\
def simulate(clients, bad):
    net = Net()
    states = []
    for loader in clients:
        state, size = train(copy.deepcopy(net), loader)
{steps}        states.append(state)
    net.load_state_dict(fedavg(states), strict=False)
"""
    began = time.process_time()
    assert _codes(_PROGRAM + body, tmp_path) == set()
    assert time.process_time() - began < 20
