"""A plan beside a run: what they disagree about."""

from __future__ import annotations

from collections.abc import Iterator, Set

import numpy as np
import torch

from bn_audit.exchange.fedbn import expected_fates
from bn_audit.exchange.plan import EntryPlan, Fate, Plan
from bn_audit.exchange.secretflow import SecretFlowSettings, strategy
from bn_audit.live.secretflow_engine import Watch
from bn_audit.live.verify import judge
from bn_audit.profile import Profile, StateEntry
from bn_audit.verification import Stop
from tests.secretflow.measure import Measured, Outcome

__all__ = ["disagreements_of", "disagreements_of_verify", "settings_of"]


def settings_of(name: str, aggregator: str, skip_bn: bool) -> SecretFlowSettings:
    """The settings of a run on this machine."""
    return SecretFlowSettings(
        backend="torch",
        strategy=name,
        aggregator=aggregator,
        skip_bn=skip_bn,
        torch_version=torch.__version__,
        numpy_version=np.__version__,
        base_module=False,
    )


def disagreements_of(
    profile: Profile, planned: Plan, measured: Measured, name: str, two_kinds: bool = False
) -> Iterator[str]:
    """What a plan says and a run denies, in words; nothing if they agree.

    Args:
        name: the strategy.
        two_kinds: whether the exchange that begins ``fit`` is of another kind than the later ones, as for fed_avg_g.
    """
    two_kinds = two_kinds or name == "fed_avg_g"
    chance = any(Fate.CORRUPT in entry.possible for entry in planned.entries)
    known = strategy("torch", name)
    assert known is not None
    if planned.error is not None:
        error = planned.error
        if measured.error is None:
            yield f"should stop with {error.type}, and runs"
        elif chance and measured.error[0] == "RuntimeError":
            return
        elif measured.error != (error.type, error.text, error.round):
            yield f"should stop with {(error.type, error.text, error.round)}, and stops with {measured.error}"
        elif not (error.text_certain or chance or "sparse." in error.text):
            yield f"the text is exact, and not taken for certain: {error.text}"
        return
    if measured.error is not None and not (chance and measured.error[0] == "RuntimeError"):
        yield f"should run, and stops with {measured.error}"
        return
    if planned.stops is None and not (chance or known.trusting):
        yield "a complete profile, and the plan leaves open whether the round stops"
    if not measured.exchanges and not chance:
        yield "nothing was exchanged"
    averaged = any(entry.fate is Fate.AVERAGED for entry in planned.entries)
    if averaged and not chance and planned.drifts not in (None, measured.drifted):
        yield f"drifts: plan {planned.drifts}, run {measured.drifted}"
    rows = zip(profile.entries, expected_fates(profile), planned.entries, strict=True)
    for entry, expected, part in rows:
        if Fate.CORRUPT not in part.possible:
            yield from _entry_disagreements(entry, expected, part, measured, chance, two_kinds)


def disagreements_of_verify(
    profile: Profile, planned: Plan, settings: SecretFlowSettings, watch: Watch, measured: Measured
) -> list[str]:
    """The same, as ``verify`` judges what it saw of the run: value by value, up to the rounding of the arithmetic."""
    stop = None if measured.error is None else Stop(*measured.error)
    run = watch.run(stop, measured.states)
    parties = len(measured.states)
    verification = judge(profile, settings, planned, run, "wheel", parties, 2, "model")
    return [f"verify: {one}" for one in verification.disagreements]


def _entry_disagreements(
    entry: StateEntry, expected: Set[Fate], part: EntryPlan, measured: Measured, chance: bool, two_kinds: bool
) -> Iterator[str]:
    if part.fate is None:
        yield f"{entry.key}: a complete profile, and the fate is open: {part.possible}"
        return
    kept = Fate.LOCAL if Fate.LOCAL in expected else Fate.STALE
    outcome: Outcome = (None if part.fate is kept else part.fate, part.source_key)
    exchanges = measured.exchanges[:1] if chance else measured.exchanges
    if two_kinds and exchanges:
        # The first exchange is of its own kind; it lasts where it puts a tensor in the wrong place.
        exchanges = exchanges[:1] if part.fate is Fate.MISPLACED else exchanges[1:]
    for number, exchange in enumerate(exchanges):
        if outcome not in exchange[entry.key]:
            yield f"{entry.key}: plan {outcome}, exchange {number} {set(exchange[entry.key])}"
            return
    told_apart = entry.shape and 0 not in entry.shape and entry.dtype in ("float16", "float32", "float64")
    if told_apart and exchanges and not two_kinds:
        left = frozenset.intersection(*(exchange[entry.key] for exchange in exchanges))
        if len(left) != 1:
            yield f"{entry.key}: the run does not tell {left} apart"
