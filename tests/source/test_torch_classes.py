"""``issubclass`` over torch.nn as the reader answers it, beside torch itself."""

from __future__ import annotations

import inspect

import pytest

from bn_audit.source.interpreter.torch_classes import is_torch_layer, subclass

nn = pytest.importorskip("torch.nn")
PUBLIC = {
    name: cls
    for name, cls in vars(nn).items()
    if inspect.isclass(cls) and issubclass(cls, nn.Module) and name != "Module"
}
CLASSES = {
    cls.__name__: cls
    for public in PUBLIC.values()
    for cls in public.__mro__
    if issubclass(cls, nn.Module) and cls is not nn.Module
}


def test_answers_agree_with_torch() -> None:
    wrong = [
        (name, other)
        for name, cls in CLASSES.items()
        for other, base in CLASSES.items()
        if subclass(f"torch.nn.{name}", f"torch.nn.{other}") not in (None, issubclass(cls, base))
    ]
    assert wrong == []


def test_public_layers_are_known() -> None:
    unknown = {name for name, cls in PUBLIC.items() if cls.__name__ == name and not is_torch_layer(name)}
    assert unknown <= {"Container"}
    assert all(subclass(f"torch.nn.{name}", "torch.nn.Module") for name in PUBLIC if is_torch_layer(name))


def test_what_is_not_torch_is_not_known() -> None:
    assert subclass("timm.layers.BatchNormAct2d", "torch.nn.BatchNorm2d") is None
    assert subclass("torch.nn.NoSuchLayer", "torch.nn.Linear") is None
    assert subclass("torch.nn.Linear", "torch.nn.NoSuchLayer") is None
