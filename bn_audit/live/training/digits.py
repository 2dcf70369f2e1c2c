"""scikit-learn's digits as five parties see them, each through a sensor of its own, in the shape that a model takes.

The digits are 1,797 images of 8 by 8 pixels. A party has 120 of them to train on, or fewer where fewer are left, and
none that another party has. The labels have one distribution in all parties; what differs is what FedBN is about, the
distribution of the pixels.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from bn_audit.extras import install
from bn_audit.live.errors import MissingExtra, TargetError, require_torch
from bn_audit.live.training.data import Data, Examples, PartyData
from bn_audit.live.training.local import logits_of
from bn_audit.live.training.on_cpu import on_cpu

require_torch()

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.utils.data import TensorDataset  # noqa: E402

__all__ = ["SENSORS", "Form", "digits_for", "form_for"]

TRAIN = 120
"""Images that a party trains on."""
_SIDE, _SMALL = 8, 32
_SIDES = (8, 16, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 299, 384)
"""Sides of images that are tried in turn."""

Sensor = Callable[[Tensor, torch.Generator], Tensor]


def _noisy(images: Tensor, generator: torch.Generator) -> Tensor:
    return (images + 0.25 * torch.randn(images.shape, generator=generator)).clamp(0, 1)


def _lit_from_the_right(images: Tensor, generator: torch.Generator) -> Tensor:
    return 0.25 * images + 0.75 * torch.linspace(0, 1, images.shape[-1])


SENSORS: dict[str, Sensor] = {
    "clean": lambda images, generator: images,
    "invert": lambda images, generator: 1 - images,
    "low contrast": lambda images, generator: 0.4 + 0.2 * images,
    "noise": _noisy,
    "gradient": _lit_from_the_right,
}
"""What each party's sensor makes of images with values from 0 to 1, shape (N, 8, 8)."""


@dataclass(frozen=True, slots=True)
class Form:
    """The shape in which a model takes the digits.

    Attributes:
        channels: of equal content.
        side: in pixels; other than 8, the images are resized.
        flat: whether an image is a vector.
        classes: how many the model tells apart; it is shown the digits below that.
    """

    channels: int
    side: int
    flat: bool
    classes: int

    def __str__(self) -> str:
        shape = f"{self.channels}x{self.side}x{self.side}"
        return f"vectors of {self.channels * self.side**2}" if self.flat else f"{shape} images"

    def apply(self, images: Tensor) -> Tensor:
        """Images of shape (N, 8, 8) in this form."""
        images = images[:, None]
        if self.side != _SIDE:
            images = nn.functional.interpolate(images, (self.side, self.side), mode="bilinear", align_corners=False)
        images = images.repeat(1, self.channels, 1, 1)
        return images.flatten(1) if self.flat else images


@on_cpu()
def digits_for(model: nn.Module, target: str) -> Data:
    """The digits in a form that a model takes.

    Args:
        model: is not changed.
        target: its name, for errors.

    Raises:
        TargetError: it takes none of the forms that were tried, or gives no logits of two classes or more.
        MissingExtra: scikit-learn is not installed.
    """
    images, labels = _digits()
    form = form_for(model, target)
    known = min(form.classes, 10)
    images, labels = images[labels < known], labels[labels < known]
    train = min(TRAIN, len(images) * 2 // 3 // len(SENSORS))
    test = len(images) // len(SENSORS) - train

    def draw(seed: int) -> Sequence[PartyData]:
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(images), generator=generator)
        parties = []
        for number, (name, sensor) in enumerate(SENSORS.items()):
            first = number * (train + test)
            own = order[first : first + train + test]
            seen = form.apply(sensor(images[own], generator))
            sets = (TensorDataset(seen[part], labels[own][part]) for part in (slice(train), slice(train, None)))
            mine, tested = (
                Examples(dataset, f"the {kind} data of {name!r}")
                for kind, dataset in zip(("training", "test"), sets, strict=True)
            )
            parties.append(PartyData(name, mine, tested))
        return parties

    of = "" if known == 10 else f" below {known}"
    threads = 1 if form.side <= _SMALL else None
    return Data(f"scikit-learn's digits{of}, five sensors, as {form}", draw, threads)


def _digits() -> tuple[Tensor, Tensor]:
    """Images with values from 0 to 1, shape (1797, 8, 8), and their labels."""
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"the digits are scikit-learn's, and {error.name} is not installed: {install('train')}, "
            "or pass data of your own with --data"
        ) from error
    bunch = load_digits()
    return torch.as_tensor(bunch.images, dtype=torch.float32) / 16, torch.as_tensor(bunch.target, dtype=torch.int64)


def form_for(model: nn.Module, target: str = "the model") -> Form:
    """The first form that a copy of the model takes, in training and in eval mode.

    Raises:
        TargetError: as :func:`digits_for`.
    """
    tried: list[str] = []
    first = ""
    for form in _forms(model):
        try:
            classes = _classes(model, form)
        except Exception as error:
            # Whatever a model raises, this shape is not for it.
            first = first or f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"
            tried.append(str(form))
            continue
        return Form(form.channels, form.side, form.flat, classes)
    shown = ", ".join([*tried[:3], *(["..."] if len(tried) > 4 else []), *tried[3:][-1:]])
    raise TargetError(
        f"{target} takes the digits in no form that was tried ({shown}; the first raised {first}): "
        "pass data of its own with --data"
    )


def _classes(model: nn.Module, form: Form) -> int:
    probe = copy.deepcopy(model)
    parameter = next((p for p in model.parameters() if p.is_floating_point()), None)
    images = form.apply(torch.rand((2, _SIDE, _SIDE), generator=torch.Generator().manual_seed(0)))
    if parameter is not None:
        images = images.to(parameter.device, parameter.dtype)
    classes = 0
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        for mode in (True, False):
            logits = logits_of(probe.train(mode)(images))
            if logits.dim() != 2 or len(logits) != 2 or logits.shape[1] < 2:
                raise ValueError(f"it gives {list(logits.shape)} for 2 images, not [2, number of classes]")
            classes = logits.shape[1]
    return classes


def _forms(model: nn.Module) -> Iterator[Form]:
    """Forms to try, those that the first layer asks for first."""
    layer = next((m for m in model.modules() if isinstance(m, (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear))), None)
    if isinstance(layer, nn.Linear):
        for channels in (1, 3):
            side = math.isqrt(layer.in_features // channels)
            if side and channels * side**2 == layer.in_features:
                yield Form(channels, side, False, 0)
                yield Form(channels, side, True, 0)
    channels_tried = (layer.in_channels,) if isinstance(layer, nn.Conv2d) and layer.in_channels else (1, 3)
    for channels in channels_tried:
        for side in _SIDES:
            yield Form(channels, side, False, 0)
