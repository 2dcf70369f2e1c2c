"""On a CUDA device: what the aggregator gives beside the CPU and beside rational numbers. Skipped without one."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
if not torch.cuda.is_available():
    pytest.skip("needs a CUDA device", allow_module_level=True)

from hypothesis import given, settings  # noqa: E402

import bn_audit  # noqa: E402
from bn_audit.federated import FedAvg, FedBNAggregator, aggregate_files, load_shared, merge_state  # noqa: E402
from bn_audit.federated.exact import exact_mean  # noqa: E402
from bn_audit.federated.mean import weighted_mean  # noqa: E402
from bn_audit.federated.monitor import Monitor, statistics_of  # noqa: E402
from tests.federated.test_means import LAYOUTS, assert_within, parties, running_mean, same_bits  # noqa: E402

nn = torch.nn


def network(seed: int, device: str) -> Any:
    """A model trained a little, in train mode, on data of its own."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 5), nn.BatchNorm1d(5)
    )
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.001)
        for _ in range(3 + seed):
            model(torch.randn(16, 3, 8, 8) + seed)
    return model.to(device)


@settings(deadline=None, max_examples=400)
@given(parties())
def test_the_exact_mean_has_the_same_bits(case: tuple[list[Any], list[float]]) -> None:
    values, weights = case
    mean = exact_mean([value.cuda() for value in values], weights)
    assert mean.device.type == "cuda"
    assert same_bits(mean.cpu(), exact_mean(values, weights))


@settings(deadline=None, max_examples=200)
@given(parties(largest=0.499))
def test_the_mean_is_within_its_bound(case: tuple[list[Any], list[float]]) -> None:
    values, weights = case
    on_cuda = [value.cuda() for value in values]
    assert_within(weighted_mean(on_cuda, weights), Fraction(len(values) + 3, 2), values, weights)
    assert_within(running_mean(on_cuda, weights), Fraction(len(values) + 3), values, weights)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_many_pieces_and_many_ties(dtype: Any) -> None:
    """More elements than a device's piece holds, half of them on a tie between two numbers of the dtype."""
    generator = torch.Generator().manual_seed(0)
    count = (1 << 22) + 12_345
    first = (torch.rand(count, generator=generator, dtype=torch.float64) + 1).to(dtype)
    second = torch.nextafter(first.double(), torch.tensor(9.0, dtype=torch.float64)).to(dtype)
    if dtype != torch.float64:
        step = float(torch.finfo(dtype).eps)
        second[::2] = (first[::2].double() + step).to(dtype)
    mean = exact_mean([first.cuda(), second.cuda()], [1.0, 1.0])
    assert same_bits(mean.cpu(), exact_mean([first, second], [1.0, 1.0]))


@pytest.mark.parametrize("make", LAYOUTS)
def test_every_layout_and_dtype(make: Any) -> None:
    torch.manual_seed(0)
    values = [make() for _ in range(3)]
    on_cpu = exact_mean(values, [1.0, 2.0, 1.0])
    on_cuda = exact_mean([value.cuda() for value in values], [1.0, 2.0, 1.0])
    assert on_cuda.stride() == torch.empty_like(values[0].cuda()).stride()
    assert (
        torch.equal(torch.view_as_real(on_cuda.cpu()), torch.view_as_real(on_cpu))
        if on_cpu.is_complex()
        else (on_cuda.cpu().tolist() == on_cpu.tolist())
    )


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("devices", [("cuda", "cuda", "cuda"), ("cuda", "cpu", "cuda"), ("cpu", "cuda", "cuda")])
def test_a_model_on_any_device(devices: tuple[str, ...], exact: bool) -> None:
    """The parties' states may lie on different devices; the result is on the first one's, and BatchNorm stays."""
    models = [network(seed, device) for seed, device in enumerate(devices)]
    weights = [16, 48, 7]
    twins = [{key: value.cpu() for key, value in model.state_dict().items()} for model in models]
    expected = FedBNAggregator.from_module(models[0], exact=True).aggregate(twins, weights)

    adding = FedBNAggregator.from_module(models[0], exact=exact)
    for model, weight in zip(models, weights, strict=True):
        adding.add(model.state_dict(), weight)
    at_once = FedBNAggregator.from_module(models[0], exact=exact)
    for shared in (adding.result(), at_once.aggregate([model.state_dict() for model in models], weights)):
        assert {value.device.type for value in shared.values()} == {devices[0]}
        assert sorted(shared) == sorted(expected) == ["0.bias", "0.weight", "4.bias", "4.weight"]
        for key, value in shared.items():
            torch.testing.assert_close(value.cpu(), expected[key], rtol=0 if exact else 1e-5, atol=0 if exact else 1e-6)
        for model, device in zip(models, devices, strict=True):
            own = {key: value.clone() for key, value in model.state_dict().items()}
            load_shared(model, shared)
            for key, value in model.state_dict().items():
                assert value.device.type == device
                assert torch.equal(value.cpu(), (shared.get(key, own[key])).cpu())
            merged = merge_state(own, shared)
            assert list(merged) == list(own)


def test_integers_of_parties_on_several_devices() -> None:
    states = [
        {"weight": torch.ones(3, device=device), "steps": torch.tensor(7 + add, device=device)}
        for device, add in (("cuda", 0), ("cpu", 3))
    ]
    assert FedAvg().aggregate(states, [1, 1])["steps"].item() == 8
    assert FedBNAggregator((), integer_state="first").aggregate(states, [1, 1])["steps"].item() == 7
    with pytest.raises(bn_audit.federated.AggregationError, match="steps"):
        FedBNAggregator(()).aggregate(states, [1, 1])


def test_checkpoints_written_on_the_device(tmp_path: Path) -> None:
    """Files of CUDA tensors are read, profiled and averaged; the mean is that of the tensors."""
    models = [network(seed, "cuda") for seed in range(3)]
    paths = []
    for number, model in enumerate(models):
        paths.append(tmp_path / f"{number}.pt")
        torch.save(model.state_dict(), paths[-1])
    shared = aggregate_files(paths, [1, 2, 3], exact=True)
    states = [model.state_dict() for model in models]
    expected = FedBNAggregator.from_module(models[0], exact=True).aggregate(states, [1, 2, 3])
    assert {key: value.cpu().tolist() for key, value in shared.items()} == {
        key: value.cpu().tolist() for key, value in expected.items()
    }


def test_compare_and_monitor_of_models_on_the_device(tmp_path: Path) -> None:
    on_cuda = {name: network(seed, "cuda") for seed, name in enumerate(("alice", "bob"))}
    on_cpu = {name: network(seed, "cpu") for seed, name in enumerate(("alice", "bob"))}
    assert bn_audit.compare(on_cuda).layers == bn_audit.compare(on_cpu).layers
    found = [
        Monitor(tmp_path / f"{number}.jsonl").record(1, {name: statistics_of(model) for name, model in models.items()})
        for number, models in enumerate((on_cuda, on_cpu))
    ]
    assert found[0] == found[1]
