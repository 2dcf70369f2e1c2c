"""Templates of Keras layers beside what real layers held (tests/data/keras, by scripts/record_keras_layers.py)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bn_audit.source.keras_layers import _LAYERS, STATELESS, keras_layer
from bn_audit.source.layers import REST_KEYWORDS, UNKNOWN
from bn_audit.source.state import ModuleState, Slot

RECORDS = sorted((Path(__file__).parent.parent / "data" / "keras").glob("*.json"))
OUTCOMES = [
    pytest.param(outcome, id=f"{path.stem}-{outcome['name']}-{index}")
    for path in RECORDS
    for index, outcome in enumerate(json.loads(path.read_text(encoding="utf-8"))["outcomes"])
]
# Weights that the versions of Keras name differently; what matters is order, shape and kind.
RENAMED = {"depthwise_kernel": {"kernel"}}


def known(value: Any) -> Any:
    if isinstance(value, dict) and set(value) == {"layer"}:
        name, args, kwargs = value["layer"]
        return keras_layer(name, tuple(map(known, args)), {key: known(item) for key, item in kwargs.items()})
    return [known(item) for item in value] if isinstance(value, list) else value


def weights(state: ModuleState) -> list[Slot]:
    """The weights of a template in order, up to the first doubtful one."""
    found = list(state.slots)
    for _, child in state.children:
        found += weights(child)
        if not is_complete(child):
            break
    return found


def is_complete(state: ModuleState) -> bool:
    return state.complete and all(is_complete(child) for _, child in state.children)


def template(outcome: dict[str, Any]) -> ModuleState:
    args, kwargs = known(outcome["args"]), {key: known(value) for key, value in outcome["kwargs"].items()}
    state = keras_layer(outcome["name"], tuple(args), kwargs)
    assert state is not None
    return state


def assert_agrees(state: ModuleState, outcome: dict[str, Any]) -> None:
    """Everything the template says is so; if it is complete it says everything."""
    found, true = weights(state), outcome["weights"]
    if is_complete(state):
        assert len(found) == len(true)
    for slot, (name, shape, dtype, trained) in zip(found, true, strict=False):
        assert slot.name == name or name in RENAMED.get(slot.name, ())
        assert slot.kind == ("parameter" if trained else "buffer")
        assert slot.dtype in (None, dtype)
        if slot.shape is not None:
            assert len(slot.shape) == len(shape)
            assert all(ours in (None, theirs) for ours, theirs in zip(slot.shape, shape, strict=True))


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_template_agrees_with_the_real_layer(outcome: dict[str, Any]) -> None:
    state = template(outcome)
    assert_agrees(state, outcome)
    assert is_complete(state) or outcome["name"] == "Normalization"
    assert (state.norm is not None and state.norm.batchnorm) == outcome["batchnorm"]


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_unknown_arguments_claim_nothing_wrong(outcome: dict[str, Any]) -> None:
    args = tuple(known(outcome["args"]))
    kwargs = {key: known(value) for key, value in outcome["kwargs"].items()}
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        *(((*args[:k], UNKNOWN, *args[k + 1 :]), kwargs) for k in range(len(args))),
        *((args, {**kwargs, key: UNKNOWN}) for key in kwargs),
        *((args, {k: v for k, v in kwargs.items() if k != key} | {REST_KEYWORDS: UNKNOWN}) for key in kwargs),
        ((), {REST_KEYWORDS: UNKNOWN}),
    ]
    for some_args, some_kwargs in calls:
        state = keras_layer(outcome["name"], some_args, some_kwargs)
        assert state is not None
        assert_agrees(state, outcome)


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: str(path.stem))
def test_no_layer_is_forgotten(path: Path) -> None:
    assert set(json.loads(path.read_text(encoding="utf-8"))["layers"]) <= STATELESS | set(_LAYERS)


def test_batch_normalization() -> None:
    norm = keras_layer("BatchNormalization", (), {"momentum": 0.9, "input_shape": (8, 8, 3)})
    assert norm is not None
    assert [(slot.name, slot.shape, slot.kind) for slot in norm.slots] == [
        ("gamma", (3,), "parameter"),
        ("beta", (3,), "parameter"),
        ("moving_mean", (3,), "buffer"),
        ("moving_variance", (3,), "buffer"),
    ]
    assert norm.norm is not None
    assert (norm.norm.momentum, norm.norm.eps, norm.norm.family) == (0.9, 1e-3, "batch")


def test_synchronised_batch_normalization() -> None:
    old = keras_layer("experimental.SyncBatchNormalization", (), {})
    new = keras_layer("BatchNormalization", (), {"synchronized": True})
    assert old is not None
    assert new is not None
    assert old.norm is not None
    assert new.norm is not None
    assert (old.norm.family, old.norm.batchnorm) == ("sync", False)
    assert (new.norm.family, new.norm.batchnorm) == ("sync", True)


def test_frozen_layers_hold_no_parameter() -> None:
    frozen = keras_layer("BatchNormalization", (), {"trainable": False})
    assert frozen is not None
    assert {slot.kind for slot in frozen.slots} == {"buffer"}
    unknown = keras_layer("Dense", (4,), {"trainable": UNKNOWN})
    assert unknown is not None
    assert (unknown.slots, unknown.complete) == ((), False)


def test_other_names() -> None:
    assert keras_layer("NoSuchLayer", (), {}) is None
    lookup = keras_layer("StringLookup", (), {})
    assert lookup is not None
    assert not lookup.complete
