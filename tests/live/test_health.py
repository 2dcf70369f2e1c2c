"""The health of running statistics, each kind of illness counted."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from bn_audit.health import NormHealth
from bn_audit.live.health import health
from tests.live.models import MODELS, Frozen, MeanShift, Net


def test_a_fresh_model_is_untrained_and_sound() -> None:
    assert health(Net()) == [NormHealth(path, counter=0, untrained=True) for path in ("bn", "block.1")]


def test_a_forward_in_train_mode_is_training() -> None:
    model = Net()
    model(torch.randn(2, 3, 8, 8))
    assert health(model) == [NormHealth(path, counter=1, untrained=False) for path in ("bn", "block.1")]
    assert not any(one.broken for one in health(model))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_every_illness_is_counted(dtype: torch.dtype) -> None:
    layer = nn.BatchNorm1d(6).to(dtype)
    layer.running_mean.copy_(torch.tensor([math.nan, 0, math.inf, 0, 0, 0]))
    layer.running_var.copy_(torch.tensor([math.nan, -1, -math.inf, 0, -0.0, 1]))
    (found,) = health(layer)
    assert found == NormHealth("", counter=0, nan=2, inf=2, negative=2, zero=2, untrained=False)
    assert found.broken


def test_a_variance_of_zero_is_not_broken() -> None:
    layer = nn.BatchNorm1d(2)
    layer.running_var.zero_()
    (found,) = health(layer)
    assert (found.zero, found.broken, found.untrained) == (2, False, False)


def test_layers_with_part_of_the_state() -> None:
    model = nn.Sequential(MeanShift(2), Frozen(2), nn.BatchNorm1d(2, track_running_stats=False))
    assert health(model) == [NormHealth("0", untrained=True), NormHealth("1", untrained=False)]


def test_values_that_are_not_at_hand() -> None:
    with torch.device("meta"):
        assert health(nn.BatchNorm1d(2)) == [NormHealth("", known=False)]
    assert health(nn.LazyBatchNorm1d()) == [NormHealth("", counter=0, known=False)]


@pytest.mark.parametrize("name", MODELS)
def test_a_state_dict_is_as_healthy_as_its_model(name: str) -> None:
    model = MODELS[name]()
    live, bare = health(model), health(model.state_dict())
    assert [one.untrained for one in live] == [one.untrained for one in bare]
    assert [one.counter for one in live] == [one.counter for one in bare]


def test_a_counter_alone_tells_of_training() -> None:
    layer = nn.BatchNorm1d(2)
    layer.num_batches_tracked.fill_(3)
    assert health(layer) == [NormHealth("", counter=3, untrained=False)]


def test_complex_statistics() -> None:
    layer = nn.BatchNorm1d(3).to(torch.complex64)
    layer.running_var[0] = 0
    layer.running_mean[1] = complex(0, math.nan)
    (found,) = health(layer)
    assert found == NormHealth("", counter=0, nan=1, zero=1, untrained=False)
