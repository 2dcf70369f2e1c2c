"""Models with every kind of state that real ones have."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable

import torch
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.nn.utils.parametrize import register_parametrization

__all__ = ["MODELS", "CustomNorm", "Frozen", "MeanShift", "Net", "Normalizer"]


class Net(nn.Module):
    """conv, bn, a block with another, fc; a buffer that does not persist."""

    def __init__(self, width: int = 4, *, affine: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3)
        self.bn = nn.BatchNorm2d(width, affine=affine)
        self.block = nn.Sequential(nn.Conv2d(width, width, 1), nn.BatchNorm2d(width))
        self.fc = nn.Linear(width, 2)
        self.register_buffer("scratch", torch.zeros(3), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.block(self.bn(self.conv(x)))
        result: torch.Tensor = self.fc(x.mean((2, 3)))
        return result + self.scratch.sum()


class CustomNorm(nn.BatchNorm2d):
    """A subclass, as timm's BatchNormAct2d is one: with a child of its own."""

    def __init__(self, features: int) -> None:
        super().__init__(features, momentum=0.3, eps=1e-3)
        self.act = nn.PReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.act(super().forward(x))
        return result


class Frozen(nn.Module):
    """A frozen BatchNorm as torchvision's and DETR's: four buffers and no counter."""

    def __init__(self, features: int) -> None:
        super().__init__()
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(name, torch.ones(features))


class MeanShift(nn.Module):
    """EvoNorm's state: running_var only."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(features))
        self.register_buffer("running_var", torch.ones(features))


class Normalizer(nn.Module):
    """A network whose root owns running statistics itself."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(2))
        self.body = nn.Linear(2, 2)


class Doubled(nn.Module):
    """A parametrization."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * x


class Stateful(nn.Module):
    """A module with extra state that is no tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(2)

    def get_extra_state(self) -> object:
        return {"epoch": 3}

    def set_extra_state(self, state: object) -> None:
        pass


def shared() -> nn.Module:
    bn = nn.BatchNorm1d(4)
    model = nn.Sequential(nn.Linear(4, 4), bn, nn.Linear(4, 4), bn)
    model[2].weight = model[0].weight
    return model


def parametrized() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    register_parametrization(model[1], "weight", Doubled())
    parametrizations.weight_norm(model[0])
    return model


def pruned() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    prune.l1_unstructured(model[1], "weight", amount=0.5)
    return model


def variants() -> nn.Module:
    return nn.Sequential(
        nn.BatchNorm1d(4, affine=False),
        nn.BatchNorm1d(4, track_running_stats=False),
        nn.BatchNorm1d(4, affine=False, track_running_stats=False),
        nn.BatchNorm1d(4, momentum=None),
        nn.BatchNorm3d(4, eps=1e-2),
        nn.SyncBatchNorm(4),
        nn.InstanceNorm2d(4, track_running_stats=True, affine=True),
        nn.InstanceNorm2d(4),
        nn.GroupNorm(2, 4),
        nn.LayerNorm(4),
        CustomNorm(4),
        Frozen(4),
        MeanShift(4),
    )


def mixed() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 4).half(), nn.BatchNorm1d(4).double(), nn.BatchNorm1d(4).bfloat16())
    model.register_buffer("position_ids", torch.arange(4))
    model.register_buffer("step", torch.tensor(7, dtype=torch.int32))
    model.register_buffer("mask", torch.tensor(True))
    return model


def lazy() -> nn.Module:
    return nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.LazyLinear(2))


def quantized_dynamic() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), {nn.Linear})


def quantization_aware() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).train()
        model.qconfig = torch.ao.quantization.get_default_qat_qconfig("fbgemm")
        fused = torch.ao.quantization.fuse_modules_qat(model, [["0", "1", "2"]])
        return torch.ao.quantization.prepare_qat(fused)


def averaged() -> nn.Module:
    return torch.optim.swa_utils.AveragedModel(Net())


def scripted() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(Net())


def traced() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.trace(Net().eval(), torch.randn(2, 3, 8, 8))


def exported() -> nn.Module:
    return torch.export.export(Net().eval(), (torch.randn(2, 3, 8, 8),)).module()


def unflattened() -> nn.Module:
    return torch.export.unflatten(torch.export.export(Net().eval(), (torch.randn(2, 3, 8, 8),)))


def twins() -> nn.Module:
    model = Net()
    return nn.ModuleDict({"online": model, "target": copy.deepcopy(model)})


MODELS: dict[str, Callable[[], nn.Module]] = {
    "plain": Net,
    "without affine": lambda: Net(affine=False),
    "variants": variants,
    "shared": shared,
    "parametrized": parametrized,
    "pruned": pruned,
    "mixed": mixed,
    "lazy": lazy,
    "quantized": quantized_dynamic,
    "quantization aware": quantization_aware,
    "data parallel": lambda: nn.DataParallel(Net()),
    "averaged": averaged,
    "compiled": lambda: torch.compile(Net()),
    "compiled part": lambda: nn.Sequential(torch.compile(Net()), nn.Linear(2, 2)),
    "scripted": scripted,
    "traced": traced,
    "exported": exported,
    "unflattened": unflattened,
    "stateful": Stateful,
    "root": lambda: nn.BatchNorm1d(3),
    "normalizer": Normalizer,
    "twins": twins,
    "empty": nn.Module,
}
