"""NVFlare: what its FedAvg and its aggregators do with a profile."""

from __future__ import annotations

from bn_audit.exchange.nvflare.plan import handed_back, plan
from bn_audit.exchange.nvflare.settings import STRATEGIES, NVFlareSettings

__all__ = ["STRATEGIES", "NVFlareSettings", "handed_back", "plan"]
