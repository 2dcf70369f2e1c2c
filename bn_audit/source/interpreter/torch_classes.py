"""The classes of torch.nn as ``isinstance`` and ``issubclass`` see them."""

from __future__ import annotations

from functools import lru_cache

from bn_audit.source.layers import torch_layer

__all__ = ["CONTAINERS", "is_torch_layer", "subclass"]

CONTAINERS = frozenset({"Sequential", "ModuleList", "ModuleDict", "ParameterList", "ParameterDict"})

_RANKS = ("1d", "2d", "3d")
_PARENTS: dict[str, tuple[str, ...]] = {
    **{f"BatchNorm{rank}": ("_BatchNorm",) for rank in _RANKS},
    **{f"LazyBatchNorm{rank}": ("_LazyNormBase", "_BatchNorm") for rank in _RANKS},
    **{f"InstanceNorm{rank}": ("_InstanceNorm",) for rank in _RANKS},
    **{f"LazyInstanceNorm{rank}": ("_LazyNormBase", "_InstanceNorm") for rank in _RANKS},
    **{f"Conv{rank}": ("_ConvNd",) for rank in _RANKS},
    **{f"ConvTranspose{rank}": ("_ConvTransposeNd",) for rank in _RANKS},
    **{f"LazyConv{rank}": ("_LazyConvXdMixin", f"Conv{rank}") for rank in _RANKS},
    **{f"LazyConvTranspose{rank}": ("_LazyConvXdMixin", f"ConvTranspose{rank}") for rank in _RANKS},
    **{
        f"{kind}{rank}": (f"_{kind}Nd",)
        for kind in ("AvgPool", "MaxPool", "MaxUnpool", "LPPool", "AdaptiveAvgPool", "AdaptiveMaxPool", "Dropout")
        for rank in _RANKS
    },
    **{
        f"{kind}Pad{rank}": (f"_{kind}PadNd",)
        for kind in ("Circular", "Constant", "Reflection", "Replication")
        for rank in _RANKS
    },
    **{f"ZeroPad{rank}": (f"ConstantPad{rank}",) for rank in _RANKS},
    **{f"{kind}Cell": ("RNNCellBase",) for kind in ("GRU", "LSTM", "RNN")},
    "AlphaDropout": ("_DropoutNd",),
    "Dropout": ("_DropoutNd",),
    "FeatureAlphaDropout": ("_DropoutNd",),
    "GRU": ("RNNBase",),
    "LSTM": ("RNNBase",),
    "LazyLinear": ("LazyModuleMixin", "Linear"),
    "NLLLoss2d": ("NLLLoss",),
    "NonDynamicallyQuantizableLinear": ("Linear",),
    "RNN": ("RNNBase",),
    "ReLU6": ("Hardtanh",),
    "SyncBatchNorm": ("_BatchNorm",),
    "UpsamplingBilinear2d": ("Upsample",),
    "UpsamplingNearest2d": ("Upsample",),
    "_BatchNorm": ("_NormBase",),
    "_ConvTransposeNd": ("_ConvNd",),
    "_InstanceNorm": ("_NormBase",),
    "_LazyConvXdMixin": ("LazyModuleMixin",),
    "_LazyNormBase": ("_NormBase", "LazyModuleMixin"),
}
"""The direct bases below ``nn.Module``, of classes that have any (torch 2.13)."""
_KNOWN = frozenset(_PARENTS) | {base for bases in _PARENTS.values() for base in bases}


@lru_cache(maxsize=1024)
def is_torch_layer(leaf: str) -> bool:
    """Whether torch.nn has a layer of this name."""
    return leaf in CONTAINERS or leaf in _KNOWN or torch_layer(leaf, (), {}) is not None


@lru_cache(maxsize=4096)
def subclass(name: str, other: str) -> bool | None:
    """``issubclass(name, other)`` for canonical dotted names; None if not known."""
    if name == other:
        return True
    if not (name.startswith("torch.nn.") and other.startswith("torch.nn.")):
        return None
    leaf, wanted = name.rpartition(".")[2], other.rpartition(".")[2]
    if not is_torch_layer(leaf):
        return None
    if wanted == "Module":
        return True
    bases = [leaf]
    for base in bases:
        if base == wanted:
            return True
        bases.extend(_PARENTS.get(base, ()))
    return False if is_torch_layer(wanted) else None
