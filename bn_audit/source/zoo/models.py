"""From a call to a model of the zoo: names, arguments, and what is certain where arguments are not known."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

from bn_audit.source.layers.values import REST, REST_KEYWORDS, UNKNOWN
from bn_audit.source.state import ModuleState, NormTraits, Slot
from bn_audit.source.zoo.codec import FIXED, SIZE, Library, Recipe, Variant

__all__ = ["meet", "model", "versions"]

_FOLDER = Path(__file__).parent
_Found = tuple[object, tuple[object, ...], dict[str, object]]


@cache
def _library(name: str) -> Library | None:
    """The recorded models of a library; None if its file is not there."""
    try:
        return Library((_FOLDER / f"{name}.bin").read_bytes())
    except FileNotFoundError:
        return None


def versions(library: str) -> dict[str, str]:
    """The versions a library's models were recorded with (``torchvision``, ``timm``, ``smp``, ``keras`` ...)."""
    found = _library(library)
    return dict(found.versions) if found is not None else {}


def model(qualified_name: str, args: tuple[object, ...], kwargs: Mapping[str, object]) -> ModuleState | None:
    """What ``qualified_name(*args, **kwargs)`` holds; None if the zoo has no such model, or which one is not known.

    ``qualified_name`` is the dotted path a program would import (``torchvision.models.resnet18``,
    ``timm.create_model``, ``torch.hub.load``, ``keras.applications.ResNet50``). Arguments are values as
    :mod:`bn_audit.source.layers.values` has them. Where arguments leave several trees open, the answer is what all of
    them begin with; ``complete`` is False in every module that may hold more, and dimensions that are not known are
    None. The beginning may be empty: an argument the recordings say nothing of leaves the class name alone.
    """
    package = qualified_name.partition(".")[0]
    find = _FINDERS.get(package)
    return find(qualified_name, args, dict(kwargs)) if find is not None else None


# Names ----------------------------------------------------------------------------------------------------------------


def _first(args: tuple[object, ...], kwargs: dict[str, object], name: str) -> _Found:
    """The first argument of a call, by position or by name, and what is left."""
    if args:
        return args[0], args[1:], kwargs
    return kwargs.get(name, UNKNOWN), args, {key: value for key, value in kwargs.items() if key != name}


def _torchvision(path: str, args: tuple[object, ...], kwargs: dict[str, object]) -> ModuleState | None:
    module, _, function = path.rpartition(".")
    if path in ("torchvision.models.get_model", "torchvision.models._api.get_model"):
        name, args, kwargs = _first(args, kwargs, "name")
        if not isinstance(name, str) or args:
            return None
        return _answer("torchvision", name.lower(), (), kwargs)
    names = (f"quantized_{function}", function) if ".quantization" in module else (function,)
    for name in names:
        recipe = _recipe("torchvision", name)
        if recipe is not None and (recipe.function or name) == function and module in recipe.paths:
            return _apply("torchvision", recipe, args, kwargs)
    return None


def _torch(path: str, args: tuple[object, ...], kwargs: dict[str, object]) -> ModuleState | None:
    """``torch.hub.load("pytorch/vision:v0.10.0", "resnet18", pretrained=True)``."""
    if path not in ("torch.hub.load", "torch.hub.hub.load"):
        return None
    repository, args, kwargs = _first(args, kwargs, "repo_or_dir")
    name, args, kwargs = _first(args, kwargs, "model")
    source = kwargs.get("source", "github")
    if not isinstance(repository, str) or not isinstance(name, str) or source != "github":
        return None
    if repository.partition(":")[0].lower() != "pytorch/vision":
        return None
    options = {"source", "trust_repo", "force_reload", "verbose", "skip_validation"}
    return _answer("torchvision", name, args, {key: value for key, value in kwargs.items() if key not in options})


def _timm(path: str, args: tuple[object, ...], kwargs: dict[str, object]) -> ModuleState | None:
    module, _, function = path.rpartition(".")
    if function == "create_model":
        name, args, kwargs = _first(args, kwargs, "model_name")
        if not isinstance(name, str):
            return None
        # create_model drops arguments that are None
        return _answer("timm", name, args, {key: value for key, value in kwargs.items() if value is not None})
    recipe = _recipe("timm", function)
    if recipe is None or module not in recipe.paths:
        return None
    return _apply("timm", recipe, args, kwargs)


def _smp(path: str, args: tuple[object, ...], kwargs: dict[str, object]) -> ModuleState | None:
    _, _, architecture = path.rpartition(".")
    if architecture == "create_model":
        arch, args, kwargs = _first(args, kwargs, "arch")
        if not isinstance(arch, str):
            return None
        names = {name.lower(): name for name in _smp_architectures()}
        architecture = names.get(arch.lower(), "")
        kwargs.setdefault("encoder_name", args[0] if args else "resnet34")
        if len(args) > 4 or REST in args:
            return None
        kwargs.update(zip(("encoder_weights", "in_channels", "classes"), args[1:], strict=False))
        args = ()
    if architecture not in _smp_architectures():
        return None
    default = "tu-vit_base_patch16_224.augreg_in21k" if architecture == "DPT" else "resnet34"
    encoder = args[0] if args else kwargs.get("encoder_name", default)
    if not isinstance(encoder, str) or (REST_KEYWORDS in kwargs and not args and "encoder_name" not in kwargs):
        return None
    return _answer("smp", f"{architecture}:{encoder}", args, kwargs)


@cache
def _smp_architectures() -> frozenset[str]:
    library = _library("smp")
    return frozenset(name.partition(":")[0] for name in library.names) if library is not None else frozenset()


def _monai(path: str, args: tuple[object, ...], kwargs: dict[str, object]) -> ModuleState | None:
    module, _, function = path.rpartition(".")
    recipe = _recipe("monai", function)
    if recipe is None or module not in recipe.paths:
        return None
    for old, new in (("dimensions", "spatial_dims"), ("n_classes", "num_classes")):  # their names before MONAI 0.6
        if old in kwargs:
            kwargs[new] = kwargs.pop(old)
    norm = kwargs.get("norm")
    if isinstance(norm, str):  # the factory's names are told apart by no case
        kwargs["norm"] = norm.lower()
    found = _apply("monai", recipe, args, kwargs)
    if found is not None and not found.complete and not found.children and _always_holds(recipe, args, kwargs):
        return replace(found, holds=True)
    return found


_MONAI_FORM = frozenset(
    [
        "act", "bias", "block_config", "bn_size", "channels", "dropout", "dropout_prob", "features", "growth_rate",
        "in_channels", "init_features", "kernel_size", "num_res_units", "out_channels", "spatial_dims", "strides",
        "up_kernel_size",
    ]
)  # fmt: skip
"""Arguments by which MONAI's nets have more or fewer layers, wider or narrower ones, and norm layers all the same."""


def _always_holds(recipe: Recipe, args: tuple[object, ...], kwargs: dict[str, object]) -> bool:
    """Whether a net of MONAI has BatchNorm with running statistics in whatever form these arguments give it."""
    library = _library("monai")
    values, known = _named(recipe, args, kwargs)
    if library is None or not known or not (values.keys() - _MONAI_FORM) <= recipe.kinds.keys():
        return False
    values = {name: UNKNOWN if name in _MONAI_FORM else value for name, value in values.items()}
    variants = [variant for variant in recipe.variants if _possible(recipe, variant, values, known)]
    return bool(variants) and all(_holds(library.tree(variant.root, {})) for variant in variants)


def _holds(state: ModuleState) -> bool:
    norm = state.norm
    own = norm is not None and norm.family == "batch" and norm.batchnorm is True and norm.tracked is True
    return own or any(_holds(child) for _, child in state.children)


def _efficientnet(path: str, args: tuple[object, ...], kwargs: dict[str, object]) -> ModuleState | None:
    module, _, function = path.rpartition(".")
    recipe = _recipe("efficientnet", function)
    if recipe is None or module not in recipe.paths:
        return None
    return _apply("efficientnet", recipe, args, kwargs)


def _keras(path: str, args: tuple[object, ...], kwargs: dict[str, object]) -> ModuleState | None:
    module, _, function = path.rpartition(".")
    for prefix in ("tensorflow.keras.", "tensorflow.python.keras.", "tensorflow.compat.v2.keras.", "tf_keras."):
        if module.startswith(prefix):
            module = "keras." + module.removeprefix(prefix)
    recipe = _recipe("keras", function)
    if recipe is None or module.replace("keras.src.", "keras.", 1) not in recipe.paths:
        return None
    if REST not in args and len(args) <= len(recipe.positional):
        kwargs = {**dict(zip(recipe.positional, args, strict=False)), **kwargs}
        args = ()
    shape = kwargs.pop("input_shape", None)
    if shape is not None:  # the weights of what is recorded follow the channels, not the size
        kwargs["input_channels"] = shape[2] if isinstance(shape, tuple | list) and len(shape) == 3 else UNKNOWN
    return _apply("keras", recipe, args, kwargs)


def _fedml(path: str, args: tuple[object, ...], kwargs: dict[str, object]) -> ModuleState | None:
    """``fedml.model.create`` with the model's name, which its settings hold; ``fedml.model.cv.resnet.resnet56``."""
    if path == "fedml.model.create":
        return _answer("fedml", "create", args, kwargs)
    return _answer("fedml", path.removeprefix(_FEDML_NETS), args, kwargs) if path.startswith(_FEDML_NETS) else None


_FEDML_NETS = "fedml.model.cv."


def _flamby(path: str, args: tuple[object, ...], kwargs: dict[str, object]) -> ModuleState | None:
    """``flamby.datasets.fed_isic2019.Baseline``, the model of a data set."""
    found = _FLAMBY.fullmatch(path)
    return _answer("flamby", found[1], args, kwargs) if found is not None else None


_FLAMBY = re.compile(r"flamby\.datasets\.fed_(\w+)(?:\.model)?\.Baseline")


_FINDERS: dict[str, Callable[[str, tuple[object, ...], dict[str, object]], ModuleState | None]] = {
    "efficientnet_pytorch": _efficientnet,
    "fedml": _fedml,
    "flamby": _flamby,
    "keras": _keras,
    "monai": _monai,
    "segmentation_models_pytorch": _smp,
    "tensorflow": _keras,
    "tf_keras": _keras,
    "timm": _timm,
    "torch": _torch,
    "torchvision": _torchvision,
}


# Arguments ------------------------------------------------------------------------------------------------------------


def _recipe(library: str, name: str) -> Recipe | None:
    found = _library(library)
    return found.recipe(name) if found is not None else None


def _answer(library: str, name: str, args: tuple[object, ...], kwargs: dict[str, object]) -> ModuleState | None:
    recipe = _recipe(library, name)
    return _apply(library, recipe, args, kwargs) if recipe is not None else None


def _apply(library: str, recipe: Recipe, args: tuple[object, ...], kwargs: dict[str, object]) -> ModuleState | None:
    """The tree for these arguments, or what the trees that remain possible have in common."""
    found = _library(library)
    if found is None:
        return None
    values, known = _named(recipe, args, kwargs)
    variants = [variant for variant in recipe.variants if _possible(recipe, variant, values, known)]
    variants = _without_contradiction(variants, values)
    if not known or not variants or not _recorded(recipe, variants, values):
        types = {found.type(variant.root) for variant in variants or recipe.variants}
        return ModuleState(types.pop() if len(types) == 1 else "", complete=False)
    trees: dict[tuple[int, tuple[tuple[str, int | None], ...]], ModuleState] = {}
    for variant in variants:
        sizes = {
            letter: _size(values[name]) if name in values else variant.defaults[name]
            for name, letter in recipe.letters.items()
            if variant.defaults.get(name, FIXED) != FIXED
        }
        key = (variant.root, tuple(sizes.items()))
        if key not in trees:
            trees[key] = found.tree(variant.root, sizes)
    result, *others = trees.values()
    for other in others:
        result = meet(result, other)
    return result


def _named(recipe: Recipe, args: tuple[object, ...], kwargs: dict[str, object]) -> tuple[dict[str, object], bool]:
    """Arguments by their present names, without those that change nothing; and whether all of them are known."""
    known = REST not in args and REST_KEYWORDS not in kwargs
    listed = args[: args.index(REST)] if REST in args else args
    values: dict[str, object] = dict(zip(recipe.positional, listed, strict=False))
    if len(listed) > len(recipe.positional):
        known = False
    values.update((name, value) for name, value in kwargs.items() if name != REST_KEYWORDS)
    for old, new in recipe.renamed.items():
        if old in values:
            values[new] = values.pop(old) or None
    kept = {}
    for name, value in values.items():
        plain = list(value) if isinstance(value, tuple) else value
        if name in recipe.inert:
            continue
        if name in recipe.defaults and _equal(plain, recipe.defaults[name]):
            continue
        kept[name] = plain
    return kept, known


def _equal(a: object, b: object) -> bool:
    """Equality that tells True from 1."""
    return type(a) is type(b) and a == b


def _possible(recipe: Recipe, variant: Variant, values: dict[str, object], known: bool) -> bool:
    """Whether a variant's tree can be that of a call with these arguments."""
    for name, classes in variant.condition.items():
        if name not in values:
            if known and not any(_equal(recipe.absent[name], allowed) for allowed in classes):
                return False
            continue
        value = values[name]
        if value is UNKNOWN:
            continue
        if recipe.kinds[name] == "presence":
            value = None if value is None or value is False else "given"
        elif recipe.kinds[name] == "size" and _size(value):
            value = SIZE
        if not any(_equal(value, allowed) for allowed in classes):
            return False
    return True


def _size(value: object) -> int | None:
    """A positive number of classes or channels; None if it is not known to be one."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _without_contradiction(variants: list[Variant], values: dict[str, object]) -> list[Variant]:
    """Drop variants whose constructor would raise for a size, if another remains (weights fix the classes)."""
    defaults = {name: default for variant in variants for name, default in variant.defaults.items() if default != FIXED}
    kept = [
        variant
        for variant in variants
        if not any(
            default == FIXED and _size(values.get(name)) not in (None, defaults.get(name))
            for name, default in variant.defaults.items()
        )
    ]
    return kept or variants


def _recorded(recipe: Recipe, variants: list[Variant], values: dict[str, object]) -> bool:
    """Whether the recordings say what every argument does."""
    for name, value in values.items():
        kind = recipe.kinds.get(name)
        if kind == "flag" and value is UNKNOWN:  # it may have a value that was not tried, unless it is true or false
            tried = [item for variant in recipe.variants for item in variant.condition[name]]
            if not any(item is True for item in tried) or not any(item is False for item in tried):
                return False
        elif kind is None:
            if any(name not in variant.defaults for variant in variants):
                return False
            if value is not UNKNOWN and _size(value) is None:
                return False
    return True


# What several trees have in common ------------------------------------------------------------------------------------


def meet(a: ModuleState, b: ModuleState) -> ModuleState:
    """What holds in both: their common beginning, dimensions that differ None, modules that differ incomplete."""
    if a == b:
        return a
    if a.type != b.type and (a.slots or a.children or b.slots or b.children):
        return ModuleState("", complete=False)
    slots: list[Slot] = []
    for one, other in zip(a.slots, b.slots, strict=False):
        if (one.name, one.kind) != (other.name, other.kind):
            break
        slots.append(_meet_slots(one, other))
    complete = len(slots) == len(a.slots) == len(b.slots)
    children: list[tuple[str, ModuleState]] = []
    if complete:
        for (name, child), (other_name, other_child) in zip(a.children, b.children, strict=False):
            if name != other_name:
                break
            children.append((name, meet(child, other_child)))
        complete = a.complete and b.complete and len(children) == len(a.children) == len(b.children)
    return ModuleState(a.type if a.type == b.type else "", tuple(slots), tuple(children), _meet_norms(a, b), complete)


def _meet_slots(a: Slot, b: Slot) -> Slot:
    shape = None
    if a.shape is not None and b.shape is not None and len(a.shape) == len(b.shape):
        shape = tuple(m if m == n else None for m, n in zip(a.shape, b.shape, strict=True))
    return Slot(a.name, shape, a.dtype if a.dtype == b.dtype else None, a.kind, a.value if a.value == b.value else None)


def _meet_norms(a: ModuleState, b: ModuleState) -> NormTraits | None:
    if a.norm is None or b.norm is None or a.norm.family != b.norm.family:
        return None
    x, y = a.norm, b.norm
    return NormTraits(
        x.type if x.type == y.type else "",
        batchnorm=x.batchnorm if x.batchnorm == y.batchnorm else None,
        tracked=x.tracked if x.tracked == y.tracked else None,
        affine=x.affine if x.affine == y.affine else None,
        features=x.features if x.features == y.features else None,
        momentum=x.momentum if x.momentum == y.momentum else None,
        cumulative=x.cumulative if x.cumulative == y.cumulative else None,
        eps=x.eps if x.eps == y.eps else None,
        lazy=x.lazy and y.lazy,
        family=x.family,
    )
