"""Arithmetic of tensors: torch's type promotion, and the errors of operations in place.

A tensor with dimensions decides before one without, and any tensor before a number, unless the other's category (bool,
integer, floating point, complex) is the higher one. NumPy's scalars count as numbers. What is computed in place must
fit into the tensor that is there: no floating point into integers, and nothing but bool into bool.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from bn_audit.exchange.arithmetic.dtypes import INTEGRAL, SCALAR_TYPES, category, promote_complex
from bn_audit.exchange.arithmetic.values import Kind, Refused, Value

__all__ = [
    "add",
    "add_scaled",
    "cast",
    "concatenated",
    "divide",
    "floor_divide",
    "in_place",
    "lerp",
    "mean",
    "median",
    "multiply",
    "nan_mean",
    "quantile",
    "subtract",
    "summed",
    "zeros",
]

DEFAULT = "float32"
_CPP = {
    "bool": "bool",
    "uint8": "unsigned char",
    "int8": "signed char",
    "int16": "short int",
    "int32": "int",
    "int64": "long int",
    "float16": "c10::Half",
    "bfloat16": "c10::BFloat16",
    "float32": "float",
    "float64": "double",
    "complex64": "c10::complex<float>",
    "complex128": "c10::complex<double>",
}
"""What some of torch's errors call the dtypes."""


def add(a: Value, b: Value) -> Value:
    return _result(a, b, _promoted(a, b))


def subtract(a: Value, b: Value) -> Value:
    if a.dtype == b.dtype == "bool":
        raise Refused(
            "RuntimeError",
            "Subtraction, the `-` operator, with two bool tensors is not supported. "
            "Use the `^` or `logical_xor()` operator instead.",
        )
    if "bool" in (a.dtype, b.dtype):
        raise Refused(
            "RuntimeError",
            "Subtraction, the `-` operator, with a bool tensor is not supported. "
            "If you are trying to invert a mask, use the `~` or `logical_not()` operator instead.",
        )
    return _result(a, b, _promoted(a, b))


def multiply(a: Value, b: Value) -> Value:
    return _result(a, b, _promoted(a, b))


def divide(a: Value, b: Value) -> Value:
    dtype = _promoted(a, b)
    return _result(a, b, dtype if category(dtype) >= 2 else DEFAULT)


def floor_divide(a: Value, b: Value) -> Value:
    dtype = _promoted(a, b)
    if category(dtype) == 3:
        raise Refused("NotImplementedError", f"\"div_floor_cpu\" not implemented for '{SCALAR_TYPES[dtype]}'")
    if dtype == "bool":
        raise Refused("NotImplementedError", "\"div_floor_cpu\" not implemented for 'Bool'")
    return _result(a, b, dtype)


def add_scaled(a: Value, b: Value, alpha: Value) -> Value:
    """``torch.add(a, b, alpha=alpha)``. ``alpha`` is taken as a number, even if it is a tensor."""
    dtype = _promoted(a, b)
    if category(alpha.dtype) >= 2 and category(dtype) < 2:
        text = "For integral input tensors, argument alpha must not be a floating point number."
        raise Refused("RuntimeError", text)
    return _result(a, b, dtype)


def lerp(a: Value, b: Value, weight: Value, *, in_place: bool = False) -> Value:
    """``torch.lerp(a, b, weight)``, or ``a.lerp_(b, weight)``, of two tensors of one shape."""
    if a.dtype != b.dtype:
        raise Refused("RuntimeError", f"expected dtype {_CPP[a.dtype]} for `end` but got dtype {_CPP[b.dtype]}")
    number = weight.kind is not Kind.TENSOR
    result = a if number else _result(a, weight, _promoted(a, weight))
    found = _overwritten(a, result) if in_place else _result(a, b, result.dtype)
    if category(result.dtype) < 2:
        kernel = "lerp_kernel_scalar" if number else "lerp_kernel_tensor"
        raise Refused("NotImplementedError", f"\"{kernel}\" not implemented for '{SCALAR_TYPES[result.dtype]}'")
    return found


def in_place(target: Value, computed: Value) -> Value:
    """What ``target`` is after it was overwritten with what was computed from it."""
    return _overwritten(target, computed)


def _overwritten(target: Value, computed: Value) -> Value:
    have, want = category(computed.dtype), category(target.dtype)
    if (have == 3 and want < 3) or (have >= 2 and want < 2) or (have >= 1 and want == 0):
        raise Refused(
            "RuntimeError",
            f"result type {SCALAR_TYPES[computed.dtype]} can't be cast to the desired output type "
            f"{SCALAR_TYPES[target.dtype]}",
        )
    return target


def mean(values: Value) -> Value:
    """``torch.stack([...]).mean(0)`` of values like this one."""
    if category(values.dtype) < 2:
        raise Refused(
            "RuntimeError",
            "mean(): could not infer output dtype. Input dtype must be either a floating point or complex dtype. "
            f"Got: {SCALAR_TYPES[values.dtype]}",
        )
    return values


def nan_mean(values: Value) -> Value:
    """``torch.stack([...]).nanmean(0)`` of values like this one."""
    if category(values.dtype) < 2:
        raise Refused(
            "RuntimeError",
            f"nanmean(): expected input to have floating point or complex dtype but got {SCALAR_TYPES[values.dtype]}",
        )
    if category(values.dtype) == 3:
        raise Refused("RuntimeError", "nansum on CPU does not support complex inputs")
    return values


def quantile(values: Value) -> Value:
    """``torch.quantile(torch.stack([...]), 0.5, dim=0)`` of values like this one."""
    if values.empty:
        raise Refused("RuntimeError", "quantile() input tensor must be non-empty")
    if values.dtype not in ("float32", "float64"):
        raise Refused("RuntimeError", "quantile() input tensor must be either float or double dtype")
    return values


def summed(values: Value) -> Value:
    """``torch.stack([...]).sum(0)`` of values like this one."""
    return cast(values, "int64") if category(values.dtype) < 2 else values


def median(values: Value) -> Value:
    """``torch.stack([...]).median(0).values`` of values like this one."""
    if category(values.dtype) in (0, 3):
        raise Refused("NotImplementedError", f"\"median_out\" not implemented for '{SCALAR_TYPES[values.dtype]}'")
    return values


def cast(value: Value, dtype: str) -> Value:
    return Value(dtype, Kind.TENSOR, value.scalar, value.empty)


def zeros(value: Value, dtype: str | None = None) -> Value:
    return cast(value, dtype or value.dtype)


def concatenated(values: Sequence[Value]) -> str:
    """The dtype of ``torch.cat`` of flattened values."""
    return functools.reduce(_promote, (value.dtype for value in values))


def _result(a: Value, b: Value, dtype: str) -> Value:
    return Value(dtype, Kind.TENSOR, a.scalar and b.scalar, a.empty or b.empty)


@functools.cache
def _promoted(a: Value, b: Value) -> str:
    """The dtype of an elementwise operation."""
    of: dict[int, str] = {}
    for value in (a, b):
        rank = 0 if value.kind is not Kind.TENSOR else 1 if value.scalar else 2
        dtype = value.dtype
        if rank == 0 and category(dtype) == 2:
            dtype = DEFAULT
        of[rank] = _promote(of[rank], dtype) if rank in of else dtype
    ranks = sorted(of, reverse=True)
    dtype = of[ranks[0]]
    for rank in ranks[1:]:
        dtype = _combined(dtype, of[rank])
    return dtype


def _combined(higher: str, lower: str) -> str:
    """The dtype where one operand comes first."""
    if category(higher) >= category(lower) and higher != "bool":
        return higher
    if category(higher) == 2:
        return promote_complex(higher, higher)
    return _promote(higher, lower)


@functools.cache
def _promote(a: str, b: str) -> str:
    """``torch.promote_types``."""
    if a == b:
        return a
    if category(a) < category(b):
        a, b = b, a
    if category(a) == 3:
        return promote_complex(a, b)
    if category(a) > category(b):
        return a
    if category(a) == 2:
        return "float32" if {a, b} == {"float16", "bfloat16"} else max(a, b, key=_width)
    if "uint8" in (a, b):
        other = a if b == "uint8" else b
        return "int16" if other == "int8" else other
    return max(a, b, key=INTEGRAL.index)


def _width(dtype: str) -> int:
    return {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}[dtype]
