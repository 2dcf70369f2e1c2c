"""Models that no reader can know as a whole: what is known of them must hold, and the rest must lie in a gap."""
import importlib
import json
import os
import random
import re

import torch
from torch import nn

PARTIAL = {
    "build_random_width": ["fc.weight", "fc.bias", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var",
                           "bn.num_batches_tracked"],
    "build_random_depth": ["stem.weight", "stem.bias", "body.0.weight", "body.0.bias", "body.1+.weight", "body.1+.bias",
                           "body.1+.running_mean", "body.1+.running_var", "body.1+.num_batches_tracked", "head.weight", "head.bias"],
    "build_json_config": ["0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked"],
    "build_evaluated": ["1.weight", "1.bias"],
    "build_unknown_attribute_name": ["?.weight", "?.bias", "?.running_mean", "?.running_var", "?.num_batches_tracked", "fc.weight", "fc.bias"],
    "build_unknown_buffer": ["weight"],
    "build_weight_norm": ["0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked"],
    "build_bias_unknown": ["0.weight", "1.weight", "1.bias"],
    "build_list_of_unknown_length": ["0.weight", "0.bias", "0.running_mean", "0.running_var", "0.num_batches_tracked"],
    "build_by_regular_expression": ["?.weight", "?.bias", "?.running_mean", "?.running_var", "?.num_batches_tracked", "last.weight", "last.bias"],
    "build_from_environment": ["norm.weight", "norm.bias", "norm.running_mean", "norm.running_var", "norm.num_batches_tracked", "head.weight", "head.bias"],
    "build_shuffled": [],
    "build_of_a_set": [],
}


class Net(nn.Module):
    def __init__(self, width, depth=0):
        super().__init__()
        self.fc = nn.Linear(3, width)
        self.bn = nn.BatchNorm1d(width)


def build_random_width():
    return Net(random.randint(2, 9))


class Deep(nn.Module):
    def __init__(self, depth):
        super().__init__()
        self.stem = nn.Linear(1, 2)
        self.body = nn.Sequential(*[m for _ in range(depth) for m in (nn.Linear(2, 2), nn.BatchNorm1d(2))])
        self.head = nn.Linear(2, 1)


def build_random_depth():
    return Deep(random.randint(1, 3))


def build_json_config():
    config = json.loads('{"norms": [2, 2]}')
    return nn.Sequential(nn.Linear(2, 2), *[nn.BatchNorm1d(n) for n in config["norms"]])


def build_dynamic_import():
    layer = importlib.import_module("torch.nn.modules.batchnorm").BatchNorm1d
    return nn.Sequential(layer(2), nn.Linear(2, 2))


def build_evaluated():
    return nn.Sequential(eval("nn.BatchNorm1d(3)"), nn.Linear(3, 3))


class Named(nn.Module):
    def __init__(self, name):
        super().__init__()
        setattr(self, name, nn.BatchNorm1d(2))
        self.fc = nn.Linear(2, 2)


def build_unknown_attribute_name():
    return Named(random.choice(["a", "b"]))


class Buffered(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2))
        self.register_buffer(random.choice("ab"), torch.zeros(2))


def build_unknown_buffer():
    return Buffered()


def build_weight_norm():
    return nn.Sequential(nn.utils.weight_norm(nn.Linear(2, 2)), nn.BatchNorm1d(2))


def build_bias_unknown():
    return nn.Sequential(nn.Linear(2, 2, bias=bool(random.getrandbits(1))), nn.Linear(2, 1))


def build_list_of_unknown_length():
    layers = []
    while len(layers) < random.randint(1, 3):
        layers.append(nn.BatchNorm1d(2))
    return nn.Sequential(*layers)


def build_by_regular_expression():
    net = nn.Sequential()
    for kind, number in re.findall(r"([a-z]+)(\d+)", "bn3 bn4"):
        net.add_module(kind + number, nn.BatchNorm1d(int(number)))
    net.add_module("last", nn.Linear(1, 1))
    return net


class FromEnvironment(nn.Module):
    def __init__(self):
        super().__init__()
        kinds = {"bn": nn.BatchNorm1d, "ln": nn.LayerNorm}
        self.norm = kinds.get(os.environ.get("NORM_OF_A_TEST", "bn"))(4)
        self.head = nn.Linear(4, 4)


def build_from_environment():
    return FromEnvironment()


def build_shuffled():
    layers = [nn.Linear(2, 2), nn.BatchNorm1d(2)]
    random.shuffle(layers)
    return nn.Sequential(*layers)


def build_of_a_set():
    return nn.ModuleDict({name: nn.BatchNorm1d(len(name)) for name in {"a", "bb", "ccc"}})
