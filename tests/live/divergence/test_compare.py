"""Comparisons: what makes them meaningful, what is left out and told, and what is measured."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402
from torch import nn  # noqa: E402

import bn_audit  # noqa: E402
from bn_audit.comparison import Comparison  # noqa: E402
from bn_audit.live.divergence import Options, compare  # noqa: E402
from bn_audit.live.divergence.sources import source_of  # noqa: E402
from bn_audit.live.errors import TargetError  # noqa: E402


class Net(nn.Module):
    def __init__(self, width: int = 6, classes: int = 2) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, width, 3)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, 2 * width, 3)
        self.bn2 = nn.BatchNorm2d(2 * width)
        self.fc = nn.Linear(2 * width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.bn1(self.conv(x)))
        out: torch.Tensor = self.fc(torch.relu(self.bn2(self.conv2(x))).mean((2, 3)))
        return out


def party(shift: float = 0.0, scale: float = 1.0, seed: int = 0, model: nn.Module | None = None) -> nn.Module:
    """One model of all parties, whose BatchNorms have seen the party's data."""
    torch.manual_seed(7)
    net = Net() if model is None else copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    net.train()
    with torch.no_grad():
        for _ in range(60):
            net(scale * torch.randn((16, 1, 8, 8), generator=generator) + shift)
    return net


def refused(*parties: nn.Module | dict[str, torch.Tensor], **options: object) -> str:
    with pytest.raises(TargetError) as caught:
        bn_audit.compare(parties, **options)  # type: ignore[arg-type]
    return str(caught.value)


def test_a_shift_of_the_input_is_measured_at_the_first_layer() -> None:
    """Of a convolution the mean shifts by the sum of its weights times the input's, and nothing else changes."""
    models = {"alice": party(seed=1), "bob": party(shift=0.5, seed=1)}
    found = bn_audit.compare(models)
    weight = models["alice"].conv.weight.detach().double()
    var = models["alice"].bn1.running_var.double()
    expected = (0.5 * weight.sum((1, 2, 3)).abs() / var.sqrt()).mean()
    assert found.first.path == "bn1"
    # The initial statistics have decayed to 0.9^60 of what they were.
    assert found.first.distances["nw2"].of(0, 1) == pytest.approx(float(expected), rel=0.02)
    assert found.weights == (0.0, 0.0)
    assert found.parties == ("alice", "bob")
    assert [layer.features for layer in found.layers] == [6, 12]


def test_the_centre_is_the_mean_of_the_parties() -> None:
    found = bn_audit.compare([party(seed=1), party(shift=1.0, seed=2)])
    first = found.first
    assert first.centre[0] == pytest.approx(first.centre[1], rel=0.2)
    assert first.centre[0] == pytest.approx(first.distances["nw2"].of(0, 1) / 2, rel=0.3)


def test_affine_parameters_are_compared_apart() -> None:
    one, other = party(seed=1), party(seed=2)
    before = bn_audit.compare([one, other])
    assert before.first.affine is not None and not any(before.first.affine.weight)
    with torch.no_grad():
        other.bn1.weight += torch.tensor([3.0, 0, 0, 0, 0, 0])
        other.bn1.bias -= 2.0
    after = bn_audit.compare([one, other])
    assert after.first.affine is not None
    assert after.first.affine.weight.of(0, 1) == pytest.approx((9 / 6) ** 0.5)
    assert after.first.affine.bias.of(0, 1) == pytest.approx(2.0)
    assert after.first.distances == before.first.distances


def test_channels_on_request() -> None:
    models = [party(seed=1), party(seed=2), party(shift=1.0, seed=3)]
    assert bn_audit.compare(models).first.channels == ()
    first = bn_audit.compare(models, channels=True).first
    assert [channel.number for channel in first.channels] == list(range(6))
    assert np.mean([channel.mean for channel in first.channels]) == pytest.approx(np.mean(first.distances["nw2"]))
    strongest = max(first.channels, key=lambda channel: channel.largest)
    assert 2 in strongest.pair and strongest.largest >= strongest.mean


@pytest.mark.parametrize("form", ["pt", "safetensors", "legacy", "half", "wrapped"])
def test_checkpoints_give_what_modules_give(tmp_path: Path, form: str) -> None:
    models = {"a": party(seed=1), "b": party(shift=0.3, seed=2)}
    paths = {}
    for name, model in models.items():
        path = paths[name] = tmp_path / f"{name}.{'safetensors' if form == 'safetensors' else 'pt'}"
        state = model.state_dict()
        if form == "safetensors":
            from safetensors.torch import save_file

            save_file(state, path)
        elif form == "half":
            torch.save(copy.deepcopy(model).half().state_dict(), path)
        elif form == "wrapped":
            torch.save({"epoch": 3, "model": {f"module.{key}": value for key, value in state.items()}}, path)
        else:
            torch.save(state, path, _use_new_zipfile_serialization=form != "legacy")
    expected = bn_audit.compare(models)
    found = bn_audit.compare(paths)
    assert [layer.path for layer in found.layers] == ["bn1", "bn2"]
    for ours, theirs in zip(found.layers, expected.layers, strict=True):
        rel = 2e-2 if form == "half" else 1e-9
        assert list(ours.distances["nw2"]) == pytest.approx(list(theirs.distances["nw2"]), rel=rel)
    assert any("order of the layers" in note for note in found.notes) is (form == "safetensors")


def test_models_of_another_origin_are_refused() -> None:
    torch.manual_seed(1)
    stranger = party(seed=2, model=Net())
    text = refused(party(seed=1), stranger)
    assert "different origin: party 2 and party 1 have no weights in common: conv.weight differs by 1." in text
    assert "--force" in text
    found = bn_audit.compare([party(seed=1), stranger], force=True)
    assert not found.first.comparable
    assert found.notes[0].startswith("compared all the same (--force), though different origin")


def test_training_from_a_common_origin_is_no_other_origin() -> None:
    one, other = party(seed=1), party(seed=2)
    with torch.no_grad():
        other.conv.weight += 0.3 * other.conv.weight.std() * torch.randn_like(other.conv.weight)
    found = bn_audit.compare([one, other])
    assert found.first.comparable and 0.1 < (found.weights[1] or 0) < 0.5


def test_foreign_weights_spoil_what_lies_behind_them() -> None:
    one, other = party(seed=1), party(seed=2)
    nn.init.normal_(other.conv2.weight)
    nn.init.normal_(other.fc.weight)
    found = bn_audit.compare([one, other])
    assert [layer.comparable for layer in found.layers] == [True, False]
    assert any("from bn2 on channels do not mean the same thing: conv2.weight" in note for note in found.notes)


def test_a_head_of_its_own_spoils_nothing() -> None:
    one = party(seed=1)
    other = party(seed=2)
    other.fc = nn.Linear(12, 5)
    found = bn_audit.compare([one, other])
    assert all(layer.comparable for layer in found.layers)
    assert any(
        "fc.weight, fc.bias: not in both party 1 and party 2, or of other shapes" in note for note in found.notes
    )


def test_a_model_that_begins_with_batchnorm_needs_no_common_origin() -> None:
    def model(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 4), nn.BatchNorm1d(4))

    models = [model(1), model(2)]
    for number, one in enumerate(models):
        for _ in range(50):
            one(torch.randn(20, 3) + number)
    found = bn_audit.compare(models)
    assert [layer.comparable for layer in found.layers] == [True, False]
    assert found.first.distances["nw2"].of(0, 1) == pytest.approx(1, abs=0.2)


def test_other_architectures_are_refused() -> None:
    wide = party(model=Net(width=8))
    assert "different architectures: bn1.running_mean is [6] in party 1 and [8] in party 2" in refused(party(), wide)
    less = party(seed=3)
    less.bn2 = nn.Identity()
    assert "different architectures: party 2 has no layer bn2, party 1 has" in refused(party(), less)
    assert "different architectures: party 1 has no layer bn2, party 2 has" in refused(less, party())
    found = bn_audit.compare([party(seed=1), less], force=True)
    assert [layer.path for layer in found.layers] == ["bn1"]
    assert found.left_out[0].path == "bn2"
    assert "no norm layer is left to compare" in refused(party(), wide, force=True)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("running_mean", float("nan"), "bn1 of party 2 is broken (BNA406): 1 of 6 channels are NaN"),
        ("running_var", float("inf"), "bn1 of party 2 is broken (BNA406): 1 of 6 channels are infinite"),
        ("running_var", -1.0, "bn1 of party 2 is broken (BNA406): 1 of 6 channels have a negative variance"),
        ("running_var", 0.0, "bn1 of party 2 has zero variance in 1 of 6 channels"),
    ],
)
def test_broken_statistics_are_refused_by_name(name: str, value: float, text: str) -> None:
    broken = party(seed=2)
    getattr(broken.bn1, name)[3] = value
    assert text in refused(party(seed=1), broken)
    found = bn_audit.compare([party(seed=1), broken], force=True)
    if value == 0.0:
        assert found.first.features == 5
        assert any("1 channels with zero variance are left out" in note for note in found.notes)
    else:
        assert found.first.path == "bn2"
        assert [(one.path, one.reason) for one in found.left_out] == [("bn1", "broken statistics")]
    assert all(np.isfinite(list(layer.distances["nw2"])).all() for layer in found.layers)


def test_untrained_statistics_are_told() -> None:
    torch.manual_seed(7)
    new = Net()
    assert "no norm layer of party 2 has seen data: its statistics are untrained (BNA407)" in refused(party(), new)
    half = party(seed=2)
    half.bn1.reset_running_stats()
    assert "bn1 of party 2 is untrained (BNA407), of others it is not" in refused(party(seed=1), half)
    both = [party(seed=seed) for seed in (1, 2)]
    for one in both:
        one.bn1.reset_running_stats()
    found = bn_audit.compare(both)
    assert [layer.path for layer in found.layers] == ["bn2"]
    assert found.left_out[0].reason == "untrained (BNA407)"


def test_equal_statistics_are_refused() -> None:
    text = refused(party(seed=1), party(seed=2), party(seed=1))
    assert "party 1 and party 3 have the same statistics, bit for bit" in text
    found = bn_audit.compare([party(seed=1), party(seed=1)], force=True)
    assert list(found.first.distances["nw2"]) == [0.0]


def test_early_statistics_are_told() -> None:
    torch.manual_seed(7)
    models = []
    for seed in (1, 2):
        model = copy.deepcopy(Net())
        model(torch.randn((8, 1, 8, 8), generator=torch.Generator().manual_seed(seed)))
        models.append(model)
    for one in models:
        torch.manual_seed(7)
        one.load_state_dict({**Net().state_dict(), **{k: v for k, v in one.state_dict().items() if "bn" in k}})
    found = bn_audit.compare(models)
    assert any("after 1 batches 90 % of the running statistics" in note for note in found.notes)
    assert not bn_audit.compare(models, momentum=None).notes


def test_one_party_and_none() -> None:
    assert "at least two parties" in refused(party())
    assert "at least two parties" in refused()
    assert "holds no running statistics" in refused(nn.Linear(2, 2), nn.Linear(2, 2))
    assert "give a path, a module or a state dict" in refused(party(), 3)  # type: ignore[arg-type]


def test_layers_are_chosen() -> None:
    models = [party(seed=1), party(seed=2)]
    assert [layer.path for layer in bn_audit.compare(models, layers=["*2"]).layers] == ["bn2"]
    assert "no norm layer is called 'bn9'; there are bn1, bn2" in refused(*models, layers=["bn9"])


def test_a_metric_that_is_not_known() -> None:
    with pytest.raises(ValueError, match="'cosine' is not known"):
        bn_audit.compare([party(), party(seed=1)], metrics=["cosine"])  # type: ignore[list-item]


def test_of_many_parties_only_the_first_layers_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    models = [party(seed=seed) for seed in range(4)]
    whole = bn_audit.compare(models)
    monkeypatch.setattr(sys.modules["bn_audit.live.divergence.compare"], "MOST_NUMBERS", 6)
    few: Comparison = compare([source_of(str(n), one) for n, one in enumerate(models)], Options())[0]
    assert few.layers[0].distances == whole.layers[0].distances
    assert few.layers[1].distances == {} and few.layers[1].centre == whole.layers[1].centre
    assert any("the pairs of the first layer were computed" in note for note in few.notes)


class Own(nn.Module):
    """A BatchNorm as people write one, by other names and in other shapes."""

    def __init__(self, names: tuple[str, str], width: int, root: bool = False, whole: bool = False) -> None:
        super().__init__()
        self.names, self.root = names, root
        shape = (1, width, 1, 1) if whole else (width,)
        self.gamma, self.beta = nn.Parameter(torch.ones(shape)), nn.Parameter(torch.zeros(shape))
        self.register_buffer(names[0], torch.zeros(shape))
        self.register_buffer(names[1], torch.ones(shape))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean, spread = (getattr(self, name) for name in self.names)
        if self.training:
            var, seen = torch.var_mean(x, (0, 2, 3))
            mean.lerp_(seen.detach().reshape(mean.shape), 0.1)
            spread.lerp_((var.sqrt() if self.root else var).detach().reshape(mean.shape), 0.1)
        else:
            seen, var = mean, spread**2 if self.root else spread
        parts = [one.reshape(1, -1, 1, 1) for one in (seen, var, self.gamma, self.beta)]
        out: torch.Tensor = (x - parts[0]) / (parts[1] + 1e-5).sqrt() * parts[2] + parts[3]
        return out


class OwnNet(Net):
    def __init__(self, names: tuple[str, str] = ("mean_ema", "var_ema"), root: bool = False, whole: bool = False):
        super().__init__()
        self.bn1, self.bn2 = (Own(names, width, root, whole) for width in (6, 12))  # type: ignore[assignment]


def _own(**kinds: Any) -> list[nn.Module]:
    torch.manual_seed(7)
    model = OwnNet(**kinds)
    return [party(shift, seed=seed, model=model) for shift, seed in ((0.0, 1), (0.5, 2))]


def _first(parties: Any, **options: Any) -> Any:
    found = bn_audit.compare(parties, **options)
    assert [layer.path for layer in found.layers] == ["bn1", "bn2"]
    return found.first


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("names", [("moving_mean", "moving_variance"), ("running_mu", "running_sigma"), ("m", "v")])
def test_statistics_by_other_names_are_compared(names: tuple[str, str], whole: bool) -> None:
    expected = _first([party(seed=1), party(0.5, seed=2)])
    found = _first(_own(names=names, root=names[1] == "running_sigma", whole=whole))
    assert found.distances["nw2"].values[0] == pytest.approx(expected.distances["nw2"].values[0], rel=0.02)
    assert found.affine is not None and found.features == 6


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod."])
def test_names_that_tell_nothing_are_told_by_the_model(tmp_path: Path, suffix: str, prefix: str) -> None:
    models = _own()
    paths = [tmp_path / f"{number}{suffix}" for number in range(len(models))]
    for model, path in zip(models, paths, strict=True):
        state = {prefix + key: value for key, value in model.state_dict().items()}
        if suffix == ".pt":
            torch.save(state, path)
        else:
            from safetensors.torch import save_file

            save_file(state, path)
    with pytest.raises(TargetError, match="no running statistics that its keys would tell"):
        bn_audit.compare(paths)
    found = bn_audit.compare(paths, model=OwnNet())
    assert found.layers == bn_audit.compare(models).layers
    assert not any("order" in note for note in found.notes)
    with pytest.raises(TargetError, match="holds no entry of the model's"):
        bn_audit.compare(paths, model=nn.Sequential(Net()))


def test_a_state_dict_with_names_of_its_own_and_models_that_are_wrapped() -> None:
    class Renamed(Net):
        def state_dict(self, *args: Any, **kwargs: Any) -> Any:
            state = super().state_dict(*args, **kwargs)
            return {key.replace("bn1.", "norms/1/"): value.clone() for key, value in state.items()}

    models = [party(seed=1), party(0.5, seed=2)]
    expected = _first(models)
    renamed = [Renamed(), Renamed()]
    for one, own in zip(renamed, models, strict=True):
        nn.Module.load_state_dict(one, own.state_dict())
    assert _first(renamed).distances == expected.distances
    assert _first([nn.DataParallel(models[0]), torch.compile(models[1])]).distances == expected.distances
    states = [model.state_dict() for model in renamed]
    assert _first(states, model=Renamed()).distances == expected.distances
    wrapped = {f"module.{key}": value for key, value in models[0].state_dict().items()}
    assert _first([wrapped, models[1].state_dict()]).distances == expected.distances


def test_a_layer_without_a_mean_and_a_variance_is_told() -> None:
    models = []
    for seed in (1, 2):
        model = party(0.1 * seed, seed=seed)
        model.bn2.register_buffer("running_cov", model.bn2.running_var.clone())
        del model.bn2.running_var
        models.append(model.state_dict())
    found = bn_audit.compare(models)
    assert [one.path for one in found.left_out] == ["bn2"]
    assert "no running mean and variance" in found.left_out[0].reason


def test_chance_at_a_layer_of_ones_own() -> None:
    generator = torch.Generator().manual_seed(3)
    data = {f"party {n}": (torch.randn((60, 1, 8, 8), generator=generator), torch.zeros(60).long()) for n in (1, 2)}
    found = bn_audit.compare(_own(), model=OwnNet(), data=data, batch_size=16)
    assert found.calibration is not None and found.calibration.how == "split-half"


def test_a_model_that_is_one_norm_layer_has_a_name() -> None:
    layers = [nn.BatchNorm1d(3), nn.BatchNorm1d(3)]
    for layer in layers:
        layer(torch.randn(8, 3))
    layers[1].running_var[0] = -1.0
    assert refused(*layers).startswith("not compared: (root) of party 2 is broken (BNA406)")
    both = nn.Sequential(nn.BatchNorm1d(3))
    both(torch.randn(8, 3))
    assert "party 2 has no layer (root), party 1 has" in refused(layers[0], both)


def test_values_that_are_on_the_meta_device_are_not_at_hand(tmp_path: Path) -> None:
    for name in ("a", "b"):
        torch.save(Net().to("meta").state_dict(), tmp_path / f"{name}.pt")
    message = refused(*(str(tmp_path / f"{name}.pt") for name in ("a", "b")))  # type: ignore[arg-type]
    assert "saved from the meta device" in message
