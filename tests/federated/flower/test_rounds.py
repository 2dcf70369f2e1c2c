"""FedBN's rounds in Flower: strategy and mod with Flower's own apps and strategies, beside the reference aggregator."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("flwr", reason="runs Flower itself")

import numpy as np  # noqa: E402
from flwr.app import ArrayRecord, ConfigRecord, MetricRecord  # noqa: E402
from flwr.serverapp import strategy as flower  # noqa: E402

from bn_audit.federated import AggregationError, FedBNAggregator, local_keys, merge_state  # noqa: E402
from bn_audit.federated.flower import FedBN, LocalBatchNormMod, make_arrays  # noqa: E402
from tests.exchange.handwritten.models import MODELS  # noqa: E402
from tests.federated.flower.inprocess import Nodes, Trainer, context  # noqa: E402
from tests.federated.flower.models import Net, moved  # noqa: E402
from tests.secretflow.models import MODELS as SECRETFLOW  # noqa: E402

pytestmark = pytest.mark.flower


class FedBNProx(FedBN, flower.FedProx): ...


class FedBNAvgM(FedBN, flower.FedAvgM): ...


class FedBNAdam(FedBN, flower.FedAdam): ...


class FedBNYogi(FedBN, flower.FedYogi): ...


class FedBNAdagrad(FedBN, flower.FedAdagrad): ...


class FedBNMedian(FedBN, flower.FedMedian): ...


class FedBNTrimmedAvg(FedBN, flower.FedTrimmedAvg): ...


class FedBNMultiKrum(FedBN, flower.MultiKrum): ...


STRATEGIES = {
    "fedavg": (FedBN, {}),
    "fedprox": (FedBNProx, {"proximal_mu": 0.1}),
    "fedavgm": (FedBNAvgM, {"server_momentum": 0.9}),
    "fedadam": (FedBNAdam, {}),
    "fedyogi": (FedBNYogi, {}),
    "fedadagrad": (FedBNAdagrad, {}),
    "fedmedian": (FedBNMedian, {}),
    "fedtrimmedavg": (FedBNTrimmedAvg, {}),
    "multikrum": (FedBNMultiKrum, {"num_malicious_nodes": 0, "num_nodes_to_select": 2}),
}


def nodes(make: Callable[[], Any], count: int = 3, send: Any = None, **options: Any) -> Nodes:
    app = Trainer(make, moved, mods=[LocalBatchNormMod(make, **options)], send=send)
    return Nodes(app, {number: context(number) for number in range(1, count + 1)})


def trained(make: Callable[[], Any], round_: int, count: int = 3) -> dict[int, dict[str, Any]]:
    models = {number: make() for number in range(1, count + 1)}
    for number, model in models.items():
        moved(model, number, round_)
    return {number: model.state_dict() for number, model in models.items()}


def assert_fedbn(make: Callable[[], Any], grid: Nodes, round_: int, integers: Any = "require-equal") -> None:
    """Every node holds what the reference aggregator makes of the last round."""
    states = trained(make, round_, len(grid.contexts))
    mean = FedBNAggregator.from_module(make(), integer_state=integers).aggregate(
        states.values(), [10.0 * number for number in states]
    )
    for number, state in states.items():
        wanted, found = merge_state(state, mean), grid.app.seen[number]
        assert list(found) == list(wanted)
        for key, value in wanted.items():
            assert found[key].dtype == value.dtype
            if key in mean and value.numel():
                assert torch.allclose(found[key], value, rtol=max(1e-6, torch.finfo(value.dtype).eps)), key
            else:
                assert torch.equal(found[key], value), key


CORPUS = {**MODELS, **{f"secretflow: {name}": model.build for name, model in SECRETFLOW.items()}, "nested": Net}
NOTHING = {
    "instance norm",
    "norms only",
    "only integers travel",
    "the norm is the model",
    "the norm is the model, no statistics",
}


@pytest.mark.parametrize("name", [name for name in CORPUS if name.rpartition(": ")[2] not in NOTHING])
def test_every_model_ends_in_the_state_of_fedbn(name: str) -> None:
    make = CORPUS[name]
    narrow = any(value.dtype in (torch.bfloat16,) for value in make().state_dict().values())
    # Flower makes no arrays of bfloat16.
    send = (lambda model, own: make_arrays(model, own, integers="local")) if narrow else None
    grid = nodes(make, integers="local", send=send)
    FedBN(model=make(), integers="local").start(grid, make_arrays(make(), integers="local"), num_rounds=2)
    assert_fedbn(make, grid, 2, "keep-local")


@pytest.mark.parametrize("name", STRATEGIES)
def test_strategies_behind_it_see_what_is_shared_and_nothing_else(name: str) -> None:
    """The shared part is what the strategy alone makes of a model that has nothing else; dtypes are kept."""
    make, options = STRATEGIES[name]
    grid = nodes(Net)
    begun = Net()
    initial = make_arrays(begun)
    found = make(model=Net(), **options).start(grid, ArrayRecord(begun.state_dict()), num_rounds=3).arrays
    local = local_keys(Net())

    def shared_only(message: Any, own: Any, call_next: Any) -> Any:
        """A hand-written filter, by the keys that are known here."""
        whole = Net().state_dict() | message.content["arrays"].to_torch_state_dict()
        message.content["arrays"] = ArrayRecord(dict(whole))
        reply = call_next(message, own)
        for key in local if "arrays" in reply.content else ():
            del reply.content["arrays"][key]
        return reply

    app = Trainer(Net, moved, mods=[shared_only])
    alone = (flower.FedAvg if make is FedBN else make.__mro__[2])(**options).start(
        Nodes(app, {n: context(n) for n in (1, 2, 3)}), initial, num_rounds=3
    )
    for key, array in alone.arrays.items():
        assert np.allclose(found[key].numpy(), array.numpy(), rtol=1e-4, atol=1e-6), key
        assert found[key].numpy().dtype == np.float32
    assert list(found) == list(initial)
    for number, state in trained(Net, 3).items():
        for key in local:
            assert torch.equal(grid.app.seen[number][key], state[key]), key


def test_options_of_fedavg_are_kept() -> None:
    weighed = []

    def metrics(replies: list[Any], key: str) -> MetricRecord:
        weighed.append((key, sorted(reply["metrics"][key] for reply in replies)))
        return MetricRecord({"asked": 1})

    grid = nodes(Net, count=4)
    strategy = FedBN(0.5, model=Net(), fraction_evaluate=0.0, weighted_by_key="size", train_metrics_aggr_fn=metrics)
    result = strategy.start(grid, make_arrays(Net()), num_rounds=2)
    assert weighed == [("size", [1.5, 1.5])] * 2
    assert result.train_metrics_clientapp[2] == {"asked": 1}
    assert grid.app.seen == {}
    taken = [own.node_id for own in grid.contexts.values() if "bn_audit.batchnorm" in own.state]
    assert 2 <= len(taken) <= 4
    # Two nodes alike in weight: the mean is theirs.
    last = [message for message in grid.messages() if message.metadata.src_node_id in grid.contexts][-2:]
    mean = np.mean([reply.content["arrays"]["fc.weight"].numpy() for reply in last], axis=0)
    assert np.allclose(result.arrays["fc.weight"].numpy(), mean)


def test_other_names_of_records() -> None:
    app = Trainer(Net, moved, record="model", mods=[LocalBatchNormMod(Net, record="model")])
    grid = Nodes(app, {number: context(number) for number in (1, 2)})
    FedBN(model=Net(), arrayrecord_key="model").start(grid, make_arrays(Net()), num_rounds=1)
    assert sorted(app.seen) == [1, 2]


def test_no_message_holds_batchnorm() -> None:
    """Whatever goes over the network is read: no key of BatchNorm, no value of it under any key, and no byte of one."""
    grid = nodes(Net)
    FedBN(model=Net()).start(grid, ArrayRecord(Net().state_dict()), num_rounds=2)
    local = local_keys(Net())
    secret = {
        value.numpy().tobytes()
        for round_ in (1, 2)
        for state in trained(Net, round_).values()
        for key, value in state.items()
        if key in local and value.numel() > 1
    }
    kinds = set()
    for message, written in zip(grid.messages(), grid.sent, strict=True):
        kinds.add((message.metadata.message_type, message.metadata.src_node_id in grid.contexts))
        assert message.has_content()
        for record in message.content.values():
            assert not local & set(record)
        assert not any(value in written for value in secret)
        if "arrays" in message.content:
            assert set(message.content["arrays"]) == set(Net().state_dict()) - local
    assert len(grid.sent) == 2 * 2 * 2 * 3
    assert len(kinds) == 4


def test_a_node_that_drops_out_and_returns_has_its_batchnorm() -> None:
    grid = nodes(Net)
    strategy = FedBN(model=Net(), fraction_evaluate=0.0)
    arrays = strategy.start(grid, make_arrays(Net()), num_rounds=1).arrays
    grid.absent.add(2)
    for _ in range(2):
        arrays = strategy.start(grid, arrays, num_rounds=1).arrays
    grid.absent.clear()
    FedBN(model=Net(), fraction_train=0.0).start(grid, arrays, num_rounds=1)
    own = trained(Net, 1)[2]
    for key in local_keys(Net()):
        assert torch.equal(grid.app.seen[2][key], own[key]), key
    assert np.array_equal(grid.app.seen[2]["fc.weight"].numpy(), arrays["fc.weight"].numpy())


def test_a_node_that_is_started_anew_finds_it_in_its_folder(tmp_path: Any) -> None:
    grid = nodes(Net, count=2)
    for number in grid.contexts:
        grid.contexts[number] = context(number, **{"bn-audit-folder": str(tmp_path / str(number))})
    strategy = FedBN(model=Net(), fraction_evaluate=0.0)
    arrays = strategy.start(grid, make_arrays(Net()), num_rounds=2).arrays
    # Flower has forgotten the node, and knows it by another number.
    folder = grid.contexts.pop(2).node_config
    grid.contexts[9] = context(9, **folder)
    FedBN(model=Net(), fraction_train=0.0).start(grid, arrays, num_rounds=1)
    own = trained(Net, 2)[2]
    for key in local_keys(Net()):
        assert torch.equal(grid.app.seen[9][key], own[key]), key
    assert sorted(path.name for path in (tmp_path / "2").iterdir()) == ["batchnorm-7.npz", "rounds-7.jsonl"]
    (tmp_path / "2" / "batchnorm-7.npz").write_bytes(b"no archive")
    grid.contexts[9].state.clear()
    with pytest.raises(AggregationError, match=r"node 9: .*batchnorm-7.npz cannot be read .* remove it"):
        grid.app.mods[0](next(iter(strategy.configure_train(3, arrays, ConfigRecord(), grid))), grid.contexts[9], None)


def test_an_app_that_fails_in_training_keeps_what_it_had() -> None:
    def failing(model: Any, node: int, round_: int) -> None:
        moved(model, node, round_)
        if (node, round_) == (2, 2):
            raise RuntimeError("out of memory")

    app = Trainer(Net, failing, mods=[LocalBatchNormMod(Net)])
    grid = Nodes(app, {number: context(number) for number in (1, 2, 3)})
    FedBN(model=Net()).start(grid, make_arrays(Net()), num_rounds=2)
    for number, round_ in ((1, 2), (2, 1), (3, 2)):
        own = trained(Net, round_)[number]
        assert all(torch.equal(app.seen[number][key], own[key]) for key in local_keys(Net()))


def test_flower_s_own_mods_see_what_is_sent() -> None:
    from flwr.clientapp.mod import LocalDpMod

    noise = LocalDpMod(clipping_norm=1e9, sensitivity=0.0, epsilon=1.0, delta=0.1)
    app = Trainer(Net, moved, mods=[noise, LocalBatchNormMod(Net)])
    grid = Nodes(app, {number: context(number) for number in (1, 2)})
    FedBN(model=Net()).start(grid, make_arrays(Net()), num_rounds=2)
    assert_fedbn(Net, grid, 2)


def test_differential_privacy_of_the_server_around_it() -> None:
    strategy = flower.DifferentialPrivacyServerSideFixedClipping(
        FedBN(model=Net()), noise_multiplier=0.0, clipping_norm=1e9, num_sampled_clients=3
    )
    grid = nodes(Net)
    strategy.start(grid, make_arrays(Net()), num_rounds=2)
    assert_fedbn(Net, grid, 2)


def test_initial_arrays_with_a_trained_batchnorm_are_told(caplog: pytest.LogCaptureFixture) -> None:
    trained_model, grid = Net(), nodes(Net)
    moved(trained_model, 1, 1)
    for model, arrays, told in (
        (Net(), ArrayRecord(trained_model.state_dict()), True),
        (trained_model, ArrayRecord(trained_model.state_dict()), False),
        (Net(), make_arrays(trained_model), False),
        (Net().to("meta"), ArrayRecord(trained_model.state_dict()), False),
    ):
        caplog.clear()
        FedBN(model=model).start(grid, arrays, num_rounds=0)
        found = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
        assert [one.partition(" is not the model's, and is not sent")[0] for one in found] == (
            ["block.downsample.1.weight of the initial arrays"] if told else []
        )
