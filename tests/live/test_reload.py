"""Models that may not take back what their state dict gives: the plan beside what torch does."""

from __future__ import annotations

import copy
import re
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from bn_audit.exchange.flower import FlowerSettings
from bn_audit.exchange.frameworks import plan
from bn_audit.exchange.keep import Keep
from bn_audit.exchange.nvflare import NVFlareSettings
from bn_audit.exchange.plan import Fate
from bn_audit.exchange.secretflow import SecretFlowSettings
from bn_audit.federated import FedBNAggregator, load_shared, local_keys
from bn_audit.inspection import inspect
from bn_audit.live.profile import profile
from bn_audit.loading import How
from tests.live.models import MODELS


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.bn = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 2)


def counter_taken() -> nn.Module:
    net = Net()
    net.bn.num_batches_tracked = None
    return net


def counter_not_kept() -> nn.Module:
    net = Net()
    net.bn._non_persistent_buffers_set.add("num_batches_tracked")
    return net


def statistics_not_kept() -> nn.Module:
    net = Net()
    net.bn._non_persistent_buffers_set.update(("running_mean", "running_var", "num_batches_tracked"))
    return net


def counter_left_out() -> nn.Module:
    """Torch puts one in."""
    net = Net()

    def drop(module: nn.Module, state: dict[str, Any], prefix: str, metadata: object) -> None:
        del state["bn.num_batches_tracked"]

    net.register_state_dict_post_hook(drop)
    return net


def expanded_buffer() -> nn.Module:
    net = Net()
    net.register_buffer("one", torch.zeros(1).expand(10))
    return net


def expanded_parameter() -> nn.Module:
    net = Net()
    net.one = nn.Parameter(torch.zeros(3, 1).expand(3, 10))
    return net


def strided_buffer() -> nn.Module:
    net = Net()
    net.register_buffer("every_other", torch.zeros(3, 10)[:, ::2])
    net.register_buffer("single", torch.zeros(1, 3).expand(1, 3))
    return net


def inference() -> nn.Module:
    with torch.inference_mode():
        return Net()


def _prefixed(net: nn.Module, change: Callable[[str], str], copies: bool = False) -> nn.Module:
    def rename(module: nn.Module, state: dict[str, Any], prefix: str, metadata: object) -> None:
        for key in list(state):
            value = state.pop(key)
            state[change(key)] = value.clone() if copies else value

    net.register_state_dict_post_hook(rename)
    return net


def renamed_on_the_way_out() -> nn.Module:
    return _prefixed(Net(), lambda key: f"model.{key}")


def renamed_within_the_layer() -> nn.Module:
    names = {"bn.running_mean": "bn.mean", "bn.running_var": "bn.var", "bn.weight": "bn.scale"}
    return _prefixed(Net(), lambda key: names.get(key, key))


def copied_under_other_names() -> nn.Module:
    return _prefixed(Net(), lambda key: "x_" + key.replace(".", "_"), copies=True)


def renamed_both_ways() -> nn.Module:
    net = _prefixed(Net(), lambda key: f"model.{key}", copies=True)

    def take_off(module: nn.Module, state: dict[str, Any], *_: object) -> None:
        for key in list(state):
            state[key.removeprefix("model.")] = state.pop(key)

    net.register_load_state_dict_pre_hook(take_off)
    return net


class Part(Net):
    """It leaves out what is not trained."""

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        state = super().state_dict(*args, **kwargs)
        return {key: value for key, value in state.items() if not key.startswith("conv")}


class PartBothWays(Part):
    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        return super().load_state_dict(state_dict, strict=False, assign=assign)


class Deaf(Net):
    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        kept = {key: value for key, value in state_dict.items() if not key.startswith("head")}
        return super().load_state_dict(kept, strict=False, assign=assign)


def deaf_with_a_hook() -> nn.Module:
    return _prefixed(Deaf(), lambda key: key.replace("bn.", "norm.", 1))


class Versioned(nn.Linear):
    """As torchvision's MNASNet and torch's quantised layers: a plain dict has no version."""

    _version = 2

    def _load_from_state_dict(self, state: Any, prefix: str, metadata: Any, *rest: Any) -> None:
        if metadata.get("version") is None:
            raise ValueError(f"version should be set to 1 or 2 instead of {metadata.get('version')}")
        super()._load_from_state_dict(state, prefix, metadata, *rest)


def versioned() -> nn.Module:
    net = Net()
    net.head = Versioned(4, 2)
    return net


def zeroed_by_a_hook() -> nn.Module:
    net = Net()

    def reset(module: nn.Module, incompatible: object) -> None:
        with torch.no_grad():
            module.head.bias.zero_()

    net.head.bias.data.zero_()
    net.register_load_state_dict_post_hook(reset)
    return net


ODD: dict[str, Callable[[], nn.Module]] = {
    make.__name__: make
    for make in (
        counter_taken,
        counter_not_kept,
        statistics_not_kept,
        counter_left_out,
        expanded_buffer,
        expanded_parameter,
        strided_buffer,
        inference,
        renamed_on_the_way_out,
        renamed_within_the_layer,
        copied_under_other_names,
        renamed_both_ways,
        Part,
        PartBothWays,
        deaf_with_a_hook,
        Deaf,
        versioned,
        zeroed_by_a_hook,
    )
}


def round_of(make: Callable[[], nn.Module], keep: frozenset[str], strict: bool) -> tuple[str | None, set[str]]:
    """What a NumPyClient's round does: the error of its load, or the keys of what has changed in the second party."""
    parties = [make(), make()]
    states = []
    for number, model in enumerate(parties):
        state = {key: value.detach().clone() for key, value in model.state_dict().items()}
        states.append({key: value + number for key, value in state.items()})
    keys = [key for key in states[0] if key not in keep]
    mean = OrderedDict((key, torch.tensor(((states[0][key] + states[1][key]) / 2 + 1).numpy())) for key in keys)
    before = {key: value.detach().clone() for key, value in parties[1].state_dict().items()}
    try:
        parties[1].load_state_dict(mean, strict=strict)
    except (RuntimeError, ValueError) as error:
        return str(error), set()
    after = parties[1].state_dict()
    return None, {key for key, value in before.items() if not torch.equal(value, after[key])}


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("name", ODD)
def test_the_plan_says_what_a_load_does(name: str, keep: bool, strict: bool) -> None:
    make = ODD[name]
    found = profile(make())
    settings = FlowerSettings(keeps=Keep(norms=keep), load=How.STATE_DICT if strict else How.LENIENT, in_place=False)
    planned = plan(found, settings)
    error, changed = round_of(make, local_keys(make()) if keep else frozenset(), strict)
    if planned.stops is None:  # what refuses may lie in what is kept back
        assert keep and found.reload is not None and found.reload.lenient is not None
        return
    assert planned.stops is (error is not None)
    if planned.error is not None and not keep:
        assert planned.error.text == error and planned.error.text_certain
    if error is None:
        moved = {part.key for part in planned.entries if not part.possible <= {Fate.LOCAL, Fate.STALE}}
        assert moved == changed


@pytest.mark.parametrize("name", ODD)
def test_batchnorm_is_known_whatever_its_entries_are_called(name: str) -> None:
    plain = Net().state_dict()
    model = ODD[name]()
    state = model.state_dict()
    # In every one of them the entries stand in the order of the modules.
    order = [key for key in plain if not (name.startswith("Part") and key.startswith("conv"))]
    named = [key for key in state if key not in ("one", "every_other", "single")]
    if len(named) == len(order):
        expected = {mine for mine, own in zip(named, order, strict=True) if own.startswith("bn.")}
    else:
        expected = {key for key in named if key.startswith("bn.")}
    assert local_keys(model) == expected


@pytest.mark.parametrize("name", sorted(MODELS.keys() - {"quantized", "quantization aware"}))
def test_nothing_is_tried_of_models_as_they_mostly_are(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = MODELS[name]()
    monkeypatch.setattr(copy, "deepcopy", lambda *_: pytest.fail("it was copied"))
    assert profile(model).reload is None


@pytest.mark.parametrize("name", ODD)
def test_the_model_is_left_as_it_is(name: str) -> None:
    model = ODD[name]()
    before = {key: value.detach().clone() for key, value in model.state_dict().items()}
    drawn = torch.random.get_rng_state()
    profile(model)
    local_keys(model)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert torch.equal(drawn, torch.random.get_rng_state())


def test_on_the_meta_device_it_is_not_known() -> None:
    with torch.device("meta"):
        net = copied_under_other_names()
    found = profile(net)
    assert found.reload is not None and not found.reload.known
    assert [gap.may_hold_norm for gap in found.gaps] == [True] * 9 and not found.entries
    assert plan(found, FlowerSettings()).stops is None
    with pytest.raises(ValueError, match=r"x_bn_bias: the name of no tensor of the model.*give the local keys"):
        local_keys(net)


def test_on_the_meta_device_it_is_seen_what_raises() -> None:
    with torch.device("meta"):
        net, taken = versioned(), counter_taken()
    assert profile(net).reload == profile(versioned()).reload
    assert profile(taken).reload == profile(counter_taken()).reload


def test_a_model_that_cannot_be_copied_is_not_known_and_says_so() -> None:
    class Single(Part):
        def __deepcopy__(self, memo: object) -> Any:
            raise TypeError("there is but one")

    found = profile(Single())
    assert found.reload is not None and not found.reload.known
    said = inspect(found, target="Single", settings=FlowerSettings(load=How.LENIENT, keeps=Keep(norms=True)))
    assert said.judgement is not None
    assert "whether the model takes back what its state dict gives could not be tried" in said.judgement.sentence


@pytest.mark.parametrize(
    ("make", "remedy"),
    [
        (counter_not_kept, r"state.update\(received\); model.load_state_dict\(state\)"),
        (versioned, r"state.update\(received\); model.load_state_dict\(state\)"),
        (Part, "its load_state_dict does not fit its state_dict"),
        (expanded_buffer, "its load_state_dict does not fit its state_dict"),
    ],
)
def test_what_to_do_is_said(make: Callable[[], nn.Module], remedy: str) -> None:
    (note,) = inspect(profile(make()), target="it").notes
    assert re.search(f"a copy of the model refused its own state as a plain dict .*{remedy}", note)
    if "update" in remedy:
        model, other = make(), make()
        state = model.state_dict()
        state.update({key: value + 1 for key, value in other.state_dict().items()})
        model.load_state_dict(state)


@pytest.mark.parametrize(
    "settings",
    [
        SecretFlowSettings(backend="torch", strategy="fed_avg_w", aggregator="plain", skip_bn=False),
        NVFlareSettings(),
        FlowerSettings(api="message"),
    ],
)
def test_every_framework_stops_at_it(settings: Any) -> None:
    planned = plan(profile(counter_taken()), settings)
    assert planned.stops is True and planned.error is not None
    assert 'Unexpected key(s) in state_dict: "bn.num_batches_tracked"' in planned.error.text


@pytest.mark.parametrize("make", [counter_taken, counter_not_kept, statistics_not_kept, versioned])
def test_the_reference_loads_what_a_plain_dict_would_not(make: Callable[[], nn.Module]) -> None:
    model = make()
    shared = {
        key: value + 1 for key, value in FedBNAggregator.from_module(model).aggregate([model.state_dict()], [1]).items()
    }
    load_shared(model, shared)
    state = model.state_dict()
    assert set(shared) == {"conv.weight", "conv.bias", "head.weight", "head.bias"}
    assert all(torch.equal(state[key], value) for key, value in shared.items())


@pytest.mark.parametrize(
    "settings",
    [
        SecretFlowSettings(backend="torch", strategy="fed_avg_w", aggregator="plain", skip_bn=False),
        FlowerSettings(),
        NVFlareSettings(),
    ],
)
def test_what_no_forward_has_initialised_cannot_be_sent(settings: Any) -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.LazyLinear(3))
    planned = plan(profile(model), settings)
    assert planned.stops is True and planned.error is not None
    with pytest.raises(ValueError) as raised:
        [value.cpu().numpy() for value in model.state_dict().values()]
    assert (planned.error.type, planned.error.key) == ("ValueError", "1.weight")
    assert planned.error.text == " ".join(str(raised.value).split())
    model(torch.zeros(1, 2))
    assert plan(profile(model), settings).stops is False
