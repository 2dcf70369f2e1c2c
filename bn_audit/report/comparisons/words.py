"""What the formats for people share: titles, numbers, and sentences on what was found."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from bn_audit.comparison import HELLINGER, JEFFREYS, NW2, UNITS, W2, ComparedLayer, Comparison, Level
from bn_audit.report.words import count, enumerate_words

__all__ = ["HOW_TO_READ", "TITLES", "calibration_words", "farthest", "findings", "number", "unit", "weights_words"]

TITLES = {NW2: "nW2", HELLINGER: "Hellinger", JEFFREYS: "Jeffreys", W2: "W2"}
MOST_NAMED = 8

HOW_TO_READ = (
    "Each channel of the first norm layer is taken for a normal distribution, whose mean and variance are the party's "
    "running statistics. An nW2 of 0.5 means that two parties' channels differ, on average, by half a standard "
    "deviation. It is what the layer sees of the data: deeper layers can be blind to a shift that the first one shows."
)


def number(metric: str, value: float) -> str:
    """``0.31`` for distances that have a scale of their own, three digits for the others; ``inf`` as it is."""
    if not math.isfinite(value):
        return "inf"
    return f"{value:.2f}" if metric in (NW2, HELLINGER) else f"{value:.3g}"


def unit(metric: str) -> str:
    """``nW2, in standard deviations, mean over channels``."""
    return f"{TITLES[metric]}, {'in ' if metric in (NW2, JEFFREYS, W2) else ''}{UNITS[metric]}"


def farthest(layer: ComparedLayer, metric: str) -> tuple[int, int, float]:
    """The two parties that are farthest apart at a layer whose pairs were computed, and their distance."""
    return max(layer.distances[metric].rows(), key=lambda row: row[2])


def weights_words(comparison: Comparison) -> str:
    """How far the models are from each other, but for their norm layers."""
    known = [share for share in comparison.weights[1:] if share is not None]
    if not known:
        return "no weights but those of norm layers to tell whether the models have one origin"
    if max(known) == 0:
        return "all other weights are the same in all parties"
    return f"other weights differ from the first party's by up to {100 * max(known):.2g} % of their size"


def calibration_words(comparison: Comparison) -> str:
    """Where the lines come from, or how to get them."""
    one = comparison.calibration
    if one is None:
        return (
            "without the parties' data (--data, --model) or --samples and --batch-size, it is not known what chance "
            "alone would give; so no levels are told"
        )
    least, most = min(one.examples), max(one.examples)
    examples = f"{least:,}" if least == most else f"{least:,} to {most:,}"
    batches = f"batches of {one.batch_size}"
    if one.how == "split-half":
        return (
            f"chance: what 99 % of two random halves of one party's data stay below; {count(one.splits, 'split')} a "
            f"party, {examples} examples, {batches}"
        )
    return (
        f"chance: a bound for {examples} examples a party and {batches}, which 99 % stay below; it is within a factor "
        "of 2 for fully connected layers, and far too high for convolutions, where each example gives many values: "
        "what lies above it is no chance, what lies below it may be none either"
    )


def levels(comparison: Comparison) -> list[tuple[Level, int]]:
    """How many pairs are how far apart at the first layer; empty without a calibration."""
    first = comparison.first
    found = [first.level(one, other) for one, other, _ in first.distances[NW2].rows()]
    return [(level, sum(one is level for one in found)) for level in reversed(Level) if level in found]


def findings(comparison: Comparison) -> Iterator[str]:
    """What the first layer tells, in sentences without a full stop."""
    first = comparison.first
    one, other, value = farthest(first, comparison.metrics[0])
    names = comparison.parties
    told = f"farthest apart: {names[one]} and {names[other]}, {number(comparison.metrics[0], value)}"
    level = first.level(one, other)
    yield f"{told} ({level.value})" if level is not None else told
    counted = levels(comparison)
    if counted:
        total = len(first.distances[NW2])
        words = [f"{number_} {level.value}" for level, number_ in counted]
        yield f"of {count(total, 'pair')}: {enumerate_words(words)}"
    if comparison.groups:
        shown = [f"({', '.join(_some([names[party] for party in group]))})" for group in comparison.groups]
        yield f"groups of parties that are close: {' '.join(_some(shown))}"
    for outlier in comparison.outliers[:MOST_NAMED]:
        yield (
            f"{names[outlier.party]} lies apart: {outlier.median:.2f} from the others in the median, where "
            f"{outlier.typical:.2f} is usual"
        )


def _some(names: Sequence[str]) -> list[str]:
    more = len(names) - MOST_NAMED
    return [*names[:MOST_NAMED], *([f"and {more} more"] if more > 0 else [])]
