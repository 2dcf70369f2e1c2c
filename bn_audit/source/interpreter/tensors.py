"""Tensors: what their methods and operators yield, as far as shape and dtype are certain."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from bn_audit.profile import Shape
from bn_audit.source.interpreter.values import Const, External, Hole, ListVal, Step, TensorVal, Unknown, Value

__all__ = ["DTYPES", "fresh", "items", "method"]

DTYPES = {
    "float": "float32", "double": "float64", "half": "float16", "long": "int64", "int": "int32", "short": "int16",
    **{name: name for name in (
        "float16", "float32", "float64", "bfloat16", "int8", "int16", "int32", "int64", "uint8", "bool", "complex64",
        "complex128",
    )},
}  # fmt: skip
"""``torch.<name>`` as a dtype, under the one name it prints as."""

_CASTS = {
    "float": "float32", "double": "float64", "half": "float16", "bfloat16": "bfloat16", "long": "int64", "int": "int32",
    "bool": "bool", "short": "int16", "byte": "uint8", "char": "int8",
}  # fmt: skip
_MOVES = frozenset(["cuda", "cpu", "requires_grad_", "share_memory_", "pin_memory"])
_COPIES = frozenset(["clone", "contiguous", "detach"])
_ELEMENTWISE = frozenset(
    [
        *("abs", "ceil", "clamp", "clip", "cos", "cosh", "exp", "expm1", "floor", "log", "log10", "log1p", "log2"),
        *("neg", "negative", "reciprocal", "relu", "round", "rsqrt", "sigmoid", "sign", "sin", "sinh", "sqrt"),
        *("square", "tan", "tanh", "trunc"),
    ]
)
_RESHAPES_IN_PLACE = frozenset(["resize_", "set_", "squeeze_", "swapaxes_", "t_", "transpose_", "unsqueeze_"])


def fresh(tensor: TensorVal, shape: Shape | None, dtype: str | None, step: Step) -> TensorVal:
    """Another tensor made of this one: no Parameter, whatever this one is."""
    return TensorVal(shape, dtype, step, number=tensor.number if shape == () and dtype == tensor.dtype else None)


def items(tensor: TensorVal) -> list[Value | Hole] | None:
    """The rows of a tensor; None if their number is not known."""
    if not tensor.shape or tensor.shape[0] is None or tensor.shape[0] > 4096:
        return None
    return [TensorVal(tensor.shape[1:], tensor.dtype, tensor.origin) for _ in range(tensor.shape[0])]


def method(tensor: TensorVal, name: str, args: Sequence[Value | Hole], kwargs: dict[str, Value], step: Step) -> Value:
    """The result of a method of a tensor; a TensorVal without shape or dtype where those are not certain."""
    if name in _MOVES:
        return tensor
    if name in _COPIES:
        return fresh(tensor, tensor.shape, tensor.dtype, step)
    if name in _CASTS:
        return fresh(tensor, tensor.shape, _CASTS[name], step)
    if name in ("to", "type"):
        return _converted(tensor, [*args, *kwargs.values()], step)
    if name in _RESHAPES_IN_PLACE:
        tensor.shape = None
        return tensor
    if name.endswith("_") and not name.endswith("__"):
        return tensor
    if name in _ELEMENTWISE:
        floating = tensor.dtype is not None and "float" in tensor.dtype
        return TensorVal(tensor.shape, tensor.dtype if floating else None, step)
    numbers = _numbers(args) if not kwargs else None
    if tensor.shape is not None and numbers is not None:
        found = _SIZES.get(name)
        if found is not None:
            return found(tensor.shape, numbers, step)
        reshape = _SHAPES.get(name)
        if reshape is not None:
            return fresh(tensor, reshape(tensor.shape, numbers), tensor.dtype, step)
    return TensorVal(None, tensor.dtype if name in _SHAPES else None, step)


def _converted(tensor: TensorVal, args: Sequence[Value | Hole], step: Step) -> TensorVal:
    """``tensor.to(...)``: a device changes nothing, a dtype or another tensor the dtype."""
    dtype = tensor.dtype
    for arg in args:
        if isinstance(arg, External) and arg.package == "torch" and arg.leaf in DTYPES:
            dtype = DTYPES[arg.leaf]
        elif isinstance(arg, TensorVal):
            dtype = arg.dtype
        elif not isinstance(arg, Const):
            dtype = None  # may be a device, a dtype or a tensor
    return tensor if dtype == tensor.dtype and dtype is not None else fresh(tensor, tensor.shape, dtype, step)


def _numbers(args: Sequence[Value | Hole]) -> list[int | None] | None:
    """Integer arguments, given one by one or as one list; None for one that is not known."""
    found: list[int | None] = []
    for arg in args:
        if isinstance(arg, ListVal) and len(args) == 1:
            return _numbers(arg.items)
        if isinstance(arg, (Hole, ListVal)):
            return None
        found.append(arg.value if isinstance(arg, Const) and isinstance(arg.value, int) else None)
    return found


def _axis(number: int | None, rank: int) -> int | None:
    return None if number is None or not -rank <= number < rank else number % rank


def _view(shape: Shape, sizes: list[int | None]) -> Shape | None:
    if sizes.count(-1) == 0:
        return tuple(sizes)
    if None in shape or None in sizes or sizes.count(-1) > 1:
        return tuple(None if size == -1 else size for size in sizes)
    known = math.prod(size for size in sizes if size is not None and size != -1)
    total = math.prod(size for size in shape if size is not None)
    rest = total // known if known else None
    return tuple(rest if size == -1 else size for size in sizes)


def _flatten(shape: Shape, numbers: list[int | None]) -> Shape | None:
    rank = max(len(shape), 1)
    first = _axis(numbers[0] if numbers else 0, rank)
    last = _axis(numbers[1] if len(numbers) > 1 else -1, rank)
    if first is None or last is None or first > last:
        return None
    middle = shape[first : last + 1]
    size = None if None in middle else math.prod(dim for dim in middle if dim is not None)
    return (*shape[:first], size, *shape[last + 1 :])


def _unsqueeze(shape: Shape, numbers: list[int | None]) -> Shape | None:
    axis = _axis(numbers[0] if numbers else None, len(shape) + 1)
    return None if axis is None else (*shape[:axis], 1, *shape[axis:])


def _squeeze(shape: Shape, numbers: list[int | None]) -> Shape | None:
    if not numbers:
        return None if None in shape else tuple(dim for dim in shape if dim != 1)
    axis = _axis(numbers[0], len(shape))
    if axis is None or len(numbers) > 1 or shape[axis] is None:
        return None
    return (*shape[:axis], *shape[axis + 1 :]) if shape[axis] == 1 else shape


def _transpose(shape: Shape, numbers: list[int | None]) -> Shape | None:
    axes = [_axis(number, len(shape)) for number in numbers]
    if len(axes) != 2:
        return None
    one, two = axes
    if one is None or two is None:
        return None
    swapped = list(shape)
    swapped[one], swapped[two] = swapped[two], swapped[one]
    return tuple(swapped)


def _permute(shape: Shape, numbers: list[int | None]) -> Shape | None:
    axes = [_axis(number, len(shape)) for number in numbers]
    if None in axes or len(axes) != len(shape):
        return None
    return tuple(shape[axis] for axis in axes if axis is not None)


def _expand(shape: Shape, sizes: list[int | None]) -> Shape | None:
    if len(sizes) < len(shape):
        return None
    padded = (*[None] * (len(sizes) - len(shape)), *shape)
    return tuple(old if new == -1 else new for old, new in zip(padded, sizes, strict=True))


def _repeat(shape: Shape, times: list[int | None]) -> Shape | None:
    if len(times) < len(shape):
        return None
    padded: Shape = (*[1] * (len(times) - len(shape)), *shape)
    return tuple(None if old is None or n is None else old * n for old, n in zip(padded, times, strict=True))


def _swap(shape: Shape, numbers: list[int | None]) -> Shape | None:
    return shape[::-1] if len(shape) <= 2 else None


_SHAPES: dict[str, Callable[[Shape, list[int | None]], Shape | None]] = {
    "view": _view,
    "reshape": _view,
    "flatten": _flatten,
    "ravel": _flatten,
    "unsqueeze": _unsqueeze,
    "squeeze": _squeeze,
    "transpose": _transpose,
    "swapaxes": _transpose,
    "permute": _permute,
    "expand": _expand,
    "repeat": _repeat,
    "t": _swap,
}


def _size(shape: Shape, numbers: list[int | None], step: Step) -> Value:
    if not numbers:
        return ListVal([_known(dim, step) for dim in shape], "tuple", step)
    axis = _axis(numbers[0], len(shape))
    return _known(None if axis is None else shape[axis], step)


def _count(shape: Shape, numbers: list[int | None], step: Step) -> Value:
    return _known(None if None in shape else math.prod(dim for dim in shape if dim is not None), step)


def _rank(shape: Shape, numbers: list[int | None], step: Step) -> Value:
    return Const(len(shape), step)


def _known(number: int | None, step: Step) -> Value:
    return Const(number, step) if number is not None else Unknown("a dimension that is not known", step)


_SIZES: dict[str, Callable[[Shape, list[int | None], Step], Value]] = {
    "size": _size,
    "numel": _count,
    "nelement": _count,
    "dim": _rank,
    "ndimension": _rank,
}
