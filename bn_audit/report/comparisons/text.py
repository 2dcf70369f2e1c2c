"""Text for people: the first layer's matrix, the pairs with their levels, and all layers as a heat map."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from statistics import median

import click

from bn_audit.comparison import NW2, ComparedLayer, Comparison, Level
from bn_audit.report.columns import columns, wrapped
from bn_audit.report.comparisons.words import (
    TITLES,
    calibration_words,
    findings,
    number,
    unit,
    weights_words,
)
from bn_audit.report.verifications import Look
from bn_audit.report.words import count, printable

__all__ = ["render"]

INDENT = "  "
MATRIX = 10
"""Parties that a matrix has room for."""
PAIRS = 10
CHANNELS = 10
_BLOCKS, _PLAIN = " ▁▂▃▄▅▆▇█", " .:-=+*#@"
_COLORS = {Level.INDISTINGUISHABLE: "green", Level.MILD: "blue", Level.MODERATE: "yellow", Level.STRONG: "red"}


def render(comparison: Comparison, look: Look) -> Iterator[str]:
    """The comparison in sections, as wide as the terminal."""
    first, metric = comparison.first, comparison.metrics[0]
    bold = _painter(look, bold=True)
    names = [printable(name) for name in comparison.parties]
    layers = count(len(comparison.layers), "norm layer")
    who = count(len(names), "party", "parties")
    begin, *rest = wrapped(f"{who}, {layers}; {weights_words(comparison)}", look.width, indent=INDENT, first="")
    yield begin.replace(who, bold(who), 1)
    yield from rest
    yield ""
    yield f"{bold('First layer')}: {printable(first.path or '(root)')}, {count(first.features, 'channel')}"
    yield from wrapped(unit(metric), look.width, first=INDENT, indent=INDENT)
    if not first.comparable:
        yield from wrapped(
            "its channels do not mean the same thing in all parties: read nothing into the numbers",
            look.width,
            first=INDENT,
            indent=INDENT,
        )
    for line in findings(comparison):
        yield from wrapped(printable(line), look.width, first=f"{INDENT}- ", indent=INDENT * 2)
    matrix = 2 < len(names) <= MATRIX
    if matrix:
        yield ""
        yield from _matrix(first, metric, names, look)
    if not matrix or look.every or len(comparison.metrics) > 1 or first.lines is not None:
        yield ""
        yield from _pairs(comparison, names, look)
    if first.channels:
        yield ""
        yield from _channels(first, metric, names, look)
    if len(comparison.layers) > 1:
        yield ""
        yield from _layers(comparison, names, look)
    if first.affine is not None:
        yield ""
        yield from _affine(comparison, names, look)
    if comparison.history:
        yield ""
        yield from _history(comparison, names, look)
    yield ""
    yield from wrapped(calibration_words(comparison), look.width, first=INDENT, indent=INDENT)
    for left_out in comparison.left_out:
        text = f"left out: {left_out.path or '(root)'}: {left_out.reason}"
        yield from wrapped(printable(text), look.width, first=INDENT, indent=INDENT * 2)
    for note in comparison.notes:
        yield from wrapped(printable(note), look.width, first=f"{INDENT}note: ", indent=INDENT * 4)


def _matrix(layer: ComparedLayer, metric: str, names: Sequence[str], look: Look) -> Iterator[str]:
    found = layer.distances[metric]
    heads = [_short(name, 12) for name in names]
    rows = [
        [
            _short(name, 20),
            *("." if one == other else number(metric, found.of(one, other)) for other in range(len(names))),
        ]
        for one, name in enumerate(names)
    ]

    def paint(row: int, column: int, text: str) -> str:
        if row == 0 or column == 0:
            return _painter(look, dim=row == 0)(text) if row == 0 else text
        level = layer.level(row - 1, column - 1)
        return _painter(look, fg=_COLORS[level])(text) if level is not None else text

    lines = columns([["", *heads], *rows], right=frozenset(range(1, len(names) + 1)), paint=paint)
    yield from (f"{INDENT}{line}" for line in lines)


def _pairs(comparison: Comparison, names: Sequence[str], look: Look) -> Iterator[str]:
    first = comparison.first
    told = comparison.metrics
    rows = sorted(first.distances[told[0]].rows(), key=lambda row: (-row[2], row[0], row[1]))
    shown = rows if look.every else rows[:PAIRS]
    lines = first.lines is not None and first.comparable
    head = ["pair", *(TITLES[metric] for metric in told), *(("chance", "level") if lines else ())]
    cells: list[list[str]] = []
    levels: list[Level | None] = []
    for one, other, _ in shown:
        level = first.level(one, other)
        levels.append(level)
        row = [f"{_short(names[one], 30)}, {_short(names[other], 30)}"]
        row += [number(metric, first.distances[metric].of(one, other)) for metric in told]
        if lines and first.lines is not None and level is not None:
            row += [number(NW2, first.lines.of(one, other)), level.value]
        cells.append(row)

    def paint(row: int, column: int, text: str) -> str:
        if row == 0:
            return _painter(look, dim=True)(text)
        level = levels[row - 1]
        return _painter(look, fg=_COLORS[level])(text) if level is not None and column == len(head) - 1 else text

    right = frozenset(range(1, 1 + len(told) + int(lines)))
    yield from (f"{INDENT}{line}" for line in columns([head, *cells], right=right, paint=paint))
    if len(rows) > len(shown):
        yield f"{INDENT}and {count(len(rows) - len(shown), 'pair')} that are closer; --all lists them"


def _layers(comparison: Comparison, names: Sequence[str], look: Look) -> Iterator[str]:
    """One line a layer. A column of the map is a pair, or a party's distance from the mean where pairs are too many."""
    metric = comparison.metrics[0]
    pairs = all(metric in layer.distances for layer in comparison.layers)
    of_pairs = pairs and len(comparison.first.distances[metric]) <= 45
    wide = [list(layer.distances[metric]) if of_pairs else list(layer.centre) for layer in comparison.layers]
    mapped = len(wide[0]) <= 60
    top = max((value for row in wide for value in row if value < float("inf")), default=0.0)
    what = f"{TITLES[metric]} of each pair" if of_pairs else "nW2 of each party from the mean of all"
    yield f"{_painter(look, bold=True)('Layers')}: {what}" + (
        f"; the darkest is {number(metric, top)}" if mapped else ""
    )
    blocks = _PLAIN if look.ascii_only else _BLOCKS
    rows = [["layer", "channels", "median", "largest", *(["map"] if mapped else [])]]
    for layer, row in zip(comparison.layers, wide, strict=True):
        shades = "".join(
            blocks[min(len(blocks) - 1, round(value / top * (len(blocks) - 1)) if top else 0)] for value in row
        )
        name = printable(layer.path or "(root)") + ("" if layer.comparable else " *")
        cells = [name, str(layer.features), number(metric, median(row)), number(metric, max(row))]
        rows.append([*cells, *([f"|{shades}|"] if mapped else [])])

    def paint(row: int, column: int, text: str) -> str:
        return _painter(look, dim=True)(text) if row == 0 else text

    yield from (f"{INDENT}{line}" for line in columns(rows, right=frozenset({1, 2, 3}), paint=paint))
    if mapped and of_pairs and len(names) > 2:
        order = ", ".join(f"{_short(names[0], 12)}-{_short(name, 12)}" for name in names[1:3])
        yield from wrapped(f"pairs in the order {order}, ...", look.width, first=INDENT, indent=INDENT)
    if any(not layer.comparable for layer in comparison.layers):
        yield f"{INDENT}* the weights before it have nothing in common in some parties"


def _channels(layer: ComparedLayer, metric: str, names: Sequence[str], look: Look) -> Iterator[str]:
    found = sorted(layer.channels, key=lambda channel: (-channel.largest, channel.number))
    shown = found if look.every else found[:CHANNELS]
    yield f"{_painter(look, bold=True)('Channels')} of {printable(layer.path or '(root)')}, {TITLES[metric]}"
    rows = [["channel", "mean over pairs", "largest", "of"]]
    rows += [
        [
            str(channel.number),
            number(metric, channel.mean),
            number(metric, channel.largest),
            ", ".join(_short(names[party], 30) for party in channel.pair),
        ]
        for channel in shown
    ]

    def paint(row: int, column: int, text: str) -> str:
        return _painter(look, dim=True)(text) if row == 0 else text

    yield from (f"{INDENT}{line}" for line in columns(rows, right=frozenset({0, 1, 2}), paint=paint))
    if len(found) > len(shown):
        yield f"{INDENT}and {count(len(found) - len(shown), 'channel')} with less; --all lists them"


def _affine(comparison: Comparison, names: Sequence[str], look: Look) -> Iterator[str]:
    layers = [layer for layer in comparison.layers if layer.affine is not None]
    first = layers[0]
    assert first.affine is not None
    largest = [max(pairs.rows(), key=lambda row: row[2]) for pairs in (first.affine.weight, first.affine.bias)]
    if not any(row[2] for row in largest):
        same = all(not any(pairs) for one in layers if one.affine for pairs in (one.affine.weight, one.affine.bias))
        yield f"{_painter(look, bold=True)('Weight and bias')}: the same in all parties" + (
            "" if same else f" at {printable(first.path or '(root)')}"
        )
        return
    yield f"{_painter(look, bold=True)('Weight and bias')} of {printable(first.path or '(root)')}, root mean square"
    rows = [
        [name, f"{value:.3g}", f"{_short(names[one], 30)}, {_short(names[other], 30)}"]
        for name, (one, other, value) in zip(("weight", "bias"), largest, strict=True)
    ]

    def paint(row: int, column: int, text: str) -> str:
        return _painter(look, dim=True)(text) if row == 0 else text

    lines = columns([["", "largest", "of"], *rows], right=frozenset({1}), paint=paint)
    yield from (f"{INDENT}{line}" for line in lines)


def _history(comparison: Comparison, names: Sequence[str], look: Look) -> Iterator[str]:
    path = comparison.first.path
    rounds = comparison.history
    yield (
        f"{_painter(look, bold=True)('Rounds')} {rounds[0].number} to {rounds[-1].number}: nW2 of each party from the "
        f"mean of all, at {printable(path or '(root)')}"
    )
    blocks = _PLAIN if look.ascii_only else _BLOCKS
    curves = [[one.centre.get(path, (None,) * len(names))[party] for one in rounds] for party in range(len(names))]
    top = max((value for curve in curves for value in curve if value is not None), default=0.0)
    rows = [["party", "first", "last", "largest", "course"]]
    for name, curve in zip(names, curves, strict=True):
        known = [value for value in curve if value is not None]
        if not known:
            continue
        shown = curve[:: max(1, -(-len(curve) // 40))]
        shades = "".join(
            " " if value is None else blocks[round(value / top * (len(blocks) - 1)) if top else 0] for value in shown
        )
        rows.append(
            [_short(name, 30), *(number(NW2, value) for value in (known[0], known[-1], max(known))), f"|{shades}|"]
        )

    def paint(row: int, column: int, text: str) -> str:
        return _painter(look, dim=True)(text) if row == 0 else text

    yield from (f"{INDENT}{line}" for line in columns(rows, right=frozenset({1, 2, 3}), paint=paint))


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _painter(
    look: Look, *, fg: str | None = None, bold: bool | None = None, dim: bool | None = None
) -> Callable[[str], str]:
    return partial(click.style, fg=fg, bold=bold, dim=dim) if look.color else str
