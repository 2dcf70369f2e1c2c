"""Methods and functions of libraries that hand on what they are given: copies, conversions, arithmetic, wrappers."""

from __future__ import annotations

__all__ = [
    "INSTANTIATE",
    "JOINING_FUNCTIONS",
    "MODEL_MAKERS",
    "PASSING_FUNCTIONS",
    "PASSING_METHODS",
    "REDUCING",
    "STATES",
    "makes_models",
]

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
        "ravel",
        "view",
        "view_as",
        "reshape",
        "reshape_as",
        "split",
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
        "pickle.dumps",
        "pickle.loads",
        "dill.dumps",
        "dill.loads",
        "cloudpickle.dumps",
        "cloudpickle.loads",
        "concurrent.futures.as_completed",
        "joblib.delayed",
        "torch.nn.DataParallel",
        "torch.nn.parallel.DataParallel",
        "torch.nn.DistributedDataParallel",
        "torch.nn.parallel.DistributedDataParallel",
        "torch.compile",
        "torch.jit.script",
        "torch.nn.SyncBatchNorm.convert_sync_batchnorm",
        "torch.clone",
        "torch.flatten",
        "torch.ravel",
        "torch.reshape",
        "torch.split",
        "torch.stack",
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

JOINING_FUNCTIONS = frozenset(
    [
        "torch.nn.utils.parameters_to_vector",
        "torch.nn.utils.convert_parameters.parameters_to_vector",
        "torch.cat",
        "torch.concat",
        "torch.concatenate",
        "torch.hstack",
        "numpy.concatenate",
        "numpy.hstack",
    ]
)
"""Functions that make one vector of all that they are given."""

REDUCING = frozenset(["sum", "mean", "median", "max"])
"""Names of methods and functions that may make a number of a vector."""

STATES = {"state_dict": "state", "named_parameters": "parameters", "parameters": "parameters"}
"""Methods that give a model's entries, and which."""

INSTANTIATE = frozenset(["hydra.utils.instantiate", "hydra.utils.call"])
"""Functions that make what the settings they are given name."""

MODEL_MAKERS = (
    "torchvision.models.",
    "timm.",
    "segmentation_models_pytorch.",
    "monai.networks.nets.",
    "efficientnet_pytorch.",
    "fedml.model.create",
    "fedml.model.cv.",
    "flamby.datasets.",
    "hydra.utils.instantiate",
    "torch.nn.",
    "torch.hub.load",
)
"""What the dotted names of libraries' models begin with."""


def makes_models(name: str) -> bool:
    """Whether something of a library, by its dotted name, makes a model."""
    return name.startswith(MODEL_MAKERS)
