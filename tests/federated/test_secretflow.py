"""FedBN inside SecretFlow, on its own classes: every model of the corpus, each strategy that can, each aggregator."""

from __future__ import annotations

import contextlib
import copy
import importlib
import io
import json
import pickle
import sys
import types
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
for _module in ("numpy", "pandas", "scipy", "sparse", "torchmetrics", "tqdm"):
    pytest.importorskip(_module)

import numpy as np  # noqa: E402
from torch import nn  # noqa: E402

from bn_audit.federated import AggregationError, FedBNAggregator, local_keys  # noqa: E402
from bn_audit.federated.monitor import (  # noqa: E402
    LayerStatistics,
    Monitor,
    distances_from,
    statistics_of,
)
from bn_audit.federated.secretflow import (  # noqa: E402
    STRATEGIES,
    LocalBatchNorm,
    Monitoring,
    local_batchnorm,
    wrapping_of,
)
from bn_audit.live.secretflow_runtime import PYU, Call, FedNdarray, PYUObject, Runtime, observing  # noqa: E402
from bn_audit.live.wheel import opened  # noqa: E402
from bn_audit.wrapping import Wrapping  # noqa: E402
from tests.secretflow.measure import make_aggregator, make_generator  # noqa: E402
from tests.secretflow.models import MODELS, party_builder  # noqa: E402

_SIZES = (8, 12)


@pytest.fixture(scope="module")
def runtime(secretflow_wheel: Path) -> Iterator[Runtime]:
    with opened(secretflow_wheel) as loaded:
        yield loaded


class _Watch:
    """Holds each exchange: the parties' states before it, and after."""

    def __init__(self, parties: int) -> None:
        self.parties = parties
        self.before: dict[int, dict[str, Any]] = {}
        self.after: dict[int, dict[str, Any]] = {}
        self.exchanges: list[tuple[list[dict[str, Any]], list[dict[str, Any]]]] = []

    def __call__(self, call: Call) -> None:
        if call.method not in ("set_weights", "apply_weights"):
            return
        side = self.after if call.done else self.before
        side[id(call.worker)] = {key: value.clone() for key, value in call.worker.model.state_dict().items()}
        if call.done and len(self.after) == self.parties:
            self.exchanges.append((list(self.before.values()), list(self.after.values())))
            self.before, self.after = {}, {}


def _fit(
    runtime: Runtime,
    model: Any,
    strategy: str,
    aggregator: str,
    skip_bn: bool = True,
    latent: int | None = None,
    **options: Any,
) -> _Watch:
    parties = [PYU("alice"), PYU("bob")]
    generator = make_generator(runtime, latent or 2) if strategy == "fed_gen" else None
    more = {"generator": generator} if generator is not None else {}
    with contextlib.redirect_stdout(io.StringIO()):
        federated = runtime.FLModel(
            server=parties[0],
            device_list=parties,
            model=model if hasattr(model, "build_from_model") else _torch_model(runtime, model),
            aggregator=None
            if "server_agg_method" in options
            else make_aggregator(runtime, aggregator, parties, generator),
            strategy=strategy,
            backend="torch",
            skip_bn=skip_bn,
            **more,
            **options,
        )
        rng = np.random.default_rng(3)
        x = {party: rng.random((size, 1, 4, 4)) for party, size in zip(parties, _SIZES, strict=True)}
        y = {party: np.eye(2)[rng.integers(0, 2, len(data))] for party, data in x.items()}
        watch = _Watch(len(parties))
        with observing(watch):
            federated.fit(_placed(x), _placed(y), batch_sampling_rate=0.5, epochs=2, verbose=0)
    return watch


def _torch_model(runtime: Runtime, model: Any, **options: Any) -> Any:
    return runtime.TorchModel(
        model_fn=model, loss_fn=nn.CrossEntropyLoss, optim_fn=partial(torch.optim.SGD, lr=0.05), **options
    )


def _placed(data: dict[PYU, Any]) -> FedNdarray:
    return FedNdarray({party: PYUObject(party, array) for party, array in data.items()})


def _models() -> list[str]:
    return sorted(MODELS)


@pytest.mark.secretflow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", _models())
@pytest.mark.parametrize(("strategy", "aggregator"), [("fed_avg_w", "plain"), ("fed_avg_w", "secure")])
def test_any_model_goes_through_fedbn(runtime: Runtime, name: str, strategy: str, aggregator: str) -> None:
    make = party_builder(MODELS[name])
    probe = copy.deepcopy(make)()
    if any(value.is_complex() for value in probe.state_dict().values()):
        pytest.skip("complex entries are refused, see below")
    watch = _fit(runtime, local_batchnorm(make, strategy=strategy, integers="local"), strategy, aggregator)
    assert len(watch.exchanges) >= 3
    local = local_keys(probe)
    for befores, afters in watch.exchanges:
        for key, value in probe.state_dict().items():
            if key in local or not value.is_floating_point():
                for before, after in zip(befores, afters, strict=True):
                    assert torch.equal(before[key], after[key]), key
            else:
                assert torch.equal(afters[0][key], afters[1][key]), key
            assert afters[0][key].dtype == value.dtype


@pytest.mark.secretflow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("strategy", ["fed_avg_w", "fed_stc", "fed_scr"])
def test_what_is_shared_is_the_reference_mean(runtime: Runtime, strategy: str) -> None:
    """The last exchange of plain weights is what the reference aggregator makes of the parties' states."""
    make = party_builder(MODELS["nested and top"])
    aggregator = "plain" if strategy == "fed_avg_w" else "sparse"
    watch = _fit(runtime, local_batchnorm(make, strategy=strategy), strategy, aggregator)
    local = local_keys(make())
    for befores, afters in watch.exchanges[1:] if strategy == "fed_avg_w" else ():
        reference = FedBNAggregator(local)
        for before, size in zip(befores, _SIZES, strict=True):
            reference.add(before, size)
        for key, value in reference.result().items():
            assert torch.allclose(afters[0][key], value, atol=1e-6), key
    for _, afters in watch.exchanges:
        assert all(torch.equal(afters[0][key], afters[1][key]) for key in afters[0] if key not in local)
    last = watch.exchanges[-1][1]
    assert any(not torch.equal(last[0][key], last[1][key]) for key in local if key.endswith("running_mean"))


class _Wide(nn.Module):
    def __init__(self, width: int = 3, classes: int = 2) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.Flatten())
        self.fc = nn.Linear(4 * width, classes)

    def forward(self, x: Any) -> Any:
        return self.fc(self.body(x))


def _forms(runtime: Runtime) -> dict[str, Any]:
    """A model of width 5 in every form that SecretFlow takes."""

    class Module(runtime.BaseModule):  # type: ignore[misc, name-defined]
        def __init__(self, width: int = 5) -> None:
            super().__init__()
            self.body = _Wide(width)

        def forward(self, x: Any) -> Any:
            return self.body(x)

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.05)

        def configure_loss(self) -> Any:
            return nn.CrossEntropyLoss()

        def configure_metrics(self) -> Any:
            return []

    @local_batchnorm
    class Decorated(_Wide):
        def __init__(self, width: int = 5) -> None:
            super().__init__(width)

    return {
        "keyword arguments of TorchModel": _torch_model(runtime, local_batchnorm(_Wide), width=5),
        "a partial that is wrapped": _torch_model(runtime, local_batchnorm(partial(_Wide, width=5))),
        "a partial of what is wrapped": _torch_model(runtime, partial(local_batchnorm(_Wide), width=5)),
        "a lambda": _torch_model(runtime, local_batchnorm(lambda: _Wide(5))),
        "a function that wraps": _torch_model(runtime, lambda: local_batchnorm(_Wide)(5)),
        "a TorchModel": local_batchnorm(_torch_model(runtime, _Wide, width=5)),
        "a decorated class": _torch_model(runtime, Decorated),
        "a BaseModule, in a TorchModel": _torch_model(runtime, local_batchnorm(Module)),
        "a BaseModule that sets itself up": local_batchnorm(runtime.TorchModel(model_fn=Module)),
    }


@pytest.mark.secretflow
@pytest.mark.filterwarnings("ignore")
def test_every_form_of_a_model(runtime: Runtime) -> None:
    for form, model in _forms(runtime).items():
        watch = _fit(runtime, model, "fed_avg_w", "secure")
        assert len(watch.exchanges) >= 3, form
        for befores, afters in watch.exchanges:
            shapes = {tuple(value.shape) for value in afters[0].values()}
            assert (5, 1, 3, 3) in shapes, form
            for key in befores[0]:
                if "body.1." in key:
                    assert all(torch.equal(b[key], a[key]) for b, a in zip(befores, afters, strict=True)), (form, key)
                else:
                    assert torch.equal(afters[0][key], afters[1][key]), (form, key)


@pytest.mark.secretflow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("cheat", "message"),
    [
        (
            lambda arrays: arrays[:-1],
            r"fc\.bias: 3 arrays arrived for the 4 entries that are shared: the parties' models",
        ),
        (lambda arrays: [*arrays, arrays[0]], r"^5 arrays arrived for the 4 entries"),
        (lambda arrays: arrays[::-1], r"body\.0\.weight: an array of shape \(2,\) arrived for \(3, 1, 3, 3\)"),
    ],
)
def test_a_server_that_sends_something_else(runtime: Runtime, cheat: Any, message: str) -> None:
    """Nothing is loaded: of any party that was asked, the state is what it was."""

    def method(sent: Any) -> Any:
        arrays = [np.mean(parts, axis=0) for parts in zip(*sent, strict=True)]
        return [cheat(arrays)] * len(sent)

    made: list[Any] = []
    initial: list[dict[str, Any]] = []

    def make() -> nn.Module:
        made.append(_Wide())
        initial.append({key: value.clone() for key, value in made[-1].state_dict().items()})
        return made[-1]  # type: ignore[no-any-return]

    with pytest.raises(AggregationError, match=message):
        _fit(runtime, local_batchnorm(make), "fed_avg_w", "", server_agg_method=method)
    for model, before in zip(made, initial, strict=True):
        assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


@pytest.mark.secretflow
@pytest.mark.filterwarnings("ignore")
def test_parties_with_other_architectures(runtime: Runtime) -> None:
    """One has a layer more: it says so, and no party is left with half of anything."""
    made: list[Any] = []

    def make() -> nn.Module:
        model = _Wide()
        if made:
            model.fc = nn.Sequential(nn.Linear(12, 2), nn.Linear(2, 2))  # type: ignore[assignment]
        made.append(model)
        return model

    with pytest.raises(
        AggregationError, match=r"fc\.1\.weight: 4 arrays arrived for the 6 entries.*make the same model"
    ):
        _fit(runtime, local_batchnorm(make), "fed_avg_w", "plain")


@pytest.mark.secretflow
@pytest.mark.filterwarnings("ignore")
def test_fed_gen(runtime: Runtime) -> None:
    """Its aggregator is one of its own, with a generator that reads the last two arrays as a linear layer."""
    name = next(name for name in _models() if MODELS[name].latent and local_keys(party_builder(MODELS[name])()))
    make = party_builder(MODELS[name])
    watch = _fit(runtime, local_batchnorm(make, strategy="fed_gen"), "fed_gen", "fedgen", latent=MODELS[name].latent)
    local = local_keys(make())
    for befores, afters in watch.exchanges:
        for key in befores[0]:
            if key in local:
                assert all(torch.equal(b[key], a[key]) for b, a in zip(befores, afters, strict=True)), key
            else:
                assert torch.equal(afters[0][key], afters[1][key]), key
    assert len(watch.exchanges) >= 3


@pytest.mark.secretflow
@pytest.mark.filterwarnings("ignore")
def test_secretflow_alone_gets_this_model_wrong(runtime: Runtime) -> None:
    """The control: without the wrapper the same run stops, so that the tests above can fail."""
    with pytest.raises(Exception, match=r"size mismatch|same dtypes|out of bounds|negative dimension"):
        _fit(runtime, party_builder(MODELS["nested and top"]), "fed_avg_w", "plain")


class _LazyLast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(16, 2)
        self.bn = nn.LazyBatchNorm1d()

    def forward(self, x: Any) -> Any:
        return self.bn(self.fc(x.float().flatten(1)))


@pytest.mark.secretflow
@pytest.mark.filterwarnings("ignore")
def test_secretflow_trains_a_lazy_batchnorm_that_it_never_sends(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On this BNA405 is silent."""
    monkeypatch.setattr(_Watch, "__call__", lambda self, call: None)  # there is nothing to clone at first
    models: list[_LazyLast] = []

    def build() -> nn.Module:
        models.append(_LazyLast())
        return models[-1]

    _fit(runtime, build, "fed_avg_w", "plain")
    one, other = models
    assert torch.equal(one.fc.weight, other.fc.weight)
    assert not torch.equal(one.bn.running_mean, other.bn.running_mean)
    with pytest.raises(ValueError, match="uninitialized parameter"):
        _fit(runtime, build, "fed_avg_w", "plain", skip_bn=False)


@pytest.mark.secretflow
@pytest.mark.filterwarnings("ignore")
def test_it_asks_for_skip_bn(runtime: Runtime) -> None:
    with pytest.raises(ValueError, match="pass skip_bn=True to FLModel"):
        _made(runtime, local_batchnorm(party_builder(MODELS["nested and top"])), skip_bn=False)


@pytest.mark.secretflow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("strategy", ["moon", "fed_avg_u", "fed_prox", "scaffold", "fed_avg_g"])
def test_what_it_is_not_told_it_finds_out_when_flmodel_is_made(runtime: Runtime, strategy: str) -> None:
    with pytest.raises(ValueError, match=f"^{strategy} cannot keep BatchNorm with the parties"):
        _made(runtime, local_batchnorm(party_builder(MODELS["nested and top"])), strategy)


@pytest.mark.secretflow
@pytest.mark.filterwarnings("ignore")
def test_a_strategy_of_the_users_own_is_the_one_it_derives_from(runtime: Runtime) -> None:
    module = sys.modules[runtime.FLModel.__module__].__name__.rpartition(".fl_model")[0]
    register = importlib.import_module(f"{module}.strategy_dispatcher").register_strategy
    base: Any = importlib.import_module(f"{module}.backend.torch.strategy.moon").MOON
    register(strategy_name="own_moon", backend="torch")(type("OwnMoon", (base,), {}))
    with pytest.raises(ValueError, match=r"^moon cannot keep BatchNorm with the parties"):
        _made(runtime, local_batchnorm(party_builder(MODELS["nested and top"])), "own_moon")


@pytest.mark.secretflow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("version", "fits"), [("1.5.0b0", False), ("1.6.1b0", False), ("1.7.0b0", True)])
def test_releases_that_do_not_heed_skip_bn_throughout(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, version: str, fits: bool
) -> None:
    monkeypatch.setattr("bn_audit.federated.secretflow._version", lambda module: version)
    make = local_batchnorm(party_builder(MODELS["nested and top"]))
    if fits:
        _made(runtime, make)
        return
    with pytest.raises(ValueError, match=f"SecretFlow {version} does not keep BatchNorm .*use 1.7 or newer"):
        _made(runtime, make)


@pytest.mark.secretflow
@pytest.mark.filterwarnings("ignore")
def test_an_early_release_itself_is_refused(early_secretflow_wheel: Path) -> None:
    with (
        opened(early_secretflow_wheel) as early,
        pytest.raises(ValueError, match=r"SecretFlow 1\.6\.1b0 does not keep BatchNorm .*use 1.7 or newer"),
    ):
        _made(early, local_batchnorm(party_builder(MODELS["nested and top"])))


def _made(runtime: Runtime, model: Any, strategy: str = "fed_avg_w", skip_bn: bool = True) -> Any:
    """An FLModel that nobody has fitted."""
    party = PYU("alice")
    return runtime.FLModel(
        server=party,
        device_list=[party],
        model=runtime.TorchModel(model_fn=model),
        aggregator=runtime.PlainAggregator(party),
        strategy=strategy,
        backend="torch",
        skip_bn=skip_bn,
    )


@pytest.mark.secretflow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("strategy", ["fed_avg_g", "fed_prox", "scaffold"])
def test_a_strategy_of_parameters_takes_models_of_parameters(runtime: Runtime, strategy: str) -> None:
    make = party_builder(MODELS["no norm"])
    watch = _fit(runtime, local_batchnorm(make, strategy=strategy), strategy, "plain")
    assert watch.exchanges


def _block() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 2))


@pytest.mark.parametrize("strategy", ["fed_avg_g", "fed_prox", "scaffold"])
def test_a_strategy_of_all_parameters_refuses_batchnorm_when_the_model_is_made(strategy: str) -> None:
    with pytest.raises(ValueError, match=rf"{strategy} cannot keep BatchNorm with the parties.*fed_avg_w.* can"):
        local_batchnorm(_block, strategy=strategy)()


@pytest.mark.parametrize("strategy", ["moon", "fed_avg_u"])
def test_a_strategy_that_cannot_is_refused_at_once(strategy: str) -> None:
    with pytest.raises(ValueError, match=f"{strategy} cannot keep BatchNorm with the parties"):
        local_batchnorm(_block, strategy=strategy)


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="no strategy 'fed_bn'; known are fed_avg_w"):
        local_batchnorm(_block, strategy="fed_bn")
    with pytest.raises(TypeError, match=r"something that makes a model, not Sequential|not int"):
        local_batchnorm(3)
    with pytest.raises(ValueError, match='"refuse" or "local"'):
        LocalBatchNorm(_block, integers="mean")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="gave no module, but int"):
        local_batchnorm(int)()
    assert set(STRATEGIES) >= {"fed_avg_w", "moon"}


def test_other_integers_are_refused_unless_they_stay() -> None:
    def make() -> nn.Module:
        model = _block()
        model.register_buffer("ids", torch.arange(4))
        return model

    with pytest.raises(ValueError, match=r'ids is int64 and no BatchNorm\'s.*integers="local"'):
        local_batchnorm(make)()
    model: Any = local_batchnorm(make, integers="local")()
    assert [array.shape for array in model.get_weights_not_bn(return_numpy=True)] == [(2, 1, 3, 3), (2,), (2, 8), (2,)]


def test_a_lazy_model_is_refused() -> None:
    with pytest.raises(ValueError, match=r"0.weight is not initialised yet"):
        local_batchnorm(lambda: nn.Sequential(nn.LazyLinear(2), nn.BatchNorm1d(2)))()


def test_complex_entries_are_refused() -> None:
    def make() -> nn.Module:
        model = _block()
        model.register_buffer("phase", torch.zeros(2, dtype=torch.complex64))
        return model

    with pytest.raises(ValueError, match="phase is complex"):
        local_batchnorm(make)()


def test_mixed_floats_travel_as_one_dtype_and_come_back_as_their_own() -> None:
    def make() -> nn.Module:
        model = _block()
        model.register_buffer("factor", torch.tensor([1.5], dtype=torch.bfloat16))
        model.register_buffer("scale", torch.tensor(2.0, dtype=torch.float16))
        return model

    one: Any = local_batchnorm(make)()
    other: Any = local_batchnorm(make)()
    sent = one.get_weights_not_bn(return_numpy=True)
    assert {array.dtype for array in sent} == {np.dtype("float32")}
    statistics = other[1].running_mean.clone()
    other.update_weights_not_bn(sent)
    for key, value in one.state_dict().items():
        assert other.state_dict()[key].dtype == value.dtype
        assert torch.equal(other.state_dict()[key], value) or key.startswith("1.")
    assert torch.equal(other[1].running_mean, statistics)


def test_what_does_not_fit_changes_nothing() -> None:
    model: Any = local_batchnorm(_block)()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    sent = model.get_weights_not_bn(return_numpy=True)
    with pytest.raises(AggregationError, match=r"3\.bias: 3 arrays arrived for the 4 entries.*make the same model"):
        model.update_weights_not_bn(sent[:3])
    with pytest.raises(AggregationError, match=r"3\.bias: an array of shape \(3,\) arrived for \(2,\)"):
        model.update_weights_not_bn([*sent[:3], np.zeros(3)])
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    # Under Ray nobody waits for a load; somebody does for what is sent next.
    with pytest.raises(AggregationError, match=r"what arrived before was not loaded: 3\.bias: an array of shape"):
        model.get_weights_not_bn(return_numpy=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda model: model.pop(3), r"3\.weight: the model had this entry when it was made, and has it no more"),
        (lambda model: model.__setitem__(3, nn.Linear(8, 5)), r"3\.weight: of shape \(5, 8\), and of \(2, 8\) when"),
    ],
)
def test_an_entry_that_vanishes_or_changes_between_rounds(change: Any, message: str) -> None:
    model: Any = local_batchnorm(_block)()
    sent = model.get_weights_not_bn(return_numpy=True)
    change(model)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(AggregationError, match=message):
        model.get_weights_not_bn(return_numpy=True)
    with pytest.raises(AggregationError, match=message):
        model.update_weights_not_bn(sent)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_a_load_that_fails_half_way_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    model: Any = local_batchnorm(_block)()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    sent = [array + 1 for array in model.get_weights_not_bn(return_numpy=True)]

    def half(state: dict[str, Any]) -> None:
        with torch.no_grad():
            model[0].weight.copy_(state["0.weight"])
        raise RuntimeError("no memory")

    monkeypatch.setitem(model.__dict__, "load_state_dict", half)
    with pytest.raises(RuntimeError, match="no memory"):
        model.update_weights_not_bn(sent)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


@pytest.mark.filterwarnings("ignore")
def test_the_party_is_named_where_ray_knows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    context = types.SimpleNamespace(get_assigned_resources=lambda: {"CPU": 1.0, "alice": 1.0})
    ray = types.SimpleNamespace(is_initialized=lambda: True, get_runtime_context=lambda: context)
    monkeypatch.setitem(sys.modules, "ray", ray)
    model: Any = local_batchnorm(_block)()
    with pytest.raises(AggregationError, match=r"^alice: 3\.bias: 3 arrays arrived"):
        model.update_weights_not_bn(model.get_weights_not_bn(return_numpy=True)[:3])


def _history(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in sorted(folder.glob("*.jsonl")) for line in path.read_text().splitlines()]


@pytest.mark.secretflow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("aggregator", ["plain", "secure"])
def test_a_monitor_that_lets_nothing_out(
    runtime: Runtime, tmp_path: Path, aggregator: str, caplog: pytest.LogCaptureFixture
) -> None:
    make = party_builder(MODELS["nested and top"])
    watched = _fit(runtime, local_batchnorm(make, monitor=Monitoring(tmp_path)), "fed_avg_w", aggregator)
    local = local_keys(make())
    for _, afters in watched.exchanges:
        assert all(torch.equal(afters[0][key], afters[1][key]) for key in afters[0] if key not in local)
    lines = _history(tmp_path)
    assert {line["party"] for line in lines} == {"party 1", "party 2"}
    assert [line["round"] for line in lines if line["party"] == "party 1"] == list(range(5))
    last = watched.exchanges[-1][1][0]
    (own,) = [line for line in lines if line["party"] == "party 1"][-1:]
    for layer in own["layers"]:
        mean = last[f"{layer['path']}.running_mean"]
        assert torch.allclose(torch.tensor(layer["mean"], dtype=mean.dtype), mean)
    assert "describe" not in caplog.text


@pytest.mark.secretflow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("aggregator", ["plain", "secure"])
def test_a_monitor_of_the_distance_from_the_mean(
    runtime: Runtime, tmp_path: Path, aggregator: str, caplog: pytest.LogCaptureFixture
) -> None:
    make = party_builder(MODELS["nested and top"])
    wrapped = local_batchnorm(make, monitor=Monitoring(tmp_path, mean=True))
    watch = _fit(runtime, wrapped, "fed_avg_w", aggregator)
    assert "party 1: the running statistics of this party's norm layers are sent along" in caplog.text
    lines = _history(tmp_path)
    befores = watch.exchanges[-1][0]
    weights = [size / sum(_SIZES) for size in _SIZES]
    for line in (line for line in lines if line["round"] == 4):
        assert line["layers"]
        own = befores[int(line["party"][-1]) - 1]
        for layer in line["layers"]:
            path = layer["path"]
            assert set(layer) == {"path", "distance"}
            centre = {
                path: LayerStatistics(*(
                    sum(w * b[f"{path}.{name}"].double().numpy() for w, b in zip(weights, befores, strict=True))
                    for name in ("running_mean", "running_var")
                ))
            }  # fmt: skip
            assert layer["distance"] == pytest.approx(distances_from(centre, statistics_of(own))[path], abs=1e-3)
    local = local_keys(make())
    for _, afters in watch.exchanges:
        assert all(torch.equal(afters[0][key], afters[1][key]) for key in afters[0] if key not in local)


@pytest.mark.secretflow
@pytest.mark.filterwarnings("ignore")
def test_a_monitor_that_cannot_be_had(runtime: Runtime, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make = party_builder(MODELS["nested and top"])
    with pytest.raises(ValueError, match="fed_stc hands out no mean of statistics"):
        local_batchnorm(make, strategy="fed_stc", monitor=Monitoring(tmp_path, mean=True))
    with pytest.raises(ValueError, match="fed_scr hands out no mean of statistics"):
        _made(runtime, local_batchnorm(make, monitor=Monitoring(tmp_path, mean=True)), "fed_scr")
    _made(runtime, local_batchnorm(make, monitor=Monitoring(tmp_path)))
    (tmp_path / "party 1.jsonl").write_text('{"round": 0, "party": "party 1"}\n')
    with pytest.raises(FileExistsError, match="holds a history already"):
        _made(runtime, local_batchnorm(make, monitor=Monitoring(tmp_path)))
    # Made outside a worker, or copied, a model writes nothing.
    model: Any = local_batchnorm(make, monitor=Monitoring(tmp_path / "other"))()
    copy.deepcopy(model).update_weights_not_bn(model.get_weights_not_bn(return_numpy=True))
    assert not (tmp_path / "other").exists()


@pytest.mark.secretflow
@pytest.mark.filterwarnings("ignore")
def test_a_monitor_whose_disk_is_full_stops_nobody(
    runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(self: Any, *_: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(Monitor, "record_own", full)
    make = party_builder(MODELS["nested and top"])
    watch = _fit(runtime, local_batchnorm(make, monitor=Monitoring(tmp_path)), "fed_avg_w", "plain")
    assert len(watch.exchanges) >= 3
    assert caplog.text.count("is not written down, nor what follows: no space left on device") == 2


def test_a_decorated_class_and_one_with_arguments() -> None:
    @local_batchnorm
    class Net(nn.Sequential):
        """Two layers."""

        def __init__(self, width: int = 2) -> None:
            super().__init__(nn.Linear(2, width), nn.BatchNorm1d(width))

    assert isinstance(Net, LocalBatchNorm)
    assert (Net.__name__, Net.__doc__) == ("Net", "Two layers.")
    model: Any = Net(width=3)
    assert [array.shape for array in model.get_weights_not_bn(return_numpy=True)] == [(3, 2), (3,)]

    @local_batchnorm(integers="local")
    def make() -> nn.Module:
        model = _block()
        model.register_buffer("ids", torch.arange(4))
        return model

    assert wrapping_of(make()) == Wrapping(None, "local")
    assert wrapping_of(_block()) is None
    with pytest.raises(ValueError, match="no strategy 'fed_bn'"):
        local_batchnorm(strategy="fed_bn")(_block)


def test_a_model_that_is_made_already_is_refused() -> None:
    with pytest.raises(TypeError, match="not a Sequential that is made already: every party makes its own"):
        local_batchnorm(_block())


def test_it_travels_to_a_worker_and_copies_answer_for_themselves() -> None:
    maker = pickle.loads(pickle.dumps(local_batchnorm(_block)))
    model: Any = maker()
    twin: Any = copy.deepcopy(model)
    twin[0].weight.data.zero_()
    assert not twin.get_weights_not_bn(return_numpy=True)[0].any()
    assert model.get_weights_not_bn(return_numpy=True)[0].any()
    assert list(model.state_dict()) == list(_block().state_dict())
