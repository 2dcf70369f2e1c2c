"""The names of running statistics: torch's own, and those that people give them who write a BatchNorm themselves.

``running_mean``, ``running_var``, ``running_std``, ``moving_mean``, ``moving_variance``, ``running_avg_cov``: that they
run, and what is averaged. A ``mean`` and a ``std`` alone may be constants that an input is normalised by.
"""

from __future__ import annotations

import functools

__all__ = ["initial_value", "is_statistic"]

_RUN = ("running_", "moving_")
_MEANS = frozenset({"mean", "mu"})
_SPREADS = frozenset({"var", "variance", "std", "sigma"})
_MATRICES = frozenset({"cov", "covar", "covariance"})


@functools.lru_cache(maxsize=1024)
def is_statistic(name: str) -> bool:
    """Whether the last component of a key names a running statistic."""
    return name.startswith(_RUN) and bool(_words(name) & (_MEANS | _SPREADS | _MATRICES))


def initial_value(name: str) -> float | None:
    """What every element of a statistic is before anything was seen: 0 of a mean, 1 of a variance or what is its root;
    None where it is not known."""
    if not is_statistic(name):
        return None
    found = [value for words, value in ((_MEANS, 0.0), (_SPREADS, 1.0)) if _words(name) & words]
    return found[0] if len(found) == 1 and not _words(name) & _MATRICES else None


def _words(name: str) -> frozenset[str]:
    return frozenset(name.split("_"))
