"""Randomness that is the same in every run, for code that draws from the generators everybody shares."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

from bn_audit.live.errors import require_torch

require_torch()

import numpy as np  # noqa: E402
import torch  # noqa: E402

__all__ = ["seeded"]


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Python's, NumPy's and torch's generators seeded, and afterwards as they were."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
