"""What of a model's state travels and what stays with the node, and in which dtypes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bn_audit.federated.dtypes import AVERAGED, INTEGERS, dtype_name
from bn_audit.federated.errors import AggregationError
from bn_audit.federated.state import local_keys

__all__ = ["Array", "Entry", "Form", "Integers", "form_of"]

Array = NDArray[Any]
Integers = Literal["refuse", "local"]

_WIDE = frozenset({torch.float32, torch.float64, torch.complex64, torch.complex128})
"""Travel as they are. Narrower ones travel as float32, which holds them exactly: Flower computes in the dtype that it
is sent, float16 is too narrow for the optimisers of its servers, and NumPy has no bfloat16 and no float8."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry.

    Attributes:
        shape: of the tensor.
        dtype: in the model.
        wire: in a message, or in the node's state.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    wire: np.dtype[Any]

    @property
    def native(self) -> np.dtype[Any]:
        """The model's own dtype, or the one it travels in where NumPy has no such dtype."""
        return np.dtype("float16") if self.dtype is torch.float16 else self.wire

    def array(self, tensor: Tensor) -> Array:
        """A tensor as it travels: a copy, on the CPU."""
        value = tensor.detach().cpu()
        if value.dtype in AVERAGED and value.dtype not in _WIDE:
            value = value.float()
        # torch has no uint16 and the like to convert with; NumPy has.
        return np.array(value.resolve_conj().resolve_neg().numpy(), dtype=self.wire, order="C")

    def tensor(self, array: Array) -> Tensor:
        """What arrived, in the model's dtype."""
        return torch.from_numpy(np.array(array, dtype=self.wire, order="C")).to(self.dtype).reshape(self.shape)

    def problem(self, array: Array) -> str:
        """Why an array cannot be this entry's value; "" if it can."""
        if tuple(array.shape) != self.shape:
            return f"shape {tuple(array.shape)}, but {self.shape} in the model"
        # Servers widen: FedAdam makes float64 of float32. What is of another kind is no such value.
        same = array.dtype.kind == self.wire.kind and (array.dtype.kind in "fc" or array.dtype == self.wire)
        return "" if same else f"{array.dtype}, but {dtype_name(self.dtype)} in the model"


@dataclass(frozen=True, slots=True)
class Form:
    """A model's state, in two parts, each in the order of the state dict.

    Attributes:
        shared: what travels, by key.
        local: what stays: BatchNorm's, by module (:func:`~bn_audit.federated.local_keys`); what is empty; and integers
            that are no BatchNorm's, if they may.
        order: of all keys in the state dict.
    """

    shared: Mapping[str, Entry]
    local: Mapping[str, Entry]
    order: tuple[str, ...]

    def arrays(self, model: nn.Module, part: Mapping[str, Entry]) -> dict[str, Array]:
        """Copies of one part of the model's state."""
        state = model.state_dict()
        return {key: entry.array(state[key]) for key, entry in part.items()}


def form_of(model: nn.Module, integers: Integers = "refuse") -> Form:
    """Take a model's state apart.

    Args:
        model: any module; it may be on the meta device.
        integers: what becomes of integers and bools that are no BatchNorm's, which have no mean: ``refuse`` the model,
            or keep them ``local``.

    Raises:
        AggregationError: it has an entry that can neither travel nor stay, named with what to do.
        ValueError: no such policy.
    """
    if integers not in ("refuse", "local"):
        raise ValueError(f'integers has to be "refuse" or "local", not {integers!r}')
    state = model.state_dict()
    for key, value in state.items():
        _check(key, value)
    local = local_keys(model)
    parts: tuple[dict[str, Entry], dict[str, Entry]] = ({}, {})
    for key, value in state.items():
        stays = key in local or not value.numel()
        if value.dtype in INTEGERS and not stays:
            if integers == "refuse":
                raise AggregationError(
                    f"{dtype_name(value.dtype)} and no BatchNorm's: it has no mean, and Flower would make float64 of "
                    'it. Pass integers="local" to keep such entries with the node',
                    key=key,
                )
            stays = True
        parts[stays][key] = Entry(tuple(value.shape), value.dtype, _wire(value.dtype))
    shared, kept = parts
    if not shared:
        raise AggregationError(f"{type(model).__name__} has nothing but BatchNorm: there is nothing to share")
    return Form(shared, kept, tuple(state))


def _check(key: str, value: Any) -> None:
    problem = ""
    if not isinstance(value, Tensor):
        problem = f"no tensor but {type(value).__name__}; leave it out of the state dict"
    elif nn.parameter.is_lazy(value):
        problem = "not initialised yet; run the model once where it is made"
    elif value.layout != torch.strided:
        problem = f"no dense tensor but {value.layout}, which Flower has no arrays for"
    elif value.dtype not in AVERAGED | INTEGERS:
        problem = f"{dtype_name(value.dtype)}, which has no mean; federate the model before it is quantised"
    if problem:
        raise AggregationError(problem, key=key)


def _wire(dtype: torch.dtype) -> np.dtype[Any]:
    if dtype in AVERAGED and dtype not in _WIDE:
        dtype = torch.float32
    return np.dtype(dtype_name(dtype))
