"""Every way to choose a norm layer, and every BatchNorm-like class and flag."""
import functools
from enum import Enum
from functools import partial
from typing import Callable, Optional, Type

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase


class Block(nn.Module):
    def __init__(self, width, norm_layer: Callable[..., nn.Module] = nn.BatchNorm2d, **norm_kwargs):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, bias=False)
        self.norm = norm_layer(width, **norm_kwargs)


def build_default_parameter():
    return Block(4)


def build_partial():
    return Block(4, norm_layer=partial(nn.BatchNorm2d, eps=1e-3, momentum=0.01))


def build_partial_of_partial():
    base = functools.partial(nn.BatchNorm2d, eps=1e-3)
    return Block(4, functools.partial(base, momentum=0.5, affine=False))


def build_lambda():
    return nn.Sequential(Block(4, lambda c: nn.GroupNorm(2, c)), Block(4, lambda n, **k: nn.BatchNorm2d(n, affine=False, **k), eps=0.5))


def build_forwarded_keywords():
    return Block(4, momentum=0.3, track_running_stats=False)


NORMS = {"bn": nn.BatchNorm2d, "in": nn.InstanceNorm2d, "gn": lambda c: nn.GroupNorm(2, c), "none": nn.Identity}


def build_by_name_in_dict():
    return nn.Sequential(*[Block(4, NORMS[name]) for name in ("bn", "in", "gn", "none")])


def get_norm(name, channels):
    name = name.lower()
    if name in ("bn", "batch", "batchnorm"):
        return nn.BatchNorm2d(channels)
    elif name == "in":
        return nn.InstanceNorm2d(channels, affine=True, track_running_stats=True)
    elif name.startswith("gn"):
        return nn.GroupNorm(int(name[2:]), channels)
    else:
        raise NotImplementedError(f"normalization layer [{name}] is not found")


def build_by_helper():
    return nn.Sequential(get_norm("BN", 4), get_norm("IN", 4), get_norm("gn2", 4))


def norm_factory(norm_type="instance"):
    if norm_type == "batch":
        norm_layer = functools.partial(nn.BatchNorm2d, affine=True, track_running_stats=True)
    elif norm_type == "instance":
        norm_layer = functools.partial(nn.InstanceNorm2d, affine=False, track_running_stats=False)
    elif norm_type == "none":
        def norm_layer(x):
            return nn.Identity()
    else:
        raise NotImplementedError("normalization layer [%s] is not found" % norm_type)
    return norm_layer


class UsesBias(nn.Module):
    def __init__(self, norm_layer):
        super().__init__()
        if type(norm_layer) == functools.partial:
            use_bias = norm_layer.func == nn.InstanceNorm2d
        else:
            use_bias = norm_layer == nn.InstanceNorm2d
        self.model = nn.Sequential(nn.Conv2d(3, 4, 3, bias=use_bias), norm_layer(4))


def build_factory_batch():
    return UsesBias(norm_factory("batch"))


def build_factory_instance():
    return UsesBias(norm_factory())


def build_factory_none():
    return UsesBias(norm_factory("none"))


def build_getattr_nn():
    dim = 2
    return nn.Sequential(getattr(nn, f"Conv{dim}d")(3, 4, 1), getattr(nn, "BatchNorm%dd" % dim)(4), getattr(torch.nn, "ReLU")())


def build_nn_dict():
    return nn.Sequential(nn.__dict__["Linear"](3, 4), nn.__dict__["BatchNorm1d"](4))


class NormKind(Enum):
    BATCH = "batch"
    GROUP = "group"
    NONE = None


def by_enum(kind: NormKind, width):
    if kind is NormKind.BATCH:
        return nn.BatchNorm1d(width)
    if kind == NormKind.GROUP:
        return nn.GroupNorm(1, width)
    return nn.Identity()


def build_enum():
    return nn.Sequential(by_enum(NormKind.BATCH, 3), by_enum(NormKind.GROUP, 3), by_enum(NormKind.NONE, 3))


class Dims(Enum):
    TWO = 2
    THREE = 3


def build_enum_value():
    bn = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
    return nn.Sequential(bn[Dims.TWO.value](4), bn[Dims["THREE"].value](4), bn[Dims(2).value](4))


def build_flags():
    return nn.Sequential(
        nn.BatchNorm2d(4, affine=False),
        nn.BatchNorm2d(4, track_running_stats=False),
        nn.BatchNorm2d(4, 1e-5, 0.1, False, False),
        nn.BatchNorm2d(4, momentum=None),
        nn.BatchNorm3d(4, eps=1e-3, momentum=0.9),
        nn.BatchNorm1d(num_features=4, dtype=torch.float64),
        nn.SyncBatchNorm(4),
        nn.InstanceNorm1d(4),
        nn.InstanceNorm2d(4, affine=True),
        nn.InstanceNorm3d(4, affine=True, track_running_stats=True),
        nn.InstanceNorm2d(4, track_running_stats=True),
        nn.LayerNorm(4),
        nn.LayerNorm([4, 5], elementwise_affine=False),
        nn.GroupNorm(2, 4, affine=False),
        nn.LocalResponseNorm(2),
        nn.RMSNorm(4),
    )


def build_lazy():
    return nn.Sequential(nn.LazyConv2d(8, 3), nn.LazyBatchNorm2d(), nn.LazyBatchNorm1d(affine=False), nn.Flatten(), nn.LazyLinear(10, bias=False))


class MyNorm(nn.BatchNorm2d):
    def __init__(self, channels, gain=1.0):
        super().__init__(channels, eps=1e-4, momentum=0.2)
        self.gain = nn.Parameter(torch.tensor(gain))

    def forward(self, x):
        return super().forward(x) * self.gain


class FromPrivate(_BatchNorm):
    def _check_input_dim(self, input):
        pass


class FixedStats(nn.BatchNorm2d):
    """No __init__ of its own."""


def build_subclasses():
    return nn.Sequential(MyNorm(4), FromPrivate(5), FixedStats(6, affine=False))


class OwnNorm(nn.Module):
    def __init__(self, num_features, momentum=0.1):
        super().__init__()
        self.momentum = momentum
        self.num_features = num_features
        self.eps = 1e-5
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    def forward(self, x):
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, self.training, self.momentum)


class FrozenNorm(nn.Module):
    def __init__(self, n, eps=1e-5):
        super().__init__()
        self.eps = eps
        self.register_buffer("weight", torch.ones(n))
        self.register_buffer("bias", torch.zeros(n))
        self.register_buffer("running_mean", torch.zeros(n))
        self.register_buffer("running_var", torch.ones(n))


def build_own_statistics():
    return nn.Sequential(nn.Linear(4, 4), OwnNorm(4), FrozenNorm(4))


class MovingNorm(nn.Module):
    def __init__(self, n, std=False):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(n))
        self.beta = nn.Parameter(torch.zeros(n))
        self.register_buffer("moving_mean", torch.zeros(n))
        self.register_buffer("running_std" if std else "moving_variance", torch.ones(n))
        self.register_buffer("mean", torch.zeros(n))


class Standardised(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("std", torch.ones(3))


def build_statistics_by_other_names():
    return nn.Sequential(Standardised(), nn.Linear(4, 4), MovingNorm(4), MovingNorm(5, std=True))


class MultiNorm(nn.Module):
    """One norm for each domain."""

    def __init__(self, width, domains=("a", "b"), cls: Type[nn.Module] = nn.BatchNorm2d):
        super().__init__()
        self.bns = nn.ModuleList([cls(width) for _ in domains])
        self.by_name = nn.ModuleDict({name: cls(width, affine=False) for name in domains})


def build_domain_specific():
    return nn.Sequential(MultiNorm(3), MultiNorm(2, "xyz", nn.InstanceNorm2d))


try:
    from apex.parallel import SyncBatchNorm as ApexNorm
except ImportError:
    ApexNorm = nn.BatchNorm2d

try:
    import inplace_abn

    HAS_ABN = True
except ImportError:
    HAS_ABN = False


class Optional_(nn.Module):
    def __init__(self, norm: Optional[Callable] = None):
        super().__init__()
        norm = norm or nn.BatchNorm2d
        self.norm = norm(3)


def build_or_default():
    return Optional_()


def build_sync_conversion():
    return nn.SyncBatchNorm.convert_sync_batchnorm(Block(4, partial(nn.BatchNorm2d, momentum=0.3)))


class WithStatic(nn.Module):
    norm_layer = nn.BatchNorm1d
    width = 3

    def __init__(self):
        super().__init__()
        self.n1 = self.norm_layer(self.width)
        self.n2 = WithStatic.norm_layer(WithStatic.width * 2)
        self.n3 = type(self).norm_layer(self.__class__.width)


class OtherStatic(WithStatic):
    norm_layer = nn.InstanceNorm1d
    width = 5


def build_class_attributes():
    return nn.Sequential(WithStatic(), OtherStatic())


def build_conditional_layers():
    layers = []
    for use_bn, width in [(True, 4), (False, 8), (True, 16)]:
        layers.append(nn.Linear(width, width, bias=not use_bn))
        layers += [nn.BatchNorm1d(width)] if use_bn else []
        layers.append(nn.ReLU() if width != 8 else nn.PReLU(num_parameters=width))
    return nn.Sequential(*filter(None, layers))


def build_none_filtered():
    parts = [nn.Linear(2, 2), None, nn.BatchNorm1d(2), None]
    return nn.Sequential(*(p for p in parts if p is not None))
