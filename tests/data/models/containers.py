"""Sequential, ModuleList, ModuleDict, ParameterList and ParameterDict, filled in every way."""
from collections import OrderedDict

import torch
import torch.nn as nn
from torch.nn import BatchNorm2d as BN
from torch.nn import Conv2d, Linear, ReLU, Sequential


def build_positional():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 6 * 6, 10))


def build_ordered_dict():
    return Sequential(OrderedDict([("conv", Conv2d(3, 4, 3)), ("bn", BN(4)), ("act", ReLU()), ("head", Linear(4, 2))]))


def build_ordered_dict_filled():
    layers = OrderedDict()
    layers["conv"] = nn.Conv2d(1, 2, 3)
    layers["norm"] = nn.BatchNorm2d(2)
    layers["norm2"] = nn.BatchNorm2d(2)
    layers["conv"] = nn.Conv2d(1, 4, 5)
    return nn.Sequential(layers)


def build_nested():
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)),
        nn.Sequential(nn.Sequential(nn.Conv2d(4, 4, 1)), nn.BatchNorm2d(4)),
        nn.Linear(4, 1),
    )


def build_list_unpacked():
    layers = []
    for width_in, width_out in zip([3, 8, 16], [8, 16, 32]):
        layers += [nn.Conv2d(width_in, width_out, 3, padding=1), nn.BatchNorm2d(width_out), nn.ReLU(True)]
    layers.append(nn.AdaptiveAvgPool2d(1))
    layers.extend([nn.Flatten(), nn.Linear(32, 10)])
    return nn.Sequential(*layers)


def build_appended():
    net = nn.Sequential()
    net.append(nn.Linear(4, 8))
    net.append(nn.BatchNorm1d(8)).append(nn.ReLU())
    net.extend([nn.Linear(8, 8), nn.BatchNorm1d(8)])
    net.insert(0, nn.BatchNorm1d(4))
    return net


def build_added_by_name():
    net = nn.Sequential()
    for i in range(3):
        net.add_module(f"conv{i}", nn.Conv2d(3 if i == 0 else 2 ** i, 2 ** (i + 1), 3))
        net.add_module("bn{}".format(i), nn.BatchNorm2d(2 ** (i + 1)))
        net.add_module("relu%d" % i, nn.ReLU())
    net.add_module(name="fc", module=nn.Linear(8, 2))
    return net


def build_slice():
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 5))
    return nn.Sequential(net[:2], net[3:], net[-1])


def build_children_but_last():
    base = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Linear(4, 10))
    return nn.Sequential(*list(base.children())[:-1], nn.Linear(4, 2))


def build_children_stepwise():
    base = nn.Sequential(nn.Linear(1, 2), nn.BatchNorm1d(2), nn.Linear(2, 3), nn.BatchNorm1d(3))
    return nn.Sequential(*list(base.children())[::2])


def build_item_assignment():
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 4))
    net[1] = nn.BatchNorm1d(3)
    net[-1] = nn.Linear(3, 7, bias=False)
    return net


def build_item_deletion():
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 4))
    del net[1]
    return net


def build_sequential_pop():
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 4))
    net.pop(-1)
    return net


def build_sequential_sum():
    first = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    second = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    return first + second


class Listed(nn.Module):
    def __init__(self, widths=(3, 4, 5)):
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(a, b, 3) for a, b in zip(widths[:-1], widths[1:])])
        self.norms = nn.ModuleList(nn.BatchNorm2d(w) for w in widths[1:])
        self.extra = nn.ModuleList()
        for w in reversed(widths):
            self.extra.append(nn.Linear(w, 1))
        self.extra.extend([nn.Identity(), nn.BatchNorm1d(1)])
        self.extra.insert(1, nn.Linear(7, 7))
        self.extra += [nn.PReLU()]

    def forward(self, x):
        return x


def build_module_list():
    return Listed()


class Keyed(nn.Module):
    def __init__(self):
        super().__init__()
        self.heads = nn.ModuleDict({"a": nn.Linear(2, 3), "b": nn.BatchNorm1d(3)})
        self.heads["c"] = nn.Linear(3, 4)
        self.heads.update({"d": nn.BatchNorm1d(4), "a": nn.Linear(2, 9)})
        self.more = nn.ModuleDict([["x", nn.Linear(1, 1)], ("y", nn.BatchNorm1d(1))])
        self.table = nn.ModuleDict({f"task_{name}": nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, n))
                                    for name, n in {"age": 1, "sex": 2}.items()})
        self.heads.pop("b")


def build_module_dict():
    return Keyed()


class Parameters(nn.Module):
    def __init__(self):
        super().__init__()
        self.scales = nn.ParameterList([nn.Parameter(torch.ones(i + 1)) for i in range(3)])
        self.named = nn.ParameterDict({"left": nn.Parameter(torch.zeros(2, 3)), "right": torch.zeros(4)})
        self.scales.append(nn.Parameter(torch.zeros(7)))
        self.named["middle"] = nn.Parameter(torch.zeros(1))
        self.bn = nn.BatchNorm1d(3)


def build_parameter_containers():
    return Parameters()


def build_sequential_of_comprehension():
    return nn.Sequential(*[m for i in range(2) for m in (nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU())], nn.Linear(4, 1))


def build_repeated_object():
    block = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    return nn.Sequential(*[block] * 2, nn.Linear(4, 1))


def build_dict_of_layers():
    layers = {"fc1": nn.Linear(2, 2), "bn": nn.BatchNorm1d(2)}
    layers.update(fc2=nn.Linear(2, 1))
    return nn.Sequential(OrderedDict(**layers))


class Wrapped(nn.Sequential):
    def __init__(self, inp, out, **kwargs):
        super().__init__(nn.Conv2d(inp, out, 3, bias=False, **kwargs), nn.BatchNorm2d(out), nn.ReLU6(inplace=True))
        self.out_channels = out


def build_sequential_subclass():
    first = Wrapped(3, 8, stride=2)
    return nn.Sequential(first, Wrapped(first.out_channels, 16, groups=8), nn.Linear(16, 2))


class Walk(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.last = self.net[-1].num_features
        self.head = nn.Linear(self.last, len(self.net))
        for idx, layer in enumerate(self.net):
            self.add_module("copy_%d" % idx, nn.BatchNorm2d(layer.weight.shape[0]))


def build_reads_its_parts():
    return Walk()


def build_named_children_renamed():
    base = nn.Sequential(OrderedDict(conv1=nn.Conv2d(3, 4, 1), bn1=nn.BatchNorm2d(4), fc=nn.Linear(4, 2)))
    kept = OrderedDict((name, child) for name, child in base.named_children() if name != "fc")
    return nn.Sequential(kept)


class ListedTwice(nn.ModuleList):
    def __init__(self, n):
        super().__init__([nn.BatchNorm1d(n) for _ in range(n)])
        self.tail = nn.Linear(n, n)


def build_module_list_subclass():
    return ListedTwice(2)


def build_extend_sequential():
    net = nn.Sequential(nn.Linear(2, 2))
    other = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 3))
    net.extend(other)
    net.add_module("tail", nn.BatchNorm1d(3))
    net.append(nn.Linear(3, 1))
    return net
