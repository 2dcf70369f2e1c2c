"""The names of running statistics: torch's own, and those that people give them who write a BatchNorm themselves.

``running_mean``, ``running_var``, ``running_std``, ``moving_mean``, ``moving_variance``, ``running_avg_cov``: that they
run, and what is averaged. A ``mean`` and a ``std`` alone may be constants that an input is normalised by.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Literal

__all__ = ["Role", "initial_value", "is_statistic", "moments", "role_of"]

Role = Literal["mean", "var", "std", ""]
"""What a running statistic follows: a channel's mean, its variance, the root of that, or something else."""

_RUN = ("running_", "moving_")
_MEANS = frozenset({"mean", "mu"})
_SPREADS = frozenset({"var", "variance", "std", "sigma"})
_ROOTS = frozenset({"std", "sigma"})
_AVERAGES = frozenset({"running", "moving", "avg", "average", "ema"})
_MATRICES = frozenset({"cov", "covar", "covariance"})


@functools.lru_cache(maxsize=1024)
def is_statistic(name: str) -> bool:
    """Whether the last component of a key names a running statistic."""
    return name.startswith(_RUN) and bool(_words(name) & (_MEANS | _SPREADS | _MATRICES))


def role_of(name: str) -> Role | None:
    """What a running statistic follows, by its name, if that says nothing else; None of what is no statistic."""
    if not is_statistic(name):
        return None
    words = _words(name) - _AVERAGES
    if len(words) != 1:
        return ""
    if words <= _MEANS:
        return "mean"
    return "" if not words <= _SPREADS else "std" if words <= _ROOTS else "var"


def moments(statistics: Mapping[str, Role]) -> tuple[str, str, bool] | None:
    """Which of a layer's running statistics are the mean and the variance of its channels.

    Args:
        statistics: by name, what each follows.

    Returns:
        The two names, and whether the second is a standard deviation, which has to be squared; None where there are no
        two such, or more of them than can be told apart.
    """
    if "running_mean" in statistics and "running_var" in statistics:
        return "running_mean", "running_var", False
    mean, var, std = ([name for name, role in statistics.items() if role == what] for what in ("mean", "var", "std"))
    if len(mean) == 1 and len(var) == 1:
        return mean[0], var[0], False
    return (mean[0], std[0], True) if len(mean) == len(std) == 1 and not var else None


def initial_value(name: str) -> float | None:
    """What every element of a statistic is before anything was seen: 0 of a mean, 1 of a variance or what is its root;
    None where it is not known."""
    if not is_statistic(name):
        return None
    found = [value for words, value in ((_MEANS, 0.0), (_SPREADS, 1.0)) if _words(name) & words]
    return found[0] if len(found) == 1 and not _words(name) & _MATRICES else None


def _words(name: str) -> frozenset[str]:
    return frozenset(name.split("_"))
