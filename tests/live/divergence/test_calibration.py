"""Chance: the lines beside simulations of parties whose data come from one distribution."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
stats = pytest.importorskip("scipy.stats")

from torch import nn  # noqa: E402

import bn_audit  # noqa: E402
from bn_audit.comparison import Level  # noqa: E402
from bn_audit.federated.distances import nw2  # noqa: E402
from bn_audit.live.divergence.calibration import CHANCE, Array, Moments, bound, line, noise, split_half  # noqa: E402
from bn_audit.live.divergence.data import moments_of  # noqa: E402
from bn_audit.live.errors import TargetError  # noqa: E402
from tests.live.divergence.test_compare import Net, party  # noqa: E402


def running(
    examples: Array, batch: int, momentum: float, batches: int, random: np.random.Generator
) -> tuple[Array, Array]:
    """What torch's BatchNorm1d keeps after a training: shape (examples, channels) in, a mean and a variance out."""
    mean, var = np.zeros(examples.shape[1]), np.ones(examples.shape[1])
    order = np.concatenate([random.permutation(len(examples)) for _ in range(-(-batches * batch // len(examples)))])
    for number in range(batches):
        seen = examples[order[number * batch : (number + 1) * batch]]
        mean = (1 - momentum) * mean + momentum * seen.mean(axis=0)
        var = (1 - momentum) * var + momentum * seen.var(axis=0, ddof=1)
    return mean, var


def test_the_constant_is_the_quantile() -> None:
    nodes, weights = np.polynomial.legendre.leggauss(400)
    x = CHANCE * (nodes + 1) / 2
    inside = 2 * stats.norm.pdf(x) * stats.chi2.cdf(2 * (CHANCE**2 - x**2), 1)
    assert float((weights * inside).sum() * CHANCE / 2) == pytest.approx(0.99, abs=1e-6)


@pytest.mark.parametrize(("examples", "batch", "momentum"), [(100, 20, 0.1), (400, 8, 0.3), (64, 64, 0.1)])
def test_noise_is_the_variance_of_a_running_mean(examples: int, batch: int, momentum: float) -> None:
    """Of batches drawn one by one; those of an epoch have less, since no example comes twice."""
    random = np.random.default_rng(0)
    means = []
    for _ in range(3000):
        own = random.normal(size=examples)
        mean = 0.0
        for seen in random.choice(own, size=(80, batch)):
            mean += momentum * (seen.mean() - mean)
        means.append(mean)
    assert np.var(means) == pytest.approx(noise(examples, batch, momentum), rel=0.12)


def test_without_momentum_only_the_sample_varies() -> None:
    assert noise(50, 8, None) == 1 / 50


def test_one_channel_is_above_the_bound_in_one_of_a_hundred() -> None:
    """Of a channel of normal values whose statistics have the variances that the formula has."""
    random = np.random.default_rng(1)
    lines = bound([1 / 200, 1 / 200, 1 / 50])
    for one, other, examples in ((0, 1, (200, 200)), (0, 2, (200, 50))):
        a, b = (random.normal(size=(40_000, count)) for count in examples)
        apart = nw2(a.mean(axis=1), a.var(axis=1, ddof=1), b.mean(axis=1), b.var(axis=1, ddof=1))
        assert float((apart > lines.of(one, other)).mean()) == pytest.approx(0.01, abs=0.003)


def drawn(parties: int, examples: int, channels: int, values: int, random: np.random.Generator) -> list[Moments]:
    """What the norm layer gets of parties of one distribution, whose channels and values have much in common."""
    mixing = np.random.default_rng(9).normal(size=(5, channels))
    found = []
    for _ in range(parties):
        common = random.normal(size=(examples, 1, 5)) @ mixing
        seen = common + random.gamma(2.0, size=(examples, values, channels))
        found.append(Moments(seen.mean(axis=1), (seen**2).mean(axis=1), values))
    return found


@pytest.mark.parametrize(("examples", "values", "batch"), [(120, 1, 32), (120, 49, 32), (400, 9, 64)])
def test_split_halves_give_the_quantile_of_chance(examples: int, values: int, batch: int) -> None:
    """The line lies at the 99 % quantile of the distances of parties of one distribution, or somewhat above it."""
    random = np.random.default_rng(2)
    parties = drawn(60, examples, 12, values, random)
    statistics = []
    for one in parties:
        means, squares = one.mean, one.square
        mean, var = np.zeros(12), np.ones(12)
        for _ in range(20):
            order = random.permutation(examples)
            for first in range(0, examples - batch + 1, batch):
                part = order[first : first + batch]
                m = means[part].mean(axis=0)
                v = (squares[part].mean(axis=0) - m**2) * batch * values / (batch * values - 1)
                mean, var = 0.9 * mean + 0.1 * m, 0.9 * var + 0.1 * v
        statistics.append((mean, var))
    apart = [float(nw2(*statistics[a], *statistics[b]).mean()) for a in range(60) for b in range(a)]
    draws = [
        split_half(one, batch_size=batch, momentum=0.1, batches=None, splits=60, generator=random)
        for one in parties[:20]
    ]
    lines = line(draws)
    quantile = float(np.quantile(apart, 0.99))
    assert 0.85 < float(np.median(lines.values)) / quantile < 1.6
    # A line that does not grow with the spread of chance, or shrinks, would let more through.
    assert float(np.mean(np.array(apart) > np.median(lines.values))) <= 0.02
    # Without the correction for halves the draws would be those of samples of half the size.
    assert float(np.median([np.median(one) for one in draws])) == pytest.approx(float(np.median(apart)), rel=0.35)


def test_a_training_too_short_to_forget_is_simulated_as_such() -> None:
    random = np.random.default_rng(3)
    (moments,) = drawn(1, 100, 4, 1, random)
    long = split_half(moments, batch_size=10, momentum=0.1, batches=None, splits=100, generator=random)
    short = split_half(moments, batch_size=10, momentum=0.1, batches=3, splits=100, generator=random)
    assert float(np.median(short)) < 0.8 * float(np.median(long))


@pytest.mark.parametrize("shape", [(3,), (3, 5), (3, 4, 5)])
def test_moments_are_what_the_layer_sees(shape: tuple[int, ...]) -> None:
    """Statistics of one batch of all examples, beside those that torch keeps with momentum 1."""
    kind = {1: nn.BatchNorm1d, 2: nn.BatchNorm1d, 3: nn.BatchNorm2d}[len(shape)]
    model = nn.Sequential(kind(3, momentum=1.0))
    inputs = torch.randn((20, *shape)) * 2 + 1
    model.train()
    model(inputs)
    batches = [(inputs[:8], torch.zeros(8)), (inputs[8:], torch.zeros(12))]
    moments = moments_of(model, model.state_dict(), batches, ["0"], "alice")["0"]
    values = 20 * moments.values
    mean = moments.mean.mean(axis=0)
    var = (moments.square.mean(axis=0) - mean**2) * values / (values - 1)
    np.testing.assert_allclose(mean, model[0].running_mean, rtol=1e-5)
    np.testing.assert_allclose(var, model[0].running_var, rtol=1e-4)


def data_of(shift: float, seed: int, examples: int = 120) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((examples, 1, 8, 8), generator=generator) + shift, torch.zeros(examples, dtype=torch.long)


def trained(data: tuple[torch.Tensor, torch.Tensor], seed: int) -> nn.Module:
    torch.manual_seed(7)
    model = Net()
    torch.manual_seed(seed)
    with torch.no_grad():
        for _ in range(20):
            for batch in torch.randperm(len(data[0])).split(32):
                model(data[0][batch])
    return model


@pytest.fixture(scope="module")
def federation() -> tuple[dict[str, nn.Module], Mapping[str, tuple[torch.Tensor, torch.Tensor]]]:
    data = {"alice": data_of(0, 1), "bob": data_of(0, 2), "carol": data_of(0, 3), "dave": data_of(0.4, 4)}
    return {name: trained(own, number) for number, (name, own) in enumerate(data.items())}, data


def test_a_shift_is_told_from_chance(federation: tuple[dict[str, nn.Module], dict[str, object]]) -> None:
    models, data = federation
    found = bn_audit.compare(models, model=Net(), data=data, batch_size=32)
    first = found.first
    assert found.calibration is not None and found.calibration.how == "split-half"
    assert found.calibration.examples == (120,) * 4
    assert {first.level(one, other) for one in range(3) for other in range(one)} == {Level.INDISTINGUISHABLE}
    assert all(first.level(one, 3) not in (None, Level.INDISTINGUISHABLE) for one in range(3))
    assert [one.party for one in found.outliers] == [3]
    # Deeper layers have no line: what reaches them has passed the parties' own BatchNorms.
    assert found.layers[1].lines is None and found.layers[1].level(0, 3) is None
    assert found == bn_audit.compare(models, model=Net(), data=data, batch_size=32)


def test_a_bound_needs_numbers_alone(federation: tuple[dict[str, nn.Module], dict[str, object]]) -> None:
    models, data = federation
    bounded = bn_audit.compare(models, samples=120, batch_size=32).first
    measured = bn_audit.compare(models, model=Net(), data=data, batch_size=32).first
    assert bounded.lines is not None and measured.lines is not None
    assert bounded.lines.of(0, 1) == pytest.approx(CHANCE * (2 / 120 + 2 * 0.1 / 1.9 / 32) ** 0.5)
    # Of a convolution it is far too high.
    assert bounded.lines.of(0, 1) > 2 * measured.lines.of(0, 1)
    apart = bn_audit.compare(models, samples={"alice": 120, "bob": 30, "carol": 120, "dave": 120}, batch_size=32)
    assert apart.first.lines is not None and apart.first.lines.of(0, 1) > bounded.lines.of(0, 1)


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.bn(self.bn(x))
        return out


def test_what_cannot_be_calibrated_says_why(federation: tuple[dict[str, nn.Module], dict[str, object]]) -> None:
    models, data = federation
    few = {name: (own[0][:3], own[1][:3]) for name, own in data.items()}  # type: ignore[index]
    for changed, message in (
        (
            {"data": {"alice": data["alice"], "eve": data["bob"]}},
            "the data has no party called 'bob'; it has alice, eve",
        ),
        ({"data": few}, "alice has 3 examples"),
        ({"model": Net(width=4)}, "loading the state of alice into the model raised"),
        ({"data": {name: (torch.randn(8, 5), torch.zeros(8)) for name in data}}, "integers"),
        (
            {"data": {name: (torch.randn(8, 5), torch.zeros(8).long()) for name in data}},
            "running the model on the data",
        ),
    ):
        with pytest.raises(TargetError, match=message):
            bn_audit.compare(models, **{"model": Net(), "data": data, "batch_size": 32, **changed})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="data needs the model"):
        bn_audit.compare(models, data=data, batch_size=32)
    with pytest.raises(ValueError, match="give batch_size"):
        bn_audit.compare(models, samples=100)
    with pytest.raises(ValueError, match="one for each party"):
        bn_audit.compare(models, samples={"alice": 3}, batch_size=2)
    twice = [Twice(), Twice()]
    for number, one in enumerate(twice):
        one(torch.randn(20, 3) + number)
    own = {f"party {n}": (torch.randn(20, 3), torch.zeros(20).long()) for n in (1, 2)}
    with pytest.raises(TargetError, match="bn does not get one input"):
        bn_audit.compare(twice, model=Twice(), data=own, batch_size=5)


def test_only_the_first_layer_that_runs_is_told_of(
    federation: tuple[dict[str, nn.Module], dict[str, object]], tmp_path: Path
) -> None:
    models, data = federation
    with pytest.raises(TargetError, match="bn1 runs before bn2, and what reaches bn2 has passed it"):
        bn_audit.compare(models, layers=["bn2"], model=Net(), data=data, batch_size=32)
    with pytest.raises(TargetError, match="what reaches bn2 has passed bn1"):
        bn_audit.compare(models, layers=["bn2"], samples=120, batch_size=32)

    class Backwards(nn.Module):
        """Safetensors files sort layers by name, whatever runs first."""

        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.z, self.a = model.bn1, model.bn2
            self.y, self.b, self.fc = model.conv, model.conv2, model.fc

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.fc(torch.relu(self.a(self.b(torch.relu(self.z(self.y(x)))))).mean((2, 3)))
            return out

    from safetensors.torch import save_file

    paths = {}
    for name, model in models.items():
        paths[name] = tmp_path / f"{name}.safetensors"
        save_file(Backwards(model).state_dict(), paths[name])
    assert bn_audit.compare(paths).first.path == "a"
    with pytest.raises(TargetError, match=r"z runs before a, .*--layer z"):
        bn_audit.compare(paths, layers=["a"], model=Backwards(Net()), data=data, batch_size=32)
    # The model knows the order.
    right = bn_audit.compare(paths, model=Backwards(Net()), data=data, batch_size=32)
    assert right.first.path == "z" and right.first.lines is not None


def test_the_model_is_left_as_it_was(federation: tuple[dict[str, nn.Module], dict[str, object]]) -> None:
    models, data = federation
    model = party(seed=3)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    bn_audit.compare(models, model=model, data=data, batch_size=32)
    assert model.training
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
