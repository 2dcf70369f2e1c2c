"""Rounds that really ran, judged from checkpoints, with faults put into them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from bn_audit.federated import FedBNAggregator  # noqa: E402
from bn_audit.live.checkpoint import open_checkpoint  # noqa: E402
from bn_audit.live.errors import TargetError  # noqa: E402
from bn_audit.live.parties import judge_parties, unwrapped_state  # noqa: E402
from bn_audit.live.profile import profile, profile_of_state  # noqa: E402
from bn_audit.parties import PartiesReport, Standing  # noqa: E402

States = dict[str, dict[str, torch.Tensor]]


class Net(nn.Module):
    """A conv, a norm layer, an integer table and a head."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, width, 3)
        self.bn = nn.BatchNorm2d(width)
        self.fc = nn.Linear(width, 2)
        self.table: torch.Tensor
        self.register_buffer("table", torch.arange(5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.fc(self.bn(self.conv(x)).mean((2, 3)))
        return out


def _trained(model: nn.Module, seed: int) -> nn.Module:
    """A party's copy after two batches of its own data."""
    torch.manual_seed(seed)
    mine = copy.deepcopy(model).train()
    optimizer = torch.optim.SGD(mine.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        mine(torch.randn(8, 1, 5, 5) + seed).square().sum().backward()
        optimizer.step()
    return mine


@pytest.fixture
def before() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {key: tensor.clone() for key, tensor in Net().state_dict().items()}


@pytest.fixture
def states(before: dict[str, torch.Tensor]) -> States:
    """Three parties after a round of FedBN."""
    model = Net()
    model.load_state_dict(before)
    locals_ = [_trained(model, seed).state_dict() for seed in (1, 2, 3)]
    shared = FedBNAggregator.from_module(model).aggregate(locals_, [1.0, 1.0, 2.0])
    return {
        name: {key: tensor.clone() for key, tensor in {**own, **shared}.items()}
        for name, own in zip(("alice", "bob", "carol"), locals_, strict=True)
    }


def _judge(states: States, **options: object) -> PartiesReport:
    first = next(iter(states.values()))
    return judge_parties(states, profile_of_state(first), **options)  # type: ignore[arg-type]


def _standing(report: PartiesReport, key: str) -> Standing:
    return next(one.standing for one in report.entries if one.key == key)


def test_a_round_of_fedbn_is_right(states: States, before: dict[str, torch.Tensor]) -> None:
    report = _judge(states, previous=[before])
    assert report.ok
    assert [one.key for one in report.entries] == list(before)
    assert _standing(report, "fc.weight") is Standing.EQUAL
    assert _standing(report, "table") is Standing.EQUAL
    assert _standing(report, "bn.running_mean") is Standing.LOCAL
    assert _judge(states).ok


def test_a_stale_head(states: States) -> None:
    states["bob"]["fc.weight"] = states["bob"]["fc.weight"] + 0.25
    report = _judge(states)
    (wrong,) = report.wrong
    assert (wrong.key, wrong.standing) == ("fc.weight", Standing.NOT_SYNCHRONISED)
    assert wrong.difference == pytest.approx(0.25)
    assert wrong.detail == "bob differs from alice by up to 0.25"


def test_the_smallest_difference_counts_unless_it_is_tolerated(states: States) -> None:
    states["carol"]["fc.bias"] = torch.nextafter(states["carol"]["fc.bias"], torch.tensor(10.0))
    assert [one.key for one in _judge(states).wrong] == ["fc.bias"]
    assert _judge(states, tolerance=1e-5).ok


def test_averaged_batchnorm(states: States, before: dict[str, torch.Tensor]) -> None:
    for key in ("bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"):
        for state in states.values():
            state[key] = states["alice"][key].clone()
    report = _judge(states, previous=[before])
    assert [one.key for one in report.wrong] == ["bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"]
    assert {one.standing for one in report.wrong} == {Standing.SHARED}
    assert report.wrong[0].detail == "the same in all parties: averaged"
    assert "--previous tells" in _judge(states).wrong[0].detail


def test_a_norm_layer_that_stayed_as_it_was_is_explained(states: States, before: dict[str, torch.Tensor]) -> None:
    for state in states.values():
        state["bn.weight"] = before["bn.weight"].clone()
        state["bn.running_mean"] = torch.full((4,), 2.5)
    trained = {**before, "bn.running_mean": torch.full((4,), 2.5)}
    report = _judge(states, previous=[trained])
    assert report.ok
    assert next(one.detail for one in report.entries if one.key == "bn.running_mean").endswith("frozen")
    initial = next(one.detail for one in _judge(states).entries if one.key == "bn.weight")
    assert initial.endswith("initial value")


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("conv.weight", float("nan"), "NaN in bob"),
        ("bn.running_mean", float("inf"), "infinite in bob"),
        ("bn.running_var", -1.0, "below 0 in bob"),
    ],
)
def test_values_that_no_training_leaves(states: States, key: str, value: float, words: str) -> None:
    states["bob"][key].view(-1)[0] = value
    (wrong,) = _judge(states).wrong
    assert (wrong.key, wrong.standing) == (key, Standing.NOT_FINITE)
    assert words in wrong.detail


def test_integers_must_agree_but_counters_need_not(states: States) -> None:
    states["bob"]["bn.num_batches_tracked"] += 5
    assert _judge(states).ok
    states["bob"]["table"][0] = 9
    assert [one.key for one in _judge(states).wrong] == ["table"]


def test_an_entry_that_did_not_change(states: States, before: dict[str, torch.Tensor]) -> None:
    for state in states.values():
        state["fc.bias"] = before["fc.bias"].clone()
    (wrong,) = _judge(states, previous=[before]).wrong
    assert (wrong.key, wrong.standing) == ("fc.bias", Standing.UNCHANGED)
    assert _judge(states, previous=[before], frozen=["fc.*"]).ok
    assert _judge(states).ok


def test_a_bias_that_a_norm_layer_takes_out_again(states: States, before: dict[str, torch.Tensor]) -> None:
    """Its gradient is 0 in exact arithmetic; with some numbers of threads it is in torch's, too."""
    x = torch.randn(64, 1, 5, 5, dtype=torch.float64)
    model = Net().double()
    model(x).square().sum().backward()
    assert model.conv.bias.grad is not None
    assert model.conv.weight.grad is not None
    assert model.conv.bias.grad.abs().max() < 1e-12 * model.conv.weight.grad.abs().max()
    for state in states.values():
        state["conv.bias"] = before["conv.bias"].clone()
    report = _judge(states, previous=[before])
    assert report.ok
    assert next(one.detail for one in report.entries if one.key == "conv.bias").startswith("as before: the norm layer")
    for state in states.values():
        state["conv.weight"] = before["conv.weight"].clone()
    assert [one.key for one in _judge(states, previous=[before]).wrong] == ["conv.weight"]


def test_no_round_between(states: States) -> None:
    report = _judge(states, previous=list(states.values()))
    assert not report.ok
    assert any("does a round lie between" in note for note in report.notes)


def test_saved_at_the_wrong_time(states: States) -> None:
    for number, state in enumerate(states.values()):
        for key in ("conv.weight", "conv.bias", "fc.weight", "fc.bias"):
            state[key] = state[key] + number
    assert any("saved after the aggregate was loaded" in note for note in _judge(states).notes)


def test_other_architectures(states: States) -> None:
    del states["bob"]["fc.bias"]
    states["carol"]["conv.bias"] = torch.zeros(7)
    states["carol"]["fc.weight"] = states["carol"]["fc.weight"].half()
    states["carol"]["extra"] = torch.zeros(1)
    wrong = {one.key: one.detail for one in _judge(states).wrong}
    assert wrong == {
        "conv.bias": "[4] in alice, [7] in carol",
        "fc.weight": "float32 in alice, float16 in carol",
        "fc.bias": "missing in bob",
        "extra": "missing in alice, bob",
    }


def test_a_norm_layer_without_statistics_is_seen_with_the_model() -> None:
    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 4)
            self.bn = nn.BatchNorm1d(4, track_running_stats=False)

    model = Bare()
    one = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    two = {key: tensor + (key.startswith("bn")) for key, tensor in one.items()}
    bare = _judge({"a": one, "b": two})
    assert not bare.ok
    assert any("bn may belong to a norm layer" in note for note in bare.notes)
    assert judge_parties({"a": one, "b": two}, profile(model)).ok


def test_one_party_is_none(states: States) -> None:
    with pytest.raises(TargetError, match="at least two"):
        _judge({"alice": states["alice"]})
    with pytest.raises(TargetError, match="--previous takes"):
        _judge(states, previous=list(states.values())[:2])


def test_wrapped_checkpoints_are_read_by_the_models_keys(states: States, tmp_path: Path) -> None:
    for name, prefix in (("alice", ""), ("bob", "module.")):
        torch.save({prefix + key: tensor for key, tensor in states[name].items()}, tmp_path / f"{name}.pt")
    opened = {name: unwrapped_state(open_checkpoint(tmp_path / f"{name}.pt").tensors) for name in ("alice", "bob")}
    assert list(opened["bob"]) == list(states["bob"])
    assert judge_parties(opened, profile(Net())).ok


@pytest.mark.filterwarnings("ignore:.*quantize")
@pytest.mark.parametrize(
    "make",
    [
        lambda value: torch.full((3,), value, dtype=torch.complex32),
        lambda value: torch.full((3,), value, dtype=torch.uint8).view(torch.bits8),
        lambda value: torch.full((3,), float(value)).to(torch.float8_e4m3fn),
        lambda value: torch.full((3,), float(value)).to(torch.float8_e8m0fnu),
        lambda value: torch.full((3,), value, dtype=torch.uint16),
        lambda value: torch.quantize_per_tensor(torch.full((3,), float(value)), 0.5, 0, torch.qint8),
    ],
)
def test_entries_of_any_dtype_are_compared(make: Any) -> None:
    one, same, other = ({"odd": make(value)} for value in (2, 2, 4))
    profile = profile_of_state(one)
    assert judge_parties({"a": one, "b": same}, profile, previous=[other]).ok
    report = judge_parties({"a": one, "b": other}, profile)
    assert report.entries[0].standing is Standing.NOT_SYNCHRONISED
    assert (report.entries[0].difference or 0) > 0


def test_values_that_are_not_at_hand() -> None:
    state = {"fc.weight": torch.ones(2, device="meta")}
    with pytest.raises(TargetError, match=r"a: the values of fc\.weight are not at hand"):
        judge_parties({"a": state, "b": {"fc.weight": torch.ones(2)}}, profile_of_state(state))
