"""Which module owns an entry of a state dict: what its key says where it is the module's path, else its memory.

Hooks of wrappers take their own part out of every key, and a model may make its state dict in a way of its own, with
names that no module has. The tensors are the modules' all the same.
"""

from __future__ import annotations

import copy
import warnings
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from bn_audit.federated.behaviour import seen_statistics
from bn_audit.federated.errors import AggregationError
from bn_audit.running import is_statistic

__all__ = ["Owned", "attribute_of", "identity", "members", "names_statistics", "owned", "owns_statistics", "state_of"]

_NONE = object()

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
        foreign: the keys of tensors that are no module's own under that name, with the name of the one that they are
            or follow ("layer.weight"); "" if there is none.
        unknown: those of them of which it cannot be told.
    """

    state: Mapping[str, Any]
    modules: Mapping[str, nn.Module]
    owners: Mapping[str, str]
    hidden: frozenset[str]
    renamed: bool
    foreign: Mapping[str, str]
    unknown: frozenset[str]


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
    foreign = [key for key, value in state.items() if isinstance(value, Tensor) and not _is_own(key, names)]
    places = _places(modules) if foreign else {}
    own = {key: places.get(identity(state[key]), "") for key in foreign}
    unknown: frozenset[str] = frozenset()
    below = modules.keys() - {""}
    strange = [key for key, name in own.items() if not name and key.rpartition(".")[0] not in below]
    if strange:
        followed = _followed(module, modules, strange)
        unknown = frozenset(strange if followed is None else ())
        own.update(followed or {})
    owners: dict[str, str] = {}
    for key in state:
        path = own[key].rpartition(".")[0] if own.get(key) else key.rpartition(".")[0]
        owners[key] = path if path in modules else _above(path, modules)
    renamed = bool(hidden) or any(attribute_of(module, key.partition(".")[0], _NONE) is _NONE for key in foreign)
    return Owned(state, modules, owners, hidden, renamed, own, unknown)


def _is_own(key: str, names: Mapping[str, Collection[str]]) -> bool:
    path, _, name = key.rpartition(".")
    return name in names.get(path, ())


def what_it_is(given: object) -> str:
    """In words, for somebody who gave something else than was wanted."""
    if isinstance(given, type):
        return f"the class {given.__name__}: make one"
    if isinstance(given, nn.Module):
        return f"of type {type(given).__name__}: give its state_dict()"
    return f"of type {type(given).__name__}"


def state_of(module: nn.Module) -> Mapping[str, Any]:
    """The state dict, with parameters and buffers themselves rather than what is detached from them.

    A model that overrides ``state_dict`` may know no ``keep_vars``; what it gives without is as good.

    Raises:
        AggregationError: it does not map names to values, or the module was not made as one.
    """
    state: Any
    given: object = module
    if not isinstance(given, nn.Module):
        raise AggregationError(f"a model is wanted, a torch.nn.Module, and this is {what_it_is(given)}")
    if attribute_of(module, "_parameters") is None:
        raise AggregationError(f"the __init__ of {type(module).__name__} does not call that of nn.Module")
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


def attribute_of(module: nn.Module, name: str, default: Any = None) -> Any:
    """An attribute of a module, ``default`` also where the user's own ``__getattr__`` or property raises."""
    try:
        return getattr(module, name, default)
    except Exception:
        return default


def owns_statistics(module: nn.Module) -> bool:
    """Whether a module owns running statistics: by their names (:mod:`bn_audit.running`), or by those which a
    parametrization, ``weight_norm`` or pruning leaves; or because a forward of a copy showed it
    (:mod:`bn_audit.federated.behaviour`)."""
    return names_statistics(module) or bool(seen_statistics(module))


def names_statistics(module: nn.Module) -> bool:
    """Whether a module owns running statistics, by their names."""
    own = [*members(module), *attribute_of(module, "parametrizations", ())]
    return any(is_statistic(name.removesuffix("_g").removesuffix("_orig")) for name in own)


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
    """The first name under which a tensor is registered, by its identity."""
    places: dict[Hashable, str] = {}
    for path, module in modules.items():
        for name, tensor in members(module).items():
            places.setdefault(identity(tensor), f"{path}.{name}" if path else name)
    return places


def _followed(module: nn.Module, shown: Collection[str], keys: Iterable[str]) -> dict[str, str] | None:
    """Which tensor of a module each entry of its state dict is a copy of, by changing them and looking what changes
    with them; "" if it is of none.

    All is done to a copy of the module. None if that cannot be: it holds no values, or cannot be copied.
    """
    if any(_has_no_values(tensor) for part in module.modules() for tensor in members(part).values()):
        return None
    marks: dict[tuple[torch.dtype, float], str] = {}
    used: Counter[torch.dtype] = Counter()
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            twin = copy.deepcopy(module)
            for path, part in twin.named_modules():
                path = path if path in shown else _without_hidden(path)
                for name, tensor in members(part).items():
                    used[tensor.dtype] += 1
                    if not tensor.numel() or not _filled(tensor, used[tensor.dtype]):
                        continue
                    mark = (tensor.dtype, float(tensor.reshape(-1)[0]))
                    # Where a dtype has not as many numbers, it cannot be told which it is.
                    marks[mark] = "" if mark in marks else f"{path}.{name}" if path else name
            state = state_of(twin)
            return {key: _marked(state.get(key), marks) for key in keys}
    except Exception:  # what is run is the user's
        return None


def _filled(tensor: Tensor, number: int) -> bool:
    try:
        tensor.fill_(number)
    except RuntimeError:  # too large for its dtype, or memory that many elements share
        return False
    return True


def _has_no_values(tensor: Tensor) -> bool:
    return nn.parameter.is_lazy(tensor) or tensor.is_meta or isinstance(tensor, FakeTensor)


def _marked(value: Any, marks: Mapping[tuple[torch.dtype, float], str]) -> str:
    if not isinstance(value, Tensor) or not value.numel():
        return ""
    first = value.reshape(-1)[0]
    return marks.get((value.dtype, float(first)), "") if bool((value == first).all()) else ""


def _as_in_state(keys: Iterable[str], modules: dict[str, nn.Module]) -> tuple[dict[str, nn.Module], frozenset[str]]:
    """Modules by their paths as the keys of the state dict show them, of a wrapper and what it hides the latter; and
    where wrappers are."""
    shown = {path: _without_hidden(path) for path in modules}
    if all(path == own for path, own in shown.items()) or any(
        part in _HIDDEN for key in keys for part in key.split(".")
    ):
        return modules, frozenset()
    hidden = frozenset(own for path, own in shown.items() if path.rpartition(".")[2] in _HIDDEN)
    return {shown[path]: module for path, module in modules.items()}, hidden


def _without_hidden(path: str) -> str:
    return ".".join(part for part in path.split(".") if part not in _HIDDEN)


def _above(path: str, modules: Mapping[str, nn.Module]) -> str:
    """The path of the nearest module above; the path itself if there is none but the root."""
    above = path
    while above and above not in modules:
        above = above.rpartition(".")[0]
    return above or path
