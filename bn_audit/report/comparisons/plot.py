"""A picture for papers: the first layer's matrix, the map of the parties, and all layers."""

from __future__ import annotations

import io
import math
from pathlib import PurePath
from statistics import median
from typing import TYPE_CHECKING

from bn_audit.comparison import NW2, Comparison
from bn_audit.report.comparisons.words import TITLES, number
from bn_audit.report.words import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["SUFFIXES", "picture"]

SUFFIXES = (".png", ".svg")
WRITTEN, NAMED = 12, 40
"""Parties up to which numbers stand in the matrix, and names beside it."""


def picture(comparison: Comparison, path: str) -> bytes:
    """The content of a picture in the format that a path's suffix names; the same for the same comparison.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: the suffix is none of :data:`SUFFIXES`.
    """
    suffix = PurePath(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"{path}: a plot is written to a file whose name ends in {' or '.join(SUFFIXES)}")
    import matplotlib
    import matplotlib.style
    from matplotlib.figure import Figure

    settings = {"svg.hashsalt": "bn-audit", "svg.fonttype": "path", "font.size": 9.0, "text.parse_math": False}
    # Neither pyplot, which would want a window, nor the settings of whoever calls.
    with matplotlib.style.context(["default", settings]):
        panels = [_matrix]
        if comparison.places:
            panels.append(_map)
        if len(comparison.layers) > 1:
            panels.append(_layers)
        figure = Figure(figsize=(4.2 * len(panels), 3.8), layout="constrained")
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        for panel, draw in zip(axes, panels, strict=True):
            draw(comparison, panel)
        content = io.BytesIO()
        # What a file says of the time of its making would make every file another one.
        metadata = {"Date": None} if suffix == ".svg" else {"Software": None}
        figure.savefig(content, format=suffix[1:], dpi=150, metadata=metadata)
    return content.getvalue()


def _matrix(comparison: Comparison, panel: Axes) -> None:
    metric, first = comparison.metrics[0], comparison.first
    names = [printable(name) for name in comparison.parties]
    pairs = first.distances[metric]
    square = [[pairs.of(one, other) for other in range(len(names))] for one in range(len(names))]
    top = max((value for row in square for value in row if math.isfinite(value)), default=0.0) or 1.0
    panel.imshow([[min(value, top) for value in row] for row in square], cmap="Blues", vmin=0, vmax=top)
    if len(names) <= WRITTEN:
        for one, row in enumerate(square):
            for other, value in enumerate(row):
                if one != other:
                    color = "white" if value > 0.6 * top else "black"
                    panel.text(other, one, number(metric, value), ha="center", va="center", color=color, fontsize=7)
    shown = names if len(names) <= NAMED else []
    panel.set_xticks(range(len(shown)), shown, rotation=90)
    panel.set_yticks(range(len(shown)), shown)
    panel.set_title(f"{TITLES[metric]} at {printable(first.path or '(root)')}", fontsize=9)


def _map(comparison: Comparison, panel: Axes) -> None:
    across, up = zip(*comparison.places, strict=True)
    panel.scatter(across, up, s=18, color="#0072b2")
    if len(comparison.parties) <= NAMED:
        for name, (x, y) in zip(comparison.parties, comparison.places, strict=True):
            panel.annotate(printable(name), (x, y), xytext=(4, 4), textcoords="offset points", fontsize=8)
    panel.set_aspect("equal", adjustable="datalim")
    panel.margins(0.2)
    panel.set_title(f"map ({100 * (comparison.places_share or 0):.0f} % of the squared distances)", fontsize=9)
    panel.grid(alpha=0.25, linewidth=0.6)


def _layers(comparison: Comparison, panel: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    metric = comparison.metrics[0]
    whole = all(metric in layer.distances for layer in comparison.layers)
    rows = [
        [value for value in (layer.distances[metric] if whole else layer.centre) if math.isfinite(value)] or [0.0]
        for layer in comparison.layers
    ]
    steps = range(1, len(rows) + 1)
    panel.plot(steps, [max(row) for row in rows], "-", color="#d55e00", label="largest", linewidth=1.4)
    panel.plot(steps, [median(row) for row in rows], "--", color="#0072b2", label="median", linewidth=1.4)
    panel.set_ylim(bottom=0)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    panel.set_xlabel("norm layer")
    panel.set_title(f"{TITLES[metric]} of the pairs" if whole else f"{TITLES[NW2]} from the mean of all", fontsize=9)
    panel.legend(frameon=False)
    panel.grid(alpha=0.25, linewidth=0.6)
