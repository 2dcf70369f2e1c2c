"""The layers of torch.nn: what each registers when it is built from given arguments.

Every layer with state is a function with the signature of torch 2.13's class, so that Python itself binds the
arguments. It returns the parameters and buffers in the order in which the class registers them; the tests build each
class for real and compare. The stateless ones are a list of names.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from bn_audit.profile import Shape
from bn_audit.source.layers.build import Builder
from bn_audit.source.layers.values import UNKNOWN, bind, dim, dims, dtype_name, flag, layer_count, number
from bn_audit.source.state import ModuleState, NormTraits

__all__ = ["STATELESS", "Family", "layer_settings", "norm_layer", "torch_layer"]

STATELESS = frozenset(
    """
    AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveAvgPool3d AdaptiveMaxPool1d AdaptiveMaxPool2d AdaptiveMaxPool3d
    AlphaDropout AvgPool1d AvgPool2d AvgPool3d CELU CTCLoss ChannelShuffle CircularPad1d CircularPad2d CircularPad3d
    ConstantPad1d ConstantPad2d ConstantPad3d CosineEmbeddingLoss CosineSimilarity CrossMapLRN2d Dropout Dropout1d
    Dropout2d Dropout3d ELU FeatureAlphaDropout Flatten Fold GELU GLU GaussianNLLLoss Hardshrink Hardsigmoid Hardswish
    Hardtanh HingeEmbeddingLoss HuberLoss Identity KLDivLoss L1Loss LPPool1d LPPool2d LPPool3d LeakyReLU
    LocalResponseNorm LogSigmoid LogSoftmax MSELoss MarginRankingLoss MaxPool1d MaxPool2d MaxPool3d MaxUnpool1d
    MaxUnpool2d MaxUnpool3d Mish Module MultiLabelMarginLoss PairwiseDistance PixelShuffle PixelUnshuffle PoissonNLLLoss
    RReLU ReLU ReLU6 ReflectionPad1d ReflectionPad2d ReflectionPad3d ReplicationPad1d ReplicationPad2d ReplicationPad3d
    SELU SiLU Sigmoid SmoothL1Loss SoftMarginLoss Softmax Softmax2d Softmin Softplus Softshrink Softsign Tanh Tanhshrink
    Threshold TripletMarginLoss Unflatten Unfold Upsample UpsamplingBilinear2d UpsamplingNearest2d ZeroPad1d ZeroPad2d
    ZeroPad3d
    """.split()  # noqa: SIM905
)
"""Modules without parameters, buffers and children, whatever their arguments."""


def torch_layer(name: str, args: tuple[object, ...], kwargs: Mapping[str, object]) -> ModuleState | None:
    """What ``torch.nn.<name>(*args, **kwargs)`` holds, or None if torch.nn has no such layer.

    ``name`` may also be a path below torch.nn (``modules.batchnorm.BatchNorm2d``). Arguments are values as
    :mod:`bn_audit.source.layers.values` has them. Dimensions that are not known are None; the template's ``complete``
    is False if an argument that is not known, or does not bind, decides whether entries exist; it then lists those that
    stand before the first doubtful one.
    """
    path, _, name = name.rpartition(".")
    if path and path.split(".")[0] != "modules":
        return None
    if name in STATELESS:
        return ModuleState(name)
    make = _LAYERS.get(name)
    if make is None:
        return None
    values, known = bind(make, args, kwargs)
    variadic = values.pop("args", None)
    layer = make(*variadic) if isinstance(variadic, tuple) else make(**values)
    layer.type = name
    if known == "wrong" or (known == "open" and variadic is not None):
        layer.open()
    return layer.build()


def layer_settings(name: str, args: tuple[object, ...], kwargs: Mapping[str, object]) -> dict[str, object]:
    """What a layer keeps of its arguments as attributes (``conv.stride``), by name; what is not known is UNKNOWN.

    Sizes of convolutions are tuples there, as torch makes them. Nothing for layers without state, nor for ``bias``,
    which names a parameter.
    """
    make = _LAYERS.get(name.rpartition(".")[2])
    if make is None:
        return {}
    values, _ = bind(make, args, kwargs)
    rank = int(name[-2]) if "Conv" in name and name[-2:] in ("1d", "2d", "3d") else None
    found: dict[str, object] = {}
    for key, value in values.items():
        if key in ("args", "kwargs", "bias", "device", "dtype") or key.startswith("_"):
            continue
        sized = rank is not None and key in ("kernel_size", "stride", "padding", "dilation", "output_padding")
        found[key] = (value,) * (rank or 1) if sized and dim(value) is not None else value
    return found


# Linear and embedding -------------------------------------------------------------------------------------------------


def _linear(
    in_features: object, out_features: object, bias: object = True, device: object = None, dtype: object = None
) -> Builder:
    layer = Builder("Linear", dtype_name(dtype))
    layer.parameter("weight", (dim(out_features), dim(in_features)))
    return layer.parameter("bias", (dim(out_features),), flag(bias))


def _bilinear(
    in1_features: object,
    in2_features: object,
    out_features: object,
    bias: object = True,
    device: object = None,
    dtype: object = None,
) -> Builder:
    layer = Builder("Bilinear", dtype_name(dtype))
    layer.parameter("weight", (dim(out_features), dim(in1_features), dim(in2_features)))
    return layer.parameter("bias", (dim(out_features),), flag(bias))


def _lazy_linear(out_features: object, bias: object = True, device: object = None, dtype: object = None) -> Builder:
    layer = Builder("LazyLinear", dtype_name(dtype))
    return layer.parameter("weight", None).parameter("bias", None, flag(bias))


def _embedding(
    num_embeddings: object,
    embedding_dim: object,
    padding_idx: object = None,
    max_norm: object = None,
    norm_type: object = 2.0,
    scale_grad_by_freq: object = False,
    sparse: object = False,
    _weight: object = None,
    _freeze: object = False,
    device: object = None,
    dtype: object = None,
) -> Builder:
    layer = Builder("Embedding", dtype_name(dtype) if _weight is None else None)
    return layer.parameter("weight", (dim(num_embeddings), dim(embedding_dim)))


def _embedding_bag(
    num_embeddings: object,
    embedding_dim: object,
    max_norm: object = None,
    norm_type: object = 2.0,
    scale_grad_by_freq: object = False,
    mode: object = "mean",
    sparse: object = False,
    _weight: object = None,
    include_last_offset: object = False,
    padding_idx: object = None,
    device: object = None,
    dtype: object = None,
) -> Builder:
    layer = Builder("EmbeddingBag", dtype_name(dtype) if _weight is None else None)
    return layer.parameter("weight", (dim(num_embeddings), dim(embedding_dim)))


def _prelu(num_parameters: object = 1, init: object = 0.25, device: object = None, dtype: object = None) -> Builder:
    return Builder("PReLU", dtype_name(dtype)).parameter("weight", (dim(num_parameters),))


# Convolution ----------------------------------------------------------------------------------------------------------


def _quotient(value: object, divisor: object) -> int | None:
    dividend, by = dim(value), dim(divisor)
    return dividend // by if dividend is not None and by else None


def _conv(rank: int) -> Callable[..., Builder]:
    def make(
        in_channels: object,
        out_channels: object,
        kernel_size: object,
        stride: object = 1,
        padding: object = 0,
        dilation: object = 1,
        groups: object = 1,
        bias: object = True,
        padding_mode: object = "zeros",
        device: object = None,
        dtype: object = None,
    ) -> Builder:
        layer = Builder("", dtype_name(dtype))
        kernel = dims(kernel_size, rank)
        layer.parameter(
            "weight", None if kernel is None else (dim(out_channels), _quotient(in_channels, groups), *kernel)
        )
        return layer.parameter("bias", (dim(out_channels),), flag(bias))

    return make


def _conv_transpose(rank: int) -> Callable[..., Builder]:
    def make(
        in_channels: object,
        out_channels: object,
        kernel_size: object,
        stride: object = 1,
        padding: object = 0,
        output_padding: object = 0,
        groups: object = 1,
        bias: object = True,
        dilation: object = 1,
        padding_mode: object = "zeros",
        device: object = None,
        dtype: object = None,
    ) -> Builder:
        layer = Builder("", dtype_name(dtype))
        kernel = dims(kernel_size, rank)
        layer.parameter(
            "weight", None if kernel is None else (dim(in_channels), _quotient(out_channels, groups), *kernel)
        )
        return layer.parameter("bias", (dim(out_channels),), flag(bias))

    return make


def _lazy_conv(
    out_channels: object,
    kernel_size: object,
    stride: object = 1,
    padding: object = 0,
    dilation: object = 1,
    groups: object = 1,
    bias: object = True,
    padding_mode: object = "zeros",
    device: object = None,
    dtype: object = None,
) -> Builder:
    return Builder("", dtype_name(dtype)).parameter("weight", None).parameter("bias", None, flag(bias))


def _lazy_conv_transpose(
    out_channels: object,
    kernel_size: object,
    stride: object = 1,
    padding: object = 0,
    output_padding: object = 0,
    groups: object = 1,
    bias: object = True,
    dilation: object = 1,
    padding_mode: object = "zeros",
    device: object = None,
    dtype: object = None,
) -> Builder:
    return Builder("", dtype_name(dtype)).parameter("weight", None).parameter("bias", None, flag(bias))


# Normalization --------------------------------------------------------------------------------------------------------

Family = Literal["batch", "instance", "sync", "other"]


def norm_layer(
    type_name: str,
    family: Family,
    *,
    num_features: object,
    eps: object = 1e-5,
    momentum: object = 0.1,
    affine: object = True,
    track_running_stats: object = True,
    dtype: object = None,
    bias: object = True,
    lazy: bool = False,
) -> Builder:
    """A ``_NormBase``: weight and bias if affine; running_mean, running_var and num_batches_tracked if it tracks.

    ``family`` ``instance`` is torch's ``_InstanceNorm``, which is BatchNorm-like only while it tracks statistics.
    """
    layer = Builder(type_name, dtype_name(dtype))
    features = dim(num_features)
    shape: Shape | None = None if lazy else (features,)
    is_affine, has_bias, tracked = flag(affine), flag(bias), flag(track_running_stats)
    layer.parameter("weight", shape, is_affine)
    layer.parameter("bias", shape, False if is_affine is False else has_bias)
    layer.buffer("running_mean", shape, layer.dtype, tracked)
    layer.buffer("running_var", shape, layer.dtype, tracked)
    layer.buffer("num_batches_tracked", (), "int64", tracked, value=0)
    if family != "instance" or tracked is not False:
        layer.norm = NormTraits(
            type_name,
            batchnorm=family != "instance",
            tracked=tracked,
            affine=is_affine,
            features=None if lazy else features,
            momentum=number(momentum),
            cumulative=None if momentum is UNKNOWN else momentum is None,
            eps=number(eps),
            lazy=lazy,
            family=family,
        )
    return layer


def _batch_norm(type_name: str) -> Callable[..., Builder]:
    def make(
        num_features: object,
        eps: object = 1e-5,
        momentum: object = 0.1,
        affine: object = True,
        track_running_stats: object = True,
        device: object = None,
        dtype: object = None,
        *,
        bias: object = True,
    ) -> Builder:
        return norm_layer(
            type_name,
            "batch",
            num_features=num_features,
            eps=eps,
            momentum=momentum,
            affine=affine,
            track_running_stats=track_running_stats,
            dtype=dtype,
            bias=bias,
        )

    return make


def _sync_batch_norm(
    num_features: object,
    eps: object = 1e-5,
    momentum: object = 0.1,
    affine: object = True,
    track_running_stats: object = True,
    process_group: object = None,
    device: object = None,
    dtype: object = None,
    *,
    bias: object = True,
) -> Builder:
    return norm_layer(
        "SyncBatchNorm",
        "sync",
        num_features=num_features,
        eps=eps,
        momentum=momentum,
        affine=affine,
        track_running_stats=track_running_stats,
        dtype=dtype,
        bias=bias,
    )


def _instance_norm(type_name: str) -> Callable[..., Builder]:
    def make(
        num_features: object,
        eps: object = 1e-5,
        momentum: object = 0.1,
        affine: object = False,
        track_running_stats: object = False,
        device: object = None,
        dtype: object = None,
        *,
        bias: object = True,
    ) -> Builder:
        return norm_layer(
            type_name,
            "instance",
            num_features=num_features,
            eps=eps,
            momentum=momentum,
            affine=affine,
            track_running_stats=track_running_stats,
            dtype=dtype,
            bias=bias,
        )

    return make


def _lazy_norm(type_name: str, family: Family) -> Callable[..., Builder]:
    def make(
        eps: object = 1e-5,
        momentum: object = 0.1,
        affine: object = True,
        track_running_stats: object = True,
        device: object = None,
        dtype: object = None,
        *,
        bias: object = True,
    ) -> Builder:
        return norm_layer(
            type_name,
            family,
            num_features=None,
            eps=eps,
            momentum=momentum,
            affine=affine,
            track_running_stats=track_running_stats,
            dtype=dtype,
            bias=bias,
            lazy=True,
        )

    return make


def _normalized(value: object) -> Shape | None:
    """``normalized_shape`` as LayerNorm and RMSNorm read it."""
    if isinstance(value, tuple | list):
        return tuple(dim(item) for item in value)
    return None if dim(value) is None else (dim(value),)


def _layer_norm(
    normalized_shape: object,
    eps: object = 1e-5,
    elementwise_affine: object = True,
    bias: object = True,
    device: object = None,
    dtype: object = None,
) -> Builder:
    layer = Builder("LayerNorm", dtype_name(dtype))
    shape, affine = _normalized(normalized_shape), flag(elementwise_affine)
    layer.parameter("weight", shape, affine)
    return layer.parameter("bias", shape, False if affine is False else flag(bias))


def _rms_norm(
    normalized_shape: object,
    eps: object = None,
    elementwise_affine: object = True,
    device: object = None,
    dtype: object = None,
) -> Builder:
    layer = Builder("RMSNorm", dtype_name(dtype))
    return layer.parameter("weight", _normalized(normalized_shape), flag(elementwise_affine))


def _group_norm(
    num_groups: object,
    num_channels: object,
    eps: object = 1e-5,
    affine: object = True,
    device: object = None,
    dtype: object = None,
    *,
    bias: object = True,
) -> Builder:
    layer = Builder("GroupNorm", dtype_name(dtype))
    shape, is_affine = (dim(num_channels),), flag(affine)
    layer.parameter("weight", shape, is_affine)
    return layer.parameter("bias", shape, False if is_affine is False else flag(bias))


# Recurrent layers -----------------------------------------------------------------------------------------------------

_GATES = {"LSTM": 4, "GRU": 3, "RNN_TANH": 1, "RNN_RELU": 1}


def _times(factor: int | None, value: int | None) -> int | None:
    return None if factor is None or value is None else factor * value


def _rnn_base(
    mode: object,
    input_size: object,
    hidden_size: object,
    num_layers: object = 1,
    bias: object = True,
    batch_first: object = False,
    dropout: object = 0.0,
    bidirectional: object = False,
    proj_size: object = 0,
    device: object = None,
    dtype: object = None,
) -> Builder:
    layer = Builder("RNNBase", dtype_name(dtype))
    gates = _GATES.get(mode) if isinstance(mode, str) else None
    hidden, projection, two = dim(hidden_size), dim(proj_size), flag(bidirectional)
    rows = _times(gates, hidden)
    projects = None if projection is None else projection > 0
    output = None if projects is None else projection if projects else hidden
    depth = layer_count(num_layers)
    for level in range(1 if depth is None else depth):
        for suffix in ("", "_reverse"):
            exists = True if not suffix else two
            directions = None if two is None else 2 if two else 1
            columns = dim(input_size) if level == 0 else _times(directions, output)
            has_bias = flag(bias) if exists else exists
            layer.parameter(f"weight_ih_l{level}{suffix}", (rows, columns), exists)
            layer.parameter(f"weight_hh_l{level}{suffix}", (rows, output), exists)
            layer.parameter(f"bias_ih_l{level}{suffix}", (rows,), has_bias)
            layer.parameter(f"bias_hh_l{level}{suffix}", (rows,), has_bias)
            layer.parameter(f"weight_hr_l{level}{suffix}", (projection, hidden), projects if exists else exists)
    return layer.open() if depth is None else layer


def _rnn(
    input_size: object,
    hidden_size: object,
    num_layers: object = 1,
    nonlinearity: object = "tanh",
    bias: object = True,
    batch_first: object = False,
    dropout: object = 0.0,
    bidirectional: object = False,
    device: object = None,
    dtype: object = None,
) -> Builder:
    return _rnn_base("RNN_TANH", input_size, hidden_size, num_layers, bias, bidirectional=bidirectional, dtype=dtype)


def _gru(
    input_size: object,
    hidden_size: object,
    num_layers: object = 1,
    bias: object = True,
    batch_first: object = False,
    dropout: object = 0.0,
    bidirectional: object = False,
    device: object = None,
    dtype: object = None,
) -> Builder:
    return _rnn_base("GRU", input_size, hidden_size, num_layers, bias, bidirectional=bidirectional, dtype=dtype)


def _lstm(
    input_size: object,
    hidden_size: object,
    num_layers: object = 1,
    bias: object = True,
    batch_first: object = False,
    dropout: object = 0.0,
    bidirectional: object = False,
    proj_size: object = 0,
    device: object = None,
    dtype: object = None,
) -> Builder:
    return _rnn_base(
        "LSTM", input_size, hidden_size, num_layers, bias, bidirectional=bidirectional, proj_size=proj_size, dtype=dtype
    )


def _rnn_cell_base(
    input_size: object,
    hidden_size: object,
    bias: object,
    num_chunks: object,
    device: object = None,
    dtype: object = None,
) -> Builder:
    layer = Builder("RNNCellBase", dtype_name(dtype))
    hidden = dim(hidden_size)
    rows = _times(dim(num_chunks), hidden)
    layer.parameter("weight_ih", (rows, dim(input_size))).parameter("weight_hh", (rows, hidden))
    return layer.parameter("bias_ih", (rows,), flag(bias)).parameter("bias_hh", (rows,), flag(bias))


def _cell(gates: int) -> Callable[..., Builder]:
    def make(
        input_size: object, hidden_size: object, bias: object = True, device: object = None, dtype: object = None
    ) -> Builder:
        return _rnn_cell_base(input_size, hidden_size, bias, gates, dtype=dtype)

    return make


def _rnn_cell(
    input_size: object,
    hidden_size: object,
    bias: object = True,
    nonlinearity: object = "tanh",
    device: object = None,
    dtype: object = None,
) -> Builder:
    return _rnn_cell_base(input_size, hidden_size, bias, 1, dtype=dtype)


# Attention ------------------------------------------------------------------------------------------------------------


def _attention(
    embed_dim: object,
    num_heads: object,
    dropout: object = 0.0,
    bias: object = True,
    add_bias_kv: object = False,
    add_zero_attn: object = False,
    kdim: object = None,
    vdim: object = None,
    batch_first: object = False,
    device: object = None,
    dtype: object = None,
) -> Builder:
    layer = Builder("MultiheadAttention", dtype_name(dtype))
    width = dim(embed_dim)
    keys, values = (width if given is None else dim(given) for given in (kdim, vdim))
    plain = kdim is None and vdim is None
    same = True if plain else None if None in (width, keys, values) else keys == width == values
    separate = None if same is None else not same
    layer.parameter("q_proj_weight", (width, width), separate)
    layer.parameter("k_proj_weight", (width, keys), separate)
    layer.parameter("v_proj_weight", (width, values), separate)
    layer.parameter("in_proj_weight", (_times(3, width), width), same)
    layer.parameter("in_proj_bias", (_times(3, width),), flag(bias))
    layer.parameter("bias_k", (1, 1, width), flag(add_bias_kv))
    layer.parameter("bias_v", (1, 1, width), flag(add_bias_kv))
    projection = _linear(embed_dim, embed_dim, bias, dtype=dtype)
    projection.type = "NonDynamicallyQuantizableLinear"
    return layer.child("out_proj", projection.build())


def _feed_forward_block(
    layer: Builder, attentions: tuple[str, ...], d_model: object, dim_feedforward: object, bias: object, dtype: object
) -> Builder:
    """A transformer layer: its attentions, two linear layers, and a norm and a dropout for each part."""
    for name in attentions:
        attention = _attention(d_model, UNKNOWN, bias=bias, dtype=dtype)
        layer.child(name, attention.build())
    layer.child("linear1", _linear(d_model, dim_feedforward, bias, dtype=dtype).build())
    layer.child("dropout", ModuleState("Dropout"))
    layer.child("linear2", _linear(dim_feedforward, d_model, bias, dtype=dtype).build())
    parts = range(1, len(attentions) + 2)
    for part in parts:
        layer.child(f"norm{part}", _layer_norm(d_model, bias=bias, dtype=dtype).build())
    for part in parts:
        layer.child(f"dropout{part}", ModuleState("Dropout"))
    return layer


def _with_activation(layer: Builder, activation: object) -> Builder:
    """An activation that is a module is registered; one that is not known may be."""
    if isinstance(activation, ModuleState):
        return layer.child("activation", activation)
    return layer if activation is None or isinstance(activation, str) else layer.open()


def _encoder_layer(
    d_model: object,
    nhead: object,
    dim_feedforward: object = 2048,
    dropout: object = 0.1,
    activation: object = "relu",
    layer_norm_eps: object = 1e-5,
    batch_first: object = False,
    norm_first: object = False,
    bias: object = True,
    device: object = None,
    dtype: object = None,
) -> Builder:
    layer = Builder("TransformerEncoderLayer")
    _feed_forward_block(layer, ("self_attn",), d_model, dim_feedforward, bias, dtype)
    return _with_activation(layer, activation)


def _decoder_layer(
    d_model: object,
    nhead: object,
    dim_feedforward: object = 2048,
    dropout: object = 0.1,
    activation: object = "relu",
    layer_norm_eps: object = 1e-5,
    batch_first: object = False,
    norm_first: object = False,
    bias: object = True,
    device: object = None,
    dtype: object = None,
) -> Builder:
    layer = Builder("TransformerDecoderLayer")
    _feed_forward_block(layer, ("self_attn", "multihead_attn"), d_model, dim_feedforward, bias, dtype)
    return _with_activation(layer, activation)


def _stack(type_name: str, module: object, num_layers: object, norm: object) -> Builder:
    """Copies of a layer in a ModuleList, then a norm if there is one."""
    layer, copies, total = Builder(type_name), Builder("ModuleList"), layer_count(num_layers)
    if total is None or not isinstance(module, ModuleState):
        copies.open()
    else:
        for index in range(total):
            copies.child(str(index), module)
    layer.child("layers", copies.build())
    if isinstance(norm, ModuleState):
        return layer.child("norm", norm)
    return layer if norm is None else layer.open()


def _encoder(
    encoder_layer: object,
    num_layers: object,
    norm: object = None,
    enable_nested_tensor: object = True,
    mask_check: object = True,
) -> Builder:
    return _stack("TransformerEncoder", encoder_layer, num_layers, norm)


def _decoder(decoder_layer: object, num_layers: object, norm: object = None) -> Builder:
    return _stack("TransformerDecoder", decoder_layer, num_layers, norm)


def _transformer(
    d_model: object = 512,
    nhead: object = 8,
    num_encoder_layers: object = 6,
    num_decoder_layers: object = 6,
    dim_feedforward: object = 2048,
    dropout: object = 0.1,
    activation: object = "relu",
    custom_encoder: object = None,
    custom_decoder: object = None,
    layer_norm_eps: object = 1e-5,
    batch_first: object = False,
    norm_first: object = False,
    bias: object = True,
    device: object = None,
    dtype: object = None,
) -> Builder:
    layer = Builder("Transformer")
    norm = _layer_norm(d_model, bias=bias, dtype=dtype).build()
    for name, custom, make, stack, count in (
        ("encoder", custom_encoder, _encoder_layer, "TransformerEncoder", num_encoder_layers),
        ("decoder", custom_decoder, _decoder_layer, "TransformerDecoder", num_decoder_layers),
    ):
        if isinstance(custom, ModuleState):
            layer.child(name, custom)
        elif custom is None:
            part = make(d_model, nhead, dim_feedforward, activation=activation, bias=bias, dtype=dtype)
            part.type = f"{stack}Layer"
            layer.child(name, _stack(stack, part.build(), count, norm).build())
        else:
            layer.child(name, ModuleState("", complete=False))
    return layer


# Losses ---------------------------------------------------------------------------------------------------------------


def _weighted(name: str, value: object, layer: Builder) -> Builder:
    """A buffer that holds a tensor the caller passed, of unknown shape and dtype; not registered for None."""
    return layer.buffer(name, None, None, False if value is None else None if value is UNKNOWN else True)


def _cross_entropy_loss(
    weight: object = None,
    size_average: object = None,
    ignore_index: object = -100,
    reduce: object = None,
    reduction: object = "mean",
    label_smoothing: object = 0.0,
) -> Builder:
    return _weighted("weight", weight, Builder(""))


def _nll_loss(
    weight: object = None,
    size_average: object = None,
    ignore_index: object = -100,
    reduce: object = None,
    reduction: object = "mean",
) -> Builder:
    return _weighted("weight", weight, Builder(""))


def _bce_loss(
    weight: object = None, size_average: object = None, reduce: object = None, reduction: object = "mean"
) -> Builder:
    return _weighted("weight", weight, Builder(""))


def _bce_with_logits_loss(
    weight: object = None,
    size_average: object = None,
    reduce: object = None,
    reduction: object = "mean",
    pos_weight: object = None,
) -> Builder:
    return _weighted("pos_weight", pos_weight, _weighted("weight", weight, Builder("")))


def _multi_margin_loss(
    p: object = 1,
    margin: object = 1.0,
    weight: object = None,
    size_average: object = None,
    reduce: object = None,
    reduction: object = "mean",
) -> Builder:
    return _weighted("weight", weight, Builder(""))


def _linear_cross_entropy_loss(
    in_features: object,
    num_classes: object,
    *,
    out_features: object = (),
    bias: object = False,
    device: object = None,
    dtype: object = None,
    reduction: object = "mean",
    weight: object = None,
    ignore_index: object = None,
    label_smoothing: object = 0.0,
    options: object = None,
) -> Builder:
    layer = _weighted("weight", weight, Builder("LinearCrossEntropyLoss"))
    factors = [dim(num_classes), *(dims(out_features, 1) or (None,) if out_features != () else ())]
    rows = None if None in factors else math.prod(factor for factor in factors if factor is not None)
    return layer.child("linear", _linear(in_features, rows, bias, dtype=dtype).build())


def _triplet_with_distance_loss(
    *,
    distance_function: object = None,
    margin: object = 1.0,
    swap: object = False,
    reduction: object = "mean",
) -> Builder:
    layer = Builder("TripletMarginWithDistanceLoss")
    if distance_function is None:
        return layer.child("distance_function", ModuleState("PairwiseDistance"))
    if isinstance(distance_function, ModuleState):
        return layer.child("distance_function", distance_function)
    return layer.open()


def _adaptive_log_softmax(
    in_features: object,
    n_classes: object,
    cutoffs: object,
    div_value: object = 4.0,
    head_bias: object = False,
    device: object = None,
    dtype: object = None,
) -> Builder:
    layer = Builder("AdaptiveLogSoftmaxWithLoss")
    if not isinstance(cutoffs, tuple | list) or not cutoffs:
        return layer.child("head", ModuleState("Linear", complete=False)).open()
    bounds = [dim(bound) for bound in (*cutoffs, n_classes)]
    first = bounds[0]
    head = None if first is None else first + len(cutoffs)
    layer.child("head", _linear(in_features, head, head_bias, dtype=dtype).build())
    tail, width, base = Builder("ModuleList"), dim(in_features), number(div_value)
    for index, (low, high) in enumerate(itertools.pairwise(bounds)):
        hidden = None if width is None or not base else int(width // base ** (index + 1))
        size = None if low is None or high is None else high - low
        projection = Builder("Sequential")
        projection.child("0", _linear(width, hidden, False, dtype=dtype).build())
        projection.child("1", _linear(hidden, size, False, dtype=dtype).build())
        tail.child(str(index), projection.build())
    return layer.child("tail", tail.build())


def _fractional_max_pool(
    kernel_size: object,
    output_size: object = None,
    output_ratio: object = None,
    return_indices: object = False,
    _random_samples: object = None,
) -> Builder:
    return _weighted("_random_samples", _random_samples, Builder(""))


# Containers -----------------------------------------------------------------------------------------------------------


def _fill(layer: Builder, items: Sequence[tuple[object, object]]) -> Builder:
    """Children as far as their names and they themselves are known."""
    for name, module in items:
        if not isinstance(name, str):
            return layer.open()
        if module is None:
            continue
        layer.child(name, module if isinstance(module, ModuleState) else ModuleState("", complete=False))
    return layer


def _sequential(*args: object) -> Builder:
    layer = Builder("Sequential")
    if len(args) == 1 and isinstance(args[0], Mapping):
        return _fill(layer, list(args[0].items()))
    for index, module in enumerate(args):
        if not isinstance(module, ModuleState):
            return layer.open()  # a single one may be an OrderedDict, a later one REST
        layer.child(str(index), module)
    return layer


def _module_list(modules: object = None) -> Builder:
    layer = Builder("ModuleList")
    if modules is None:
        return layer
    if not isinstance(modules, tuple | list):
        return layer.open()
    for index, module in enumerate(modules):
        if not isinstance(module, ModuleState):
            return layer.open()
        layer.child(str(index), module)
    return layer


def _module_dict(modules: object = None) -> Builder:
    layer = Builder("ModuleDict")
    if modules is None:
        return layer
    if isinstance(modules, Mapping):
        return _fill(layer, list(modules.items()))
    if isinstance(modules, tuple | list) and all(isinstance(pair, tuple | list) and len(pair) == 2 for pair in modules):
        return _fill(layer, [(pair[0], pair[1]) for pair in modules])
    return layer.open()


def _parameter_list(values: object = None) -> Builder:
    layer = Builder("ParameterList")
    return layer if values is None or values in ([], ()) else layer.open()


def _parameter_dict(parameters: object = None) -> Builder:
    layer = Builder("ParameterDict")
    return layer if parameters is None or parameters == {} else layer.open()


def _data_parallel(module: object, device_ids: object = None, output_device: object = None, dim: object = 0) -> Builder:
    layer = Builder("DataParallel")
    return layer.child("module", module if isinstance(module, ModuleState) else ModuleState("", complete=False))


_LAYERS: dict[str, Callable[..., Builder]] = {
    "AdaptiveLogSoftmaxWithLoss": _adaptive_log_softmax,
    "BCELoss": _bce_loss,
    "BCEWithLogitsLoss": _bce_with_logits_loss,
    "Bilinear": _bilinear,
    "CrossEntropyLoss": _cross_entropy_loss,
    "DataParallel": _data_parallel,
    "Embedding": _embedding,
    "EmbeddingBag": _embedding_bag,
    "FractionalMaxPool2d": _fractional_max_pool,
    "FractionalMaxPool3d": _fractional_max_pool,
    "GRU": _gru,
    "GRUCell": _cell(3),
    "GroupNorm": _group_norm,
    "LSTM": _lstm,
    "LSTMCell": _cell(4),
    "LayerNorm": _layer_norm,
    "LazyLinear": _lazy_linear,
    "Linear": _linear,
    "LinearCrossEntropyLoss": _linear_cross_entropy_loss,
    "ModuleDict": _module_dict,
    "ModuleList": _module_list,
    "MultiLabelSoftMarginLoss": _bce_loss,
    "MultiMarginLoss": _multi_margin_loss,
    "MultiheadAttention": _attention,
    "NLLLoss": _nll_loss,
    "NLLLoss2d": _nll_loss,
    "PReLU": _prelu,
    "ParameterDict": _parameter_dict,
    "ParameterList": _parameter_list,
    "RMSNorm": _rms_norm,
    "RNN": _rnn,
    "RNNBase": _rnn_base,
    "RNNCell": _rnn_cell,
    "RNNCellBase": _rnn_cell_base,
    "Sequential": _sequential,
    "SyncBatchNorm": _sync_batch_norm,
    "Transformer": _transformer,
    "TransformerDecoder": _decoder,
    "TransformerDecoderLayer": _decoder_layer,
    "TransformerEncoder": _encoder,
    "TransformerEncoderLayer": _encoder_layer,
    "_BatchNorm": _batch_norm("_BatchNorm"),
    "TripletMarginWithDistanceLoss": _triplet_with_distance_loss,
    **{f"BatchNorm{n}d": _batch_norm(f"BatchNorm{n}d") for n in (1, 2, 3)},
    **{f"Conv{n}d": _conv(n) for n in (1, 2, 3)},
    **{f"ConvTranspose{n}d": _conv_transpose(n) for n in (1, 2, 3)},
    **{f"InstanceNorm{n}d": _instance_norm(f"InstanceNorm{n}d") for n in (1, 2, 3)},
    **{f"LazyBatchNorm{n}d": _lazy_norm(f"LazyBatchNorm{n}d", "batch") for n in (1, 2, 3)},
    **{f"LazyConv{n}d": _lazy_conv for n in (1, 2, 3)},
    **{f"LazyConvTranspose{n}d": _lazy_conv_transpose for n in (1, 2, 3)},
    **{f"LazyInstanceNorm{n}d": _lazy_norm(f"LazyInstanceNorm{n}d", "instance") for n in (1, 2, 3)},
}
