"""JSON for programs: one object, with the fields of the schema in ``report/comparison.schema.json``, version 1.

Pairs are condensed: (0, 1), (0, 2), ..., (1, 2), ... An infinite distance is null.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator

from bn_audit.comparison import NW2, UNITS, ComparedLayer, Comparison
from bn_audit.report.verifications import Look

__all__ = ["VERSION", "as_object", "render"]

VERSION = 1
"""Raised when the meaning of a field changes."""


def render(comparison: Comparison, look: Look) -> Iterator[str]:
    """The comparison as one JSON object. ASCII only."""
    # Lists of a thousand numbers on a thousand lines are of no use to anybody.
    text = json.dumps(as_object(comparison), allow_nan=False, separators=(",", ":"))
    yield text if len(text) > 100_000 else json.dumps(as_object(comparison), allow_nan=False, indent=2)


def as_object(comparison: Comparison) -> dict[str, object]:
    """The comparison as JSON has it."""
    calibration = comparison.calibration
    return {
        "version": VERSION,
        "parties": list(comparison.parties),
        "metrics": [{"name": metric, "unit": UNITS[metric]} for metric in comparison.metrics],
        "weights": list(comparison.weights),
        "layers": [_layer(layer) for layer in comparison.layers],
        "left_out": [{"path": one.path, "reason": one.reason} for one in comparison.left_out],
        "calibration": None
        if calibration is None
        else {
            "how": calibration.how,
            "quantile": 0.99,
            "splits": calibration.splits,
            "examples": list(calibration.examples),
            "batch_size": calibration.batch_size,
            "momentum": calibration.momentum,
        },
        "groups": [list(group) for group in comparison.groups],
        "outliers": [
            {"party": one.party, "median": _finite(one.median), "typical": _finite(one.typical)}
            for one in comparison.outliers
        ],
        "places": [list(place) for place in comparison.places],
        "history": [
            {"round": one.number, "centre": {path: list(values) for path, values in one.centre.items()}}
            for one in comparison.history
        ],
        "notes": list(comparison.notes),
    }


def _layer(layer: ComparedLayer) -> dict[str, object]:
    levels = None
    if layer.lines is not None and layer.comparable and NW2 in layer.distances:
        found = [layer.level(one, other) for one, other, _ in layer.distances[NW2].rows()]
        levels = [None if level is None else level.value for level in found]
    affine = layer.affine
    return {
        "path": layer.path,
        "features": layer.features,
        "comparable": layer.comparable,
        "distances": {metric: _all(pairs) for metric, pairs in layer.distances.items()},
        "centre": _all(layer.centre),
        "lines": None if layer.lines is None else _all(layer.lines),
        "levels": levels,
        "affine": None if affine is None else {"weight": _all(affine.weight), "bias": _all(affine.bias)},
        "channels": [
            {
                "channel": one.number,
                "mean": _finite(one.mean),
                "largest": _finite(one.largest),
                "pair": list(one.pair),
            }
            for one in layer.channels
        ],
    }


def _all(values: Iterable[float]) -> list[float | None]:
    return [_finite(value) for value in values]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
