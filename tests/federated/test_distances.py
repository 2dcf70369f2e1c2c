"""The distances beside integrals over the densities and quantiles of normal distributions, and their properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch")
integrate = pytest.importorskip("scipy.integrate")
stats = pytest.importorskip("scipy.stats")

from bn_audit.comparison import HELLINGER, JEFFREYS, METRICS, NW2, W2  # noqa: E402
from bn_audit.federated.distances import Array, between, over_channels, pairwise  # noqa: E402

CASES = [
    (0.0, 1.0, 0.0, 1.0),
    (0.0, 1.0, 1.0, 1.0),
    (0.0, 1.0, 0.0, 4.0),
    (-1.5, 0.25, 2.0, 3.0),
    (100.0, 9.0, 101.0, 1.0),
    (0.0, 1e-3, 0.01, 2e-3),
]


def one(metric: str, *numbers: float) -> float:
    return float(between(metric, *(np.array([number]) for number in numbers))[0])


def _over_density(function, mean_a: float, var_a: float, mean_b: float, var_b: float) -> float:  # type: ignore[no-untyped-def]
    a, b = stats.norm(mean_a, var_a**0.5), stats.norm(mean_b, var_b**0.5)
    low = min(mean_a - 12 * var_a**0.5, mean_b - 12 * var_b**0.5)
    high = max(mean_a + 12 * var_a**0.5, mean_b + 12 * var_b**0.5)
    value, _ = integrate.quad(lambda x: function(a, b, x), low, high, points=[mean_a, mean_b], limit=500)
    return float(value)


@pytest.mark.parametrize("case", CASES)
def test_hellinger_is_the_integral(case: tuple[float, float, float, float]) -> None:
    overlap = _over_density(lambda a, b, x: np.sqrt(a.pdf(x) * b.pdf(x)), *case)
    assert one(HELLINGER, *case) == pytest.approx(np.sqrt(max(0.0, 1 - overlap)), abs=2e-6)


@pytest.mark.parametrize("case", CASES)
def test_jeffreys_is_the_sum_of_both_divergences(case: tuple[float, float, float, float]) -> None:
    both = _over_density(lambda a, b, x: (a.pdf(x) - b.pdf(x)) * (a.logpdf(x) - b.logpdf(x)), *case)
    assert one(JEFFREYS, *case) == pytest.approx(both, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("case", CASES)
def test_w2_is_the_distance_of_the_quantiles(case: tuple[float, float, float, float]) -> None:
    mean_a, var_a, mean_b, var_b = case
    a, b = stats.norm(mean_a, var_a**0.5), stats.norm(mean_b, var_b**0.5)
    # E over a standard normal z of (quantile_a - quantile_b)^2, by Gauss and Hermite: exact for a square.
    nodes, weights = np.polynomial.hermite_e.hermegauss(20)
    apart = (a.mean() + a.std() * nodes) - (b.mean() + b.std() * nodes)
    square = float((weights * apart**2).sum() / weights.sum())
    assert one(W2, *case) == pytest.approx(square**0.5, rel=1e-9, abs=1e-12)
    assert one(NW2, *case) == pytest.approx((square / ((var_a + var_b) / 2)) ** 0.5, rel=1e-9, abs=1e-12)


def test_nw2_of_equal_variances_is_cohens_d() -> None:
    assert one(NW2, 0.0, 4.0, 1.0, 4.0) == pytest.approx(0.5)


means = st.floats(-1e3, 1e3)
variances = st.floats(1e-6, 1e6)
normals = st.tuples(means, variances)


@given(st.sampled_from(METRICS), normals, normals)
def test_symmetry_and_identity(metric: str, a: tuple[float, float], b: tuple[float, float]) -> None:
    assert one(metric, *a, *b) == one(metric, *b, *a) >= 0
    assert one(metric, *a, *a) == 0
    if metric == HELLINGER:
        assert one(metric, *a, *b) <= 1


@given(st.sampled_from([NW2, HELLINGER, JEFFREYS]), normals, normals, st.floats(0.1, 10), st.floats(-10, 10))
def test_scaling_both_alike_changes_nothing(
    metric: str, a: tuple[float, float], b: tuple[float, float], scale: float, shift: float
) -> None:
    moved = [(scale * mean + shift, scale**2 * var) for mean, var in (a, b)]
    assert one(metric, *moved[0], *moved[1]) == pytest.approx(one(metric, *a, *b), rel=1e-5, abs=1e-5)


@given(normals, normals, st.floats(0.1, 10))
def test_w2_has_the_unit_of_the_activations(a: tuple[float, float], b: tuple[float, float], scale: float) -> None:
    moved = [(scale * mean, scale**2 * var) for mean, var in (a, b)]
    assert one(W2, *moved[0], *moved[1]) == pytest.approx(scale * one(W2, *a, *b), rel=1e-6, abs=1e-9)


def test_small_distances_are_not_lost() -> None:
    """Hellinger of a shift by d standard deviations is about d over the root of 8."""
    assert one(HELLINGER, 0.0, 1.0, 1e-9, 1.0) == pytest.approx(1e-9 / 8**0.5, rel=1e-6)
    assert one(JEFFREYS, 0.0, 1.0, 1e-9, 1.0) == pytest.approx(1e-18, rel=1e-6)


@pytest.mark.parametrize(
    ("metric", "apart", "spread"), [(NW2, np.inf, 2**0.5), (HELLINGER, 1, 1), (JEFFREYS, np.inf, np.inf), (W2, 1, 1)]
)
def test_zero_variance(metric: str, apart: float, spread: float) -> None:
    assert one(metric, 3.0, 0.0, 3.0, 0.0) == 0
    assert one(metric, 3.0, 0.0, 4.0, 0.0) == apart
    assert one(metric, 3.0, 0.0, 3.0, 1.0) == pytest.approx(spread)


@pytest.mark.parametrize("metric", METRICS)
def test_pairs_are_those_of_a_double_loop(metric: str) -> None:
    random = np.random.default_rng(0)
    mean: Array = random.normal(size=(7, 5))
    var: Array = random.uniform(0.1, 3, size=(7, 5))
    found = pairwise(metric, mean, var)
    assert len(found) == 21 and found.parties == 7
    for first, second, value in found.rows():
        by_channel = between(metric, mean[first], var[first], mean[second], var[second])
        expected = np.sqrt((by_channel**2).sum()) if metric == W2 else by_channel.mean()
        assert value == pytest.approx(float(expected)) == found.of(first, second) == found.of(second, first)
        assert over_channels(metric, by_channel) == pytest.approx(value)
    assert found.of(3, 3) == 0
