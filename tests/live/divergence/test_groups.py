"""Groups and outliers, beside scikit-learn's silhouette and parties whose places are known."""

from __future__ import annotations

from array import array

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("scipy")
metrics = pytest.importorskip("sklearn.metrics")

from bn_audit.comparison import Pairs  # noqa: E402
from bn_audit.live.divergence.groups import _silhouette, groups_of, outliers_of  # noqa: E402


def at(*places: float, spread: float = 0.0, seed: int = 0) -> Pairs:
    """Parties on a line, with noise."""
    random = np.random.default_rng(seed)
    values = array("d")
    for number, one in enumerate(places):
        values.extend(abs(one - other) + spread * abs(random.normal()) for other in places[number + 1 :])
    return Pairs(len(places), values)


def test_two_groups() -> None:
    assert groups_of(at(0, 1, 0.05, 1.05, 0.1), None) == ((0, 2, 4), (1, 3))
    assert groups_of(at(0, 1, 0.05, 1.05, 0.1), 2.0) == ()


def test_three_groups_of_many() -> None:
    random = np.random.default_rng(1)
    places = [centre + 0.05 * random.normal() for centre in (0, 1, 3) for _ in range(20)]
    assert [len(group) for group in groups_of(at(*places), None)] == [20, 20, 20]


@pytest.mark.parametrize("seed", range(5))
def test_chance_makes_no_groups(seed: int) -> None:
    """Of parties of one distribution all distances are alike."""
    random = np.random.default_rng(seed)
    points = random.normal(size=(12, 16))
    apart = np.linalg.norm(points[:, None] - points[None], axis=-1)[np.triu_indices(12, 1)]
    assert groups_of(Pairs(12, array("d", apart)), None) == ()


def test_too_few_and_infinite() -> None:
    assert groups_of(at(0, 1), None) == ()
    assert groups_of(Pairs(3, array("d", [1, float("inf"), 1])), None) == ()


@pytest.mark.parametrize("seed", range(5))
def test_the_silhouette_is_scikit_learns(seed: int) -> None:
    random = np.random.default_rng(seed)
    points = random.normal(size=(15, 2))
    square = np.linalg.norm(points[:, None] - points[None], axis=-1)
    labels = random.integers(1, 5, size=15).astype(np.int32)
    labels[0] = 9
    expected = metrics.silhouette_score(square, labels, metric="precomputed")
    assert _silhouette(square, labels) == pytest.approx(float(expected))


def test_an_outlier() -> None:
    (found,) = outliers_of(at(0, 0.1, 0.2, 0.15, 3.0), None)
    assert found.party == 4
    assert found.median == pytest.approx(2.875)
    assert outliers_of(at(0, 0.1, 0.2, 0.15, 3.0), 5.0) == ()
    assert outliers_of(at(0, 0.1, 3.0), None) == ()
    assert outliers_of(at(0, 0.1, 0.2, 0.3, 0.4, 0.5), None) == ()


def test_two_outliers_the_farthest_first() -> None:
    places = [0.01 * number for number in range(10)]
    assert [one.party for one in outliers_of(at(*places, 2.0, 5.0), None)] == [11, 10]
