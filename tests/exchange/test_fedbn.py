"""What FedBN keeps local."""

from __future__ import annotations

from bn_audit.exchange.fedbn import expectation
from bn_audit.exchange.plan import Fate
from bn_audit.profile import NormLayer, Profile
from tests.exchange.build import batchnorm, buffer, gap, layer, parameter, profile


def local(made: Profile) -> list[str]:
    return [entry.key for entry in expectation(made).entries if entry.fate is Fate.LOCAL]


def test_a_batchnorm_is_local_at_any_depth_and_all_else_is_averaged() -> None:
    made = profile(layer("conv", (3, 3), (3,)), batchnorm("body.0.bn", 3), buffer("ids", (4,), "int64"))
    assert local(made) == [
        f"body.0.bn.{n}" for n in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    ]
    assert {entry.fate for entry in expectation(made).entries} == {Fate.LOCAL, Fate.AVERAGED}


def test_a_batchnorm_without_statistics_is_local_too() -> None:
    made = profile(NormLayer("bn", "BatchNorm2d", tracked=False), layer("bn", (3,), (3,)))
    assert local(made) == ["bn.weight", "bn.bias"]


def test_another_layer_is_local_if_it_keeps_statistics() -> None:
    tracked = profile(
        NormLayer("n", "InstanceNorm2d", batchnorm=False), parameter("n.weight", (3,)), buffer("n.running_var", (3,))
    )
    untracked = profile(
        NormLayer("n", "InstanceNorm2d", batchnorm=False, tracked=False, family="instance"),
        parameter("n.weight", (3,)),
    )
    assert local(tracked) == ["n.weight", "n.running_var"]
    assert local(untracked) == []


def test_what_lies_below_a_batchnorm_belongs_to_it() -> None:
    made = profile(
        NormLayer("bn", "BatchNormAct2d"),
        parameter("bn.act.weight", (3,)),
        parameter("bn.parametrizations.weight.original", (3,)),
        parameter("bnormal.weight", (3,)),
    )
    assert local(made) == ["bn.act.weight", "bn.parametrizations.weight.original"]


def test_a_network_that_normalises_its_input_is_no_norm_layer_as_a_whole() -> None:
    made = profile(
        NormLayer("", "Policy", batchnorm=False),
        buffer("running_mean", (3,)),
        layer("fc", (3, 3), (3,)),
        parameter("parametrizations.scale.original", (3,)),
    )
    assert local(made) == ["running_mean", "parametrizations.scale.original"]


def test_an_owner_that_may_be_a_batchnorm_leaves_it_open() -> None:
    made = profile(NormLayer("n", "Norm", batchnorm=None, tracked=False), parameter("n.weight", (3,)), gap())
    plan = expectation(made)
    assert plan.entries[0].possible == {Fate.LOCAL, Fate.AVERAGED}
    assert not plan.complete
