"""What is refused, on either side: errors that name node, key and remedy, before anything is loaded or kept."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("flwr", reason="runs Flower itself")

import numpy as np  # noqa: E402
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict  # noqa: E402
from flwr.clientapp import ClientApp  # noqa: E402
from flwr.serverapp import strategy as flower  # noqa: E402
from torch import nn  # noqa: E402

from bn_audit.federated import AggregationError  # noqa: E402
from bn_audit.federated.flower import FedBN, LocalBatchNormMod, load_arrays, make_arrays  # noqa: E402
from tests.federated.flower.inprocess import Nodes, Trainer, context  # noqa: E402
from tests.federated.flower.models import Net, Wide, moved  # noqa: E402

pytestmark = pytest.mark.flower


def error(grid: Nodes, node: int) -> str:
    """What the server was told by a node."""
    (told,) = {
        message.error.reason
        for message in grid.messages()
        if message.metadata.src_node_id == node and message.has_error()
    }
    return str(told)


def run(app: Any, strategy: Any = None, arrays: Any = None, contexts: Any = None) -> Nodes:
    grid = Nodes(app, contexts or {number: context(number) for number in (1, 2, 3)})
    (strategy or FedBN(model=Net())).start(grid, arrays or make_arrays(Net()), num_rounds=1)
    return grid


def replying(change: Callable[[RecordDict, Any], None], action: str = "train") -> Callable[[int], ClientApp]:
    """Node 2 changes its reply, below the mod."""

    def changed(message: Message, own: Any, call_next: Any) -> Message:
        reply = call_next(message, own)
        if own.node_id == 2 and message.metadata.message_type == action:
            change(reply.content, own)
        return reply

    return lambda node: Trainer(Net, moved, mods=[LocalBatchNormMod(Net), changed])


def test_a_node_with_another_architecture() -> None:
    apps = {
        node: Trainer(make, moved, mods=[LocalBatchNormMod(make)]) for node, make in ((1, Net), (2, Wide), (3, Net))
    }
    grid = run(apps.__getitem__)
    assert "node 2: block.conv.weight: shape (3, 1, 3, 3), but (5, 1, 3, 3) in the model" in error(grid, 2)
    assert "bn_audit.batchnorm" not in grid.contexts[2].state
    assert 2 not in apps[2].seen and sorted(apps[1].seen) == [1]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda content, own: content["arrays"].pop("fc.weight"),
            "node 2: fc.weight: missing in the reply: the app has another model than model_fn makes",
        ),
        (
            lambda content, own: content["arrays"].pop("bn.running_var"),
            "node 2: bn.running_var: missing in the reply: send the whole state dict",
        ),
        (
            lambda content, own: content["arrays"].update(head=Array(np.zeros(2))),
            "node 2: head: the model has no such entry",
        ),
        (
            lambda content, own: content["arrays"].update({"fc.bias": Array(np.zeros(3, np.float32))}),
            "node 2: fc.bias: shape (3,), but (2,) in the model",
        ),
        (
            lambda content, own: content["arrays"].update({"fc.bias": Array(np.zeros(2, np.int64))}),
            "node 2: fc.bias: int64, but float32 in the model",
        ),
        (
            lambda content, own: content.update(more=ArrayRecord({"bn.running_mean": Array(np.zeros(3))})),
            "node 2: bn.running_mean: stays with the node, and is in the record 'more' of the reply: leave it out",
        ),
        (
            lambda content, own: content["metrics"].update({"bn.running_mean": [1.0]}),
            "node 2: bn.running_mean: stays with the node, and is in the record 'metrics'",
        ),
        (lambda content, own: content.pop("arrays"), "node 2: no ArrayRecord 'arrays'; there is none"),
        (
            lambda content, own: content["arrays"].update(
                {"fc.bias": Array(dtype="float32", shape=(2,), stype="numpy.ndarray", data=b"junk")}
            ),
            "node 2: fc.bias: no array",
        ),
    ],
)
def test_replies_that_do_not_leave_the_node(change: Any, told: str) -> None:
    grid = run(replying(change))
    assert told in error(grid, 2)
    assert "bn_audit.batchnorm" not in grid.contexts[2].state
    assert "bn_audit.batchnorm" in grid.contexts[3].state


def test_an_evaluation_sends_no_batchnorm() -> None:
    grid = run(replying(lambda content, own: content.update(model=ArrayRecord(Net().state_dict())), "evaluate"))
    assert "block.downsample.1.weight: stays with the node, and is in the record 'model' of the reply" in error(grid, 2)


def test_a_server_that_sends_too_little_or_too_much() -> None:
    state = Net().state_dict()
    few = make_arrays(Net())
    del few["fc.weight"]
    app = Trainer(Net, moved, mods=[LocalBatchNormMod(Net)])
    grid = run(app, flower.FedAvg(), few)
    assert "node 2: fc.weight: missing in what the server sent" in error(grid, 2)
    grid = run(app, flower.FedAvg(), ArrayRecord(state))
    assert "(and 14 more such)" in error(grid, 2) and "Use FedBN as the strategy" in error(grid, 2)
    grid = run(app, flower.FedAvg(arrayrecord_key="model"), ArrayRecord(state))
    assert "BatchNorm's, and came from the server" in error(grid, 2)
    assert app.seen == {}
    with pytest.raises(AggregationError, match=r"the server's arrays: fc.weight: missing: make them with make_arrays"):
        run(app, FedBN(model=Net()), few)


def test_an_entry_that_vanishes_or_changes_between_rounds() -> None:
    contexts = {number: context(number) for number in (1, 2)}
    run(Trainer(Net, moved, mods=[LocalBatchNormMod(Net)]), contexts=contexts)
    before = copy.deepcopy(contexts)

    class Grown(Net):
        def __init__(self) -> None:
            super().__init__()
            self.bare = nn.BatchNorm1d(4, track_running_stats=False)

    class More(Net):
        def __init__(self) -> None:
            super().__init__()
            self.late = nn.BatchNorm1d(4)

    for make, told in (
        (Grown, "bare.weight: shape (2,), but (4,) in the model; the model has changed during the run: make the same"),
        (More, "late.weight: the node has kept no such entry, and the model has one (and 4 more such)"),
    ):
        app = Trainer(make, moved, mods=[LocalBatchNormMod(make)])
        grid = run(app, FedBN(model=make()), make_arrays(make()), contexts)
        assert told in error(grid, 2)
        assert app.seen == {}
        assert [own.state for own in contexts.values()] == [own.state for own in before.values()]


class _Bare:
    """A node without the mod, which sends what it likes."""

    def __init__(self, arrays: Callable[[int], ArrayRecord], bad: int = 2) -> None:
        self.arrays, self.bad = arrays, bad

    def __call__(self, node: int) -> ClientApp:
        app = ClientApp()

        @app.train()
        def _(message: Message, own: Any) -> Message:
            record = self.arrays(node) if node == self.bad else message.content["arrays"]
            content = RecordDict({"arrays": record, "metrics": MetricRecord({"num-examples": 1})})
            return Message(content, reply_to=message)

        @app.evaluate()
        def _(message: Message, own: Any) -> Message:
            return Message(RecordDict({"metrics": MetricRecord({"num-examples": 1})}), reply_to=message)

        return app


def _without(key: str) -> ArrayRecord:
    arrays = make_arrays(Net())
    del arrays[key]
    return arrays


WRONG = [
    (lambda node: _without("fc.weight"), "node 2: fc.weight: missing in its reply"),
    (lambda node: make_arrays(Wide()), r"node 2: block.conv.weight: shape \(5, 1, 3, 3\), but \(3, 1, 3, 3\)"),
    (lambda node: ArrayRecord(Net().state_dict()), r"node 2: block.downsample.1.weight: BatchNorm, which stays with"),
    (
        lambda node: ArrayRecord({f"net.{k}": a for k, a in make_arrays(Net()).items()}),
        "node 2: scale: missing in its reply",
    ),
    (lambda node: ArrayRecord([np.zeros(3)]), "node 2: scale: missing in its reply"),
]


@pytest.mark.parametrize(("arrays", "told"), WRONG)
def test_wrong_replies_end_the_run_with_the_node_named(arrays: Any, told: str) -> None:
    with pytest.raises(AggregationError, match=f'round 1: {told}.*bad_replies="leave-out" goes on without'):
        run(_Bare(arrays))


@pytest.mark.parametrize(("arrays", "told"), WRONG)
def test_wrong_replies_can_be_left_out(arrays: Any, told: str, caplog: pytest.LogCaptureFixture) -> None:
    strategy = FedBN(model=Net(), bad_replies="leave-out")
    grid = Nodes(_Bare(arrays), {number: context(number) for number in (1, 2, 3)})
    begun = make_arrays(Net())
    result = strategy.start(grid, begun, num_rounds=2)
    assert all(np.allclose(result.arrays[key].numpy(), begun[key].numpy()) for key in begun)
    assert [(one.round, one.node) for one in strategy.rejected] == [(1, 2), (2, 2)]
    assert "round 1: a reply is left out: node 2: " in caplog.text
    only = Nodes(_Bare(arrays), {2: context(2)})
    alone = FedBN(model=Net(), bad_replies="leave-out", min_train_nodes=1, min_available_nodes=1, min_evaluate_nodes=1)
    with pytest.raises(AggregationError, match="node 2"):
        alone.start(only, begun, num_rounds=1)


def test_an_evaluation_with_batchnorm_is_refused_by_the_server() -> None:
    def app(node: int) -> ClientApp:
        found = ClientApp()

        @found.train()
        def _(message: Message, own: Any) -> Message:
            content = {"arrays": message.content["arrays"], "metrics": MetricRecord({"num-examples": 1})}
            return Message(RecordDict(content), reply_to=message)

        @found.evaluate()
        def _(message: Message, own: Any) -> Message:
            content = {"metrics": MetricRecord({"num-examples": 1}), "model": ArrayRecord(Net().state_dict())}
            return Message(RecordDict(content), reply_to=message)

        return found

    with pytest.raises(
        AggregationError, match=r"node 1: .*BatchNorm, which stays with the node, and was in the record"
    ):
        run(app)


def test_models_that_cannot_be_shared() -> None:
    class Integers(Net):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("index", torch.arange(3))

    app = Trainer(Integers, moved, mods=[LocalBatchNormMod(Integers)])
    assert "index: int64 and no BatchNorm's: it has no mean" in error(run(app), 1)
    for make, options, told in (
        (Integers, {}, 'index: int64 .* Pass integers="local"'),
        (lambda: nn.Sequential(nn.BatchNorm1d(2)), {}, "nothing but BatchNorm"),
        (lambda: nn.Sequential(nn.LazyLinear(2)), {}, "0.weight: not initialised yet; run the model once"),
    ):
        with pytest.raises(AggregationError, match=told):
            FedBN(model=make(), **options)
    with pytest.raises(ValueError, match="bad_replies"):
        FedBN(model=Net(), bad_replies="ignore")
    with pytest.raises(ValueError, match="integers"):
        LocalBatchNormMod(Net, integers="drop")
    with pytest.raises(TypeError, match="model_fn has to be something that makes a model, not Net"):
        LocalBatchNormMod(Net())

    class Complex(Net):
        def __init__(self) -> None:
            super().__init__()
            self.phase = nn.Parameter(torch.zeros(2, dtype=torch.complex64))

    class FedBNAdam(FedBN, flower.FedAdam): ...

    FedBN(model=Complex())
    with pytest.raises(AggregationError, match="phase: complex, which FedBNAdam has no arithmetic for"):
        FedBNAdam(model=Complex())


def test_a_load_that_fails_leaves_the_model_whole() -> None:
    class Stubborn(Net):
        """Something in it will not have what is loaded."""

        def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
            super()._load_from_state_dict(state_dict, prefix, *rest)
            if float(state_dict["scale"]) == 9:
                raise RuntimeError("not that one")

    own = context(1)
    sent = Stubborn()
    moved(sent, 1, 1)
    arrays = make_arrays(sent, own)
    arrays["scale"] = Array(np.array(9, np.float32))
    model = Stubborn()
    before = copy.deepcopy(model.state_dict())
    for broken, kind in ((arrays, RuntimeError), (_without("fc.weight"), AggregationError)):
        with pytest.raises(kind):
            load_arrays(model, broken, own)
        assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    load_arrays(model, make_arrays(sent), own)
    assert all(torch.equal(value, sent.state_dict()[key]) for key, value in model.state_dict().items())


def test_the_mod_leaves_random_numbers_alone_and_can_be_pickled() -> None:
    mod = LocalBatchNormMod(Net)
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    mod._form(context(1))
    assert torch.equal(torch.rand(2), expected)
    assert list(pickle.loads(pickle.dumps(mod))._form(context(1))[1]) == list(mod._form(context(1))[1])


def test_a_model_that_depends_on_the_run() -> None:
    made = []

    def make(own: Any) -> nn.Module:
        made.append(own.run_config["width"])
        return Net(own.run_config["width"])

    mod = LocalBatchNormMod(make)
    for run_id, width in ((1, 3), (1, 3), (2, 4)):
        own = context(1)
        own.run_id, own.run_config = run_id, {"width": width}
        form, _ = mod._form(own)
        assert form.local["bn.weight"].shape == (width,)
    assert made == [3, 4]


def test_without_flower_the_extra_is_named() -> None:
    code = "import sys; sys.modules['flwr'] = None; import importlib.util as u; f = u.find_spec\n"
    code += "u.find_spec = lambda name, *a: None if name == 'flwr' else f(name, *a)\nimport bn_audit.federated.flower"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    said = done.stderr.strip().splitlines()[-1]
    assert said == "bn_audit.extras.MissingExtra: Flower is not installed: pip install 'flwr>=1.22,<2'"
