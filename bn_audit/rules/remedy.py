"""What to do instead: advice that is computed, not guessed.

Each step changes the model or the settings as its words say, and the plan then tells whether FedBN's expectation is
met. A finding recommends a set of steps only if it is certainly right in every possibility, and none of them can be
left out.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bn_audit.exchange.arithmetic.dtypes import NOT_NUMPY
from bn_audit.exchange.fedbn import owners
from bn_audit.exchange.secretflow import SecretFlowSettings
from bn_audit.exchange.secretflow.local_batchnorm import ALL_PARAMETERS, SINCE, STRATEGIES, refused
from bn_audit.exchange.secretflow.settings import release
from bn_audit.profile import NormLayer, Profile, StateEntry
from bn_audit.rules.case import FLModelCase, Possibility, beside_fedbn, subset
from bn_audit.rules.wording import consequences, listed

__all__ = ["advice", "dtype_advice", "oddities"]

GENERAL = (
    "`skip_bn=True` keeps BatchNorm local and averages the rest only where every BatchNorm is an attribute "
    "of the model "
    "itself, is registered after all other layers, and no other entry of the state dict is an integer or a bool"
)
CERTAIN = (
    "pass `skip_bn=True`: every BatchNorm is an attribute of the model itself and is registered after all "
    "other layers, so "
    "it stays with its party, and everything else is averaged"
)
CERTAIN_KERAS = (
    "pass `skip_bn=True`: with this strategy and model it keeps BatchNormalization local and averages the rest"
)


WRAP = "; or keep the model, and hand what makes it to `local_batchnorm` of `bn_audit.federated.secretflow` first"
WRAPPED_STRATEGIES = frozenset(name for name, why in STRATEGIES.items() if not why)
"""Those for which a model made by ``local_batchnorm`` goes through FedBN."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing a person can do: in words, and done."""

    words: Callable[[Profile], str]
    take: Callable[[Profile, SecretFlowSettings], tuple[Profile, SecretFlowSettings]]


def advice(case: FLModelCase) -> str:
    """What to do about BatchNorm at this call."""
    passing: dict[int, Possibility] = {}
    for way in case.passing:
        passing.setdefault(id(way.outcome), way)  # both values of an unknown `skip_bn` come to one outcome
    ways = tuple(passing.values())
    if ways and all(way.reading.wrapped is not None for way in ways):
        return _advice_wrapped(case, ways)
    text = _advice(case, ways)
    wraps = ways and all(_can_wrap(way.outcome.settings) for way in ways)
    return text + WRAP if wraps and text != CERTAIN else text


def _advice_wrapped(case: FLModelCase, passing: Sequence[Possibility]) -> str:
    """What to do where ``local_batchnorm`` makes the model: it wants ``skip_bn``, or another strategy or release."""
    asked = all(way.reading.skip_bn for way in case.possibilities)
    steps = [] if asked else ["pass `skip_bn=True`, and `local_batchnorm` does the rest"]
    if not all(way.outcome.settings.strategy in WRAPPED_STRATEGIES for way in passing):
        steps.append('use `strategy="fed_avg_w"`')
    releases = [release(way.outcome.settings.secretflow_version) for way in passing]
    if any(version is not None and version < SINCE for version in releases):
        steps.append("upgrade SecretFlow to 1.7 or newer")
    named = [way.reading.wrapped.strategy for way in passing if way.reading.wrapped is not None]
    if not steps and any(refused(name) or name in ALL_PARAMETERS for name in named):
        steps.append("name `local_batchnorm` a strategy that can, or none")
    return ", and ".join(steps) or "see what it refuses, and why"


def _can_wrap(settings: SecretFlowSettings) -> bool:
    """Whether a model made by ``local_batchnorm`` goes through FedBN; older releases heed skip_bn at first only."""
    version = release(settings.secretflow_version)
    heeds = version is None or version >= SINCE
    return settings.backend == "torch" and settings.strategy in WRAPPED_STRATEGIES and heeds


def _advice(case: FLModelCase, passing: Sequence[Possibility]) -> str:
    if not passing:
        return GENERAL
    asked = all(way.reading.skip_bn for way in case.possibilities)
    keras = all(way.outcome.settings.backend == "tensorflow" for way in passing)
    if not asked and all(way.outcome.comparison.equal for way in passing):
        return CERTAIN_KERAS if keras else CERTAIN
    hopeless = not asked and all(way.outcome.wrong for way in passing)
    lead = f"`skip_bn=True` alone is not enough: {consequences(passing).rstrip('.: ')}. Instead, " if hopeless else ""
    steps = [] if keras else _remedy(passing)
    if steps:
        words = ", and ".join(step.words(passing[0].profile) for step in steps)
        return f"{lead}{words}" + ("" if asked else ", and pass `skip_bn=True`")
    if keras:
        return (
            f"{lead}use a norm without moving statistics (LayerNormalization, GroupNormalization), or, "
            "where the parties' "
            "data are alike, average BatchNormalization knowingly and ignore this rule here"
        )
    return f"{lead}mind that {GENERAL}" if lead else GENERAL


def oddities(profile: Profile) -> list[StateEntry]:
    """Entries of no norm layer whose dtype is known and is not that of most floating point entries."""
    owned = owners(profile)
    others = [entry for entry in profile.entries if entry.dtype is not None and entry.key not in owned]
    # bfloat16 is odd even where it is the rule: NumPy, in which SecretFlow exchanges everything, has no such type.
    floats = Counter(entry.dtype for entry in others if _floating(entry) and entry.dtype not in NOT_NUMPY)
    usual = floats.most_common(1)[0][0] if floats else "float32"
    return [entry for entry in others if entry.dtype != usual]


def _remedy(passing: Sequence[Possibility]) -> list[Step]:
    """Steps after which every possibility certainly equals FedBN's expectation, none to spare; empty if unknown."""
    needed = list(_STEPS)
    if not _right(needed, passing):
        return []
    for step in _STEPS[::-1]:
        fewer = [other for other in needed if other is not step]
        if _right(fewer, passing):
            needed = fewer
    return needed


def _right(steps: Sequence[Step], passing: Sequence[Possibility]) -> bool:
    for way in passing:
        profile, settings = way.profile, way.outcome.settings
        for step in steps:
            profile, settings = step.take(profile, settings)
        if not beside_fedbn(profile, settings).equal:
            return False
    return True


def _move(profile: Profile, settings: SecretFlowSettings) -> tuple[Profile, SecretFlowSettings]:
    """Every BatchNorm an attribute of the root, after everything else."""
    owned = {key: norm for key, norm in owners(profile).items() if norm.batchnorm}
    stay = subset(profile, lambda entry: entry.key not in owned)
    belonging: dict[str, list[StateEntry]] = {}
    for entry in profile.entries:
        if entry.key in owned:
            belonging.setdefault(owned[entry.key].path, []).append(entry)
    moved: list[StateEntry] = []
    norms: list[NormLayer] = [norm for norm in profile.norms if not norm.batchnorm]
    for number, norm in enumerate(norm for norm in profile.norms if norm.batchnorm):
        path = f"moved_batchnorm_{number}"
        norms.append(dataclasses.replace(norm, path=path))
        for entry in belonging.get(norm.path, ()):
            tail = entry.key.removeprefix(norm.path).removeprefix(".")
            module = entry.module.removeprefix(norm.path)
            moved.append(dataclasses.replace(entry, key=f"{path}.{tail}", module=f"{path}{module}", alias_of=None))
    return dataclasses.replace(stay, entries=(*stay.entries, *moved), norms=tuple(norms)), settings


def _untrack(profile: Profile, settings: SecretFlowSettings) -> tuple[Profile, SecretFlowSettings]:
    """Instance norms without running statistics."""
    paths = {norm.path for norm in profile.norms if norm.family == "instance" and norm.tracked}
    names = {"running_mean", "running_var", "num_batches_tracked"}
    kept = subset(profile, lambda entry: not (entry.module in paths and entry.name in names))
    norms = tuple(dataclasses.replace(norm, tracked=False) if norm.path in paths else norm for norm in profile.norms)
    return dataclasses.replace(kept, norms=norms), settings


def _one_dtype(profile: Profile, settings: SecretFlowSettings) -> tuple[Profile, SecretFlowSettings]:
    """No integer or bool entries but BatchNorm's, and one floating point dtype."""
    odd = {entry.key for entry in oddities(profile)}
    kept = subset(profile, lambda entry: entry.key not in odd or _floating(entry))
    entries = tuple(
        dataclasses.replace(entry, dtype="float32") if _floating(entry) and entry.dtype != "float32" else entry
        for entry in kept.entries
    )
    return dataclasses.replace(kept, entries=entries), settings


def dtype_advice(profile: Profile, odd: Sequence[StateEntry]) -> str:
    """What to do about entries whose dtype the exchange does not carry as it is."""
    owned = owners(profile)
    norms = [entry for entry in odd if entry.key in owned]
    integers = [entry for entry in odd if entry.key not in owned and not _floating(entry)]
    floats = [entry for entry in odd if entry.key not in owned and _floating(entry)]
    words = []
    if norms:
        layers = listed(owned[entry.key].path or "the root" for entry in norms)
        words.append(f"build {layers} with `track_running_stats=False`")
    if integers:
        names = listed(entry.key for entry in integers)
        words.append(f"keep {names} out of the state dict (`register_buffer(..., persistent=False)`)")
    if floats:
        words.append(f"hold {listed(entry.key for entry in floats)} in float32")
    return ", and ".join(words)


def _usual_strategy(profile: Profile, settings: SecretFlowSettings) -> tuple[Profile, SecretFlowSettings]:
    aggregator = "plain" if settings.aggregator in ("sparse", "fedgen") else settings.aggregator
    return profile, dataclasses.replace(settings, strategy="fed_avg_w", aggregator=aggregator)


def _newer(profile: Profile, settings: SecretFlowSettings) -> tuple[Profile, SecretFlowSettings]:
    return profile, dataclasses.replace(settings, secretflow_version=None)


def _floating(entry: StateEntry) -> bool:
    return entry.dtype is not None and "float" in entry.dtype


# What a torch model and its call can be changed to; Keras names and orders its weights by itself.
_STEPS = (
    Step(
        lambda profile: (
            "register every BatchNorm as an attribute of the model itself, after all other layers "
            "(`forward` may use them "
            "in any order)"
        ),
        _move,
    ),
    Step(lambda profile: "build its InstanceNorms with `track_running_stats=False`", _untrack),
    Step(lambda profile: dtype_advice(profile, oddities(profile)), _one_dtype),
    Step(lambda profile: 'use `strategy="fed_avg_w"`', _usual_strategy),
    Step(lambda profile: "upgrade SecretFlow to 1.7 or newer", _newer),
)
"""The later a step stands, the rather it is left out where either of two would do."""
