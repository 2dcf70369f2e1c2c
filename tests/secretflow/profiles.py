"""Profiles of live torch models, as exact as the state dict itself."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from bn_audit.profile import NormLayer, Profile, StateEntry

__all__ = ["dtype_name", "profile_of"]


def profile_of(model: nn.Module) -> Profile:
    """The profile of a built model. Norm layers are listed for each path they can be reached by."""
    first: dict[int, str] = {}
    entries: list[StateEntry] = []
    for key, tensor in model.state_dict(keep_vars=True).items():
        alias = first.setdefault(id(tensor), key)
        number = tensor.dim() == 0 and not (tensor.is_floating_point() or tensor.is_complex())
        entries.append(
            StateEntry(
                key=key,
                shape=tuple(tensor.shape),
                dtype=dtype_name(tensor),
                kind="parameter" if isinstance(tensor, nn.Parameter) else "buffer",
                module=key.rpartition(".")[0],
                value=int(tensor) if number and tensor.dtype is not torch.bool else None,
                alias_of=alias if alias != key else None,
            )
        )
    norms = []
    for path, module in model.named_modules(remove_duplicate=False):
        tracked = any(module._buffers.get(name) is not None for name in ("running_mean", "running_var"))
        if isinstance(module, _BatchNorm) or tracked:
            norms.append(
                NormLayer(
                    path=path,
                    type=type(module).__name__,
                    batchnorm=isinstance(module, _BatchNorm),
                    tracked=tracked,
                    affine=module._parameters.get("weight") is not None,
                    features=getattr(module, "num_features", None),
                    family=_family(module),
                )
            )
    return Profile(tuple(entries), tuple(norms), type=type(model).__name__)


def dtype_name(tensor: torch.Tensor) -> str:
    """``float32`` for ``torch.float32``."""
    return str(tensor.dtype).removeprefix("torch.")


def _family(module: nn.Module) -> Literal["batch", "instance", "sync", "other"]:
    if isinstance(module, nn.SyncBatchNorm):
        return "sync"
    if isinstance(module, _BatchNorm):
        return "batch"
    return "instance" if isinstance(module, _InstanceNorm) else "other"
