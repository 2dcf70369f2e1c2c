"""Averages as people write them: each is read, and run. What is said of it has to be what it does.

Every program is the same but for its `average`, and that is given the states of three models.
"""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest

from bn_audit.audit import Selection, Versions, audit
from bn_audit.source.read import ReadOptions, read

torch = pytest.importorskip("torch")

_MODEL = """\
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3)
        self.bn = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 10)
"""
_SERVER = """\
import copy
import functools
import operator
from collections import OrderedDict, defaultdict
from functools import reduce

import numpy as np
import torch
import torch.nn.functional as F

from model import Net


def train(model, loader):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for x, y in loader:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model.state_dict()


def main(loaders, rounds=10):
    global_model = Net()
    sizes = [len(loader.dataset) for loader in loaders]
    for _ in range(rounds):
        states = []
        for loader in loaders:
            local = copy.deepcopy(global_model)
            states.append(train(local, loader))
        global_model.load_state_dict(average(states, sizes))


"""
_AVERAGES = {
    "the first by its number": """\
def average(states, sizes):
    total = None
    for i, state in enumerate(states):
        if i == 0:
            total = copy.deepcopy(state)
        else:
            for k in total:
                total[k] += state[k]
    return {k: v / len(states) for k, v in total.items()}
""",
    "the first where there is nothing yet": """\
def average(states, sizes):
    total = {}
    for state in states:
        if len(total) > 0:
            for k in total:
                total[k] += state[k]
        else:
            total = copy.deepcopy(state)
    return {k: torch.div(v, len(states)) for k, v in total.items()}
""",
    "the counter made whole": """\
def average(states, sizes):
    out = {k: torch.zeros_like(v) for k, v in states[0].items()}
    for state, n in zip(states, sizes):
        for k in out:
            if out[k].is_floating_point():
                out[k].add_(state[k] * (n / sum(sizes)))
            else:
                out[k].add_((state[k] * (n / sum(sizes))).to(torch.int64))
    return out
""",
    "all made whole, in words": """\
def average(states, sizes):
    out = copy.deepcopy(states[0])
    for k in out:
        out[k] = torch.stack([s[k].to(dtype=torch.float32) for s in states]).mean(0)
        if "num_batches" in k:
            out[k] = out[k].type(torch.int64)
    return out
""",
    "sum gen": """\
def average(states, sizes):
    total = sum(sizes)
    return {k: sum(n / total * s[k] for n, s in zip(sizes, states)) for k in states[0]}
""",
    "sum loop": """\
def average(states, sizes):
    total = sum(sizes)
    out = OrderedDict()
    for k in states[0].keys():
        out[k] = sum(w * s[k] for w, s in zip([n / total for n in sizes], states))
    return out
""",
    "reduce lambda": """\
def average(states, sizes):
    out = {}
    for k in states[0]:
        out[k] = reduce(lambda x, y: x + y, [s[k] * n for s, n in zip(states, sizes)]) / sum(sizes)
    return out
""",
    "reduce add": """\
def average(states, sizes):
    out = {}
    for k in states[0]:
        out[k] = functools.reduce(operator.add, [s[k] for s in states]) / len(states)
    return out
""",
    "reduce np add": """\
def average(states, sizes):
    out = {}
    for k in states[0]:
        out[k] = torch.from_numpy(reduce(np.add, [s[k].numpy() * n for s, n in zip(states, sizes)]) / sum(sizes))
    return out
""",
    "np mean": """\
def average(states, sizes):
    return {k: torch.tensor(np.mean([s[k].cpu().numpy() for s in states], axis=0)) for k in states[0]}
""",
    "np average": """\
def average(states, sizes):
    return {k: torch.from_numpy(np.average([s[k].numpy() for s in states], axis=0, weights=sizes)) for k in states[0]}
""",
    "stack mean": """\
def average(states, sizes):
    return {k: torch.stack([s[k].float() for s in states]).mean(dim=0) for k in states[0]}
""",
    "stack cat": """\
def average(states, sizes):
    return {k: torch.mean(torch.cat([s[k].float().unsqueeze(0) for s in states], dim=0), dim=0) for k in states[0]}
""",
    "einsum": """\
def average(states, sizes):
    w = torch.tensor(sizes, dtype=torch.float32); w = w / w.sum()
    return {k: torch.einsum('i,i...->...', w, torch.stack([s[k].float() for s in states])) for k in states[0]}
""",
    "tensordot": """\
def average(states, sizes):
    w = torch.tensor(sizes, dtype=torch.float32); w /= w.sum()
    return {k: torch.tensordot(w, torch.stack([s[k].float() for s in states]), dims=1) for k in states[0]}
""",
    "deepcopy loop": """\
def average(states, sizes):
    avg = copy.deepcopy(states[0])
    for k in avg.keys():
        for i in range(1, len(states)):
            avg[k] += states[i][k]
        avg[k] = torch.div(avg[k], len(states))
    return avg
""",
    "counter not divided": """\
def average(states, sizes):
    avg = copy.deepcopy(states[0])
    for state in states[1:]:
        for k in avg:
            avg[k] += state[k]
    for k in avg:
        if "num_batches_tracked" in k:
            continue
        avg[k] /= len(states)
    return avg
""",
    "counter not divided in the same turn": """\
def average(states, sizes):
    avg = copy.deepcopy(states[0])
    for k in avg:
        for state in states[1:]:
            avg[k] += state[k]
        if "num_batches_tracked" in k:
            continue
        avg[k] /= len(states)
    return avg
""",
    "floats divided": """\
def average(states, sizes):
    avg = copy.deepcopy(states[0])
    for state in states[1:]:
        for k in avg:
            avg[k] += state[k]
    for k in avg:
        if avg[k].dtype.is_floating_point:
            avg[k].div_(len(states))
    return avg
""",
    "counter divided otherwise": """\
def average(states, sizes):
    avg = copy.deepcopy(states[0])
    for k in avg:
        for state in states[1:]:
            avg[k] += state[k]
        if avg[k].dtype == torch.int64:
            avg[k] = avg[k] // len(states)
        else:
            avg[k] /= len(states)
    return avg
""",
    "divided where it is added": """\
def average(states, sizes):
    avg = copy.deepcopy(states[0])
    for k in avg:
        if "fc" not in k:
            for state in states[1:]:
                avg[k] += state[k]
            avg[k] /= len(states)
    return avg
""",
    "zero then add": """\
def average(states, sizes):
    avg = {k: torch.zeros_like(v, dtype=torch.float32) for k, v in states[0].items()}
    for s, n in zip(states, sizes):
        for k, v in s.items():
            avg[k] += v * (n / sum(sizes))
    return avg
""",
    "defaultdict": """\
def average(states, sizes):
    avg = defaultdict(float)
    for s, n in zip(states, sizes):
        for k in s:
            avg[k] = avg[k] + s[k] * n / sum(sizes)
    return dict(avg)
""",
    "get default": """\
def average(states, sizes):
    avg = {}
    for s, n in zip(states, sizes):
        for k, v in s.items():
            avg[k] = avg.get(k, 0) + v * n
    for k in avg: avg[k] = avg[k] / sum(sizes)
    return avg
""",
    "setdefault list": """\
def average(states, sizes):
    buckets = {}
    for s in states:
        for k, v in s.items():
            buckets.setdefault(k, []).append(v)
    return {k: torch.stack([v.float() for v in vs]).mean(0) for k, vs in buckets.items()}
""",
    "defaultdict list": """\
def average(states, sizes):
    buckets = defaultdict(list)
    for s in states:
        for k, v in s.items():
            buckets[k].append(v.float())
    return {k: sum(vs) / len(vs) for k, vs in buckets.items()}
""",
    "zip items": """\
def average(states, sizes):
    out = OrderedDict()
    for items in zip(*[s.items() for s in states]):
        key = items[0][0]
        out[key] = torch.stack([v.float() for _, v in items]).mean(0)
    return out
""",
    "zip values": """\
def average(states, sizes):
    keys = states[0].keys()
    values = [torch.stack([v.float() for v in vs], 0).mean(0) for vs in zip(*(s.values() for s in states))]
    return dict(zip(keys, values))
""",
    "try first": """\
def average(states, sizes):
    avg = None
    for s, n in zip(states, sizes):
        w = n / sum(sizes)
        if avg is None:
            avg = {k: v * w for k, v in s.items()}
        else:
            for k in avg:
                avg[k] += s[k] * w
    return avg
""",
    "running mean": """\
def average(states, sizes):
    avg = copy.deepcopy(states[0])
    for i, s in enumerate(states[1:], start=2):
        for k in avg:
            avg[k] = avg[k] + (s[k] - avg[k]) / i
    return avg
""",
    "listcomp tensor sum": """\
def average(states, sizes):
    out = {}
    for k in states[0]:
        out[k] = torch.sum(torch.stack([s[k] * (n / sum(sizes)) for s, n in zip(states, sizes)]), dim=0)
    return out
""",
    "inplace copy": """\
def average(states, sizes):
    out = copy.deepcopy(states[0])
    with torch.no_grad():
        for k in out:
            acc = torch.zeros_like(out[k], dtype=torch.float)
            for s, n in zip(states, sizes):
                acc += s[k] * (n / sum(sizes))
            out[k].copy_(acc)
    return out
""",
    "while index": """\
def average(states, sizes):
    out = {}
    keys = list(states[0])
    for key in keys:
        total = 0
        for idx in range(len(states)):
            total = total + states[idx][key] * sizes[idx]
        out[key] = total / sum(sizes)
    return out
""",
    "pop first": """\
def average(states, sizes):
    first, *rest = states
    out = {k: v.clone() for k, v in first.items()}
    for s in rest:
        for k in out:
            out[k] = out[k] + s[k]
    return {k: v / len(states) for k, v in out.items()}
""",
    "mean statistics": """\
def average(states, sizes):
    out = {}
    for name in states[0]:
        params = [s[name] for s in states]
        if params[0].is_floating_point():
            out[name] = torch.stack(params).mean(0)
        else:
            out[name] = params[0]
    return out
""",
    "numpy lists": """\
def to_arrays(sd): return [v.cpu().numpy() for v in sd.values()]
def average(states, sizes):
    arrays = [to_arrays(s) for s in states]
    weighted = [[layer * n for layer in a] for a, n in zip(arrays, sizes)]
    mean = [reduce(np.add, layers) / sum(sizes) for layers in zip(*weighted)]
    return OrderedDict((k, torch.tensor(v)) for k, v in zip(states[0].keys(), mean))
""",
    "map in a stack": """\
def average(states, sizes):
    return {k: torch.stack(list(map(lambda s: s[k].float(), states))).mean(0) for k in states[0]}
""",
    "a tuple in a stack": """\
def average(states, sizes):
    return {k: torch.stack(tuple(s[k].float() for s in states)).mean(0) for k in states[0]}
""",
    "the mean of an array": """\
def average(states, sizes):
    return {k: torch.tensor(np.array([s[k].numpy() for s in states]).mean(axis=0)) for k in states[0]}
""",
    "weights broadcast over a stack": """\
def average(states, sizes):
    w = torch.tensor(sizes, dtype=torch.float) / sum(sizes)
    out = {}
    for k in states[0]:
        st = torch.stack([s[k].float() for s in states])
        out[k] = (w.view(-1, *([1] * (st.dim() - 1))) * st).sum(0)
    return out
""",
    "add as a method": """\
def average(states, sizes):
    out = {}
    for k in states[0]:
        acc = torch.zeros_like(states[0][k], dtype=torch.float32)
        for s in states:
            acc = acc.add(s[k])
        out[k] = acc.div(len(states))
    return out
""",
    "torch add with alpha": """\
def average(states, sizes):
    out = {}
    for k in states[0]:
        acc = torch.zeros_like(states[0][k], dtype=torch.float32)
        for s, n in zip(states, sizes):
            acc = torch.add(acc, s[k], alpha=n / sum(sizes))
        out[k] = acc
    return out
""",
    "a mean that is kept up to date": """\
def average(states, sizes):
    avg = copy.deepcopy(states[0])
    for i, s in enumerate(states[1:], 1):
        for k in avg:
            avg[k] = (avg[k] * i + s[k]) / (i + 1)
    return avg
""",
    "the same, divided by a function": """\
def average(states, sizes):
    avg = None
    count = 0
    for s in states:
        if avg is None:
            avg = copy.deepcopy(s)
        else:
            for k in avg:
                avg[k] = torch.div(avg[k] * count + s[k], count + 1)
        count += 1
    return avg
""",
    "the same, by sizes that add up": """\
def average(states, sizes):
    avg = {k: v.float() for k, v in states[0].items()}
    total = sizes[0]
    for s, n in zip(states[1:], sizes[1:]):
        for k in avg:
            avg[k] = (avg[k] * total + s[k] * n) / (total + n)
        total += n
    return avg
""",
    "lerp by a share that falls": """\
def average(states, sizes):
    avg = copy.deepcopy(states[0])
    for i, s in enumerate(states[1:], 1):
        for k in avg:
            avg[k] = torch.lerp(avg[k].float(), s[k].float(), 1 / (i + 1))
    return avg
""",
    "lerp in place": """\
def average(states, sizes):
    avg = {k: v.float() for k, v in states[0].items()}
    for i, s in enumerate(states[1:], 1):
        for k in avg:
            avg[k].lerp_(s[k].float(), 1 / (i + 1))
    return avg
""",
    "scaled and added to in place": """\
def average(states, sizes):
    avg = copy.deepcopy(states[0])
    for i, s in enumerate(states[1:], 1):
        for k in avg:
            if avg[k].is_floating_point():
                avg[k].mul_(i / (i + 1)).add_(s[k], alpha=1 / (i + 1))
    return avg
""",
    "the median of a stack": """\
def average(states, sizes):
    return {k: torch.median(torch.stack([s[k].float() for s in states]), dim=0).values for k in states[0]}
""",
    "a trimmed mean": """\
def average(states, sizes):
    out = {}
    for k in states[0]:
        stacked = torch.stack([s[k].float() for s in states], dim=0)
        ordered, _ = torch.sort(stacked, dim=0)
        out[k] = ordered[1:-1].mean(dim=0)
    return out
""",
    "nanmean": """\
def average(states, sizes):
    return {k: torch.nanmean(torch.stack([s[k].float() for s in states]), 0) for k in states[0]}
""",
    "a stack that is converted": """\
def average(states, sizes):
    return {k: torch.stack([s[k] for s in states]).float().mean(0) for k in states[0]}
""",
    "a stack that is converted, by a function": """\
def average(states, sizes):
    return {k: torch.mean(torch.stack([s[k] for s in states]).float(), dim=0) for k in states[0]}
""",
    "a stack that is converted where it is reduced": """\
def average(states, sizes):
    out = {}
    for k in states[0]:
        stacked = torch.stack([s[k] for s in states])
        out[k] = stacked.float().mean(0)
    return out
""",
    "a stack that is converted where it is bound": """\
def average(states, sizes):
    out = {}
    for k in states[0]:
        stacked = torch.stack([s[k] for s in states]).float()
        out[k] = stacked.mean(0)
    return out
""",
    "a stack that is converted in a step of its own": """\
def average(states, sizes):
    out = {}
    for k in states[0]:
        stacked = torch.stack([s[k] for s in states])
        stacked = stacked.float()
        out[k] = torch.mean(stacked, dim=0)
    return out
""",
    "a mean that converts": """\
def average(states, sizes):
    return {k: torch.stack([s[k] for s in states]).mean(0, dtype=torch.float) for k in states[0]}
""",
    "a trimmed mean of a stack that is converted": """\
def average(states, sizes):
    return {k: torch.sort(torch.stack([s[k] for s in states]).float(), 0).values[1:-1].mean(0) for k in states[0]}
""",
    "a stack that nobody converts": """\
def average(states, sizes):
    out = {}
    for k in states[0]:
        stacked = torch.stack([s[k] for s in states])
        out[k] = torch.mean(stacked, dim=0)
    return out
""",
    "sums of what is zipped": """\
def average(states, sizes):
    lists = [[v.float() for v in s.values()] for s in states]
    return OrderedDict(zip(states[0].keys(), [sum(p) / len(p) for p in zip(*lists)]))
""",
    "pairs of key and mean": """\
def average(states, sizes):
    return OrderedDict([(k, sum(s[k] for s in states) / len(states)) for k in states[0].keys()])
""",
    "a function that weighs a list": """\
def weighted(tensors, sizes):
    total = sum(sizes)
    return sum(t * (n / total) for t, n in zip(tensors, sizes))
def average(states, sizes):
    return {k: weighted([s[k] for s in states], sizes) for k in states[0]}
""",
    "a function that averages a list": """\
def mean(tensors):
    return torch.stack([t.float() for t in tensors]).mean(0)
def average(states, sizes):
    out = {}
    for k in states[0]:
        out[k] = mean([s[k] for s in states])
    return out
""",
    "the first party, then the rest": """\
def average(states, sizes):
    out = OrderedDict((k, v * sizes[0]) for k, v in states[0].items())
    for s, n in zip(states[1:], sizes[1:]):
        for k, v in s.items():
            out[k] = out[k] + v * n
    return OrderedDict((k, v / sum(sizes)) for k, v in out.items())
""",
    "states added by a method": """\
class Server:
    def add(self, a, b):
        return {k: a[k] + b[k] for k in a}
    def run(self, states):
        total = states[0]
        for s in states[1:]:
            total = self.add(total, s)
        return {k: v / len(states) for k, v in total.items()}
def average(states, sizes):
    return Server().run(states)
""",
    "states added by a static method, the first as it is": """\
class Ops:
    @staticmethod
    def add(a, b):
        out = OrderedDict()
        for k in a.keys():
            out[k] = a[k] + b[k]
        return out
    @staticmethod
    def mul(a, c):
        return OrderedDict((k, v * c) for k, v in a.items())
def average(states, sizes):
    total = None
    for s, n in zip(states, sizes):
        scaled = Ops.mul(s, n / sum(sizes))
        total = scaled if total is None else Ops.add(total, scaled)
    return total
""",
    "a function that adds to what it is given, and gives it back": """\
def add_to(acc, s, w):
    for k in s:
        acc[k] = acc[k] + s[k] * w
    return acc
def average(states, sizes):
    acc = {k: torch.zeros_like(v, dtype=torch.float32) for k, v in states[0].items()}
    for s, n in zip(states, sizes):
        acc = add_to(acc, s, n / sum(sizes))
    return acc
""",
    "a function that adds to a copy": """\
def add(a, b):
    c = copy.deepcopy(a)
    for key in c:
        c[key] += b[key]
    return c
def average(states, sizes):
    total = states[0]
    for i in range(1, len(states)):
        total = add(total, states[i])
    for k in total: total[k] = total[k] / len(states)
    return total
""",
    "reduce, with the first to begin with": """\
def add(a, b):
    return {k: torch.add(v, b[k]) for k, v in a.items()}
def average(states, sizes):
    total = reduce(add, states[1:], states[0])
    return {k: v / len(states) for k, v in total.items()}
""",
    "whole states added by reduce": """\
def average(states, sizes):
    total = reduce(lambda a, b: {k: a[k] + b[k] for k in a}, states)
    return {k: v / len(states) for k, v in total.items()}
""",
    "a function that is called by the one that reduces": """\
def add(a, b): return {k: a[k] + b[k] for k in a}
def scale(a, c): return {k: v * c for k, v in a.items()}
def average(states, sizes):
    return scale(reduce(lambda a, b: add(a, b), states), 1 / len(states))
""",
    "lists added by a function": """\
def add(xs, ys): return [x + y for x, y in zip(xs, ys)]
def average(states, sizes):
    total = [torch.zeros_like(v, dtype=torch.float32) for v in states[0].values()]
    for s in states:
        total = add(total, s.values())
    return dict(zip(states[0].keys(), [t / len(states) for t in total]))
""",
    "a weight for what a function adds": """\
def add(a, b, weight=1.0): return {k: a[k] + weight * b[k] for k in a}
def average(states, sizes):
    total = {k: torch.zeros_like(v, dtype=torch.float32) for k, v in states[0].items()}
    for s, n in zip(states, sizes):
        total = add(total, b=s, weight=n / sum(sizes))
    return total
""",
    "a function inside, that is given the key": """\
def average(states, sizes):
    total = sum(sizes)
    def mean(k):
        return sum(n / total * s[k] for n, s in zip(sizes, states))
    return {k: mean(k) for k in states[0]}
""",
    "a function that is given the key": """\
def mean_of(key, states):
    return sum(s[key] for s in states) / len(states)
def average(states, sizes):
    return {k: mean_of(k, states) for k in states[0]}
""",
    "a function that is given the key, and stacks": """\
def avg_layer(states, layer):
    return torch.stack([s[layer].float() for s in states]).mean(0)
def average(states, sizes):
    out = {}
    for layer in states[0].keys():
        out[layer] = avg_layer(states, layer)
    return out
""",
    "a function that is given the key, and adds up": """\
def layer_mean(name, states, sizes):
    total = torch.zeros_like(states[0][name], dtype=torch.float32)
    for s, n in zip(states, sizes):
        total += s[name] * n / sum(sizes)
    return total
def average(states, sizes):
    return OrderedDict((name, layer_mean(name, states, sizes)) for name in states[0])
""",
    "a sum that is updated with each party": """\
def average(states, sizes):
    avg = {}
    for s, n in zip(states, sizes):
        avg.update({k: avg.get(k, 0) + s[k] * n / sum(sizes) for k in s})
    return avg
""",
    "a sum that is made anew with each party": """\
def average(states, sizes):
    avg = {k: 0 for k in states[0]}
    for s, n in zip(states, sizes):
        avg = {k: avg[k] + s[k] * n / sum(sizes) for k in avg}
    return avg
""",
    "a sum that is made anew of its items": """\
def average(states, sizes):
    avg = states[0]
    for s in states[1:]:
        avg = {k: v + s[k] for k, v in avg.items()}
    return {k: v / len(states) for k, v in avg.items()}
""",
    "a sum that is made anew, in order": """\
def average(states, sizes):
    avg = OrderedDict((k, torch.zeros_like(v)) for k, v in states[0].items())
    for s, n in zip(states, sizes):
        avg = OrderedDict({k: avg[k] + s[k] * n / sum(sizes) for k in avg})
    return avg
""",
    "a list of sums that is made anew": """\
def average(states, sizes):
    avg = [0.0] * len(states[0])
    for s in states:
        avg = [a + v for a, v in zip(avg, s.values())]
    return dict(zip(states[0], [a / len(states) for a in avg]))
""",
    "keys zipped with the values of all": """\
def average(states, sizes):
    out = {}
    for key, *values in zip(states[0].keys(), *[s.values() for s in states]):
        out[key] = sum(values) / len(values)
    return out
""",
    "shares in a list, zipped, as alpha": """\
def average(states, sizes):
    total = sum(sizes)
    weights = [n / total for n in sizes]
    out = {k: torch.zeros_like(v) for k, v in states[0].items()}
    for s, w in zip(states, weights):
        for k in out:
            out[k].add_(s[k], alpha=w)
    return out
""",
    "a list of equal shares, picked, as alpha": """\
def average(states, sizes):
    weights = [1.0 / len(states)] * len(states)
    out = {k: torch.zeros_like(v) for k, v in states[0].items()}
    for i, s in enumerate(states):
        for k in out:
            out[k].add_(s[k], alpha=weights[i])
    return out
""",
    "shares in a list, picked": """\
def average(states, sizes):
    weights = [n / sum(sizes) for n in sizes]
    out = {k: torch.zeros_like(v) for k, v in states[0].items()}
    for i, s in enumerate(states):
        for k in out:
            out[k] += s[k] * weights[i]
    return out
""",
    "sizes as weights": """\
def average(states, sizes):
    out = {k: torch.zeros_like(v) for k, v in states[0].items()}
    for n, s in zip(sizes, states):
        for k in out:
            out[k] += s[k] * n
    return {k: v / sum(sizes) for k, v in out.items()}
""",
    "a while over the parties": """\
def average(states, sizes):
    avg = copy.deepcopy(states[0])
    i = 1
    while i < len(states):
        for k in avg:
            avg[k] += states[i][k]
        i += 1
    for k in avg:
        avg[k] = avg[k] / len(states)
    return avg
""",
    "a while over the parties for each entry": """\
def average(states, sizes):
    avg = {}
    for k in states[0].keys():
        total = 0
        i = 0
        while i < len(states):
            total = total + states[i][k] * sizes[i]
            i += 1
        avg[k] = total / sum(sizes)
    return avg
""",
    "a while that takes from a list": """\
def average(states, sizes):
    rest = list(states)
    avg = {k: v.float() for k, v in rest.pop().items()}
    while rest:
        s = rest.pop()
        for k in avg:
            avg[k] += s[k]
    return {k: v / len(states) for k, v in avg.items()}
""",
    "a while that takes from a queue": """\
def average(states, sizes):
    from collections import deque
    rest = deque(states)
    avg = {k: torch.zeros_like(v, dtype=torch.float32) for k, v in states[0].items()}
    while len(rest) > 0:
        s = rest.popleft()
        for k in s:
            avg[k] += s[k]
    return {k: v / len(states) for k, v in avg.items()}
""",
    "a while that is left at the end": """\
def average(states, sizes):
    avg = {k: torch.zeros_like(v, dtype=torch.float32) for k, v in states[0].items()}
    n = 0
    while True:
        if n == len(states):
            break
        w = sizes[n] / sum(sizes)
        for k, v in states[n].items():
            avg[k] += v * w
        n += 1
    return avg
""",
    "a while that names the party's state": """\
def average(states, sizes):
    avg = {k: torch.zeros_like(v, dtype=torch.float32) for k, v in states[0].items()}
    client = 0
    while client < len(states):
        state = states[client]
        for k in state:
            avg[k] = avg[k] + state[k] * (sizes[client] / sum(sizes))
        client += 1
    return avg
""",
    "a while that takes the next": """\
def average(states, sizes):
    rest = iter(states)
    avg = {k: v.float() for k, v in next(rest).items()}
    while True:
        try:
            s = next(rest)
        except StopIteration:
            break
        for k in avg:
            avg[k] += s[k]
    return {k: v / len(states) for k, v in avg.items()}
""",
    "a while that counts down": """\
def average(states, sizes):
    avg = {k: torch.zeros_like(v, dtype=torch.float32) for k, v in states[0].items()}
    left = len(states)
    while left > 0:
        left -= 1
        for k in avg:
            avg[k] += states[left][k] * (sizes[left] / sum(sizes))
    return avg
""",
    "a while that keeps a mean up to date": """\
def average(states, sizes):
    avg = copy.deepcopy(states[0])
    i = 1
    while i < len(states):
        for k in avg:
            avg[k] = (avg[k] * i + states[i][k]) / (i + 1)
        i += 1
    return avg
""",
    "lerp in place, of what is no float": """\
def average(states, sizes):
    avg = copy.deepcopy(states[0])
    for i, s in enumerate(states[1:], 1):
        for k in avg:
            avg[k].lerp_(s[k], 1 / (i + 1))
    return avg
""",
    "lerp of what is no float": """\
def average(states, sizes):
    avg = copy.deepcopy(states[0])
    for i, s in enumerate(states[1:], 1):
        for k in avg:
            avg[k] = torch.lerp(avg[k], s[k], 1 / (i + 1))
    return avg
""",
    "lerp in place, of floats into what is none": """\
def average(states, sizes):
    avg = copy.deepcopy(states[0])
    for i, s in enumerate(states[1:], 1):
        for k in avg:
            avg[k].lerp_(s[k].float(), 1 / (i + 1))
    return avg
""",
    "lerp as a method": """\
def average(states, sizes):
    avg = copy.deepcopy(states[0])
    for i, s in enumerate(states[1:], 1):
        for k in avg:
            avg[k] = avg[k].lerp(s[k], 1 / (i + 1))
    return avg
""",
    "lerp in place, of all but the counter": """\
def average(states, sizes):
    avg = copy.deepcopy(states[0])
    for i, s in enumerate(states[1:], 1):
        for k in avg:
            if avg[k].is_floating_point():
                avg[k].lerp_(s[k], 1 / (i + 1))
    return avg
""",
    "lerp in place, begun with the first": """\
def average(states, sizes):
    avg = None
    n = 0
    for s in states:
        n += 1
        if avg is None:
            avg = {k: v.clone() for k, v in s.items()}
        else:
            for k in avg:
                avg[k].lerp_(s[k], 1 / n)
    return avg
""",
    "scaled in place, the counter too": """\
def average(states, sizes):
    avg = copy.deepcopy(states[0])
    for i, s in enumerate(states[1:], 1):
        for k in avg:
            avg[k].mul_(i / (i + 1)).add_(s[k], alpha=1 / (i + 1))
    return avg
""",
    "scaled in place, and a share added": """\
def average(states, sizes):
    avg = copy.deepcopy(states[0])
    for i, s in enumerate(states[1:], 1):
        for k in avg:
            avg[k].mul_(i / (i + 1)).add_(s[k] / (i + 1))
    return avg
""",
    "nanmean of what is no float": """\
def average(states, sizes):
    return {k: torch.stack([s[k] for s in states]).nanmean(0) for k in states[0]}
""",
    "nanmean by a function, of what is no float": """\
def average(states, sizes):
    return {k: torch.nanmean(torch.stack([s[k] for s in states]), dim=0) for k in states[0]}
""",
    "nanmean that converts": """\
def average(states, sizes):
    return {k: torch.stack([s[k] for s in states]).nanmean(0, dtype=torch.float32) for k in states[0]}
""",
    "a quantile of what is no float": """\
def average(states, sizes):
    return {k: torch.quantile(torch.stack([s[k] for s in states]), 0.5, dim=0) for k in states[0]}
""",
    "a quantile of a stack that has a name": """\
def average(states, sizes):
    out = {}
    for k in states[0]:
        stacked = torch.stack([s[k] for s in states])
        out[k] = stacked.quantile(0.5, dim=0)
    return out
""",
    "a quantile of floats": """\
def average(states, sizes):
    return {k: torch.quantile(torch.stack([s[k].float() for s in states]), 0.5, dim=0) for k in states[0]}
""",
    "a stack that is reduced if it has floats": """\
def average(states, sizes):
    out = {}
    for k in states[0]:
        stacked = torch.stack([s[k] for s in states])
        if stacked.is_floating_point():
            out[k] = stacked.mean(0)
        else:
            out[k] = stacked[0]
    return out
""",
    "the same in one expression": """\
def average(states, sizes):
    out = {}
    for k in states[0]:
        stacked = torch.stack([s[k] for s in states])
        out[k] = stacked.mean(0) if stacked.is_floating_point() else stacked[0]
    return out
""",
    "a stack that is reduced if it is no counter": """\
def average(states, sizes):
    out = {}
    for k in states[0]:
        stacked = torch.stack([s[k] for s in states])
        if "num_batches_tracked" in k:
            out[k] = stacked[0]
        else:
            out[k] = stacked.mean(0)
    return out
""",
    "objects that add themselves": """\
class State:
    def __init__(self, entries):
        self.entries = entries
    def __add__(self, other):
        return State({k: self.entries[k] + other.entries[k] for k in self.entries})
    def __truediv__(self, n):
        return State({k: v / n for k, v in self.entries.items()})
def average(states, sizes):
    total = State(states[0])
    for s in states[1:]:
        total = total + State(s)
    return (total / len(states)).entries
""",
    "a sum of objects": """\
class State:
    def __init__(self, entries):
        self.entries = entries
    def __add__(self, other):
        return State({k: self.entries[k] + other.entries[k] for k in self.entries})
    def __radd__(self, other):
        return self if other == 0 else self + other
    def __truediv__(self, n):
        return State({k: v / n for k, v in self.entries.items()})
def average(states, sizes):
    total = sum(State(s) for s in states) / len(states)
    return total.entries
""",
    "objects that add to themselves": """\
class Params:
    def __init__(self, d): self.d = d
    def __iadd__(self, other):
        for k in self.d: self.d[k] = self.d[k] + other.d[k]
        return self
    def __mul__(self, c): return Params({k: v * c for k, v in self.d.items()})
def average(states, sizes):
    total = Params({k: torch.zeros_like(v, dtype=torch.float32) for k, v in states[0].items()})
    for s, n in zip(states, sizes):
        total += Params(s) * (n / sum(sizes))
    return total.d
""",
    "dicts that add themselves": """\
class State(dict):
    def __add__(self, other):
        return State({k: self[k] + other[k] for k in self})
    def __mul__(self, c):
        return State({k: v * c for k, v in self.items()})
def average(states, sizes):
    out = None
    for s, n in zip(states, sizes):
        part = State(s) * (n / sum(sizes))
        out = part if out is None else out + part
    return out
""",
    "dicts that add themselves, reduced": """\
class State(dict):
    def __add__(self, other):
        return State({k: self[k] + other[k] for k in self})
    def __truediv__(self, c):
        return State({k: v / c for k, v in self.items()})
def average(states, sizes):
    return reduce(operator.add, [State(s) for s in states]) / len(states)
""",
}
_NO_AVERAGES = {
    "the product by reduce": """\
def average(states, sizes):
    return {k: reduce(lambda x, y: x * y, [s[k] for s in states]) for k in states[0]}
""",
    "the last by reduce": """\
def average(states, sizes):
    return {k: reduce(lambda x, y: y, [s[k] for s in states]) for k in states[0]}
""",
    "one party's entries, each added to": """\
def average(states, sizes):
    kept = []
    for s in states:
        own = {}
        for k in s:
            value = s[k]
            value = value + 0.1 * value
            own[k] = value
        kept.append(own)
    return kept[-1]
""",
    "side by side, and the first is taken": """\
def average(states, sizes):
    rows = [values[0] for values in zip(*[s.values() for s in states])]
    return dict(zip(states[0], rows))
""",
    "in lists, and the first is taken": """\
def average(states, sizes):
    lists = defaultdict(list)
    for s in states:
        for k, v in s.items():
            lists[k].append(v)
    return {k: [v.float() for v in vs][0] for k, vs in lists.items()}
""",
    "a function that sums a list, of what is no entry": """\
def total(values):
    return sum(values)


def average(states, sizes):
    count = total([len(s) for s in states])
    return {k: v * (count / count) for k, v in states[0].items()}
""",
    "map of what is no entry": """\
def average(states, sizes):
    return {k: v + sum(map(lambda s: len(s), states)) for k, v in states[0].items()}
""",
    "an average over time, by a function": """\
def mix(a, b, m): return {k: m * a[k] + (1 - m) * b[k] for k in a}
def average(states, sizes):
    out = states[0]
    for s in states[1:]:
        out = mix(out, s, 0.9)
    return out
""",
    "an average over time, in place": """\
def average(states, sizes):
    avg = {k: v.float() for k, v in states[0].items()}
    for s in states[1:]:
        for k in avg:
            avg[k] = 0.9 * avg[k] + 0.1 * s[k]
    return avg
""",
    "the same by lerp": """\
def average(states, sizes):
    avg = {k: v.float() for k, v in states[0].items()}
    for s in states[1:]:
        for k in avg:
            avg[k].lerp_(s[k].float(), 0.1)
    return avg
""",
    "an average over time whose rate changes": """\
def average(states, sizes):
    ema = {k: v.float() for k, v in states[0].items()}
    net = Net()
    net.load_state_dict(states[0])
    for step in range(100):
        d = min(0.99, (1 + step) / (10 + step))
        for k, v in net.state_dict().items():
            ema[k] = ema[k] * d + (1 - d) * v
    return ema
""",
    "states merged by a function": """\
def merge(a, b): return {**a, **b}
def average(states, sizes):
    out = states[0]
    for s in states[1:]:
        out = merge(out, s)
    return out
""",
    "states joined by a function": """\
def cat(a, b): return {k: torch.cat([a[k], b[k]]) for k in a}
def average(states, sizes):
    out = states[0]
    for s in states[1:]:
        out = cat(out, s)
    return {k: v for k, v in states[0].items()}
""",
    "an average over time that is made anew": """\
def average(states, sizes):
    avg = states[0]
    for s in states[1:]:
        avg = {k: 0.9 * avg[k] + 0.1 * s[k] for k in avg}
    return avg
""",
    "noise added to what is made anew": """\
def average(states, sizes):
    out = states[0]
    for s in states[1:]:
        out = {k: out[k] + torch.randn_like(out[k]) for k in out}
    return out
""",
    "a function that is given the keys of a layer without BatchNorm": """\
def mean_of(key, states):
    return sum(s[key] for s in states) / len(states)
def average(states, sizes):
    out = dict(states[0])
    for k in ("fc.weight", "fc.bias"):
        out[k] = mean_of(k, states)
    return out
""",
    "a function that is given the key, and passes over BatchNorm": """\
def mean_of(key, states):
    if "bn" in key:
        return states[0][key]
    return sum(s[key] for s in states) / len(states)
def average(states, sizes):
    return {k: mean_of(k, states) for k in states[0]}
""",
    "a function that is given the keys of all but BatchNorm": """\
def mean_of(key, states):
    return sum(s[key] for s in states) / len(states)
def average(states, sizes):
    out = states[0]
    for k in out:
        if "bn" not in k:
            out[k] = mean_of(k, states)
    return out
""",
    "a function that is given one key": """\
def mean_of(key, states):
    return sum(s[key] for s in states) / len(states)
def average(states, sizes):
    out = dict(states[0])
    out["fc.weight"] = mean_of("fc.weight", states)
    return out
""",
    "a while of training, added up": """\
def average(states, sizes):
    net = Net()
    avg = {k: v.float() for k, v in net.state_dict().items()}
    i = 0
    while i < 10:
        net.load_state_dict(states[0])
        for k, v in net.state_dict().items():
            avg[k] = avg[k] + v / 10
        i += 1
    return avg
""",
    "a while over snapshots of a while": """\
def average(states, sizes):
    net = Net()
    snapshots = []
    step = 0
    while step < 10:
        train(net, [])
        snapshots.append(copy.deepcopy(net.state_dict()))
        step += 1
    avg = {k: torch.zeros_like(v, dtype=torch.float32) for k, v in net.state_dict().items()}
    n = 0
    while n < len(snapshots):
        for k in avg:
            avg[k] += snapshots[n][k] / len(snapshots)
        n += 1
    return avg
""",
    "snapshots of one training": """\
def average(states, sizes):
    net = Net()
    snapshots = []
    for step in range(10):
        train(net, [])
        snapshots.append(copy.deepcopy(net.state_dict()))
    avg = {k: torch.zeros_like(v, dtype=torch.float32) for k, v in net.state_dict().items()}
    for n in range(len(snapshots)):
        for k in avg:
            avg[k] += snapshots[n][k] / len(snapshots)
    return avg
""",
    "snapshots by a name of their own": """\
def average(states, sizes):
    net = Net()
    kept = []
    for epoch in range(10):
        train(net, [])
        s = copy.deepcopy(net.state_dict())
        kept.append(s)
    return {k: sum(s[k] for s in kept) / len(kept) for k in kept[0]}
""",
    "snapshots by their epoch": """\
def average(states, sizes):
    net = Net()
    kept = {}
    for epoch in range(10):
        train(net, [])
        kept[epoch] = {k: v.clone() for k, v in net.state_dict().items()}
    kept = list(kept.values())
    return {k: sum(s[k] for s in kept) / len(kept) for k in kept[0]}
""",
    "a while that takes batches": """\
def average(states, sizes):
    net = Net()
    it = iter(states)
    avg = {k: v.float() for k, v in net.state_dict().items()}
    while True:
        x = next(it, None)
        if x is None:
            break
        train(net, x)
        for k, v in net.state_dict().items():
            avg[k] = 0.9 * avg[k] + 0.1 * v
    return avg
""",
    "an average over time in a while": """\
def average(states, sizes):
    avg = {k: v.float() for k, v in states[0].items()}
    i = 1
    while i < len(states):
        for k in avg:
            avg[k] = 0.9 * avg[k] + 0.1 * states[i][k]
        i += 1
    return avg
""",
    "the last of a while": """\
def average(states, sizes):
    avg = copy.deepcopy(states[0])
    i = 1
    while i < len(states):
        for k in avg:
            avg[k] = states[i][k] + 0
        i += 1
    return avg
""",
    "a stack that is reduced if it is not of BatchNorm": """\
def average(states, sizes):
    out = {}
    for k in states[0]:
        stacked = torch.stack([s[k] for s in states])
        if "bn" in k:
            out[k] = stacked[0]
        else:
            out[k] = stacked.mean(0)
    return out
""",
    "dicts that merge": """\
class State(dict):
    def __add__(self, other):
        return State({**self, **other})
def average(states, sizes):
    out = State(states[0])
    for s in states[1:]:
        out = out + State(s)
    return out
""",
    "dicts that fade": """\
class State(dict):
    def __add__(self, other):
        return State({k: 0.9 * self[k] + 0.1 * other[k] for k in self})
def average(states, sizes):
    out = State(states[0])
    for s in states[1:]:
        out = out + State(s)
    return out
""",
    "objects that leave BatchNorm as it is": """\
class State:
    def __init__(self, entries): self.entries = entries
    def __iter__(self): return iter(self.entries)
    def __add__(self, other):
        return State({k: self.entries[k] + other.entries[k] if "bn" not in k else self.entries[k] for k in self})
def average(states, sizes):
    out = State(states[0])
    for s in states[1:]:
        out = out + State(s)
    return out.entries
""",
    "objects that leave BatchNorm out": """\
class State:
    def __init__(self, entries): self.entries = entries
    def __add__(self, other):
        return State({k: v + other.entries[k] for k, v in self.entries.items() if "bn" not in k})
def average(states, sizes):
    out = State(states[0])
    for s in states[1:]:
        out = out + State(s)
    return {**states[0], **out.entries}
""",
    "objects that add up losses": """\
class Meter:
    def __init__(self, state, loss): self.state = state; self.loss = loss
    def __add__(self, other): return Meter(self.state, self.loss + other.loss)
def average(states, sizes):
    total = Meter(states[0], 0)
    for s in states[1:]:
        total = total + Meter(s, 1.0)
    return total.state
""",
    "objects that join": """\
class State:
    def __init__(self, entries): self.entries = entries
    def __add__(self, other):
        return State({k: torch.cat([self.entries[k], other.entries[k]]) for k in self.entries})
def average(states, sizes):
    out = State(states[0])
    for s in states[1:]:
        out = out + State(s)
    return states[0]
""",
    "snapshots that add themselves": """\
class State(dict):
    def __add__(self, other):
        return State({k: self[k] + other[k] for k in self})
    def __truediv__(self, n):
        return State({k: v / n for k, v in self.items()})
def average(states, sizes):
    net = Net()
    total = State(net.state_dict())
    for epoch in range(10):
        train(net, [])
        total = total + State(net.state_dict())
    return total / 11
""",
}
_SIZES = [10, 20, 31]


def _codes(body: str, folder: Path) -> dict[str, str]:
    (folder / "model.py").write_text(_MODEL)
    (folder / "server.py").write_text(f"{_SERVER}{body}")
    result = read([str(folder)], options=ReadOptions(jobs=1))
    findings = audit(result.sites, result.unreadable, lambda _: Selection(("BNA2",)), lambda _: Versions())
    return {finding.code: finding.message for finding in findings}


def _program(body: str, monkeypatch: pytest.MonkeyPatch) -> tuple[types.ModuleType, types.ModuleType]:
    model, server = types.ModuleType("model"), types.ModuleType("server")
    exec(_MODEL, model.__dict__)
    monkeypatch.setitem(sys.modules, "model", model)
    exec(f"{_SERVER}{body}", server.__dict__)
    return model, server


@pytest.mark.parametrize("form", _AVERAGES)
def test_what_is_said_of_an_average_is_what_it_does(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = _codes(_AVERAGES[form], tmp_path)
    model, server = _program(_AVERAGES[form], monkeypatch)
    states = []
    for number in (1, 2, 3):
        state = model.Net().state_dict()
        state["bn.running_mean"].fill_(number)
        state["bn.num_batches_tracked"].fill_(number)
        states.append(state)
    plain, weighted = 2.0, sum(size * number for size, number in zip(_SIZES, (1, 2, 3), strict=True)) / sum(_SIZES)
    try:
        averaged = server.average(states, _SIZES)
    except (TypeError, RuntimeError) as error:
        assert len(found) == 1
        if "BNA201" in found:  # whether it stops may hang on what the weights are
            assert found["BNA201"].endswith(f"{type(error).__name__}: {error}")
        return
    assert list(found) == ["BNA202"]
    value = float(averaged["bn.running_mean"].mean())
    assert value == pytest.approx(plain) or value == pytest.approx(weighted)


@pytest.mark.parametrize("form", _NO_AVERAGES)
def test_what_only_looks_like_an_average(form: str, tmp_path: Path) -> None:
    assert _codes(_NO_AVERAGES[form], tmp_path) == {}


@pytest.mark.parametrize(
    "form",
    ["shares in a list, zipped, as alpha", "a list of equal shares, picked, as alpha", "shares in a list, picked"],
)
def test_that_shares_in_a_list_are_fractions_is_known(form: str, tmp_path: Path) -> None:
    assert list(_codes(_AVERAGES[form], tmp_path)) == ["BNA201"]


def test_weights_that_stand_for_one_another_end(tmp_path: Path) -> None:
    """Which is no program that runs, but one that is read."""
    body = """\
def average(states, sizes):
    shares = [part / 2 for part in parts]
    parts = [share for share in shares]
    one = other
    other = one
    out = {k: torch.zeros_like(v) for k, v in states[0].items()}
    for s, w in zip(states, shares):
        for k in out:
            out[k] += s[k] * w * one
    return out
"""
    assert set(_codes(body, tmp_path)) <= {"BNA201", "BNA202"}


@pytest.mark.parametrize(
    "weights",
    [
        "[0.5, 0.25, 0.25]\n    shares[:] = [1, 2, 3]",
        "[0.5, 0.25, 0.25]\n    shares.clear()\n    shares.extend([1, 2, 3])",
        "[torch.tensor(1), torch.tensor(2), torch.tensor(3)]",
        "[n * 2 for n in sizes]",
    ],
)
def test_weights_that_may_be_whole_are_no_fractions(
    weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = f"""\
def average(states, sizes):
    shares = {weights}
    out = {{k: torch.zeros_like(v) for k, v in states[0].items()}}
    for s, w in zip(states, shares):
        for k in out:
            out[k] += s[k] * w
    return out
"""
    assert list(_codes(body, tmp_path)) == ["BNA202"]
    model, server = _program(body, monkeypatch)
    server.average([model.Net().state_dict() for _ in range(3)], [1, 2, 3])  # which does not raise


def test_what_a_weight_is_made_of_is_asked_once_a_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of twelve numbers is the square of the one before."""
    from bn_audit.source.flow import numbers

    asked, count = numbers.numbers_of, []

    def counted(*args: object) -> object:
        count.append(args)
        return asked(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(numbers, "numbers_of", counted)
    squares = "".join(f"    w{number} = w{number - 1} * w{number - 1}\n" for number in range(1, 13))
    body = f"""\
def average(states, sizes):
    w0 = sizes[0]
{squares}    out = {{k: torch.zeros_like(v) for k, v in states[0].items()}}
    for s in states:
        for k in out:
            out[k] += s[k] * w12
    return out
"""
    assert list(_codes(body, tmp_path)) == ["BNA202"]
    assert 100 < len(count) < 1_000  # with both sides asked twice, ten times as many


def test_a_tensor_of_integers_on_a_device_is_none_of_floats(tmp_path: Path) -> None:
    body = """\
def average(states, sizes):
    share = torch.tensor(3, device="cpu")
    out = {k: torch.zeros_like(v) for k, v in states[0].items()}
    for s in states:
        for k in out:
            out[k] += s[k] * share
    return out
"""
    assert list(_codes(body, tmp_path)) == ["BNA202"]
    assert list(_codes(body.replace('device="cpu"', "dtype=torch.float32"), tmp_path)) == ["BNA201"]
