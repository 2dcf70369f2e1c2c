"""The digits, and the forms in which models take them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

from torch import Tensor, nn  # noqa: E402

from bn_audit.live.errors import MissingExtra, TargetError  # noqa: E402
from bn_audit.live.training.digits import SENSORS, Form, digits_for, form_for  # noqa: E402
from tests.live.training.models import Middle  # noqa: E402


def _batch(model: nn.Module, seed: int = 0, party: int = 0) -> tuple[Tensor, Tensor]:
    party_data = digits_for(model, "model").draw(seed)[party]
    return next(iter(party_data.train.batches(1000)))


def _conv(channels: int, side: int, classes: int = 10) -> nn.Module:
    """Takes images of one size only."""
    return nn.Sequential(nn.Conv2d(channels, 2, 3), nn.Flatten(), nn.Linear(2 * (side - 2) ** 2, classes))


class Given(nn.Module):
    """Gives what it is told to."""

    def __init__(self, give: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 12, 8)
        self.give = give

    def forward(self, x: Tensor) -> Any:
        return self.give(self.conv(x).flatten(1))


@pytest.mark.parametrize(
    ("model", "form"),
    [
        (Middle(), Form(1, 8, False, 10)),
        (_conv(1, 28), Form(1, 28, False, 10)),
        (_conv(3, 32, classes=100), Form(3, 32, False, 100)),
        (_conv(4, 8), Form(4, 8, False, 10)),
        (
            nn.Sequential(nn.Conv2d(3, 2, 9), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 5)),
            Form(3, 16, False, 5),
        ),
        (nn.Sequential(nn.LazyConv2d(2, 3), nn.Flatten(), nn.LazyLinear(10)), Form(1, 8, False, 10)),
        (nn.Sequential(nn.Linear(64, 10)), Form(1, 8, True, 10)),
        (nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), Form(1, 28, False, 10)),
        (nn.Sequential(nn.Linear(3 * 32 * 32, 10)), Form(3, 32, True, 10)),
        (Middle().double(), Form(1, 8, False, 10)),
        (Given(lambda y: (y, None)), Form(1, 8, False, 12)),
        (Given(lambda y: {"logits": y}), Form(1, 8, False, 12)),
        (Given(lambda y: type("Output", (), {"logits": y})()), Form(1, 8, False, 12)),
    ],
)
def test_the_form_a_model_takes(model: nn.Module, form: Form) -> None:
    assert form_for(model) == form
    inputs, targets = _batch(model)
    side = form.channels * form.side**2
    assert inputs.shape[1:] == ((side,) if form.flat else (form.channels, form.side, form.side))
    assert int(targets.max()) == min(form.classes, 10) - 1


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (nn.Linear(5, 10), "in no form that was tried"),
        (nn.Conv1d(3, 2, 3), "RuntimeError: "),
        (nn.Sequential(nn.Conv2d(1, 2, 3)), r"gives \[2, 2, 6, 6\] for 2 images"),
        (_conv(1, 8, classes=1), r"gives \[2, 1\] for 2 images"),
        (Given(lambda y: None), "gives NoneType, and no logits"),
        (Given(lambda y: y.argmax(1)), r"gives torch.int64, and no logits"),
    ],
)
def test_a_model_that_takes_none(model: nn.Module, reason: str) -> None:
    with pytest.raises(TargetError, match=reason) as caught:
        digits_for(model, "net.py:Net")
    assert str(caught.value).startswith("net.py:Net takes the digits in no form")
    assert str(caught.value).endswith("pass data of its own with --data")


def test_the_model_is_not_changed() -> None:
    model = Middle()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    digits_for(model, "model")
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert model.training


def test_five_parties_with_images_of_their_own() -> None:
    parties = digits_for(Middle(), "model").draw(0)
    assert [party.name for party in parties] == list(SENSORS)
    clean, invert, low, noise, gradient = (next(iter(party.train.batches(1000)))[0] for party in parties)
    assert all(len(images) == 120 for images in (clean, invert, low, noise, gradient))
    assert [sum(len(x) for x, _ in party.test.batches(100)) for party in parties] == [239] * 5
    assert float(clean.min()) == 0 and float(clean.max()) == 1
    assert float(invert.mean()) == pytest.approx(1 - float(clean.mean()), abs=0.05)
    assert float(low.min()) >= 0.4 - 1e-6 and float(low.max()) <= 0.6 + 1e-6
    assert len(clean.unique()) == 17 and len(noise.unique()) > 1000
    assert float(noise.min()) == 0 and float(noise.max()) == 1
    assert float(gradient[..., -1].min()) == pytest.approx(0.75)
    assert float(gradient[..., 0].max()) <= 0.25


def test_no_image_is_seen_twice() -> None:
    def only(images: Tensor, generator: object) -> Tensor:
        return images

    with pytest.MonkeyPatch.context() as patch:
        for name in SENSORS:
            patch.setitem(SENSORS, name, only)
        parties = digits_for(Middle(), "model").draw(1)
        seen = [x for party in parties for part in (party.train, party.test) for x, _ in part.batches(64)]
    images = torch.cat(seen).flatten(1)
    # A few of scikit-learn's own images are equal to the pixel.
    assert len(images) == 1795 and len(torch.unique(images, dim=0)) > 1780


def test_seeds_split_differently_and_always_the_same() -> None:
    first, again, other = (_batch(Middle(), seed, party=3) for seed in (0, 0, 1))
    assert torch.equal(first[0], again[0])
    assert not torch.equal(first[1], other[1])


def test_few_classes_have_fewer_images() -> None:
    parties = digits_for(_conv(1, 8, classes=2), "model").draw(0)
    sizes = [(sum(len(x) for x, _ in part.batches(64))) for part in (parties[0].train, parties[0].test)]
    assert sizes == [48, 24]


def test_without_scikit_learn_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingExtra, match=r"pip install .*'scikit-learn>="):
        digits_for(Middle(), "model")
