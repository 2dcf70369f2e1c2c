"""The layers of Keras: what each holds once it is built, in the order of ``layer.weights``.

Keras creates weights when it sees the first input, so that dimensions which follow the input are known only where the
layer is told (``input_shape=``, ``input_dim=``). A weight that is trained is a ``parameter``, another one a ``buffer``.
The outcomes of TensorFlow 2.12.1 (Keras 2) and of Keras 3 are recorded in tests/data; where the two differ only what
both hold is claimed. State of random generators is no weight and is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from bn_audit.profile import Shape
from bn_audit.source.layers.build import Builder
from bn_audit.source.layers.values import UNKNOWN, bind, dim, dims, flag, number
from bn_audit.source.state import ModuleState, NormTraits, Slot

__all__ = ["STATELESS", "keras_layer"]

STATELESS = frozenset(
    """
    Activation ActivityRegularization AdaptiveAveragePooling1D AdaptiveAveragePooling2D AdaptiveAveragePooling3D
    AdaptiveMaxPooling1D AdaptiveMaxPooling2D AdaptiveMaxPooling3D Add AlphaDropout AugMix AutoContrast Average
    AveragePooling1D AveragePooling2D AveragePooling3D AvgPool1D AvgPool2D AvgPool3D CategoryEncoding CenterCrop
    Concatenate ContrastLimitedAdaptiveHistogramEqualization Cropping1D Cropping2D Cropping3D CutMix Dot Dropout ELU
    Equalization Flatten GaussianDropout GaussianNoise GlobalAveragePooling1D GlobalAveragePooling2D
    GlobalAveragePooling3D GlobalAvgPool1D GlobalAvgPool2D GlobalAvgPool3D GlobalMaxPool1D GlobalMaxPool2D
    GlobalMaxPool3D GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D HashedCrossing Hashing Identity InputLayer
    Lambda Layer LeakyReLU Masking MaxNumBoundingBoxes MaxPool1D MaxPool2D MaxPool3D MaxPooling1D MaxPooling2D
    MaxPooling3D Maximum MelSpectrogram Minimum MixUp Multiply Permute Pipeline RandAugment RandomBrightness
    RandomColorDegeneration RandomColorJitter RandomContrast RandomCrop RandomElasticTransform RandomErasing RandomFlip
    RandomGaussianBlur RandomGrayscale RandomHeight RandomHue RandomInvert RandomPerspective RandomPosterization
    RandomRotation RandomSaturation RandomSharpness RandomShear RandomTranslation RandomWidth RandomZoom ReLU
    RepeatVector Rescaling Reshape Resizing Softmax Solarization SpatialDropout1D SpatialDropout2D SpatialDropout3D
    Subtract ThresholdedReLU UnitNormalization UpSampling1D UpSampling2D UpSampling3D ZeroPadding1D ZeroPadding2D
    ZeroPadding3D
    """.split()  # noqa: SIM905
)
"""Layers without weights, whatever their arguments."""


def keras_layer(name: str, args: tuple[object, ...], kwargs: Mapping[str, object]) -> ModuleState | None:
    """What ``keras.layers.<name>(*args, **kwargs)`` holds once it is built, or None if Keras has no such layer.

    ``name`` may be a path below ``keras.layers`` (``experimental.SyncBatchNormalization``). Arguments are values as
    :mod:`bn_audit.source.layers.values` has them; a layer argument is a template. As in
    :func:`~bn_audit.source.layers.torch_nn.torch_layer`, an incomplete template lists what stands before the first
    doubtful weight.
    """
    name = name.rpartition(".")[2]
    if name in STATELESS:
        return ModuleState(name)
    make = _LAYERS.get(name)
    if make is None:
        return None
    values, known = bind(make, args, kwargs)
    values.pop("_", None)
    extra = values.pop("extra", {})
    common = extra if isinstance(extra, dict) else {}
    layer = make(**values, **{key: value for key, value in common.items() if key not in values})
    layer.type = name
    if known == "wrong":
        layer.open()
    return _as_configured(layer.build(), common, known == "open")


def _as_configured(state: ModuleState, common: Mapping[str, object], is_open: bool) -> ModuleState:
    """Apply what every Keras layer takes: ``trainable`` and ``dtype``."""
    trainable = flag(common.get("trainable", UNKNOWN if is_open else True))
    dtype = common.get("dtype", UNKNOWN if is_open else None)
    slots: list[Slot] = []
    for slot in state.slots:
        if trainable is None and slot.kind == "parameter":
            break
        kept = _variable_dtype(dtype) if slot.dtype == "float32" else slot.dtype
        slots.append(replace(slot, kind=slot.kind if trainable else "buffer", dtype=kept))
    whole = len(slots) == len(state.slots)
    children = state.children if whole else ()
    if state.type in _WITH_PARTS_OF_THEIR_OWN:
        children = tuple((name, _as_configured(child, common, is_open)) for name, child in children)
    elif trainable is not True:
        only = {"trainable": common.get("trainable", UNKNOWN)}
        children = tuple((name, _with_kinds(child, only)) for name, child in children)
    return replace(state, slots=tuple(slots), children=children, complete=state.complete and whole)


_WITH_PARTS_OF_THEIR_OWN = frozenset({"MultiHeadAttention"})


def _with_kinds(state: ModuleState, only: Mapping[str, object]) -> ModuleState:
    """A layer inside another that is frozen, or may be."""
    frozen = _as_configured(replace(state, children=()), only, False)
    if not frozen.complete and state.complete:
        return frozen
    slots = tuple(replace(new, dtype=old.dtype) for new, old in zip(frozen.slots, state.slots, strict=False))
    return replace(
        state, slots=slots, children=tuple((name, _with_kinds(child, only)) for name, child in state.children)
    )


def _variable_dtype(dtype: object) -> str | None:
    """The dtype of weights under a dtype policy: mixed precision keeps them float32."""
    if dtype is None:
        return "float32"
    if not isinstance(dtype, str):
        return None
    return "float32" if dtype.startswith("mixed_") else dtype


def _channels(extra: Mapping[str, object], axis: object = -1) -> int | None:
    """The last dimension of the input, if the layer is told."""
    shape = extra.get("input_shape", extra.get("batch_input_shape"))
    if isinstance(shape, tuple | list) and shape and axis in (-1, len(shape)):
        return dim(shape[-1])
    return dim(extra.get("input_dim")) if axis == -1 else None


def _last(extra: Mapping[str, object], data_format: object) -> int | None:
    """The channels of an image-like input."""
    return _channels(extra) if data_format in (None, "channels_last") else None


def _product(*factors: int | None) -> int | None:
    result = 1
    for factor in factors:
        if factor is None:
            return None
        result *= factor
    return result


# Dense and embedding --------------------------------------------------------------------------------------------------


def _dense(units: object, activation: object = None, use_bias: object = True, *_: object, **extra: object) -> Builder:
    layer = Builder("Dense").parameter("kernel", (_channels(extra), dim(units)))
    layer.parameter("bias", (dim(units),), flag(use_bias))
    return _with_lora(layer, extra)


def _with_lora(layer: Builder, extra: Mapping[str, object]) -> Builder:
    """Keras 3 adds matrices of low rank where it is asked to."""
    return layer.open() if extra.get("lora_rank") is not None else layer


def _einsum_dense(
    equation: object,
    output_shape: object,
    activation: object = None,
    bias_axes: object = None,
    *_: object,
    **extra: object,
) -> Builder:
    layer = Builder("EinsumDense").parameter("kernel", None)
    layer.parameter("bias", None, False if bias_axes is None else flag(bias_axes))
    return _with_lora(layer, extra)


def _embedding(input_dim: object, output_dim: object, *_: object, **extra: object) -> Builder:
    return _with_lora(Builder("Embedding").parameter("embeddings", (dim(input_dim), dim(output_dim))), extra)


def _prelu(*_: object, **extra: object) -> Builder:
    return Builder("PReLU").parameter("alpha", None)


# Convolution ----------------------------------------------------------------------------------------------------------


def _kernel(size: object, rank: int, *rest: int | None) -> Shape | None:
    spatial = dims(size, rank)
    return None if spatial is None else (*spatial, *rest)


def _conv(rank: int) -> Callable[..., Builder]:
    def make(
        filters: object,
        kernel_size: object,
        strides: object = 1,
        padding: object = "valid",
        data_format: object = None,
        dilation_rate: object = 1,
        groups: object = 1,
        activation: object = None,
        use_bias: object = True,
        *_: object,
        **extra: object,
    ) -> Builder:
        channels, parts = _last(extra, data_format), dim(groups)
        inputs = channels // parts if channels is not None and parts else None
        layer = Builder("").parameter("kernel", _kernel(kernel_size, rank, inputs, dim(filters)))
        return _with_lora(layer.parameter("bias", (dim(filters),), flag(use_bias)), extra)

    return make


def _conv_transpose(rank: int) -> Callable[..., Builder]:
    def make(
        filters: object,
        kernel_size: object,
        strides: object = 1,
        padding: object = "valid",
        output_padding: object = None,
        data_format: object = None,
        dilation_rate: object = 1,
        activation: object = None,
        use_bias: object = True,
        *_: object,
        **extra: object,
    ) -> Builder:
        layer = Builder("")
        layer.parameter("kernel", _kernel(kernel_size, rank, dim(filters), _last(extra, data_format)))
        return layer.parameter("bias", (dim(filters),), flag(use_bias))

    return make


def _depthwise(rank: int) -> Callable[..., Builder]:
    def make(
        kernel_size: object,
        strides: object = 1,
        padding: object = "valid",
        depth_multiplier: object = 1,
        data_format: object = None,
        dilation_rate: object = 1,
        activation: object = None,
        use_bias: object = True,
        *_: object,
        **extra: object,
    ) -> Builder:
        channels, factor = _last(extra, data_format), dim(depth_multiplier)
        layer = Builder("").parameter("depthwise_kernel", _kernel(kernel_size, rank, channels, factor))
        return layer.parameter("bias", (_product(channels, factor),), flag(use_bias))

    return make


def _separable(rank: int) -> Callable[..., Builder]:
    def make(
        filters: object,
        kernel_size: object,
        strides: object = 1,
        padding: object = "valid",
        data_format: object = None,
        dilation_rate: object = 1,
        depth_multiplier: object = 1,
        activation: object = None,
        use_bias: object = True,
        *_: object,
        **extra: object,
    ) -> Builder:
        channels, factor = _last(extra, data_format), dim(depth_multiplier)
        layer = Builder("").parameter("depthwise_kernel", _kernel(kernel_size, rank, channels, factor))
        layer.parameter("pointwise_kernel", (*(1,) * rank, _product(channels, factor), dim(filters)))
        return layer.parameter("bias", (dim(filters),), flag(use_bias))

    return make


def _locally_connected(
    filters: object,
    kernel_size: object,
    strides: object = 1,
    padding: object = "valid",
    data_format: object = None,
    activation: object = None,
    use_bias: object = True,
    *_: object,
    **extra: object,
) -> Builder:
    return Builder("").parameter("kernel", None).parameter("bias", None, flag(use_bias))


# Recurrent layers -----------------------------------------------------------------------------------------------------


def _recurrent(
    gates: int, units: object, use_bias: object, extra: Mapping[str, object], bias_rows: int | None = 1
) -> Builder:
    width = dim(units)
    columns = _product(gates, width)
    layer = Builder("").parameter("kernel", (_channels(extra), columns)).parameter("recurrent_kernel", (width, columns))
    bias: Shape | None = None if bias_rows is None else (columns,) if bias_rows == 1 else (bias_rows, columns)
    return layer.parameter("bias", bias, flag(use_bias))


def _lstm(
    units: object,
    activation: object = "tanh",
    recurrent_activation: object = "sigmoid",
    use_bias: object = True,
    *_: object,
    **extra: object,
) -> Builder:
    return _recurrent(4, units, use_bias, extra)


def _gru(
    units: object,
    activation: object = "tanh",
    recurrent_activation: object = "sigmoid",
    use_bias: object = True,
    *_: object,
    reset_after: object = True,
    **extra: object,
) -> Builder:
    after = UNKNOWN if _ else reset_after
    return _recurrent(3, units, use_bias, extra, None if after is UNKNOWN else 2 if after else 1)


def _simple_rnn(
    units: object, activation: object = "tanh", use_bias: object = True, *_: object, **extra: object
) -> Builder:
    return _recurrent(1, units, use_bias, extra)


def _conv_lstm(rank: int) -> Callable[..., Builder]:
    def make(
        filters: object,
        kernel_size: object,
        strides: object = 1,
        padding: object = "valid",
        data_format: object = None,
        dilation_rate: object = 1,
        activation: object = "tanh",
        recurrent_activation: object = "sigmoid",
        use_bias: object = True,
        *_: object,
        **extra: object,
    ) -> Builder:
        count = dim(filters)
        layer = Builder("")
        layer.parameter("kernel", _kernel(kernel_size, rank, _last(extra, data_format), _product(4, count)))
        layer.parameter("recurrent_kernel", _kernel(kernel_size, rank, count, _product(4, count)))
        return layer.parameter("bias", (_product(4, count),), flag(use_bias))

    return make


# Normalization --------------------------------------------------------------------------------------------------------


def _batch_normalization(
    axis: object = -1,
    momentum: object = 0.99,
    epsilon: object = 1e-3,
    center: object = True,
    scale: object = True,
    *_: object,
    synchronized: object = False,
    **extra: object,
) -> Builder:
    layer, features = Builder("BatchNormalization"), _channels(extra, axis)
    shape: Shape | None = None if isinstance(axis, tuple | list) else (features,)
    has_gamma, has_beta = flag(scale), flag(center)
    layer.parameter("gamma", shape, has_gamma).parameter("beta", shape, has_beta)
    layer.buffer("moving_mean", shape, "float32").buffer("moving_variance", shape, "float32")
    if flag(extra.get("renorm", False)) is not False:  # tf.compat.v1 keeps more statistics then
        layer.open()
    layer.norm = NormTraits(
        "BatchNormalization",
        affine=True if has_gamma or has_beta else None if None in (has_gamma, has_beta) else False,
        features=features,
        momentum=number(momentum),
        cumulative=False,
        eps=number(epsilon),
        family="sync" if synchronized is True else "batch",
    )
    return layer


def _sync_batch_normalization(
    axis: object = -1,
    momentum: object = 0.99,
    epsilon: object = 1e-3,
    center: object = True,
    scale: object = True,
    *_: object,
    **extra: object,
) -> Builder:
    """``experimental.SyncBatchNormalization``: in TensorFlow 2.12 no subclass of ``BatchNormalization``."""
    layer = _batch_normalization(axis, momentum, epsilon, center, scale, **extra)
    if layer.norm is not None:
        layer.norm = replace(layer.norm, type="SyncBatchNormalization", batchnorm=False, family="sync")
    return layer


def _per_axis(axis: object, extra: Mapping[str, object]) -> Shape | None:
    """One dimension for each normalised axis."""
    if isinstance(axis, tuple | list):
        return tuple(None for _ in axis)
    return None if dim(axis) is None else (_channels(extra, axis),)


def _layer_normalization(
    axis: object = -1,
    epsilon: object = 1e-3,
    center: object = True,
    scale: object = True,
    *_: object,
    rms_scaling: object = False,
    **extra: object,
) -> Builder:
    shape = _per_axis(axis, extra)
    layer = Builder("LayerNormalization").parameter("gamma", shape, flag(scale))
    rms = flag(rms_scaling)
    return layer.parameter("beta", shape, flag(center) if rms is False else None if rms is None else False)


def _group_normalization(
    groups: object = 32,
    axis: object = -1,
    epsilon: object = 1e-3,
    center: object = True,
    scale: object = True,
    *_: object,
    **extra: object,
) -> Builder:
    shape: Shape = (_channels(extra, axis),)
    return Builder("GroupNormalization").parameter("gamma", shape, flag(scale)).parameter("beta", shape, flag(center))


def _rms_normalization(axis: object = -1, epsilon: object = 1e-6, *_: object, **extra: object) -> Builder:
    return Builder("RMSNormalization").parameter("scale", _per_axis(axis, extra))


def _normalization(
    axis: object = -1, mean: object = None, variance: object = None, *_: object, **extra: object
) -> Builder:
    """Keras 2 keeps a mean, a variance and an integer count; Keras 3 no count."""
    layer = Builder("Normalization")
    if mean is not None or variance is not None:
        return layer if UNKNOWN not in (mean, variance) else layer.open()
    shape: Shape | None = () if axis is None else (_channels(extra),) if axis == -1 else None
    return layer.buffer("mean", shape, "float32").buffer("variance", shape, "float32").open()


# Attention ------------------------------------------------------------------------------------------------------------


def _attention(use_scale: object = False, score_mode: object = "dot", *_: object, **extra: object) -> Builder:
    layer = Builder("Attention").parameter("scale", (), flag(use_scale))
    concat = None if score_mode is UNKNOWN else score_mode == "concat"
    return layer.parameter("concat_score_weight", (), concat)


def _additive_attention(use_scale: object = True, *_: object, **extra: object) -> Builder:
    return Builder("AdditiveAttention").parameter("scale", (None,), flag(use_scale))


def _multi_head_attention(
    num_heads: object,
    key_dim: object,
    value_dim: object = None,
    dropout: object = 0.0,
    use_bias: object = True,
    *_: object,
    **extra: object,
) -> Builder:
    heads, keys = dim(num_heads), dim(key_dim)
    values = keys if value_dim is None else dim(value_dim)
    layer = Builder("MultiHeadAttention")
    for name, width in (("query", keys), ("key", keys), ("value", values)):
        part = Builder("EinsumDense").parameter("kernel", (None, heads, width))
        layer.child(name, part.parameter("bias", (heads, width), flag(use_bias)).build())
    simple = not _ and extra.get("output_shape") is None
    part = Builder("EinsumDense").parameter("kernel", (heads, values, None) if simple else None)
    return layer.child("attention_output", part.parameter("bias", (None,) if simple else None, flag(use_bias)).build())


# Layers that hold layers ----------------------------------------------------------------------------------------------


def _part(layer: object) -> ModuleState:
    return layer if isinstance(layer, ModuleState) else ModuleState("", complete=False)


def _wrapper(layer: object, *_: object, **extra: object) -> Builder:
    return Builder("Wrapper").child("layer", _part(layer))


def _bidirectional(
    layer: object,
    merge_mode: object = "concat",
    weights: object = None,
    backward_layer: object = None,
    *_: object,
    **extra: object,
) -> Builder:
    built = Builder("Bidirectional").child("forward_layer", _part(layer))
    return built.child("backward_layer", _part(layer if backward_layer is None else backward_layer))


def _rnn(cell: object, *_: object, **extra: object) -> Builder:
    if isinstance(cell, tuple | list):
        return Builder("RNN").child("cell", _stacked(cell).build())
    return Builder("RNN").child("cell", _part(cell))


def _stacked(cells: object, *_: object, **extra: object) -> Builder:
    layer = Builder("StackedRNNCells")
    if not isinstance(cells, tuple | list):
        return layer.open()
    for index, cell in enumerate(cells):
        layer.child(str(index), _part(cell))
    return layer


def _unknown(*_: object, **extra: object) -> Builder:
    """Layers whose weights depend on data they are shown, or on columns of features."""
    return Builder("").open()


_LAYERS: dict[str, Callable[..., Builder]] = {
    "AbstractRNNCell": lambda *_, **extra: Builder("AbstractRNNCell"),
    "AdditiveAttention": _additive_attention,
    "Attention": _attention,
    "BatchNormalization": _batch_normalization,
    "Bidirectional": _bidirectional,
    "Dense": _dense,
    "DenseFeatures": _unknown,
    "Discretization": _unknown,
    "EinsumDense": _einsum_dense,
    "Embedding": _embedding,
    "FlaxLayer": _unknown,
    "GRU": _gru,
    "GRUCell": _gru,
    "GroupNormalization": _group_normalization,
    "GroupQueryAttention": _unknown,
    "GroupedQueryAttention": _unknown,
    "IntegerLookup": _unknown,
    "JaxLayer": _unknown,
    "LSTM": _lstm,
    "LSTMCell": _lstm,
    "LayerNormalization": _layer_normalization,
    "LocallyConnected1D": _locally_connected,
    "LocallyConnected2D": _locally_connected,
    "MultiHeadAttention": _multi_head_attention,
    "Normalization": _normalization,
    "PReLU": _prelu,
    "RMSNormalization": _rms_normalization,
    "RNN": _rnn,
    "RandomFourierFeatures": _unknown,
    "ReversibleEmbedding": _unknown,
    "SimpleRNN": _simple_rnn,
    "SimpleRNNCell": _simple_rnn,
    "SpectralNormalization": _unknown,
    "STFTSpectrogram": _unknown,
    "StackedRNNCells": _stacked,
    "StringLookup": _unknown,
    "SyncBatchNormalization": _sync_batch_normalization,
    "TFSMLayer": _unknown,
    "TextVectorization": _unknown,
    "TimeDistributed": _wrapper,
    "TorchModuleWrapper": _unknown,
    "Wrapper": _wrapper,
    **{f"{name}{n}D": _conv(n) for n in (1, 2, 3) for name in ("Conv", "Convolution")},
    **{f"{name}{n}DTranspose": _conv_transpose(n) for n in (1, 2, 3) for name in ("Conv", "Convolution")},
    **{f"ConvLSTM{n}D": _conv_lstm(n) for n in (1, 2, 3)},
    **{f"DepthwiseConv{n}D": _depthwise(n) for n in (1, 2)},
    **{f"{name}{n}D": _separable(n) for n in (1, 2) for name in ("SeparableConv", "SeparableConvolution")},
}
