"""SecretFlow's own classes, run on a model in one process, whether they come from a wheel or are installed.

FLModel, its strategies and its aggregators are SecretFlow's, unmodified. Where they come from, and what places data on
devices, is a :class:`Platform`: :mod:`bn_audit.live.wheel` and :mod:`bn_audit.live.installed` give one. Errors surface
where they are raised, as in SecretFlow's debug mode; under Ray those of a load are never awaited.

What the parties train is a stand-in for the model, :mod:`bn_audit.live.stand_in`.
"""

from __future__ import annotations

import contextlib
import io
import logging
import random
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from bn_audit.exchange.secretflow import SecretFlowSettings
from bn_audit.federated.secretflow import LocalBatchNorm, shared_keys, wrapping_of
from bn_audit.live.errors import TargetError, require_torch
from bn_audit.live.execute import Exchange, Rounding, State
from bn_audit.live.rounds import weighted
from bn_audit.live.secretflow_aggregation import aggregation
from bn_audit.live.stand_in import builder
from bn_audit.live.verify import Run, Seen, see
from bn_audit.profile import Profile
from bn_audit.verification import Stop
from bn_audit.wrapping import Wrapping

require_torch()

import torch  # noqa: E402
from torch import nn  # noqa: E402

__all__ = ["Platform", "Watch", "party_names", "quiet", "run_classes"]

_RATE = 0.05
_STEPS = 2
"""Rounds in an epoch: some errors only show when a second training follows within it."""


class Platform(Protocol):
    """Where SecretFlow's classes come from and its parties are.

    Beside what is named here it has PlainAggregator, SecureAggregator, SparsePlainAggregator, StatefulFedGenAggregator,
    FedGenActor and FedGenGeneratorModel, unless the release has not.
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

    @property
    def number(self) -> Callable[[], int] | None:
        """What tells which party makes its model; None where they do so in this process, one after the other."""

    def ready(self, federated: Any) -> None:
        """Wait for the parties' models."""

    def raised(self, error: Exception) -> Exception:
        """What was raised at a party, of what arrived here."""

    @property
    def failures(self) -> tuple[type[Exception], ...]:
        """What is no error of SecretFlow's, but of its surroundings."""


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
    options, classes = aggregation(runtime, profile, settings, devices)
    make: Callable[[], nn.Module] = builder(model, profile, parties, classes, runtime.number)
    if settings.wrapped is not None:
        make = _wrapped(make, settings.wrapped)
    watch = Watch.of(profile, settings, parties)
    with quiet(), _seeded():
        try:
            federated = runtime.FLModel(
                server=devices[0],
                device_list=devices,
                model=runtime.TorchModel(
                    model_fn=make,
                    loss_fn=nn.CrossEntropyLoss,
                    optim_fn=partial(torch.optim.SGD, lr=_RATE),
                ),
                strategy=settings.strategy,
                backend="torch",
                skip_bn=bool(settings.skip_bn),
                **options,
            )
            runtime.ready(federated)
        except Exception as error:
            if isinstance(error, (TargetError, *runtime.failures)):
                raise
            return Run((), _stop(runtime.raised(error), 0), drifted=False)
        stop = _fit(runtime, federated, devices, watch, rounds, classes)
        states = [_snapshot(runtime.worker(proxy).model) for proxy in federated._workers.values()]
    return watch.run(stop, states)


def _stop(error: Exception, round_: int) -> Stop:
    return Stop(type(error).__name__, str(error), round_)


def _wrapped(make: Callable[[], nn.Module], wrapping: Wrapping) -> Callable[[], nn.Module]:
    """Make a party's model as ``local_batchnorm`` would; what it refuses at once, it refuses when FLModel is made."""

    def refused(error: ValueError) -> Callable[[], nn.Module]:
        def build() -> nn.Module:
            raise error

        return build

    try:
        return LocalBatchNorm(make, strategy=wrapping.strategy, integers=wrapping.integers or "refuse")
    except ValueError as error:
        return refused(error)


def _fit(
    runtime: Platform, federated: Any, devices: Sequence[Any], watch: Watch, rounds: int, classes: int
) -> Stop | None:
    import numpy as np

    rng = np.random.default_rng(3)
    x = {device: rng.random((8 + 4 * number, 4)) for number, device in enumerate(devices)}
    y = {device: np.eye(classes)[rng.integers(0, classes, len(data))] for device, data in x.items()}
    with runtime.observing(federated, watch):
        try:
            federated.fit(
                runtime.federated(x), runtime.federated(y), batch_sampling_rate=1 / _STEPS, epochs=rounds, verbose=0
            )
        except Exception as error:
            if watch.failure is not None:
                raise watch.failure from None
            # Whatever SecretFlow raises is what is asked for.
            return _stop(runtime.raised(error), max(watch.trainings.values(), default=0))
    return None


def party_names(number: int) -> list[str]:
    """What the parties are called."""
    return [*("alice", "bob", "carol", "dave")[:number], *(f"party{n}" for n in range(4, number))]


@dataclass
class Watch:
    """Takes down the parties' states around every load, and what they sent before it."""

    strategy: str
    parties: int
    profile: Profile
    rounding: Rounding
    weighted: bool
    rate: float
    trainings: dict[int, int] = field(default_factory=dict)
    sent: dict[int, tuple[Any, float]] = field(default_factory=dict)
    before: dict[int, State] = field(default_factory=dict)
    after: dict[int, State] = field(default_factory=dict)
    bases: dict[int, Any] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    failure: Exception | None = None
    """What went wrong in taking down, which is none of SecretFlow's."""

    @classmethod
    def of(cls, profile: Profile, settings: SecretFlowSettings, parties: int, rate: float = _RATE) -> Watch:
        """One for a run under some settings; ``rate`` is that of the SGD with which the parties train."""
        return cls(settings.strategy or "", parties, profile, _rounding(settings, parties), weighted(settings), rate)

    def run(self, stop: Stop | None, states: Sequence[State]) -> Run:
        """What was seen, given the error that ended it and the parties' states at the end."""
        return Run(tuple(self.seen), stop, _drifted(self.seen, states))

    def __call__(self, call: Any) -> None:
        try:
            self._take_down(call)
        except Exception as error:
            self.failure = error
            raise

    def _take_down(self, call: Any) -> None:
        number = id(call.worker)
        if call.method == "train_step":
            if call.done:
                arrays, samples = call.result
                self.sent[number] = (arrays, float(samples) if self.weighted else 1.0)
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
                    {k: state[k] - self.rate * sent[first[k]] if first[k] in sent else state[k] for k in state}
                    for state, sent in zip(before, payload, strict=True)
                ]
                return Exchange(before, payload, weights, trained, before, -self.rate, self.rounding)
            case "fed_avg_u":
                payload = [self._payload(model, self.sent[number][0]) for number in self.before]
                return Exchange(before, payload, weights, before, before, rounding=self.rounding)
            case "fed_stc" | "fed_scr":
                # The aggregate is compressed once more on its way back: what is judged is where it lands.
                payload = [self._payload(model, received)] * self.parties
                bases = [self._payload(model, self.bases[number]) for number in self.before]
                trained = [
                    {key: base[key] + sent[key] if key in sent else state[key] for key in state}
                    for state, base, sent in zip(before, bases, payload, strict=True)
                ]
                return Exchange(before, payload, weights, trained, bases, rounding=self.rounding)
            case _:
                payload = [self._payload(model, self.sent[number][0]) for number in self.before]
                return Exchange(before, payload, weights, before, rounding=self.rounding)

    def _payload(self, model: nn.Module, arrays: Any) -> State:
        """Arrays as sent, by the keys they belong to: all of the state dict, or those that skip_bn lets travel."""
        if wrapping_of(model) is not None:
            return self._own_payload(model, arrays)
        keys = [entry.key for entry in self.profile.entries]
        items = list(arrays["model_params"] if isinstance(arrays, dict) else arrays)
        if len(items) != len(keys):
            keys = [key for key in keys if not _left_out(model, key)]
        return _named(keys, items)

    def _own_payload(self, model: nn.Module, arrays: Any) -> State:
        """Of a model that says itself what it sends: in the entries' own shapes, with what is empty and is not sent."""
        items = arrays["model_params"] if isinstance(arrays, dict) else arrays
        state = model.state_dict()
        sent = {key: array.reshape(state[key].shape) for key, array in _named(shared_keys(model), items).items()}
        empty = {key: value for key, value in state.items() if isinstance(value, torch.Tensor) and not value.numel()}
        return {**empty, **sent}


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


def _rounding(settings: SecretFlowSettings, parties: int) -> Rounding:
    """What SecretFlow's arithmetic may round.

    A product and a sum for every party, a division, a return to the dtype that was sent, the float32 of
    ``torch.Tensor(array)``; at the party a scaling, a sum with its own and the entry's dtype. SecureAggregator cuts
    every weighted value to fixed point, of 18 bits behind the point by default. SPU computes in fixed point of 26 bits
    and divides by Goldschmidt's method: a first guess whose relative error is at most 0.0858, squared twice.
    """
    if settings.aggregator == "spu":
        return Rounding(2 * parties + 6, 0.0858**4 / (2 * parties), 2.0**-22)
    grid = 2.0**-18 if settings.aggregator in ("secure", "fedgen") else 0.0
    return Rounding(2 * parties + 6, 2.0**-24, grid)


@contextmanager
def _seeded() -> Iterator[None]:
    """Randomness that is always the same, and leaves nobody else's changed."""
    import numpy as np

    state, numbers = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            random.seed(7)
            np.random.seed(7)
            torch.manual_seed(7)
            yield
    finally:
        random.setstate(state)
        np.random.set_state(numbers)


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
