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
    "mean",
    "median",
    "multiply",
    "subtract",
    "summed",
    "zeros",
]

DEFAULT = "float32"


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


def in_place(target: Value, computed: Value) -> Value:
    """What ``target`` is after it was overwritten with what was computed from it."""
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
