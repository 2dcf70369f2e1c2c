"""Methods and functions of libraries that hand on what they are given: copies, conversions, arithmetic, wrappers."""

from __future__ import annotations

__all__ = ["MODEL_MAKERS", "PASSING_FUNCTIONS", "PASSING_METHODS", "STATES", "makes_models"]

PASSING_METHODS = frozenset(
    [
        "detach",
        "clone",
        "cpu",
        "cuda",
        "to",
        "numpy",
        "data",
        "copy",
        "deepcopy",
        "float",
        "double",
        "half",
        "bfloat16",
        "type",
        "type_as",
        "contiguous",
        "train",
        "eval",
        "module",
        "values",
        "items",
        "flatten",
        "view",
        "reshape",
        "tolist",
        "copy_",
        "squeeze",
        "result",
        "get",
        "get_nowait",
        "pop",
        "popitem",
        "popleft",
        "requires_grad_",
        "share_memory",
        "share_memory_",
        "compile",
        "named_children",
        "apply",
        "mean",
        "sum",
        "median",
        "div",
        "mul",
        "add",
        "sub",
        "true_divide",
        "divide",
        "multiply",
        "round",
        "long",
        "int",
        "clamp",
        "div_",
        "mul_",
        "add_",
        "sub_",
        "astype",
    ]
)
"""Methods and attributes that give what they are asked of, or an item of it, as far as we care."""

PASSING_FUNCTIONS = frozenset(
    [
        "copy.deepcopy",
        "copy.copy",
        "collections.OrderedDict",
        "dict",
        "list",
        "tuple",
        "iter",
        "next",
        "reversed",
        "sorted",
        "zip",
        "enumerate",
        "max",
        "sum",
        "map",
        "functools.reduce",
        "itertools.chain",
        "ray.get",
        "torch.nn.DataParallel",
        "torch.nn.parallel.DataParallel",
        "torch.nn.DistributedDataParallel",
        "torch.nn.parallel.DistributedDataParallel",
        "torch.compile",
        "torch.jit.script",
        "torch.nn.SyncBatchNorm.convert_sync_batchnorm",
        "torch.nn.utils.parameters_to_vector",
        "torch.clone",
        "torch.stack",
        "torch.cat",
        "torch.from_numpy",
        "torch.tensor",
        "torch.Tensor",
        "torch.as_tensor",
        "torch.zeros_like",
        "torch.empty_like",
        "numpy.random.choice",
        "random.sample",
        "numpy.divide",
        "numpy.true_divide",
        "numpy.multiply",
        "numpy.add",
        "random.choice",
        "random.choices",
        "torch.ones_like",
        "torch.mean",
        "torch.sum",
        "torch.div",
        "torch.mul",
        "torch.add",
        "numpy.array",
        "numpy.asarray",
        "numpy.stack",
        "numpy.mean",
        "numpy.average",
        "numpy.sum",
        "numpy.copy",
        "numpy.zeros_like",
    ]
)
"""Functions whose result comes from their arguments."""

STATES = {"state_dict": "state", "named_parameters": "parameters", "parameters": "parameters"}
"""Methods that give a model's entries, and which."""

MODEL_MAKERS = ("torchvision.models.", "timm.", "segmentation_models_pytorch.", "torch.nn.", "torch.hub.load")
"""What the dotted names of libraries' models begin with."""


def makes_models(name: str) -> bool:
    """Whether something of a library, by its dotted name, makes a model."""
    return name.startswith(MODEL_MAKERS)
