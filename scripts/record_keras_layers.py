"""Record what Keras layers really hold, for tests/source/test_keras_layers.py.

    python scripts/record_keras_layers.py OUT.json

Run it where TensorFlow is installed; tests/data/keras has the outcomes of 2.12.1 (Keras 2) and of 2.21.0 (Keras 3).
Each case is a layer, its arguments, and the shapes of the inputs it is called with; each outcome the layer's weights in
order. A layer among the arguments is written ``{"layer": [name, args, kwargs]}``.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

IMAGE, VOLUME, SERIES, ROWS = [2, 8, 8, 4], [2, 6, 6, 6, 4], [2, 9, 4], [2, 6]
Call = tuple[list[Any], dict[str, Any], list[list[int]]]
Arguments = list[tuple[list[Any], dict[str, Any]]]


def _same(shape: list[int], *calls: tuple[list[Any], dict[str, Any]]) -> list[Call]:
    return [(args, kwargs, [shape]) for args, kwargs in calls]


def _layer(name: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
    return {"layer": [name, list(args), kwargs]}


def _convolution(rank: int) -> list[Call]:
    shape = {1: SERIES, 2: IMAGE, 3: VOLUME}[rank]
    return _same(
        shape,
        ([6, 3], {}),
        ([6, [2] * rank], {"use_bias": False}),
        ([], {"filters": 5, "kernel_size": 1, "activation": "relu", "trainable": False}),
    )


def _depthwise(rank: int) -> list[Call]:
    shape = {1: SERIES, 2: IMAGE}[rank]
    return _same(shape, ([3], {}), ([2], {"depth_multiplier": 2, "use_bias": False}))


RECURRENT: Arguments = [([5], {}), ([5, "relu"], {"use_bias": False}), ([], {"units": 3, "return_sequences": True})]
NORMS: Arguments = [
    ([], {}),
    ([], {"center": False}),
    ([], {"scale": False}),
    ([], {"center": False, "scale": False, "trainable": False}),
]
RANDOM: Arguments = [([0.2], {})]

CASES: dict[str, list[Call]] = {
    "AdditiveAttention": [([], {}, [[2, 5, 4], [2, 6, 4]]), ([], {"use_scale": False}, [[2, 5, 4], [2, 6, 4]])],
    "Attention": [
        ([], {}, [[2, 5, 4], [2, 6, 4]]),
        ([True], {}, [[2, 5, 4], [2, 6, 4]]),
        ([], {"score_mode": "concat"}, [[2, 5, 4], [2, 6, 4]]),
    ],
    "BatchNormalization": [
        *_same(
            IMAGE, *NORMS, ([], {"axis": 1}), ([-1, 0.9, 1e-5], {"input_shape": [8, 8, 4]}), ([], {"dtype": "float64"})
        ),
        *_same(ROWS, ([], {"momentum": 0.5}), ([], {"synchronized": True})),
    ],
    "Bidirectional": _same(
        SERIES, ([_layer("LSTM", 5)], {}), ([], {"layer": _layer("GRU", 3, return_sequences=True), "merge_mode": "sum"})
    ),
    "Dense": _same(
        ROWS,
        ([5], {}),
        ([5, "relu", False], {}),
        ([], {"units": 2, "use_bias": True, "input_shape": [6]}),
        ([3], {"input_dim": 6, "trainable": False}),
        ([3], {"dtype": "float64"}),
    ),
    "EinsumDense": [
        (["abc,cd->abd"], {"output_shape": [None, 5], "bias_axes": "d"}, [SERIES]),
        (["abc,cd->abd"], {"output_shape": [None, 5]}, [SERIES]),
    ],
    "Embedding": _same(ROWS, ([10, 4], {}), ([], {"input_dim": 7, "output_dim": 3, "mask_zero": True})),
    "GRU": _same(SERIES, *RECURRENT, ([4], {"reset_after": False})),
    "GroupNormalization": _same(IMAGE, ([2], {}), ([], {"groups": 4, "center": False}), ([2], {"scale": False})),
    "LSTM": _same(SERIES, *RECURRENT, ([4], {"input_shape": [9, 4]})),
    "LayerNormalization": _same(IMAGE, *NORMS, ([[2, 3]], {}), ([], {"axis": 1})),
    "LocallyConnected1D": _same(SERIES, ([5, 3], {}), ([5, 3], {"use_bias": False})),
    "LocallyConnected2D": _same(IMAGE, ([5, 3], {})),
    "MultiHeadAttention": [
        ([2, 3], {}, [SERIES, SERIES]),
        ([2, 3], {"value_dim": 5, "use_bias": False}, [SERIES, SERIES]),
        ([2], {"key_dim": 4, "output_shape": 7}, [SERIES, SERIES]),
    ],
    "Normalization": _same(ROWS, ([], {}), ([], {"axis": None}), ([], {"mean": 1.0, "variance": 2.0})),
    "PReLU": _same(IMAGE, ([], {}), ([], {"shared_axes": [1, 2]})),
    "RMSNormalization": _same(ROWS, ([], {}), ([], {"axis": -1})),
    "RNN": _same(SERIES, ([_layer("LSTMCell", 5)], {}), ([[_layer("GRUCell", 3), _layer("GRUCell", 2)]], {})),
    "SimpleRNN": _same(SERIES, *RECURRENT),
    "SyncBatchNormalization": _same(IMAGE, ([], {}), ([], {"scale": False, "momentum": 0.9})),
    "TimeDistributed": _same(SERIES, ([_layer("Dense", 3)], {}), ([_layer("BatchNormalization")], {})),
    **{f"Conv{n}D": _convolution(n) for n in (1, 2, 3)},
    "Conv2DTranspose": _convolution(2),
    "Conv1DTranspose": _convolution(1),
    "Conv3DTranspose": _convolution(3),
    "ConvLSTM1D": _same([2, 3, 9, 4], ([5, 3], {})),
    "ConvLSTM2D": _same([2, 3, 8, 8, 4], ([5, 3], {}), ([5, 3], {"use_bias": False})),
    "DepthwiseConv1D": _depthwise(1),
    "DepthwiseConv2D": _depthwise(2),
    "SeparableConv1D": _same(SERIES, ([6, 3], {}), ([6, 3], {"use_bias": False, "depth_multiplier": 2})),
    "SeparableConv2D": _same(IMAGE, ([6, 3], {}), ([6, 3], {"use_bias": False, "depth_multiplier": 2})),
    # without weights
    "Activation": _same(ROWS, (["relu"], {})),
    "ActivityRegularization": _same(ROWS, ([0.1], {})),
    **{
        name: [([], {}, [ROWS, ROWS])]
        for name in ("Add", "Average", "Concatenate", "Maximum", "Minimum", "Multiply", "Subtract")
    },
    "Dot": [([1], {}, [ROWS, ROWS])],
    **{
        f"{name}{n}D": _same({1: SERIES, 2: IMAGE, 3: VOLUME}[n], ([], {}))
        for n in (1, 2, 3)
        for name in (
            "AdaptiveAveragePooling",
            "AdaptiveMaxPooling",
            "AveragePooling",
            "Cropping",
            "GlobalAveragePooling",
            "GlobalMaxPooling",
            "MaxPooling",
            "UpSampling",
            "ZeroPadding",
        )
        if not name.startswith("Adaptive")
    },
    **{f"Adaptive{kind}Pooling2D": _same(IMAGE, ([4], {})) for kind in ("Average", "Max")},
    **{name: _same(ROWS, ([0.2], {})) for name in ("AlphaDropout", "Dropout", "GaussianDropout", "GaussianNoise")},
    "SpatialDropout1D": _same(SERIES, ([0.2], {})),
    "SpatialDropout2D": _same(IMAGE, ([0.2], {})),
    "CategoryEncoding": _same(ROWS, ([5], {})),
    "CenterCrop": _same(IMAGE, ([4, 4], {})),
    **{
        name: _same(ROWS, ([], {}))
        for name in ("ELU", "Flatten", "Identity", "Layer", "LeakyReLU", "Masking", "ReLU", "Softmax")
    },
    "UnitNormalization": _same(ROWS, ([], {})),
    "InputLayer": [([], {"input_shape": [6]}, [])],
    "Permute": _same(SERIES, ([[2, 1]], {})),
    **{
        name: _same(IMAGE, *RANDOM)
        for name in (
            "RandomBrightness",
            "RandomColorDegeneration",
            "RandomContrast",
            "RandomElasticTransform",
            "RandomErasing",
            "RandomGrayscale",
            "RandomHue",
            "RandomInvert",
            "RandomPerspective",
            "RandomRotation",
            "RandomSaturation",
            "RandomSharpness",
            "RandomShear",
            "RandomZoom",
        )
    },
    "RandomCrop": _same(IMAGE, ([4, 4], {})),
    "RandomFlip": _same(IMAGE, ([], {}), (["horizontal"], {})),
    "RandomTranslation": _same(IMAGE, ([0.1, 0.1], {})),
    "RepeatVector": _same(ROWS, ([3], {})),
    "Rescaling": _same(IMAGE, ([0.5], {}), ([], {"scale": 0.5, "offset": 1.0})),
    "Reshape": _same(ROWS, ([[2, 3]], {})),
    "Resizing": _same(IMAGE, ([4, 4], {})),
    "Hashing": [([4], {}, [])],
}


def main(out: Path) -> None:
    import tensorflow as tf

    layers = tf.keras.layers

    def make(name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        def real(value: Any) -> Any:
            if isinstance(value, dict) and set(value) == {"layer"}:
                return make(*value["layer"])
            return [real(item) for item in value] if isinstance(value, list) else value

        where = layers if hasattr(layers, name) else layers.experimental
        return getattr(where, name)(*map(real, args), **{key: real(value) for key, value in kwargs.items()})

    outcomes = []
    for name, calls in sorted(CASES.items()):
        for args, kwargs, shapes in calls:
            try:
                layer = make(name, args, kwargs)
                inputs = [tf.ones(shape) for shape in shapes]
                if name in ("MultiHeadAttention",):
                    layer(*inputs)
                elif inputs:
                    layer(inputs[0] if len(inputs) == 1 else inputs)
            except Exception as error:
                print(f"{name} {args} {kwargs}: {type(error).__name__}: {str(error)[:90]}", file=sys.stderr)
                continue
            trained = {id(weight) for weight in layer.trainable_weights}
            weights = [
                [
                    weight.name.split(":")[0].rpartition("/")[2],
                    list(weight.shape),
                    weight.dtype if isinstance(weight.dtype, str) else weight.dtype.name,
                    id(weight) in trained,
                ]
                for weight in layer.weights
            ]
            batchnorm = isinstance(layer, layers.BatchNormalization)
            outcomes.append({"name": name, "args": args, "kwargs": kwargs, "weights": weights, "batchnorm": batchnorm})
    names = sorted(
        name
        for module in (layers, getattr(layers, "experimental", None), getattr(layers, "experimental", layers))
        if module is not None
        for name in dir(module)
        if isinstance(getattr(module, name), type) and issubclass(getattr(module, name), layers.Layer)
    )
    keras = getattr(tf.keras, "__version__", "")
    lines = ",\n".join(json.dumps(outcome) for outcome in outcomes)
    head = json.dumps({"tensorflow": tf.__version__, "keras": keras, "layers": sorted(set(names))})
    out.write_text(f'{head[:-1]},\n"outcomes": [\n{lines}\n]}}\n', encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
