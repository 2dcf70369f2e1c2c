"""A page for people: the map of the parties, the heat map, channels, rounds, and the pairs with their levels.

Of many parties the page shows the farthest pairs, and in the heat map each party's distance from the mean of all.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

from bn_audit.comparison import NW2, ComparedLayer, Comparison, Level
from bn_audit.report.comparisons.words import (
    HOW_TO_READ,
    TITLES,
    calibration_words,
    findings,
    number,
    unit,
    weights_words,
)
from bn_audit.report.pages import page
from bn_audit.report.words import count, printable

__all__ = ["render"]

PAIRS = 500
COLUMNS = 66
NAMED = 40
_COLORS = tuple(f"var(--series-{number})" for number in range(8))
"""Colours of parties and curves, which the page's style gives for light and dark."""


def render(comparison: Comparison, version: str) -> str:
    """The page, whole.

    Args:
        version: bn-audit's own.

    Raises:
        ImportError: jinja2 is not installed.
    """
    first, metric = comparison.first, comparison.metrics[0]
    names = [printable(name) for name in comparison.parties]
    who = count(len(names), "party", "parties")
    values: dict[str, object] = {
        "title": f"How far apart the data of {who} is",
        "version": version,
        "first": first,
        "summary": f"{who}, {count(len(comparison.layers), 'norm layer')}; {weights_words(comparison)}.",
        "findings": [printable(_begun(line, comparison.parties)) for line in findings(comparison)],
        "unit": unit(metric),
        "calibration": calibration_words(comparison),
        "map": _map(comparison, names),
        "profile": _profile(comparison),
        "heat": _heat(comparison, names),
        "channels": first.channels,
        "history": _history(comparison, names),
        "pairs": _pairs(comparison, names),
        "how": HOW_TO_READ,
        "left_out": comparison.left_out,
        "notes": [printable(note) for note in comparison.notes],
        "data": {
            "channels": [
                {
                    "channel": one.number,
                    "largest": one.largest if math.isfinite(one.largest) else 0,
                    "mean": one.mean if math.isfinite(one.mean) else 0,
                    "pair": [names[party] for party in one.pair],
                }
                for one in first.channels
            ]
        },
    }
    return page("comparison", values)


def _map(comparison: Comparison, names: Sequence[str]) -> dict[str, object] | None:
    places = comparison.places
    if len(places) < 3:
        return None
    width, height, edge = 520, 380, 70
    low = [min(place[axis] for place in places) for axis in (0, 1)]
    high = [max(place[axis] for place in places) for axis in (0, 1)]
    # One scale for both axes: distances are what the map is for.
    scale = min((width - 2 * edge) / ((high[0] - low[0]) or 1), (height - 2 * edge) / ((high[1] - low[1]) or 1))
    group_of = {party: number for number, group in enumerate(comparison.groups) for party in group}
    dots: list[dict[str, Any]] = []
    for party, (x, y) in enumerate(places):
        group = group_of.get(party)
        at = width / 2 + (x - (low[0] + high[0]) / 2) * scale
        dots.append(
            {
                "name": names[party],
                "x": round(at, 1),
                "y": round(height / 2 - (y - (low[1] + high[1]) / 2) * scale, 1),
                "group": None if group is None else group + 1,
                "color": _COLORS[0 if group is None else group % len(_COLORS)],
            }
        )
    _label(dots, width)
    known = comparison.places_share or 0.0
    share = f"{100 * known:.0f} %"
    poor = "" if known >= 0.5 else ": most of them it does not show"
    return {"poor": poor, "width": width, "height": height, "dots": dots, "named": len(names) <= NAMED, "share": share}


_LETTER = 6.5
"""About the width of a letter of a name on the map, in its units; a line is twice as high."""


def _label(dots: Sequence[dict[str, Any]], width: float) -> None:
    """Put each name to the right of its dot, or where it covers no other name or dot: parties that are close are what
    the map is for."""
    taken = [(dot["x"] - 5, dot["y"] - 5, dot["x"] + 5, dot["y"] + 5) for dot in dots]
    for dot in dots:
        x, y, long = dot["x"], dot["y"], _LETTER * len(dot["name"])
        ways = [("start", x + 8, y + 4), ("end", x - 8, y + 4), ("middle", x, y - 10), ("middle", x, y + 18)]
        if x > width * 0.7:
            ways[:2] = [ways[1], ways[0]]
        begins = {"start": 0.0, "middle": long / 2, "end": long}
        boxes = [(at - begins[anchor], line - 10, at - begins[anchor] + long, line + 3) for anchor, at, line in ways]
        covers = [sum(_meet(box, other) for other in taken) for box in boxes]
        best = covers.index(min(covers))
        taken.append(boxes[best])
        dot["anchor"], dot["label_x"], dot["label_y"] = ways[best][0], round(ways[best][1], 1), round(ways[best][2], 1)


def _meet(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """Whether two boxes (left, top, right, bottom) share more than an edge."""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _values(comparison: Comparison) -> tuple[bool, list[list[float]]]:
    """Whether a row's numbers are those of pairs, and a row for each layer."""
    metric = comparison.metrics[0]
    of_pairs = (
        all(metric in layer.distances for layer in comparison.layers)
        and len(comparison.first.distances[metric]) <= COLUMNS
    )
    rows = [list(layer.distances[metric]) if of_pairs else list(layer.centre) for layer in comparison.layers]
    return of_pairs, rows


def _profile(comparison: Comparison) -> dict[str, object] | None:
    if len(comparison.layers) < 2:
        return None
    metric = comparison.metrics[0]
    of_pairs, rows = _values(comparison)
    finite = [[value for value in row if math.isfinite(value)] or [0.0] for row in rows]
    curves = [
        ("largest", [max(row) for row in finite], _COLORS[1], ""),
        ("median", [median(row) for row in finite], _COLORS[0], ""),
    ]
    shown = metric if of_pairs else NW2
    paths = [printable(layer.path or "(root)") for layer in comparison.layers]
    what = f"{TITLES[metric]} of the pairs" if of_pairs else "nW2 of the parties from their mean"
    return {**_axes(curves, paths, shown), "what": what}


def _heat(comparison: Comparison, names: Sequence[str]) -> dict[str, object]:
    metric = comparison.metrics[0]
    of_pairs, rows = _values(comparison)
    shown = metric if of_pairs else NW2
    columns = (
        [f"{names[one]}, {names[other]}" for one, other, _ in comparison.first.distances[metric].rows()]
        if of_pairs
        else list(names)
    )
    if len(columns) > 200:
        # Of a thousand parties no eye reads a column each.
        order = sorted(range(len(columns)), key=lambda place: -rows[0][place])[:200]
        columns = [columns[place] for place in order]
        rows = [[row[place] for place in order] for row in rows]
    top = max((value for row in rows for value in row if math.isfinite(value)), default=0.0)
    return {
        "by": "pair" if of_pairs else "party",
        "what": f"{TITLES[metric]} of each pair"
        if of_pairs
        else "nW2 of each party from the mean of all" + (", the farthest 200" if len(names) > 200 else ""),
        "top": number(shown, top),
        "columns": columns,
        "rows": [
            {
                "path": printable(layer.path or "(root)"),
                "comparable": layer.comparable,
                "cells": [
                    {
                        "text": number(shown, value),
                        "share": f"{_share(value, top):.2f}",
                        "shade": _shade(_share(value, top)),
                    }
                    for value in row
                ],
            }
            for layer, row in zip(comparison.layers, rows, strict=True)
        ],
    }


def _shade(share: float) -> str:
    """How dark a cell is: text on it takes the page's colour from one point on when it is light, another when dark."""
    return "deep half" if share > 0.7 else "half" if share > 0.45 else ""


def _share(value: float, top: float) -> float:
    return min(1.0, value / top) if top and math.isfinite(value) else float(bool(top))


def _history(comparison: Comparison, names: Sequence[str]) -> dict[str, object] | None:
    rounds = comparison.history
    if not rounds:
        return None
    path = comparison.first.path
    curves = [
        (
            name,
            [one.centre.get(path, (None,) * len(names))[party] for one in rounds],
            _COLORS[party % len(_COLORS)],
            ("", "6 3", "2 2", "8 3 2 3")[party // len(_COLORS) % 4],
        )
        for party, name in enumerate(names[:NAMED])
    ]
    return _axes(curves, [f"round {one.number}" for one in rounds], NW2)


def _axes(
    curves: Sequence[tuple[str, Sequence[float | None], str, str]], labels: Sequence[str], metric: str
) -> dict[str, object]:
    """Curves over equal steps, as what the template draws."""
    width, height, left, right, above, below = 520, 280, 48, 110, 12, 34
    top = max((value for _, values, *_ in curves for value in values if value is not None), default=0.0) or 1.0
    steps = max(len(labels) - 1, 1)

    def x(place: int) -> float:
        return round(left + (width - left - right) * place / steps, 1)

    def y(value: float) -> float:
        return round(height - below - (height - above - below) * value / top, 1)

    drawn = []
    ends: list[float] = []
    for name, values, color, dash in curves:
        parts: list[list[str]] = [[]]
        points = []
        for place, value in enumerate(values):
            if value is None:
                parts.append([])
                continue
            parts[-1].append(f"{x(place)},{y(value)}")
            if len(labels) <= 60:
                points.append(
                    {"x": x(place), "y": y(value), "text": f"{name}, {labels[place]}: {number(metric, value)}"}
                )
        known = [value for value in values if value is not None]
        end = y(known[-1]) + 4 if known and len(curves) <= 12 else None
        while end is not None and any(abs(end - other) < 12 for other in ends):
            end += 12
        if end is not None:
            ends.append(end)
        drawn.append(
            {
                "name": name,
                "color": color,
                "dash": dash,
                "parts": [" ".join(part) for part in parts if len(part) > 1],
                "points": points,
                "end": end,
            }
        )
    shown = [(0, "start"), (len(labels) - 1, "end")] if len(labels) > 1 else [(0, "start")]
    return {
        "width": width,
        "height": height,
        "left": left,
        "right": right,
        "ticks": [{"y": y(top * part / 4), "text": number(metric, top * part / 4)} for part in range(5)],
        "labels": [{"x": x(place), "anchor": anchor, "text": labels[place]} for place, anchor in shown],
        "curves": drawn,
    }


def _pairs(comparison: Comparison, names: Sequence[str]) -> dict[str, object]:
    first = comparison.first
    lined = first.lines is not None and first.comparable
    metric = comparison.metrics[0]
    ordered = sorted(first.distances[metric].rows(), key=lambda row: (-row[2], row[0], row[1]))
    heads = [{"name": "parties", "number": False}]
    heads += [{"name": TITLES[one], "number": True} for one in comparison.metrics]
    heads += [{"name": "chance", "number": True}, {"name": "level", "number": False}] if lined else []
    rest = len(ordered) - PAIRS
    return {
        "heads": heads,
        "rows": [
            {"cells": list(_cells(comparison, first, names, one, other, lined))} for one, other, _ in ordered[:PAIRS]
        ],
        "more": f"{rest:,} pairs that are closer are not shown." if rest > 0 else "",
    }


def _cells(
    comparison: Comparison, first: ComparedLayer, names: Sequence[str], one: int, other: int, lined: bool
) -> Iterator[dict[str, object]]:
    yield {"text": f"{names[one]}, {names[other]}", "number": False, "level": False}
    for metric in comparison.metrics:
        value = first.distances[metric].of(one, other)
        # No number of JavaScript's is larger.
        yield {"text": number(metric, value), "number": True, "value": value if math.isfinite(value) else 1e308}
    level = first.level(one, other)
    if lined and first.lines is not None and level is not None:
        line = first.lines.of(one, other)
        yield {"text": number(NW2, line), "number": True, "value": line}
        yield {"text": level.value, "number": False, "level": True, "value": list(Level).index(level)}


def _begun(line: str, parties: Sequence[str]) -> str:
    """A sentence begins with a capital; a party's name stays what it is."""
    return line if line.startswith(tuple(f"{name} " for name in parties)) else line[:1].upper() + line[1:]
