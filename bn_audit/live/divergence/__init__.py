"""How far apart the parties' data is, read from the running statistics of their norm layers."""

from __future__ import annotations

from bn_audit.live.errors import require_torch

require_torch()

from bn_audit.live.divergence.compare import Options, compare  # noqa: E402
from bn_audit.live.divergence.statistics import Source  # noqa: E402

__all__ = ["Options", "Source", "compare"]
