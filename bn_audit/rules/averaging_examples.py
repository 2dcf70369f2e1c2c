"""Whole programs for the examples of the rules on averaging, from the lines that matter."""

from __future__ import annotations

from bn_audit.rules.rule import Example

__all__ = ["averaging_example", "fedbn_example", "server_step_example"]

_MODEL = """\
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3)
        self.bn = {norm}
{more}        self.fc = nn.Linear(8, 10)
"""
_SERVER = """\
import copy

import torch

from model import Net


{average}

def train(model, loader):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for x, y in loader:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model{result}


def main(loaders, rounds=10):
    global_model = Net()
    for _ in range(rounds):
        states = [train(copy.deepcopy(global_model), loader) for loader in loaders]
        {load}
"""
_LOOP = """\
def average_states(states):
    weight = 1 / len(states)
    average = {{key: torch.zeros_like(value) for key, value in states[0].items()}}
    for key in average:
{skip}        for state in states:
            {line}
    return average
"""
_STACK = """\
def average_states(states):
    return {key: torch.stack([state[key] for state in states]).mean(0) for key in states[0]}
"""
_PARAMETERS = """\
def average_into(model, models):
    for parameter in model.parameters():
        parameter.data.zero_()
    for other in models:
        for parameter, theirs in zip(model.parameters(), other.parameters()):
            parameter.data += theirs.data / len(models)
"""


def averaging_example(
    line: str = "", *, form: str = "loop", norm: str = "nn.BatchNorm2d(8)", more: str = "", skip: str = ""
) -> Example:
    """A server that averages the states its parties return, and loads the result.

    Args:
        line: what adds one party's entry, in the loop over the states.
        form: ``loop``, ``stack``, or ``parameters`` for an averaging in place.
        norm: the norm layer of the model.
        more: a further line of the model's ``__init__``.
        skip: a condition under which a key is left out of the loop.
    """
    skipped = f"        {skip}\n            continue\n" if skip else ""
    average = {
        "loop": _LOOP.format(skip=skipped, line=line),
        "stack": _STACK,
        "parameters": _PARAMETERS,
    }[form]
    in_place = form == "parameters"
    load = "average_into(global_model, states)" if in_place else "global_model.load_state_dict(average_states(states))"
    server = _SERVER.format(average=average, result="" if in_place else ".state_dict()", load=load)
    model = _MODEL.format(norm=norm, more=f"        {more}\n" if more else "")
    return Example((("server.py", server), ("model.py", model)))


_FEDBN = """\
import copy

import torch

from bn_audit.federated import FedBNAggregator, load_shared
from model import Net


def train(model, loader):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for x, y in loader:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()


def main(loaders, rounds=10):
    model = Net()
    clients = [copy.deepcopy(model) for _ in loaders]
    for _ in range(rounds):
        aggregator = FedBNAggregator.from_module(model)
        for client, loader in zip(clients, loaders):
            train(client, loader)
            aggregator.add(client.state_dict(), weight=len(loader))
        shared = aggregator.result()
        for client in clients:
            load_shared(client, shared)
"""


def fedbn_example() -> Example:
    """The same federation, whose clients live on and keep their BatchNorm."""
    return Example((("server.py", _FEDBN), ("model.py", _MODEL.format(norm="nn.BatchNorm2d(8)", more=""))))


_STEP = """\
import copy

import torch

from model import Net


def average_states(states):
    return {{key: sum(state[key] for state in states) / len(states) for key in states[0]}}


def server_round(model, clients, momentum):
    before = copy.deepcopy(model.state_dict())
    average = average_states([client.state_dict() for client in clients])
    for key in average:
{lines}
    model.load_state_dict(average)


def main(rounds=10):
    model = Net()
    momentum = {{key: torch.zeros_like(value) for key, value in model.state_dict().items()}}
    for _ in range(rounds):
        server_round(model, [Net() for _ in range(3)], momentum)
"""


def server_step_example(*lines: str, norm: str = "nn.BatchNorm2d(8)") -> Example:
    """A server that does something to every entry of the average before it loads it.

    Args:
        lines: what it does, in a loop over the keys.
        norm: the norm layer of the model.
    """
    server = _STEP.format(lines="\n".join(f"        {line}" for line in lines))
    return Example((("server.py", server), ("model.py", _MODEL.format(norm=norm, more=""))))
