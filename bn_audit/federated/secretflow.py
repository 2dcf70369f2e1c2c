"""FedBN inside SecretFlow: a model whose BatchNorm stays with its party, whatever its depth and order.

SecretFlow's own ``skip_bn=True`` looks for BatchNorm by the first part of a key and pairs what arrives with keys by
position, which is right for few models. A model made here answers SecretFlow's two questions itself: what of it to send
(``get_weights_not_bn``) and where to put what arrives (``update_weights_not_bn``)::

    model = TorchModel(model_fn=local_batchnorm(Net), loss_fn=..., optim_fn=...)
    FLModel(..., model=model, strategy="fed_avg_w", backend="torch", skip_bn=True)

Nothing of SecretFlow is changed or imported. Under Ray the workers need bn-audit installed, as they need torch.
Run on the classes of secretflow 1.13.0b0; releases from 1.7 on ask the same two questions.
"""

from __future__ import annotations

import copy
import types
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from bn_audit.federated.dtypes import dtype_name
from bn_audit.federated.errors import AggregationError
from bn_audit.federated.state import load_shared, local_keys

__all__ = ["STRATEGIES", "LocalBatchNorm", "local_batchnorm"]

Integers = Literal["refuse", "local"]

STRATEGIES: dict[str, str] = {
    "fed_avg_w": "",
    "fed_stc": "",
    "fed_scr": "",
    "fed_gen": "",
    "fed_avg_g": "it exchanges the gradients of all parameters, BatchNorm's weight and bias among them",
    "fed_avg_u": "it exchanges what a training changed, and the parties' models drift apart whatever they hold",
    "fed_prox": "it pairs what arrives with all parameters of the model",
    "scaffold": "it pairs what is sent with all parameters of the model",
    "moon": "it loads what arrives into a second model, which has no BatchNorm of its own to go with it",
}
"""SecretFlow's strategies for torch, with why one cannot keep BatchNorm with the parties; "" where it can."""
_ALL_PARAMETERS = frozenset({"fed_avg_g", "fed_prox", "scaffold"})
"""These are right all the same for a model of which just its parameters are shared."""


class LocalBatchNorm:
    """A ``model_fn`` for SecretFlow: makes models whose BatchNorm stays with the party.

    Args:
        model_fn: makes the model, an ``nn.Module`` or a ``BaseModule`` of SecretFlow's.
        strategy: the strategy that FLModel is given.
        integers: what becomes of integer and bool entries that are no BatchNorm's: ``refuse`` to make the model, or
            keep them ``local``. They have no mean, and SecretFlow's aggregators stop at them.

    Raises:
        ValueError: no such strategy, or it cannot keep BatchNorm with the parties for any model.
        TypeError: ``model_fn`` cannot be called.
    """

    def __init__(
        self, model_fn: Callable[..., nn.Module], *, strategy: str = "fed_avg_w", integers: Integers = "refuse"
    ) -> None:
        if not callable(model_fn):
            raise TypeError(f"model_fn has to be something that makes a model, not {type(model_fn).__name__}")
        if integers not in ("refuse", "local"):
            raise ValueError(f'integers has to be "refuse" or "local", not {integers!r}')
        reason = STRATEGIES.get(strategy)
        if reason is None:
            raise ValueError(f"no strategy {strategy!r}; known are {', '.join(STRATEGIES)}")
        if reason and strategy not in _ALL_PARAMETERS:
            raise ValueError(_refusal(strategy, reason))
        self.model_fn = model_fn
        self.strategy = strategy
        self.integers = integers

    def __call__(self, *args: Any, **kwargs: Any) -> nn.Module:
        """A new model.

        Raises:
            ValueError: it holds entries that cannot be exchanged, or the strategy cannot keep its BatchNorm local.
        """
        model = self.model_fn(*args, **kwargs)
        if not isinstance(model, nn.Module):
            raise TypeError(f"model_fn gave no module, but {type(model).__name__}")
        state = model.state_dict()
        keys = _shared_keys(model, self.integers)
        complex_keys = [key for key in keys if state[key].is_complex()]
        if complex_keys:
            raise ValueError(f"{complex_keys[0]} is complex: SecretFlow's aggregators take real numbers only")
        if self.strategy in _ALL_PARAMETERS and keys != [name for name, _ in model.named_parameters()]:
            raise ValueError(_refusal(self.strategy, STRATEGIES[self.strategy]))
        _answer(model, self.integers)
        return model


def local_batchnorm(model: Any, *, strategy: str = "fed_avg_w", integers: Integers = "refuse") -> Any:
    """What to give SecretFlow in place of a model, so that ``FLModel(..., skip_bn=True)`` is FedBN.

    Args:
        model: what makes the model, or a ``TorchModel`` of SecretFlow's, which is not changed.
        strategy, integers: see :class:`LocalBatchNorm`.

    Returns:
        A :class:`LocalBatchNorm`; for a TorchModel, one that makes its models so.

    Raises:
        ValueError, TypeError: as :class:`LocalBatchNorm`.
    """
    inner = getattr(model, "model_fn", None)
    if hasattr(model, "build_from_model") and inner is not None:
        other = copy.copy(model)
        other.model_fn = LocalBatchNorm(inner, strategy=strategy, integers=integers)
        return other
    return LocalBatchNorm(model, strategy=strategy, integers=integers)


def _refusal(strategy: str, reason: str) -> str:
    able = ", ".join(name for name, why in STRATEGIES.items() if not why)
    return f"{strategy} cannot keep BatchNorm with the parties: {reason}; {able} can"


def _shared_keys(model: nn.Module, integers: str) -> list[str]:
    """The entries that travel, in the order of the state dict. Of an empty one there is nothing to send."""
    state = model.state_dict()
    lazy = next((key for key, value in state.items() if nn.parameter.is_lazy(value)), None)
    if lazy is not None:
        raise ValueError(f"{lazy} is not initialised yet: run the model once where it is made")
    local = local_keys(model)
    shared = []
    for key, value in state.items():
        if key in local or not value.numel():
            continue
        if value.is_floating_point() or value.is_complex():
            shared.append(key)
        elif integers == "refuse":
            raise ValueError(
                f"{key} is {dtype_name(value.dtype)} and no BatchNorm's: it has no mean. "
                'Pass integers="local" to keep such entries with the party'
            )
    return shared


def _answer(model: nn.Module, integers: str) -> None:
    """Give a model answers of its own. SecretFlow mixes its methods into the class; an object's come first."""
    object.__setattr__(model, "_bn_audit_integers", integers)
    for name, function in (
        ("get_weights_not_bn", _sent),
        ("update_weights_not_bn", _load),
        ("get_weights", _without_skip_bn),
        ("update_weights", _without_skip_bn),
    ):
        object.__setattr__(model, name, types.MethodType(function, model))


def _sent(self: Any, return_numpy: bool = False) -> Any:
    """What leaves the party: of one dtype, since SecretFlow's aggregators take no others together, and no array without
    a dimension, of which NumPy would make a number."""
    state = self.state_dict()
    values = {key: state[key].detach().cpu() for key in _shared_keys(self, self._bn_audit_integers)}
    if not return_numpy:
        return values
    common = _common_dtype(values.values())
    return [np.atleast_1d(value.to(common).numpy().copy()) for value in values.values()]


def _common_dtype(values: Iterable[Tensor]) -> torch.dtype:
    """A dtype that NumPy has and that holds all values exactly."""
    dtypes: set[torch.dtype] = {value.dtype for value in values}
    if len(dtypes) == 1 and dtypes <= {torch.float16, torch.float32, torch.float64}:
        return next(iter(dtypes))
    return torch.float64 if torch.float64 in dtypes else torch.float32


def _load(self: Any, weights: Sequence[Any]) -> None:
    """Put what arrives to where it was sent from; everything is checked before the first entry changes."""
    state = self.state_dict()
    keys = _shared_keys(self, self._bn_audit_integers)
    if len(weights) != len(keys):
        raise AggregationError(f"{len(weights)} arrays arrived for the {len(keys)} entries that are shared")
    shared = {key: own for key, own in state.items() if own.is_floating_point() and not own.numel()}
    for key, array in zip(keys, weights, strict=True):
        own = state[key]
        value = torch.as_tensor(np.array(array))
        if value.shape != (own.shape or (1,)):
            raise AggregationError(f"an array of shape {tuple(value.shape)} arrived for {tuple(own.shape)}", key=key)
        shared[key] = value.reshape(own.shape).to(device=own.device, dtype=own.dtype)
    load_shared(self, shared)


def _without_skip_bn(self: Any, *_: Any, **__: Any) -> Any:
    raise RuntimeError("this model keeps BatchNorm with its party: pass skip_bn=True to FLModel")
