"""Distances between the running statistics of two BatchNorm layers, each channel taken for a normal distribution.

All are symmetric and 0 for equal statistics. nW2, Hellinger and Jeffreys do not change when both parties' activations
are scaled and shifted alike, channel by channel, so that they compare between layers and models; W2 does.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from bn_audit.comparison import HELLINGER, JEFFREYS, NW2, W2, Pairs

__all__ = ["between", "hellinger", "jeffreys", "nw2", "over_channels", "pairwise", "w2"]

Array = NDArray[np.float64]


def nw2(mean_a: Array, var_a: Array, mean_b: Array, var_b: Array) -> Array:
    """The 2-Wasserstein distance of two normal distributions over their pooled standard deviation, by channel.

    ``sqrt(((mu_a - mu_b)^2 + (sd_a - sd_b)^2) / ((var_a + var_b) / 2))``, in standard deviations. Of equal variances it
    is Cohen's d. Equal statistics have distance 0, also where both variances are 0.

    Args:
        mean_a, var_a, mean_b, var_b: of shapes that broadcast, channels last; variances not negative.
    """
    apart = (mean_a - mean_b) ** 2 + (np.sqrt(var_a) - np.sqrt(var_b)) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        distance: Array = np.where(apart == 0, 0.0, np.sqrt(apart / ((var_a + var_b) / 2)))
    return distance


def hellinger(mean_a: Array, var_a: Array, mean_b: Array, var_b: Array) -> Array:
    """The Hellinger distance of two normal distributions, from 0 to 1, by channel.

    ``sqrt(1 - sqrt(2 sd_a sd_b / (var_a + var_b)) exp(-(mu_a - mu_b)^2 / (4 (var_a + var_b))))`` (Pardo, Statistical
    Inference Based on Divergence Measures, 2006). It is computed without the cancellation near 0.
    """
    total = var_a + var_b
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.log1p(-((np.sqrt(var_a) - np.sqrt(var_b)) ** 2) / total) / 2
        distance = np.sqrt(-np.expm1(spread - (mean_a - mean_b) ** 2 / (4 * total)))
    found: Array = np.where(total == 0, (mean_a != mean_b).astype(np.float64), distance)
    return found


def jeffreys(mean_a: Array, var_a: Array, mean_b: Array, var_b: Array) -> Array:
    """Jeffreys' divergence of two normal distributions, in nats, by channel: the sum of both Kullback-Leibler
    divergences.

    ``(var_a - var_b)^2 / (2 var_a var_b) + (mu_a - mu_b)^2 (1 / var_a + 1 / var_b) / 2`` (Jeffreys, Proc. R. Soc. A
    186, 1946). Infinite where one variance is 0 and the distributions differ. Near 0 it is like the square of a
    distance: half the shift is a quarter of it.
    """
    apart = (mean_a - mean_b) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        found = (var_a - var_b) ** 2 / (2 * var_a * var_b) + apart * (1 / var_a + 1 / var_b) / 2
        equal = (apart == 0) & (var_a == var_b)
        divergence: Array = np.where(equal, 0.0, np.where(np.isnan(found), np.inf, found))
    return divergence


def w2(mean_a: Array, var_a: Array, mean_b: Array, var_b: Array) -> Array:
    """The 2-Wasserstein distance of two normal distributions, in the activations' unit, by channel.

    ``sqrt((mu_a - mu_b)^2 + (sd_a - sd_b)^2)``. Over a layer it is the root of the sum of squares, as FedAP has it (Lu
    et al., Personalized Federated Learning with Adaptive Batchnorm for Healthcare, 2021, arXiv:2112.00734, which adds
    up the layers): channels of large activations, and layers of many channels, weigh most.
    """
    distance: Array = np.sqrt((mean_a - mean_b) ** 2 + (np.sqrt(var_a) - np.sqrt(var_b)) ** 2)
    return distance


Metric = Callable[[Array, Array, Array, Array], Array]
_METRICS: dict[str, Metric] = {NW2: nw2, HELLINGER: hellinger, JEFFREYS: jeffreys, W2: w2}


def between(metric: str, mean_a: Array, var_a: Array, mean_b: Array, var_b: Array) -> Array:
    """A distance by its name, by channel."""
    return _METRICS[metric](mean_a, var_a, mean_b, var_b)


def over_channels(metric: str, values: Array) -> Array:
    """What a layer's channels, which are the last axis, come to."""
    total: Array = np.sqrt((values**2).sum(axis=-1)) if metric == W2 else values.mean(axis=-1)
    return total


def pairwise(metric: str, mean: Array, var: Array) -> Pairs:
    """A layer's distance of every pair of parties. Memory is that of the statistics, whatever the number of pairs.

    Args:
        mean, var: shape (parties, channels), float64.
    """
    values = array("d")
    for one in range(len(mean) - 1):
        rest = slice(one + 1, None)
        row = over_channels(metric, between(metric, mean[one], var[one], mean[rest], var[rest]))
        values.frombytes(np.ascontiguousarray(row, dtype=np.float64).tobytes())
    return Pairs(len(mean), values)
