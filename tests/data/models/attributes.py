"""self.x in __init__ and in what it calls; setattr, getattr, add_module, registration order."""
import math

import torch
from torch import nn
from torch.nn import functional as F


class Plain(nn.Module):
    def __init__(self, num_classes=10):
        super(Plain, self).__init__()
        self.conv1 = nn.Conv2d(3, 16, kernel_size=5, stride=1, padding=2)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        self.fc = nn.Linear(16 * 16 * 16, num_classes)

    def forward(self, x):
        x = F.max_pool2d(self.relu(self.bn1(self.conv1(x))), 2)
        return self.fc(x.flatten(1))


def build_plain():
    return Plain()


def build_plain_keyword():
    return Plain(num_classes=3)


class InMethods(nn.Module):
    def __init__(self):
        super().__init__()
        self.inp = 3
        self._build_stem()
        self.head = self._head(8, bias=False)
        self.build()

    def _build_stem(self):
        self.stem = nn.Conv2d(self.inp, 8, 3)
        self.stem_bn = nn.BatchNorm2d(8)

    def _head(self, n, bias=True):
        self.hidden = nn.Linear(n, n, bias=bias)
        return nn.Linear(n, 2)

    def build(self):
        self.last, self.norm = nn.Linear(2, 2), nn.BatchNorm1d(2)


def build_in_methods():
    return InMethods()


class SetAttr(nn.Module):
    def __init__(self, depth=3):
        super().__init__()
        self.depth = depth
        for i in range(1, depth + 1):
            setattr(self, f"conv{i}", nn.Conv1d(2 ** (i - 1), 2 ** i, 3))
            setattr(self, "bn" + str(i), nn.BatchNorm1d(2 ** i))
        for i in range(depth):
            layer = getattr(self, f"bn{i + 1}")
            self.add_module("fc_{:02d}".format(i), nn.Linear(layer.num_features, 1))
        self.__setattr__("tail", nn.Linear(1, 1))


def build_setattr():
    return SetAttr()


class Replaced(nn.Module):
    """Assigning over a name keeps its place; assigning None drops it."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(2, 2)
        self.b = nn.BatchNorm1d(2)
        self.c = nn.Linear(2, 2)
        self.a = nn.BatchNorm1d(5)
        self.b = None
        del self.c
        self.c = nn.Linear(3, 3)
        self.d = None
        self.d = nn.Linear(1, 1)


def build_replaced():
    return Replaced()


class BuffersFirst(nn.Module):
    def __init__(self, n=4):
        super().__init__()
        self.register_buffer("steps", torch.zeros(1, dtype=torch.long))
        self.fc = nn.Linear(n, n)
        self.scale = nn.Parameter(torch.ones(n))
        self.register_buffer("mask", torch.ones(n, n).bool(), persistent=False)
        self.register_buffer("index", torch.arange(n))
        self.register_buffer("nothing", None)
        self.register_parameter("shift", nn.Parameter(torch.zeros(n)))
        self.register_parameter("absent", None)
        self.register_buffer("count", torch.tensor(3))
        self.register_buffer("ready", torch.tensor(False))
        self.register_buffer("table", torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64))
        self.plain = torch.zeros(3)


def build_buffers():
    return BuffersFirst()


class BufferChanged(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("running", torch.zeros(3))
        self.running = torch.ones(5)
        self.register_buffer("late", None)
        self.late = torch.zeros(2, 2)
        self.w = nn.Parameter(torch.zeros(1))
        self.w = nn.Parameter(torch.zeros(2))
        self.register_buffer("kept", torch.zeros(1), persistent=False)
        self.kept = torch.ones(9)


def build_buffer_reassigned():
    return BufferChanged()


class Arithmetic(nn.Module):
    def __init__(self, dim=6, heads=2):
        super().__init__()
        self.pos = nn.Parameter(torch.randn(1, 4 + 1, dim) * 0.02)
        self.cls = nn.Parameter(torch.zeros(1, 1, dim), requires_grad=False)
        self.temperature = nn.Parameter(torch.ones([]) * math.log(1 / 0.07))
        self.log = nn.Parameter(torch.log(10 * torch.ones((heads, 1, 1))))
        self.full = nn.Parameter(torch.full((dim,), 0.1))
        self.eye = nn.Parameter(torch.eye(dim) + torch.zeros(dim, dim))
        self.halved = nn.Parameter(torch.empty(dim, dtype=torch.half))
        self.seq = nn.Parameter(torch.arange(0, dim, 2).float())
        self.like = nn.Parameter(torch.zeros_like(self.pos))
        self.view = nn.Parameter(torch.linspace(0, 1, 5).view(1, 5, 1))
        self.old = nn.Parameter(torch.Tensor(heads, dim // heads))
        self.small = nn.Parameter(torch.Tensor([1.0, 2.0]))
        self.rand = nn.Parameter(torch.rand(dim, 2).unsqueeze(0))
        self.gamma = nn.Parameter(1e-6 * torch.ones(dim))
        self.neg = nn.Parameter(-torch.ones(dim))


def build_parameter_arithmetic():
    return Arithmetic()


class Tied(nn.Module):
    def __init__(self, vocab=11, dim=4):
        super().__init__()
        self.encoder = nn.Embedding(vocab, dim)
        self.bn = nn.BatchNorm1d(dim)
        self.decoder = nn.Linear(dim, vocab, bias=False)
        self.decoder.weight = self.encoder.weight
        self.second = nn.Linear(dim, dim)
        self.second.bias = self.bn.bias


def build_tied():
    return Tied()


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.bn = nn.BatchNorm2d(4)
        self.block = nn.Sequential(nn.Conv2d(4, 4, 1), self.bn)
        self.again = self.block
        self.norms = nn.ModuleList([self.bn, self.bn])


def build_shared():
    return Shared()


class Chained(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = self.b = nn.Linear(2, 2)
        self.c, (self.d, *self.rest) = nn.BatchNorm1d(2), (nn.Linear(2, 1), 1, 2)
        self.e: nn.Module = nn.Linear(1, 1)
        (self.f) = nn.Linear(2, 2) if (n := 3) > 2 else nn.BatchNorm1d(2)
        self.g = nn.Linear(n, n)


def build_targets():
    return Chained()


class WithProperty(nn.Module):
    def __init__(self):
        super().__init__()
        self.width = 4
        self.fc = self.layer
        self.out = nn.Linear(self.double, 1)

    @property
    def double(self):
        return self.width * 2

    @property
    def layer(self):
        return nn.Sequential(nn.Linear(self.width, self.double), nn.BatchNorm1d(self.double))


def build_property():
    return WithProperty()


class NoneOptional(nn.Module):
    def __init__(self, norm=None, drop=None, act=None):
        super().__init__()
        self.norm = norm(4) if norm else None
        self.drop = nn.Dropout(drop) if drop is not None else nn.Identity()
        self.act = act or nn.ReLU()
        self.fc = nn.Linear(4, 2)


def build_optional_absent():
    return NoneOptional()


def build_optional_given():
    return NoneOptional(norm=nn.BatchNorm1d, drop=0.1, act=nn.PReLU(4))


class PlainList(nn.Module):
    """A list of modules that is no ModuleList registers nothing."""

    def __init__(self):
        super().__init__()
        self.layers = [nn.Linear(2, 2), nn.BatchNorm1d(2)]
        self.table = {"a": nn.Linear(1, 1)}
        self.fc = nn.Linear(2, 1)


def build_plain_list():
    return PlainList()


class ViaRegistry(nn.Module):
    def __init__(self):
        super().__init__()
        self._modules["one"] = nn.Linear(2, 2)
        self._modules["two"] = nn.BatchNorm1d(2)
        self.register_module("three", nn.Linear(2, 1))
        self._modules["one"] = nn.Linear(2, 2, bias=False)


def build_registry():
    return ViaRegistry()


class MovedBetween(nn.Module):
    """A name moves from one registry to another."""

    def __init__(self):
        super().__init__()
        self.x = nn.Parameter(torch.zeros(2))
        self.y = nn.Linear(1, 1)
        del self.x
        self.x = nn.BatchNorm1d(2)
        self.z = 5
        self.z = nn.Linear(2, 2)


def build_moved_between():
    return MovedBetween()
