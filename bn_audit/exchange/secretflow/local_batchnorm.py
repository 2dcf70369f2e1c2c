"""The plan of a model made by ``local_batchnorm``, which answers SecretFlow's questions itself.

Such a model is asked what of it to send (``get_weights_not_bn``) and where to put what arrives
(``update_weights_not_bn``). It sends every floating point entry that is no BatchNorm's, in one dtype and with a
dimension at least, and loads by key. So to SecretFlow it is a model of just these entries, none of them BatchNorm's,
and goes the way such a model goes. What cannot be made right is refused when FLModel is made, before any round.

The refusals are worded here, for the plan and for :mod:`bn_audit.federated.secretflow`, which raises them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from bn_audit.exchange.fedbn import expected_fates, is_integer
from bn_audit.exchange.plan import EntryPlan, Fate, Plan, PlanError, merge
from bn_audit.exchange.secretflow.settings import SecretFlowSettings, release
from bn_audit.profile import Profile, StateEntry
from bn_audit.wrapping import INTEGERS, Integers, Wrapping

__all__ = [
    "ALL_PARAMETERS",
    "NEEDS_SKIP_BN",
    "SINCE",
    "STRATEGIES",
    "of_complex",
    "of_integers",
    "of_lazy",
    "of_name",
    "of_other_than_dense",
    "of_release",
    "of_strategy",
    "plan_wrapped",
    "refused",
]

STRATEGIES: dict[str, str] = {
    "fed_avg_w": "",
    "fed_stc": "",
    "fed_scr": "",
    "fed_gen": "",
    "fed_avg_g": "it exchanges the gradients of all parameters, BatchNorm's weight and bias among them",
    "fed_avg_u": "it exchanges what a training changed, and the parties' models drift apart whatever they hold",
    "fed_prox": "it pairs what arrives with all parameters of the model",
    "scaffold": "it pairs what is sent with all parameters of the model",
    "moon": "it loads what arrives into a second model, which has no BatchNorm of its own to go with it",
}
"""SecretFlow's strategies for torch, with why one cannot keep BatchNorm with the parties; "" where it can."""

ALL_PARAMETERS = frozenset({"fed_avg_g", "fed_prox", "scaffold"})
"""These are right all the same for a model of which just its parameters are shared."""

SINCE = (1, 7)
"""The first release that asks a model made so in every exchange; earlier ones heed ``skip_bn`` at first, or never."""

NEEDS_SKIP_BN = "this model keeps BatchNorm with its party: pass skip_bn=True to FLModel"


def of_strategy(strategy: str) -> str:
    """Why a model is refused under a strategy."""
    able = ", ".join(name for name, why in STRATEGIES.items() if not why)
    return f"{strategy} cannot keep BatchNorm with the parties: {STRATEGIES[strategy]}; {able} can"


def of_name(strategy: str) -> str:
    """Why a strategy that SecretFlow has not is refused."""
    return f"no strategy {strategy!r}; known are {', '.join(STRATEGIES)}"


def of_release(version: str) -> str:
    """Why a model is refused under a release."""
    return f"SecretFlow {version} does not keep BatchNorm with the parties throughout, even so: use 1.7 or newer"


def of_integers(key: str, dtype: str) -> str:
    """Why a model with an integer or bool entry is refused."""
    remedy = 'Pass integers="local" to keep such entries with the party'
    return f"{key} is {dtype} and no BatchNorm's: it has no mean. {remedy}"


def of_complex(key: str) -> str:
    """Why a model with a complex entry is refused."""
    return f"{key} is complex: SecretFlow's aggregators take real numbers only"


def of_other_than_dense(key: str) -> str:
    """Why a model with a sparse or nested entry is refused."""
    return f"{key} is no dense tensor: SecretFlow's aggregators take arrays only"


def of_lazy(key: str) -> str:
    """Why a model with an entry that has no shape yet is refused."""
    return f"{key} is not initialised yet: run the model once where it is made"


def refused(strategy: str | None) -> str | None:
    """Why a strategy is refused whatever the model; None if it is not, or no strategy is named."""
    if strategy is None:
        return None
    if strategy not in STRATEGIES:
        return of_name(strategy)
    return of_strategy(strategy) if STRATEGIES[strategy] and strategy not in ALL_PARAMETERS else None


@dataclass(frozen=True, slots=True)
class _Part:
    """One entry: whether it is the party's own, and whether it travels; None if that is not known."""

    entry: StateEntry
    local: bool | None
    empty: bool | None


def plan_wrapped(
    profile: Profile,
    settings: SecretFlowSettings,
    wrapping: Wrapping,
    plan: Callable[[Profile, SecretFlowSettings], Plan],
) -> Plan:
    """The plan of a model that is wrapped, with ``skip_bn`` settled; ``plan`` makes that of one that is not."""
    if wrapping.integers is None:
        ways = [plan_wrapped(profile, settings, replace(wrapping, integers=one), plan) for one in INTEGERS]
        return replace(merge(ways), settings=settings.named())
    parts = _parts(profile)
    stops, error = _refusal(profile, settings, wrapping.strategy, wrapping.integers, parts)
    inner = plan(_sent(profile, parts), replace(settings, skip_bn=False, wrapped=None))
    if stops is not True and inner.stops is not False:
        stops, error = inner.stops, inner.error
    fates = {entry.key: entry.possible for entry in inner.entries}
    entries = tuple(_entry_plan(part, wrapping.integers, fates) for part in parts)
    if error is not None and error.key is not None:
        failing = error.key
        entries = tuple(
            replace(one, possible=frozenset({Fate.FAILS})) if one.key == failing else one for one in entries
        )
    notes = list(inner.notes)
    kept = [part.entry.key for part in parts if part.local is False and is_integer(part.entry)]
    if kept and wrapping.integers == "local":
        notes.append(f"integers that stay with each party, as asked for: {', '.join(kept)}")
    return Plan(entries, stops, error, profile.complete, inner.drifts, settings=settings.named(), notes=tuple(notes))


def _parts(profile: Profile) -> list[_Part]:
    expected = expected_fates(profile)
    local: dict[str, bool | None] = {}
    for entry, fates in zip(profile.entries, expected, strict=True):
        local[entry.key] = None if len(fates) > 1 else Fate.LOCAL in fates
    return [_Part(entry, local[entry.key], _is_empty(entry)) for entry in profile.entries]


def _is_empty(entry: StateEntry) -> bool | None:
    if entry.shape is None:
        return None
    if 0 in entry.shape:
        return True
    return None if None in entry.shape else False


def _refusal(
    profile: Profile,
    settings: SecretFlowSettings,
    named: str | None,
    integers: Integers,
    parts: Sequence[_Part],
) -> tuple[bool | None, PlanError | None]:
    """Whether FLModel cannot be made, and what is raised then: in the order in which the wrapper looks."""
    text = refused(named)
    if text is not None:
        return True, PlanError("ValueError", text)
    version = release(settings.secretflow_version)
    if version is not None and version < SINCE:
        return True, PlanError("ValueError", of_release(settings.secretflow_version or ""))
    if not settings.skip_bn:
        return True, PlanError("ValueError", NEEDS_SKIP_BN)
    strategy = settings.strategy or ""
    text = refused(strategy)
    if text is not None:
        return True, PlanError("ValueError", text)
    lazy = next((norm for norm in profile.norms if norm.lazy), None)
    if lazy is not None:
        key = next((part.entry.key for part in parts if part.entry.module == lazy.path), lazy.path)
        return True, PlanError("ValueError", of_lazy(key), text_certain=False, key=key)
    doubtful = not profile.complete or any(_may_be_refused(part, integers) for part in parts)
    found = next((error for part in parts if (error := _unfit(part, integers)) is not None), None)
    if found is not None:
        return True, replace(found, text_certain=not doubtful and profile.ordered)
    for one in dict.fromkeys((named or "", strategy)):
        if one not in ALL_PARAMETERS:
            continue
        same = _shares_its_parameters(profile, parts)
        if same is False:
            return True, PlanError("ValueError", of_strategy(one), text_certain=not doubtful)
        doubtful = doubtful or same is None
    return (None if doubtful else False), None


def _unfit(part: _Part, integers: Integers) -> PlanError | None:
    """The error of an entry that certainly cannot be exchanged."""
    entry = part.entry
    if part.local is not False or part.empty is not False or entry.dtype is None:
        return None
    if entry.dtype.startswith("complex"):
        return PlanError("ValueError", of_complex(entry.key), key=entry.key)
    if is_integer(entry) and integers == "refuse":
        return PlanError("ValueError", of_integers(entry.key, entry.dtype), key=entry.key)
    return None


def _may_be_refused(part: _Part, integers: Integers) -> bool:
    """Whether it is not known that an entry can be exchanged."""
    if part.local or part.empty:
        return False
    if part.entry.dtype is None:
        return True
    odd = part.entry.dtype.startswith("complex") or (is_integer(part.entry) and integers == "refuse")
    return odd and (part.local is None or part.empty is None)


def _travels(part: _Part) -> bool | None:
    """Whether an entry is sent."""
    if part.local or part.empty or is_integer(part.entry):
        return False
    return None if part.local is None or part.empty is None or part.entry.dtype is None else True


def _shares_its_parameters(profile: Profile, parts: Sequence[_Part]) -> bool | None:
    """Whether just the parameters are sent, each once and as it is."""
    common = _common_dtype(part.entry for part in parts if _travels(part) is not False)
    open_ = not profile.complete
    for part in parts:
        entry, sent = part.entry, _travels(part)
        if part.local is False and part.empty:
            return False
        if sent is None:
            open_ = True
            continue
        as_it_is = entry.shape != () and entry.dtype == common
        if sent is not (entry.kind == "parameter" and entry.alias_of is None) or (sent and not as_it_is):
            return False
    return None if open_ else True


def _sent(profile: Profile, parts: Sequence[_Part]) -> Profile:
    """The model as SecretFlow sees it: what travels, in one dtype that NumPy has, nothing without a dimension."""
    sent = [part.entry for part in parts if _travels(part) is not False]
    common = _common_dtype(sent)
    keys = {entry.key for entry in sent}
    entries = tuple(
        replace(
            entry,
            shape=entry.shape or (entry.shape if entry.shape is None else (1,)),
            dtype=common,
            value=None,
            alias_of=entry.alias_of if entry.alias_of in keys else None,
        )
        for entry in sent
    )
    return Profile(entries, framework=profile.framework, type=profile.type)


def _common_dtype(entries: Iterable[StateEntry]) -> str:
    dtypes = {entry.dtype for entry in entries if entry.dtype is not None}
    if len(dtypes) == 1 and dtypes <= {"float16", "float32", "float64"}:
        return next(iter(dtypes))
    return "float64" if "float64" in dtypes else "float32"


def _entry_plan(part: _Part, integers: Integers, fates: dict[str, frozenset[Fate]]) -> EntryPlan:
    entry = part.entry
    averaged = fates.get(entry.key, frozenset({Fate.AVERAGED})) - {Fate.FAILS} or frozenset({Fate.AVERAGED})
    if part.local:
        return EntryPlan(entry.key, frozenset({Fate.LOCAL}))
    if part.empty:
        return EntryPlan(entry.key, frozenset({Fate.AVERAGED}))
    if is_integer(entry):
        return EntryPlan(entry.key, frozenset({Fate.LOCAL if integers == "local" else Fate.STALE}))
    if entry.dtype is None and integers == "local":
        averaged |= {Fate.LOCAL}
    return EntryPlan(entry.key, averaged | {Fate.LOCAL} if part.local is None else averaged)
