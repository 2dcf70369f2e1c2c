"""Dtypes by name, and what they promote to where both libraries agree."""

from __future__ import annotations

__all__ = [
    "COMPLEX",
    "FLOATING",
    "INTEGRAL",
    "KNOWN",
    "NOT_NUMPY",
    "SCALAR_TYPES",
    "category",
    "promote_complex",
]

FLOATING = ("float16", "bfloat16", "float32", "float64")
INTEGRAL = ("uint8", "int8", "int16", "int32", "int64")
COMPLEX = ("complex64", "complex128")

KNOWN = frozenset((*FLOATING, *INTEGRAL, *COMPLEX, "bool"))
"""Dtypes whose arithmetic is known. Of others (float8, unsigned integers of more than a byte, quantised ones) no plan
says anything."""

_NARROW_FLOATS = (
    "float8_e4m3fn",
    "float8_e4m3fnuz",
    "float8_e5m2",
    "float8_e5m2fnuz",
    "float8_e8m0fnu",
    "float4_e2m1fn_x2",
)

NOT_NUMPY = {
    "bfloat16": "BFloat16",
    "complex32": "ComplexHalf",
    **{name: name.capitalize() for name in _NARROW_FLOATS},
    **{f"int{bits}": f"Int{bits}" for bits in range(1, 8)},
    **{f"uint{bits}": f"UInt{bits}" for bits in range(1, 8)},
    **{f"bits{form}": f"Bits{form}" for form in ("1x8", "2x4", "4x2", "8", "16")},
    "qint8": "QInt8",
    "qint32": "QInt32",
    "quint8": "QUInt8",
    "quint4x2": "QUInt4x2",
    "quint2x4": "QUInt2x4",
}
"""What torch calls the dtypes that NumPy has none for, in the error of ``Tensor.numpy()``."""

SCALAR_TYPES = {
    "bool": "Bool",
    "uint8": "Byte",
    "int8": "Char",
    "int16": "Short",
    "int32": "Int",
    "int64": "Long",
    "float16": "Half",
    "bfloat16": "BFloat16",
    "float32": "Float",
    "float64": "Double",
    "complex64": "ComplexFloat",
    "complex128": "ComplexDouble",
}
"""What torch's errors call the dtypes."""


_CATEGORIES = {
    **dict.fromkeys((*INTEGRAL, "uint64"), 1),
    **dict.fromkeys(FLOATING, 2),
    **dict.fromkeys(COMPLEX, 3),
    "bool": 0,
}


def category(dtype: str) -> int:
    """0 bool, 1 integer, 2 floating point, 3 complex: what decides first when two dtypes meet."""
    return _CATEGORIES[dtype]


def promote_complex(one: str, other: str) -> str:
    """The complex dtype that holds both, one of which is complex."""
    wide = {one, other} & {"complex128", "float64"}
    return "complex128" if wide else "complex64"
