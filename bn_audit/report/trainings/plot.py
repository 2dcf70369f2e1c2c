"""The curves as a picture: a panel for the mean over the parties, and one for each of them."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import PurePath
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from bn_audit.report.trainings.tables import conditions
from bn_audit.report.words import printable
from bn_audit.training import FEDAVG, FEDBN, LOCAL, Curves, Training

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["SUFFIXES", "picture"]

SUFFIXES = (".png", ".svg")
PANELS = 11
"""Parties that have a panel of their own."""

# Colours that people with any kind of colour vision tell apart (Okabe and Ito), and lines that a printer does.
_STYLES = {
    FEDAVG: ("#d55e00", "-"),
    FEDBN: ("#0072b2", "-"),
    LOCAL: ("#6b6b6b", "--"),
}
_SETTING = ("#009e73", ":")


def picture(training: Training, path: str) -> bytes:
    """The content of a picture in the format that a path's suffix names; the same for the same training.

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
        parties = training.parties[:PANELS]
        columns = min(4, 1 + len(parties)) if len(parties) > 5 else min(3, 1 + len(parties))
        rows = math.ceil((1 + len(parties)) / columns)
        figure = Figure(figsize=(3.2 * columns, 2.5 * rows + 1.1), layout="constrained")
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        panels: list[Axes] = list(grid.flat)
        for panel in panels[1 + len(parties) :]:
            panel.set_visible(False)
        for curves in training.curves:
            means = [[fmean(accuracies) for accuracies in rounds] for rounds in curves.accuracies]
            _draw(panels[0], curves, means)
            for number, panel in enumerate(panels[1 : 1 + len(parties)]):
                _draw(panel, curves, [[accuracies[number] for accuracies in rounds] for rounds in curves.accuracies])
        left_out = len(training.parties) - len(parties)
        titles = ["mean of the parties" + (f" ({left_out} more than shown)" if left_out else "")]
        for number, (panel, title) in enumerate(zip(panels, [*titles, *(one.name for one in parties)], strict=False)):
            panel.set_title(printable(title), fontweight="bold" if number == 0 else "normal", fontsize=9)
            panel.set_ylim(0, 100)
            panel.grid(alpha=0.25, linewidth=0.6)
            panel.spines[["top", "right"]].set_visible(False)
            if number % columns == 0:
                panel.set_ylabel("accuracy, %")
            if number + columns > len(parties):
                panel.set_xlabel("round")
                panel.tick_params(labelbottom=True)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
        figure.suptitle(f"{printable(training.target)}\n{printable(conditions(training))}", fontsize=10)
        content = io.BytesIO()
        # What a file says of the time of its making would make every file another one.
        metadata = {"Date": None} if suffix == ".svg" else {"Software": None}
        figure.savefig(content, format=suffix[1:], dpi=150, metadata=metadata)
    return content.getvalue()


def _draw(panel: Axes, curves: Curves, by_seed: Sequence[Sequence[float]]) -> None:
    """One line: the mean over seeds, and a band of their standard deviation."""
    color, line = _STYLES.get(curves.method, _SETTING)
    rounds = range(1, len(by_seed[0]) + 1)
    by_round = [[100 * seed[number - 1] for seed in by_seed] for number in rounds]
    mean = [fmean(values) for values in by_round]
    panel.plot(
        rounds, mean, line, color=color, label=curves.method, linewidth=1.6, marker="o" if len(mean) == 1 else ""
    )
    if len(by_seed) > 1:
        spread = [stdev(values) for values in by_round]
        low = [m - s for m, s in zip(mean, spread, strict=True)]
        high = [m + s for m, s in zip(mean, spread, strict=True)]
        panel.fill_between(rounds, low, high, color=color, alpha=0.15, linewidth=0)
