"""Rounds that are run, and what they did to every entry beside what FedBN wants of it.

An engine runs the rounds and hands back what it saw: the exchanges with the states before and after them, and the error
that ended them. The contract engine, here, executes the plan; the others run the framework's own classes
(:mod:`bn_audit.live.secretflow_engine`). What is seen is judged the same way for all, off the tensors:

- the fate of an entry is read off the values before and after each exchange;
- its deviation is the distance from what the reference FedBN makes of the same exchange. If there is none in any
  exchange, the state after the last round equals FedBN's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from bn_audit.exchange import flower
from bn_audit.exchange.courses import UNINITIALISED
from bn_audit.exchange.fedbn import constants, evidence, expected_fates
from bn_audit.exchange.flower import FlowerSettings
from bn_audit.exchange.frameworks import FrameworkSettings, integers_stay
from bn_audit.exchange.frameworks import plan as plan_of
from bn_audit.exchange.nvflare import NVFlareSettings
from bn_audit.exchange.plan import EntryPlan, Fate, Plan
from bn_audit.exchange.secretflow import SecretFlowSettings, plan
from bn_audit.exchange.secretflow.settings import release
from bn_audit.federated import AggregationError, FedBNAggregator
from bn_audit.federated.secretflow import wrapping_of
from bn_audit.live.classes import is_base_module
from bn_audit.live.errors import TargetError, require_torch
from bn_audit.live.execute import (
    Exchange,
    Outcome,
    State,
    execute,
    outcomes,
    party_states,
    training_steps,
    uninitialised,
    wide,
    within,
)
from bn_audit.live.profile import profile as profile_of
from bn_audit.live.releases import torch_release
from bn_audit.live.rounds import after_training, first_exchange, handed_back, later_plans, two_kinds, weighted, zeroed
from bn_audit.profile import Profile, StateEntry
from bn_audit.verification import Stop, Verdict, Verification, VerifiedEntry
from bn_audit.wrapping import Wrapping

require_torch()

import torch  # noqa: E402
from torch import nn  # noqa: E402

__all__ = ["Run", "Seen", "run_contract", "see", "settings_here", "verify", "verify_exchange"]


@dataclass(frozen=True, slots=True)
class Seen:
    """What one exchange did.

    Attributes:
        outcomes: by key, whose value an entry holds afterwards.
        deviations: by key, the largest absolute difference from FedBN's value in any party, and whether it is no more
            than rounding.
    """

    outcomes: Mapping[str, frozenset[Outcome]]
    deviations: Mapping[str, tuple[float, bool]]


@dataclass(frozen=True, slots=True)
class Run:
    """What an engine saw.

    Attributes:
        seen: the exchanges that every party went through, the one before any training first.
        stop: the error that ended the rounds.
        drifted: whether parties end up with different values of an entry that was averaged in every round.
    """

    seen: tuple[Seen, ...]
    stop: Stop | None
    drifted: bool


def verify(
    model: nn.Module | Profile,
    *,
    strategy: str = "fed_avg_w",
    aggregator: str = "plain",
    skip_bn: bool = False,
    secretflow_version: str | None = None,
    wrapped: Wrapping | None = None,
    parties: int = 3,
    rounds: int = 2,
    engine: str | Path = "contract",
    target: str = "",
    notes: Sequence[str] = (),
) -> Verification:
    """Run SecretFlow's rounds on tensors and hold the state after them against FedBN's.

    Args:
        model: a built module, or a profile (for which only the contract engine runs). Its own values are not used:
            every party gets a state of its own, always the same. The module is not changed.
        strategy, aggregator, skip_bn, secretflow_version: as given to FLModel; the aggregator is one of ``plain``,
            ``secure``, ``spu``, ``sparse``, ``fedgen`` and ``server_agg_method``.
        wrapped: how ``local_batchnorm`` shall make the model; by default it does if it made ``model``.
        parties: at least 2.
        rounds: how many trainings and exchanges follow the exchange with which ``fit`` begins; at least 1.
        engine: what runs the rounds: ``contract`` is the plan; ``secretflow`` the classes of the SecretFlow that is
            installed, in its debug mode; ``ray`` the same in its simulation, every party a process of Ray's; else a
            SecretFlow wheel, whose classes are run. They must do as planned.
        target: what to call the model in a report; its class by default.
        notes: what else a report shall say.

    Raises:
        TargetError: if the model has state that no round can be run on (uninitialised lazy modules, quantised tensors),
            or the engine cannot be used.
        MissingExtra: if what the engine needs is not installed.
        ValueError: for fewer than two parties or no round.
    """
    if parties < 2 or rounds < 1:
        raise ValueError("a verification needs at least two parties and one round")
    profile = model if isinstance(model, Profile) else profile_of(model)
    own = isinstance(model, nn.Module) and is_base_module(type(model))
    kind, version = _engine(engine, secretflow_version)
    settings = settings_here(strategy, aggregator, skip_bn, version, own)
    if wrapped is None and isinstance(model, nn.Module):
        wrapped = wrapping_of(model)
    settings = replace(settings, wrapped=wrapped)
    planned = plan(profile, settings)
    _refuse_uninitialised(planned)
    with _as_it_starts():
        if kind == "contract":
            run = run_contract(profile, settings, planned, parties, rounds)
        elif not isinstance(model, nn.Module):
            raise TargetError(
                "the framework's own classes need a module; a checkpoint or a profile can only be planned"
            )
        elif kind == "ray":
            from bn_audit.live.ray_simulation import run_ray

            run = run_ray(model, profile, settings, parties, rounds)
        elif kind == "wheel":
            from bn_audit.live.wheel import run_wheel

            run = run_wheel(model, profile, settings, Path(engine), parties, rounds)
        else:
            from bn_audit.live.installed import run_installed

            run = run_installed(model, profile, settings, parties, rounds)
    verification = judge(profile, settings, planned, run, kind, parties, rounds, target or profile.type)
    return replace(verification, notes=(*notes, *verification.notes))


def _refuse_uninitialised(planned: Plan) -> None:
    """A round that stops since no forward has run proves nothing of the settings."""
    error = planned.error
    if error is not None and (error.type, error.text) == UNINITIALISED:
        raise TargetError(uninitialised(error.key or ""))


@contextmanager
def _as_it_starts() -> Iterator[None]:
    """Torch as it is in a new process, whatever the model's program has set, but for threads: one entry after the other
    is too little for several, which would wait for each other most of the time."""
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float32)
    try:
        with torch.device("cpu"), torch.enable_grad():
            yield
    finally:
        torch.set_default_dtype(dtype)
        torch.set_num_threads(threads)


def _engine(engine: str | Path, asked: str | None) -> tuple[str, str | None]:
    """An engine's kind, and SecretFlow's release with it: its own where it has one, else what was asked for."""
    if engine == "contract":
        return "contract", asked
    if engine in ("secretflow", "ray"):
        from bn_audit.live.installed import version_of_installed

        kind, what, found = str(engine), "what is installed", version_of_installed()
    else:
        from bn_audit.live.wheel import version_of

        kind, what, found = "wheel", "the wheel", version_of(Path(engine))
    if found is not None and asked is not None and release(found) != release(asked):
        raise TargetError(f"{what} is SecretFlow {found}, and --secretflow-version {asked} was asked for")
    return kind, found if found is not None else asked


def verify_exchange(
    model: nn.Module | Profile,
    settings: FlowerSettings | NVFlareSettings,
    *,
    parties: int = 3,
    rounds: int = 2,
    engine: str = "contract",
    target: str = "",
    notes: Sequence[str] = (),
) -> Verification:
    """Run the rounds of Flower or NVFlare on tensors, and hold the state after them against FedBN's.

    Args:
        model: a built module, or a profile (for which only the contract engine runs). Its own values are not used, and
            a module is not changed.
        settings: of the app or job; the strategy has to be one that hands out the weighted mean.
        engine: what runs the rounds: ``contract`` is the plan; ``flower``, for Flower's settings, the Flower that is
            installed, in its simulation. It must do as planned.
        parties, rounds, target, notes: as for :func:`verify`.

    Raises:
        TargetError: for a strategy that hands out something else, or state that no round can be run on; or the engine
            cannot be used.
        MissingExtra: what the engine needs is not installed.
        ValueError: for fewer than two parties or no round, or an engine that is not this framework's.
    """
    if engine not in ("contract", "flower") or (engine == "flower" and not isinstance(settings, FlowerSettings)):
        raise ValueError(f"the engine {engine!r} does not run this framework's rounds")
    if parties < 2 or rounds < 1:
        raise ValueError("a verification needs at least two parties and one round")
    if isinstance(settings, FlowerSettings) and settings.strategy not in flower.MEANS:
        raise TargetError(
            f"{settings.strategy} does not hand out the weighted mean, which is what a round is held against; "
            "bn-audit inspect says what becomes of every entry"
        )
    profile = model if isinstance(model, Profile) else profile_of(model)
    if engine == "flower" and isinstance(settings, FlowerSettings):
        if not isinstance(model, nn.Module):
            raise TargetError("Flower's simulation needs a module; a checkpoint or a profile can only be planned")
        run, settings = _run_flower(model, profile, settings, parties, rounds)
        planned = plan_of(profile, settings)
    else:
        planned = plan_of(profile, settings)
        _refuse_uninitialised(planned)
        with _as_it_starts():
            run = _run_shared(profile, settings, planned, parties, rounds)
    verification = judge(profile, settings, planned, run, engine, parties, rounds, target or profile.type)
    return replace(verification, notes=(*notes, *verification.notes))


def _run_flower(
    model: nn.Module, profile: Profile, settings: FlowerSettings, parties: int, rounds: int
) -> tuple[Run, FlowerSettings]:
    """What the installed Flower does, and the settings with its release."""
    from bn_audit.live.flower_engine import run_flower, settings_of_installed

    settings = settings_of_installed(settings)
    own = flower.without_kept(profile, settings)
    exchanges, after, stop = run_flower(model, profile, own, parties, rounds)
    with _as_it_starts():
        seen = tuple(see(profile, exchange, states) for exchange, states in zip(exchanges, after, strict=True))
    everywhere = [key for key in after[-1][0] if all(one.outcomes[key] == _AVERAGED for one in seen)] if after else []
    drifted = any(not _equal(after[-1], key) for key in everywhere)
    return Run(seen, stop, drifted), settings


_AVERAGED: frozenset[Outcome] = frozenset({(Fate.AVERAGED, None)})


def _run_shared(
    profile: Profile, settings: FlowerSettings | NVFlareSettings, planned: Plan, parties: int, rounds: int
) -> Run:
    """Execute a plan whose rounds are all alike: a stand-in for training, and an exchange of weights."""
    stop = _stop(planned)
    if stop is not None:
        return Run((), stop, drifted=False)
    states = party_states(profile, parties)
    begun = states[0]
    zeros, back = zeroed(profile, settings, begun), handed_back(profile, settings, begun)
    weights = [2.0 + party for party in range(parties)]
    seen: list[Seen] = []
    for number in range(1, rounds + 1):
        steps = training_steps(profile, parties, number)
        trained = [_moved(state, step) for state, step in zip(states, steps, strict=True)]
        exchange = Exchange(trained, trained, weights, trained)
        states = [{**state, **zeros, **back} for state in execute(profile, planned.entries, exchange)]
        one = see(profile, exchange, states)
        # Of what was set the outcome is known; the value may by chance be another entry's too.
        known: dict[str, frozenset[Outcome]] = {key: frozenset({(Fate.STALE, None)}) for key in back}
        known |= {key: frozenset({(Fate.CORRUPT, None)}) for key in zeros}
        seen.append(replace(one, outcomes={**one.outcomes, **known}))
    averaged = [entry.key for entry in planned.entries if entry.fate is Fate.AVERAGED]
    return Run(tuple(seen), None, any(not _equal(states, key) for key in averaged))


def settings_here(
    strategy: str,
    aggregator: str,
    skip_bn: bool,
    secretflow_version: str | None = None,
    base_module: bool = False,
) -> SecretFlowSettings:
    """The settings of a run on this machine, with the torch that is installed here."""
    return SecretFlowSettings(
        backend="torch",
        strategy=strategy,
        aggregator=aggregator,
        skip_bn=skip_bn,
        secretflow_version=secretflow_version,
        torch_version=torch_release(),
        numpy_version=_numpy_version(),
        base_module=base_module,
    )


def run_contract(profile: Profile, settings: SecretFlowSettings, planned: Plan, parties: int, rounds: int) -> Run:
    """Execute a plan: the exchange that begins ``fit``, then rounds of a stand-in for training and an exchange.

    Raises:
        TargetError: for state that cannot be computed with.
    """
    stop = _stop(planned)
    if stop is not None and stop.round == 0:
        return Run((), stop, drifted=False)
    first = plan(profile, first_exchange(settings))
    # An error in the n-th training may come from the load before it: n - 1 trainings and exchanges certainly ran.
    last = rounds if stop is None else min(rounds, max(0, stop.round - 2))
    states = party_states(profile, parties)
    exchange = Exchange(states, states, [1.0] * parties, states)
    # As sample counts do, the weights differ between parties.
    weights = [2.0 + party if weighted(settings) else 1.0 for party in range(parties)]
    later = later_plans(profile, settings, planned)
    seen: list[Seen] = []
    averaged = [entry.key for entry in planned.entries if entry.fate is Fate.AVERAGED]
    for number in range(last + 1):
        if number == 0:
            plans = first.entries
        else:
            plans = later
            steps = training_steps(profile, parties, number)
            trained = [_moved(state, step) for state, step in zip(states, steps, strict=True)]
            exchange = after_training(profile, settings, plans, states, trained, steps, weights)
        states = execute(profile, plans, exchange)
        seen.append(see(profile, exchange, states))
    drifted = last > 0 and any(not _equal(states, key) for key in averaged)
    return Run(tuple(seen), stop, drifted)


def see(profile: Profile, exchange: Exchange, after: Sequence[State]) -> Seen:
    """Read off the tensors what an exchange did, and how far that lies from FedBN."""
    wanted = _fedbn(profile, exchange)
    # The reference rounds as well, once for every party.
    more = exchange.rounding.operations + len(after)
    beside = replace(exchange, rounding=replace(exchange.rounding, operations=more))
    deviations = {}
    for entry in profile.entries:
        pairs = {
            (id(have[entry.key]), id(want[entry.key])): (have, want) for have, want in zip(after, wanted, strict=True)
        }
        distance, rounded = 0.0, True
        for have, want in pairs.values():
            a, b = have[entry.key], want[entry.key]
            distance = max(distance, _distance(a, b), key=lambda d: (d != d, d))
            rounded = rounded and within(a, b, partial(_magnitude, exchange, entry.key), beside)
        deviations[entry.key] = distance, rounded
    return Seen(outcomes(profile, exchange, after), deviations)


def _magnitude(exchange: Exchange, key: str, size: int | None) -> torch.Tensor:
    """How large the numbers are that go into both what an entry holds after an exchange and what FedBN makes of it."""
    largest: torch.Tensor | None = None
    for states in (exchange.trained, exchange.before):
        for state in states:
            part = wide(state[key].reshape(-1)[:size]).abs()
            largest = part if largest is None else torch.maximum(largest, part)
    assert largest is not None  # there are parties
    return largest.mul_(2)


def judge(
    profile: Profile,
    settings: FrameworkSettings,
    planned: Plan,
    run: Run,
    engine: str,
    parties: int,
    rounds: int,
    target: str,
) -> Verification:
    """Lay what was seen beside what was planned and what FedBN wants."""
    norms = {norm.path: norm.type for norm in profile.norms}
    expected = expected_fates(profile, integers_stay=integers_stay(settings))
    still = constants(profile)
    entries = tuple(
        _verified(entry, norms.get(entry.module), wanted, part, run, settings, engine, entry.key in still)
        for entry, wanted, part in zip(profile.entries, expected, planned.entries, strict=True)
    )
    measured = engine != "contract"
    disagreements: tuple[str, ...] = ()
    if measured:
        disagreements = tuple(_disagreements(profile, settings, planned, run))
    notes = [*evidence(profile), *planned.notes]
    open_order = not profile.ordered and isinstance(settings, SecretFlowSettings) and settings.skip_bn is not False
    if profile.renamed and isinstance(settings, SecretFlowSettings) and settings.wrapped is None:
        notes.append(
            "the keys of the state dict are not those that torch would give, by which SecretFlow picks and loads"
        )
    if open_order:
        notes.append("the file does not keep the order of the state dict, on which skip_bn depends")
    if disagreements:
        verdict = Verdict.DISAGREES
    elif run.stop is not None:
        verdict = Verdict.STOPS
    elif run.drifted or any(entry.right is False for entry in entries):
        verdict = Verdict.WRONG
    elif (
        not (measured or planned.stops is False)
        or not profile.complete
        or open_order
        or any(entry.right is None for entry in entries)
    ):
        verdict = Verdict.OPEN
        notes += _hints(profile, settings, engine)
    else:
        verdict = Verdict.RIGHT
    return Verification(
        target,
        engine,
        parties,
        rounds,
        settings.named(),
        entries,
        run.stop,
        run.drifted,
        disagreements,
        tuple(notes),
        verdict,
    )


def _hints(profile: Profile, settings: FrameworkSettings, engine: str) -> Iterator[str]:
    """What would prove what is not proven."""
    if not profile.ordered or any(norm.batchnorm is None for norm in profile.norms):
        yield "a module tells more than a file of its state: name the model itself, as file.py:CLASS"
    elif engine == "contract" and isinstance(settings, FlowerSettings):
        yield "--engine flower asks the Flower that is installed"
    elif engine == "contract" and isinstance(settings, SecretFlowSettings):
        yield "--engine secretflow (as installed) or --engine WHEEL asks the framework's own classes"


def _verified(
    entry: StateEntry,
    norm: str | None,
    expected: frozenset[Fate],
    part: EntryPlan,
    run: Run,
    settings: FrameworkSettings,
    engine: str,
    constant: bool,
) -> VerifiedEntry:
    # Of what the plan leaves open its execution shows nothing.
    executed = part.fate is not None and (part.fate is not Fate.MISPLACED or part.source_key is not None)
    shown = executed or engine != "contract"
    found = _measured(part, run.seen, settings) if shown else frozenset[Outcome]()
    kept = Fate.LOCAL if Fate.LOCAL in expected else Fate.STALE
    fates = dict.fromkeys(kept if fate is None else fate for fate, _ in sorted(found, key=_by_name))
    measured = tuple(sorted(fates, key=lambda fate: fate not in part.possible))
    ended = run.stop is None and bool(run.seen) and shown
    deviation = max((seen.deviations[entry.key][0] for seen in run.seen), key=lambda d: (d != d, d)) if ended else None
    # The mean of equal constants is that constant.
    allowed = expected | {Fate.AVERAGED} if constant else expected
    right: bool | None = None
    if len(expected) == 1 and ended:
        equal = all(seen.deviations[entry.key][1] for seen in run.seen)
        right = equal and bool(allowed & part.possible) and bool(allowed & set(measured))
    elif not allowed & part.possible:
        right = False
    return VerifiedEntry(entry, norm, expected, part.possible, part.source_key, measured, deviation, right)


def _measured(part: EntryPlan, seen: Sequence[Seen], settings: FrameworkSettings) -> frozenset[Outcome]:
    """What all exchanges of a kind agree on for an entry."""
    relevant = _relevant(part, seen, settings)
    if not relevant:
        return frozenset()
    common = frozenset.intersection(*(one.outcomes[part.key] for one in relevant))
    return common or frozenset().union(*(one.outcomes[part.key] for one in relevant))


def _relevant(part: EntryPlan, seen: Sequence[Seen], settings: FrameworkSettings) -> Sequence[Seen]:
    if Fate.CORRUPT in part.possible:
        return seen[:1]
    if not isinstance(settings, SecretFlowSettings) or not two_kinds(settings) or len(seen) < 2:
        return seen
    # The first exchange is of its own kind; it lasts where it puts a tensor in the wrong place.
    return seen[:1] if part.fate is Fate.MISPLACED else seen[1:]


def _moved(state: State, step: State) -> State:
    cache: dict[int, torch.Tensor] = {}
    return {
        key: cache.setdefault(id(tensor), tensor if tensor.dtype is torch.bool else _sum(tensor, step[key]))
        for key, tensor in state.items()
    }


def _sum(tensor: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
    if tensor.dtype.itemsize > 1 and tensor.dtype not in (torch.uint16, torch.uint32, torch.uint64):
        return tensor + step
    return (wide(tensor) + wide(step)).to(tensor.dtype)  # float8 and unsigned integers cannot add


def _fedbn(profile: Profile, exchange: Exchange) -> list[State]:
    """What the reference FedBN makes of an exchange: the weighted mean of what is shared, the party's own of the rest.

    Entries that may be either are taken for shared; what is judged of them stays open.
    """
    fates = zip(profile.entries, expected_fates(profile), strict=True)
    local = [entry.key for entry, wanted in fates if wanted == {Fate.LOCAL}]
    # Integers are constants of the architecture here, the same in every party; a mean of them is not asked for.
    reference = FedBNAggregator(local, integer_state="keep-local")
    try:
        shared = reference.aggregate(exchange.trained, exchange.weights)
    except AggregationError as error:
        raise TargetError(f"the reference FedBN cannot average this model: {error}") from error
    return [{**state, **shared} for state in exchange.before]


def _disagreements(profile: Profile, settings: FrameworkSettings, planned: Plan, run: Run) -> Iterator[str]:
    """What the plan says and the real classes deny, in words; nothing if they agree."""
    # What uninitialised memory does after it was loaded, an error among it, is chance.
    chance = any(Fate.CORRUPT in part.possible for part in planned.entries)
    if chance and (run.stop is None or run.stop.type == "RuntimeError"):
        if run.stop is not None or planned.error is not None:
            return
    elif planned.error is not None:
        foreseen = _stop(planned)
        assert foreseen is not None
        says = f"the plan stops in round {foreseen.round} with {foreseen}"
        if run.stop is None:
            yield f"{says}; the real classes do not stop"
        elif not foreseen.exact and (profile.renamed or not profile.complete):
            pass  # what is not known of the model may well be what stops it
        elif (run.stop.type, run.stop.round) != (foreseen.type, foreseen.round) or (
            foreseen.exact and run.stop.text != foreseen.text
        ):
            yield f"{says}; the real classes in round {run.stop.round} with {run.stop}"
        return
    elif run.stop is not None:
        if planned.stops is False:
            yield f"the plan does not stop; the real classes stop in round {run.stop.round} with {run.stop}"
        return
    averaged = any(part.fate is Fate.AVERAGED for part in planned.entries)
    if averaged and not chance and planned.drifts not in (None, run.drifted):
        yield f"drifting apart: the plan says {planned.drifts}, the real classes {run.drifted}"
    expected = expected_fates(profile, integers_stay=integers_stay(settings))
    for entry, wanted, part in zip(profile.entries, expected, planned.entries, strict=True):
        if part.fate is None or part.fate is Fate.CORRUPT:
            continue
        kept = Fate.LOCAL if Fate.LOCAL in wanted else Fate.STALE
        outcome: Outcome = (None if part.fate is kept else part.fate, part.source_key)
        relevant = _relevant(part, run.seen, settings)
        if chance:
            # The first exchange alone is certain, and says nothing of later ones where those are of another kind.
            kinds = isinstance(settings, SecretFlowSettings) and two_kinds(settings)
            relevant = () if kinds and part.fate is not Fate.MISPLACED else run.seen[:1]
        for number, seen in enumerate(relevant):
            found = seen.outcomes[entry.key]
            if outcome == (Fate.MISPLACED, None):
                # Whose value it is, the plan does not say.
                agree = any(fate is Fate.MISPLACED for fate, _ in found)
            else:
                agree = outcome in found
            if not agree:
                yield f"{entry.key}: the plan says {_words(outcome)}; in exchange {number} it was {_any_words(found)}"
                break


def _words(outcome: Outcome) -> str:
    fate, source = outcome
    if fate is None:
        return "kept by each party"
    return fate.value if source is None else f"{fate.value} from {source}"


def _any_words(found: frozenset[Outcome]) -> str:
    return " or ".join(_words(outcome) for outcome in sorted(found, key=_by_name))


def _by_name(outcome: Outcome) -> tuple[str, str]:
    fate, source = outcome
    return ("" if fate is None else fate.value, source or "")


def _stop(planned: Plan) -> Stop | None:
    error = planned.error
    if error is None:
        return None
    return Stop(error.type, error.text, error.round, error.text_certain, error.key)


def _equal(states: Sequence[State], key: str) -> bool:
    return all(torch.equal(state[key], states[0][key]) for state in states)


def _distance(have: torch.Tensor, want: torch.Tensor) -> float:
    """The largest absolute difference; 0 where both are NaN or the same infinity, NaN where only one is a number."""
    if have is want or not have.numel():
        return 0.0
    wide = torch.complex128 if have.is_complex() else torch.float64
    quick = have.dtype in (torch.float32, torch.float64, torch.complex64)
    a, b = (have, want) if quick else (have.to(wide), want.to(wide))
    difference = (a - b).abs()
    largest = float(difference.max())
    if math.isfinite(largest):
        return largest
    same = (a == b) | (a.isnan() & b.isnan())
    return float(difference.masked_fill_(same, 0).max())


def _numpy_version() -> str | None:
    from importlib import metadata

    try:
        return metadata.version("numpy")
    except metadata.PackageNotFoundError:
        return None
