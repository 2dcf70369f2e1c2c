"""Comparisons as text and JSON: golden files, the schema, and names that a terminal would act upon."""

from __future__ import annotations

import json
import math
import re
from array import array
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

from bn_audit import report
from bn_audit.comparison import (
    Affine,
    Calibration,
    Channel,
    ComparedLayer,
    Comparison,
    LeftOut,
    Level,
    Outlier,
    Pairs,
    Round,
)
from bn_audit.report.comparisons import FORMATS, renderer
from bn_audit.report.verifications import Look
from tests.golden import same_as

SCHEMA = json.loads((Path(report.__file__).parent / "comparison.schema.json").read_text(encoding="utf-8"))


def pairs(parties: int, *values: float) -> Pairs:
    assert len(values) == parties * (parties - 1) // 2
    return Pairs(parties, array("d", values))


TWO = Comparison(
    parties=("alice", "bob"),
    metrics=("nw2",),
    layers=(ComparedLayer("bn", 16, True, {"nw2": pairs(2, 0.25)}, (0.125, 0.125)),),
    weights=(0.0, None),
)
FOUR = Comparison(
    parties=("alice", "bob", "carol", "dave"),
    metrics=("hellinger", "nw2"),
    layers=(
        ComparedLayer(
            "stem.bn",
            3,
            True,
            {"hellinger": pairs(4, 0.1, 0.2, 0.9, 0.15, 0.8, 0.85), "nw2": pairs(4, 0.05, 0.3, 2.5, 0.6, 2.0, 2.25)},
            (0.5, 0.4, 0.3, 1.5),
            Affine(pairs(4, 0, 0.01, 0, 0, 0, 0.02), pairs(4, 0, 0, 0, 0, 0, 0.5)),
            (Channel(0, 0.4, 0.9, (0, 3)), Channel(1, 0.3, 0.5, (1, 3)), Channel(2, 0.1, 0.2, (0, 1))),
            pairs(4, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1),
        ),
        ComparedLayer(
            "stages.0.norm",
            64,
            False,
            {"hellinger": pairs(4, 0.3, 0.1, 0.4, 0, 0.1, 1), "nw2": pairs(4, 1, 0.2, 1, 0.5, 1, math.inf)},
            (0.1, 0.2, 0.3, 0.4),
            Affine(pairs(4, 0, 0, 0, 0, 0, 0), pairs(4, 0, 0, 0, 0, 0, 0)),
        ),
    ),
    left_out=(LeftOut("head.bn", "untrained (BNA407)"),),
    weights=(0.0, 0.01, 0.1234, 0.0),
    calibration=Calibration("split-half", 200, (120, 120, 100, 90), 32, 0.1),
    groups=((0, 1, 2), (3,)),
    outliers=(Outlier(3, 2.25, 0.3),),
    places=((-0.6, 0.1), (-0.5, -0.1), (-0.4, 0.05), (1.9, 0.0)),
    places_share=0.93,
    history=(
        Round(1, {"stem.bn": (0.1, 0.1, 0.2, 0.5)}),
        Round(2, {"stem.bn": (0.2, None, 0.2, 1.0)}),
        Round(3, {"stem.bn": (0.3, 0.2, 0.2, 1.5)}),
    ),
    notes=("from stages.0.norm on channels do not mean the same thing",),
)
HOSTILE = replace(TWO, parties=("\x1b[2Jalice", "<b>bob</b>\u202e"))
MANY = Comparison(
    parties=tuple(f"party {number}" for number in range(70)),
    metrics=("nw2",),
    layers=tuple(
        ComparedLayer(
            f"layers.{number}.bn",
            8,
            True,
            {"nw2": pairs(70, *(n / 1000 for n in range(2415)))} if number == 0 else {},
            tuple(n / 100 for n in range(70)),
        )
        for number in range(3)
    ),
    calibration=Calibration("bound", 0, (500,) * 70, 64, None),
)
MANY = replace(MANY, layers=(replace(MANY.layers[0], lines=pairs(70, *[0.5] * 2415)), *MANY.layers[1:]))
SUBJECTS = {"two": TWO, "four": FOUR, "many": MANY, "hostile": HOSTILE}


def written(comparison: Comparison, form: str, look: Look) -> str:
    return "".join(f"{line}\n" for line in renderer(form)(comparison, look))


@pytest.mark.parametrize("name", SUBJECTS)
@pytest.mark.parametrize("form", FORMATS)
def test_golden(name: str, form: str) -> None:
    text = written(SUBJECTS[name], form, Look(width=80))
    assert not re.search(r"[ \t]$", text, flags=re.MULTILINE)
    if (name, form) != ("many", "json"):
        same_as(f"comparison/{name}.{form}.txt", text)


@pytest.mark.parametrize("look", [Look(width=60), Look(width=140, every=True), Look(width=80, ascii_only=True)])
@pytest.mark.parametrize("name", SUBJECTS)
def test_every_look(name: str, look: Look) -> None:
    text = written(SUBJECTS[name], "text", look)
    assert "\x1b" not in text and "\u202e" not in text
    if look.ascii_only and name != "hostile":
        assert text.isascii()
    assert text == written(SUBJECTS[name], "text", look)


def test_colours_are_those_of_the_levels() -> None:
    text = written(FOUR, "text", Look(width=100, color=True))
    assert "\x1b[31m2.50" not in text, "the matrix shows the first metric"
    assert re.search(r"\x1b\[31m0\.90\x1b", text) and re.search(r"\x1b\[31mstrong\x1b", text)
    assert re.search(r"\x1b\[32mindistinguishable\x1b", text)
    assert re.sub(r"\x1b\[\d+m", "", text) == written(FOUR, "text", Look(width=100))


@pytest.mark.parametrize("name", SUBJECTS)
def test_json_keeps_to_its_schema(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    document = json.loads(written(SUBJECTS[name], "json", Look()))
    jsonschema.validate(document, SCHEMA)
    parties = len(document["parties"])
    assert len(document["layers"][0]["distances"]["nw2"]) == parties * (parties - 1) // 2
    for damage in ({"path": None}, {"features": 0}, {"distances": {"cosine": []}}, {"levels": ["huge"]}):
        broken = json.loads(written(SUBJECTS[name], "json", Look()))
        broken["layers"][0].update(damage)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(broken, SCHEMA)


def test_json_is_whole() -> None:
    document = json.loads(written(FOUR, "json", Look()))
    assert document["layers"][0]["levels"] == ["indistinguishable", "moderate", "strong", "strong", "strong", "strong"]
    assert document["layers"][1]["levels"] is None
    assert document["layers"][1]["distances"]["nw2"][-1] is None
    assert document["history"][1] == {"round": 2, "centre": {"stem.bn": [0.2, None, 0.2, 1.0]}}


@pytest.mark.parametrize(
    ("distance", "line", "level"),
    [
        (0.1, 0.1, Level.INDISTINGUISHABLE),
        (0.9, 1.0, Level.INDISTINGUISHABLE),
        (0.15, 0.1, Level.MILD),
        (0.2, 0.1, Level.MODERATE),
        (0.5, 0.1, Level.STRONG),
        (math.inf, 0.1, Level.STRONG),
    ],
)
def test_levels(distance: float, line: float, level: Level) -> None:
    assert Level.of(distance, line) is level
