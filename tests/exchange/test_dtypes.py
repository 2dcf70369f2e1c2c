"""What the plans say of dtypes, beside what torch says."""

from __future__ import annotations

import warnings

import pytest

torch = pytest.importorskip("torch")

from bn_audit.exchange.arithmetic.dtypes import NOT_NUMPY  # noqa: E402


def test_numpy_has_the_dtypes_that_are_not_named() -> None:
    refused = {}
    for name in dir(torch):
        dtype = getattr(torch, name)
        if not isinstance(dtype, torch.dtype) or str(dtype) != f"torch.{name}":
            continue  # another name of a dtype
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tensor = torch.empty(1, dtype=dtype)
        try:
            tensor.numpy()
        except TypeError as error:
            refused[name] = str(error)
    assert refused == {name: f"Got unsupported ScalarType {NOT_NUMPY[name]}" for name in refused}
    assert not set(NOT_NUMPY) & {"float32", "int64", "bool", "uint16", "complex64"}
