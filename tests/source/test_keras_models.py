"""What the source reader says of Keras models beside what real Keras built from the same text.

tests/data/keras_models/styles.json was recorded with the TensorFlow that SecretFlow pins, by
scripts/record_keras_models.py. Shapes that follow from the shape of an input need not be known; whatever is said must
hold.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bn_audit.profile import Profile, StateEntry
from bn_audit.source import zoo
from bn_audit.source.read import ReadOptions, read

FOLDER = Path(__file__).parent.parent / "data" / "keras_models"
RECORD: dict[str, list[list[Any]]] = json.loads((FOLDER / "styles.json").read_text(encoding="utf-8"))["models"]

ZOO = {
    "application_and_head": "keras.applications.MobileNetV2",
    "application_inside": "keras.applications.ResNet50",
}
"""Models that rest on one of keras.applications."""
OPEN = {"resnet"}
"""Models with a condition on the shape of a tensor, which is not followed: it is tried both ways."""


@pytest.fixture(scope="module")
def claims(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Profile | None]]:
    """The possible profiles of each model, as the reader sees them."""
    folder = tmp_path_factory.mktemp("keras")
    (folder / "styles.py").write_text((FOLDER / "styles.py").read_text(encoding="utf-8"), encoding="utf-8")
    for name in RECORD:
        (folder / f"{name}.py").write_text(
            f"from styles import build_{name}\nfrom secretflow.ml.nn import FLModel\n"
            f"FLModel(device_list=[], model=build_{name}, backend='tensorflow')\n",
            encoding="utf-8",
        )
    sites = read([str(folder)], options=ReadOptions(jobs=1)).sites
    return {Path(site.location.path).stem: [reading.model for reading in site.readings] for site in sites}


def fits(entry: StateEntry, shape: list[int]) -> bool:
    """Whether a shape is what an entry says of it."""
    if entry.shape is None:
        return True
    return len(entry.shape) == len(shape) and all(a in (None, b) for a, b in zip(entry.shape, shape, strict=True))


@pytest.mark.parametrize("name", RECORD)
def test_reader_agrees_with_keras(name: str, claims: dict[str, list[Profile | None]]) -> None:
    if name in ZOO and zoo.model(ZOO[name], (), {}) is None:
        pytest.skip("the zoo does not have it")
    possible = [profile for profile in claims[name] if profile is not None]
    assert len(possible) == len(claims[name]) == (2 if name in OPEN else 1)
    # Of several readings, one is true.
    profile = max(possible, key=lambda profile: len(profile.entries) == len(RECORD[name]))
    assert profile.framework == "keras"
    assert [(gap.index, gap.reason) for gap in profile.gaps] == []
    weights = RECORD[name]
    assert [entry.name for entry in profile.entries] == [weight[0] for weight in weights]
    assert [entry.kind == "parameter" for entry in profile.entries] == [weight[2] for weight in weights]
    assert [
        (entry.key, entry.shape, weight[1])
        for entry, weight in zip(profile.entries, weights, strict=True)
        if not fits(entry, weight[1])
    ] == []
    assert len(profile.norms) == sum(weight[0] == "moving_mean" for weight in weights)
    assert all(norm.batchnorm and norm.tracked for norm in profile.norms)


def test_every_model_is_recorded() -> None:
    text = (FOLDER / "styles.py").read_text(encoding="utf-8")
    assert [line[10:].partition("(")[0] for line in text.splitlines() if line.startswith("def build_")] == list(RECORD)
