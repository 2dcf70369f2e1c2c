"""Steps and words that the torch and the TensorFlow backend share."""

from __future__ import annotations

from collections.abc import Sequence

from bn_audit.exchange.plan import Fate, PlanError
from bn_audit.exchange.secretflow.aggregate import Upload
from bn_audit.exchange.secretflow.settings import SecretFlowSettings
from bn_audit.exchange.secretflow.strategies import Strategy
from bn_audit.exchange.steps import PASSED, UNKNOWN, Effect, Phase
from bn_audit.profile import Profile

__all__ = [
    "GRADIENTS_NOTE",
    "average_sparse",
    "either",
    "gradients_drift",
    "steps_of_gradients",
    "subtract",
    "then",
    "updates_drift",
]

GRADIENTS_NOTE = "fed_avg_g exchanges weights when fit begins and gradients afterwards: buffers are averaged once"

_LASTING = frozenset({Fate.MISPLACED, Fate.CORRUPT})
"""What a first exchange does to an entry for good, however rightly it is exchanged later."""

_SPARSE_TYPE = "sparse.numba_backend._coo.core.COO"


def gradients_drift(profile: Profile, first: Sequence[Effect]) -> bool | None:
    """Whether equal steps from unequal weights keep parties apart: what the first exchange left out starts unequal."""
    moved = [effect.possible for entry, effect in zip(profile.entries, first, strict=True) if entry.kind == "parameter"]
    if any(possible == {None} for possible in moved):
        return True
    return None if not profile.complete or any(None in possible for possible in moved) else False


def steps_of_gradients(profile: Profile) -> list[Effect]:
    """What an exchange of gradients does: parameters move by the same mean, the rest is left alone."""
    return [Effect(frozenset({Fate.AVERAGED if entry.kind == "parameter" else None})) for entry in profile.entries]


def updates_drift(sent: Sequence[Upload]) -> bool | None:
    """Whether parties drift apart that add the mean update to what they have trained already."""
    return any(certain and entry is not None and entry.kind == "parameter" for entry, certain in sent) or None


def then(first: Sequence[Effect], later: Sequence[Effect]) -> list[Effect]:
    """The effect of a first exchange followed by another kind: what lasts of the first, else what the later does."""
    effects = []
    for one, other in zip(first, later, strict=True):
        possible = one.possible & _LASTING
        if one.possible - _LASTING:
            possible |= other.possible
        effects.append(Effect(possible, one.source))
    return effects


def either(one: Effect, other: Effect) -> Effect:
    return (
        one
        if one == other
        else Effect(one.possible | other.possible, one.source if one.source == other.source else None)
    )


def subtract(sent: Sequence[Upload]) -> Phase:
    """``np.subtract(new, old)`` of every sent array, after the first training."""
    exact = True
    for entry, certain in sent:
        if entry is not None and entry.dtype == "bool" and certain:
            text = (
                "numpy boolean subtract, the `-` operator, is not supported, use the bitwise_xor, the `^` operator, "
                "or the logical_xor function instead."
            )
            return Phase(True, PlanError("TypeError", text, exact, entry.key, 1))
        if entry is None or not certain or entry.dtype is None:
            exact = False
    return PASSED if exact else UNKNOWN


def average_sparse(sent: Sequence[Upload], settings: SecretFlowSettings, strategy: Strategy) -> Phase:
    """fed_stc and fed_scr send lists of ``sparse.COO``, which only SparsePlainAggregator takes."""
    nothing = not sent
    something = any(certain for _, certain in sent)
    match settings.aggregator:
        case "sparse":
            if strategy.name == "fed_stc" and not settings.server:
                text = "Sparse encoding method not supporterd, Only COO GCXS supported"
                return Phase(True, PlanError("AssertionError", text, round=2))
            return PASSED
        case "plain" if something:
            text = "Cannot convert a sparse array to dense automatically. To manually densify, use the todense method."
            return Phase(True, PlanError("RuntimeError", text, round=1))
        case "secure" | "fedgen" if something:
            # The class has moved between releases of sparse.
            text = f"Accept ndarray or dataframe/series only but got <class '{_SPARSE_TYPE}'>"
            return Phase(True, PlanError("AssertionError", text, False, round=1))
        case "plain" | "secure" | "fedgen" if nothing:
            if strategy.name == "fed_stc":
                return Phase(True, PlanError("IndexError", "list index out of range", round=2))
            return PASSED
        case _:
            return UNKNOWN
