"""The models the plan is tried on: small, and each with one thing about its state that may upset an exchange.

All take images of shape (N, 1, 4, 4) and give two logits. Every parameter gets a gradient.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrizations

__all__ = ["MODELS", "Model", "party_builder"]


class Net(nn.Module):
    """Runs its modules in the order given, and offers what moon and fed_gen ask of a model."""

    def __init__(self, **members: Any) -> None:
        super().__init__()
        self.temperature, self.mu, self.num_classes = 0.5, 0.1, 2
        self.cosine_similarity_fn = partial(nn.functional.cosine_similarity, dim=-1)
        self.kl_div_loss = partial(nn.functional.kl_div, reduction="batchmean")
        self.route: list[str] = []
        for name, member in members.items():
            if isinstance(member, (nn.Module, nn.Parameter)):
                setattr(self, name, member)
            else:
                self.register_buffer(name, member)
            if isinstance(member, nn.Module) and not isinstance(member, (nn.ParameterList, nn.ParameterDict)):
                self.route.append(name)

    def forward(self, x: torch.Tensor, return_all: bool = False, start_layer_idx: int = 0) -> Any:
        if start_layer_idx == -1:
            return _logits(self, self.get_submodule(self.route[-1])(x))
        for name in self.route:
            x = _run(self.get_submodule(name), x)
        out = _logits(self, x)
        return (x, out, out) if return_all else out


class Root(nn.Sequential):
    """A Sequential as the root: its keys begin with a number."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for module in self:
            x = _run(module, x)
        return _logits(self, x)


class Direct(nn.Module):
    """Only parameters and buffers at the root."""

    def __init__(self, **members: torch.Tensor) -> None:
        super().__init__()
        for name, member in members.items():
            if isinstance(member, nn.Parameter):
                setattr(self, name, member)
            else:
                self.register_buffer(name, member)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _logits(self, x)


class BareNorm(nn.BatchNorm2d):
    """A BatchNorm that is the whole model."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _logits(self, super().forward(x))


class GatedNorm(nn.BatchNorm2d):
    """A custom subclass with state of its own, below it too."""

    def __init__(self, features: int) -> None:
        super().__init__(features)
        self.gate = nn.Parameter(torch.rand(features))
        self.mix = nn.Conv2d(features, features, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.mix(super().forward(x)) * self.gate[:, None, None]
        return out


class SyncNorm(nn.SyncBatchNorm):
    """SyncBatchNorm refuses to train on a CPU; its state is what is tried here."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, True)


class FrozenNorm(nn.Module):
    """A frozen BatchNorm: four buffers, no counter, no parameter."""

    def __init__(self, features: int) -> None:
        super().__init__()
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(name, torch.rand(features) + 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight, bias, mean, var = self.buffers()
        return nn.functional.batch_norm(x, mean, var, weight, bias)


class EvoNorm(nn.Module):
    """A norm layer with a running variance alone."""

    running_var: torch.Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(features))
        self.register_buffer("running_var", torch.ones(features))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.running_var.lerp_(x.detach().var((0, 2, 3)), 0.1)
        return x / (self.running_var[:, None, None] + 1).sqrt() * self.weight[:, None, None]


class Scale(nn.Module):
    """A learned temperature: a 0-d parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scale


class Marked(nn.Module):
    """A buffer, as given, beside a layer."""

    def __init__(self, layer: nn.Module, persistent: bool = True, **buffers: torch.Tensor) -> None:
        super().__init__()
        for name, tensor in buffers.items():
            self.register_buffer(name, tensor, persistent=persistent)
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layer(x)
        return out


def _run(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """A module's output, in the floating point of its own parameters."""
    own = next((p for p in module.parameters() if p.is_floating_point()), None)
    out: torch.Tensor = module(x if own is None else x.to(own.dtype))
    return out


def _logits(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Two float32 logits that every parameter has a share in."""
    share = torch.zeros(())
    for parameter in model.parameters():
        share = share + parameter.abs().float().mean()
    out = x.float().flatten(1)[:, :2] * (1 + 0.01 * share)
    return out + share * torch.tensor([0.0, 0.1])


def _counted(norm: nn.Module, steps: int) -> nn.Module:
    """A norm layer that was trained before."""
    assert isinstance(norm.num_batches_tracked, torch.Tensor)
    norm.num_batches_tracked.fill_(steps)
    return norm


def _conv(channels: int = 1, out: int = 3, **kwargs: Any) -> nn.Conv2d:
    return nn.Conv2d(channels, out, kwargs.pop("kernel_size", 3), **kwargs)


def _head() -> OrderedDict[str, nn.Module]:
    return OrderedDict(flat=nn.Flatten(), fc=nn.Linear(12, 2))


def _block() -> nn.Sequential:
    return nn.Sequential(_conv(), nn.BatchNorm2d(3), nn.ReLU())


def _lazy() -> nn.Module:
    model = Net(conv=_conv(), bn=nn.LazyBatchNorm2d(), **_head())
    model(torch.zeros(2, 1, 4, 4))
    return model


def _shared_norm() -> nn.Module:
    norm = nn.BatchNorm2d(3)
    model = Net(conv=_conv(), bn=norm, more=nn.Sequential(_conv(3, 3, kernel_size=1), norm), **_head())
    return model


def _shared_norm_without_counter() -> nn.Module:
    norm = nn.BatchNorm2d(3, track_running_stats=False)
    return Net(conv=_conv(), bn=norm, more=nn.Sequential(_conv(3, 3, kernel_size=1), norm), **_head())


def _twice_at_top() -> nn.Module:
    norm = nn.BatchNorm2d(3)
    return Net(conv=_conv(), bn1=norm, mix=_conv(3, 3, kernel_size=1), bn2=norm, **_head())


def _tied() -> nn.Module:
    a, b = _conv(3, 3, kernel_size=1), _conv(3, 3, kernel_size=1)
    b.weight = a.weight
    return Net(first=_conv(), a=a, bn=nn.BatchNorm2d(3), b=b, **_head())


def _tied_ends() -> nn.Module:
    """The tied tensor is stale by one of its keys and averaged by the other."""
    first, last = nn.Linear(12, 12), nn.Linear(12, 12)
    last.weight = first.weight
    return Net(conv=_conv(), flat=nn.Flatten(), first=first, bn=nn.BatchNorm1d(12), last=last)


def _nested_and_top() -> nn.Module:
    first = nn.Sequential(OrderedDict(conv=_conv(), bn=nn.BatchNorm2d(3)))
    return Net(first=first, bn=nn.BatchNorm2d(3), second=_conv(3, 3, kernel_size=1), **_head())


def _tied_free_of_norms() -> nn.Module:
    first, last = nn.Linear(12, 12), nn.Linear(12, 12)
    last.weight = first.weight
    return Net(conv=_conv(), flat=nn.Flatten(), first=first, last=last)


@dataclass(frozen=True)
class Model:
    """A model under test.

    Attributes:
        build: makes it.
        net: whether it offers what moon and fed_gen ask for.
        latent: the width of its last layer's input, if that is what fed_gen's server may take it to be.
        parties: how many train it.
    """

    build: Callable[[], nn.Module]
    net: bool = True
    latent: int | None = None
    parties: int = 2


def _net(latent: int | None = None, parties: int = 2, **members: Any) -> Model:
    """A Net of members that are built anew at each call."""

    def build() -> nn.Module:
        return Net(
            **{
                name: member() if callable(member) and not isinstance(member, nn.Module) else member
                for name, member in members.items()
            }
        )

    return Model(build, latent=latent, parties=parties)


_bn = partial(nn.BatchNorm2d, 3)
_fc = partial(nn.Linear, 12, 2)
_mix = partial(_conv, 3, 3, kernel_size=1)
_ints = partial(torch.arange, 1, 10)
_bools = partial(torch.ones, 9, dtype=torch.bool)

MODELS: dict[str, Model] = {
    # Order.
    "no norm": _net(conv=_conv, flat=nn.Flatten, fc=_fc, latent=12, parties=3),
    "group norm": _net(conv=_conv, gn=partial(nn.GroupNorm, 3, 3), flat=nn.Flatten, fc=_fc, latent=12),
    "norm last": _net(
        conv=_conv, flat=nn.Flatten, fc=partial(nn.Linear, 12, 2), bn=partial(nn.BatchNorm1d, 2), parties=3
    ),
    "two norms last": _net(
        conv=_conv,
        flat=nn.Flatten,
        fc=partial(nn.Linear, 12, 2),
        a=partial(nn.BatchNorm1d, 2),
        b=partial(nn.BatchNorm1d, 2),
    ),
    "norm in the middle": _net(conv=_conv, bn=_bn, flat=nn.Flatten, fc=_fc, latent=12, parties=3),
    "norm first": _net(bn=partial(nn.BatchNorm2d, 1), conv=_conv, flat=nn.Flatten, fc=_fc, latent=12),
    "conv and norm, thrice": _net(
        c1=_conv, b1=_bn, c2=_mix, b2=_bn, c3=_mix, b3=_bn, flat=nn.Flatten, fc=_fc, latent=12
    ),
    "without biases": _net(
        c1=partial(_conv, bias=False),
        b1=_bn,
        c2=partial(_conv, 3, 3, kernel_size=1, bias=False),
        b2=_bn,
        flat=nn.Flatten,
        fc=partial(nn.Linear, 12, 2, bias=False),
    ),
    "equal shapes around": _net(
        a=partial(_conv, 1, 3), b1=_bn, m=_mix, d=_mix, e=_mix, f=_mix, g=_mix, h=_mix, flat=nn.Flatten, fc=_fc
    ),
    "only vectors": _net(
        flat=nn.Flatten,
        a=partial(nn.BatchNorm1d, 16),
        b=partial(nn.LayerNorm, 16),
        m=partial(nn.LayerNorm, 16),
        d=partial(nn.BatchNorm1d, 16),
        e=partial(nn.LayerNorm, 16),
        f=partial(nn.LayerNorm, 16),
        g=partial(nn.LayerNorm, 16),
    ),
    # Nesting.
    "nested": _net(body=_block, flat=nn.Flatten, fc=_fc, latent=12),
    "nested and top": Model(_nested_and_top),
    "nested without statistics": _net(
        body=lambda: nn.Sequential(_conv(), nn.BatchNorm2d(3, track_running_stats=False)),
        flat=nn.Flatten,
        fc=_fc,
        latent=12,
    ),
    "sequential root": Model(lambda: Root(_conv(), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 2)), net=False),
    "sequential root, norm last": Model(
        lambda: Root(_conv(), nn.Flatten(), nn.Linear(12, 2), nn.BatchNorm1d(2)), net=False
    ),
    "the norm is the model": Model(lambda: BareNorm(1), net=False),
    "the norm is the model, no statistics": Model(lambda: BareNorm(1, track_running_stats=False), net=False),
    "module list": _net(
        body=lambda: nn.Sequential(*(nn.Sequential(m) for m in (_conv(), nn.Flatten(), nn.Linear(12, 2)))),
        bn=partial(nn.BatchNorm1d, 2),
    ),
    # Sharing.
    "norm shared with a block": Model(_shared_norm),
    "norm without statistics shared with a block": Model(_shared_norm_without_counter),
    "norm twice at the top": Model(_twice_at_top),
    "tied weights around a norm": Model(_tied),
    "tied weights at both ends": Model(_tied_ends),
    "tied weights, no norm": Model(_tied_free_of_norms),
    # What a norm holds.
    "norm without statistics": _net(
        conv=_conv, bn=partial(nn.BatchNorm2d, 3, track_running_stats=False), flat=nn.Flatten, fc=_fc, latent=12
    ),
    "norm without affine": _net(conv=_conv, bn=partial(nn.BatchNorm2d, 3, affine=False), flat=nn.Flatten, fc=_fc),
    "norm without either": _net(
        conv=_conv,
        bn=partial(nn.BatchNorm2d, 3, affine=False, track_running_stats=False),
        flat=nn.Flatten,
        fc=_fc,
        latent=12,
    ),
    "norm without affine last": _net(conv=_conv, flat=nn.Flatten, fc=_fc, bn=partial(nn.BatchNorm1d, 2, affine=False)),
    "instance norm with statistics": _net(
        conv=_conv,
        norm=partial(nn.InstanceNorm2d, 3, affine=True, track_running_stats=True),
        flat=nn.Flatten,
        fc=_fc,
        latent=12,
    ),
    "instance norm with statistics, and a norm": _net(
        conv=_conv, norm=partial(nn.InstanceNorm2d, 3, track_running_stats=True), bn=_bn, flat=nn.Flatten, fc=_fc
    ),
    "instance norm without statistics": _net(
        conv=_conv, norm=partial(nn.InstanceNorm2d, 3, affine=True), flat=nn.Flatten, fc=_fc, latent=12
    ),
    "frozen norm": _net(conv=_conv, norm=partial(FrozenNorm, 3), flat=nn.Flatten, fc=_fc, latent=12),
    "frozen norm and a norm": _net(
        conv=_conv, norm=partial(FrozenNorm, 3), flat=nn.Flatten, fc=_fc, bn=partial(nn.BatchNorm1d, 2)
    ),
    "running variance alone": _net(conv=_conv, norm=partial(EvoNorm, 3), flat=nn.Flatten, fc=_fc, latent=12),
    "subclass with state below": _net(conv=_conv, norm=partial(GatedNorm, 3), flat=nn.Flatten, fc=_fc, latent=12),
    "lazy norm, materialised": Model(_lazy),
    "parametrized norm": _net(
        conv=_conv, flat=nn.Flatten, fc=_fc, bn=lambda: parametrizations.weight_norm(nn.BatchNorm1d(2))
    ),
    "weight norm": _net(
        conv=lambda: parametrizations.weight_norm(_conv()), flat=nn.Flatten, fc=_fc, bn=partial(nn.BatchNorm1d, 2)
    ),
    # Counters that are not 0.
    "trained norm, nested": _net(
        body=lambda: nn.Sequential(_conv(), _counted(nn.BatchNorm2d(3), 5)), flat=nn.Flatten, fc=_fc
    ),
    "trained norm, middle": _net(
        conv=_conv, bn=lambda: _counted(nn.BatchNorm2d(3), 7), flat=nn.Flatten, fc=_fc, latent=12
    ),
    "counter of one, nested": _net(
        body=lambda: nn.Sequential(_conv(), _counted(nn.BatchNorm2d(3), 1)), flat=nn.Flatten, fc=_fc
    ),
    "counter as long as its neighbour": _net(
        bn=partial(nn.BatchNorm2d, 1),
        body=lambda: nn.Sequential(_conv(), _counted(nn.BatchNorm2d(3), 3)),
        flat=nn.Flatten,
        fc=_fc,
    ),
    # Buffers.
    "integers": _net(ids=_ints, conv=_conv, flat=nn.Flatten, fc=_fc, latent=12),
    "integers of 32 bits, and a norm last": _net(
        conv=lambda: Marked(_conv(), ids=_ints().int()), flat=nn.Flatten, fc=_fc, bn=partial(nn.BatchNorm1d, 2)
    ),
    "integers around a norm": _net(
        ids=_ints, conv=_conv, bn=_bn, flat=nn.Flatten, fc=lambda: Marked(nn.Linear(12, 2), ids=_ints())
    ),
    "bytes": _net(
        conv=lambda: Marked(_conv(), mask=torch.ones(4, dtype=torch.uint8)), flat=nn.Flatten, fc=_fc, latent=12
    ),
    "booleans first": _net(mask=_bools, conv=_conv, flat=nn.Flatten, fc=_fc, latent=12),
    "booleans last": _net(conv=_conv, flat=nn.Flatten, fc=lambda: Marked(nn.Linear(12, 2), mask=_bools())),
    "one boolean": _net(conv=lambda: Marked(_conv(), flag=torch.tensor(True)), flat=nn.Flatten, fc=_fc),
    "integer of zero": _net(conv=lambda: Marked(_conv(), step=torch.tensor(0)), flat=nn.Flatten, fc=_fc),
    "integer of four": _net(conv=lambda: Marked(_conv(), step=torch.tensor(4)), flat=nn.Flatten, fc=_fc),
    "integer of one": _net(conv=lambda: Marked(_conv(), step=torch.tensor(1)), flat=nn.Flatten, fc=_fc),
    "integer below zero": _net(conv=lambda: Marked(_conv(), step=torch.tensor(-2)), flat=nn.Flatten, fc=_fc),
    "integer after a norm": _net(
        conv=_conv, bn=_bn, flat=nn.Flatten, fc=lambda: Marked(nn.Linear(12, 2), step=torch.tensor(3))
    ),
    "integer shifted on a vector": _net(
        flat=nn.Flatten,
        bn=partial(nn.BatchNorm1d, 16, affine=False, track_running_stats=True),
        a=partial(nn.LayerNorm, 16),
        b=lambda: Marked(nn.LayerNorm(16), step=torch.tensor(16)),
        m=partial(nn.LayerNorm, 16),
        d=partial(nn.LayerNorm, 16),
    ),
    "float buffer at the root": _net(mean=partial(torch.zeros, 5), conv=_conv, flat=nn.Flatten, fc=_fc, latent=12),
    "float buffer at the root, norm last": _net(
        mean=partial(torch.zeros, 5), conv=_conv, flat=nn.Flatten, fc=_fc, bn=partial(nn.BatchNorm1d, 2)
    ),
    "buffer that does not persist": _net(
        conv=lambda: Marked(_conv(), persistent=False, ids=_ints()), flat=nn.Flatten, fc=_fc, latent=12
    ),
    "empty buffer": _net(conv=lambda: Marked(_conv(), nothing=torch.zeros(0, 3)), flat=nn.Flatten, fc=_fc),
    "only integers travel": Model(lambda: Net(ids=_ints(), bn=nn.BatchNorm2d(1))),
    # Scalars.
    "a scalar parameter": _net(conv=_conv, scale=Scale, flat=nn.Flatten, fc=_fc, latent=12),
    "a scalar parameter after a norm": _net(conv=_conv, bn=_bn, scale=Scale, flat=nn.Flatten, fc=_fc),
    "vectors of one after a scalar": _net(
        flat=nn.Flatten,
        bn=partial(nn.BatchNorm1d, 16, affine=False, track_running_stats=False),
        scale=Scale,
        fc=partial(nn.Linear, 16, 2),
    ),
    "vectors of one shifted on scalars": _net(
        bn=partial(nn.BatchNorm2d, 1, track_running_stats=False),
        a=Scale,
        b=Scale,
        m=partial(nn.GroupNorm, 1, 1),
        d=partial(nn.GroupNorm, 1, 1),
    ),
    # Floating point.
    "a float64 part": _net(conv=_conv, flat=nn.Flatten, fc=lambda: nn.Linear(12, 2).double(), latent=12),
    "a float16 part": _net(conv=_conv, flat=nn.Flatten, fc=lambda: nn.Linear(12, 2).half()),
    "a bfloat16 part": _net(conv=_conv, flat=nn.Flatten, fc=lambda: nn.Linear(12, 2).bfloat16()),
    "a bfloat16 norm": _net(conv=_conv, flat=nn.Flatten, fc=_fc, bn=lambda: nn.BatchNorm1d(2).bfloat16()),
    "a float64 norm last": _net(conv=_conv, flat=nn.Flatten, fc=_fc, bn=lambda: nn.BatchNorm1d(2).double()),
    "all float64": _net(
        conv=lambda: _conv().double(),
        flat=nn.Flatten,
        fc=lambda: nn.Linear(12, 2).double(),
        bn=lambda: nn.BatchNorm1d(2).double(),
    ),
    "all float64, no norm": _net(conv=lambda: _conv().double(), flat=nn.Flatten, fc=lambda: nn.Linear(12, 2).double()),
    # Few parameters.
    "one parameter": Model(lambda: Direct(w=nn.Parameter(torch.rand(3, 2))), net=False),
    "one parameter called weight": Model(lambda: Direct(weight=nn.Parameter(torch.rand(4))), net=False),
    "norms only": _net(a=partial(nn.BatchNorm2d, 1), b=partial(nn.BatchNorm2d, 1)),
    "parameter list": _net(
        conv=_conv, extra=lambda: nn.ParameterList([torch.rand(3), torch.rand(3)]), bn=_bn, flat=nn.Flatten, fc=_fc
    ),
    "root parameter": _net(
        gain=lambda: nn.Parameter(torch.rand(3)), conv=_conv, bn=_bn, flat=nn.Flatten, fc=_fc, latent=12
    ),
    "sync norm": Model(lambda: Net(conv=_conv(), bn=SyncNorm(3), **_head())),
    # Strategies that pair arrays with all parameters.
    "as many buffers as affine parameters": _net(
        flat=nn.Flatten,
        a=partial(nn.LayerNorm, 16),
        bn=partial(nn.BatchNorm1d, 16, track_running_stats=False),
        b=lambda: Marked(nn.LayerNorm(16), u=torch.rand(16), v=torch.rand(16)),
    ),
    "as many integers as affine parameters": _net(
        flat=nn.Flatten,
        a=partial(nn.LayerNorm, 16),
        bn=partial(nn.BatchNorm1d, 16, track_running_stats=False),
        b=lambda: Marked(nn.LayerNorm(16), u=torch.arange(16), v=torch.rand(16)),
    ),
    "as many booleans as affine parameters": _net(
        flat=nn.Flatten,
        a=partial(nn.LayerNorm, 16),
        bn=partial(nn.BatchNorm1d, 16, track_running_stats=False),
        b=lambda: Marked(nn.LayerNorm(16), u=torch.ones(16, dtype=torch.bool), v=torch.rand(16)),
    ),
    "shapes that broadcast": _net(
        flat=nn.Flatten,
        a=partial(nn.BatchNorm1d, 16, track_running_stats=False),
        b=lambda: Marked(nn.Linear(16, 16), u=torch.rand(1, 16), v=torch.rand(1)),
    ),
}


def party_builder(model: Model) -> Callable[[], nn.Module]:
    """A builder that gives each party a state of its own: everything differs but 0-d integers."""
    numbers: Iterator[int] = count(1)

    def build() -> nn.Module:
        module = model.build()
        generator = torch.Generator().manual_seed(next(numbers))
        seen: set[int] = set()
        for tensor in module.state_dict(keep_vars=True).values():
            if id(tensor) in seen:
                continue
            seen.add(id(tensor))
            _disturb(tensor, generator)
        return module

    return build


@torch.no_grad()
def _disturb(tensor: torch.Tensor, generator: torch.Generator) -> None:
    if tensor.is_floating_point():
        tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.1)
    elif tensor.dtype is torch.bool:
        tensor.copy_(torch.rand(tensor.shape, generator=generator) < 0.5)
    elif tensor.dim():
        tensor.copy_(torch.randint(1, 200, tensor.shape, generator=generator))
