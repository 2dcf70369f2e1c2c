"""Record what the models of torchvision, timm, segmentation-models-pytorch, MONAI, efficientnet_pytorch and Keras hold,
for bn_audit/source/zoo.

    python scripts/build_zoo.py LIBRARY [--out DIR] [--only GLOB] [--jobs N]

where LIBRARY is one of torchvision, timm, smp, monai, efficientnet, fedml, flamby and keras.

Every model is built for real, without memory for its weights (on torch's meta device), several times: with its
defaults, with other numbers of classes and of input channels, and with the switches people use (``weights``,
``num_classes=0``, ``features_only=True``, ``aux_loss`` ...). What differs between the builds becomes a variable or a
variant; an argument that changes nothing is written down as such; whatever else was passed to a model is not known and
the reader says so. benchmarks/zoo_check.py compares the reader's answers with models built for random calls.

It needs the library at hand (torchvision 0.28.0, timm 1.0.31, segmentation-models-pytorch 0.6.0, MONAI 1.6.1 and
efficientnet_pytorch 0.7.1, fedml 0.9.6 and FLamby's commit edacf54, which no index has, installed with ``--no-deps``
beside torch 2.13.0; TensorFlow 2.12.1 for Keras). The bytes it writes depend on the libraries alone.
"""

from __future__ import annotations

import argparse
import contextlib
import enum
import fnmatch
import gc
import importlib
import inspect
import itertools
import os
import sys
import time
import types
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bn_audit.source.zoo import codec  # noqa: E402

OUT = ROOT / "bn_audit" / "source" / "zoo"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


# ---------------------------------------------------------------------------------------------------------------------
# Trees of what was built. Equal subtrees are one object: a model is an id in `Nodes`.


class Nodes:
    """Hash-consing: equal nodes get one id, children before parents."""

    def __init__(self) -> None:
        self.list: list[codec.Node] = []
        self.ids: dict[codec.Node, int] = {}

    def add(self, node: codec.Node) -> int:
        found = self.ids.get(node)
        if found is None:
            found = self.ids[node] = len(self.list)
            self.list.append(node)
        return found

    def __getitem__(self, index: int) -> codec.Node:
        return self.list[index]


class Mismatch(Exception):
    """Two builds differ in more than the dimensions that may differ."""


Dim = Any
Sizes = dict[str, "int | None"]


def merge_dims(nodes: Nodes, roots: tuple[int, ...], join: Callable[[tuple[Any, ...]], Any]) -> int:
    """The tree of several builds of one model, with ``join`` deciding each dimension from the builds' values."""
    memo: dict[tuple[int, ...], int] = {}

    def walk(ids: tuple[int, ...]) -> int:
        if all(i == ids[0] for i in ids):
            return ids[0]
        if (done := memo.get(ids)) is not None:
            return done
        parts = [nodes[i] for i in ids]
        first = parts[0]
        for other in parts[1:]:
            if (
                first.type != other.type
                or [s[0] for s in first.slots] != [s[0] for s in other.slots]
                or [s[2:] for s in first.slots] != [s[2:] for s in other.slots]
                or [len(s[1]) for s in first.slots] != [len(s[1]) for s in other.slots]
                or [c[0] for c in first.children] != [c[0] for c in other.children]
                or (first.norm is None) != (other.norm is None)
                or (first.norm and other.norm and first.norm[:4] + first.norm[5:] != other.norm[:4] + other.norm[5:])
            ):
                raise Mismatch(first.type)
        slots = tuple(
            (s[0], tuple(join(tuple(p.slots[k][1][d] for p in parts)) for d in range(len(s[1]))), *s[2:])
            for k, s in enumerate(first.slots)
        )
        norm = first.norm
        if norm is not None:
            norm = (*norm[:4], join(tuple(p.norm[4] for p in parts if p.norm)), *norm[5:])
        children = tuple(
            (name, walk(tuple(p.children[k][1] for p in parts))) for k, (name, _) in enumerate(first.children)
        )
        result = memo[ids] = nodes.add(codec.Node(first.type, norm, slots, children, first.complete))
        return result

    return walk(roots)


def same_state(nodes: Nodes, a: int, b: int) -> bool:
    """Whether two trees hold the same, the types of modules without entries aside (Identity and Dropout)."""
    if a == b:
        return True
    x, y = nodes[a], nodes[b]
    if x.slots != y.slots or x.norm != y.norm or [c[0] for c in x.children] != [c[0] for c in y.children]:
        return False
    if x.type != y.type and (x.slots or x.norm):
        return False
    return all(same_state(nodes, i, j) for (_, i), (_, j) in zip(x.children, y.children, strict=True))


# ---------------------------------------------------------------------------------------------------------------------
# What a library offers.


class Given(enum.Enum):
    """Stands for any value but None of an argument whose presence is all that matters."""

    GIVEN = "given"


GIVEN = Given.GIVEN
Build = Callable[[dict[str, Any]], int]


@dataclass
class Offer:
    """A constructor, and the calls of it that are recorded.

    Attributes:
        name: under which the reader looks it up within the library; several names, separated by blanks, for equal ones.
        build: from keyword arguments to a recorded root.
        function: its name in the modules that export it, if that is another.
        paths: the modules that export it.
        positional: names of the positional arguments.
        defaults: values of arguments that mean the same as passing nothing.
        sizes: argument -> the default of the variable, or None if the builds have to tell it.
        switches: argument -> (kind, what an absent argument means); a size may be a switch, too.
        calls: the values of switches to build with; the first is the base.
        known_inert: arguments of which the library's source says that they change nothing that is held.
        inert: argument -> a value to try; those that change nothing are written down.
        renamed: other names of arguments (``pretrained`` for ``weights``).
        free: argument -> values to try; the dimensions that follow it become unknown.
        like: the offer before it that differs at most in the default of ``num_classes``, which is then
            ``default_classes``, if that can be shown.
        others: how to build the names after the first; those that hold something else by default are left out.
    """

    name: str
    build: Build
    function: str = ""
    paths: tuple[str, ...] = ()
    positional: tuple[str, ...] = ()
    defaults: dict[str, Any] = field(default_factory=dict)
    sizes: dict[str, int | None] = field(default_factory=dict)
    switches: dict[str, tuple[str, Any]] = field(default_factory=dict)
    calls: list[dict[str, Any]] = field(default_factory=lambda: [{}])
    known_inert: tuple[str, ...] = ()
    inert: dict[str, Any] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)
    free: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    like: str = ""
    default_classes: int = 0
    others: dict[str, Build] = field(default_factory=dict)


# Three other values of each size. Were two sizes to move together, their dimensions could not be told apart.
OTHER_SIZES = {
    "num_classes": (7, 13, 16),
    "classes": (7, 13, 16),
    "in_chans": (5, 4, 9),
    "in_channels": (5, 4, 9),
    "input_channels": (5, 4, 9),
    "num_keypoints": (42, 31, 35),
    "out_channels": (7, 13, 16),
    "n_input_channels": (5, 4, 9),
    "class_num": (7, 13, 16),
    "out_classes": (7, 13, 16),
}
LETTERS = {
    "input_channels": "c",
    "num_classes": "n",
    "classes": "n",
    "in_chans": "c",
    "in_channels": "c",
    "num_keypoints": "k",
    "out_channels": "n",
    "n_input_channels": "c",
    "class_num": "n",
    "out_classes": "n",
}


def solve(nodes: Nodes, roots: list[int], points: list[Sizes]) -> tuple[int, dict[str, int]]:
    """One tree for builds with different sizes: dimensions become ``slope * size + offset``; and the sizes' defaults.

    A size of the first build may be None: the builds tell what it is. Raises Mismatch where no size explains a
    dimension.
    """
    defaults: dict[str, int] = {name: value for name, value in points[0].items() if value is not None}

    def join(dims: tuple[Any, ...]) -> Dim:
        if all(d == dims[0] for d in dims):
            return dims[0]
        if any(not isinstance(d, int) for d in dims):
            raise Mismatch("dim")
        for name in points[0]:
            known = [(size, d) for p, d in zip(points, dims, strict=True) if (size := p[name]) is not None]
            if points[0][name] is None and name in defaults:
                known.append((defaults[name], dims[0]))
            (v0, d0), others = known[0], [pair for pair in known[1:] if pair[0] != known[0][0]]
            if not others:
                continue
            slope, rest = divmod(others[0][1] - d0, others[0][0] - v0)
            offset = d0 - slope * v0
            if rest or slope <= 0 or any(slope * v + offset != d for v, d in known):
                continue
            if len({v for v, _ in known}) == 2 and offset:
                continue  # two points prove no offset
            if name not in defaults:
                default, rest = divmod(dims[0] - offset, slope)
                if rest or default <= 0:
                    continue
                defaults[name] = default
            return (LETTERS[name], slope, offset)
        raise Mismatch("dim")

    merge_dims(nodes, tuple(roots), join)  # finds the defaults, which the first dimensions may need
    return merge_dims(nodes, tuple(roots), join), defaults


def record(offer: Offer, nodes: Nodes, log: Callable[[str], None]) -> codec.Recipe | None:
    """Build the model in its ways and say what was learnt; None if it cannot be built at all."""
    done: dict[str, int | None] = {}

    def build(kwargs: dict[str, Any]) -> int | None:
        key = repr(sorted(kwargs.items(), key=lambda item: item[0]))
        if key not in done:
            try:
                done[key] = offer.build(kwargs)
            except Exception as error:  # an argument the model does not take, a size it cannot have, anything
                done[key] = None
                if not kwargs:
                    log(f"{offer.name}: {type(error).__name__}: {str(error)[:120]}")
        return done[key]

    base = build(offer.calls[0])
    if base is None:
        return None
    variants: list[codec.Variant] = []
    default_sizes = dict(offer.sizes)
    for call in offer.calls:
        root = build(call)
        if root is None:
            continue
        condition = {
            name: ["given" if call.get(name) is GIVEN else call[name]] if name in call else [absent]
            for name, (_, absent) in offer.switches.items()
        }
        sizes = {name: value for name, value in default_sizes.items() if name not in call}
        solved, defaults = _sized(nodes, build, call, root, sizes)
        if call == offer.calls[0]:
            default_sizes |= {name: value for name, value in defaults.items() if value > 0}
        for name in sizes:
            if name not in defaults and all(build({**call, name: other}) is None for other in OTHER_SIZES[name]):
                defaults[name] = codec.FIXED
        for name in sizes:
            if name in condition and defaults.get(name, codec.FIXED) != codec.FIXED:
                condition[name] = [codec.ABSENT, codec.SIZE]
        variants.append(codec.Variant(condition, solved, defaults))
        for name in sizes:
            if name in condition and name not in defaults:  # given as a number, it makes another tree (a head, say)
                others = {other: value for other, value in sizes.items() if other != name and other in defaults}
                extra = _given_sizes(nodes, build, call, (name, *others))
                if extra is not None:
                    found = {other: defaults[other] for other in others} | {name: 0}
                    variants.append(codec.Variant({**condition, name: [codec.SIZE]}, extra, found))
        for argument, tries in offer.free.items() if call == offer.calls[0] else ():
            loose = _free(nodes, build, call, argument, tries, root, solved)
            if loose is not None:
                variants.append(codec.Variant({**condition, argument: ["given"]}, loose, defaults))
    free = {argument for argument in offer.free if any(argument in v.condition for v in variants)}
    for variant in variants:
        for argument in free:
            variant.condition.setdefault(argument, [None])
    inert = list(offer.known_inert)
    together = build({**offer.calls[0], **offer.inert}) if offer.inert else None
    if together is not None and same_state(nodes, together, base):
        inert += offer.inert
    else:
        for argument, value in offer.inert.items():
            alone = build({**offer.calls[0], argument: value})
            if alone is not None and same_state(nodes, alone, base):
                inert.append(argument)
    kinds = {name: kind for name, (kind, _) in offer.switches.items()} | dict.fromkeys(sorted(free), "presence")
    return codec.Recipe(
        names=tuple(offer.name.split()),
        function=offer.function,
        paths=offer.paths,
        positional=offer.positional,
        defaults=offer.defaults,
        kinds=kinds,
        absent={name: absent for name, (_, absent) in offer.switches.items()} | dict.fromkeys(sorted(free)),
        inert=tuple(sorted(set(inert))),
        renamed=dict(sorted(offer.renamed.items())),
        letters={name: LETTERS[name] for name in offer.sizes},
        variants=tuple(variants),
    )


def evaluate(nodes: Nodes, root: int, values: Mapping[str, int]) -> int:
    """The tree with numbers in place of variables (by letter)."""
    memo: dict[int, int] = {}

    def dim(value: Dim) -> Dim:
        return value[1] * values[value[0]] + value[2] if isinstance(value, tuple) else value

    def walk(index: int) -> int:
        if index not in memo:
            node = nodes[index]
            slots = tuple((s[0], tuple(map(dim, s[1])), *s[2:]) for s in node.slots)
            norm = node.norm and (*node.norm[:4], dim(node.norm[4]), *node.norm[5:])
            children = tuple((name, walk(child)) for name, child in node.children)
            memo[index] = nodes.add(node._replace(slots=slots, norm=norm, children=children))
        return memo[index]

    return walk(root)


def derive(offer: Offer, known: codec.Recipe, nodes: Nodes) -> codec.Recipe | None:
    """The recipe of a model that is another one with other default sizes; None if it is not."""
    try:
        root = offer.build(dict(offer.calls[0]))
    except Exception:
        return None
    base = known.variants[0]
    if any(default <= 0 for default in base.defaults.values()) or len(base.defaults) != len(offer.sizes):
        return None
    values = base.defaults | {"num_classes": offer.default_classes}
    if evaluate(nodes, base.root, {known.letters[size]: value for size, value in values.items()}) != root:
        return None
    variants = tuple(
        replace(v, defaults=v.defaults | {"num_classes": offer.default_classes})
        if v.defaults.get("num_classes", 0) > 0
        else v
        for v in known.variants
    )
    return replace(known, names=tuple(offer.name.split()), paths=offer.paths, variants=variants)


def _sized(
    nodes: Nodes,
    build: Callable[[dict[str, Any]], int | None],
    call: dict[str, Any],
    root: int,
    sizes: Sizes,
) -> tuple[int, dict[str, int]]:
    """The root with variables for the sizes that hold (all of them, or a single one), and their defaults."""
    for names in [tuple(sizes), *((name,) for name in sizes if len(sizes) > 1)]:
        if not names:
            continue
        count = 2 if any(sizes[name] is None for name in names) else 1
        points: list[Sizes] = [{name: OTHER_SIZES[name][k] for name in names} for k in range(count)]
        builds = [build({**call, **point}) for point in points]
        if any(other is None for other in builds):
            continue
        try:
            first: Sizes = {name: sizes[name] for name in names}
            solved, defaults = solve(nodes, [root, *(b for b in builds if b is not None)], [first, *points])
        except Mismatch:
            continue
        return solved, {name: defaults.get(name, 0) for name in names}
    return root, {}


def _given_sizes(
    nodes: Nodes, build: Callable[[dict[str, Any]], int | None], call: dict[str, Any], names: tuple[str, ...]
) -> int | None:
    """The tree of a model that is given sizes although its default has no such size (``num_classes`` 0)."""
    points: list[Sizes] = [{name: OTHER_SIZES[name][k] for name in names} for k in range(3)]
    builds = [build({**call, **point}) for point in points]
    if any(other is None for other in builds):
        return None
    try:
        return solve(nodes, [b for b in builds if b is not None], points)[0]
    except Mismatch:
        return None


def _free(
    nodes: Nodes,
    build: Callable[[dict[str, Any]], int | None],
    call: dict[str, Any],
    argument: str,
    tries: tuple[Any, ...],
    root: int,
    solved: int,
) -> int | None:
    """``solved`` with None for every dimension that moves with the argument; None unless two values could be tried."""
    loose, tried = solved, 0
    for value in tries:
        other = build({**call, argument: value})
        if other is None:
            continue
        try:
            loose = merge_dims(nodes, (loose, root, other), lambda dims: dims[0] if dims[1] == dims[2] else None)
        except Mismatch:
            return None
        tried += 1
    return loose if tried >= 2 else None


# ---------------------------------------------------------------------------------------------------------------------
# torch


def prepare_torch() -> None:
    """Make building cheap: no initialisation, no downloads, and torchvision importable without its compiled part."""
    import torch

    warnings.simplefilter("ignore")
    library: Any = vars(torch.library)["Library"]("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    globals()["_kept"] = library
    for name in [n for n in dir(torch.nn.init) if n.endswith("_") and not n.startswith("_")]:
        setattr(torch.nn.init, name, lambda tensor, *args, **kwargs: tensor)
    for name in ("normal_", "uniform_", "erfinv_"):
        setattr(torch.Tensor, name, lambda self, *args, **kwargs: self)
    torch.hub.load_state_dict_from_url = lambda *args, **kwargs: {}
    with contextlib.suppress(ImportError):
        weight_init = importlib.import_module("timm.layers.weight_init")
        vars(weight_init)["_trunc_normal_"] = lambda tensor, *args, **kwargs: tensor


def record_torch(module: Any, nodes: Nodes, memo: dict[int, int] | None = None) -> int:
    """A live module as a node; what is no persistent buffer or parameter is left out, as state_dict() does."""
    from torch import nn
    from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
    from torch.nn.modules.instancenorm import _InstanceNorm

    memo = {} if memo is None else memo
    if id(module) in memo:
        return memo[id(module)]
    type_name = type(module).__name__
    slots: list[tuple[Any, ...]] = []
    for name, parameter in module._parameters.items():
        if parameter is not None:
            slots.append((name, tuple(parameter.shape), _dtype(parameter), "parameter", None))
    for name, buffer in module._buffers.items():
        if buffer is not None and name not in module._non_persistent_buffers_set:
            value = None
            if buffer.ndim == 0 and not buffer.dtype.is_floating_point:
                value = 0 if name == "num_batches_tracked" else None if buffer.is_meta else int(buffer)
            slots.append((name, tuple(buffer.shape), _dtype(buffer), "buffer", value))
    complete = type(module).get_extra_state is nn.Module.get_extra_state
    norm = None
    tracked = any(s[0] in ("running_mean", "running_var") for s in slots)
    if isinstance(module, _BatchNorm) or tracked:
        batchnorm = isinstance(module, _BatchNorm)
        family = (
            "sync"
            if isinstance(module, nn.SyncBatchNorm)
            else "batch"
            if batchnorm
            else "instance"
            if isinstance(module, _InstanceNorm)
            else "other"
        )
        features = next((s[1][0] for s in slots if len(s[1]) == 1), getattr(module, "num_features", None))
        momentum = getattr(module, "momentum", None)
        cumulative = isinstance(module, _NormBase) and momentum is None
        affine = any(s[0] in ("weight", "bias") for s in slots)
        norm = (batchnorm, tracked, affine, cumulative, features, momentum, getattr(module, "eps", None), family)
    children = tuple(
        (name, record_torch(child, nodes, memo)) for name, child in module._modules.items() if child is not None
    )
    result = memo[id(module)] = nodes.add(codec.Node(type_name, norm, tuple(slots), children, complete))
    return result


def _dtype(tensor: Any) -> str:
    return str(tensor.dtype).removeprefix("torch.")


SHARED: dict[str, list[str]] = {}


def note_shared(name: str, model: Any) -> None:
    """Remember models in which one tensor stands under two keys (the reader cannot tell them apart)."""
    seen: dict[int, str] = {}
    for key, tensor in model.state_dict(keep_vars=True).items():
        if hasattr(tensor, "shape") and id(tensor) in seen:
            SHARED.setdefault(name, []).append(f"{key} = {seen[id(tensor)]}")
        seen.setdefault(id(tensor), key)


def torch_builder(name: str, nodes: Nodes, call: Callable[..., Any]) -> Callable[[dict[str, Any]], int]:
    import torch

    def build(kwargs: dict[str, Any]) -> int:
        try:
            with torch.device("meta"):
                model = call(**kwargs)
        except (NotImplementedError, RuntimeError) as error:
            if "meta tensor" not in str(error):
                raise
            model = call(**kwargs)  # reads the value of a tensor while it builds
        if not kwargs:
            note_shared(name, model)
        return record_torch(model, nodes)

    return build


def exporters(package: str, function: Any) -> tuple[str, ...]:
    """The modules of a package that export a function under its own name."""
    return tuple(
        sorted(
            name
            for name, module in sys.modules.items()
            if (name == package or name.startswith(package + "."))
            and getattr(module, function.__name__, None) is function
        )
    )


def positional_of(function: Callable[..., Any]) -> tuple[str, ...]:
    parameters = inspect.signature(function).parameters.values()
    return tuple(p.name for p in parameters if p.kind is not p.VAR_KEYWORD and p.kind is not p.VAR_POSITIONAL)


def literal_defaults(function: Callable[..., Any]) -> dict[str, Any]:
    """Defaults that are plain values: passing one is passing nothing."""
    found = {}
    for parameter in inspect.signature(function).parameters.values():
        value = list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default
        if value is None or isinstance(value, str | int | float | list):
            found[parameter.name] = value
    return found


# --- torchvision -----------------------------------------------------------------------------------------------------

TORCHVISION_INERT: dict[str, Any] = {
    "dropout": 0.25,
    "zero_init_residual": True,
    "replace_stride_with_dilation": [False, True, True],
    "memory_efficient": True,
    "drop_rate": 0.25,
    "stochastic_depth_prob": 0.3,
    "attention_dropout": 0.1,
    "transform_input": True,
    "init_weights": False,
    "dropout_aux": 0.25,
    "trainable_backbone_layers": 1,
    "min_size": 400,
    "max_size": 600,
    "image_mean": [0.1, 0.2, 0.3],
    "image_std": [0.1, 0.2, 0.3],
    "box_score_thresh": 0.1,
    "box_nms_thresh": 0.4,
    "box_detections_per_img": 10,
    "rpn_pre_nms_top_n_train": 100,
    "rpn_pre_nms_top_n_test": 100,
    "rpn_post_nms_top_n_train": 100,
    "rpn_post_nms_top_n_test": 100,
    "rpn_nms_thresh": 0.5,
    "score_thresh": 0.1,
    "nms_thresh": 0.1,
    "detections_per_img": 10,
}


def torchvision_offers(nodes: Nodes, only: str) -> Iterator[Offer]:
    from torchvision import models

    skip_weights()

    for name in models.list_models():
        if not fnmatch.fnmatch(name, only):
            continue
        builder = models.get_model_builder(name)
        parameters = inspect.signature(builder).parameters
        weights = models.get_model_weights(name).DEFAULT if len(models.get_model_weights(name)) else None
        if weights is not None and "quantize" in parameters:
            weights = weights.meta["unquantized"]  # what quantize=False, its default, takes

        def call(_builder: Any = builder, _weights: Any = weights, **kwargs: Any) -> Any:
            if kwargs.get("weights") is GIVEN:
                kwargs["weights"] = _weights
            if kwargs.get("weights_backbone") is GIVEN:
                del kwargs["weights_backbone"]  # the default of every builder that has it
            return _builder(**kwargs)

        values: dict[str, tuple[Any, ...]] = {"weights": (None, GIVEN) if weights else (None,)}
        switches: dict[str, tuple[str, Any]] = {"weights": ("presence", None)}
        renamed = {"pretrained": "weights"}
        if "weights_backbone" in parameters:
            default = parameters["weights_backbone"].default
            values["weights_backbone"] = (GIVEN, None) if default is not None else (None,)
            switches["weights_backbone"] = ("presence", None if default is None else "given")
            renamed["pretrained_backbone"] = "weights_backbone"
        if "aux_loss" in parameters:
            values["aux_loss"], switches["aux_loss"] = (None, True, False), ("flag", None)
        if "googlenet" in name or "inception" in name:
            values["aux_logits"], switches["aux_logits"] = (codec.ABSENT, True, False), ("flag", codec.ABSENT)
        if "quantize" in parameters:
            values["quantize"], switches["quantize"] = (False,), ("flag", False)
        calls = [
            {k: v for k, v in zip(values, chosen, strict=True) if v != codec.ABSENT}
            for chosen in itertools.product(*values.values())
        ]
        sizes: dict[str, int | None] = {"num_classes": None}
        if "num_keypoints" in parameters:
            sizes["num_keypoints"] = None
        detection = builder.__module__.startswith("torchvision.models.detection")
        yield Offer(
            name=name,
            build=torch_builder(name, nodes, call),
            function="" if builder.__name__ == name else builder.__name__,
            paths=exporters("torchvision.models", builder),
            positional=positional_of(builder),
            defaults=literal_defaults(builder),
            sizes=sizes,
            switches=switches,
            calls=calls,
            known_inert=("progress",) if "progress" in parameters else (),
            inert={k: v for k, v in TORCHVISION_INERT.items() if detection == (k in DETECTION_INERT)},
            renamed=renamed,
        )


def skip_weights() -> None:
    """Let torchvision's builders take ``weights`` without fetching or loading them."""
    from torch import nn
    from torchvision.models._api import WeightsEnum

    setattr(WeightsEnum, "get_state_dict", lambda self, *args, **kwargs: {})  # noqa: B010
    setattr(nn.Module, "load_state_dict", lambda self, *args, **kwargs: None)  # noqa: B010


DETECTION_INERT = set(itertools.dropwhile(lambda name: name != "trainable_backbone_layers", TORCHVISION_INERT))


# --- timm ------------------------------------------------------------------------------------------------------------


TIMM_CALLS: list[dict[str, Any]] = [
    {},
    {"num_classes": 0},
    {"num_classes": 0, "global_pool": ""},
    {"features_only": True},
]


def timm_offers(nodes: Nodes, only: str) -> Iterator[Offer]:
    import timm
    from timm.models import _registry as registry

    for name in sorted(timm.list_models(), key=lambda n: (timm.model_entrypoint(n).__module__, n)):
        if not fnmatch.fnmatch(name, only):
            continue
        entry = timm.model_entrypoint(name)
        tags: dict[str, list[str]] = {}
        for tag in sorted(registry._model_with_tags.get(name, [])):
            config = registry._model_pretrained_cfgs.get(tag)
            tags.setdefault(_timm_defaults(config), []).append(tag)
        plain = _timm_defaults(registry._model_default_cfgs.get(name) and registry.get_pretrained_cfg(name))
        groups = {plain: [name]}
        for config, group in tags.items():
            groups.setdefault(config, []).extend(t for t in group if t != name)
        for config, group in groups.items():
            first = group[0]

            yield Offer(
                name=" ".join(group),
                build=torch_builder(first, nodes, partial(timm.create_model, first)),
                others={other: torch_builder(other, nodes, partial(timm.create_model, other)) for other in group[1:]},
                paths=exporters("timm.models", entry) if name in group else (),
                positional=("pretrained",),
                sizes={"num_classes": None, "in_chans": 3},
                switches={
                    "num_classes": ("size", codec.ABSENT),
                    "features_only": ("flag", False),
                    "global_pool": ("flag", codec.ABSENT),
                },
                calls=TIMM_CALLS,
                known_inert=("cache_dir", "checkpoint_path", "exportable", "no_jit", "pretrained", "scriptable"),
                inert={"drop_rate": 0.1, "drop_path_rate": 0.1},
                free={"img_size": (64, 96, 256, 512)},
                like=name if first != name else "",
                default_classes=int(config[1:].partition(",")[0]) if config else 0,
            )


def _timm_defaults(config: Any) -> str:
    """The parts of a pretrained configuration that change what is built."""
    if config is None:
        return ""
    shape = config.input_size if config.fixed_input_size else config.input_size[:1]
    return repr((config.num_classes, shape, config.fixed_input_size))


TIMM_DEPRECATED_MODULE = "timm.models._registry"


def timm_aliases() -> dict[str, str]:
    """Deprecated names, and the names they stand for."""
    registry = importlib.import_module(TIMM_DEPRECATED_MODULE)
    return {old: new for old, new in sorted(registry._deprecated_models.items()) if new}


# --- segmentation-models-pytorch -------------------------------------------------------------------------------------


SMP_TIMM_ENCODERS = """
    convnext_base convnext_small convnext_tiny convnextv2_tiny densenet121 densenet169 edgenext_small efficientnet_b0
    efficientnet_b1 efficientnet_b2 efficientnet_b3 efficientnet_b4 efficientnet_b5 efficientnetv2_rw_s ghostnet_100
    hrnet_w18 hrnet_w32 mambaout_tiny maxvit_tiny_tf_512 mobilenetv2_100 mobilenetv3_large_100 mobilenetv3_small_100
    mobilenetv4_conv_medium mobilenetv4_conv_small mobileone_s0 resnet101 resnet18 resnet34 resnet50 resnet50d
    resnext50_32x4d seresnet50 seresnext50_32x4d tf_efficientnet_b0 tf_efficientnet_b3 tf_efficientnet_b4
    tf_efficientnet_b5 tf_efficientnetv2_b0 tf_efficientnetv2_m tf_efficientnetv2_s vit_base_patch16_224.augreg_in21k
    vit_base_patch16_384 vit_large_patch16_384 vit_small_patch16_224 xception41
""".split()  # noqa: SIM905
"""Widely used timm models, as ``tu-`` encoders; the rest of timm's thousand would take a file of their own."""


def smp_encoders() -> list[str]:
    """The encoders smp lists, its ``timm-`` names for timm models, and ``tu-`` names people use."""
    import segmentation_models_pytorch as smp
    import timm

    renamed = [
        "timm-" + name.removeprefix("tf_")
        for pattern in ("regnet[xy]_???", "resnest*", "res2ne[xt]*", "gernet_?", "tf_mobilenetv3_*")
        for name in timm.list_models(pattern)
    ]
    return sorted({*smp.encoders.encoders, *renamed, *(f"tu-{name}" for name in SMP_TIMM_ENCODERS)})


def smp_offers(nodes: Nodes, only: str) -> Iterator[Offer]:
    import segmentation_models_pytorch as smp

    encoders = smp_encoders()
    for architecture in smp._MODEL_ARCHITECTURES:
        parameters = inspect.signature(architecture).parameters
        switches: dict[str, tuple[str, Any]] = {"aux_params": ("flag", None)}
        calls: list[dict[str, Any]] = [{}]
        for switch, absent, values in (
            ("decoder_attention_type", None, ["scse"]),
            ("decoder_use_norm", "batchnorm", [False]),
            ("decoder_use_batchnorm", None, [True, False]),
            ("psp_use_batchnorm", None, [True, False]),
        ):
            if switch in parameters or switch in inspect.getsource(architecture):
                switches[switch] = ("flag", absent)
                calls += [{switch: value} for value in values]
        for encoder in encoders:
            name = f"{architecture.__name__}:{encoder}"
            if not fnmatch.fnmatch(name, only):
                continue

            def call(_architecture: Any = architecture, _encoder: str = encoder, **kwargs: Any) -> Any:
                return _architecture(_encoder, encoder_weights=None, **kwargs)

            yield Offer(
                name=name,
                build=torch_builder(name, nodes, call),
                positional=positional_of(architecture),
                defaults=literal_defaults(architecture),
                sizes={"classes": parameters["classes"].default, "in_channels": parameters["in_channels"].default},
                switches=switches,
                calls=calls if encoder in smp.encoders.encoders else calls[:1],
                known_inert=("encoder_name", "encoder_weights"),
                inert={"activation": "sigmoid", "decoder_interpolation": "bilinear", "upsampling": 2},
            )


# --- MONAI -----------------------------------------------------------------------------------------------------------

MONAI_LEVELS = (
    ((16, 32, 64, 128, 256), (2, 2, 2, 2)),
    ((32, 64, 128, 256, 512), (2, 2, 2, 2)),
    ((64, 128, 256, 512, 1024), (2, 2, 2, 2)),
    ((4, 8, 16, 32, 64), (2, 2, 2, 2)),
    ((16, 32, 64, 128), (2, 2, 2)),
    ((16, 32, 64), (2, 2)),
    ((8, 16, 32), (2, 2)),
)
"""Channels and strides of U-Nets as MONAI's tutorials and bundles write them; others are not known."""
MONAI_NETS: dict[str, dict[str, Any]] = {
    **{
        f"DenseNet{depth}": {
            "spatial_dims": (2, 3),
            "norm": ("batch", "instance"),
            "sizes": ("in_channels", "out_channels"),
        }
        for depth in (121, 169, 201, 264)
    },
    **{
        f"resnet{depth}": {"spatial_dims": (3, 2), "sizes": ("n_input_channels", "num_classes")}
        for depth in (10, 18, 34, 50, 101, 152, 200)
    },
    **{
        name: {"spatial_dims": (3, 2), "sizes": ("in_channels", "num_classes")}
        for name in ("SEResNet50", "SEResNet101", "SEResNet152", "SEResNext50", "SEResNext101", "SENet154")
    },
    "EfficientNetBN": {
        "model_name": tuple(f"efficientnet-b{number}" for number in range(9)),
        "spatial_dims": (2, 3),
        "sizes": ("in_channels", "num_classes"),
    },
    "FlexibleUNet": {
        "backbone": (*(f"efficientnet-b{number}" for number in range(5)), "resnet18", "resnet34", "resnet50"),
        "spatial_dims": (2, 3),
        "sizes": ("in_channels", "out_channels"),
    },
    "UNet": {
        "spatial_dims": (2, 3),
        "levels": MONAI_LEVELS,
        "num_res_units": (0, 2),
        "norm": ("instance", "batch"),
        "sizes": ("in_channels", "out_channels"),
    },
    "AttentionUnet": {
        "spatial_dims": (2, 3),
        "levels": MONAI_LEVELS,
        "sizes": ("in_channels", "out_channels"),
    },
    "BasicUNet": {"spatial_dims": (3, 2), "norm": ("", "batch"), "sizes": ("in_channels", "out_channels")},
    "SegResNet": {"spatial_dims": (3, 2), "norm": ("", "batch"), "sizes": ("in_channels", "out_channels")},
    "SegResNetDS": {"spatial_dims": (3, 2), "norm": ("batch", "instance"), "sizes": ("in_channels", "out_channels")},
    "VNet": {"spatial_dims": (3, 2), "sizes": ("in_channels", "out_channels")},
    "HighResNet": {"spatial_dims": (3, 2), "sizes": ("in_channels", "out_channels")},
}
"""The switches of MONAI's networks, each with its values; the first is what an absent argument means where the
constructor has a default for it, "" one that is no plain value."""


MONAI_BACKBONES = (
    *(f"resnet{depth}" for depth in (18, 34, 50, 101, 152)),
    *("resnext50_32x4d", "resnext101_32x8d", "wide_resnet50_2", "wide_resnet101_2"),
)
"""torchvision's models of which ``TorchVisionFCModel`` replaces the head: those that its documentation names."""


def monai_offers(nodes: Nodes, only: str) -> Iterator[Offer]:
    nets = importlib.import_module("monai.networks.nets")
    for name, ways in MONAI_NETS.items():
        network = getattr(nets, name)
        if not fnmatch.fnmatch(name, only):
            continue
        parameters = inspect.signature(_monai_base(nets, network)).parameters
        filled = {"spatial_dims": ways["spatial_dims"][0], "norm": None} | dict.fromkeys(ways["sizes"], 1)
        required = {key: one for key, one in filled.items() if _is_required(parameters, key)}

        def call(_network: Any = network, _required: dict[str, Any] = required, **kwargs: Any) -> Any:
            return _network(**{**_required, **kwargs})

        switches: dict[str, tuple[str, Any]] = {}
        rows: list[dict[str, Any]] = [{}]
        for switch, values in ways.items():
            if switch == "sizes":
                continue
            if switch == "levels":
                switches |= {"channels": ("flag", None), "strides": ("flag", None)}
                rows = [row | {"channels": list(one), "strides": list(two)} for row in rows for one, two in values]
                continue
            absent = None if _is_required(parameters, switch) else values[0]
            switches[switch] = ("flag", absent)
            rows = [row if value == absent else row | {switch: value} for row in rows for value in values]
        yield Offer(
            name=" ".join(dict.fromkeys((name, name.lower(), *_monai_aliases(nets, network)))),
            build=torch_builder(name, nodes, call),
            paths=("monai.networks.nets", network.__module__),
            positional=positional_of(network),
            sizes={size: 1 if size in required else parameters[size].default for size in ways["sizes"]},
            switches=switches,
            calls=rows,
            known_inert=("pretrained", "progress"),
        )
    network = nets.TorchVisionFCModel
    if fnmatch.fnmatch(network.__name__, only):
        skip_weights()
        yield Offer(
            name=network.__name__,
            build=torch_builder(network.__name__, nodes, network),
            paths=("monai.networks.nets", network.__module__),
            positional=positional_of(network),
            sizes={"num_classes": 1},
            switches={
                "model_name": ("flag", MONAI_BACKBONES[0]),
                "use_conv": ("flag", False),
                "pool": ("presence", "given"),
                "bias": ("flag", True),
            },
            calls=[
                {"model_name": name} | way
                for name in MONAI_BACKBONES
                for way in ({}, {"use_conv": True}, {"pool": None}, {"bias": False})
            ],
            known_inert=("dim", "pretrained", "weights"),
        )


def _monai_base(nets: Any, network: Any) -> Any:
    """The class whose constructor takes what a network's own hands on as keywords."""
    if inspect.isfunction(network):
        return nets.ResNet
    return nets.SENet if issubclass(network, nets.SENet) else network


def _is_required(parameters: Mapping[str, inspect.Parameter], name: str) -> bool:
    return name in parameters and parameters[name].default is inspect.Parameter.empty


def _monai_aliases(nets: Any, network: Any) -> list[str]:
    return sorted(name for name in dir(nets) if getattr(nets, name) is network)


# --- efficientnet_pytorch --------------------------------------------------------------------------------------------


def efficientnet_offers(nodes: Nodes, only: str) -> Iterator[Offer]:
    network = importlib.import_module("efficientnet_pytorch").EfficientNet
    names = [f"efficientnet-b{number}" for number in range(9)]

    def call(model_name: str = names[0], num_classes: int = 1000, in_channels: int = 3) -> Any:
        return network.from_name(model_name, in_channels=in_channels, num_classes=num_classes)

    for name in ("from_name", "from_pretrained"):
        if fnmatch.fnmatch(name, only):
            yield Offer(
                name=name,
                build=torch_builder(name, nodes, call),
                paths=("efficientnet_pytorch.EfficientNet", "efficientnet_pytorch.model.EfficientNet"),
                positional=("model_name",),
                sizes={"num_classes": 1000, "in_channels": 3},
                switches={"model_name": ("flag", None)},
                calls=[{"model_name": model} for model in names],
                known_inert=("advprop", "weights_path", "dropout_rate", "drop_connect_rate"),
            )


# --- FedML -----------------------------------------------------------------------------------------------------------


FEDML_NETS: dict[str, tuple[str, ...]] = {
    "resnet": ("resnet20", "resnet32", "resnet44", "resnet56", "resnet110"),
    "resnet_gn": ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
    "resnet_cifar": ("resnet18_cifar", "resnet34_cifar", "resnet50_cifar", "resnet101", "resnet152"),
    "resnet_torch": ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
    "mobilenet": ("mobilenet",),
    "mobilenet_v3": ("MobileNetV3",),
    "vgg": ("vgg11", "vgg11_bn", "vgg13", "vgg13_bn", "vgg16", "vgg16_bn", "vgg19", "vgg19_bn"),
}
"""FedML's models for images by their modules. Those of ``resnet_gn`` have BatchNorm unless ``group_norm`` is given."""


def fedml_offers(nodes: Nodes, only: str) -> Iterator[Offer]:
    """FedML's models for images, and what ``fedml.model.create`` makes by the name in its settings; of the package only
    the models are imported."""
    makers = {
        "resnet56": lambda classes: _fedml_module("resnet").resnet56(class_num=classes),
        "mobilenet": lambda classes: _fedml_module("mobilenet").mobilenet(class_num=classes),
        "mobilenet_v3": lambda classes: _fedml_module("mobilenet_v3").MobileNetV3(model_mode="LARGE"),
        "resnet18_gn": lambda classes: _fedml_module("resnet_gn").resnet18(),
    }

    def create(model: str = "resnet56", class_num: int = 10) -> Any:
        return makers[model](class_num)

    yield Offer(
        name="create",
        build=torch_builder("create", nodes, create),
        paths=("fedml.model",),
        sizes={"class_num": 10},
        switches={"model": ("flag", None)},
        calls=[{"model": name} for name in makers],
    )
    for folder, functions in FEDML_NETS.items():
        for function in functions:
            name = f"{folder}.{function}"
            if fnmatch.fnmatch(name, only):
                yield _fedml_offer(nodes, name, getattr(_fedml_module(folder), function))


def _fedml_offer(nodes: Nodes, name: str, network: Any) -> Offer:
    parameters = inspect.signature(network).parameters
    required = {"class_num": 10} if _is_required(parameters, "class_num") else {}
    switches: dict[str, tuple[str, Any]] = {}
    calls: list[dict[str, Any]] = [{}]
    if "resnet_gn" in name or "cifar" in name:
        switches = {"group_norm": ("flag", 0)}
        calls += [{"group_norm": channels} for channels in (2, 4, 8, 16, 32)]
    elif "MobileNetV3" in name:
        switches = {"model_mode": ("flag", "LARGE")}
        calls += [{"model_mode": "SMALL"}]
    hands_on = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
    size = "num_classes" if "num_classes" in parameters or (hands_on and not required) else "class_num"
    sizes: dict[str, int | None] = {}
    if size in parameters or hands_on:
        sizes[size] = required.get(size) or (parameters[size].default if size in parameters else None)
    if "resnet_torch" in name:
        sizes["in_channels"] = None

    def call(**kwargs: Any) -> Any:
        return network(**{**required, **kwargs})

    return Offer(
        name=name,
        build=torch_builder(name, nodes, call),
        positional=positional_of(network),
        sizes=sizes,
        switches=switches,
        calls=calls,
        known_inert=tuple(one for one in ("pretrained", "path", "progress", "dropout_rate") if one in parameters),
    )


def _fedml_module(name: str) -> Any:
    """A module of FedML's models by itself: the package's own imports need most of what there is."""
    folder = next(path for path in (Path(row) / "fedml" / "model" / "cv" for row in sys.path) if path.is_dir())
    if "fedml_cv" not in sys.modules:
        sys.modules["fedml_cv"] = types.ModuleType("fedml_cv")
        sys.modules["fedml_cv"].__path__ = [str(folder)]
    return importlib.import_module(f"fedml_cv.{name}")


# --- FLamby ----------------------------------------------------------------------------------------------------------

FLAMBY_NETS: dict[str, dict[str, Any]] = {
    "camelyon16": {},
    "heart_disease": {},
    "isic2019": {"arch_name": tuple(f"efficientnet-b{number}" for number in range(8))},
    "ixi": {"normalization": ("batch", None), "sizes": ("in_channels", "out_classes")},
    "lidc_idri": {},
    "tcga_brca": {},
}
"""FLamby's data sets whose models are made of torch and efficientnet_pytorch, with the switches of ``Baseline``."""


def flamby_offers(nodes: Nodes, only: str) -> Iterator[Offer]:
    """The model that FLamby has for each data set; of the package only the models are imported."""
    for name, ways in FLAMBY_NETS.items():
        if not fnmatch.fnmatch(name, only):
            continue
        network = _flamby_module(name).Baseline
        parameters = inspect.signature(network).parameters
        fixed = {"pretrained": False} if "pretrained" in parameters else {}

        def call(_network: Any = network, _fixed: dict[str, Any] = fixed, **kwargs: Any) -> Any:
            return _network(**{**kwargs, **_fixed})

        switches = {switch: ("flag", values[0]) for switch, values in ways.items() if switch != "sizes"}
        rows: list[dict[str, Any]] = [{}]
        for switch, (_, *others) in ((one, ways[one]) for one in switches):
            rows += [{switch: value} for value in others]
        yield Offer(
            name=name,
            build=torch_builder(name, nodes, call),
            positional=positional_of(network),
            sizes={size: parameters[size].default for size in ways.get("sizes", ())},
            switches=switches,
            calls=rows,
            known_inert=tuple(one for one in ("pretrained", "dropout") if one in parameters),
        )


def _flamby_module(name: str) -> Any:
    """A module of FLamby's models by itself: what they import beside torch is for trying them out."""
    package = f"flamby.datasets.fed_{name}"
    for lacking, attribute in (("albumentations", ""), (package, f"Fed{name.title().replace('_', '')}")):
        if lacking not in sys.modules:
            sys.modules[lacking] = types.ModuleType(lacking)
            setattr(sys.modules[lacking], attribute or "Compose", None)
    folders = (Path(row) / "flamby" / "datasets" / f"fed_{name}" for row in sys.path)
    sys.modules[package].__path__ = [str(next(folder for folder in folders if folder.is_dir()))]
    return importlib.import_module(f"{package}.model")


# --- Keras -----------------------------------------------------------------------------------------------------------


def record_keras(layer: Any, nodes: Nodes) -> int:
    """A built layer or model as a node: its layers in order, weights in the order of ``layer.weights``."""
    import tensorflow as tf

    parts = list(getattr(layer, "layers", []))
    trained = {id(weight) for weight in layer.trainable_weights}
    slots = (
        []
        if parts
        else [
            (
                weight.name.split(":")[0].rpartition("/")[2],
                tuple(weight.shape),
                tf.as_dtype(weight.dtype).name,
                "parameter" if id(weight) in trained else "buffer",
                None,
            )
            for weight in layer.weights
        ]
    )
    norm = None
    if isinstance(layer, tf.keras.layers.BatchNormalization):
        family = "sync" if getattr(layer, "synchronized", False) else "batch"
        affine = bool(layer.scale or layer.center)
        norm = (True, True, affine, False, slots[-1][1][0], layer.momentum, layer.epsilon, family)
    children = tuple((part.name, record_keras(part, nodes)) for part in parts)
    return nodes.add(codec.Node(type(layer).__name__, norm, tuple(slots), children))


KERAS_MODELS = """
    DenseNet121 EfficientNetB0 InceptionV3 MobileNet MobileNetV2 MobileNetV3Large MobileNetV3Small ResNet101 ResNet152
    ResNet50 ResNet50V2 VGG16 VGG19 Xception
""".split()  # noqa: SIM905
"""Widely used ones: all 71 would take TensorFlow 2.12 more than an hour."""


def keras_offers(nodes: Nodes, only: str) -> Iterator[Offer]:
    import tensorflow as tf

    applications = tf.keras.applications
    for name in KERAS_MODELS:
        if not fnmatch.fnmatch(name, only):
            continue
        function = getattr(applications, name)
        side = 299 if name in ("InceptionV3", "Xception") else 224

        def build(kwargs: dict[str, Any], _function: Any = function, _side: int = side) -> int:
            kwargs = dict(kwargs)
            channels = kwargs.pop("input_channels", None)
            if channels is not None:  # another size, too: what is solved for then holds for images of any size
                kwargs["input_shape"] = (_side + 64, _side + 64, channels)
            tf.keras.backend.clear_session()
            # In a graph of its own nothing is computed and no weight takes memory.
            with tf.Graph().as_default():
                root = record_keras(_function(weights=None, **kwargs), nodes)
            gc.collect()  # graphs are large, and hold themselves in cycles
            return root

        modules = [
            module
            for module in (applications, *(getattr(applications, m) for m in dir(applications)))
            if inspect.ismodule(module) and getattr(module, name, None) is function
        ]
        paths = {"keras.applications" + m.__name__.rpartition("applications")[2] for m in modules}
        yield Offer(
            name=name,
            build=build,
            paths=tuple(sorted(paths)),
            positional=positional_of(function),
            defaults={k: v for k, v in literal_defaults(function).items() if k not in ("weights", "classes")},
            sizes={"classes": 1000, "input_channels": 3},
            switches={"include_top": ("flag", True), "pooling": ("flag", None)},
            calls=[{}, {"include_top": False}, {"include_top": False, "pooling": "avg"}],
            known_inert=("classifier_activation", "weights"),
        )


# ---------------------------------------------------------------------------------------------------------------------
# Commands


CHUNK = 24
OFFERS = {
    "torchvision": torchvision_offers,
    "timm": timm_offers,
    "smp": smp_offers,
    "monai": monai_offers,
    "efficientnet": efficientnet_offers,
    "fedml": fedml_offers,
    "flamby": flamby_offers,
    "keras": keras_offers,
}
VERSIONS = {
    "torchvision": ("torch", "torchvision"),
    "timm": ("torch", "timm"),
    "smp": ("torch", "timm", "segmentation-models-pytorch"),
    "monai": ("torch", "monai"),
    "efficientnet": ("torch", "efficientnet_pytorch"),
    "fedml": ("torch", "fedml"),
    "flamby": ("torch", "efficientnet_pytorch", "flamby"),
    "keras": ("tensorflow-cpu", "keras"),
}


def relabel(recipe: codec.Recipe, place: Callable[[int], int]) -> codec.Recipe:
    """The recipe with other numbers for its nodes."""
    return replace(recipe, variants=tuple(replace(v, root=place(v.root)) for v in recipe.variants))


def move(source: list[codec.Node], target: Nodes) -> Callable[[int], int]:
    """A function that copies the tree below a node to other nodes, and returns its number there."""
    memo: dict[int, int] = {}

    def place(index: int) -> int:
        if index not in memo:
            node = source[index]
            memo[index] = target.add(
                node._replace(children=tuple((name, place(child)) for name, child in node.children))
            )
        return memo[index]

    return place


_worker: dict[str, Any] = {}


def _start_worker(library: str, only: str) -> None:
    gc.set_threshold(100_000)  # modules are many and short-lived
    if library != "keras":
        prepare_torch()
    nodes = Nodes()
    _worker["nodes"], _worker["offers"] = nodes, list(OFFERS[library](nodes, only))


def _count_offers(_: int) -> int:
    return len(_worker["offers"])


def _work(chunk: tuple[int, int]) -> tuple[list[codec.Recipe], list[codec.Node], list[str]]:
    """Record some offers; the recipes, the nodes they need, and what is to be told."""
    nodes = _worker["nodes"]
    told: list[str] = []
    SHARED.clear()
    recipes: dict[str, codec.Recipe] = {}
    for offer in _worker["offers"][slice(*chunk)]:
        known = recipes.get(offer.like)
        recipe = (known and derive(offer, known, nodes)) or record(offer, nodes, told.append)
        if recipe is not None:
            base = offer.build(dict(offer.calls[0]))
            names = [name for name in recipe.names if name not in offer.others or offer.others[name]({}) == base]
            told += [f"{name}: not as {names[0]}" for name in recipe.names if name not in names]
            recipe = replace(recipe, names=tuple(names))
            recipes[recipe.names[0]] = recipe
    needed = Nodes()
    place = move(nodes.list, needed)
    told += [f"shared tensors in {name}: {len(pairs)}, {pairs[0]}" for name, pairs in sorted(SHARED.items())]
    return [relabel(recipe, place) for recipe in recipes.values()], needed.list, told


def write(library: str, out: Path, only: str, jobs: int) -> None:
    """Record a library's models and write its file. The number of jobs does not change the bytes."""
    from concurrent.futures import ProcessPoolExecutor
    from importlib.metadata import version

    start = time.perf_counter()
    nodes = Nodes()
    recipes: list[codec.Recipe] = []

    def log(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    with ProcessPoolExecutor(jobs, initializer=_start_worker, initargs=(library, only)) as pool:
        (count,) = pool.map(_count_offers, [0])
        bounds = [(low, low + CHUNK) for low in range(0, count, CHUNK)]
        for (low, _), (found, source, told) in zip(bounds, pool.map(_work, bounds), strict=True):
            place = move(source, nodes)
            recipes += [relabel(recipe, place) for recipe in found]
            for line in told:
                log(line)
            log(f"{low + CHUNK} of {count}, {len(nodes.list)} nodes, {time.perf_counter() - start:.0f} s")
    aliases = {}
    if library == "timm":
        prepare_torch()
        aliases = timm_aliases()
    versions = {name: version(name).partition("+")[0] for name in VERSIONS[library]}
    data = codec.encode(versions, recipes, nodes.list, aliases)
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{library}.bin").write_bytes(data)
    log(f"{library}: {len(recipes)} recipes, {sum(len(r.names) for r in recipes)} names, {len(data)} bytes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("library", choices=sorted(VERSIONS))
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--only", default="*", help="names of the models to record, as a shell pattern")
    arguments = parser.parse_args()
    write(arguments.library, arguments.out, arguments.only, arguments.jobs)


if __name__ == "__main__":
    main()
