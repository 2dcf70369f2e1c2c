"""Trainings in federation: what is shared, what is the same for all ways, and what comes of it on the digits."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from bn_audit.exchange.flower import FlowerSettings  # noqa: E402
from bn_audit.exchange.frameworks import FrameworkSettings  # noqa: E402
from bn_audit.exchange.frameworks import plan as plan_of  # noqa: E402
from bn_audit.exchange.keep import Keep  # noqa: E402
from bn_audit.exchange.nvflare import NVFlareSettings  # noqa: E402
from bn_audit.exchange.secretflow import plan  # noqa: E402
from bn_audit.federated import FedAvg, FedBNAggregator, local_keys  # noqa: E402
from bn_audit.live.errors import TargetError  # noqa: E402
from bn_audit.live.profile import profile  # noqa: E402
from bn_audit.live.target import load_target  # noqa: E402
from bn_audit.live.training import Data, Local, Options, digits_for, run, seeded, train  # noqa: E402
from bn_audit.live.training.ways import FullState, fedavg, fedbn, planned_way, why_not  # noqa: E402
from bn_audit.live.verify import settings_here  # noqa: E402
from bn_audit.loading import How  # noqa: E402
from bn_audit.training import FEDAVG, FEDBN, LOCAL, Training  # noqa: E402
from tests.live.training.models import Flat, Last, Middle, points  # noqa: E402

ROOT = Path(__file__).parents[3]
QUICK = Options(rounds=2, seeds=2, local=Local(batch_size=8))


def _states(model: nn.Module, count: int = 3) -> list[FullState]:
    """As different as after trainings, counters among them."""
    states = []
    for number in range(count):
        generator = torch.Generator().manual_seed(number)
        states.append(
            {
                key: torch.rand(value.shape, generator=generator) + 0.1
                if value.is_floating_point()
                else value + 3 * number + 1
                for key, value in model.state_dict().items()
            }
        )
    return states


def test_the_servers_are_the_reference() -> None:
    model = Middle()
    states, weights = _states(model), [1.0, 2.0, 5.0]
    for way, aggregator in ((fedavg(), FedAvg()), (fedbn(model), FedBNAggregator.from_module(model))):
        shared = aggregator.aggregate(states, weights)
        for mine, after in zip(states, way.share(states, states, weights), strict=True):
            assert list(after) == list(mine)
            assert all(torch.equal(after[key], shared.get(key, mine[key])) for key in mine)
    assert set(local_keys(model)) == {key for key in states[0] if key.startswith("bn.")}


@pytest.mark.parametrize("strategy", ["fed_avg_w", "fed_avg_u"])
def test_a_right_setting_is_fedbn(strategy: str) -> None:
    model = Last()
    settings = settings_here(strategy, "plain", True)
    way = planned_way(profile(model), settings, plan(profile(model), settings))
    begun = [copy.deepcopy(_states(model, 1)[0])] * 3
    for mine, first in zip(begun, way.begin(begun), strict=True):
        assert all(torch.equal(first[key], mine[key]) for key in mine)
    trained, weights = _states(model), [1.0, 2.0, 5.0]
    wanted = fedbn(model).share(begun, trained, weights)
    for after, right, own in zip(way.share(begun, trained, weights), wanted, trained, strict=True):
        assert all(torch.equal(after[key], own[key]) for key in local_keys(model))
        if strategy == "fed_avg_w":
            torch.testing.assert_close(dict(after), dict(right))


@pytest.mark.parametrize(
    ("settings", "right"),
    [
        (FlowerSettings(keeps=Keep(norms=True), load=How.LENIENT), True),
        (FlowerSettings(api="message", keeps=Keep(words=("bn",)), load=How.LENIENT), True),
        (NVFlareSettings(transfer="diff", keeps=Keep(norms=True), load=How.LENIENT), True),
        (NVFlareSettings(), False),
    ],
)
def test_clients_that_keep_their_norms_train_as_fedbn(settings: FrameworkSettings, right: bool) -> None:
    training = train(Last, _few_digits(), QUICK, settings)
    setting = training.setting
    assert setting is not None and setting.method in ("Flower", "NVFlare")
    assert setting.accuracies == training.of(FEDBN if right else FEDAVG).accuracies


def test_what_every_round_sets() -> None:
    """Flower's counter becomes 0; what NVFlare leaves out of the differences comes back as it began."""
    model = Last()
    begun = [_states(model, 1)[0]] * 3
    trained = _states(model)
    for settings, expected in (
        (FlowerSettings(), {"bn.num_batches_tracked": torch.tensor(0)}),
        (
            NVFlareSettings(transfer="diff", exclude_vars="running_mean"),
            {"bn.running_mean": begun[0]["bn.running_mean"]},
        ),
    ):
        whole = profile(model)
        planned = plan_of(whole, settings)
        assert why_not(whole, planned, settings) == ""
        way = planned_way(whole, settings, planned)
        assert way.begin(begun) == begun
        for after in way.share(begun, trained, [1.0, 2.0, 5.0]):
            assert all(torch.equal(after[key], value) for key, value in expected.items())
            mean = sum(w * state["fc.weight"].double() for w, state in zip((1, 2, 5), trained, strict=True)) / 8
            torch.testing.assert_close(after["fc.weight"].double(), mean, rtol=0, atol=1e-6)


def test_a_stale_head_is_kept() -> None:
    model = Middle()
    settings = settings_here("fed_avg_w", "plain", True)
    way = planned_way(profile(model), settings, plan(profile(model), settings))
    trained = _states(model)
    for after, own in zip(way.share(trained, trained, [1.0, 1.0, 1.0]), trained, strict=True):
        assert torch.equal(after["fc.weight"], own["fc.weight"])
        assert not torch.equal(after["conv.weight"], own["conv.weight"])


@pytest.mark.parametrize(
    ("build", "strategy", "aggregator", "reason"),
    [
        (Middle, "fed_avg_w", "plain", "it stops before any training"),
        (lambda: nn.Linear(2, 2), "fed_prox", "plain", "fed_prox changes the local training"),
        (Last, "fed_avg_w", "server_agg_method", ""),
    ],
)
def test_what_cannot_be_trained_says_why(
    build: Callable[[], nn.Module], strategy: str, aggregator: str, reason: str
) -> None:
    settings = settings_here(strategy, aggregator, False)
    whole = profile(build())
    told = why_not(whole, plan(whole, settings), settings)
    assert told.startswith(reason) and bool(told) is bool(reason)


def test_a_setting_that_stops_is_told_and_left_out() -> None:
    training = train(Flat, points(), QUICK, settings_here("fed_avg_w", "secure", False))
    assert [curves.method for curves in training.curves] == [FEDAVG, FEDBN, LOCAL]
    assert training.notes == ("the setting is not trained: it stops before any training",)


class Recorder:
    """A way of sharing that shares nothing, and remembers what it was given."""

    def __init__(self) -> None:
        self.calls: list[tuple[Sequence[FullState], Sequence[FullState], list[float]]] = []

    def begin(self, states: Sequence[FullState]) -> Sequence[FullState]:
        return states

    def share(self, before: Sequence[FullState], trained: Sequence[FullState], weights: Any) -> Sequence[FullState]:
        self.calls.append((before, trained, list(weights)))
        return trained


def _recorded(monkeypatch: pytest.MonkeyPatch, options: Options) -> tuple[Training, Recorder]:
    recorder = Recorder()
    monkeypatch.setattr(run, "fedavg", lambda: recorder)
    return train(Flat, points((20, 41)), options), recorder


def test_all_ways_meet_the_same_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    training, recorder = _recorded(monkeypatch, QUICK)
    # Whoever shares nothing is alone, whatever it is called.
    assert training.of(FEDAVG).accuracies == training.of(LOCAL).accuracies
    assert len(recorder.calls) == QUICK.rounds * QUICK.seeds
    before, trained, weights = recorder.calls[0]
    assert weights == [20, 41]
    assert all(torch.equal(before[0][key], before[1][key]) for key in before[0])
    assert not torch.equal(trained[0]["fc.weight"], trained[1]["fc.weight"])
    assert not torch.equal(trained[0]["fc.weight"], before[0]["fc.weight"])
    # 20 examples are three batches of 8. Of 41 the last, alone in its batch, is left out.
    assert [int(state["bn.num_batches_tracked"]) for state in trained] == [3, 5]


def test_epochs_are_what_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    _, recorder = _recorded(monkeypatch, replace(QUICK, local=Local(epochs=4, batch_size=8)))
    _, trained, weights = recorder.calls[0]
    assert int(trained[0]["bn.num_batches_tracked"]) == 12
    assert weights == [20, 41]


def test_seeds_differ_and_runs_do_not() -> None:
    first, second = (train(Middle, _few_digits(), QUICK) for _ in range(2))
    assert first == second
    one, other = first.of(LOCAL).accuracies
    assert one != other


def _few_digits() -> Data:
    pytest.importorskip("sklearn")
    return digits_for(Middle(), "Middle")


def test_nothing_is_left_behind() -> None:
    import random

    import numpy as np

    model = Flat()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    torch.manual_seed(4)
    state, python, numbers = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    threads = torch.get_num_threads()
    train(lambda: model, replace(points(), threads=1), QUICK)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert random.getstate() == python
    assert np.random.get_state()[1].tolist() == numbers
    assert torch.get_num_threads() == threads


def test_the_model_is_tested_in_eval_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    modes = set()

    class Watched(Flat):
        def forward(self, x: Any) -> Any:
            modes.add((self.training, torch.is_grad_enabled()))
            return super().forward(x)

    train(Watched, points(), QUICK)
    assert modes == {(True, True), (False, False)}


@pytest.mark.parametrize("unusual", ["another device", "no gradients"])
def test_what_a_program_sets_of_torch_matters_to_no_training(unusual: str) -> None:
    """As ``torch.set_default_device("cuda")`` in the model's file does."""
    data, net = points(), nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    expected = train(Flat, data, QUICK)
    torch.set_default_device("meta" if unusual == "another device" else "cpu")
    torch.set_grad_enabled(unusual != "no gradients")
    try:
        assert train(Flat, data, QUICK) == expected
        assert digits_for(net, "net").what
        assert torch.is_grad_enabled() == (unusual != "no gradients")
    finally:
        torch.set_default_device(None)
        torch.set_grad_enabled(True)


def test_progress_is_told() -> None:
    told: list[tuple[int, int]] = []
    train(Flat, points(), QUICK, progress=lambda done, total: told.append((done, total)))
    trainings = 3 * QUICK.seeds * QUICK.rounds * 2
    assert told == [(number, trainings) for number in range(1, trainings + 1)]


def test_a_training_that_goes_astray_is_told() -> None:
    training = train(Flat, points(), Options(rounds=3, seeds=1, local=Local(learning_rate=1e38)))
    assert training.of(FEDAVG).not_finite[0] in (1, 2)


def test_a_model_that_draws_is_built_the_same_each_time() -> None:
    with seeded(3):
        first = Flat().fc.weight
    torch.rand(5)
    with seeded(3):
        assert torch.equal(Flat().fc.weight, first)


def test_what_cannot_be_trained() -> None:
    frozen = Flat().requires_grad_(False)
    with pytest.raises(TargetError, match="no parameter that is trained"):
        train(lambda: frozen, points(), QUICK)
    with pytest.raises(TargetError, match="on the meta device"):
        train(lambda: Flat().to("meta"), points(), QUICK)
    with pytest.raises(TargetError, match=r"training the model on the training data of 'party 0'.*raised RuntimeError"):
        train(lambda: nn.Linear(3, 2), points(), QUICK)


def test_the_users_traceback_comes_along() -> None:
    class Broken(Flat):
        def forward(self, x: Any) -> Any:
            raise KeyError("weights of tomorrow")

    with pytest.raises(TargetError) as caught:
        train(Broken, points(), QUICK)
    assert "weights of tomorrow" in caught.value.traceback
    assert "test_run.py" in caught.value.traceback
    assert "live/training/local.py" not in caught.value.traceback


def test_on_the_digits_fedbn_is_above_fedavg() -> None:
    """As measured (benchmarks/README.md), if not as far in so few rounds."""
    pytest.importorskip("sklearn")
    target = f"{ROOT}/benchmarks/digits_cnn.py:SmallCNN"
    loaded = load_target(target)
    assert loaded.build is not None and loaded.module is not None
    options = Options(rounds=16, seeds=1, local=Local(batch_size=16))
    training = train(loaded.build, digits_for(loaded.module, target), options)
    assert training.classes == 10
    assert [(party.name, party.train, party.test) for party in training.parties][:2] == [
        ("clean", 120, 239),
        ("invert", 120, 239),
    ]
    fedavg, fedbn = (
        [fmean(accuracies) for accuracies in training.of(method).accuracies[0][-4:]] for method in (FEDAVG, FEDBN)
    )
    assert fmean(fedbn) > 0.55
    assert fmean(fedbn) - fmean(fedavg) > 0.05


def test_the_setting_is_trained_beside_them() -> None:
    data = _few_digits()
    right = train(Last, data, QUICK, settings_here("fed_avg_w", "secure", True))
    assert right.of("SecretFlow").accuracies == right.of(FEDBN).accuracies
    shared = train(Last, data, QUICK, settings_here("fed_avg_w", "server_agg_method", False))
    assert shared.of("SecretFlow").accuracies == shared.of(FEDAVG).accuracies
