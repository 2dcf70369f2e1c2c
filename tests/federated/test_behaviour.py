"""Running statistics without a name that says so: what a copy of a layer shows of them in a forward."""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from bn_audit.exchange.fedbn import evidence
from bn_audit.federated.behaviour import _known, seen_statistics
from bn_audit.federated.state import local_keys
from bn_audit.live.profile import profile


class Own(nn.Module):
    """A BatchNorm by other names, for channels at any place, and for any of the ways to keep statistics."""

    def __init__(self, features: int = 8, axis: int = 1, spread: str = "var", where: str = "buffer") -> None:
        super().__init__()
        self.axis, self.spread = axis, spread
        self.gamma = nn.Parameter(torch.zeros(features))  # as the last layer of a block begins
        self.beta = nn.Parameter(torch.zeros(features))
        for name, value in (("m", torch.zeros(features)), ("v", torch.ones(features))):
            if where == "attribute":
                setattr(self, name, value)
            elif where == "parameter":
                setattr(self, name, nn.Parameter(value, requires_grad=False))
            else:
                self.register_buffer(name, value, persistent=where == "buffer")

    def training_now(self) -> bool:
        return self.training

    def forward(self, x: Tensor) -> Tensor:
        x = x.movedim(self.axis, -1)
        others = list(range(x.dim() - 1))
        mean, var = x.mean(others), x.var(others)
        if self.training_now():
            own = {"var": var, "std": var.sqrt(), "precision": 1 / var}[self.spread]
            self.m = _kept(self.m, 0.9 * self.m + 0.1 * mean.detach())
            self.v = _kept(self.v, 0.9 * self.v + 0.1 * own.detach())
        else:
            mean, var = self.m, {"var": self.v, "std": self.v**2, "precision": 1 / self.v}[self.spread]
        return ((x - mean) / (var + 1e-5).sqrt() * self.gamma + self.beta).movedim(-1, self.axis)


def _kept(old: Tensor, new: Tensor) -> Tensor:
    if isinstance(old, nn.Parameter):
        with torch.no_grad():
            return old.copy_(new)
    return new


class ByGradients(Own):
    """As *Dive into Deep Learning* tells training from evaluation."""

    def training_now(self) -> bool:
        return torch.is_grad_enabled()


class Talking(Own):
    def forward(self, x: Tensor) -> Tensor:
        print("a line in the report")
        torch.rand(3)
        return super().forward(x)


MEAN_AND_VARIANCE = {"m": "mean", "v": "var"}
SHOWN: Mapping[str, tuple[Callable[[], nn.Module], Mapping[str, str]]] = {
    "buffers": (Own, MEAN_AND_VARIANCE),
    "parameters": (lambda: Own(where="parameter"), MEAN_AND_VARIANCE),
    "attributes": (lambda: Own(where="attribute"), MEAN_AND_VARIANCE),
    "left out of the state": (lambda: Own(where="left out"), MEAN_AND_VARIANCE),
    "a standard deviation": (lambda: Own(spread="std"), {"m": "mean", "v": "std"}),
    "one over the variance": (lambda: Own(spread="precision"), {"m": "mean", "v": ""}),
    "channels last": (lambda: Own(axis=-1), MEAN_AND_VARIANCE),
    "channels of the size of a batch": (lambda: Own(5, axis=-1), MEAN_AND_VARIANCE),
    "one channel": (lambda: Own(1), MEAN_AND_VARIANCE),
    "by gradients": (ByGradients, MEAN_AND_VARIANCE),
    "half": (lambda: Own().half(), MEAN_AND_VARIANCE),
    "meta": (lambda: Own().to("meta"), MEAN_AND_VARIANCE),
    "a copy": (lambda: copy.deepcopy(Own()), MEAN_AND_VARIANCE),
}


@pytest.mark.parametrize("name", SHOWN)
def test_what_follows_the_input_in_training_and_stays_in_evaluation(name: str) -> None:
    make, expected = SHOWN[name]
    assert seen_statistics(make()) == expected


class Constants(nn.Module):
    """What an input is normalised by."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.rand(3))
        self.register_buffer("std", torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean[:, None, None]) / self.std[:, None, None]


class Observer(nn.Module):
    """Goes on in evaluation."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        self.centre = 0.9 * self.centre + 0.1 * x.mean((0, 2, 3))
        return x - self.centre[:, None, None]


class Logged(Observer):
    """Moves in training only, and nothing depends on it."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * 0 + x if self.training else x


class Largest(nn.Module):
    """A range that follows the data, and no mean."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("largest", torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.largest = torch.maximum(self.largest, x.abs().amax((0, 2, 3)))
        return x / self.largest[:, None, None]


class Once(nn.Module):
    """ActNorm: made of the first batch, and of no other."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(4))
        self.register_buffer("done", torch.tensor(False))

    def forward(self, x: Tensor) -> Tensor:
        if self.training and not self.done:
            self.centre, self.done = x.mean((0, 2, 3)), torch.tensor(True)
        return x - self.centre[:, None, None]


class Average(nn.Module):
    """Of a weight, over time."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))
        self.register_buffer("ema", torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.ema = 0.9 * self.ema + 0.1 * self.weight.detach()
            return x * self.weight
        return x * self.ema


class Codes(nn.Module):
    """A code book that follows what is near it."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("codes", torch.rand(5, 4))

    def forward(self, x: Tensor) -> Tensor:
        nearest = torch.cdist(x, self.codes).argmin(-1)
        if self.training:
            self.codes = 0.9 * self.codes + 0.1 * functional.one_hot(nearest, 5).float().T @ x / len(x)
        return self.codes[nearest]


class TwoInputs(Own):
    def forward(self, x: Tensor, domain: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x) + domain


class Still(Own):
    """Stays in evaluation whatever is asked."""

    def train(self, mode: bool = True) -> Still:
        return super().train(False)


NOT_SHOWN: Mapping[str, Callable[[], nn.Module]] = {
    "constants": Constants,
    "an observer": Observer,
    "a log": Logged,
    "a range": Largest,
    "the first batch": Once,
    "an average of weights": Average,
    "a code book": Codes,
    "two inputs": TwoInputs,
    "frozen": Still,
    "spectral norm": lambda: nn.utils.spectral_norm(nn.Linear(4, 4)),
    "layers below": lambda: nn.Sequential(Own()),
    "no forward": nn.Module,
}


@pytest.mark.parametrize("name", NOT_SHOWN)
def test_what_is_something_else_or_cannot_be_run_shows_nothing(name: str) -> None:
    assert seen_statistics(NOT_SHOWN[name]()) == {}


@pytest.mark.parametrize("where", ["buffer", "attribute", "parameter", "left out"])
def test_profile_and_aggregator_agree_on_what_stays_local(where: str) -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), Own(where=where), nn.Conv2d(8, 2, 1))
    found = profile(model)
    assert local_keys(model) == {entry.key for entry in found.entries if entry.module == "1"}
    (norm,) = found.norms
    assert (norm.path, norm.type, norm.batchnorm, norm.tracked, norm.affine) == ("1", "Own", False, True, True)
    assert norm.features == 8
    assert [entry.statistic for entry in found.entries if entry.name in ("m", "v")] == (
        ["mean", "var"] if where in ("buffer", "parameter") else []
    )
    (sentence,) = evidence(found)
    assert "1 (Own) is a norm layer" in sentence
    assert "m follows the mean, v follows the variance" in sentence
    assert ("no state dict" in sentence) == (where in ("attribute", "left out"))


class Alike(Own):
    """Equal to every other layer, as a dataclass of equal fields is."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, nn.Module)

    def __hash__(self) -> int:
        return 1


class AlikeConstants(Constants):
    __eq__, __hash__ = Alike.__eq__, Alike.__hash__


def test_layers_that_say_they_are_equal_are_two() -> None:
    one, other = Alike(), AlikeConstants()
    assert seen_statistics(one) == MEAN_AND_VARIANCE
    assert seen_statistics(other) == {}
    assert seen_statistics(one) == MEAN_AND_VARIANCE


def test_what_was_seen_is_forgotten_with_its_layer() -> None:
    gc.collect()
    before = len(_known)
    layer = Own()
    assert seen_statistics(layer)
    assert len(_known) == before + 1
    del layer
    gc.collect()
    assert len(_known) == before


def test_nothing_is_left_behind(capsys: pytest.CaptureFixture[str]) -> None:
    layer = Talking()
    before = {key: value.clone() for key, value in layer.state_dict().items()}
    state = torch.get_rng_state()
    assert seen_statistics(layer)
    assert torch.equal(torch.get_rng_state(), state)
    assert layer.training
    assert all(torch.equal(value, before[key]) for key, value in layer.state_dict().items())
    assert capsys.readouterr() == ("", "")


def test_a_default_dtype_of_the_program_changes_nothing() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        assert seen_statistics(Own()) == MEAN_AND_VARIANCE
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
