"""States in, states out: what is local, what is refused, what is kept."""

from __future__ import annotations

import itertools
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402
from torch.masked import masked_tensor  # noqa: E402

from bn_audit.federated import (  # noqa: E402
    AggregationError,
    FedAvg,
    FedBNAggregator,
    load_shared,
    local_keys,
    merge_state,
    split_state,
)


class Net(nn.Module):
    """Nested BatchNorm whose name says nothing, a decoy whose name does, tied weights, an integer table."""

    def __init__(self) -> None:
        super().__init__()
        self.subnet = nn.Linear(4, 4)
        self.block = nn.Sequential(nn.Linear(4, 4, bias=False), nn.BatchNorm1d(4), nn.BatchNorm1d(4, affine=False))
        self.plain = nn.BatchNorm1d(4, track_running_stats=False)
        self.instance = nn.InstanceNorm1d(4, affine=True, track_running_stats=True)
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 4)
        self.head.weight = self.subnet.weight
        self.register_buffer("table", torch.arange(6))
        self.register_buffer("mask", torch.full((2, 2), -math.inf).triu(1))


LOCAL_MODULES = ("block.1.", "block.2.", "plain.", "instance.")


def randomised(seed: int, model: nn.Module | None = None) -> nn.Module:
    """A model with values of its own everywhere but in its integer table and its mask."""
    model = Net() if model is None else model
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, value in model.state_dict().items():
            if value.is_floating_point() and key != "mask":
                value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
            elif key.endswith("num_batches_tracked"):
                value.fill_(seed)
    return model


def states(count: int = 3) -> list[dict[str, Any]]:
    return [randomised(seed + 1).state_dict() for seed in range(count)]


def result_of(parties: list[dict[str, Any]], weights: list[float], **options: Any) -> dict[str, Any]:
    aggregator = FedBNAggregator.from_module(Net(), **options)
    for state, weight in zip(parties, weights, strict=True):
        aggregator.add(state, weight)
    return aggregator.result()


def assert_same_bits(left: dict[str, Any], right: dict[str, Any]) -> None:
    assert list(left) == list(right)
    for key, value in left.items():
        assert value.dtype == right[key].dtype
        torch.testing.assert_close(value, right[key], rtol=0, atol=0, equal_nan=True, msg=key)


def test_what_is_local_is_decided_by_module() -> None:
    assert local_keys(Net()) == {key for key in Net().state_dict() if key.startswith(LOCAL_MODULES)}


def test_a_bare_state_tells_all_but_batchnorm_without_statistics() -> None:
    expected = {key for key in Net().state_dict() if key.startswith(LOCAL_MODULES) and not key.startswith("plain.")}
    assert local_keys(Net().state_dict()) == expected


@pytest.mark.parametrize("by", [lambda model: model, lambda model: model.state_dict()])
def test_local_keys_of_unusual_models(by: Any) -> None:
    parametrized = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    nn.utils.parametrize.register_parametrization(parametrized[1], "weight", nn.Softplus(), unsafe=True)
    assert local_keys(by(parametrized)) == {key for key in parametrized.state_dict() if key.startswith("1.")}
    assert "1.parametrizations.weight.original" in parametrized.state_dict()

    shared = nn.BatchNorm1d(2)
    twice = nn.ModuleDict({"a": shared, "b": nn.Sequential(nn.Linear(2, 2), shared)})
    assert local_keys(by(twice)) == {key for key in twice.state_dict() if not key.startswith("b.0.")}

    scripted = torch.jit.script(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)))
    assert local_keys(by(scripted)) == {key for key in scripted.state_dict() if key.startswith("1.")}

    class Normalised(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("running_mean", torch.zeros(3))
            self.layer = nn.Linear(3, 3)

    assert local_keys(by(Normalised())) == {"running_mean"}


class _Root(nn.BatchNorm1d):
    """A network whose root is a BatchNorm."""

    def __init__(self) -> None:
        super().__init__(2)
        self.layer = nn.Linear(2, 2)


class _Parameters(nn.Module):
    """Statistics that are parameters, as converted weights have them."""

    def __init__(self) -> None:
        super().__init__()
        self.running_mean = nn.Parameter(torch.zeros(2), requires_grad=False)
        self.weight = nn.Parameter(torch.ones(2))


def _hidden() -> nn.Module:
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

    return nn.Sequential(nn.Linear(2, 2), checkpoint_wrapper(nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 2))))


def _forwarding() -> nn.Module:
    class Client(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))

        def state_dict(self) -> Any:  # type: ignore[override]
            return self.net.state_dict()

    return Client()


def _aliased() -> nn.Module:
    model = nn.ModuleDict({"scale": nn.LayerNorm(2), "bn": nn.BatchNorm1d(2)})
    model["scale"].weight = model["bn"].weight
    return model


def _lazy() -> nn.Module:
    return nn.Sequential(nn.LazyLinear(2), nn.LazyBatchNorm1d())


def _fake() -> nn.Module:
    with torch._subclasses.FakeTensorMode():
        return nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))


@pytest.mark.parametrize("make", [_Root, _Parameters, _hidden, _forwarding, _aliased, _lazy, _fake, Net])
def test_the_aggregator_and_the_plans_mean_the_same_by_local(make: Any) -> None:
    from bn_audit.exchange.fedbn import expected_fates
    from bn_audit.exchange.plan import Fate
    from bn_audit.live.profile import profile

    model = make()
    whole = profile(model)
    fates = expected_fates(whole)
    local = {entry.key for entry, own in zip(whole.entries, fates, strict=True) if own == {Fate.LOCAL}}
    assert local_keys(model) == local
    assert local
    assert make is _Parameters or local != set(model.state_dict())


def test_scripted_batchnorm_without_statistics_is_known_by_its_type() -> None:
    scripted = torch.jit.script(nn.Sequential(nn.BatchNorm1d(2, track_running_stats=False), nn.LayerNorm(2)))
    assert local_keys(scripted) == {"0.weight", "0.bias"}


def test_a_tensor_with_a_local_name_is_local_under_all_its_names() -> None:
    model = nn.ModuleDict({"bn": nn.BatchNorm1d(2), "scale": nn.LayerNorm(2)})
    model["scale"].weight = model["bn"].weight
    assert local_keys(model) == {key for key in model.state_dict() if key != "scale.bias"}


@pytest.mark.parametrize("exact", [False, True])
def test_a_round(exact: bool) -> None:
    """The paper's update, and the parties' BatchNorm as it was, bit for bit."""
    models = [randomised(seed) for seed in (1, 2, 3)]
    before = [{key: value.clone() for key, value in model.state_dict().items()} for model in models]
    weights = [1.0, 2.0, 5.0]
    shared = result_of([model.state_dict() for model in models], weights, exact=exact)
    for model in models:
        load_shared(model, shared)
    local = local_keys(Net())
    for model, old in zip(models, before, strict=True):
        for key, value in model.state_dict().items():
            if key in local or key in ("table", "mask"):
                assert torch.equal(value, old[key]), key
            else:
                mean = sum(w * state[key].double() for w, state in zip(weights, before, strict=True)) / sum(weights)
                torch.testing.assert_close(value.double(), mean, rtol=1e-6, atol=0)
                assert not torch.equal(value, old[key]), key


@pytest.mark.parametrize("options", [{}, {"exact": True}, {"integer_state": "first"}, {"integer_state": "keep-local"}])
def test_adding_and_aggregating_agree(options: dict[str, Any]) -> None:
    parties, weights = states(), [1.0, 2.0, 5.0]
    added = result_of(parties, weights, **options)
    aggregated = FedBNAggregator.from_module(Net(), **options).aggregate(parties, weights)
    assert list(added) == list(aggregated)
    for key, value in added.items():
        torch.testing.assert_close(value, aggregated[key], rtol=0 if options.get("exact") else 1e-6, atol=0)
    assert ("table" in added) == (options.get("integer_state") != "keep-local")
    assert not added.keys() & local_keys(Net())


def test_exact_is_the_same_in_every_order() -> None:
    parties, weights = states(4), [3.0, 3.0, 1e-9, 1e9]
    first = result_of(parties, weights, exact=True)
    for order in itertools.permutations(range(4)):
        assert_same_bits(result_of([parties[i] for i in order], [weights[i] for i in order], exact=True), first)


@pytest.mark.parametrize("exact", [False, True])
def test_equal_states_stay_what_they_are(exact: bool) -> None:
    state = randomised(1).state_dict()
    state = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
    result = result_of([state] * 5, [1.0, 0.3, 7.0, 2.0, 1e-3], exact=exact)
    local = local_keys(Net())
    assert_same_bits(result, {key: value for key, value in state.items() if key not in local})


@pytest.mark.parametrize("exact", [False, True])
def test_tied_tensors_stay_tied_if_they_are_in_every_state(exact: bool) -> None:
    parties, weights = states(), [1.0, 2.0, 3.0]
    tied = result_of(parties, weights, exact=exact)
    assert tied["head.weight"] is tied["subnet.weight"]
    assert FedBNAggregator.from_module(Net(), exact=exact).aggregate(parties, weights)["head.weight"] is not None
    for loose in range(3):
        mixed = list(parties)
        mixed[loose] = {**parties[loose], "head.weight": parties[loose]["head.weight"] + 1}
        for result in (
            result_of(mixed, weights, exact=exact),
            FedBNAggregator.from_module(Net(), exact=exact).aggregate(mixed, weights),
        ):
            assert result["head.weight"] is not result["subnet.weight"]
            difference = result["head.weight"] - result["subnet.weight"]
            expected = torch.full_like(difference, weights[loose] / 6)
            torch.testing.assert_close(difference, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("exact", [False, True])
def test_states_may_change_after_they_were_added(exact: bool) -> None:
    """As in a simulation that trains one model for every party in turn."""
    aggregator, model = FedBNAggregator.from_module(Net(), exact=exact), Net()
    for seed in (1, 2):
        aggregator.add(randomised(seed, model).state_dict(), 1)
    assert_same_bits(aggregator.result(), result_of(states(2), [1, 1], exact=exact))


@pytest.mark.parametrize("exact", [False, True])
def test_a_result_is_not_changed_by_what_is_added_later(exact: bool) -> None:
    parties = states()
    aggregator = FedBNAggregator.from_module(Net(), exact=exact)
    for state in parties[:2]:
        aggregator.add(state, 1)
    early = aggregator.result()
    copy = {key: value.clone() for key, value in early.items()}
    assert_same_bits(aggregator.result(), early)
    aggregator.add(parties[2], 1)
    assert_same_bits(early, copy)
    assert_same_bits(aggregator.result(), result_of(parties, [1, 1, 1], exact=exact))


def with_entry(**entries: Any) -> dict[str, Any]:
    return {**states(1)[0], **entries}


def nested() -> torch.Tensor:
    return torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)])


def fake() -> torch.Tensor:
    with FakeTensorMode():
        return torch.zeros(4)


BROKEN = {
    "missing": ({k: v for k, v in states(1)[0].items() if k != "head.bias"}, 1, "head.bias", "missing"),
    "extra": (with_entry(more=torch.zeros(1)), 1, "more", "one too many"),
    "shape": (with_entry(**{"head.bias": torch.zeros(5)}), 1, "head.bias", r"shape \(5,\), but \(4,\) in a"),
    "dtype": (with_entry(**{"head.bias": torch.zeros(4).double()}), 1, "head.bias", "float64, but float32 in a"),
    "integers": (with_entry(table=torch.zeros(6, dtype=torch.int64)), 1, "table", "integer entry differs"),
    "NaN": (with_entry(**{"head.bias": torch.tensor([0, math.nan, 0, 0])}), 1, "head.bias", "NaN"),
    "infinite": (with_entry(**{"head.bias": torch.tensor([0, math.inf, 0, 0])}), 1, "head.bias", "infinite"),
    "no tensor": (with_entry(**{"head.bias": [0.0] * 4}), 1, "head.bias", "no tensor but list"),
    "sparse": (with_entry(**{"head.bias": torch.zeros(4).to_sparse()}), 1, "head.bias", "no dense tensor"),
    "nested": (with_entry(**{"head.bias": nested()}), 1, "head.bias", "no dense tensor but nested"),
    "fake": (with_entry(**{"head.bias": fake()}), 1, "head.bias", "a fake tensor and without values"),
    "masked": (
        with_entry(**{"head.bias": masked_tensor(torch.ones(4), torch.ones(4, dtype=torch.bool))}),
        1,
        "head.bias",
        "no dense tensor but MaskedTensor",
    ),
    "meta": (with_entry(**{"head.bias": torch.zeros(4, device="meta")}), 1, "head.bias", "meta device"),
    "zero": (states(1)[0], 0, None, "positive and finite"),
    "negative": (states(1)[0], -1.0, None, "positive and finite"),
    "weight NaN": (states(1)[0], math.nan, None, "positive and finite"),
    "weight infinite": (states(1)[0], math.inf, None, "positive and finite"),
    "sum": (states(1)[0], sys.float_info.max, None, "sum of the weights"),
}


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("name", BROKEN)
def test_an_error_names_party_and_key_and_changes_nothing(name: str, exact: bool) -> None:
    broken, weight, key, message = BROKEN[name]
    good = [{k: v for k, v in state.items() if k != "mask"} for state in states(2)]
    broken = {k: v for k, v in broken.items() if k != "mask"}
    first = sys.float_info.max if name == "sum" else 1.0
    aggregator = FedBNAggregator.from_module(Net(), exact=exact, check_finite=True)
    untouched = FedBNAggregator.from_module(Net(), exact=exact, check_finite=True)
    for one in (aggregator, untouched):
        one.add(good[0], first, party="a")
    with pytest.raises(AggregationError, match=message) as error:
        aggregator.add(broken, weight, party="b")
    assert (error.value.party, error.value.key) == ("b", key)
    assert str(error.value).startswith("b: ")
    with pytest.raises(AggregationError, match=message):
        FedBNAggregator.from_module(Net(), check_finite=True).aggregate([good[0], broken], [first, weight], ["a", "b"])
    for one in (aggregator, untouched):
        one.add(good[1], 2.0, party="b")
    assert_same_bits(aggregator.result(), untouched.result())


def test_an_interrupted_add_does_not_pass_for_a_whole_one(monkeypatch: pytest.MonkeyPatch) -> None:
    aggregator = FedBNAggregator.from_module(Net())
    aggregator.add(states(1)[0], 1)

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("bn_audit.federated.mean.RunningMean.add", interrupt)
        with pytest.raises(KeyboardInterrupt):
            aggregator.add(states(1)[0], 1)
    with pytest.raises(AggregationError, match="interrupted"):
        aggregator.result()


def test_no_party_at_all() -> None:
    with pytest.raises(AggregationError, match="no party"):
        FedBNAggregator(()).result()
    with pytest.raises(AggregationError, match="no party"):
        FedBNAggregator(()).aggregate([], [])
    with pytest.raises(AggregationError, match="2 states, 1 weights"):
        FedBNAggregator(()).aggregate(states(2), [1])
    with pytest.raises(ValueError, match="integer_state is one of require-equal, keep-local, first, not 'mean'"):
        FedBNAggregator((), integer_state="mean")  # type: ignore[arg-type]


def test_integer_policies() -> None:
    one = {"table": torch.tensor([1, 2]), "flag": torch.tensor([True, False])}
    two = {"table": torch.tensor([4, 2]), "flag": torch.tensor([False, False])}
    assert FedBNAggregator((), integer_state="keep-local").aggregate([one, two], [1, 1]) == {}
    for order in ([one, two], [two, one]):
        first = FedBNAggregator((), integer_state="first").aggregate(order, [1, 1])
        assert_same_bits(first, order[0])
        assert first["table"] is not order[0]["table"]
        with pytest.raises(AggregationError, match="party 2: table: integer entry differs"):
            FedBNAggregator(()).aggregate(order, [1, 1])


def test_fedavg_averages_batchnorm_too_and_says_what_it_does_with_integers() -> None:
    parties = [{"bn.running_mean": torch.tensor([x]), "n": torch.tensor(k)} for x, k in ((1.0, 1), (2.0, 4))]
    parties = [{**state, "flag": torch.tensor([state["n"].item() == 1, False])} for state in parties]
    truncated = FedAvg().aggregate(parties, [1, 1])
    expected = {"bn.running_mean": torch.tensor([1.5]), "n": torch.tensor(2), "flag": torch.tensor([True, False])}
    assert_same_bits(truncated, expected)
    promoted = FedAvg(integer_state="promote").aggregate(parties, [1, 1])
    assert promoted["n"].dtype == torch.float64
    assert promoted["n"] == 2.5
    with pytest.raises(AggregationError, match="n: int64 has no mean"):
        FedAvg(integer_state="raise").aggregate(parties, [1, 1])


def test_splitting_and_merging_gives_the_state_back() -> None:
    model = randomised(1)
    shared, local = split_state(model)
    assert local.keys() == local_keys(model)
    merged = merge_state(model.state_dict(), shared)
    assert_same_bits(merged, model.state_dict())
    assert merged["block.1.weight"].data_ptr() == model.block[1].weight.data_ptr()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"more": torch.zeros(1)}, "more: the party's state has no such entry"),
        ({"head.bias": torch.zeros(5)}, "head.bias: shape"),
        ({"head.bias": torch.zeros(4).half()}, "head.bias: float16, but float32"),
        ({"block.1.weight": torch.zeros(4)}, "block.1.weight: stays with the party"),
        ({"head.bias": None}, "head.bias: missing"),
    ],
)
def test_a_load_that_is_refused_changes_nothing(change: dict[str, Any], message: str) -> None:
    model = randomised(1)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    shared = {**split_state(randomised(2))[0], **change}
    with pytest.raises(AggregationError, match=message):
        load_shared(model, {key: value for key, value in shared.items() if value is not None})
    assert_same_bits(dict(model.state_dict()), before)


def test_a_load_that_fails_half_way_is_undone() -> None:
    class Refuses(nn.Linear):
        def _load_from_state_dict(self, *arguments: Any) -> None:
            super()._load_from_state_dict(*arguments)
            raise RuntimeError("no")

    model = randomised(1, nn.Sequential(nn.Linear(2, 2), Refuses(2, 2)))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    shared = randomised(2, nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))).state_dict()
    with pytest.raises(RuntimeError, match="no"):
        load_shared(model, shared)
    assert_same_bits(dict(model.state_dict()), before)


def test_integers_kept_local_may_be_missing_in_a_load() -> None:
    model = randomised(1)
    shared = result_of(states(), [1, 1, 1], integer_state="keep-local")
    load_shared(model, shared)
    assert_same_bits(split_state(model)[0] | {"table": model.table}, split_state(model)[0])
    assert torch.equal(model.head.bias, shared["head.bias"])


def test_importing_the_package_does_not_import_torch() -> None:
    subprocess.run([sys.executable, "-c", "import bn_audit, sys; assert 'torch' not in sys.modules"], check=True)


_FSDP = """
import sys
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel
from bn_audit.federated import local_keys

dist.init_process_group("gloo", init_method=f"file://{sys.argv[1]}", rank=0, world_size=1)
inner = FullyShardedDataParallel(nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 2)), device_id=torch.device("cpu"))
print(*sorted(local_keys(nn.Sequential(nn.Linear(2, 2), inner))))
dist.destroy_process_group()
"""


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")
def test_batchnorm_below_fsdp_is_local(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _FSDP, str(tmp_path / "store")], capture_output=True, text=True, check=True
    )
    names = ("bias", "num_batches_tracked", "running_mean", "running_var", "weight")
    assert done.stdout.split() == [f"1.0.{name}" for name in names]


def test_merging_keeps_what_torch_notes_beside_the_entries() -> None:
    state = Net().state_dict()
    merged = merge_state(state, {})
    assert merged._metadata == state._metadata  # type: ignore[attr-defined]
    assert not hasattr(merge_state(dict(state), {}), "_metadata")


def test_what_is_no_state_is_refused_in_words() -> None:
    """Of a Sequential in place of keys nothing would be local, and of a state all of it, without a word."""
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    for given, remedy in (
        (model, "FedBNAggregator.from_module(model)"),
        (model.state_dict(), "FedBNAggregator.from_state(state)"),
        ("1.weight", "a collection of strings"),
        ([1], "a collection of strings"),
    ):
        with pytest.raises(TypeError, match=re.escape(remedy)):
            FedBNAggregator(given)  # type: ignore[arg-type]
    aggregator = FedBNAggregator.from_module(model)
    with pytest.raises(AggregationError, match="this is of type Sequential: give its state_dict"):
        aggregator.add(model, weight=1, party="alice")  # type: ignore[arg-type]
    with pytest.raises(AggregationError, match="and this is the class Linear: make one"):
        local_keys(nn.Linear)  # type: ignore[arg-type]
    with pytest.raises(AggregationError, match=r"and this is of type int$"):
        local_keys(3)  # type: ignore[arg-type]


def test_an_entry_too_few_or_too_many_names_the_other_party_once() -> None:
    aggregator = FedBNAggregator([])
    aggregator.add({"a": torch.ones(1), "b": torch.ones(1), "c": torch.ones(1)}, 1, "alice")
    with pytest.raises(AggregationError, match=r"^bob: b: missing, but in alice \(and 1 more\)$"):
        aggregator.add({"a": torch.ones(1)}, 1, "bob")
    whole = {key: torch.ones(1) for key in "abcd"}
    with pytest.raises(AggregationError, match=r"^bob: d: one too many, not in alice$"):
        aggregator.add(whole, 1, "bob")
