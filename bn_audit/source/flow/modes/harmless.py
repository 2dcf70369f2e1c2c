"""What is called and changes no mode, and what may change one on its way."""

from __future__ import annotations

__all__ = ["DULL", "is_harmful", "is_harmless"]

DULL = frozenset(
    [
        "append", "extend", "item", "size", "view", "reshape", "cpu", "cuda", "detach", "numpy", "format", "join",
        "split", "backward", "step", "zero_grad", "max", "min", "sum", "mean", "eq", "softmax", "argmax", "float",
        "long", "tolist", "items", "keys", "values", "state_dict", "load_state_dict", "parameters", "named_parameters",
        "clone", "squeeze", "unsqueeze", "topk", "expand_as", "type", "norm", "print", "len", "range", "int", "str",
        "isinstance", "enumerate", "zip", "list", "dict", "set", "tuple", "sorted", "abs", "round", "hasattr",
        "info", "debug", "warning", "write", "flush", "add_argument", "parse_args", "requires_grad_", "zeros_like",
        "add_scalar", "to", "open", "close", "update_postfix", "set_postfix", "set_description",
    ]
)  # fmt: skip
"""Methods and functions that change no mode, whatever they are called on."""
_HARMLESS = (
    "torch.",
    "torchvision.",
    "flwr.",
    "nvflare.",
    "fedml.",
    "numpy.",
    "copy.",
    "collections.",
    "builtins.",
    "random.",
    "math.",
    "time.",
)
_HARMLESS_NAMES = frozenset(["torchsummary.summary", "torchinfo.summary", "wandb.watch", "ray.put", "ray.get"])
_HARMFUL = ("torch.onnx", "torch.jit", "torch.export", "torch.ao", "torch.quantization", "torch.fx", "torch.hub")
"""Parts of torch that may change a mode on their way."""


def is_harmful(dotted: str) -> bool:
    """Whether a library's function may change the mode of a model that it is given."""
    return dotted.startswith(_HARMFUL)


def is_harmless(dotted: str) -> bool:
    """Whether a library's function is known to change no mode."""
    return not is_harmful(dotted) and (dotted.startswith(_HARMLESS) or dotted in _HARMLESS_NAMES)
