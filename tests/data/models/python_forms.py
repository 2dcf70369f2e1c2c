"""Forms of the language: conditions, loops, closures, matches, imports, formats, configurations."""
import argparse
import itertools
import math
import operator
import os
from argparse import Namespace
from collections import ChainMap, OrderedDict, defaultdict
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache, partial, reduce
from types import SimpleNamespace

import torch
from torch import nn

try:
    from some_optional_layers import FancyNorm
except ImportError:
    FancyNorm = None

BASE = 4
WIDTHS = [BASE * 2 ** i for i in range(3)]
TOTAL = sum(WIDTHS)
CONFIG = {"model": {"width": WIDTHS[0], "norm": "batch", "depth": len(WIDTHS)}, "classes": 10}


def build_global_constants():
    return nn.Sequential(*[nn.Linear(w, TOTAL) for w in WIDTHS], nn.BatchNorm1d(TOTAL))


def build_config_dict():
    cfg = CONFIG["model"]
    layers = [nn.Linear(cfg["width"], cfg["width"]) for _ in range(cfg["depth"])]
    if cfg.get("norm") == "batch":
        layers.append(nn.BatchNorm1d(cfg["width"]))
    if cfg.get("dropout"):
        layers.append(nn.BatchNorm1d(99))
    return nn.Sequential(*layers, nn.Linear(cfg["width"], CONFIG["classes"]))


class Net(nn.Module):
    def __init__(self, width, depth=1, *, norm="batch", classes=2, **unused):
        super().__init__()
        self.inp = nn.Linear(1, width)
        self.norms = nn.ModuleList([nn.BatchNorm1d(width) if norm == "batch" else nn.LayerNorm(width) for _ in range(depth)])
        self.out = nn.Linear(width, classes)


def build_splat():
    return Net(**CONFIG["model"], classes=CONFIG["classes"])


def build_splat_merged():
    options = dict(width=3, norm="layer")
    options.update({"depth": 2})
    return Net(**{**options, "norm": "batch"})


def build_positional_splat():
    args = (5, 2)
    return Net(*args, **dict(norm="layer"))


@dataclass
class Config:
    width: int = 6
    depth: int = 2
    norm: str = "batch"
    layers: list = field(default_factory=lambda: [1, 2])

    def __post_init__(self):
        self.depth = self.depth * len(self.layers)


@dataclass
class Wide(Config):
    width: int = 12
    bonus: int = 1

    def __post_init__(self):
        self.depth = self.bonus


class Configured(nn.Module):
    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.net = Net(config.width, config.depth, norm=config.norm)


def build_dataclass():
    return Configured(Config(width=2))


def build_dataclass_inherited():
    return nn.Sequential(Configured(Wide()), Configured(Wide(2, 5, "layer", [], bonus=2)))


def build_dataclass_copied():
    return Configured(replace(Config(width=3), norm="layer", layers=[7]))


def build_dataclass_as_dict():
    values = asdict(Wide(width=4))
    return Net(values["width"], values["depth"], norm=values["norm"])


def build_dataclass_replaced():
    config = Config(width=3, layers=[1])
    config.norm = "layer"
    return Configured(config)


def build_namespace():
    args = Namespace(width=3, depth=2, norm="batch")
    return Net(args.width, args.depth, norm=args.norm)


def build_simple_namespace():
    cfg = SimpleNamespace(model=SimpleNamespace(width=4), bn=True)
    cfg.depth = 3
    return Net(cfg.model.width, cfg.depth, norm="batch" if cfg.bn else "layer")


def build_while():
    layers, size = [], 16
    while size > 1:
        layers.append(nn.Linear(size, size // 2))
        size //= 2
        if size == 4:
            continue
        layers.append(nn.BatchNorm1d(size))
    return nn.Sequential(*layers)


def build_while_true():
    layers, i = nn.ModuleList(), 0
    while True:
        i += 1
        if i > 3:
            break
        layers.append(nn.BatchNorm1d(i))
    else:
        layers.append(nn.Linear(1, 1))
    return layers


def build_for_else():
    net = nn.Sequential()
    for name, n in {"a": 1, "b": 2}.items():
        if n == 5:
            break
        net.add_module(name, nn.BatchNorm1d(n))
    else:
        net.add_module("last", nn.Linear(1, 1))
    return net


def build_match():
    def layer(spec):
        match spec:
            case "relu":
                return nn.ReLU()
            case ("linear", a, b):
                return nn.Linear(a, b)
            case ["bn", n] if n > 2:
                return nn.BatchNorm1d(n)
            case {"kind": "norm", "n": n}:
                return nn.LayerNorm(n)
            case int() | float():
                return nn.Dropout(spec)
            case _:
                return nn.Identity()

    return nn.Sequential(*[layer(s) for s in ["relu", ("linear", 2, 3), ["bn", 3], ["bn", 1], {"kind": "norm", "n": 3}, 0.5]])


def build_walrus():
    layers = []
    if (n := len(WIDTHS)) > 2:
        layers.append(nn.BatchNorm1d(n))
    while (n := n - 1) > 0:
        layers.append(nn.Linear(n, n))
    layers += [nn.Linear(w, w) for k in range(2) if (w := k + 5) != 5]
    return nn.Sequential(*layers)


def build_try_optional():
    return nn.Sequential(nn.Linear(2, 2), FancyNorm(2) if FancyNorm is not None else nn.BatchNorm1d(2))


def build_closure():
    count = 0

    def make(n):
        nonlocal count
        count += 1
        return nn.Linear(n, count)

    def twice(f):
        return lambda *a: nn.Sequential(f(*a), nn.BatchNorm1d(count), f(*a))

    return twice(make)(3)


def build_early_return():
    def block(n, norm):
        conv = nn.Linear(n, n)
        if not norm:
            return conv
        return nn.Sequential(conv, nn.BatchNorm1d(n))

    return nn.Sequential(block(2, False), block(3, True))


def build_formats():
    net = nn.Module()
    for i, (name, width) in enumerate(sorted({"b": 2, "a": 1}.items(), reverse=True)):
        net.add_module("{name}_{0:03d}".format(i, name=name), nn.Linear(width, width))
        net.add_module("%s-%02d" % (name, i), nn.BatchNorm1d(width))
        net.add_module(f"{name!s}{i + 1:>2}".replace(" ", "_"), nn.Linear(1, 1))
        net.add_module("_".join(["x", name, str(i)]).upper(), nn.BatchNorm1d(1))
    return net


def build_builtins():
    layers = list(map(lambda n: nn.Linear(n, n), filter(lambda n: n % 2, range(6))))
    layers += [nn.BatchNorm1d(max(WIDTHS)), nn.BatchNorm1d(min(3, 2)), nn.BatchNorm1d(abs(-4)), nn.BatchNorm1d(divmod(7, 2)[0])]
    layers += [nn.Linear(a, b) for a, b in zip(reversed([1, 2, 3]), sorted([9, 8, 7]))]
    layers += [nn.Linear(round(2.6), int(3.9)), nn.BatchNorm1d(pow(2, 3)), nn.BatchNorm1d(len("abc") + any([0, 1]))]
    layers += [nn.BatchNorm1d(n) for n in dict.fromkeys([3, 1, 3])]
    return nn.Sequential(*layers)


def build_itertools():
    pairs = itertools.product((1, 2), (3,))
    layers = [nn.Linear(a, b) for a, b in itertools.chain(pairs, [(4, 5)])]
    layers += [nn.BatchNorm1d(n) for n in itertools.accumulate([1, 2, 3])]
    layers += [nn.Linear(a, b) for a, b in itertools.pairwise([2, 4, 6])]
    layers += [nn.BatchNorm1d(reduce(operator.mul, [2, 3, 4], 1)), nn.BatchNorm1d(math.ceil(4.2))]
    layers += [nn.Linear(n, 1) for n, _ in zip(itertools.count(start=2), range(2))]
    layers += [nn.Linear(n, n) for n in itertools.islice([5, 6, 7], 2)]
    return nn.Sequential(*layers)


def build_nested_functions():
    def outer(width):
        def inner(depth, width=width):
            return [nn.Linear(width, width) for _ in range(depth)]

        return nn.Sequential(*inner(2), nn.BatchNorm1d(width))

    return outer(3)


class Flags(nn.Module):
    def __init__(self, mode="small", aux=False, version=2):
        super().__init__()
        if mode not in {"small", "large"}:
            raise ValueError(mode)
        widths = {"small": (2, 3), "large": (4, 5)}[mode]
        self.a = nn.Linear(*widths)
        if mode == "large" and version >= 2 or aux:
            self.bn = nn.BatchNorm1d(widths[1])
        elif not aux:
            self.ln = nn.LayerNorm(widths[1])
        self.aux = nn.Linear(1, 1) if aux else None
        assert version in (1, 2), "unknown version"
        self.b = {1: nn.Linear, 2: nn.Bilinear}[version](*([2] * (version + 1)))


def build_flags_small():
    return Flags()


def build_flags_large():
    return nn.Sequential(Flags("large"), Flags(version=1, aux=True))


@lru_cache(maxsize=None)
def cached(n):
    return n * 2


def make(kind, *args, **kwargs):
    return {"lin": nn.Linear, "bn": nn.BatchNorm1d, "drop": nn.Dropout}[kind](*args, **kwargs)


def build_table_of_calls():
    spec = [("lin", (2, cached(2)), {"bias": False}), ("bn", (4,), {}), ("drop", (), {"p": 0.5}), ("bn", [4], dict(affine=False))]
    return nn.Sequential(*[make(kind, *args, **kwargs) for kind, args, kwargs in spec])


def build_eval_free_string_table():
    text = "linear:2:3 bn:3 linear:3:1"
    net = nn.Sequential()
    for part in text.split():
        kind, *numbers = part.split(":")
        numbers = [int(n) for n in numbers]
        net.append(nn.Linear(*numbers) if kind == "linear" else nn.BatchNorm1d(numbers[0]))
    return net


def build_global_statement():
    return nn.Sequential(*[counted() for _ in range(3)])


COUNTER = 0


def counted():
    global COUNTER
    COUNTER += 1
    return nn.BatchNorm1d(COUNTER % 3 + 1)


class Builder:
    """A fluent builder that is no module."""

    def __init__(self):
        self.layers = []

    def linear(self, a, b):
        self.layers.append(nn.Linear(a, b))
        return self

    def norm(self, n, enabled=True):
        if enabled:
            self.layers.append(nn.BatchNorm1d(n))
        return self

    def __call__(self):
        return nn.Sequential(*self.layers)


def build_fluent():
    return Builder().linear(2, 3).norm(3).norm(9, enabled=False).linear(3, 1)()


class Stack:
    def __init__(self, *items):
        self.items = list(items)

    def __iter__(self):
        return iter(self.items)

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


def build_protocols():
    stack = Stack(nn.Linear(1, 1), nn.BatchNorm1d(1), nn.Linear(1, 2))
    return nn.Sequential(*stack, nn.BatchNorm1d(len(stack)), nn.Linear(stack[2].out_features, 1))


def build_unpacking():
    (a, b), *rest = [(1, 2), (3, 4), (5, 6)]
    head, *_, last = range(5)
    first, = [7]
    return nn.Sequential(nn.Linear(a, b), *[nn.Linear(x, y) for x, y in rest], nn.Linear(head + first, last))


def build_aliased_names():
    conv, bn = nn.Conv2d, nn.BatchNorm2d
    L = nn.Linear
    return nn.Sequential(conv(1, 2, 3), bn(2), L(2, 2))


def build_string_key_loops():
    net = nn.ModuleDict()
    for branch in "ab":
        for size in (1, 3):
            net[branch + str(size)] = nn.Conv2d(1, 2, size)
        net[f"{branch}_bn"] = nn.BatchNorm2d(2)
    return net


def build_default_dict():
    groups = defaultdict(list)
    for name, layer in [("x", nn.Linear(1, 1)), ("y", nn.BatchNorm1d(1)), ("x", nn.BatchNorm1d(1))]:
        groups[name].append(layer)
    return nn.ModuleDict({name: nn.Sequential(*layers) for name, layers in groups.items()})


def build_conditional_expression_chain():
    kind = "c"
    width = 1 if kind == "a" else 2 if kind == "b" else 3
    return nn.Sequential(nn.BatchNorm1d(width), (nn.ReLU, nn.PReLU)[kind == "c"]())


def build_with_statement():
    with torch.no_grad():
        net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
        net[0].weight.fill_(1.0)
    return net


def build_try_finally():
    net = nn.Sequential()
    try:
        net.append(nn.Linear(1, 1))
    except ValueError:
        net.append(nn.BatchNorm1d(9))
    else:
        net.append(nn.BatchNorm1d(1))
    finally:
        net.append(nn.Linear(1, 2))
    return net
