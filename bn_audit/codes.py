"""Every rule's code, so that a selector can be checked without importing the rules.

Written by ``BN_AUDIT_UPDATE=1 python -m pytest -q tests/rules/test_codes.py``; a test fails if a rule is missing.
"""

from __future__ import annotations

__all__ = ["CODES"]

CODES = (
    "BNA101",
    "BNA102",
    "BNA103",
    "BNA104",
    "BNA105",
    "BNA106",
    "BNA107",
    "BNA108",
    "BNA201",
    "BNA202",
    "BNA203",
    "BNA204",
    "BNA205",
    "BNA206",
    "BNA207",
    "BNA208",
    "BNA301",
    "BNA302",
    "BNA303",
    "BNA401",
    "BNA402",
    "BNA403",
    "BNA404",
    "BNA405",
    "BNA406",
    "BNA407",
    "BNA408",
    "BNA409",
    "BNA901",
    "BNA902",
)
