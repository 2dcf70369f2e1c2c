"""The health of running statistics: values that no training leaves behind, and those that none has touched."""

from __future__ import annotations

from collections.abc import Mapping

from bn_audit.health import NormHealth
from bn_audit.live.errors import require_torch
from bn_audit.live.profile import profile, profile_of_state
from bn_audit.live.tensors import integer_value
from bn_audit.profile import Profile

require_torch()

import torch  # noqa: E402
from torch import nn  # noqa: E402
from torch._subclasses.fake_tensor import FakeTensor  # noqa: E402
from torch.nn.parameter import is_lazy  # noqa: E402

from bn_audit.federated.owners import state_of  # noqa: E402
from bn_audit.running import initial_value, is_statistic  # noqa: E402

__all__ = ["health", "health_of_entries"]


def health(source: nn.Module | Mapping[str, torch.Tensor]) -> list[NormHealth]:
    """The health of every norm layer with running statistics, of a module or a state dict, in the profile's order."""
    if isinstance(source, nn.Module):
        return health_of_entries(profile(source), state_of(source))
    return health_of_entries(profile_of_state(source), source)


def health_of_entries(profile: Profile, tensors: Mapping[str, torch.Tensor]) -> list[NormHealth]:
    """The health of a profile's norm layers. Of ``tensors`` only the running statistics and counters are read."""
    paths = {norm.path for norm in profile.norms}
    own: dict[str, dict[str, str]] = {}
    for entry in profile.entries:
        if entry.module in paths and (entry.name == "num_batches_tracked" or is_statistic(entry.name)):
            own.setdefault(entry.module, {})[entry.name] = entry.key
    return [
        _judge(path, {name: tensors[key] for name, key in keys.items()})
        for path, keys in own.items()
        if any(is_statistic(name) for name in keys)
    ]


def _judge(path: str, named: Mapping[str, torch.Tensor]) -> NormHealth:
    statistics = {name: tensor for name, tensor in named.items() if is_statistic(name)}
    counter = integer_value(named["num_batches_tracked"]) if "num_batches_tracked" in named else None
    if any(is_lazy(tensor) or tensor.is_meta or isinstance(tensor, FakeTensor) for tensor in statistics.values()):
        return NormHealth(path, counter, known=False)
    initial = {name: initial_value(name) for name in statistics}
    # A complex one is two numbers, which are above and below nothing.
    spreads = [tensor for name, tensor in statistics.items() if initial[name] == 1 and not tensor.is_complex()]
    return NormHealth(
        path,
        counter,
        nan=sum(_count(tensor.isnan()) for tensor in statistics.values()),
        inf=sum(_count(tensor.isinf()) for tensor in statistics.values()),
        negative=sum(_count(tensor < 0) for tensor in spreads),
        zero=sum(_count(tensor == 0) for name, tensor in statistics.items() if initial[name] == 1),
        untrained=not counter and all(_is_as_built(tensor, initial[name]) for name, tensor in statistics.items()),
    )


def _is_as_built(tensor: torch.Tensor, initial: float | None) -> bool:
    if initial is None and tensor.dim() == 2 and tensor.shape[0] == tensor.shape[1]:
        return torch.equal(tensor, torch.eye(len(tensor), dtype=tensor.dtype, device=tensor.device))
    return initial is not None and bool((tensor == initial).all())


def _count(mask: torch.Tensor) -> int:
    return int(mask.sum())
