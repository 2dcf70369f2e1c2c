"""What goes through an exchange, round by round: weights, updates or gradients, as the strategy sends them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bn_audit.exchange import flower, nvflare
from bn_audit.exchange.flower import FlowerSettings
from bn_audit.exchange.nvflare import NVFlareSettings
from bn_audit.exchange.plan import EntryPlan, Fate, Plan
from bn_audit.exchange.secretflow import SecretFlowSettings
from bn_audit.exchange.secretflow.settings import release
from bn_audit.live.errors import require_torch
from bn_audit.live.execute import Exchange, State
from bn_audit.profile import Profile

require_torch()

import torch  # noqa: E402

__all__ = ["after_training", "first_exchange", "handed_back", "later_plans", "two_kinds", "zeroed"]

_GRADIENTS = "fed_avg_g"


def weighted(settings: SecretFlowSettings) -> bool:
    """Whether sample counts weigh in the mean; fed_gen's aggregator and a function on the server know none."""
    return settings.strategy != "fed_gen" and settings.aggregator != "server_agg_method"


def two_kinds(settings: SecretFlowSettings) -> bool:
    """Whether the exchange that begins ``fit`` is of another kind than the later ones."""
    return settings.strategy == _GRADIENTS or _sends_everything(settings) or _ends_after_the_first(settings)


def first_exchange(settings: SecretFlowSettings) -> SecretFlowSettings:
    """Every strategy begins with the same exchange of weights, which is that of fed_avg_w since 1.7."""
    version = None if _sends_everything(settings) else settings.secretflow_version
    return replace(settings, strategy="fed_avg_w", secretflow_version=version)


def later_plans(profile: Profile, settings: SecretFlowSettings, planned: Plan) -> tuple[EntryPlan, ...]:
    """What an exchange after a training does. Where the first is of another kind, its lasting harm is done already."""
    if not two_kinds(settings):
        return planned.entries
    plans = []
    for entry, part in zip(profile.entries, planned.entries, strict=True):
        if not part.possible & {Fate.MISPLACED, Fate.CORRUPT}:
            plans.append(part)
            continue
        moved = entry.kind == "parameter" if settings.strategy == _GRADIENTS else not _ends_after_the_first(settings)
        plans.append(EntryPlan(entry.key, frozenset({Fate.AVERAGED if moved else Fate.STALE})))
    return tuple(plans)


def after_training(
    profile: Profile,
    settings: SecretFlowSettings,
    plans: Sequence[EntryPlan],
    states: Sequence[State],
    trained: Sequence[State],
    steps: Sequence[State],
    weights: Sequence[float],
) -> Exchange:
    """The exchange after a training, by what the strategy sends.

    Args:
        states: the parties' states before the training.
        trained: those after it.
        steps: what the training added to them. Only strategies that send no weights read it.
        weights: the parties' weights, in any scale.
    """
    match settings.strategy:
        case "fed_avg_u":
            return Exchange(trained, steps, weights, trained, offset=trained)
        case "fed_stc" | "fed_scr":
            # What is sent is put back to where the training began.
            sent = {part.key for part in plans if part.possible & {Fate.AVERAGED, Fate.MISPLACED}}
            return Exchange(_put_back(states, trained, sent), steps, weights, trained, offset=states)
        case "fed_avg_g":
            parameters = {entry.key for entry in profile.entries if entry.kind == "parameter"}
            before = _put_back(states, trained, parameters)
            sent_steps = [{key: step[key] for key in step if key in parameters} for step in steps]
            return Exchange(before, sent_steps, weights, trained, offset=before)
        case _:
            return Exchange(trained, trained, weights, trained)


def zeroed(profile: Profile, settings: FlowerSettings | NVFlareSettings, begun: State) -> State:
    """What is zero after every round, whatever the parties held."""
    keys = flower.zeroed(profile, settings) if isinstance(settings, FlowerSettings) else ()
    return {key: torch.zeros_like(begun[key]) for key in keys}


def handed_back(profile: Profile, settings: FlowerSettings | NVFlareSettings, begun: State) -> State:
    """What is after every round as it was in the state that the server began with."""
    keys = nvflare.handed_back(profile, settings) if isinstance(settings, NVFlareSettings) else ()
    return {key: begun[key] for key in keys}


def _put_back(states: Sequence[State], trained: Sequence[State], keys: set[str]) -> list[State]:
    """The states after a training, with some entries as they were before it."""
    return [
        {key: (state if key in keys else done)[key] for key in state}
        for state, done in zip(states, trained, strict=True)
    ]


def _ends_after_the_first(settings: SecretFlowSettings) -> bool:
    """fed_gen loads nothing that a function on the server made."""
    return settings.strategy == "fed_gen" and settings.aggregator == "server_agg_method"


def _sends_everything(settings: SecretFlowSettings) -> bool:
    """SecretFlow 1.5 and 1.6 leave BatchNorm out of the first exchange alone."""
    version = release(settings.secretflow_version)
    old = version is not None and (1, 5) <= version < (1, 7)
    return bool(old and settings.skip_bn and settings.strategy in ("fed_avg_w", "fed_prox"))
