"""Bases of every depth, mixins, diamonds, abstract classes, super() in every form, registration by inherited methods."""
import abc
from abc import ABC, abstractmethod

import torch
import torch.nn as nn
from torch.nn import Module

PARTIAL = {"build_registry_by_decorator": []}


class Level0(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.stem = nn.Linear(1, width)
        self.body = self.make_body(width)

    def make_body(self, width):
        return nn.Identity()


class Level1(Level0):
    def __init__(self, width, depth=2):
        self.depth = depth
        super(Level1, self).__init__(width)
        self.norm = nn.BatchNorm1d(width)

    def make_body(self, width):
        return nn.Sequential(*[nn.Linear(width, width) for _ in range(self.depth)])


class Level2(Level1):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.head = nn.Linear(self.norm.num_features, 1)


class Level3(Level2):
    def make_body(self, width):
        body = super().make_body(width)
        body.append(nn.BatchNorm1d(width))
        return body


def build_depth_three():
    return Level3(4, depth=3)


class Explicit(Level0):
    def __init__(self):
        Level0.__init__(self, 3)
        self.fc = nn.Linear(3, 3)


def build_explicit_base():
    return Explicit()


class OldStyle(Module):
    def __init__(self):
        nn.Module.__init__(self)
        self.bn = nn.BatchNorm1d(2)


def build_module_init():
    return OldStyle()


class NormMixin:
    norm_class = nn.BatchNorm2d

    def make_norm(self, n):
        return self.norm_class(n)


class HeadMixin(object):
    def add_head(self, n, classes):
        self.head = nn.Linear(n, classes)


class Mixed(NormMixin, HeadMixin, nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.bn = self.make_norm(4)
        self.add_head(4, 2)


def build_mixins():
    return Mixed()


class Root(nn.Module):
    def __init__(self, **kw):
        super().__init__()
        self.root = nn.Linear(1, 1)


class Left(Root):
    def __init__(self, left=2, **kw):
        super().__init__(**kw)
        self.left = nn.BatchNorm1d(left)


class Right(Root):
    def __init__(self, right=3, **kw):
        super().__init__(**kw)
        self.right = nn.BatchNorm1d(right)


class Diamond(Left, Right):
    def __init__(self, bottom=4, **kw):
        super().__init__(**kw)
        self.bottom = nn.BatchNorm1d(bottom)


def build_diamond():
    return Diamond(left=5, right=6)


class Abstract(nn.Module, ABC):
    def __init__(self, n):
        super().__init__()
        self.n = n
        self.enc = self._encoder()
        self.dec = self._decoder()

    @abstractmethod
    def _encoder(self):
        raise NotImplementedError

    @abc.abstractmethod
    def _decoder(self): ...


class Concrete(Abstract):
    def _encoder(self):
        return nn.Sequential(nn.Linear(self.n, 2), nn.BatchNorm1d(2))

    def _decoder(self):
        return nn.Linear(2, self.n)


def build_abstract():
    return Concrete(6)


class NoInit(Level0):
    extra = 1

    def forward(self, x):
        return self.body(self.stem(x))


def build_without_init():
    return NoInit(7)


class SubSequential(nn.Sequential):
    def __init__(self, n, norm=True):
        layers = [nn.Linear(n, n)]
        if norm:
            layers.append(nn.BatchNorm1d(n))
        super(SubSequential, self).__init__(*layers)


class SubSub(SubSequential):
    def __init__(self, n):
        super().__init__(n, norm=True)
        self.add_module("tail", nn.Linear(n, 1))
        self.other = nn.BatchNorm1d(1)


def build_sequential_subclasses():
    return SubSub(3)


class ConvLike(nn.Conv2d):
    def __init__(self, *args, groups=2, **kwargs):
        super().__init__(*args, groups=groups, bias=False, **kwargs)
        self.register_buffer("mask", torch.ones_like(self.weight))
        self.scale = nn.Parameter(torch.ones(self.out_channels, 1, 1, 1))


def build_layer_subclass():
    return nn.Sequential(ConvLike(4, 6, 3, padding=1), nn.BatchNorm2d(6))


class Factory(nn.Module):
    def __init__(self, layers):
        super().__init__()
        self.net = nn.Sequential(*layers)

    @classmethod
    def from_widths(cls, *widths, norm=True):
        return cls(cls._layers(widths, norm))

    @staticmethod
    def _layers(widths, norm):
        found = []
        for a, b in zip(widths, widths[1:]):
            found.append(nn.Linear(a, b))
            if norm:
                found.append(nn.BatchNorm1d(b))
        return found

    @classmethod
    def small(cls):
        return cls.from_widths(2, 3)


def build_classmethod():
    return Factory.from_widths(4, 5, 6)


def build_classmethod_of_classmethod():
    return Factory.small()


class Replaces(Level1):
    def __init__(self):
        super().__init__(3)
        self.norm = nn.LayerNorm(3)
        del self.stem


def build_child_replaces():
    return Replaces()


class Registered(nn.Module):
    registry = {}

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        cls.registry[cls.__name__] = cls


class RegisteredA(Registered):
    def __init__(self, n=2):
        super().__init__()
        self.bn = nn.BatchNorm1d(n)


MODELS = {}


def register(name):
    def wrap(cls):
        MODELS[name] = cls
        return cls

    return wrap


@register("net_a")
class NetA(nn.Module):
    def __init__(self, n=3):
        super().__init__()
        self.bn = nn.BatchNorm1d(n)


@register("net_b")
class NetB(nn.Module):
    def __init__(self, n=3):
        super().__init__()
        self.fc = nn.Linear(n, n)


def build_registry_by_decorator():
    return nn.Sequential(MODELS["net_a"](4), MODELS["net_b"]())


class CallsSiblings(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = self.pair(2, 3)
        for number, layer in enumerate(self.many(2)):
            self.add_module(f"m{number}", layer)
        table = self.named()
        self.third = table["x"]
        self.fourth = nn.ModuleDict(table)

    def pair(self, a, b):
        return nn.Linear(a, b), nn.BatchNorm1d(b)

    def many(self, n):
        for i in range(n):
            yield nn.Linear(i + 1, i + 1)
            yield nn.BatchNorm1d(i + 1)

    def named(self):
        return {"x": nn.Linear(1, 1), "y": nn.BatchNorm1d(1)}


def build_helpers_return_many():
    return CallsSiblings()


class SuperTwice(Level0):
    """Initialises its base again."""

    def __init__(self):
        super().__init__(2)
        self.lost = nn.BatchNorm1d(9)
        super().__init__(3)
        self.kept = nn.BatchNorm1d(3)


def build_initialised_twice():
    return SuperTwice()
