"""The plan of SecretFlow's TensorFlow backend beside what it did: ``tests/data/tensorflow_cells.json``.

The record is made by ``record_tensorflow.py`` with the real package and TensorFlow 2.12. Two errors of Keras end with
weights themselves; their texts are recorded up to there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from bn_audit.exchange.fedbn import expected_fates
from bn_audit.exchange.plan import Fate, Plan
from bn_audit.exchange.secretflow import SecretFlowSettings, plan, strategy
from bn_audit.profile import NormLayer, Profile, StateEntry

_RECORD = json.loads((Path(__file__).parents[1] / "data" / "tensorflow_cells.json").read_text(encoding="utf-8"))
_MODELS = {model["name"]: model for model in _RECORD["models"]}


@pytest.mark.parametrize("name", _MODELS)
def test_plan_and_record_agree(name: str) -> None:
    model = _MODELS[name]
    profile = _profile(model["profile"])
    disagreements = []
    for cell in model["cells"]:
        settings = SecretFlowSettings(
            backend="tensorflow",
            strategy=cell["strategy"],
            aggregator=cell["aggregator"],
            skip_bn=cell["skip_bn"],
            numpy_version=_RECORD["numpy"],
        )
        for complaint in _disagreements(profile, plan(profile, settings), cell):
            disagreements.append(f"{cell['strategy']}, {cell['aggregator']}, {cell['skip_bn']}: {complaint}")
    assert not disagreements, "\n".join(disagreements)


def test_the_record_covers_every_strategy_and_aggregator() -> None:
    cells = {(cell["strategy"], cell["aggregator"], cell["skip_bn"]) for m in _MODELS.values() for cell in m["cells"]}
    assert len(cells) == 6 * 3 * 2
    assert len(_MODELS) >= 20


def _profile(data: Mapping[str, Any]) -> Profile:
    entries = tuple(StateEntry(**{**entry, "shape": tuple(entry["shape"])}) for entry in data["entries"])
    norms = tuple(NormLayer(**norm) for norm in data["norms"])
    return Profile(entries, norms, framework="keras", type=data["type"])


def _disagreements(profile: Profile, planned: Plan, cell: Mapping[str, Any]) -> Iterator[str]:
    known = strategy("tensorflow", cell["strategy"])
    assert known is not None
    if planned.error is not None:
        error = planned.error
        if cell["error"] != [error.type, error.text, error.round]:
            yield f"should stop with {[error.type, error.text, error.round]}, and did {cell['error']}"
        return
    if cell["error"] is not None:
        yield f"should run, and stopped with {cell['error']}"
        return
    if planned.stops is None and not known.trusting:
        yield "a complete profile, and the plan leaves open whether the round stops"
    exchanges = cell["exchanges"][1:] if cell["strategy"] == "fed_avg_g" else cell["exchanges"]
    drifted = False
    for index, (part, expected) in enumerate(zip(planned.entries, expected_fates(profile), strict=True)):
        kept = Fate.LOCAL if Fate.LOCAL in expected else Fate.STALE
        outcomes = [
            {
                kept if source is None else Fate.AVERAGED if source == index else Fate.MISPLACED
                for source in exchange[index]
            }
            for exchange in exchanges
        ]
        drifted = drifted or (part.fate is Fate.AVERAGED and cell["differ"][index])
        if part.fate is None or any(part.fate not in found for found in outcomes):
            yield f"{part.key}: plan {part.fate}, run {outcomes}"
        elif part.fate is not Fate.AVERAGED and all(Fate.AVERAGED in found for found in outcomes):
            yield f"{part.key}: the run does not tell it from averaged"
    if any(part.fate is Fate.AVERAGED for part in planned.entries) and planned.drifts not in (None, drifted):
        yield f"drifts: plan {planned.drifts}, run {drifted}"
