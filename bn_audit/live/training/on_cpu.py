"""Training takes place on the CPU with gradients, whatever the model's program has set for what is made next."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bn_audit.live.errors import require_torch

require_torch()

import torch  # noqa: E402

__all__ = ["on_cpu"]


@contextmanager
def on_cpu() -> Iterator[None]:
    """The default device is the CPU and gradients are kept, and afterwards as they were."""
    with torch.device("cpu"), torch.enable_grad():
        yield
