"""The zoo beside what real models held (tests/data/zoo, by scripts/record_zoo_calls.py), and its file format."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bn_audit.source import zoo
from bn_audit.source.layers import REST, REST_KEYWORDS, UNKNOWN
from bn_audit.source.state import ModuleState, NormTraits, Slot
from bn_audit.source.zoo import codec
from bn_audit.source.zoo.models import meet

FILES = Path(zoo.__file__).parent
RECORDS = sorted((Path(__file__).parent.parent / "data" / "zoo").glob("*.json"))
CALLS = [
    pytest.param(*call, id=f"{path.stem}-{index}-{call[0].rpartition('.')[2]}")
    for path in RECORDS
    for index, call in enumerate(json.loads(path.read_text(encoding="utf-8")))
]


def entries(state: ModuleState, prefix: str = "") -> list[str]:
    found = [f"{prefix}{s.name} {list(s.shape or ())} {s.dtype} {s.kind}" for s in state.slots]
    for name, child in state.children:
        found += entries(child, f"{prefix}{name}.")
    return found


def names(state: ModuleState) -> list[str]:
    return [line.partition(" ")[0] for line in entries(state)]


def is_complete(state: ModuleState) -> bool:
    return state.complete and all(is_complete(child) for _, child in state.children)


def model(path: str, /, *args: Any, **kwargs: Any) -> ModuleState:
    found = zoo.model(path, args, kwargs)
    assert found is not None
    return found


@pytest.mark.parametrize(("path", "args", "kwargs", "count", "first", "last", "digest"), CALLS)
def test_answer_equals_the_real_model(
    path: str, args: list[Any], kwargs: dict[str, Any], count: int, first: str, last: str, digest: str
) -> None:
    state = model(path, *args, **kwargs)
    assert is_complete(state)
    lines = entries(state)
    if path.startswith("keras."):  # the layers' names depend on what was built before
        lines = [line.rpartition(".")[2] if "." in line.split()[0] else line for line in lines]
    assert (len(lines), lines[0], lines[-1]) == (count, first, last)
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == digest


def test_versions_are_inside() -> None:
    assert set(zoo.versions("torchvision")) == {"torch", "torchvision"}
    assert zoo.versions("no such library") == {}


@pytest.mark.parametrize("path", sorted(FILES.glob("*.bin")), ids=lambda path: str(path.stem))
def test_every_model_of_a_file_can_be_read(path: Path) -> None:
    library = codec.Library(path.read_bytes())
    for name in library.names[:: max(1, len(library.names) // 60)]:
        recipe = library.recipe(name)
        assert recipe is not None
        for variant in recipe.variants:
            tree = library.tree(variant.root, dict.fromkeys("nck", 5))
            assert entries(tree)
            if "given" not in variant.condition.get("img_size", ()):
                assert "None" not in "".join(entries(tree))


def test_files_are_small() -> None:
    sizes = [path.stat().st_size for path in FILES.glob("*.bin")]
    assert sizes
    assert max(sizes) < 1 << 20
    assert sum(sizes) < 2 << 20


def test_a_number_of_classes_that_is_not_known() -> None:
    state = model("torchvision.models.resnet18", num_classes=UNKNOWN)
    assert is_complete(state)
    assert dict(state.children)["fc"].slots == (
        Slot("weight", (None, 512), "float32", "parameter"),
        Slot("bias", (None,), "float32", "parameter"),
    )


def test_weights_change_nothing_in_a_classifier() -> None:
    plain = model("torchvision.models.resnet18")
    assert plain == model("torchvision.models.resnet18", weights="DEFAULT")
    assert plain == model("torchvision.models.resnet18", weights=UNKNOWN)
    assert plain == model("torchvision.models.resnet18", pretrained=True)
    assert plain == model("torchvision.models.resnet18", True, False)
    assert plain == model("torch.hub.load", "pytorch/vision:v0.10.0", "resnet18", pretrained=True)
    assert plain == model("torch.hub.load", repo_or_dir="pytorch/vision", model="resnet18", trust_repo=True)
    assert plain == model("torchvision.models.get_model", name="ResNet18")


def test_monais_old_names_of_arguments() -> None:
    name = "monai.networks.nets.TorchVisionFCModel"
    assert model(name, "resnet18", n_classes=4, pool=None) == model(name, "resnet18", num_classes=4, pool=None)


@pytest.mark.parametrize(
    ("name", "kwargs", "holds"),
    [
        ("UNet", {"channels": (24, 48), "strides": (2,), "norm": "BATCH"}, True),
        ("UNet", {"channels": UNKNOWN, "strides": UNKNOWN, "norm": "batch", "kernel_size": 5, "dropout": 0.1}, True),
        ("UNet", {"channels": (24, 48), "strides": (2,)}, False),
        ("UNet", {"channels": (24, 48), "strides": (2,), "norm": UNKNOWN}, False),
        ("UNet", {"channels": (24, 48), "strides": (2,), "norm": ("batch", {"affine": False})}, False),
        ("UNet", {"channels": (24, 48), "strides": (2,), "norm": "batch", "adn_ordering": "DA"}, False),
        ("AttentionUnet", {"channels": (24, 48), "strides": (2,)}, True),
        ("DenseNet121", {"init_features": 128}, True),
        ("DenseNet121", {"init_features": 128, "norm": "instance"}, False),
        ("SegResNet", {"init_filters": 12}, False),
    ],
)
def test_monais_nets_of_other_forms_have_batchnorm_all_the_same(
    name: str, kwargs: dict[str, object], holds: bool
) -> None:
    found = model(f"monai.networks.nets.{name}", spatial_dims=2, in_channels=1, out_channels=2, **kwargs)
    assert not found.complete
    assert not found.children
    assert found.holds is holds


def test_weights_freeze_the_norms_of_a_detector() -> None:
    def norm_types(state: ModuleState) -> set[str]:
        found = {state.norm.type} if state.norm is not None else set()
        return found.union(*(norm_types(child) for _, child in state.children))

    name = "torchvision.models.detection.fasterrcnn_resnet50_fpn"
    assert norm_types(model(name)) == {"FrozenBatchNorm2d"}
    assert norm_types(model(name, weights=UNKNOWN, num_classes=3)) == {"FrozenBatchNorm2d"}
    assert norm_types(model(name, weights=None, weights_backbone=None)) == {"BatchNorm2d"}
    either = model(name, weights=None, weights_backbone=UNKNOWN)
    assert not is_complete(either)
    assert norm_types(either) == set()


def test_an_auxiliary_head_that_may_be_there() -> None:
    name = "torchvision.models.segmentation.fcn_resnet50"
    without, with_head = model(name, aux_loss=False), model(name, aux_loss=True)
    either = model(name, aux_loss=UNKNOWN)
    assert not either.complete
    assert names(either) == names(without)
    assert names(with_head)[: len(names(either))] == names(either)


def test_what_was_not_recorded_is_not_claimed() -> None:
    for kwargs in ({"norm_layer": UNKNOWN}, {"width_per_group": 128}, {REST_KEYWORDS: UNKNOWN}):
        assert model("torchvision.models.resnet18", **kwargs) == ModuleState("ResNet", complete=False)
    assert model("torchvision.models.resnet18", REST) == ModuleState("ResNet", complete=False)
    assert model("torchvision.models.quantization.resnet18", quantize=UNKNOWN).complete is False


def test_names_the_zoo_does_not_know() -> None:
    for name in (
        "torchvision.models.no_such_model",
        "torchvision.resnet18",
        "torchvision.models.detection.resnet18",
        "resnet18",
        "other.models.resnet18",
    ):
        assert zoo.model(name, (), {}) is None
    assert zoo.model("torch.hub.load", ("someone/else", "resnet18"), {}) is None
    assert zoo.model("torch.hub.load", ("pytorch/vision", UNKNOWN), {}) is None
    assert zoo.model("timm.create_model", (UNKNOWN,), {}) is None
    assert zoo.model("timm.create_model", ("hf-hub:timm/resnet18.a1_in1k",), {}) is None


def test_a_child_can_be_cut_off() -> None:
    """``nn.Sequential(*list(resnet18().children())[:-1])`` needs the layers without state, too."""
    assert [(name, child.type) for name, child in model("torchvision.models.resnet18").children] == [
        ("conv1", "Conv2d"),
        ("bn1", "BatchNorm2d"),
        ("relu", "ReLU"),
        ("maxpool", "MaxPool2d"),
        *((f"layer{n}", "Sequential") for n in (1, 2, 3, 4)),
        ("avgpool", "AdaptiveAvgPool2d"),
        ("fc", "Linear"),
    ]


# What trees have in common --------------------------------------------------------------------------------------------

LINEAR = ModuleState(
    "Linear", (Slot("weight", (5, 4), "float32", "parameter"), Slot("bias", (5,), "float32", "parameter"))
)
NORM = ModuleState(
    "BatchNorm2d", (Slot("running_mean", (4,), "float32", "buffer"),), norm=NormTraits("BatchNorm2d", features=4)
)


def test_meet() -> None:
    other = ModuleState("Linear", (Slot("weight", (7, 4), "float32", "parameter"), *LINEAR.slots[1:]))
    both = meet(LINEAR, other)
    assert both.complete
    assert both.slots[0].shape == (None, 4)
    without_bias = meet(LINEAR, ModuleState("Linear", LINEAR.slots[:1]))
    assert (without_bias.slots, without_bias.complete) == (LINEAR.slots[:1], False)
    assert meet(LINEAR, NORM) == ModuleState("", complete=False)
    assert meet(ModuleState("Identity"), ModuleState("Dropout")) == ModuleState("")
    pair = ModuleState("Sequential", children=(("0", NORM), ("1", LINEAR)))
    assert meet(pair, ModuleState("Sequential", children=(("0", NORM), ("1", ModuleState("Identity"))))) == ModuleState(
        "Sequential", children=(("0", NORM), ("1", ModuleState("", complete=False)))
    )


# The file format ------------------------------------------------------------------------------------------------------

dims = st.one_of(
    st.integers(0, 5000), st.none(), st.tuples(st.sampled_from("nck"), st.integers(1, 9), st.integers(-3, 9))
)
identifiers = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
slots = st.tuples(
    identifiers,
    st.lists(dims, max_size=4).map(tuple),
    st.sampled_from(["float32", "int64", "bool"]),
    st.sampled_from(["parameter", "buffer"]),
    st.one_of(st.none(), st.integers(-2, 300)),
)
norms = st.one_of(
    st.none(),
    st.tuples(
        st.booleans(),
        st.booleans(),
        st.booleans(),
        st.booleans(),
        dims,
        st.one_of(st.none(), st.floats(0, 1)),
        st.one_of(st.none(), st.floats(0, 1)),
        st.sampled_from(["batch", "instance", "sync", "other"]),
    ),
)


@st.composite
def forests(draw: st.DrawFn) -> list[codec.Node]:
    """Nodes whose children come before them."""
    nodes: list[codec.Node] = []
    for index in range(draw(st.integers(1, 12))):
        count = draw(st.integers(0, min(index, 3)))
        children = tuple((f"c{k}", draw(st.integers(0, index - 1))) for k in range(count))
        own = tuple(draw(st.lists(slots, max_size=3)))
        nodes.append(codec.Node(draw(identifiers), draw(norms), own, children, draw(st.booleans())))
    return nodes


def expected(nodes: list[codec.Node], index: int, values: dict[str, int | None]) -> ModuleState:
    def dim(value: Any) -> int | None:
        if isinstance(value, tuple):
            letter, slope, offset = value
            return None if values[letter] is None else slope * values[letter] + offset
        assert value is None or isinstance(value, int)
        return value

    node = nodes[index]
    norm = None
    if node.norm is not None:
        batchnorm, tracked, affine, cumulative, features, momentum, eps, family = node.norm
        norm = NormTraits(
            node.type,
            batchnorm=batchnorm,
            tracked=tracked,
            affine=affine,
            cumulative=cumulative,
            features=dim(features),
            momentum=momentum,
            eps=eps,
            family=family,
        )
    return ModuleState(
        node.type,
        tuple(Slot(name, tuple(map(dim, shape)), dtype, kind, value) for name, shape, dtype, kind, value in node.slots),
        tuple((name, expected(nodes, child, values)) for name, child in node.children),
        norm,
        node.complete,
    )


@given(forests(), st.one_of(st.none(), st.integers(1, 99)))
def test_a_tree_survives_its_file(nodes: list[codec.Node], size: int | None) -> None:
    recipe = codec.Recipe(
        names=("model", "other"),
        variants=(codec.Variant({"flag": [True, None]}, len(nodes) - 1, {"num_classes": 3}),),
        function="build",
        paths=("a.b",),
        positional=("flag",),
        defaults={"x": [1, 2]},
        kinds={"flag": "flag"},
        absent={"flag": None},
        inert=("y",),
        renamed={"old": "flag"},
        letters={"num_classes": "n"},
    )
    data = codec.encode({"library": "1.0"}, [recipe], nodes, {"alias": "other", "dead": "no such model"})
    assert data == codec.encode({"library": "1.0"}, [recipe], nodes, {"alias": "other", "dead": "no such model"})
    library = codec.Library(data)
    assert library.versions == {"library": "1.0"}
    assert library.names == ("model", "other", "alias")
    for name in library.names:
        found = library.recipe(name)
        assert found is not None
        (variant,) = found.variants
        assert (variant.condition, variant.defaults) == (recipe.variants[0].condition, {"num_classes": 3})
        assert (found.paths, found.positional, found.defaults) == (recipe.paths, recipe.positional, recipe.defaults)
        values: dict[str, int | None] = dict.fromkeys("nck", size)
        assert library.tree(variant.root, values) == expected(nodes, len(nodes) - 1, values)
    assert library.recipe("dead") is None


def test_a_name_with_a_separator_is_refused() -> None:
    with pytest.raises(ValueError, match="separator"):
        codec.encode({}, [codec.Recipe(("m",), (codec.Variant({}, 0, {}),))], [codec.Node("a b", None, (), ())], {})
    with pytest.raises(ValueError, match="not a file"):
        codec.Library(b"something else")
