"""Flower: what its clients and strategies do with a profile, in the API of NumPyClient and in that of messages."""

from __future__ import annotations

from bn_audit.exchange.flower.plan import plan, without_kept, zeroed
from bn_audit.exchange.flower.settings import FlowerSettings, named
from bn_audit.exchange.flower.strategies import ALIKE, MEANS, SERVER_STEPS, STRATEGIES

__all__ = ["ALIKE", "MEANS", "SERVER_STEPS", "STRATEGIES", "FlowerSettings", "named", "plan", "without_kept", "zeroed"]
