"""What has to be known of the rules before any is imported: their codes, to check selectors, and where they stand.

Written by ``BN_AUDIT_UPDATE=1 python -m pytest -q tests/rules/test_codes.py``; a test fails if a rule is missing.
"""

from __future__ import annotations

__all__ = ["CODES", "FAMILIES"]

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

FAMILIES = {
    "AveragingSite": ("averaging",),
    "EvaluationSite": ("mode",),
    "ExchangeSite": (
        "averaging",
        "exchange",
        "fedbn_asked",
        "misaligned",
        "tensor_from_scalar",
    ),
    "FLModelCase": (
        "eval_mode",
        "missing_skip_bn",
        "mixed_dtype",
        "model_layers",
        "model_state",
        "skip_bn",
        "unresolved",
    ),
    "LiveModel": ("statistics",),
    "ServerStepSite": ("server_step",),
    "TrainingSite": ("mode",),
    "Unreadable": ("unreadable",),
    "UnusedSuppression": ("unused_suppression",),
}
"""By the class of a subject, the modules of :mod:`bn_audit.rules` that judge it."""
