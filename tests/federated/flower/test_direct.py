"""Apps that load and send by themselves: with records, and NumPyClients with lists."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("flwr", reason="runs Flower itself")

import numpy as np  # noqa: E402
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict  # noqa: E402
from flwr.client import NumPyClient  # noqa: E402
from flwr.clientapp import ClientApp  # noqa: E402
from flwr.common import FitRes, ndarrays_to_parameters, parameters_to_ndarrays  # noqa: E402
from flwr.server.strategy import FedAdam, FedAvg  # noqa: E402

from bn_audit.federated import AggregationError, FedBNAggregator, local_keys, merge_state  # noqa: E402
from bn_audit.federated.flower import (  # noqa: E402
    FedBN,
    LocalBatchNormMod,
    load_arrays,
    load_ndarrays,
    make_arrays,
    make_ndarrays,
)
from tests.exchange.handwritten.models import MODELS  # noqa: E402
from tests.federated.flower.inprocess import Nodes, Trainer, context  # noqa: E402
from tests.federated.flower.models import Net, Wide, moved  # noqa: E402
from tests.federated.flower.test_rounds import assert_fedbn, trained  # noqa: E402

pytestmark = pytest.mark.flower


class Direct(Trainer):
    """Loads and sends with our functions, below no mod."""

    def __init__(self) -> None:
        ClientApp.__init__(self)
        self.seen: dict[int, Any] = {}

        @self.train()
        def _(message: Message, own: Any) -> Message:
            model = Net()
            load_arrays(model, message.content["arrays"], own)
            moved(model, own.node_id, message.content["config"]["server-round"])
            metrics = MetricRecord({"num-examples": 10 * own.node_id})
            return Message(RecordDict({"arrays": make_arrays(model, own), "metrics": metrics}), reply_to=message)

        @self.evaluate()
        def _(message: Message, own: Any) -> Message:
            model = Net()
            load_arrays(model, message.content["arrays"], own)
            self.seen[own.node_id] = model.state_dict()
            return Message(RecordDict({"metrics": MetricRecord({"num-examples": 1})}), reply_to=message)


def test_records() -> None:
    grid = Nodes(Direct(), {number: context(number) for number in (1, 2, 3)})
    FedBN(model=Net()).start(grid, make_arrays(Net()), num_rounds=2)
    assert_fedbn(Net, grid, 2)
    assert not any(local_keys(Net()) & set(record) for m in grid.messages() for record in m.content.values())


def test_the_mod_takes_what_make_arrays_made() -> None:
    app = Trainer(Net, moved, mods=[LocalBatchNormMod(Net)], send=lambda model, own: make_arrays(model, own))
    grid = Nodes(app, {number: context(number) for number in (1, 2, 3)})
    FedBN(model=Net()).start(grid, make_arrays(Net()), num_rounds=2)
    assert_fedbn(Net, grid, 2)


@pytest.mark.parametrize("name", ["half net", "brain net", "mixed", "tied", "norm without statistics", "net"])
def test_arrays_hold_every_value_exactly(name: str) -> None:
    sent, own = MODELS[name](), context(1)
    moved(sent, 1, 1)
    record = make_arrays(sent, own, integers="local")
    assert {array.dtype for array in record.values()} <= {"float32", "float64", "complex64"}
    model = MODELS[name]()
    load_arrays(model, record, own, integers="local")
    for key, value in sent.state_dict().items():
        found = model.state_dict()[key]
        assert found.dtype == value.dtype and torch.equal(found, value), key


class Client(NumPyClient):  # type: ignore[misc, unused-ignore]
    """As Flower's older tutorials have it, made anew for each message or not."""

    def __init__(self, node: int, own: Any = None) -> None:
        self.node, self.own, self.model = node, own, Net()

    def fit(self, parameters: Any, config: Any) -> Any:
        load_ndarrays(self.model, parameters, self.own)
        moved(self.model, self.node, config["round"])
        return make_ndarrays(self.model, self.own), 10 * self.node, {}

    def evaluate(self, parameters: Any, config: Any) -> Any:
        load_ndarrays(self.model, parameters, self.own)
        return 0.0, 1, {}


@pytest.mark.parametrize("anew", [False, True])
def test_lists_of_numpy_clients(anew: bool) -> None:
    contexts = {number: context(number) for number in (1, 2, 3)}
    clients = {number: Client(number) for number in contexts}
    parameters = ndarrays_to_parameters(make_ndarrays(Net()))
    strategy = FedAvg(initial_parameters=parameters)
    for round_ in (1, 2):
        if anew:
            clients = {number: Client(number, own) for number, own in contexts.items()}
        results = []
        for client in clients.values():
            arrays, size, _ = client.fit(parameters_to_ndarrays(parameters), {"round": round_})
            result = FitRes(status=None, parameters=ndarrays_to_parameters(arrays), num_examples=size, metrics={})
            results.append((None, result))
        parameters, _ = strategy.aggregate_fit(round_, results, [])
    if anew:
        clients = {number: Client(number, own) for number, own in contexts.items()}
    states = trained(Net, 2)
    mean = FedBNAggregator.from_module(Net()).aggregate(states.values(), [10, 20, 30])
    for number, client in clients.items():
        client.evaluate(parameters_to_ndarrays(parameters), {})
        for key, value in merge_state(states[number], mean).items():
            assert torch.allclose(client.model.state_dict()[key], value), key


def test_a_numpy_client_with_the_mod_is_told_what_to_use() -> None:
    app = ClientApp(client_fn=lambda own: Client(own.node_id).to_client(), mods=[LocalBatchNormMod(Net)])
    record = RecordDict({"fitins.parameters": ArrayRecord(make_ndarrays(Net()))})
    with pytest.raises(
        AggregationError, match=r"node 2: this app is a NumPyClient, .* load_ndarrays and make_ndarrays"
    ):
        app(Message(record, dst_node_id=2, message_type="train"), context(2))


def test_lists_that_are_refused() -> None:
    model = Net()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    few, wide = make_ndarrays(Net())[:-1], make_ndarrays(Wide())
    whole = [value.numpy() for value in Net().state_dict().values()]
    for arrays, told in (
        (few, r"node 1: 8 arrays arrived, and the model shares 9 entries, which are everything but BatchNorm"),
        (whole, r"node 1: 24 arrays arrived"),
        (wide, r"node 1: block.conv.weight: shape \(5, 1, 3, 3\), but \(3, 1, 3, 3\) in the model"),
    ):
        with pytest.raises(AggregationError, match=told):
            load_ndarrays(model, arrays, context(1))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_server_optimisers_of_the_older_api_widen_and_nothing_is_lost() -> None:
    begun = make_ndarrays(Net())
    strategy = FedAdam(initial_parameters=ndarrays_to_parameters(begun))
    result = FitRes(status=None, parameters=ndarrays_to_parameters(begun), num_examples=1, metrics={})
    parameters, _ = strategy.aggregate_fit(1, [(None, result)] * 2, [])
    arrays = parameters_to_ndarrays(parameters)
    assert np.float64 in {array.dtype.type for array in arrays}
    model = Net()
    load_ndarrays(model, arrays)
    assert model.fc.weight.dtype is torch.float32
