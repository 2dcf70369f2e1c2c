"""Templates of modules: what a known layer or a known model holds, as an immutable tree.

A template says what a module of torch, torchvision, timm ... registers when it is built: its own entries, its
children in
order, and whether it is a norm layer. `layers.py` makes templates of torch's layers from their arguments, `zoo/` of
whole
models from a data file; the interpreter grows its own mutable modules from them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bn_audit.profile import Shape

__all__ = ["ModuleState", "NormTraits", "Slot"]


@dataclass(frozen=True, slots=True)
class Slot:
    """An entry a module itself registers (persistent buffers only). ``value`` is that of a 0-d integer, where known."""

    name: str
    shape: Shape | None
    dtype: str | None
    kind: Literal["parameter", "buffer"]
    value: int | None = None


@dataclass(frozen=True, slots=True)
class NormTraits:
    """What makes a module BatchNorm-like; the fields are those of :class:`bn_audit.profile.NormLayer`."""

    type: str
    batchnorm: bool | None = True
    tracked: bool | None = True
    affine: bool | None = True
    features: int | None = None
    momentum: float | None = 0.1
    cumulative: bool | None = False
    eps: float | None = 1e-5
    lazy: bool = False
    family: Literal["batch", "instance", "sync", "other"] = "batch"


@dataclass(frozen=True, slots=True)
class ModuleState:
    """A module: ``slots`` are its own parameters, then its own buffers; then come its children in order.

    ``type`` is the class name (``Conv2d``). ``complete`` False says that it may hold more than is listed; ``holds``
    that a BatchNorm with running statistics is among that, wherever it is.
    """

    type: str
    slots: tuple[Slot, ...] = ()
    children: tuple[tuple[str, ModuleState], ...] = ()
    norm: NormTraits | None = None
    complete: bool = True
    holds: bool = False
