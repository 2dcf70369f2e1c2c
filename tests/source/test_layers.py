"""Every class of torch.nn is built for real and compared with its template, entry by entry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from bn_audit.source.layers import REST, REST_KEYWORDS, UNKNOWN, DType, external_layer, torch_layer  # noqa: E402
from bn_audit.source.layers.torch_nn import _LAYERS, STATELESS  # noqa: E402
from bn_audit.source.state import ModuleState, NormTraits  # noqa: E402
from tests.source.real import entries, state_of  # noqa: E402


@dataclass(frozen=True)
class Tensor:
    """Stands for a tensor argument: ``torch.ones(size)`` for torch, an opaque object for the template."""

    size: int


@dataclass(frozen=True)
class Layer:
    """A layer as an argument of another."""

    name: str
    args: tuple[Any, ...] = ()


def real(value: Any) -> Any:
    match value:
        case DType(name):
            return getattr(torch, name)
        case Tensor(size):
            return torch.ones(size)
        case Layer(name, args):
            return getattr(nn, name)(*map(real, args))
        case list() | tuple():
            return type(value)(map(real, value))
        case dict():
            return {key: real(item) for key, item in value.items()}
    return value


def known(value: Any) -> Any:
    match value:
        case Layer(name, args):
            return torch_layer(name, tuple(map(known, args)), {})
        case list() | tuple():
            return type(value)(map(known, value))
        case dict():
            return {key: known(item) for key, item in value.items()}
    return value


Cases = list[tuple[tuple[Any, ...], dict[str, Any]]]

HALF, DOUBLE = DType("float16"), DType("float64")
NORMS: Cases = [
    ((8,), {}),
    ((8, 1e-3), {"momentum": None}),
    ((8, 1e-3, 0.01, False), {}),
    ((8,), {"track_running_stats": False}),
    ((8, 1e-5, 0.1, True, True), {}),
    ((8, 1e-5, 0.1, False, False), {}),
    ((), {"num_features": 3, "affine": True, "dtype": HALF, "device": "cpu"}),
    ((8,), {"affine": True, "bias": False}),
]
LAZY_NORMS: Cases = [
    ((), {}),
    ((1e-3, 0.2, False), {}),
    ((), {"track_running_stats": False}),
    ((), {"dtype": HALF, "bias": False}),
]
CELLS: Cases = [
    ((3, 4), {}),
    ((3, 4, False), {}),
    ((), {"input_size": 2, "hidden_size": 5, "bias": True, "dtype": DOUBLE}),
]
RECURRENT: Cases = [
    ((3, 4), {}),
    ((3, 4, 2), {"bidirectional": True}),
    ((3, 4), {"num_layers": 3, "bias": False, "dropout": 0.1, "batch_first": True}),
    ((3, 4), {"num_layers": 2, "bidirectional": True, "bias": False, "dtype": DOUBLE}),
]
CLASS_WEIGHTS: Cases = [((), {}), ((Tensor(3),), {}), ((), {"weight": Tensor(4), "reduction": "sum"})]
ENCODER_LAYER = Layer("TransformerEncoderLayer", (8, 2, 16))
DECODER_LAYER = Layer("TransformerDecoderLayer", (8, 2, 16))


def convolutions(rank: int) -> Cases:
    return [
        ((4, 6, 3), {}),
        ((4, 6, (5,) * rank), {"bias": False}),
        (
            (),
            {
                "in_channels": 4,
                "out_channels": 8,
                "kernel_size": tuple(range(1, rank + 1)),
                "groups": 2,
                "dtype": DOUBLE,
            },
        ),
        ((4, 8, 3, 2, 1), {"groups": 4, "padding_mode": "zeros"}),
        ((4, 6, [3] * rank), {"bias": 0}),
    ]


LAZY_CONVOLUTIONS: Cases = [
    ((6, 3), {}),
    ((6, 3, 2, 1), {"bias": False}),
    ((), {"out_channels": 4, "kernel_size": 1, "dtype": HALF}),
]
TRANSFORMER_LAYERS: Cases = [
    ((8, 2), {}),
    ((8, 2, 16, 0.1), {"bias": False, "norm_first": True}),
    ((), {"d_model": 8, "nhead": 4, "dim_feedforward": 12, "activation": "gelu", "dtype": DOUBLE}),
    ((8, 2), {"activation": Layer("PReLU", (4,))}),
    ((8, 2), {"activation": Layer("GELU")}),
]

CASES: dict[str, Cases] = {
    "AdaptiveLogSoftmaxWithLoss": [
        ((64, 100, [10, 50]), {}),
        ((63, 100, (10,)), {"div_value": 2.0, "head_bias": True}),
        ((64, 100, [5, 20, 60], 3), {"dtype": DOUBLE}),
    ],
    "BCELoss": CLASS_WEIGHTS,
    "BCEWithLogitsLoss": [*CLASS_WEIGHTS, ((Tensor(3),), {"pos_weight": Tensor(3)}), ((), {"pos_weight": Tensor(2)})],
    "Bilinear": [((2, 3, 4), {}), ((2, 3, 4, False), {}), ((2, 3), {"out_features": 5, "dtype": DOUBLE})],
    "CrossEntropyLoss": CLASS_WEIGHTS,
    "DataParallel": [((Layer("BatchNorm2d", (3,)),), {})],
    "Embedding": [((10, 3), {}), ((10, 3, 0), {"dtype": HALF}), ((), {"num_embeddings": 4, "embedding_dim": 2})],
    "EmbeddingBag": [((10, 3), {}), ((10, 3), {"mode": "sum", "dtype": HALF})],
    "FractionalMaxPool2d": [((3, 2), {}), ((3,), {"output_size": 2, "_random_samples": Tensor(2)})],
    "FractionalMaxPool3d": [((3, 2), {}), ((3,), {"output_ratio": 0.5})],
    "GRU": RECURRENT,
    "GRUCell": CELLS,
    "GroupNorm": [((2, 8), {}), ((2, 8, 1e-3, False), {}), ((2, 8), {"bias": False, "dtype": HALF})],
    "LSTM": [
        *RECURRENT,
        ((3, 4), {"proj_size": 2}),
        ((3, 4, 2), {"proj_size": 2, "bidirectional": True, "bias": False}),
    ],
    "LSTMCell": CELLS,
    "LayerNorm": [
        ((8,), {}),
        (([4, 5],), {}),
        (((4, 5), 1e-3), {"bias": False}),
        ((8,), {"elementwise_affine": False}),
        ((8, 1e-5, True, True), {"dtype": HALF}),
    ],
    "LazyLinear": [((4,), {}), ((4, False), {}), ((), {"out_features": 3, "dtype": HALF})],
    "Linear": [
        ((3, 4), {}),
        ((3, 4, False), {}),
        ((), {"in_features": 2, "out_features": 5, "bias": None, "dtype": HALF}),
    ],
    "LinearCrossEntropyLoss": [
        ((3, 4), {}),
        ((3, 4), {"out_features": (2, 5), "bias": True}),
        ((3, 4), {"weight": Tensor(4)}),
    ],
    "ModuleDict": [
        ((), {}),
        (({"a": Layer("Linear", (2, 3)), "b": Layer("ReLU")},), {}),
        (([("x", Layer("BatchNorm1d", (4,)))],), {}),
    ],
    "ModuleList": [((), {}), (([Layer("Linear", (2, 3)), Layer("BatchNorm1d", (3,))],), {})],
    "MultiLabelSoftMarginLoss": CLASS_WEIGHTS,
    "MultiMarginLoss": [((), {}), ((1, 1.0, Tensor(3)), {}), ((), {"weight": Tensor(4)})],
    "MultiheadAttention": [
        ((8, 2), {}),
        ((8, 2), {"bias": False, "batch_first": True}),
        ((8, 2, 0.1, True, True), {}),
        ((8, 2), {"kdim": 4, "vdim": 6}),
        ((8, 2), {"kdim": 8, "vdim": 8, "dtype": DOUBLE}),
        ((8, 2), {"kdim": 8, "add_bias_kv": True, "bias": False}),
    ],
    "NLLLoss": CLASS_WEIGHTS,
    "NLLLoss2d": CLASS_WEIGHTS,
    "PReLU": [((), {}), ((5,), {}), ((), {"num_parameters": 3, "dtype": HALF})],
    "ParameterDict": [((), {})],
    "ParameterList": [((), {}), (([],), {})],
    "RMSNorm": [((8,), {}), (((4, 5), 1e-3), {}), ((8,), {"elementwise_affine": False}), ((8,), {"dtype": HALF})],
    "RNN": [*RECURRENT, ((3, 4, 2, "relu", False), {}), ((3, 4), {"nonlinearity": "tanh"})],
    "RNNBase": [(("GRU", 3, 4), {}), (("RNN_TANH", 3, 4, 2), {"bidirectional": True})],
    "RNNCell": [*CELLS, ((3, 4, True, "relu"), {})],
    "RNNCellBase": [((3, 4, True, 2), {}), ((3, 4, False), {"num_chunks": 3})],
    "Sequential": [
        ((), {}),
        ((Layer("Conv2d", (3, 4, 1)), Layer("BatchNorm2d", (4,)), Layer("ReLU")), {}),
    ],
    "SyncBatchNorm": NORMS,
    "Transformer": [
        ((), {"d_model": 8, "nhead": 2, "dim_feedforward": 12}),
        ((8, 2, 1, 2, 16), {"bias": False, "activation": "gelu"}),
        ((8, 2, 1, 1), {"custom_encoder": Layer("Linear", (8, 8)), "dtype": DOUBLE}),
        ((8, 2, 1, 1), {"custom_decoder": Layer("Linear", (8, 8))}),
    ],
    "TransformerDecoder": [
        ((DECODER_LAYER, 2), {}),
        ((DECODER_LAYER,), {"num_layers": 1, "norm": Layer("LayerNorm", (8,))}),
    ],
    "TransformerDecoderLayer": TRANSFORMER_LAYERS,
    "TransformerEncoder": [((ENCODER_LAYER, 2), {}), ((ENCODER_LAYER, 1, Layer("BatchNorm1d", (8,))), {})],
    "TransformerEncoderLayer": TRANSFORMER_LAYERS,
    "TripletMarginWithDistanceLoss": [((), {"swap": True}), ((), {"distance_function": Layer("PairwiseDistance")})],
    **{f"BatchNorm{n}d": NORMS for n in (1, 2, 3)},
    **{f"Conv{n}d": convolutions(n) for n in (1, 2, 3)},
    **{f"ConvTranspose{n}d": convolutions(n) for n in (1, 2, 3)},
    **{f"InstanceNorm{n}d": NORMS for n in (1, 2, 3)},
    **{f"LazyBatchNorm{n}d": LAZY_NORMS for n in (1, 2, 3)},
    **{f"LazyConv{n}d": LAZY_CONVOLUTIONS for n in (1, 2, 3)},
    **{f"LazyConvTranspose{n}d": LAZY_CONVOLUTIONS for n in (1, 2, 3)},
    **{f"LazyInstanceNorm{n}d": LAZY_NORMS for n in (1, 2, 3)},
}
FLAT = [(name, args, kwargs) for name, cases in sorted(CASES.items()) for args, kwargs in cases]
IDS = [f"{name}-{index}" for name, cases in sorted(CASES.items()) for index in range(len(cases))]
SOME_ARGUMENTS: list[tuple[Any, ...]] = [(), (2,), (2, 3), (0.1, 20), (1, (2, 2))]


def build(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> nn.Module:
    if name == "DataParallel" and torch.cuda.is_available():
        kwargs = {**kwargs, "device_ids": []}
    module = getattr(nn, name)(*real(args), **real(kwargs))
    assert isinstance(module, nn.Module)
    return module


@pytest.mark.parametrize(("name", "args", "kwargs"), FLAT, ids=IDS)
def test_layer_with_state(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    expected = state_of(build(name, args, kwargs))
    found = torch_layer(name, known(args), known(kwargs))
    assert found is not None
    assert _without_given_tensors(found) == _without_given_tensors(
        expected, Tensor in map(type, (*args, *kwargs.values()))
    )


def _without_given_tensors(state: ModuleState, drop: bool = True) -> ModuleState:
    """Buffers that hold an argument have a shape the template cannot know."""
    if not drop:
        return state
    slots = tuple(
        type(slot)(slot.name, None, None, slot.kind)
        if slot.name in ("pos_weight", "_random_samples") or (slot.name == "weight" and slot.kind == "buffer")
        else slot
        for slot in state.slots
    )
    return ModuleState(state.type, slots, state.children, state.norm, state.complete)


@pytest.mark.parametrize("name", sorted(STATELESS))
def test_layer_without_state(name: str) -> None:
    built = []
    for args in SOME_ARGUMENTS:
        try:
            built.append(getattr(nn, name)(*args))
        except (TypeError, ValueError, AssertionError):
            continue
    assert built, "no arguments fit: add some to SOME_ARGUMENTS"
    for module in built:
        assert state_of(module) == ModuleState(name)
    assert torch_layer(name, (UNKNOWN, 1), {"anything": UNKNOWN}) == ModuleState(name)


def test_no_class_is_forgotten() -> None:
    classes = {
        name
        for name in {*nn.modules.__all__, *dir(nn)}
        if isinstance(getattr(nn, name), type) and issubclass(getattr(nn, name), nn.Module)
    }
    containers = {"Container"}  # deprecated, takes children as keywords
    assert classes - containers == STATELESS | (set(_LAYERS) - {"_BatchNorm"})
    assert set(CASES) == set(_LAYERS) - {"_BatchNorm"}


def test_every_positional_argument_is_torchs() -> None:
    import inspect

    for name in sorted(set(_LAYERS) - {"RNN", "GRU", "LSTM", "NLLLoss2d", "Sequential", "_BatchNorm"}):
        theirs = inspect.signature(getattr(nn, name)).parameters.values()
        ours = inspect.signature(_LAYERS[name]).parameters.values()
        assert [(p.name, p.kind) for p in ours] == [(p.name, p.kind) for p in theirs], name


@pytest.mark.parametrize(("name", "args", "kwargs"), FLAT, ids=IDS)
def test_unknown_arguments_claim_nothing_wrong(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """With one argument not known, what is still said holds for the real layer."""
    expected = state_of(build(name, args, kwargs))
    calls: Cases = [
        *(((*known(args[:k]), UNKNOWN, *known(args[k + 1 :])), known(kwargs)) for k in range(len(args))),
        *((known(args), {**known(kwargs), key: UNKNOWN}) for key in kwargs),
        *(((*known(args[:k]), REST), known(kwargs)) for k in range(len(args) + 1)),
        *(
            (known(args), {k: v for k, v in known(kwargs).items() if k != key} | {REST_KEYWORDS: UNKNOWN})
            for key in kwargs
        ),
        ((UNKNOWN,) * len(args), dict.fromkeys(kwargs, UNKNOWN)),
        ((REST,), {REST_KEYWORDS: UNKNOWN}),
    ]
    for some_args, some_kwargs in calls:
        found = torch_layer(name, some_args, some_kwargs)
        assert found is not None
        assert_agrees(found, expected)


def assert_agrees(found: ModuleState, expected: ModuleState) -> None:
    if found.type:
        assert found.type == expected.type
    if found.complete:
        assert len(found.slots) == len(expected.slots)
        assert len(found.children) == len(expected.children)
    if not found.complete and len(found.slots) < len(expected.slots):
        assert not found.children
    for slot, true in zip(found.slots, expected.slots, strict=False):
        assert (slot.name, slot.kind) == (true.name, true.kind)
        assert slot.dtype in (None, true.dtype)
        if slot.shape is not None:
            assert true.shape is not None
            assert len(slot.shape) == len(true.shape)
            assert all(ours in (None, theirs) for ours, theirs in zip(slot.shape, true.shape, strict=True))
    for (name, child), (true_name, true_child) in zip(found.children, expected.children, strict=False):
        assert name == true_name
        assert_agrees(child, true_child)
    if found.norm is None:
        assert expected.norm is None or not found.complete or not found.type
    elif expected.norm is not None:
        for trait in NormTraits.__dataclass_fields__:
            if trait not in ("momentum",):
                assert getattr(found.norm, trait) in (None, getattr(expected.norm, trait)), trait


def test_arguments_that_do_not_bind() -> None:
    wrong = torch_layer("BatchNorm2d", (8,), {"no_such_argument": 1})
    assert wrong is not None
    assert not wrong.complete
    assert wrong.norm is not None
    assert wrong.norm.batchnorm
    missing = torch_layer("Linear", (), {})
    assert missing == ModuleState("Linear", complete=False, slots=missing.slots if missing else ())
    assert not missing.complete


def test_unknown_flags() -> None:
    norm = torch_layer("BatchNorm2d", (8,), {"affine": UNKNOWN})
    assert norm is not None
    assert norm.norm is not None
    assert (norm.norm.affine, norm.norm.tracked, norm.complete, norm.slots) == (None, True, False, ())
    linear = torch_layer("Linear", (UNKNOWN, 4), {"bias": UNKNOWN})
    assert linear is not None
    assert [(slot.name, slot.shape) for slot in linear.slots] == [("weight", (4, None))]
    assert not linear.complete
    instance = torch_layer("InstanceNorm2d", (8,), {"track_running_stats": UNKNOWN})
    assert instance is not None
    assert instance.norm is not None
    assert (instance.norm.tracked, instance.norm.family) == (None, "instance")


def test_names() -> None:
    assert torch_layer("modules.batchnorm.BatchNorm2d", (4,), {}) == torch_layer("BatchNorm2d", (4,), {})
    assert torch_layer("modules.BatchNorm2d", (4,), {}) == torch_layer("BatchNorm2d", (4,), {})
    assert torch_layer("functional.Linear", (1, 2), {}) is None
    assert torch_layer("NoSuchLayer", (), {}) is None
    base = torch_layer("modules.batchnorm._BatchNorm", (4,), {})
    assert base is not None
    assert entries(base) == entries(state_of(nn.BatchNorm2d(4)))


def test_copies_of_one_layer_are_equal() -> None:
    stack = torch_layer("TransformerEncoder", (known(ENCODER_LAYER), 6), {})
    assert stack is not None
    assert entries(stack) == entries(state_of(build("TransformerEncoder", (ENCODER_LAYER, 6), {})))


def test_quantized_batch_norm() -> None:
    for name in ("BatchNorm2d", "BatchNorm3d"):
        for kwargs in ({}, {"eps": 1e-3, "momentum": 0.2}):
            layer = getattr(torch.ao.nn.quantized, name)(4, **kwargs)
            assert external_layer(f"torch.ao.nn.quantized.{name}", (4,), kwargs) == state_of(layer)
    assert external_layer("torch.nn.BatchNorm2d", (4,), {}) is None


def test_external_layers() -> None:
    frozen = external_layer("torchvision.ops.misc.FrozenBatchNorm2d", (6,), {})
    assert frozen is not None
    names = ["weight", "bias", "running_mean", "running_var"]
    assert [(slot.name, slot.shape, slot.kind) for slot in frozen.slots] == [(name, (6,), "buffer") for name in names]
    assert frozen.norm is not None
    assert (frozen.norm.batchnorm, frozen.norm.family, frozen.norm.tracked) == (False, "other", True)
    assert external_layer("torchvision.ops.FrozenBatchNorm2d", (6,), {"dtype": 1}) is not None
    wrong = external_layer("torchvision.ops.FrozenBatchNorm2d", (6,), {"dtype": 1})
    assert wrong is not None
    assert not wrong.complete
    act = external_layer("timm.layers.BatchNormAct2d", (6,), {"apply_act": False})
    assert act is not None
    assert act.complete
    assert [name for name, _ in act.children] == ["drop", "act"]
    odd = external_layer("timm.models.layers.norm_act.BatchNormAct2d", (6,), {"act_layer": UNKNOWN})
    assert odd is not None
    assert not odd.children[1][1].complete
    evo = external_layer("timm.layers.EvoNorm2dB0", (6,), {"drop_layer": UNKNOWN})
    assert evo is not None
    assert [slot.name for slot in evo.slots] == ["weight", "bias", "v", "running_var"]
    inner = external_layer("torch_geometric.nn.BatchNorm", (6,), {})
    assert inner is not None
    assert (inner.norm, [name for name, _ in inner.children]) == (None, ["module"])
    assert external_layer("timm.layers.GroupNormAct", (6,), {}) is None
    naive = external_layer("detectron2.layers.NaiveSyncBatchNorm", (6,), {"stats_mode": "N"})
    assert naive is not None
    assert naive.complete
