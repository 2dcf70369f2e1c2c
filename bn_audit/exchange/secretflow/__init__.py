"""SecretFlow's FLModel: what its exchange does with a profile."""

from __future__ import annotations

from dataclasses import replace

from bn_audit.exchange.plan import ANY, EntryPlan, Plan, PlanError, merge
from bn_audit.exchange.secretflow.local_batchnorm import plan_wrapped
from bn_audit.exchange.secretflow.settings import SecretFlowSettings, release
from bn_audit.exchange.secretflow.strategies import Strategy, strategy
from bn_audit.exchange.secretflow.tensorflow import plan_tensorflow
from bn_audit.exchange.secretflow.torch import plan_torch
from bn_audit.profile import Profile

__all__ = ["SecretFlowSettings", "Strategy", "plan", "strategy"]

_OLD_TORCH, _NEW_TORCH = "2.7", "2.13"
"""Releases of torch whose ``load_state_dict`` is known; it changed between the two."""

_NEWEST = (1, 14)
"""1.14 has no FLModel; who pins it takes FLModel from the repository sfl, whose exchange is 1.13's."""


def plan(profile: Profile, settings: SecretFlowSettings) -> Plan:
    """The plan of SecretFlow's FLModel for a model.

    Settings that are None stand for all their values, and the plan says what holds for each. A strategy, aggregator or
    release that is not known leaves everything open.
    """
    if settings.skip_bn is None:
        alternatives = [plan(profile, replace(settings, skip_bn=value)) for value in (False, True)]
        return replace(merge(alternatives), settings=settings.named())
    if settings.backend is not None and settings.backend not in ("torch", "tensorflow"):
        return _stopped(profile, settings, PlanError("Exception", f"Invalid backend = {settings.backend}"))
    known = strategy(settings.backend, settings.strategy)
    version = release(settings.secretflow_version)
    if known is None or (version is not None and version > _NEWEST):
        return _open(profile, settings)
    if settings.aggregator == "none":
        text = "When aggregator is none, neither the server nor the server_agg_method can be none"
        return _stopped(profile, settings, PlanError("Exception", text))
    if settings.aggregator not in ("plain", "secure", "spu", "sparse", "fedgen", "server_agg_method"):
        return _open(profile, settings)
    if (known.backend == "torch") != (profile.framework == "torch"):
        return _open(profile, settings)
    if known.backend == "tensorflow":
        return plan_tensorflow(profile, settings, known)
    if settings.aggregator == "server_agg_method" and known.name in _COMPRESSING:
        text = f"{_COMPRESSING[known.name]}.__init__() got an unexpected keyword argument 'server_agg_method'"
        return _stopped(profile, settings, PlanError("TypeError", text))
    if settings.wrapped is not None:
        return plan_wrapped(profile, settings, settings.wrapped, plan)
    if not profile.ordered:
        return _whatever_the_order(profile, settings)
    torch = release(settings.torch_version)
    if torch is None or (2, 7) < torch < (2, 13):
        alternatives = [
            plan_torch(profile, replace(settings, torch_version=v), known) for v in (_NEW_TORCH, _OLD_TORCH)
        ]
        return replace(merge(alternatives), settings=settings.named())
    return plan_torch(profile, settings, known)


_COMPRESSING = {"fed_stc": "FedSTC", "fed_scr": "FedSCR"}
"""Strategies of the torch backend whose classes take none of FLModel's further arguments."""

_BY_POSITION = frozenset({"fed_avg_w", "fed_avg_u", "fed_stc", "fed_scr", "moon", "fed_gen"})
"""Strategies of the torch backend that pair whole state dicts with each other. Without ``skip_bn`` each entry then
meets itself, whatever the order; the others pair state with parameters."""


def _whatever_the_order(profile: Profile, settings: SecretFlowSettings) -> Plan:
    """What holds for a model of which only the entries are known, not their order."""
    skips = settings.skip_bn and any(norm.batchnorm is not False and not norm.nested for norm in profile.norms)
    if skips or settings.strategy not in _BY_POSITION:
        return _open(profile, settings)
    made = plan(replace(profile, ordered=True), settings)
    # Which of two errors comes first, and what the text calls the first of two dtypes, depend on the order.
    error = None if made.error is None else replace(made.error, text_certain=False)
    return replace(made, error=error)


def _open(profile: Profile, settings: SecretFlowSettings) -> Plan:
    entries = tuple(EntryPlan(entry.key, ANY) for entry in profile.entries)
    return Plan(entries, stops=None, complete=profile.complete, drifts=None, settings=settings.named())


def _stopped(profile: Profile, settings: SecretFlowSettings, error: PlanError) -> Plan:
    return replace(_open(profile, settings), stops=True, error=error)
