"""Run a real ``fit`` and say what became of every state entry.

The fates are read off the tensors: the parties begin with different states, so that a value tells whose it is. For each
exchange the state of every party before and after it is laid beside the arrays the aggregator really handed out.
"""

from __future__ import annotations

import contextlib
import copy
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from bn_audit.exchange.plan import Fate
from bn_audit.live.secretflow_runtime import PYU, Call, FedNdarray, PYUObject, Runtime, observing
from tests.secretflow.models import Model, party_builder

__all__ = ["RATE", "Measured", "make_aggregator", "make_generator", "measure"]

Outcome = tuple["Fate | None", "str | None"]
"""What an exchange did to an entry: averaged, misplaced and whose, or None: each party kept its own."""

State = Mapping[str, torch.Tensor]
_STEPS, _EPOCHS = 2, 2
_SIZES = (8, 12, 4)
RATE = 0.01
"""Of the SGD with which the parties train."""
_TOLERANCE = 2e-3
"""Far above float16's and the fixed point's error, far below what distinguishes two entries."""


@dataclass(frozen=True)
class Measured:
    """What a run did.

    Attributes:
        error: exception type, text, and how often the failing party had begun to train; None if ``fit`` returned.
        exchanges: for each exchange that all parties went through, what it may have done to each entry. More than one
            outcome remains only where equal values do not tell them apart; none if the value is nobody's.
        drifted: whether the parties end up with different values of an entry that was averaged in every round.
        states: the parties' at the end.
    """

    error: tuple[str, str, int] | None
    exchanges: tuple[Mapping[str, frozenset[Outcome]], ...]
    drifted: bool
    states: tuple[State, ...]


@dataclass
class _Watch:
    """Takes down the parties' states around every exchange."""

    strategy: str
    skip_bn: bool
    parties: int
    trained: dict[int, int] = field(default_factory=dict)
    before: dict[int, State] = field(default_factory=dict)
    after: dict[int, State] = field(default_factory=dict)
    bases: dict[int, Any] = field(default_factory=dict)
    exchanges: list[Mapping[str, frozenset[Outcome]]] = field(default_factory=list)

    def __call__(self, call: Call) -> None:
        number = id(call.worker)
        if call.method == "train_step" and not call.done:
            self.trained[number] = self.trained.get(number, 0) + 1
        if call.method not in ("set_weights", "apply_weights"):
            return
        (self.after if call.done else self.before)[number] = _snapshot(call.worker.model)
        if call.method == "apply_weights" and self.strategy in ("fed_stc", "fed_scr"):
            # They put the state before training back, and take it for the base of the update.
            self.bases[number] = call.worker.model_weights
        if call.done and len(self.after) == self.parties:
            self.exchanges.append(self._judge(call))
            self.before, self.after, self.bases = {}, {}, {}

    def _judge(self, call: Call) -> Mapping[str, frozenset[Outcome]]:
        model: nn.Module = call.worker.model
        befores, afters = list(self.before.values()), list(self.after.values())
        arrays = _arrays(call.arguments[0])
        if call.method == "apply_weights" and self.strategy == "fed_avg_g":
            return _judge_gradients(model, befores, afters, arrays)
        sent = [key for key in befores[0] if not (self.skip_bn and _left_out(model, key))]
        if len(arrays) == len(befores[0]):
            sent = list(befores[0])  # As before 1.7, after the first exchange.
        candidates: list[list[tuple[str, Any]]] = []
        for number, before in self.before.items():
            base = self.bases.get(number)
            if call.method == "apply_weights" and self.strategy == "fed_avg_u":
                base = [before[key].numpy() for key in sent]
            values = arrays if base is None else [np.add(a, b) for a, b in zip(base, arrays, strict=True)]
            candidates.append(list(zip(sent, values, strict=True)))
        groups = _groups(model)
        return {
            key: frozenset(
                _outcomes(
                    key, [(b[key], a[key], c) for b, a, c in zip(befores, afters, candidates, strict=True)], groups
                )
            )
            for key in befores[0]
        }


def measure(
    runtime: Runtime,
    model: Model,
    strategy: str,
    aggregator: str,
    skip_bn: bool,
    server: bool = True,
    beside: Callable[[Call], None] | None = None,
) -> Measured:
    """Train a model in the real FLModel for two epochs of two rounds, on random data, with one thread.

    Args:
        aggregator: ``plain``, ``secure``, ``sparse`` or ``fedgen``.
        server: whether FLModel is given one.
        beside: another observer of the same run.
    """
    torch.manual_seed(7)
    parties = [PYU(name) for name in ("alice", "bob", "carol")[: model.parties]]
    kwargs: dict[str, Any] = {}
    if strategy == "fed_gen":
        kwargs["generator"] = make_generator(runtime, model.latent or 2)
    builder = party_builder(model)
    optimizer = partial(torch.optim.SGD, lr=RATE)
    federated = runtime.FLModel(
        server=parties[0] if server else None,
        device_list=parties,
        model=runtime.TorchModel(model_fn=builder, loss_fn=nn.CrossEntropyLoss, optim_fn=optimizer),
        aggregator=make_aggregator(runtime, aggregator, parties, kwargs.get("generator")),
        strategy=strategy,
        backend="torch",
        skip_bn=skip_bn,
        **kwargs,
    )
    rng = np.random.default_rng(3)
    x = {party: rng.random((size, 1, 4, 4)) for party, size in zip(parties, _SIZES, strict=False)}
    y = {party: np.eye(2)[rng.integers(0, 2, len(data))] for party, data in x.items()}
    watch = _Watch(strategy, skip_bn, len(parties))
    error = None
    also = contextlib.nullcontext() if beside is None else observing(beside)
    with observing(watch), also, contextlib.redirect_stdout(io.StringIO()):
        try:
            federated.fit(_federated(x), _federated(y), batch_sampling_rate=1 / _STEPS, epochs=_EPOCHS, verbose=0)
        except Exception as raised:
            error = (type(raised).__name__, str(raised), max(watch.trained.values(), default=0))
    states = [_snapshot(worker.data.model) for worker in federated._workers.values()]
    averaged = {
        key for exchange in watch.exchanges[1:] for key, found in exchange.items() if found == {(Fate.AVERAGED, None)}
    }
    drifted = any(not torch.equal(state[key], states[0][key]) for state in states for key in averaged)
    return Measured(error, tuple(watch.exchanges), drifted, tuple(states))


def _federated(data: Mapping[PYU, np.ndarray[Any, Any]]) -> FedNdarray:
    return FedNdarray({party: PYUObject(party, array) for party, array in data.items()})


@cache
def _secure(factory: Callable[..., Any], parties: tuple[PYU, ...]) -> Any:
    """An aggregator whose parties have agreed on keys, to be copied: a failed run leaves their masks out of step."""
    return factory(parties[0], list(parties))


def make_aggregator(runtime: Runtime, name: str, parties: list[PYU], generator: Any) -> Any:
    if name == "secure":
        return copy.deepcopy(_secure(runtime.SecureAggregator, tuple(parties)))
    if name == "fedgen":
        actor = runtime.FedGenActor(device=parties[0], generator=generator)
        return runtime.StatefulFedGenAggregator(parties[0], parties, actor)
    return {"plain": runtime.PlainAggregator, "sparse": runtime.SparsePlainAggregator}[name](parties[0])


def make_generator(runtime: Runtime, latent: int) -> Any:
    return runtime.FedGenGeneratorModel(
        hidden_dimension=4,
        latent_dimension=latent,
        noise_dim=3,
        num_classes=2,
        loss_fn=nn.CrossEntropyLoss,
        optim_fn=partial(torch.optim.SGD, lr=0.01),
        diversity_loss=lambda noise, output: output.var(),
        epochs=1,
        batch_size=4,
    )


def _snapshot(model: nn.Module) -> State:
    return {key: tensor.clone() for key, tensor in model.state_dict().items()}


def _left_out(model: nn.Module, key: str) -> bool:
    return isinstance(getattr(model, key.partition(".")[0]), _BatchNorm)


def _groups(model: nn.Module) -> dict[str, int]:
    return {key: id(tensor) for key, tensor in model.state_dict(keep_vars=True).items()}


def _arrays(argument: Any) -> list[Any]:
    """The arrays an aggregator handed out: dense, in the order they were sent."""
    items: Iterable[Any] = argument["model_params"] if isinstance(argument, dict) else argument
    return [item.todense() if hasattr(item, "todense") else item for item in items]


def _outcomes(
    key: str, parties: Sequence[tuple[torch.Tensor, torch.Tensor, list[tuple[str, Any]]]], groups: Mapping[str, int]
) -> Iterable[Outcome]:
    """Whose value an entry holds after an exchange, in every party."""
    if all(torch.equal(before, after) for before, after, _ in parties):
        yield None, None
    for number, (source, _) in enumerate(parties[0][2]):
        if all(_holds(after, candidates[number][1]) for _, after, candidates in parties):
            same = groups[source] == groups[key]
            yield (Fate.AVERAGED, None) if same else (Fate.MISPLACED, source)


def _holds(tensor: torch.Tensor, array: Any) -> bool:
    """Whether a tensor is an array, as ``load_state_dict`` would copy it."""
    value = torch.as_tensor(np.asarray(array, dtype=np.float64))
    if tensor.dim() == 0 and value.dim() == 1 and len(value):
        value = value[0]
    return tensor.shape == value.shape and _close(tensor, value.to(torch.float32).to(tensor.dtype))


def _close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return torch.allclose(a.double(), b.double(), rtol=_TOLERANCE, atol=_TOLERANCE)


def _judge_gradients(
    model: nn.Module, befores: Sequence[State], afters: Sequence[State], gradients: Sequence[Any]
) -> Mapping[str, frozenset[Outcome]]:
    """fed_avg_g: whose averaged gradient each parameter took a step along, with SGD."""
    steps = {id(parameter): gradient for parameter, gradient in zip(model.parameters(), gradients, strict=False)}
    tensors = model.state_dict(keep_vars=True)
    found: dict[str, frozenset[Outcome]] = {}
    for key, tensor in tensors.items():
        outcomes: set[Outcome] = set()
        if all(torch.equal(before[key], after[key]) for before, after in zip(befores, afters, strict=True)):
            outcomes.add((None, None))
        step = steps.get(id(tensor))
        if step is not None and all(
            _holds(after[key], before[key].numpy() - RATE * np.asarray(step))
            for before, after in zip(befores, afters, strict=True)
        ):
            outcomes.add((Fate.AVERAGED, None))
        found[key] = frozenset(outcomes)
    return found
