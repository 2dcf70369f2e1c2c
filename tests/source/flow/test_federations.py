"""From an averaging to the models whose states it combines, over all that lies between in a project."""

from __future__ import annotations

from pathlib import Path

import pytest

from bn_audit.federation import AveragingSite
from tests.source.projects import project, read_project

NETS = """\
=== nets.py
from torch import nn

class Norm(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3)
        self.bn = nn.BatchNorm2d(width)

class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 2)
"""
AVERAGE = """\
=== agg.py
import copy
import torch

def average(w):
    avg = copy.deepcopy(w[0])
    for k in avg.keys():
        for i in range(1, len(w)):
            avg[k] += w[i][k]
        avg[k] = torch.div(avg[k], len(w))
    return avg
"""

FOUND = {
    "conditions on the data decide nothing": (
        """\
=== main.py
import copy
import os
from nets import Norm, Plain
from agg import average

def load(folder, allowed, state):
    rows = []
    for name in os.listdir(folder):
        if name.lower() not in allowed:
            continue
        rows.append(name)
    if state["size"] > 10:
        rows = rows[:10]
    return rows

def make(kind):
    if kind == "norm":
        return Norm()
    return Plain()

def train(net, rows, state):
    for step, row in enumerate(rows):
        net(row)
        if (step + 1) % 30 == 0:
            print(step)
    return net.state_dict()

def main(args, state):
    if state["rounds"] >= 10:
        print("done")
        return
    rows = load(args.folder, args.allowed, state)
    net = make(args.kind)
    for _ in range(10):
        net.load_state_dict(average([train(copy.deepcopy(net), rows, state) for _ in range(5)]))
""",
        {
            "Norm": ('kind == "norm"', 'not (state["rounds"] >= 10)'),
            "Plain": ('not (state["rounds"] >= 10)', 'not (kind == "norm")'),
        },
    ),
    "states appended in a loop": (
        """\
=== main.py
import copy
from nets import Norm
from agg import average
net = Norm()
for _ in range(10):
    w_locals = []
    for idx in range(5):
        local = copy.deepcopy(net)
        local.train()
        w_locals.append(copy.deepcopy(local.state_dict()))
    net.load_state_dict(average(w_locals))
""",
        {"Norm": ()},
    ),
    "a client class whose method returns a tuple": (
        """\
=== client.py
class LocalUpdate:
    def __init__(self, args):
        self.args = args
    def train(self, net):
        net.train()
        return net.state_dict(), 0.5
=== main.py
import copy
from nets import Norm, Plain
from agg import average
from client import LocalUpdate
args = parser.parse_args()
if args.model == "norm":
    net_glob = Norm(width=16)
elif args.model == "plain":
    net_glob = Plain()
w_glob = net_glob.state_dict()
for round in range(args.rounds):
    w_locals, losses = [], []
    for idx in range(args.users):
        local = LocalUpdate(args=args)
        w, loss = local.train(net=copy.deepcopy(net_glob).to(args.device))
        w_locals.append(copy.deepcopy(w))
    w_glob = average(w_locals)
    net_glob.load_state_dict(w_glob)
""",
        {"Norm": ('args.model == "norm"',), "Plain": ('args.model == "plain"',)},
    ),
    "server and clients as classes, the model handed in by an attribute of the arguments": (
        """\
=== base.py
import copy
from agg import average

class Client:
    def __init__(self, args, number):
        self.model = copy.deepcopy(args.model)
    def upload(self):
        return self.model.state_dict()

class Server:
    def __init__(self, args):
        self.global_model = copy.deepcopy(args.model)
        self.clients = []
        self.uploaded = []
    def set_clients(self, kind):
        for i in range(10):
            self.clients.append(kind(self.args, i))
    def receive(self):
        self.uploaded = [client.upload() for client in self.clients]
    def aggregate(self):
        self.global_model.load_state_dict(average(self.uploaded))
=== fedavg.py
from base import Client, Server

class FedAvg(Server):
    def __init__(self, args):
        super().__init__(args)
        self.args = args
        self.set_clients(Client)
=== main.py
from nets import Norm
from fedavg import FedAvg

def run(args):
    args.model = Norm().to(args.device)
    server = FedAvg(args)
    server.aggregate()
""",
        {"Norm": ()},
    ),
    "a factory picks the class": (
        """\
=== main.py
from nets import Norm, Plain
from agg import average

def build(name, width):
    if name == "norm":
        return Norm(width)
    return Plain()

def main(args):
    models = [build(args.net, 4) for _ in range(3)]
    shared = average([m.state_dict() for m in models])
    for m in models:
        m.load_state_dict(shared)
""",
        {"Norm": ('name == "norm"',), "Plain": ('not (name == "norm")',)},
    ),
    "a class handed to the server": (
        """\
=== server.py
import torch

class Server:
    def __init__(self, model_cls, clients):
        self.model = model_cls()
        self.clients = clients
    def step(self):
        states = [c.model.state_dict() for c in self.clients]
        new = {k: torch.stack([s[k] for s in states]).mean(0) for k in states[0]}
        self.model.load_state_dict(new)
=== main.py
from nets import Norm
from server import Server

class Client:
    def __init__(self):
        self.model = Norm()

server = Server(Norm, [Client() for _ in range(4)])
server.step()
""",
        {"Norm": ()},
    ),
    "copied into the server's own state": (
        """\
=== main.py
import torch
from nets import Norm

def communicate(server, models, weights):
    for key in server.state_dict().keys():
        temp = torch.zeros_like(server.state_dict()[key], dtype=torch.float32)
        for i in range(len(models)):
            temp += weights[i] * models[i].state_dict()[key]
        server.state_dict()[key].data.copy_(temp)
        for i in range(len(models)):
            models[i].state_dict()[key].data.copy_(server.state_dict()[key])
    return server, models

server = Norm()
models = [Norm() for _ in range(5)]
communicate(server, models, [0.2] * 5)
""",
        {"Norm": ()},
    ),
    "one party a call": (
        """\
=== main.py
from nets import Norm

class Server:
    def __init__(self):
        self.model = Norm()
    def begin(self):
        self.total = {k: v * 0.0 for k, v in self.model.state_dict().items()}
    def add(self, state, share):
        for k, v in state.items():
            self.total[k] += v * share
    def finish(self):
        self.model.load_state_dict(self.total)

def main(clients):
    server = Server()
    server.begin()
    for client in [Norm() for _ in range(3)]:
        server.add(client.state_dict(), 1 / 3)
    server.finish()
""",
        {"Norm": ()},
    ),
    "one of several names": (
        """\
=== main.py
from nets import Norm, Plain
from agg import average

def make(name):
    if name == "small" or name == "large" or name == "huge":
        return Norm()
    return Plain()

def main(name):
    server = make(name)
    server.load_state_dict(average([make(name).state_dict() for _ in range(3)]))
""",
        {
            "Norm": ('name == "small" or name == "large" or name == "huge"',),
            "Plain": (
                'not (name == "small")',
                'not (name == "small" or name == "large")',
                'not (name == "small" or name == "large" or name == "huge")',
            ),
        },
    ),
    "parameters in place": (
        """\
=== main.py
from nets import Norm

def main():
    server = Norm()
    models = [Norm() for _ in range(3)]
    for p in server.parameters():
        p.data.zero_()
    for model in models:
        for p, q in zip(server.parameters(), model.parameters()):
            p.data += q.data / 3
""",
        {"Norm": ()},
    ),
}

SILENT = {
    "checkpoints of one training": """\
=== main.py
import torch
from nets import Norm
from agg import average
net = Norm()
net.load_state_dict(average([torch.load(path) for path in paths]))
""",
    "checkpoints through a live model": """\
=== main.py
import torch
from nets import Norm
net = Norm()
avg = {k: v * 0.0 for k, v in net.state_dict().items()}
for path in paths:
    net.load_state_dict(torch.load(path))
    state = net.state_dict()
    for k in avg:
        avg[k] += state[k] / len(paths)
net.load_state_dict(avg)
""",
    "nothing is loaded": """\
=== main.py
from nets import Norm
from agg import average
states = [Norm().state_dict() for _ in range(3)]
print(average(states))
""",
    "a model nobody can follow": """\
=== main.py
from agg import average
def main(clients, registry, name):
    net = registry[name]()
    net.load_state_dict(average(clients))
""",
}


def sites(text: str, folder: Path) -> list[AveragingSite]:
    result = read_project(project(NETS + AVERAGE + text), folder)
    return [site for site in result.sites if isinstance(site, AveragingSite)]


@pytest.mark.parametrize("name", FOUND)
def test_the_models_are_found(name: str, tmp_path: Path) -> None:
    text, expected = FOUND[name]
    (site,) = sites(text, tmp_path)
    assert {one.name: one.conditions for one in site.participants} == expected


@pytest.mark.parametrize("name", SILENT)
def test_no_site_with_a_model(name: str, tmp_path: Path) -> None:
    assert [one for site in sites(SILENT[name], tmp_path) for one in site.participants] == []


def test_a_filter_on_the_client_counts(tmp_path: Path) -> None:
    text = """\
=== main.py
import copy
from nets import Norm
from agg import average
net = Norm()
states = []
for _ in range(3):
    local = copy.deepcopy(net)
    states.append({k: v for k, v in local.state_dict().items() if "bn" not in k})
net.load_state_dict(average(states), strict=False)
"""
    from bn_audit.filters import Contains, Not

    (site,) = sites(text, tmp_path)
    assert site.covers == Not(Contains("bn"))


LOADER = """\
=== hand.py
def given(model, state):
    model.load_state_dict(state)

def mean(clients):
    return {key: sum(client[key] for client in clients) / len(clients) for key in clients[0]}
=== main.py
from hand import given, mean
from nets import Norm, Plain

class Other(Norm):
    pass

def first(clients):
    given(Norm(), mean([Norm().state_dict() for client in clients]))

def second(clients):
    given(SECOND(), mean([SECOND().state_dict() for client in clients]))

def kept(clients):
    given(Plain(), Plain().state_dict())
"""


@pytest.mark.parametrize(("second", "expected"), [("Other", ["Norm", "Other"]), ("Plain", ["Norm", "Plain"])])
def test_what_one_loader_is_given_goes_together(second: str, expected: list[str], tmp_path: Path) -> None:
    (site,) = sites(LOADER.replace("SECOND", second), tmp_path)
    assert [*dict.fromkeys(participant.name for participant in site.participants)] == expected


def test_a_model_that_the_loader_gives_something_else_takes_no_part(tmp_path: Path) -> None:
    text = LOADER.replace("given(SECOND(), mean([SECOND().state_dict() for client in clients]))", "pass")
    (site,) = sites(text, tmp_path)
    assert {participant.name for participant in site.participants} == {"Norm"}


PACKAGE = """\
=== main.py
from nets import Norm
from agg import average

class Client:
    def __init__(self):
        self.net = Norm()
    def train(self):
        return {"state": self.net.state_dict(), "loss": 1.0}

server = Norm()
clients = [Client() for _ in range(4)]
packages = [client.train() for client in clients]
states = []
for package in packages:
    package.pop("%s")
    states.append(%s)
server.load_state_dict(average(states))
"""


@pytest.mark.parametrize(
    ("taken_out", "state", "picked"),
    [("loss", 'package["state"]', False), ("conv.weight", "package", True)],
    ids=["something else of the package", "an entry"],
)
def test_what_is_taken_out_of_a_package(tmp_path: Path, taken_out: str, state: str, picked: bool) -> None:
    source = PACKAGE % (taken_out, state)
    if picked:
        source = source.replace('{"state": self.net.state_dict(), "loss": 1.0}', "self.net.state_dict()")
    (site,) = sites(source, tmp_path)
    assert bool(site.picks) is picked


BRANCHES = """\
=== main.py
import argparse
import copy
from agg import average
from nets import Norm, Plain

def halves(net):
    return net.state_dict()  # half

def whole(net):
    return net.state_dict()  # whole

def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--algorithm", type=str, default="whole")
    args = parser.parse_args()
    nets = {}
    for number in range(5):
        if args.algorithm == "split":
            net = Norm(width=4)
        else:
            net = Norm()
        nets[number] = net
    server = copy.deepcopy(nets[0])
    for _ in range(10):
        gathered = []
        for net in nets.values():
            if args.algorithm == "split":
                local = halves(net)
                gathered.append(local)
            elif args.algorithm == "whole":
                local = whole(net)
                gathered.append(local)
        if args.algorithm == "split":
            shared = average(gathered)  # averaged split
            server.load_state_dict(shared)  # loaded split
        elif args.algorithm == "whole":
            shared = average(gathered)
            server.load_state_dict(shared)

main()
"""


def test_a_trail_joins_no_branches_that_exclude_each_other(tmp_path: Path) -> None:
    (site,) = sites(NETS + AVERAGE + BRANCHES, tmp_path)
    lines = (tmp_path / "main.py").read_text().splitlines()
    assert [lines[row.location.line - 1].rpartition("# ")[2] for row in (*site.through, *site.states)] == [
        "averaged split",
        "half",
    ]
    assert site.load is not None and lines[site.load.location.line - 1].endswith("# loaded split")
    assert site.participants[0].conditions == ('args.algorithm == "split"',)


LATER = """\
=== main.py
import copy
from agg import average
from nets import Norm, Plain
net = Norm()
parts = [copy.deepcopy(net) for _ in range(5)]
others = [Plain() for _ in range(5)]
for _ in range(10):
    states = [part.state_dict() for part in parts]
%s
    net.load_state_dict(average(states))
    states = [other.state_dict() for other in others]
"""


@pytest.mark.parametrize(
    ("before", "models"),
    [
        ("", {"Norm"}),
        ("    if len(states) > 3:\n        states = states[:3]", {"Norm"}),
        ("    for part in parts:\n        states.append(part.state_dict())", {"Norm"}),
    ],
)
def test_what_a_turn_binds_anew_holds_nothing_of_the_turn_before(tmp_path: Path, before: str, models: set[str]) -> None:
    (site,) = sites(NETS + AVERAGE + LATER % before, tmp_path)
    assert {one.name for one in site.participants} == models


def test_what_the_turn_before_bound_is_there_where_nothing_binds_it_anew(tmp_path: Path) -> None:
    source = LATER.replace("    states = [part", "    if net.training:\n        states = [part")
    (site,) = sites(NETS + AVERAGE + source % "", tmp_path)
    assert {one.name for one in site.participants} == {"Norm", "Plain"}


def test_a_name_is_known_after_a_program_that_takes_long(tmp_path: Path) -> None:
    """What is asked for first may be changed by a whole program, which is not run to its end: what that would have
    defined is defined all the same."""
    long = "\n".join(f"total = total + helper({number}, total)" for number in range(2000))
    text = f"""\
import copy
import torch
from torch import nn

class Norm(nn.Module):
    def __init__(self):
        super().__init__()
        self.bn = nn.BatchNorm2d(8)

def helper(number, total):
    return [number, total][0]

total = 0
{long}

import copy
import torch

def average(net, states):
    mean = copy.deepcopy(states[0])
    for key in mean:
        mean[key] = sum(state[key] for state in states) / len(states)
    net.load_state_dict(mean)
    return net

def train(net, total):
    return net.state_dict()

net = Norm()
for _ in range(10):
    net = average(net, [train(copy.deepcopy(net), total) for _ in range(5)])

import copy
copy.total = average(net, [total])
"""
    result = read_project(project(f"=== main.py\n{text}"), tmp_path)
    (site,) = (site for site in result.sites if isinstance(site, AveragingSite))
    assert [one.name for one in site.participants] == ["Norm"]
