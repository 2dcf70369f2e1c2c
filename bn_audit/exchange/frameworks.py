"""The frameworks whose exchange is known, under one roof: settings of any of them, and their plan."""

from __future__ import annotations

from bn_audit.exchange import flower, nvflare, secretflow
from bn_audit.exchange.flower import FlowerSettings
from bn_audit.exchange.nvflare import NVFlareSettings
from bn_audit.exchange.plan import Plan
from bn_audit.exchange.secretflow import SecretFlowSettings
from bn_audit.profile import Profile

__all__ = ["NAMES", "FrameworkSettings", "integers_stay", "plan"]

FrameworkSettings = SecretFlowSettings | FlowerSettings | NVFlareSettings
NAMES = {SecretFlowSettings: "SecretFlow", FlowerSettings: "Flower", NVFlareSettings: "NVFlare"}
"""What the frameworks call themselves."""


def integers_stay(settings: FrameworkSettings | None) -> bool:
    """Whether integers are meant to stay with each party under some settings."""
    return isinstance(settings, SecretFlowSettings) and settings.integers_stay


def plan(profile: Profile, settings: FrameworkSettings) -> Plan:
    """The plan of whichever framework the settings are of."""
    match settings:
        case FlowerSettings():
            return flower.plan(profile, settings)
        case NVFlareSettings():
            return nvflare.plan(profile, settings)
        case SecretFlowSettings():
            return secretflow.plan(profile, settings)
