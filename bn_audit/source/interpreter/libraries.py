"""Names of known libraries: one name for a thing that can be imported from several places, and what kind of thing it
is."""

from __future__ import annotations

import re
import sys
from functools import lru_cache

from bn_audit.source.project import EXTERNAL_PACKAGES, is_secretflow

__all__ = [
    "FEDML_AVERAGES",
    "FEDML_OPTIMIZER",
    "KERAS_MODELS",
    "LOCAL_BATCHNORM",
    "SECRETFLOW_CONSTANTS",
    "base_kind",
    "canonical",
    "is_flmodel",
    "is_object",
    "secretflow_leaf",
]

_KERAS = re.compile(
    r"^(?:tensorflow\.(?:compat\.v[12]\.|python\.)?keras|tf_keras|keras\.(?:src|api)(?:\._v[12]\.keras)?|keras)(?=\.|$)"
)
SECRETFLOW_CONSTANTS: dict[str, tuple[str, ...]] = {"COMPRESS_STRATEGY": ("fed_stc", "fed_scr")}
"""Constants of SecretFlow by which user code picks an aggregator (secretflow_fl.ml.nn.fl.compress, 1.13)."""

LOCAL_BATCHNORM = frozenset(
    {"bn_audit.federated.secretflow.local_batchnorm", "bn_audit.federated.secretflow.LocalBatchNorm"}
)
"""Our own wrapper, whose models keep BatchNorm with their party."""

FEDML_OPTIMIZER = "train_args.federated_optimizer"
"""Where FedML's settings say how the parties meet."""
FEDML_AVERAGES = ("FedAvg", "FedOpt", "FedProx", "FedNova", "SCAFFOLD", "Mime", "HierarchicalFL")
"""What the names of those of its optimizers begin with that average the parties' whole states. With FedGKT or split_nn
something else travels, and FedDyn refuses models with buffers (fedml 0.9.6)."""

KERAS_MODELS = frozenset(
    {"keras.Model", "keras.models.Model", "keras.Sequential", "keras.models.Sequential", "keras.Functional"}
)
"""Classes of Keras that are models."""
_LIGHTNING = frozenset({"lightning", "pytorch_lightning", "lightning_fabric"})
_MODULE_LIBRARIES = frozenset(
    [
        "torchvision",
        "timm",
        "segmentation_models_pytorch",
        "efficientnet_pytorch",
        "transformers",
        "torchaudio",
        "monai",
        "torch_geometric",
    ]
)


@lru_cache(maxsize=4096)
def canonical(name: str) -> str:
    """``torch.nn.modules.batchnorm.BatchNorm2d`` -> ``torch.nn.BatchNorm2d``; ``tensorflow.keras.layers.Dense`` ->
    ``keras.layers.Dense``."""
    if name.startswith("torch.nn."):
        parts = name.split(".")
        if parts[2] in ("modules", "parameter"):
            return f"torch.nn.{parts[-1]}"
        if parts[2] == "parallel" and parts[-1] in ("DataParallel", "DistributedDataParallel"):
            return f"torch.nn.{parts[-1]}"
        return name
    found = _KERAS.match(name)
    if found:
        return "keras" + name[found.end() :]
    return name


def is_flmodel(name: str) -> bool:
    """Whether a dotted name is SecretFlow's FLModel, from wherever it is imported."""
    package, _, rest = name.partition(".")
    return rest.rpartition(".")[2] == "FLModel" and is_secretflow(package)


def is_object(name: str) -> bool:
    """Whether a dotted name certainly stands for a module, class or function, not for a constant that may be false.

    What a file that could not be found calls ``USE_BN`` or ``settings`` may be anything.
    """
    package, _, rest = name.partition(".")
    leaf = rest.rpartition(".")[2]
    if leaf.isupper() or leaf.startswith("_"):
        return False
    if name in ("functools.partial", "collections.defaultdict", "collections.deque"):
        return True
    if package in EXTERNAL_PACKAGES or is_secretflow(package):
        return not rest.startswith(("backends.", "version."))
    return package in sys.stdlib_module_names and (not rest or leaf[:1].isupper())


def secretflow_leaf(name: str) -> str | None:
    """The class name of something of SecretFlow's (``PlainAggregator``), or None."""
    package, _, rest = name.partition(".")
    return rest.rpartition(".")[2] if rest and is_secretflow(package) else None


def base_kind(name: str) -> str | None:
    """What a class outside the project makes of its subclasses.

    ``torch``: an ``nn.Module`` that registers nothing of its own; ``layer``: a layer of torch, which registers what its
    arguments say; ``library``: a module of another library, whose state is not known from the name; ``keras``;
    ``plain``:
    an ordinary mixin; None: not known.
    """
    name = canonical(name)
    leaf = name.rpartition(".")[2]
    package = name.partition(".")[0]
    if name in ("torch.nn.Module", "torch.jit.ScriptModule") or (package in _LIGHTNING and leaf.endswith("Module")):
        return "torch"
    if is_secretflow(package):
        return "torch" if leaf in ("BaseModule", "ParametersMixin", "BaseTorchModel") else None
    if name.startswith("torch.nn."):
        return "layer"
    if name.startswith("keras."):
        return "keras" if leaf[:1].isupper() else None
    if name == "tensorflow.Module":
        return "keras"
    if package in _MODULE_LIBRARIES and leaf[:1].isupper():
        if leaf.endswith(("Mixin", "Dataset")) or leaf.startswith("Image"):
            return "plain"
        return "library"
    if package in (
        "abc",
        "typing",
        "typing_extensions",
        "enum",
        "dataclasses",
        "collections",
        "unittest",
        "pytest",
        "builtins",
        "torch",
    ):
        return "plain"
    if package == "huggingface_hub":
        return "plain"
    return None
