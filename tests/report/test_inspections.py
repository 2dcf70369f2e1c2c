"""Inspections in every format, beside golden files, and the schema of the JSON."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

from bn_audit import report
from bn_audit.exchange.flower import FlowerSettings
from bn_audit.exchange.keep import Keep
from bn_audit.exchange.nvflare import NVFlareSettings
from bn_audit.exchange.secretflow import SecretFlowSettings
from bn_audit.finding import Finding, Location, Severity
from bn_audit.health import NormHealth
from bn_audit.inspection import Inspection, inspect
from bn_audit.loading import How
from bn_audit.profile import NormLayer, StateEntry
from bn_audit.report.groups import fate_groups, shortened
from bn_audit.report.inspections import FORMATS, Look, renderer
from bn_audit.report.tree import tree
from tests.exchange.build import batchnorm, layer, profile
from tests.golden import same_as

SCHEMA = json.loads((Path(report.__file__).parent / "inspection.schema.json").read_text(encoding="utf-8"))
MIDDLE = profile(layer("conv", (8, 1, 3, 3), (8,)), batchnorm("bn", 8), layer("fc", (10, 8), (10,)))
DEEP = profile(*([*layer(f"body.{n}.conv", (8, 8, 3, 3), (8,)), *batchnorm(f"body.{n}.bn", 8)] for n in range(20)))
FINDING = Finding(
    "BNA104",
    "skip-bn-misplaces-weights",
    Severity.ERROR,
    "`skip_bn=True` leaves out `bn` of `Net`: `fc.weight` and `fc.bias` are never synchronised",
    Location("model.py", 4, 1, 4, 1),
    help="register every BatchNorm after all other layers",
)


def settings(**chosen: object) -> SecretFlowSettings:
    usual = SecretFlowSettings(backend="torch", aggregator="plain", torch_version="2.13.0", base_module=False)
    return replace(usual, **chosen)  # type: ignore[arg-type]


INSPECTIONS = {
    "fates": inspect(
        MIDDLE,
        target="model.py:Net",
        settings=settings(skip_bn=True),
        health=[NormHealth("bn", counter=0, untrained=True)],
        findings=[FINDING],
        modules={"": "Net", "conv": "Conv2d", "bn": "BatchNorm2d", "act": "ReLU", "fc": "Linear"},
    ),
    "stops": inspect(DEEP, target="deep.pt", settings=settings(), notes=["the state dict at 'model' was taken"]),
    "matrix": inspect(
        MIDDLE,
        target="model.py:Net",
        health=[NormHealth("bn", counter=7, nan=1, negative=2, zero=1, untrained=False)],
        torch_version="2.13.0",
    ),
    "flower": inspect(
        MIDDLE,
        target="model.py:Net",
        settings=FlowerSettings(strategy="fedadam", flwr_version="1.42.0"),
    ),
    "nvflare": inspect(
        MIDDLE,
        target="model.py:Net",
        settings=NVFlareSettings(exclude_vars=r"^bn\.", keeps=Keep(words=("fc",)), load=How.LENIENT),
    ),
    "empty": inspect(profile(), target="nothing:Here"),
}


def written(inspection: Inspection, form: str, look: Look) -> str:
    return "".join(f"{line}\n" for line in renderer(form)(inspection, look))


@pytest.mark.parametrize("name", INSPECTIONS)
@pytest.mark.parametrize("form", FORMATS)
def test_golden(name: str, form: str) -> None:
    text = written(INSPECTIONS[name], form, Look(width=80, tree=True))
    assert not re.search(r"[ \t]$", text, flags=re.MULTILINE)
    same_as(f"inspection/{name}.{form}.txt", text)


@pytest.mark.parametrize("form", ["text", "markdown"])
def test_golden_with_every_entry(form: str) -> None:
    same_as(f"inspection/every.{form}.txt", written(INSPECTIONS["fates"], form, Look(width=80, every=True)))


@pytest.mark.parametrize("inspection", INSPECTIONS.values(), ids=INSPECTIONS)
def test_json_keeps_to_its_schema(inspection: Inspection) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    data = json.loads(written(inspection, "json", Look()))
    jsonschema.Draft202012Validator(SCHEMA).validate(data)
    assert [one["key"] for one in data["entries"]] == [entry.key for entry in inspection.profile.entries]


def test_the_schema_refuses_what_is_not_told_there() -> None:
    data = json.loads(written(INSPECTIONS["fates"], "json", Look()))
    for change in ({"version": 2}, {"verdict": "fine"}, {"more": 1}, {"ok": None}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**data, **change}, SCHEMA)


@pytest.mark.parametrize("name", INSPECTIONS)
def test_colour_changes_nothing_but_colour(name: str) -> None:
    plain, colored = (
        written(INSPECTIONS[name], "text", Look(width=80, tree=True, color=color)) for color in (False, True)
    )
    assert re.sub(r"\x1b\[[0-9;]*m", "", colored) == plain
    assert colored != plain


@pytest.mark.parametrize("width", [80, 100])
def test_lines_fit_the_terminal(width: int) -> None:
    for inspection in INSPECTIONS.values():
        lines = written(inspection, "text", Look(width=width)).splitlines()
        assert max(map(len, lines)) <= width


def test_names_from_a_file_reach_no_terminal_as_they_are() -> None:
    key = "a\x1b[2J|`b`"
    entry = StateEntry(f"{key}.weight", (1,), "float32", "parameter", key)
    hostile = replace(profile(), entries=(entry,), norms=(NormLayer(key, "Bad\nNorm|", features=1),), type="\x07")
    inspection = inspect(hostile, target="\x1b]0;x\x07.pt", settings=settings(), notes=["\x1b[31mred"])
    for form in FORMATS:
        text = written(inspection, form, Look(tree=True, every=True))
        assert "\x1b" not in text and "\x07" not in text
    rows = [line for line in written(inspection, "markdown", Look()).splitlines() if line.startswith("| ")]
    assert all(len(re.findall(r"(?<!\\)\|", row)) in (5, 6, 9) for row in rows)


def test_what_goes_wrong_comes_first_and_no_entry_is_lost() -> None:
    for inspection in INSPECTIONS.values():
        groups = fate_groups(inspection.entries)
        assert [group.wrong for group in groups] == sorted((group.wrong for group in groups), reverse=True)
        assert sorted(one.entry.key for group in groups for one in group.entries) == sorted(
            entry.key for entry in inspection.profile.entries
        )


def test_lists_are_shortened_where_they_have_to_be() -> None:
    names = [f"layer{number}" for number in range(50)]
    assert shortened(names[:2], 20) == "layer0, layer1"
    assert shortened(names, 40) == "layer0, layer1, layer2 and 47 more"
    assert shortened(["x" * 90], 40) == "x" * 90


def test_the_tree_can_do_without_box_characters() -> None:
    lines = list(tree(INSPECTIONS["fates"], mark=str.upper, dim=str, ascii_only=True))
    assert lines == [
        "Net",
        "|- conv: Conv2d (2 entries)",
        "|- BN: BATCHNORM2D(8)  <- NORM LAYER",
        "|- act: ReLU",
        "`- fc: Linear (2 entries)",
    ]
