"""Norm layers with running statistics that other libraries define, by package and class name.

Read from the libraries' sources: torch 2.13 (torch.ao), torchvision 0.28, timm 1.0.31, torch_geometric 2.8, mmcv 2.2,
torch-encoding 1.2, spconv 2.3, fastai 2.8 and escnn 1.0 wheels; apex, detectron2 and inplace_abn from their
repositories. A package may export a class from many modules, so the modules in between are not compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bn_audit.source.layers.build import Builder
from bn_audit.source.layers.torch_nn import Family, norm_layer
from bn_audit.source.layers.values import bind, dim, dtype_name, flag, layer_count, number
from bn_audit.source.state import ModuleState, NormTraits

__all__ = ["FUNCTIONAL_NORMS", "external_layer"]

FUNCTIONAL_NORMS = frozenset(
    {
        "torch.batch_norm",
        "torch.instance_norm",
        "torch.native_batch_norm",
        "torch.nn.functional.batch_norm",
        "torch.nn.functional.instance_norm",
    }
)
"""Functions that update the running statistics they are given; the tensors are state of the module that calls them."""


def external_layer(qualified_name: str, args: tuple[object, ...], kwargs: Mapping[str, object]) -> ModuleState | None:
    """What a norm layer of another library holds (``torchvision.ops.FrozenBatchNorm2d``), or None if it is not known.

    Arguments and the template's ``complete`` are as for :func:`~bn_audit.source.layers.torch_nn.torch_layer`.
    """
    package, _, rest = qualified_name.partition(".")
    name = rest.rpartition(".")[2]
    if package == "torch":
        package = "torch.ao" if rest.startswith(("ao.nn.quantized.", "nn.quantized.")) else ""
    make = _LAYERS.get((package, name))
    if make is None:
        return None
    values, known = bind(make, args, kwargs)
    values.pop("_", None)
    layer = make(**values)
    layer.type = name
    return (layer.open() if known == "wrong" else layer).build()


def _batch_norm(type_name: str, family: Family = "batch", batchnorm: bool = True) -> Callable[..., Builder]:
    """A layer with the arguments and the entries of torch's BatchNorm, whatever else it takes after them."""

    def make(
        num_features: object,
        eps: object = 1e-5,
        momentum: object = 0.1,
        affine: object = True,
        track_running_stats: object = True,
        *_: object,
        device: object = None,
        dtype: object = None,
        **__: object,
    ) -> Builder:
        layer = norm_layer(
            type_name,
            family,
            num_features=num_features,
            eps=eps,
            momentum=momentum,
            affine=affine,
            track_running_stats=track_running_stats,
            dtype=dtype,
        )
        return layer if batchnorm else _not_torchs(layer)

    return make


def _not_torchs(layer: Builder) -> Builder:
    """The traits of a layer that is no ``_BatchNorm``."""
    norm = layer.norm
    if norm is not None:
        layer.norm = NormTraits(
            norm.type,
            batchnorm=False,
            tracked=norm.tracked,
            affine=norm.affine,
            features=norm.features,
            momentum=norm.momentum,
            cumulative=norm.cumulative,
            eps=norm.eps,
            family=norm.family,
        )
    return layer


def _quantized(type_name: str) -> Callable[..., Builder]:
    def make(
        num_features: object, eps: object = 1e-5, momentum: object = 0.1, device: object = None, dtype: object = None
    ) -> Builder:
        layer = norm_layer(type_name, "batch", num_features=num_features, eps=eps, momentum=momentum, dtype=dtype)
        zero_point = "int64" if dtype is None else dtype_name(dtype)
        layer.buffer("scale", (), dtype_name(dtype))
        return layer.buffer("zero_point", (), zero_point, value=0 if zero_point == "int64" else None)

    return make


def _encoding(type_name: str) -> Callable[..., Builder]:
    def make(
        num_features: object,
        eps: object = 1e-5,
        momentum: object = 0.1,
        sync: object = True,
        activation: object = "none",
        slope: object = 0.01,
        inplace: object = True,
    ) -> Builder:
        return norm_layer(type_name, "sync", num_features=num_features, eps=eps, momentum=momentum)

    return make


def _frozen(type_name: str, num_features: object, eps: object, dtype: object = None) -> Builder:
    """Four buffers that no step of an optimiser and no forward changes; no counter."""
    layer, features = Builder(type_name, dtype_name(dtype)), dim(num_features)
    for name in ("weight", "bias", "running_mean", "running_var"):
        layer.buffer(name, (features,), layer.dtype)
    layer.norm = NormTraits(
        type_name, batchnorm=False, features=features, momentum=None, eps=number(eps), family="other"
    )
    return layer


def _frozen_batch_norm(num_features: object, eps: object = 1e-5) -> Builder:
    return _frozen("FrozenBatchNorm2d", num_features, eps)


def _with_act(layer: Builder, apply_act: object, act_layer: object, drop_layer: object) -> Builder:
    """timm's norm and activation in one: ``drop``, then ``act``, which may be a class with parameters."""
    anything = ModuleState("", complete=False)
    applies = flag(apply_act)
    layer.child("drop", ModuleState("Identity") if drop_layer is None else anything)
    if applies is False:
        return layer.child("act", ModuleState("Identity"))
    return layer.child("act", ModuleState("ReLU") if applies and act_layer == "relu" else anything)


def _batch_norm_act(
    num_features: object,
    eps: object = 1e-5,
    momentum: object = 0.1,
    affine: object = True,
    track_running_stats: object = True,
    apply_act: object = True,
    act_layer: object = "relu",
    act_kwargs: object = None,
    inplace: object = True,
    drop_layer: object = None,
    device: object = None,
    dtype: object = None,
) -> Builder:
    layer = norm_layer(
        "BatchNormAct2d",
        "batch",
        num_features=num_features,
        eps=eps,
        momentum=momentum,
        affine=affine,
        track_running_stats=track_running_stats,
        dtype=dtype,
    )
    return _with_act(layer, apply_act, act_layer, drop_layer)


def _frozen_batch_norm_act(
    num_features: object,
    eps: object = 1e-5,
    apply_act: object = True,
    act_layer: object = "relu",
    act_kwargs: object = None,
    inplace: object = True,
    drop_layer: object = None,
    device: object = None,
    dtype: object = None,
) -> Builder:
    return _with_act(_frozen("FrozenBatchNormAct2d", num_features, eps, dtype), apply_act, act_layer, drop_layer)


def _split_batch_norm(
    num_features: object,
    eps: object = 1e-5,
    momentum: object = 0.1,
    affine: object = True,
    track_running_stats: object = True,
    num_splits: object = 2,
    device: object = None,
    dtype: object = None,
) -> Builder:
    def part(type_name: str, dtype: object) -> Builder:
        return norm_layer(
            type_name,
            "batch",
            num_features=num_features,
            eps=eps,
            momentum=momentum,
            affine=affine,
            track_running_stats=track_running_stats,
            dtype=dtype,
        )

    layer, others, splits = part("SplitBatchNorm2d", None), Builder("ModuleList"), layer_count(num_splits)
    for index in range(0 if splits is None else splits - 1):
        others.child(str(index), part("BatchNorm2d", dtype).build())
    return layer.child("aux_bn", (others.open() if splits is None else others).build())


def _evo_norm_b(type_name: str, has_v: bool, default_eps: float) -> Callable[..., Builder]:
    """EvoNorm with batch statistics: a running variance, no running mean, no counter."""

    def make(
        num_features: object,
        apply_act: object = True,
        momentum: object = 0.1,
        eps: object = default_eps,
        device: object = None,
        dtype: object = None,
        **_: object,
    ) -> Builder:
        layer, features = Builder(type_name, dtype_name(dtype)), dim(num_features)
        layer.parameter("weight", (features,)).parameter("bias", (features,))
        layer.parameter("v", (features,), flag(apply_act) if has_v else False)
        layer.buffer("running_var", (features,), layer.dtype)
        layer.norm = NormTraits(
            type_name,
            batchnorm=False,
            features=features,
            momentum=number(momentum),
            eps=number(eps),
            family="other",
        )
        return layer

    return make


def _inplace_abn(
    num_features: object,
    eps: object = 1e-5,
    momentum: object = 0.1,
    affine: object = True,
    apply_act: object = True,
    act_layer: object = "leaky_relu",
    act_param: object = 0.01,
    drop_layer: object = None,
) -> Builder:
    layer, features, is_affine = Builder("InplaceAbn"), dim(num_features), flag(affine)
    layer.parameter("weight", (features,), is_affine).parameter("bias", (features,), is_affine)
    layer.buffer("running_mean", (features,), "float32").buffer("running_var", (features,), "float32")
    layer.norm = NormTraits(
        "InplaceAbn",
        batchnorm=False,
        affine=is_affine,
        features=features,
        momentum=number(momentum),
        eps=number(eps),
        family="other",
    )
    return layer


def _geometric(
    in_channels: object,
    eps: object = 1e-5,
    momentum: object = 0.1,
    affine: object = True,
    track_running_stats: object = True,
    allow_single_element: object = False,
    device: object = None,
) -> Builder:
    """torch_geometric's BatchNorm keeps a BatchNorm1d in ``module``."""
    inner = norm_layer(
        "BatchNorm1d",
        "batch",
        num_features=in_channels,
        eps=eps,
        momentum=momentum,
        affine=affine,
        track_running_stats=track_running_stats,
    )
    return Builder("BatchNorm").child("module", inner.build())


_LAYERS: dict[tuple[str, str], Callable[..., Builder]] = {
    ("apex", "SyncBatchNorm"): _batch_norm("SyncBatchNorm", "sync"),
    ("detectron2", "FrozenBatchNorm2d"): _frozen_batch_norm,
    ("detectron2", "NaiveSyncBatchNorm"): _batch_norm("NaiveSyncBatchNorm", "sync"),
    ("encoding", "BatchNorm1d"): _encoding("BatchNorm1d"),
    ("encoding", "BatchNorm2d"): _encoding("BatchNorm2d"),
    ("encoding", "BatchNorm3d"): _encoding("BatchNorm3d"),
    ("encoding", "SyncBatchNorm"): _encoding("SyncBatchNorm"),
    ("fastai", "BatchNorm1dFlat"): _batch_norm("BatchNorm1dFlat"),
    ("inplace_abn", "ABN"): _batch_norm("ABN", "other", batchnorm=False),
    ("inplace_abn", "InPlaceABN"): _batch_norm("InPlaceABN", "other", batchnorm=False),
    ("inplace_abn", "InPlaceABNSync"): _batch_norm("InPlaceABNSync", "sync", batchnorm=False),
    ("mmcv", "SyncBatchNorm"): _batch_norm("SyncBatchNorm", "sync", batchnorm=False),
    ("spconv", "SparseBatchNorm"): _batch_norm("SparseBatchNorm"),
    ("spconv", "SparseSyncBatchNorm"): _batch_norm("SparseSyncBatchNorm", "sync"),
    ("timm", "BatchNormAct2d"): _batch_norm_act,
    ("timm", "EvoNorm2dB0"): _evo_norm_b("EvoNorm2dB0", True, 1e-3),
    ("timm", "EvoNorm2dB1"): _evo_norm_b("EvoNorm2dB1", False, 1e-5),
    ("timm", "EvoNorm2dB2"): _evo_norm_b("EvoNorm2dB2", False, 1e-5),
    ("timm", "FrozenBatchNormAct2d"): _frozen_batch_norm_act,
    ("timm", "InplaceAbn"): _inplace_abn,
    ("timm", "SplitBatchNorm2d"): _split_batch_norm,
    ("timm", "SyncBatchNormAct"): _batch_norm("SyncBatchNormAct", "sync"),
    ("torch.ao", "BatchNorm2d"): _quantized("BatchNorm2d"),
    ("torch.ao", "BatchNorm3d"): _quantized("BatchNorm3d"),
    ("torch_geometric", "BatchNorm"): _geometric,
    ("torchvision", "FrozenBatchNorm2d"): _frozen_batch_norm,
}
