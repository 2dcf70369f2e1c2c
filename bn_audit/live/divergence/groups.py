"""Parties that lie close together, those that lie apart from the rest, and a map of all."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bn_audit.comparison import Outlier, Pairs

__all__ = ["groups_of", "outliers_of", "places_of"]

_MOST_GROUPS = 8
_STRUCTURE = 0.5
"""Mean silhouette from which on Kaufman and Rousseeuw (Finding Groups in Data, 1990) find a reasonable structure."""
_APART = 3.5
"""Modified z-score above which Iglewicz and Hoaglin (How to Detect and Handle Outliers, 1993) suspect an outlier."""
_MAD = 1.4826


def groups_of(distances: Pairs, line: float | None) -> tuple[tuple[int, ...], ...]:
    """Groups by average linkage, as many as have the best silhouette; empty if none is reasonable.

    Args:
        distances: of every pair.
        line: what chance stays below; groups that are no farther apart than that are none.

    Raises:
        ImportError: scipy is not installed.
    """
    parties = distances.parties
    if parties < 3 or not np.isfinite(distances.values).all():
        return ()
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    condensed = np.frombuffer(distances.values, dtype=np.float64)
    square: NDArray[np.float64] = squareform(condensed)
    tree = linkage(condensed, "average")
    best, chosen = _STRUCTURE, None
    for count in range(2, min(_MOST_GROUPS, parties - 1) + 1):
        labels = fcluster(tree, count, "maxclust")
        width = _silhouette(square, labels)
        if width > best:
            best, chosen = width, labels
    if chosen is None:
        return ()
    between = square[chosen[:, None] != chosen[None, :]]
    if line is not None and float(between.mean()) <= line:
        return ()
    members: dict[int, list[int]] = {}
    for party, label in enumerate(chosen.tolist()):
        members.setdefault(label, []).append(party)
    return tuple(sorted((tuple(group) for group in members.values()), key=lambda group: (-len(group), group)))


def _silhouette(square: NDArray[np.float64], labels: NDArray[np.int32]) -> float:
    """The mean silhouette (Rousseeuw, J. Comput. Appl. Math. 20, 1987); of a party alone in its group it is 0."""
    kinds, place = np.unique(labels, return_inverse=True)
    if len(kinds) < 2:
        return 0.0
    member = np.eye(len(kinds))[place]
    sizes = member.sum(axis=0)
    sums = square @ member
    rows = np.arange(len(labels))
    alone = sizes[place] == 1
    inside = sums[rows, place] / np.maximum(sizes[place] - 1, 1)
    means = sums / sizes
    means[rows, place] = np.inf
    outside = means.min(axis=1)
    larger = np.maximum(inside, outside)
    width = np.where(alone | (larger == 0), 0.0, (outside - inside) / np.where(larger == 0, 1, larger))
    return float(width.mean())


def places_of(distances: Pairs) -> tuple[tuple[tuple[float, float], ...], float]:
    """A map of two dimensions by classical scaling (Torgerson, Psychometrika 17, 1952), and how much of the squared
    distances it shows, from 0 to 1. Each axis points to its farthest party: the same distances give the same
    map.
    """
    parties = distances.parties
    if parties < 3 or not np.isfinite(distances.values).all():
        return (), 0.0
    square = _square(distances) ** 2
    centred = square - square.mean(axis=0) - square.mean(axis=1)[:, None] + square.mean()
    values, vectors = np.linalg.eigh(-centred / 2)
    largest = values[::-1][:2].clip(0)
    axes = vectors[:, ::-1][:, :2] * np.sqrt(largest)
    for axis in axes.T:
        if axis[np.abs(axis).argmax()] < 0:
            axis *= -1
    total = float(np.abs(values).sum())
    share = float(largest.sum()) / total if total else 1.0
    return tuple((float(x), float(y)) for x, y in axes), share


def _square(distances: Pairs) -> NDArray[np.float64]:
    square = np.zeros((distances.parties, distances.parties))
    square[np.triu_indices(distances.parties, 1)] = distances.values
    whole: NDArray[np.float64] = square + square.T
    return whole


def outliers_of(distances: Pairs, line: float | None) -> tuple[Outlier, ...]:
    """Parties whose median distance from the others stands out, by the median absolute deviation; the farthest first.

    Fewer than four parties have no rest to stand out from. A party has to be twice as far from the others as usual, and
    farther than chance.
    """
    parties = distances.parties
    if parties < 4:
        return ()
    square = _square(distances)
    medians = np.array([float(np.median(np.delete(row, number))) for number, row in enumerate(square)])
    typical = float(np.median(medians))
    spread = _MAD * float(np.median(np.abs(medians - typical)))
    least = max(typical + _APART * spread, 2 * typical, 0.0 if line is None else line)
    found = [Outlier(number, float(value), typical) for number, value in enumerate(medians) if value > least]
    return tuple(sorted(found, key=lambda one: (-one.median, one.party)))
