"""Which module owns an entry of a state dict: what its key says where it is the module's path, else its memory.

Hooks of wrappers take their own part out of every key, and a model may make its state dict in a way of its own, with
names that no module has. The tensors are the modules' all the same.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from bn_audit.federated.errors import AggregationError

__all__ = ["STATISTICS", "Owned", "identity", "members", "owned", "owns_statistics", "state_of"]

STATISTICS = ("running_mean", "running_var")
"""The names of running statistics; what owns one of them is a norm layer."""

# Wrappers whose hooks take their own part out of every key of the state dict, though named_modules() shows it.
_HIDDEN = frozenset({"_checkpoint_wrapped_module", "_fsdp_wrapped_module"})


@dataclass(frozen=True, slots=True)
class Owned:
    """A module's state dict, and its owners.

    Attributes:
        state: the state dict, parameters and buffers themselves where the module lets them be had.
        modules: the modules by their paths as keys show them, a module registered twice once for each.
        owners: by key, the path of the module that owns the entry.
        hidden: paths at which a wrapper stands that keys do not show; ``modules`` has what it wraps.
        renamed: whether keys are other than torch itself makes them: some begin with no attribute of the module, or
            wrappers are hidden from them.
    """

    state: Mapping[str, Any]
    modules: Mapping[str, nn.Module]
    owners: Mapping[str, str]
    hidden: frozenset[str]
    renamed: bool


def owned(module: nn.Module) -> Owned:
    """A module's state dict, and the owner of each entry.

    Raises:
        AggregationError: its state dict does not map names to values.
        RecursionError: a module contains itself.
    """
    state = state_of(module)
    named = dict(module.named_modules(remove_duplicate=False))
    modules, hidden = _as_in_state(state, named)
    names = {path: members(part).keys() for path, part in modules.items()}
    places: dict[Hashable, str] | None = None
    owners: dict[str, str] = {}
    renamed = bool(hidden)
    for key, value in state.items():
        path, _, name = key.rpartition(".")
        if name not in names.get(path, ()) and isinstance(value, Tensor):
            places = _places(modules) if places is None else places
            path = places.get(identity(value), path)
            renamed = renamed or not hasattr(module, key.partition(".")[0])
        owners[key] = path if path in modules else _above(path, modules)
    return Owned(state, modules, owners, hidden, renamed)


def state_of(module: nn.Module) -> Mapping[str, Any]:
    """The state dict, with parameters and buffers themselves rather than what is detached from them.

    A model that overrides ``state_dict`` may know no ``keep_vars``; what it gives without is as good.

    Raises:
        AggregationError: it does not map names to values.
    """
    state: Any
    try:
        state = module.state_dict(keep_vars=True)
    except TypeError:
        state = module.state_dict()
    if not isinstance(state, Mapping) or not all(isinstance(key, str) for key in state):
        raise AggregationError(f"the state dict of {type(module).__name__} does not map names to values")
    return state


def members(module: nn.Module) -> dict[str, Tensor]:
    """A module's own parameters and buffers by name."""
    own: dict[str, Tensor] = dict(module.named_buffers(recurse=False))
    own.update(module.named_parameters(recurse=False))
    return own


def owns_statistics(module: nn.Module) -> bool:
    """Whether a module owns running statistics, under their own name or that which a parametrization, ``weight_norm``
    or pruning leaves."""
    own = members(module)
    parametrized = getattr(module, "parametrizations", {})
    return any(
        name in parametrized or any(f"{name}{suffix}" in own for suffix in ("", "_g", "_orig")) for name in STATISTICS
    )


def identity(tensor: Tensor) -> Hashable:
    """Equal for two tensors that are alive at once if they are the same memory, seen the same way."""
    if not nn.parameter.is_lazy(tensor):
        try:
            if tensor.numel():
                storage = tensor.untyped_storage()._cdata
                return (storage, tensor.storage_offset(), tuple(tensor.shape), tensor.stride(), tensor.dtype)
        except (RuntimeError, NotImplementedError):  # sparse and nested tensors have no single storage
            pass
    return ("object", id(tensor))


def _places(modules: Mapping[str, nn.Module]) -> dict[Hashable, str]:
    """The first path at which a tensor is registered, by its identity."""
    places: dict[Hashable, str] = {}
    for path, module in modules.items():
        for tensor in members(module).values():
            places.setdefault(identity(tensor), path)
    return places


def _as_in_state(keys: Iterable[str], modules: dict[str, nn.Module]) -> tuple[dict[str, nn.Module], frozenset[str]]:
    """Modules by their paths as the keys of the state dict show them, of a wrapper and what it hides the latter; and
    where wrappers are."""
    shown = {path: ".".join(part for part in path.split(".") if part not in _HIDDEN) for path in modules}
    if all(path == own for path, own in shown.items()) or any(
        part in _HIDDEN for key in keys for part in key.split(".")
    ):
        return modules, frozenset()
    hidden = frozenset(own for path, own in shown.items() if path.rpartition(".")[2] in _HIDDEN)
    return {shown[path]: module for path, module in modules.items()}, hidden


def _above(path: str, modules: Mapping[str, nn.Module]) -> str:
    """The path of the nearest module above; the path itself if there is none but the root."""
    above = path
    while above and above not in modules:
        above = above.rpartition(".")[0]
    return above or path
