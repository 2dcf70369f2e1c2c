"""FedBN inside SecretFlow: a model whose BatchNorm stays with its party, whatever its depth and order.

SecretFlow's own ``skip_bn=True`` looks for BatchNorm by the first part of a key and pairs what arrives with keys by
position, which is right for few models. A model made here answers SecretFlow's two questions itself: what of it to send
(``get_weights_not_bn``) and where to put what arrives (``update_weights_not_bn``)::

    model = TorchModel(model_fn=local_batchnorm(Net), loss_fn=..., optim_fn=...)
    FLModel(..., model=model, strategy="fed_avg_w", backend="torch", skip_bn=True)

or, where the model is defined::

    @local_batchnorm
    class Net(nn.Module): ...

Nothing of SecretFlow is changed or imported. Under Ray the workers need bn-audit installed, as they need torch.
Run on the classes of SecretFlow 1.7 and 1.9 to 1.13, and on 1.13.0b0 as installed, under Ray and in its debug mode.

What cannot be made right is refused when FLModel makes its workers' models: a strategy that goes another way with
weights, a release that does not heed ``skip_bn`` throughout, an FLModel without it. Under Ray an error of a load is
raised in the party's process and nobody waits for it; a model that refused to load refuses to send from then on, which
FLModel does wait for.
"""

from __future__ import annotations

import copy
import functools
import re
import sys
import types
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bn_audit.exchange.release import release
from bn_audit.exchange.secretflow import local_batchnorm as words
from bn_audit.exchange.secretflow.local_batchnorm import ALL_PARAMETERS, NEEDS_SKIP_BN, SINCE, STRATEGIES, refused
from bn_audit.federated.dtypes import dtype_name
from bn_audit.federated.errors import AggregationError
from bn_audit.federated.owners import attribute_of
from bn_audit.federated.secretflow_monitor import Monitoring, Recorder
from bn_audit.federated.state import local_keys, merge_state
from bn_audit.wrapping import INTEGERS, Integers, Wrapping

__all__ = ["STRATEGIES", "LocalBatchNorm", "Monitoring", "local_batchnorm", "party_here", "shared_keys", "wrapping_of"]


class LocalBatchNorm:
    """A ``model_fn`` for SecretFlow: makes models whose BatchNorm stays with the party.

    Args:
        model_fn: makes the model, an ``nn.Module`` or a ``BaseModule`` of SecretFlow's.
        strategy: the strategy that FLModel is given. One that cannot keep BatchNorm with the parties is refused at
            once; where it is not named, when FLModel makes its workers.
        integers: what becomes of integer and bool entries that are no BatchNorm's: ``refuse`` to make the model, or
            keep them ``local``. They have no mean, and SecretFlow's aggregators stop at them.
        monitor: what the parties shall write down of the rounds; nothing by default.

    Raises:
        ValueError: no such strategy, or it cannot keep BatchNorm with the parties for any model, or not with this
            monitor.
        TypeError: ``model_fn`` cannot be called.
    """

    def __init__(
        self,
        model_fn: Callable[..., nn.Module],
        *,
        strategy: str | None = None,
        integers: Integers = "refuse",
        monitor: Monitoring | None = None,
    ) -> None:
        if not callable(model_fn) or isinstance(model_fn, nn.Module):
            kind = type(model_fn).__name__
            made = f"a {kind} that is made already: every party makes its own" if callable(model_fn) else kind
            raise TypeError(f"model_fn has to be something that makes a model, not {made}")
        if integers not in INTEGERS:
            raise ValueError(f'integers has to be "refuse" or "local", not {integers!r}')
        reason = refused(strategy)
        if reason is not None:
            raise ValueError(reason)
        self.model_fn = model_fn
        self.strategy = strategy
        self.integers: Integers = integers
        self.monitor = monitor
        self._made = 0
        _check_monitor(monitor, strategy)
        functools.update_wrapper(self, model_fn, updated=())

    def __call__(self, *args: Any, **kwargs: Any) -> nn.Module:
        """A new model.

        Raises:
            ValueError: it holds entries that cannot be exchanged; or the strategy, the release or the FLModel for which
                it is made cannot keep its BatchNorm local.
        """
        asked = _asked_by()
        if asked is not None:
            _check(asked)
            _check_monitor(self.monitor, asked.strategy)
        model = self.model_fn(*args, **kwargs)
        if not isinstance(model, nn.Module):
            raise TypeError(f"model_fn gave no module, but {type(model).__name__}")
        shared = _shared(model, self.integers)
        for strategy in (self.strategy, None if asked is None else asked.strategy):
            if strategy in ALL_PARAMETERS and not _just_parameters(model, shared):
                raise ValueError(words.of_strategy(strategy))
        wrapping = Wrapping(self.strategy, self.integers)
        object.__setattr__(model, _ANSWERS, _Answers(wrapping, shared, self._recorder(asked)))
        for name, function in (
            ("get_weights_not_bn", _send),
            ("update_weights_not_bn", _load),
            ("get_weights", _without_skip_bn),
            ("update_weights", _without_skip_bn),
        ):
            # SecretFlow mixes its methods into the class; an object's own come first.
            object.__setattr__(model, name, types.MethodType(function, model))
        return model

    def _recorder(self, asked: _Asked | None) -> Recorder | None:
        """What writes down the rounds of a worker's model; of one that is made elsewhere there are none."""
        if self.monitor is None or asked is None:
            return None
        self._made += 1
        return Recorder(self.monitor, party_here() or f"party {self._made}")

    def __repr__(self) -> str:
        name = getattr(self.model_fn, "__qualname__", None) or repr(self.model_fn)
        return f"local_batchnorm({name})"


def local_batchnorm(
    model: Any = None,
    *,
    strategy: str | None = None,
    integers: Integers = "refuse",
    monitor: Monitoring | None = None,
) -> Any:
    """What to give SecretFlow in place of a model, so that ``FLModel(..., skip_bn=True)`` is FedBN.

    Args:
        model: what makes the model, or a ``TorchModel`` of SecretFlow's, which is not changed. Without it, what is
            returned takes one: ``@local_batchnorm(integers="local")``.
        strategy, integers, monitor: see :class:`LocalBatchNorm`.

    Returns:
        A :class:`LocalBatchNorm`; for a TorchModel, one that makes its models so.

    Raises:
        ValueError, TypeError: as :class:`LocalBatchNorm`.
    """
    if model is None:
        return functools.partial(local_batchnorm, strategy=strategy, integers=integers, monitor=monitor)
    inner = getattr(model, "model_fn", None)
    if hasattr(model, "build_from_model") and inner is not None:
        other = copy.copy(model)
        other.model_fn = LocalBatchNorm(inner, strategy=strategy, integers=integers, monitor=monitor)
        return other
    return LocalBatchNorm(model, strategy=strategy, integers=integers, monitor=monitor)


def wrapping_of(model: nn.Module) -> Wrapping | None:
    """How a model was wrapped that :class:`LocalBatchNorm` made; None of any other."""
    answers = attribute_of(model, _ANSWERS)
    return answers.wrapping if isinstance(answers, _Answers) else None


def shared_keys(model: nn.Module) -> list[str]:
    """The keys of what such a model sends, in the order in which it does.

    Raises:
        TypeError: another model.
    """
    answers = attribute_of(model, _ANSWERS)
    if not isinstance(answers, _Answers):
        raise TypeError("this model was not made by local_batchnorm")
    return list(answers.shared)


_ANSWERS = "_bn_audit_answers"


@dataclass
class _Answers:
    """What a model needs to answer.

    Attributes:
        wrapping: how it was wrapped.
        shared: the shape of each entry that travels, by key, in the order of the state dict; as it was when the model
            was made.
        recorder: writes down the rounds; None if nobody asked.
        refusal: the error with which it last refused to load.
    """

    wrapping: Wrapping
    shared: dict[str, torch.Size]
    recorder: Recorder | None = None
    refusal: AggregationError | None = None


def _shared(model: nn.Module, integers: str) -> dict[str, torch.Size]:
    """The entries that travel. Of an empty one there is nothing to send."""
    state = model.state_dict()
    lazy = next((key for key, value in state.items() if nn.parameter.is_lazy(value)), None)
    if lazy is not None:
        raise ValueError(words.of_lazy(lazy))
    local = local_keys(model)
    shared = {}
    for key, value in state.items():
        if key in local or not isinstance(value, Tensor) or not value.numel():
            continue
        if value.layout != torch.strided or value.is_nested:
            raise ValueError(words.of_other_than_dense(key))
        if value.is_complex():
            raise ValueError(words.of_complex(key))
        if value.is_floating_point():
            shared[key] = value.shape
        elif integers == "refuse":
            raise ValueError(words.of_integers(key, dtype_name(value.dtype)))
    return shared


def _just_parameters(model: nn.Module, shared: dict[str, torch.Size]) -> bool:
    """Whether what is sent are the parameters, all of them, as they are."""
    parameters = dict(model.named_parameters())
    common = _common_dtype(parameters.values())
    local = local_keys(model)
    rest = (value for key, value in model.state_dict().items() if key not in local)
    empty = any(isinstance(value, Tensor) and not value.numel() for value in rest)
    as_they_are = all(value.dtype == common and value.dim() for value in parameters.values())
    return list(shared) == list(parameters) and as_they_are and not empty


# --- who asks for the model -------------------------------------------------------------------------------------------

_STRATEGY = re.compile(r"\.fl\.backend\.torch\.strategy\.(\w+)$")
_WORKER = re.compile(r"\.fl\.backend\.torch\.fl_base$")


@dataclass(frozen=True, slots=True)
class _Asked:
    """A worker of FLModel's that makes its model; what is not known of it is None."""

    strategy: str | None
    skip_bn: bool | None
    version: str | None


def _asked_by() -> _Asked | None:
    """The worker that makes a model just now, if one does.

    SecretFlow tells a ``model_fn`` nothing of whom it works for. Its workers are objects of a strategy's class, which
    lies in a module called as the strategy is, and build their model in ``__init__``; one of a strategy of the user's
    own derives from them.
    """
    frame = sys._getframe(1)
    while frame is not None:
        worker = frame.f_locals.get("self")
        modules = [cls.__module__ for cls in type(worker).__mro__]
        if any(_WORKER.search(module) for module in modules):
            found = next((match for module in modules if (match := _STRATEGY.search(module)) is not None), None)
            skip_bn = getattr(worker, "skip_bn", None)
            base = next(module for module in modules if _WORKER.search(module))
            return _Asked(None if found is None else found[1], skip_bn, _version(base))
        if frame.f_back is None:
            break
        frame = frame.f_back
    return None


def _version(module: str) -> str | None:
    """The release that a module of SecretFlow's belongs to; None of its successor, and where nothing says so."""
    if not module.startswith("secretflow"):
        return None
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is not None:
        beside = Path(file).parents[module.count(".")] / "secretflow" / "version.py"
        text = beside.read_text(encoding="utf-8") if beside.is_file() else ""
        match = re.search(r"^__version__ = [\"'](\d[^\"']*)", text, re.MULTILINE)
        if match is not None:
            return match[1]
    for name in ("secretflow", "secretflow-lite"):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def _check(asked: _Asked) -> None:
    """Raise what is wrong with a worker, whatever the model."""
    known = None if asked.version is None else release(asked.version)
    if asked.version is not None and known is not None and known < SINCE:
        raise ValueError(words.of_release(asked.version))
    if asked.skip_bn is False:
        raise ValueError(NEEDS_SKIP_BN)
    reason = refused(asked.strategy) if asked.strategy in STRATEGIES else None
    if reason is not None:
        raise ValueError(reason)


def _check_monitor(monitor: Monitoring | None, strategy: str | None) -> None:
    if monitor is not None and monitor.mean and strategy not in (None, "fed_avg_w"):
        raise ValueError(f"{strategy} hands out no mean of statistics: the monitor has one with fed_avg_w alone")


# --- what a model answers ---------------------------------------------------------------------------------------------


def _send(self: Any, return_numpy: bool = False) -> Any:
    """What leaves the party: of one dtype, since SecretFlow's aggregators take no others together, and no array without
    a dimension, of which NumPy would make a number."""
    answers: _Answers = getattr(self, _ANSWERS)
    if answers.refusal is not None:
        raise AggregationError(f"what arrived before was not loaded: {answers.refusal}", party=party_here())
    state = _as_it_was(self, answers)
    values = {key: state[key].detach() for key in answers.shared}
    if not return_numpy:
        return {key: value.cpu() for key, value in values.items()}
    common = _common_dtype(values.values())
    if answers.recorder is not None and answers.recorder.mean and common == torch.float16:
        common = torch.float32  # a variance is soon too large for half precision
    own = [_array(value, common) for value in values.values()]
    if answers.recorder is None:
        return own
    return [*answers.recorder.sent(self, np.dtype(str(common).removeprefix("torch."))), *own]


def _array(value: Tensor, dtype: torch.dtype) -> Any:
    """A copy that shares no memory with the model."""
    return np.atleast_1d(value.to(device="cpu", dtype=dtype, copy=True).numpy())


def _common_dtype(values: Iterable[Tensor]) -> torch.dtype:
    """A dtype that NumPy has and that holds all values exactly."""
    dtypes: set[torch.dtype] = {value.dtype for value in values}
    if len(dtypes) == 1 and dtypes <= {torch.float16, torch.float32, torch.float64}:
        return next(iter(dtypes))
    return torch.float64 if torch.float64 in dtypes else torch.float32


def _load(self: Any, weights: Sequence[Any]) -> None:
    """Put what arrives to where it was sent from; everything is checked before the first entry changes."""
    answers: _Answers = getattr(self, _ANSWERS)
    means: Sequence[Any] = ()
    try:
        state = _as_it_was(self, answers)
        if answers.recorder is not None:
            means, weights = answers.recorder.arrived(self, weights)
        arrived = _arrived(weights, answers.shared, state)
    except AggregationError as error:
        answers.refusal = error
        raise
    _put(self, state, arrived)
    if answers.recorder is not None:
        answers.recorder.record(self, means)


def _arrived(weights: Sequence[Any], shared: dict[str, torch.Size], state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The arrays as tensors, by key."""
    for (key, shape), array in zip(shared.items(), weights, strict=False):
        if np.shape(array) != tuple(shape or (1,)):
            raise AggregationError(
                f"an array of shape {tuple(np.shape(array))} arrived for {tuple(shape)}: the parties' models differ, "
                "or the aggregator hands out something else than means; every party has to make the same model",
                party=party_here(),
                key=key,
            )
    if len(weights) != len(shared):
        missing = list(shared)[len(weights)] if len(weights) < len(shared) else None
        raise AggregationError(
            f"{len(weights)} arrays arrived for the {len(shared)} entries that are shared: the parties' models differ, "
            "or the server sends something else than it was sent; every party has to make the same model",
            party=party_here(),
            key=missing,
        )
    with warnings.catch_warnings():
        # Of arrays that may not be written to, as Ray's: nothing writes to them.
        warnings.simplefilter("ignore", UserWarning)
        tensors = [torch.as_tensor(np.asarray(array)) for array in weights]
    return {
        key: tensor.reshape(state[key].shape).to(device=state[key].device, dtype=state[key].dtype)
        for key, tensor in zip(shared, tensors, strict=True)
    }


def _as_it_was(model: nn.Module, answers: _Answers) -> dict[str, Tensor]:
    """The model's state, with the entries of which the parties were told."""
    state: dict[str, Tensor] = model.state_dict()
    for key, shape in answers.shared.items():
        if key not in state:
            raise AggregationError(
                "the model had this entry when it was made, and has it no more: what adds or removes layers belongs "
                "into model_fn",
                party=party_here(),
                key=key,
            )
        if state[key].shape != shape:
            raise AggregationError(
                f"of shape {tuple(state[key].shape)}, and of {tuple(shape)} when the model was made: what changes "
                "layers belongs into model_fn",
                party=party_here(),
                key=key,
            )
    return state


def _put(model: nn.Module, state: dict[str, Tensor], arrived: dict[str, Tensor]) -> None:
    """Load all of it or nothing.

    Parameters and buffers of the same shape, dtype and device take it in place, where nothing can fail; a model that
    makes or loads its state in a way of its own is loaded as it wants, and what it held is put back should it raise.
    """
    own: dict[str, Tensor] = {**dict(model.named_parameters(remove_duplicate=False))}
    own.update(model.named_buffers(remove_duplicate=False))
    usual = type(model).load_state_dict is nn.Module.load_state_dict and "load_state_dict" not in vars(model)
    if usual and all(key in own and own[key].data_ptr() == state[key].data_ptr() for key in arrived):
        with torch.no_grad():
            for key, value in arrived.items():
                state[key].copy_(value)
        return
    before = {key: state[key].clone() for key in arrived}
    try:
        model.load_state_dict(merge_state(state, arrived))
    except Exception:
        with torch.no_grad():
            for key, value in before.items():
                state[key].copy_(value)
        raise


def party_here() -> str | None:
    """The party in whose process this runs, where Ray knows: SecretFlow gives a worker a resource called as it is."""
    ray = sys.modules.get("ray")
    try:
        if ray is None or not ray.is_initialized():
            return None
        resources = ray.get_runtime_context().get_assigned_resources()
    except Exception:
        # Whatever Ray may raise about itself; an error about something else is being told.
        return None
    own = [name for name in resources if name not in ("CPU", "GPU", "memory", "object_store_memory")]
    return own[0] if len(own) == 1 else None


def _without_skip_bn(self: Any, *_: Any, **__: Any) -> Any:
    raise RuntimeError(NEEDS_SKIP_BN)
