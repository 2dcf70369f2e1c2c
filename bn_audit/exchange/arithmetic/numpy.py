"""Arithmetic of arrays and NumPy scalars, under the promotion of NumPy 2 (NEP 50).

Numbers of Python's give way; NumPy's scalars do not. Whatever is computed from 0-d arrays is a scalar, not an array,
and what is computed in place must fit by the rule ``same_kind``.
"""

from __future__ import annotations

import functools

from bn_audit.exchange.arithmetic.dtypes import INTEGRAL, NOT_NUMPY, category, promote_complex
from bn_audit.exchange.arithmetic.values import Kind, Refused, Unsettled, Value

__all__ = [
    "add",
    "array",
    "average",
    "cast",
    "divide",
    "floor_divide",
    "from_numpy",
    "in_place",
    "mean",
    "median",
    "multiply",
    "subtract",
    "summed",
    "tensor",
    "tensor_class",
    "zeros",
]


def array(tensor: Value) -> Value:
    """``tensor.cpu().numpy()``."""
    if tensor.dtype in NOT_NUMPY:
        raise Refused("TypeError", f"Got unsupported ScalarType {NOT_NUMPY[tensor.dtype]}")
    return Value(tensor.dtype, Kind.ARRAY, tensor.scalar, tensor.empty)


def add(a: Value, b: Value) -> Value:
    return _result(a, b, _promoted(a, b))


def subtract(a: Value, b: Value) -> Value:
    dtype = _promoted(a, b)
    if dtype == "bool":
        raise Refused(
            "TypeError",
            "numpy boolean subtract, the `-` operator, is not supported, use the bitwise_xor, the `^` operator, or "
            "the logical_xor function instead.",
        )
    return _result(a, b, dtype)


def multiply(a: Value, b: Value) -> Value:
    return _result(a, b, _promoted(a, b))


def divide(a: Value, b: Value) -> Value:
    dtype = _promoted(a, b)
    return _result(a, b, dtype if category(dtype) >= 2 else "float64")


def floor_divide(a: Value, b: Value) -> Value:
    dtype = _promoted(a, b)
    if category(dtype) == 3:
        if a.kind is Kind.SCALAR:
            raise Unsettled
        raise Refused(
            "TypeError",
            "ufunc 'floor_divide' not supported for the input types, and the inputs could not be safely coerced to any "
            "supported types according to the casting rule ''safe''",
        )
    return _result(a, b, "int8" if dtype == "bool" else dtype)


_UFUNCS = {add: "add", subtract: "subtract", multiply: "multiply", divide: "divide", floor_divide: "floor_divide"}


def in_place(target: Value, other: Value, operation: object) -> Value:
    """``target op= other``: an array is overwritten, a scalar or number replaced."""
    computed: Value = operation(target, other)  # type: ignore[operator]
    if target.kind is not Kind.ARRAY:
        return computed
    if not _same_kind(computed.dtype, target.dtype):
        raise Refused(
            "UFuncTypeError",
            f"Cannot cast ufunc '{_UFUNCS[operation]}' output from dtype('{computed.dtype}') to "  # type: ignore[index]
            f"dtype('{target.dtype}') with casting rule 'same_kind'",
        )
    return target


def mean(values: Value) -> Value:
    """``np.mean([...], axis=0)`` of values like this one."""
    return _reduced(values, values.dtype if category(values.dtype) >= 2 else "float64")


def average(values: Value, weights: Value | None) -> Value:
    """``np.average([...], axis=0, weights=[...])`` of values like this one."""
    if weights is None:
        if values.empty:
            raise Refused("ZeroDivisionError", "division by zero")
        return mean(values)
    # A list of weights becomes an array, whose dtype counts in full.
    return _reduced(values, "float64" if category(values.dtype) < 2 else _promote(values.dtype, weights.dtype))


def summed(values: Value) -> Value:
    """``np.sum([...], axis=0)`` of values like this one."""
    dtype = values.dtype
    if dtype == "bool" or dtype in ("int8", "int16", "int32"):
        dtype = "int64"
    elif dtype == "uint8":
        dtype = "uint64"
    return _reduced(values, dtype)


def median(values: Value) -> Value:
    """``np.median([...], axis=0)`` of values like this one."""
    return _reduced(values, values.dtype if category(values.dtype) >= 2 else "float64")


def cast(value: Value, dtype: str) -> Value:
    """``value.astype(dtype)``."""
    return Value(dtype, value.kind if value.kind is not Kind.NUMBER else Kind.SCALAR, value.scalar, value.empty)


def zeros(value: Value, dtype: str | None = None) -> Value:
    return Value(dtype or value.dtype, Kind.ARRAY, value.scalar, value.empty)


def from_numpy(value: Value) -> Value:
    """``torch.from_numpy(value)``."""
    if value.kind is not Kind.ARRAY:
        raise Refused("TypeError", f"expected np.ndarray (got {value.type_name})")
    return tensor(value)


def tensor(value: Value) -> Value:
    """``torch.tensor(value)`` and ``torch.as_tensor(value)``."""
    dtype = value.dtype
    if value.kind is Kind.NUMBER and category(dtype) == 2:
        dtype = "float32"
    return Value(dtype, Kind.TENSOR, value.scalar, value.empty)


def tensor_class(value: Value) -> tuple[Value, bool]:
    """``torch.Tensor(value)``, and whether the value was taken for a size: an integer without dimensions is."""
    sized = value.scalar and category(value.dtype) == 1
    if value.kind is Kind.SCALAR and not sized:
        raise Refused("TypeError", f"new(): data must be a sequence (got {value.type_name})")
    return Value("float32", Kind.TENSOR, value.scalar and not sized, value.empty), sized


def _result(a: Value, b: Value, dtype: str) -> Value:
    scalar = a.scalar and b.scalar
    number = a.kind is Kind.NUMBER and b.kind is Kind.NUMBER
    kind = Kind.NUMBER if number else Kind.SCALAR if scalar else Kind.ARRAY
    return Value(dtype, kind, scalar, a.empty or b.empty)


def _reduced(values: Value, dtype: str) -> Value:
    return Value(dtype, Kind.SCALAR if values.scalar else Kind.ARRAY, values.scalar, values.empty)


@functools.cache
def _promoted(a: Value, b: Value) -> str:
    """The dtype of an elementwise operation."""
    if a.kind is Kind.NUMBER and b.kind is Kind.NUMBER:
        return _promote(a.dtype, b.dtype)
    for number, other in ((a, b), (b, a)):
        if number.kind is Kind.NUMBER:
            if category(other.dtype) >= category(number.dtype):
                return other.dtype
            return number.dtype
    return _promote(a.dtype, b.dtype)


def _same_kind(source: str, target: str) -> bool:
    """``np.can_cast(source, target, "same_kind")``."""
    if category(source) == category(target) == 1:
        return target != "uint8" or source == "uint8"
    return category(source) <= category(target)


@functools.cache
def _promote(a: str, b: str) -> str:
    """``np.promote_types``."""
    if a == b:
        return a
    if category(a) < category(b):
        a, b = b, a
    if b == "bool":
        return a
    if category(a) == 3:
        return "complex128" if b in ("int32", "int64", "uint64") else promote_complex(a, b)
    if category(a) == 2:
        if category(b) == 2:
            return max(a, b, key=("float16", "float32", "float64").index)
        holds = {"uint8": 0, "int8": 0, "int16": 1, "int32": 2, "int64": 2, "uint64": 2}[b]
        return max(a, ("float16", "float32", "float64")[holds], key=("float16", "float32", "float64").index)
    if "uint64" in (a, b):
        return "uint64" if "uint8" in (a, b) else "float64"
    if "uint8" in (a, b):
        other = a if b == "uint8" else b
        return "int16" if other == "int8" else other
    return max(a, b, key=INTEGRAL.index)
