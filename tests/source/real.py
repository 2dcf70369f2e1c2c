"""Live torch modules in the words of the templates, for tests that compare the two."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.parameter import is_lazy

from bn_audit.profile import Shape
from bn_audit.source.state import ModuleState, NormTraits, Slot


def state_of(module: nn.Module) -> ModuleState:
    """The template a live module should have; uninitialised entries have no shape."""
    slots = [
        Slot(name, None if is_lazy(tensor) else tuple(tensor.shape), str(tensor.dtype)[6:], "parameter")
        for name, tensor in module._parameters.items()
        if tensor is not None
    ]
    for name, tensor in module._buffers.items():
        if tensor is not None and name not in module._non_persistent_buffers_set:
            scalar = tensor.ndim == 0 if not is_lazy(tensor) else False
            value = int(tensor) if scalar and not tensor.is_floating_point() else None
            slots.append(
                Slot(name, None if is_lazy(tensor) else tuple(tensor.shape), str(tensor.dtype)[6:], "buffer", value)
            )
    children = tuple((name, state_of(child)) for name, child in module._modules.items() if child is not None)
    return ModuleState(type(module).__name__, tuple(slots), children, _norm(module))


def _norm(module: nn.Module) -> NormTraits | None:
    if not isinstance(module, (_BatchNorm, _InstanceNorm)) or (
        isinstance(module, _InstanceNorm) and not module.track_running_stats
    ):
        return None
    lazy = isinstance(module, nn.modules.lazy.LazyModuleMixin)
    return NormTraits(
        type(module).__name__,
        batchnorm=isinstance(module, _BatchNorm),
        tracked=module.track_running_stats,
        affine=module.affine,
        features=None if lazy else module.num_features,
        momentum=module.momentum,
        cumulative=module.momentum is None,
        eps=module.eps,
        lazy=lazy,
        family="sync"
        if isinstance(module, nn.SyncBatchNorm)
        else "batch"
        if isinstance(module, _BatchNorm)
        else "instance",
    )


def entries(state: ModuleState, prefix: str = "") -> list[tuple[str, Shape | None, str | None, str, int | None]]:
    """The entries of a template as a state dict lists them."""
    found: list[tuple[str, Shape | None, str | None, str, int | None]] = []
    for slot in state.slots:
        found.append((prefix + slot.name, slot.shape, slot.dtype, slot.kind, slot.value))
    for name, child in state.children:
        found += entries(child, f"{prefix}{name}.")
    return found
