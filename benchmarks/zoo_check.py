"""Ask the zoo about random calls, build the same models for real, and compare.

    python benchmarks/zoo_check.py torchvision|timm|smp [--sample 200] [--seed 0]

It needs what scripts/build_zoo.py needs. One argument in four is hidden from the zoo (UNKNOWN): what it still says must
hold for the model that was built. The last line counts answers: right in full, right as far as they go, none, wrong.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

import build_zoo  # noqa: E402

from bn_audit.source import zoo  # noqa: E402
from bn_audit.source.layers import UNKNOWN  # noqa: E402
from bn_audit.source.state import ModuleState  # noqa: E402
from bn_audit.source.zoo import codec  # noqa: E402

ARGUMENTS: dict[str, dict[str, list[Any]]] = {
    "timm": {
        "num_classes": [0, 5, 21],
        "in_chans": [1, 4],
        "features_only": [True, False],
        "global_pool": ["", "avg", "max", "catavgmax"],
        "drop_rate": [0.3],
        "drop_path_rate": [0.2],
        "img_size": [160, 224, 256],
        "out_indices": [(0, 1, 2, 3), (2, 3), (1, 2, 3, 4)],
        "pretrained": [False],
    },
    "torchvision": {
        "num_classes": [5, 91, 1000],
        "weights_backbone": [None],
        "weights": [None],
        "aux_loss": [True, False],
        "aux_logits": [True, False],
        "progress": [False],
        "dropout": [0.2],
        "zero_init_residual": [True],
        "trainable_backbone_layers": [2],
        "width_mult": [0.5],
    },
    "smp": {
        "classes": [5, 2],
        "in_channels": [1, 4],
        "activation": ["sigmoid", None],
        "decoder_attention_type": ["scse"],
        "decoder_use_batchnorm": [True, False],
        "encoder_depth": [5, 4],
        "decoder_channels": [(256, 128, 64, 32, 16), (128, 64, 32, 16, 8)],
        "aux_params": [None],
    },
}


def disagreement(said: ModuleState, true: ModuleState, path: str = "") -> str | None:
    """Where the template says what is not so; None if all of it is."""
    if said.complete and (len(said.slots) != len(true.slots) or len(said.children) != len(true.children)):
        return f"{path}: {len(said.slots)}+{len(said.children)} instead of {len(true.slots)}+{len(true.children)}"
    if said.type not in ("", true.type) and (true.slots or true.children):
        return f"{path}: {said.type} instead of {true.type}"
    if len(said.slots) < len(true.slots) and said.children:
        return f"{path}: children after entries that are missing"
    for a, b in zip(said.slots, true.slots, strict=False):
        shape = a.shape is None or (
            b.shape is not None
            and len(a.shape) == len(b.shape)
            and all(m in (None, n) for m, n in zip(a.shape, b.shape, strict=True))
        )
        if (a.name, a.kind) != (b.name, b.kind) or a.dtype not in (None, b.dtype) or not shape:
            return f"{path}: {a} instead of {b}"
    if said.norm is not None and (true.norm is None or said.norm.family != true.norm.family):
        return f"{path}: {said.norm} instead of {true.norm}"
    if said.norm is None and true.norm is not None and said.complete:
        return f"{path}: no {true.norm}"
    for (name, child), (other, true_child) in zip(said.children, true.children, strict=False):
        if name != other:
            return f"{path}: child {name} instead of {other}"
        if (found := disagreement(child, true_child, f"{path}.{name}")) is not None:
            return found
    return None


def is_complete(state: ModuleState) -> bool:
    return state.complete and all(is_complete(child) for _, child in state.children)


def real_state(model: Any) -> ModuleState:
    nodes = build_zoo.Nodes()
    root = build_zoo.record_torch(model, nodes)
    recipe = codec.Recipe(("model",), (codec.Variant({}, root, {}),))
    library = codec.Library(codec.encode({}, [recipe], nodes.list, {}))
    found = library.recipe("model")
    assert found is not None
    return library.tree(found.variants[0].root, {})


def build(library: str, name: str, kwargs: dict[str, Any]) -> tuple[str, tuple[Any, ...], Any]:
    """The qualified name and positional arguments a program would use, and the model."""
    import torch

    if library == "timm":
        import timm

        path, args, call = "timm.create_model", (name,), timm.create_model
    elif library == "torchvision":
        from torchvision import models

        path, args, call = "torchvision.models.get_model", (name,), models.get_model
    else:
        import segmentation_models_pytorch as smp

        architecture, _, encoder = name.partition(":")
        path, args, call = f"segmentation_models_pytorch.{architecture}", (encoder,), getattr(smp, architecture)
        kwargs = {**kwargs, "encoder_weights": None}
    try:
        with torch.device("meta"):
            return path, args, call(*args, **kwargs)
    except RuntimeError as error:
        if "meta tensor" not in str(error):
            raise
        return path, args, call(*args, **kwargs)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("library", choices=sorted(ARGUMENTS))
    parser.add_argument("--sample", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    build_zoo.prepare_torch()
    if options.library == "torchvision":
        build_zoo.skip_weights()
    chance = random.Random(options.seed)
    names = codec.Library((build_zoo.OUT / f"{options.library}.bin").read_bytes()).names
    outcomes: Counter[str] = Counter()
    for _ in range(options.sample):
        name = chance.choice(names)
        kwargs = {k: chance.choice(v) for k, v in ARGUMENTS[options.library].items() if chance.random() < 0.22}
        try:
            path, args, model = build(options.library, name, kwargs)
        except Exception:  # the library refuses the call: there is nothing to compare
            outcomes["refused"] += 1
            continue
        hidden = {k: UNKNOWN if chance.random() < 0.25 else v for k, v in kwargs.items()}
        said = zoo.model(path, args, hidden)
        if said is None:
            outcomes["none"] += 1
            continue
        wrong = disagreement(said, real_state(model))
        if wrong is not None:
            print(f"{name} {hidden} ({kwargs}): {wrong}")
            outcomes["wrong"] += 1
        elif is_complete(said):
            outcomes["in full"] += 1
        else:
            outcomes["in part" if said.children or said.slots else "class only"] += 1
    print(", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items())))
    return 1 if outcomes["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
