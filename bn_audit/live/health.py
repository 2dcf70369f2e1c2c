"""The health of running statistics: values that no training leaves behind, and those that none has touched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bn_audit.health import NormHealth
from bn_audit.live.errors import require_torch
from bn_audit.live.profile import profile, profile_of_state
from bn_audit.live.tensors import integer_value
from bn_audit.profile import Profile, StateEntry

require_torch()

import torch  # noqa: E402
from torch import nn  # noqa: E402
from torch._subclasses.fake_tensor import FakeTensor  # noqa: E402
from torch.nn.parameter import is_lazy  # noqa: E402

from bn_audit.federated.owners import state_of  # noqa: E402
from bn_audit.running import initial_value  # noqa: E402

__all__ = ["health", "health_of_entries"]


def health(source: nn.Module | Mapping[str, torch.Tensor]) -> list[NormHealth]:
    """The health of every norm layer with running statistics, of a module or a state dict, in the profile's order."""
    if isinstance(source, nn.Module):
        return health_of_entries(profile(source), state_of(source))
    return health_of_entries(profile_of_state(source), source)


def health_of_entries(profile: Profile, tensors: Mapping[str, torch.Tensor]) -> list[NormHealth]:
    """The health of a profile's norm layers with running statistics, in its order. Of ``tensors`` only these and
    counters are read."""
    paths = {norm.path for norm in profile.norms}
    own: dict[str, list[StateEntry]] = {}
    counters: dict[str, torch.Tensor] = {}
    for entry in profile.entries:
        if entry.module in paths and entry.statistic is not None:
            own.setdefault(entry.module, []).append(entry)
        elif entry.module in paths and entry.name == "num_batches_tracked":
            counters[entry.module] = tensors[entry.key]
    found = []
    for norm in profile.norms:
        if norm.path in own:
            found.append(_judge(norm.path, own[norm.path], tensors, counters.get(norm.path)))
        elif norm.tracked and not any(gap.path == norm.path for gap in profile.gaps):
            found.append(NormHealth(norm.path, known=False, saved=False))
    return found


def _judge(
    path: str, entries: Sequence[StateEntry], tensors: Mapping[str, torch.Tensor], counted: torch.Tensor | None
) -> NormHealth:
    statistics = {entry.name: tensors[entry.key] for entry in entries}
    counter = None if counted is None else integer_value(counted)
    if any(is_lazy(tensor) or tensor.is_meta or isinstance(tensor, FakeTensor) for tensor in statistics.values()):
        return NormHealth(path, counter, known=False)
    initial = {entry.name: _initial(entry) for entry in entries}
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


def _initial(entry: StateEntry) -> float | None:
    if entry.seen is None:
        return initial_value(entry.name)
    return {"mean": 0.0, "var": 1.0, "std": 1.0}.get(entry.seen)


def _is_as_built(tensor: torch.Tensor, initial: float | None) -> bool:
    if initial is None and tensor.dim() == 2 and tensor.shape[0] == tensor.shape[1]:
        return torch.equal(tensor, torch.eye(len(tensor), dtype=tensor.dtype, device=tensor.device))
    return initial is not None and bool((tensor == initial).all())


def _count(mask: torch.Tensor) -> int:
    return int(mask.sum())
