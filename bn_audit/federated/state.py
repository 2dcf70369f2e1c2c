"""Which entries of a model's state FedBN keeps with the party, and how to take the two parts apart and together.

Decided by module where there is one: every entry of a ``torch.nn.modules.batchnorm._BatchNorm``, with running
statistics or without, and of whatever lies below it (parametrizations, an activation), unless it is the whole model;
and the own entries of any other module with running statistics, by their names (:mod:`bn_audit.running`:
``running_mean``, ``moving_variance``; InstanceNorm, frozen BatchNorm, EvoNorm, a BatchNorm of one's own) or by what a
copy does in a forward (:mod:`bn_audit.federated.behaviour`), with what parametrizes them. A bare state dict shows its
keys only: there it is the entries beside running statistics. Never by what a key happens to contain: 'bn' is in
'subnet' and not in torchvision's 'downsample.1'.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.modules import batchnorm

from bn_audit.federated.dtypes import AVERAGED, dtype_name
from bn_audit.federated.errors import AggregationError
from bn_audit.federated.owners import owned, owns_statistics, what_it_is
from bn_audit.running import is_statistic

__all__ = [
    "load_entries",
    "load_shared",
    "local_keys",
    "merge_state",
    "split_state",
    "tensor_identity",
    "tied_groups",
]

_SCRIPTED_NAMES = frozenset(
    name for name in batchnorm.__all__ if issubclass(getattr(batchnorm, name), batchnorm._BatchNorm)
)
"""What a script module, which is of no such class any more, gives as its original name."""


def local_keys(model: nn.Module | Mapping[str, Any]) -> frozenset[str]:
    """The keys of the entries that stay with the party.

    Args:
        model: a module; or a state dict, whose BatchNorms without running statistics cannot be told and are not local.

    Returns:
        Keys of ``model.state_dict()``, or of the mapping. A key that is another name of a local tensor is local too.

    Raises:
        AggregationError: the module has norm layers, and a state dict of copies under names of its own that cannot be
            followed, as on the meta device.
    """
    if isinstance(model, nn.Module):
        found = owned(model)
        state, owners = found.state, found.owners
        whole = {path for path, module in found.modules.items() if _is_batchnorm(module)}
        own = {path for path, module in found.modules.items() if owns_statistics(module)}
        if found.unknown and (whole or own):
            message = (
                "the name of no tensor of the model, and of which it is a copy cannot be tried: give the local keys, "
                "or a model with values that can be copied"
            )
            raise AggregationError(message, key=min(found.unknown))
    else:
        given: object = model
        if not isinstance(given, Mapping):
            raise AggregationError(f"a model or a state dict is wanted, and this is {what_it_is(given)}")
        state = dict(model)
        owners = {key: key.rpartition(".")[0] for key in state}
        whole = set()
        own = {owners[key] for key in state if is_statistic(key.rpartition(".")[2])}
    local = {key for key, owner in owners.items() if _is_local(owner, whole, own)}
    identities = {key: tensor_identity(value) for key, value in state.items()}
    memory = {identities[key] for key in local} - {None}
    return frozenset(key for key in state if key in local or identities[key] in memory)


def _is_batchnorm(module: nn.Module) -> bool:
    if isinstance(module, torch.jit.ScriptModule):
        return getattr(module, "original_name", None) in _SCRIPTED_NAMES
    return isinstance(module, batchnorm._BatchNorm)


def _is_local(owner: str, whole: set[str], own: set[str]) -> bool:
    if owner in own or owner in whole:
        return True
    parts = owner.split(".") if owner else []
    for depth, part in enumerate(parts):
        above = ".".join(parts[:depth])
        # A network is no norm layer as a whole, though its root be one.
        if (above in whole and depth) or (above in own | whole and part == "parametrizations"):
            return True
    return False


def tensor_identity(value: Any) -> tuple[Any, ...] | None:
    """What two names of one tensor have in common; None for an empty tensor, one without memory, or no tensor."""
    if not isinstance(value, Tensor) or nn.parameter.is_lazy(value) or value.is_nested:
        return None
    if value.layout != torch.strided or value.device.type == "meta" or isinstance(value, FakeTensor):
        return None
    if not value.numel():
        return None
    return (value.device, value.data_ptr(), value.dtype, tuple(value.shape), value.stride())


def split_state(model: nn.Module | Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A model's state as ``(shared, local)``, each in its order. The tensors are the model's own, not copies."""
    local = local_keys(model)
    state = model.state_dict() if isinstance(model, nn.Module) else model
    return (
        {key: value for key, value in state.items() if key not in local},
        {key: value for key, value in state.items() if key in local},
    )


def merge_state(state: Mapping[str, Any], shared: Mapping[str, Tensor]) -> dict[str, Any]:
    """A party's state with the entries of ``shared`` in place of its own. No tensor is copied or changed.

    What torch notes in a state dict beside its entries is the party's too.

    Args:
        state: a party's whole state dict; it gives the order, and the entries that ``shared`` lacks.
        shared: what an aggregator returned.

    Raises:
        AggregationError: an entry of ``shared`` has no place in ``state``, or another shape or dtype there.
    """
    for key, value in shared.items():
        if key not in state:
            raise AggregationError("the party's state has no such entry", key=key)
        own = state[key]
        if not isinstance(own, Tensor):
            raise AggregationError(f"the party's entry is no tensor but {type(own).__name__}", key=key)
        if nn.parameter.is_lazy(own):
            raise AggregationError("the party's entry is not initialised yet", key=key)
        if own.shape != value.shape:
            raise AggregationError(f"shape {tuple(value.shape)}, but {tuple(own.shape)} in the party's state", key=key)
        if own.dtype != value.dtype:
            raise AggregationError(
                f"{dtype_name(value.dtype)}, but {dtype_name(own.dtype)} in the party's state", key=key
            )
    merged: OrderedDict[str, Any] = OrderedDict((key, shared.get(key, value)) for key, value in state.items())
    if hasattr(state, "_metadata"):
        # The modules' versions. Of a state without them torch's norm layers think that it is of old, and modules of
        # quantised models that it is of none.
        merged._metadata = state._metadata  # type: ignore[attr-defined]
    return merged


def load_shared(model: nn.Module, shared: Mapping[str, Tensor]) -> None:
    """Load what an aggregator returned; what FedBN keeps local is not touched.

    Everything is checked before the first entry changes, and should the load itself fail, the entries already loaded
    are put back. Needs memory for one copy of what is loaded.

    Raises:
        AggregationError: an entry of ``shared`` is local to the party, has no place in the model, or another shape or
            dtype there; a floating or complex entry of the model's shared state is missing; the model is on the meta
            device.
        Exception: what ``load_state_dict`` raised.
    """
    state = model.state_dict()
    local = local_keys(model)
    merge_state(state, shared)
    for key, value in state.items():
        if key in shared and key in local:
            raise AggregationError("stays with the party, and is not loaded", key=key)
        if key not in shared and key not in local and isinstance(value, Tensor) and value.dtype in AVERAGED:
            raise AggregationError("missing: the model's shared state has this entry", key=key)
    load_entries(model, shared)


def load_entries(model: nn.Module, entries: Mapping[str, Tensor]) -> None:
    """Load some entries of a model's state, local ones too if they are among them: all of them, or none.

    Raises:
        AggregationError: an entry has no place in the model, or another shape or dtype there; the model is on the meta
            device.
        Exception: what ``load_state_dict`` raised.
    """
    state = model.state_dict()
    merged = merge_state(state, entries)
    for key in entries:
        if state[key].device.type == "meta":
            raise AggregationError("the model is on the meta device and holds no values", key=key)
    before = {key: state[key].clone() for key in entries}
    try:
        model.load_state_dict(merged)
    except Exception:
        with torch.no_grad():
            for key, value in before.items():
                if not torch.equal(state[key], value):
                    state[key].copy_(value)
        raise


def tied_groups(state: Mapping[str, Any], keys: Iterable[str]) -> Iterator[list[str]]:
    """The keys in order, those of one tensor together."""
    groups: dict[object, list[str]] = {}
    for key in keys:
        groups.setdefault(tensor_identity(state[key]) or key, []).append(key)
    yield from groups.values()
