"""SecretFlow's own classes, run on a model in one process, whether they come from a wheel or are installed.

FLModel, its strategies and its aggregators are SecretFlow's, unmodified. Where they come from, and what places data on
devices, is a :class:`Platform`: :mod:`bn_audit.live.wheel` and :mod:`bn_audit.live.installed` give one. Errors surface
where they are raised, as in SecretFlow's debug mode; under Ray those of a load are never awaited.

What a model computes is of no interest here, and what it takes as input is not known. So each party trains a copy whose
forward is a stand-in: two logits in which every trained parameter has a share, so that each gets a gradient, and a step
of the running statistics as a batch would make it. State dict, classes of submodules and shapes are the model's own.
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from bn_audit.exchange.secretflow import SecretFlowSettings
from bn_audit.live.errors import TargetError, require_torch
from bn_audit.live.execute import Exchange, State, party_states
from bn_audit.live.verify import Run, Seen, see
from bn_audit.profile import Profile
from bn_audit.verification import Stop

require_torch()

import torch  # noqa: E402
from torch import nn  # noqa: E402

__all__ = ["Platform", "party_names", "quiet", "run_classes"]

_RATE = 0.05
_STEPS = 2
"""Rounds in an epoch: some errors only show when a second training follows within it."""

_AGGREGATORS = {"plain": "PlainAggregator", "secure": "SecureAggregator", "sparse": "SparsePlainAggregator"}


class Platform(Protocol):
    """Where SecretFlow's classes come from and its parties are.

    Beside what is named here it has PlainAggregator, SecureAggregator and SparsePlainAggregator, unless the release has
    not.
    """

    FLModel: Any
    TorchModel: Any

    def device(self, name: str) -> Any:
        """A party."""

    def federated(self, arrays: Mapping[Any, Any]) -> Any:
        """Arrays, one at each party, as ``fit`` takes them."""

    def worker(self, proxy: Any) -> Any:
        """What works at a party for FLModel; it holds the model."""

    def observing(self, federated: Any, observer: Callable[[Any], None]) -> AbstractContextManager[None]:
        """Tell of each call that reaches a worker: :class:`bn_audit.live.secretflow_runtime.Call`."""


def run_classes(
    runtime: Platform, model: nn.Module, profile: Profile, settings: SecretFlowSettings, parties: int, rounds: int
) -> Run:
    """``fit`` a model in the real FLModel, for ``rounds`` epochs of two rounds each, with SGD.

    Each party begins with the state the contract engine gives it. The model is not changed.

    Raises:
        TargetError: for settings that cannot be run in one process, and for a model that cannot be copied or given
            another forward.
    """
    devices = [runtime.device(name) for name in party_names(parties)]
    watch = _Watch(settings.strategy or "", parties, profile)
    error: Stop | None = None
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        federated = runtime.FLModel(
            server=devices[0],
            device_list=devices,
            model=runtime.TorchModel(
                model_fn=_builder(model, profile, parties),
                loss_fn=nn.CrossEntropyLoss,
                optim_fn=partial(torch.optim.SGD, lr=_RATE),
            ),
            aggregator=_aggregator(runtime, settings, devices),
            strategy=settings.strategy,
            backend="torch",
            skip_bn=bool(settings.skip_bn),
        )
        error = _fit(runtime, federated, devices, watch, rounds)
    states = [_snapshot(runtime.worker(proxy).model) for proxy in federated._workers.values()]
    return Run(tuple(watch.seen), error, _drifted(watch.seen, states))


def _fit(runtime: Platform, federated: Any, devices: Sequence[Any], watch: _Watch, rounds: int) -> Stop | None:
    import numpy as np

    rng = np.random.default_rng(3)
    x = {device: rng.random((8 + 4 * number, 4)) for number, device in enumerate(devices)}
    y = {device: np.eye(2)[rng.integers(0, 2, len(data))] for device, data in x.items()}
    with runtime.observing(federated, watch):
        try:
            federated.fit(
                runtime.federated(x), runtime.federated(y), batch_sampling_rate=1 / _STEPS, epochs=rounds, verbose=0
            )
        except Exception as raised:
            # Whatever SecretFlow raises is what is asked for.
            return Stop(type(raised).__name__, str(raised), max(watch.trainings.values(), default=0))
    return None


def party_names(number: int) -> list[str]:
    """What the parties are called."""
    return [*("alice", "bob", "carol", "dave")[:number], *(f"party{n}" for n in range(4, number))]


@dataclass
class _Watch:
    """Takes down the parties' states around every load, and what they sent before it."""

    strategy: str
    parties: int
    profile: Profile
    trainings: dict[int, int] = field(default_factory=dict)
    sent: dict[int, tuple[Any, float]] = field(default_factory=dict)
    before: dict[int, State] = field(default_factory=dict)
    after: dict[int, State] = field(default_factory=dict)
    bases: dict[int, Any] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)

    def __call__(self, call: Any) -> None:
        number = id(call.worker)
        if call.method == "train_step":
            if call.done:
                arrays, samples = call.result
                self.sent[number] = (arrays, float(samples))
            else:
                self.trainings[number] = self.trainings.get(number, 0) + 1
        elif call.method == "get_weights" and call.done:
            self.sent[number] = (call.result, 1.0)
        elif call.method in ("set_weights", "apply_weights"):
            if call.method == "apply_weights" and self.strategy in ("fed_stc", "fed_scr"):
                self.bases[number] = call.worker.model_weights
            (self.after if call.done else self.before)[number] = _snapshot(call.worker.model)
            if len(self.after) == self.parties:
                first = call.method == "set_weights"
                exchange = self._exchange(call.worker.model, "" if first else self.strategy, call.arguments[0])
                self.seen.append(see(self.profile, exchange, list(self.after.values())))
                self.before, self.after, self.bases = {}, {}, {}

    def _exchange(self, model: nn.Module, strategy: str, received: Any) -> Exchange:
        before = list(self.before.values())
        weights = [self.sent[number][1] for number in self.before]
        match strategy:
            case "fed_avg_g":
                keys = _parameter_keys(model)
                payload = [_named(keys, self.sent[number][0]) for number in self.before]
                first = {entry.key: entry.alias_of or entry.key for entry in self.profile.entries}
                trained = [
                    {k: state[k] - _RATE * sent[first[k]] if first[k] in sent else state[k] for k in state}
                    for state, sent in zip(before, payload, strict=True)
                ]
                return Exchange(before, payload, weights, trained, offset=before, scale=-_RATE)
            case "fed_avg_u":
                payload = [self._payload(model, self.sent[number][0]) for number in self.before]
                return Exchange(before, payload, weights, before, offset=before)
            case "fed_stc" | "fed_scr":
                # The aggregate is compressed once more on its way back: what is judged is where it lands.
                payload = [self._payload(model, received)] * self.parties
                bases = [self._payload(model, self.bases[number]) for number in self.before]
                trained = [
                    {key: base[key] + sent[key] if key in sent else state[key] for key in state}
                    for state, base, sent in zip(before, bases, payload, strict=True)
                ]
                return Exchange(before, payload, weights, trained, offset=bases)
            case _:
                payload = [self._payload(model, self.sent[number][0]) for number in self.before]
                return Exchange(before, payload, weights, before)

    def _payload(self, model: nn.Module, arrays: Any) -> State:
        """Arrays as sent, by the keys they belong to: all of the state dict, or those that skip_bn lets travel."""
        keys = [entry.key for entry in self.profile.entries]
        items = list(arrays["model_params"] if isinstance(arrays, dict) else arrays)
        if len(items) != len(keys):
            keys = [key for key in keys if not _left_out(model, key)]
        return _named(keys, items)


def _named(keys: Sequence[str], arrays: Iterable[Any]) -> State:
    import numpy as np

    dense = (item.todense() if hasattr(item, "todense") else item for item in arrays)
    return {key: torch.as_tensor(np.asarray(array)) for key, array in zip(keys, dense, strict=True)}


def _left_out(model: nn.Module, key: str) -> bool:
    return isinstance(getattr(model, key.partition(".")[0], None), nn.modules.batchnorm._BatchNorm)


def _parameter_keys(model: nn.Module) -> list[str]:
    """A key for each parameter in the order of ``parameters()``, to which gradients are assigned."""
    keys: dict[int, str] = {}
    for key, tensor in model.state_dict(keep_vars=True).items():
        keys.setdefault(id(tensor), key)
    return [keys[id(parameter)] for parameter in model.parameters()]


def _snapshot(model: nn.Module) -> State:
    return {
        key: tensor.detach().clone() for key, tensor in model.state_dict().items() if isinstance(tensor, torch.Tensor)
    }


def _drifted(seen: Sequence[Seen], states: Sequence[State]) -> bool:
    from bn_audit.exchange.plan import Fate

    if len(seen) < 2:
        return False
    averaged = [key for key in states[0] if all(one.outcomes[key] == {(Fate.AVERAGED, None)} for one in seen[1:])]
    return any(not torch.equal(state[key], states[0][key]) for state in states for key in averaged)


def _aggregator(runtime: Platform, settings: SecretFlowSettings, devices: Sequence[Any]) -> Any:
    if settings.strategy == "fed_gen":
        raise TargetError(
            "fed_gen trains a generator made for one model; SecretFlow's classes are not run with it here"
        )
    factory = getattr(runtime, _AGGREGATORS.get(settings.aggregator or "", ""), None)
    if factory is None:
        usable = ", ".join(name for name, kind in _AGGREGATORS.items() if hasattr(runtime, kind))
        raise TargetError(f"the aggregator {settings.aggregator} does not run in one process; {usable} do")
    return factory(devices[0], list(devices)) if settings.aggregator == "secure" else factory(devices[0])


def _builder(model: nn.Module, profile: Profile, parties: int) -> Any:
    """A function that gives, at each call, the next party's copy of the model."""
    if isinstance(model, torch.jit.ScriptModule):
        raise TargetError("a scripted module keeps its forward; SecretFlow's classes are not run on it")
    states = iter(party_states(profile, parties))

    def build() -> nn.Module:
        try:
            module = copy.deepcopy(model)
            kind = type(module)
            extra = {name: member for name, member in _MEMBERS.items() if not hasattr(module, name)}
            module.__class__ = type(
                kind.__name__, (kind,), {**extra, "forward": _forward, "__module__": kind.__module__}
            )
        except (RuntimeError, TypeError, AttributeError) as error:
            raise TargetError(f"the model cannot be copied for every party: {error}") from error
        with torch.no_grad():
            state = next(states)
            for key, tensor in module.state_dict().items():
                if key in state:
                    tensor.copy_(state[key])
        return module

    return build


# What moon asks of a model.
_MEMBERS: Mapping[str, Any] = {
    "temperature": 0.5,
    "mu": 0.1,
    "cosine_similarity_fn": staticmethod(partial(nn.functional.cosine_similarity, dim=-1)),
}


def _forward(self: nn.Module, x: torch.Tensor, return_all: bool = False) -> Any:
    """Two logits that every trained parameter has a share in. In training, running statistics take a step."""
    if self.training:
        for module in self.modules():
            _track(module, float(x.mean()))
    share = torch.zeros(())
    for parameter in self.parameters():
        if parameter.requires_grad:
            # Of value zero, with a gradient of one size for every element, however many there are.
            size = parameter.abs().float()
            share = share + (size - size.detach()).sum()
    logits = x.float().flatten(1)[:, :2] + share * torch.tensor([0.0, 1.0])
    return (logits, logits, logits) if return_all else logits


@torch.no_grad()
def _track(module: nn.Module, value: float) -> None:
    statistics = [module._buffers.get(name) for name in ("running_mean", "running_var")]
    for buffer in statistics:
        if buffer is not None and buffer.is_floating_point():
            buffer.mul_(0.9).add_(0.1 * abs(value))
    counter = module._buffers.get("num_batches_tracked")
    if counter is not None and any(buffer is not None for buffer in statistics):
        counter.add_(1)


@contextmanager
def quiet() -> Iterator[None]:
    """Without SecretFlow's prints, log lines and NumPy's warnings; the report says what happened."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
