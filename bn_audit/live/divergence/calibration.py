"""What chance alone gives: the nW2 of two parties whose data come from one distribution.

With the parties' data at hand it is measured: a party's examples are split into random halves, running statistics are
taken of both as a training takes them, and their distance is one draw of chance. Without data there is a bound, from
how much a running statistic varies. Both are lines that 99 % of the draws stay below.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bn_audit.comparison import Pairs
from bn_audit.federated.distances import nw2

__all__ = ["QUANTILE", "Moments", "bound", "line", "noise", "split_half"]

Array = NDArray[np.float64]

QUANTILE = 0.99
CHANCE = 2.7194781947520115
"""What ``sqrt(X^2 + Y^2 / 2)`` stays below with 99 %, X and Y independent and standard normal."""
_FORGOTTEN = 1e-3
"""Share of a running statistic that is not simulated."""


def noise(examples: int, batch_size: int, momentum: float | None) -> float:
    """The variance of a running mean, in variances of an example: 1 / n_eff.

    ``1 / n + (m / (2 - m)) / B``: that of the party's own sample of n examples, and that of a mean over batches of B
    in which each batch has (1 - m) times the weight of the next. Of the plain mean (m None) only the first is left.
    """
    return 1 / examples + (0.0 if momentum is None else momentum / (2 - momentum) / batch_size)


def bound(noises: Sequence[float]) -> Pairs:
    """The nW2 that chance stays below with 99 %, for each pair of parties.

    Of normal activations a mean varies by 1 / n_eff variances, a standard deviation by half of it, so that one
    channel's nW2 is ``sqrt(1 / n_a + 1 / n_b) sqrt(X^2 + Y^2 / 2)``; Jeffreys' divergence is 2 / n_a + 2 / n_b in the
    mean. All channels are taken for one, as if they always varied together. A channel that sees many values of each
    example varies less; it is counted as if it saw one.

    Args:
        noises: by party, see :func:`noise`.
    """
    values = array("d")
    for number, one in enumerate(noises):
        values.extend(CHANCE * (one + other) ** 0.5 for other in noises[number + 1 :])
    return Pairs(len(noises), values)


@dataclass(frozen=True, slots=True)
class Moments:
    """What a norm layer gets of a party's examples.

    Attributes:
        mean, square: mean and mean square of each example's values, shape (examples, channels).
        values: how many values of each example a channel gets: 1 in a fully connected layer, the number of pixels in a
            convolution.
    """

    mean: Array
    square: Array
    values: int


def split_half(
    moments: Moments,
    *,
    batch_size: int,
    momentum: float | None,
    batches: int | None,
    splits: int,
    generator: np.random.Generator,
) -> Array:
    """Draws of the nW2 between running statistics of two samples that are as large as the party's.

    A half is a sample of n / 2. Its statistics vary more than those of n examples; each draw is made smaller by the
    ratio that :func:`noise` gives.

    Args:
        moments: of at least 4 examples.
        batch_size, momentum: of the training.
        batches: how many the statistics have seen; None is enough to forget the initial ones.
        splits: how many draws.
    """
    examples = len(moments.mean)
    half = examples // 2
    size = min(batch_size, half)
    smaller = (noise(examples, size, momentum) / noise(half, size, momentum)) ** 0.5
    draws = np.empty(splits)
    for number in range(splits):
        order = generator.permutation(examples)
        first, second = (
            _running(moments, part, size, momentum, batches, generator)
            for part in (order[:half], order[half : 2 * half])
        )
        draws[number] = nw2(*first, *second).mean() * smaller
    return draws


def _running(
    moments: Moments,
    examples: NDArray[np.intp],
    size: int,
    momentum: float | None,
    batches: int | None,
    generator: np.random.Generator,
) -> tuple[Array, Array]:
    """Running mean and variance after a training on some of the examples, as torch takes them."""
    values = size * moments.values
    unbiased = values / (values - 1) if values > 1 else 1.0
    if momentum is None:
        mean = moments.mean[examples].mean(axis=0)
        return mean, (moments.square[examples].mean(axis=0) - mean**2).clip(0) * unbiased
    enough = int(np.ceil(np.log(_FORGOTTEN) / np.log1p(-momentum))) if momentum < 1 else 1
    steps = enough if batches is None else max(1, min(batches, enough))
    epochs = -(-steps * size // (len(examples) // size * size))
    full = len(examples) // size * size
    order = np.concatenate([generator.permutation(examples)[:full] for _ in range(epochs)])[: steps * size]
    means = moments.mean[order].reshape(steps, size, -1).mean(axis=1)
    squares = moments.square[order].reshape(steps, size, -1).mean(axis=1)
    weights = momentum * (1 - momentum) ** np.arange(steps - 1, -1, -1)
    # What is forgotten but for a thousandth is left out; a training that was short has its initial values in.
    rest = (1 - momentum) ** steps if batches is not None and batches <= enough else 0.0
    weights = weights if rest else weights / weights.sum()
    return weights @ means, weights @ ((squares - means**2).clip(0) * unbiased) + rest


def line(draws: Sequence[Array]) -> Pairs:
    """The line of every pair of parties: the higher of both parties' own.

    Args:
        draws: by party.
    """
    own = [float(np.quantile(one, QUANTILE)) for one in draws]
    values = array("d")
    for number, one in enumerate(own):
        values.extend(max(one, other) for other in own[number + 1 :])
    return Pairs(len(own), values)
