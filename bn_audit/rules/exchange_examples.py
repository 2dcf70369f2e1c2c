"""Whole programs for the examples of the rules on exchange, from the lines that matter."""

from __future__ import annotations

from bn_audit.rules.rule import Example

__all__ = ["NAMES", "NO_BATCHNORM", "OTHER_KEYS", "PARAMETERS", "flower_client", "message_client"]

_MODEL = """\
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3)
        self.bn = {norm}
{more}        self.fc = nn.Linear(8, 10)
"""
_FLOWER = """\
from collections import OrderedDict

import flwr as fl
import torch

from model import Net


class FlowerClient(fl.client.NumPyClient):
    def __init__(self, net, loader):
        self.net = net
        self.loader = loader

    def get_parameters(self, config):
        return {sends}

    def set_parameters(self, parameters):
        keys = {keys}
        state = OrderedDict({{key: {tensor} for key, array in zip(keys, parameters)}})
        self.net.load_state_dict(state, strict={strict})

    def fit(self, parameters, config):
        self.set_parameters(parameters)
        train(self.net, self.loader)
        return self.get_parameters(config), len(self.loader.dataset), {{}}


def train(net, loader):
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    net.train()
    for x, y in loader:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()


def client_fn(context):
    return FlowerClient(Net(), context.loader).to_client()
"""
_MESSAGE = """\
from flwr.app import ArrayRecord, Message, RecordDict
from flwr.clientapp import ClientApp

from model import Net

app = ClientApp()


@app.train()
def train(msg, context):
    model = Net()
    {load}
    run_epochs(model, context)
    arrays = {arrays}
    return Message(content=RecordDict({{"arrays": ArrayRecord(arrays)}}), reply_to=msg)
"""
NO_BATCHNORM = '[v.cpu().numpy() for k, v in self.net.state_dict().items() if "bn" not in k]'
OTHER_KEYS = '[k for k in self.net.state_dict() if "bn" not in k]'
PARAMETERS = "[p.detach().cpu().numpy() for p in self.net.parameters()]"
NAMES = "[name for name, _ in self.net.named_parameters()]"
_WHOLE = "[value.cpu().numpy() for value in self.net.state_dict().values()]"
_KEYS = "self.net.state_dict().keys()"


def flower_client(
    *,
    sends: str = _WHOLE,
    keys: str = _KEYS,
    tensor: str = "torch.as_tensor(array)",
    strict: bool = True,
    norm: str = "nn.BatchNorm2d(8)",
    more: str = "",
) -> Example:
    """A client whose state travels as a list of arrays.

    Args:
        sends: what it sends.
        keys: the keys that it gives what arrives.
        tensor: how it makes a tensor of an array.
        strict: whether every entry has to arrive.
        norm: the norm layer of its model.
        more: a further line of the model's ``__init__``.
    """
    client = _FLOWER.format(sends=sends, keys=keys, tensor=tensor, strict=strict)
    model = _MODEL.format(norm=norm, more=f"        {more}\n" if more else "")
    return Example((("client.py", client), ("model.py", model)))


def message_client(*, arrays: str = "model.state_dict()", load: str = "", norm: str = "nn.BatchNorm2d(8)") -> Example:
    """A client whose state travels by key.

    Args:
        arrays: what it sends.
        load: how it loads what arrives.
        norm: the norm layer of its model.
    """
    load = load or 'model.load_state_dict(msg.content["arrays"].to_torch_state_dict())'
    client = _MESSAGE.format(arrays=arrays, load=load)
    return Example((("client.py", client), ("model.py", _MODEL.format(norm=norm, more=""))))
