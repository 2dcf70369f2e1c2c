"""A case: one call of FLModel, laid out for the rules as every way it may turn out, each with its plan beside FedBN's.

What is not known is not held against the user. An aggregator that is not known is judged as Plain and as Secure, an
unknown ``skip_bn`` as both values, and each reading of the call by itself. A rule speaks only if every possibility
goes wrong.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

from bn_audit.exchange.fedbn import constants, expectation, owners
from bn_audit.exchange.plan import Comparison, Difference, compare
from bn_audit.exchange.secretflow import SecretFlowSettings, plan
from bn_audit.exchange.secretflow.strategies import strategy as strategy_named
from bn_audit.profile import Gap, NormLayer, Profile, StateEntry
from bn_audit.site import FLModelCall, FLModelSite

__all__ = [
    "FLModelCase",
    "Judged",
    "Outcome",
    "Possibility",
    "beside_fedbn",
    "judge",
    "subset",
    "without",
    "without_norms",
]


@dataclass(frozen=True, slots=True)
class Judged:
    """What a round does to a model, and what of it is BatchNorm's doing.

    Attributes:
        profile: the model.
        comparison: the plan beside FedBN's, certainties only.
        baseline: the same for the model without its norm layers: what goes wrong there is not BatchNorm's doing.
    """

    profile: Profile
    comparison: Comparison
    baseline: Comparison

    @property
    def stops(self) -> bool:
        """Whether the round certainly stops, and would not without norm layers."""
        error = self.comparison.error
        if not self.comparison.stops or error is None:
            return False
        return self.owns(error.key) or self.baseline.stops is not True

    @property
    def differences(self) -> tuple[Difference, ...]:
        """Entries that certainly miss what FedBN expects, and would not without norm layers; none if the round stops.

        A frozen BatchNorm's are not among them: they are constants, and the mean of equal constants changes nothing.
        """
        if self.comparison.stops:
            return ()
        anyway = {difference.key for difference in self.baseline.differences}
        anyway.update(constants(self.profile))
        return tuple(difference for difference in self.comparison.differences if difference.key not in anyway)

    @property
    def wrong(self) -> bool:
        """Whether BatchNorm certainly makes this go wrong."""
        return self.stops or bool(self.differences)

    @property
    def culprits(self) -> tuple[NormLayer, ...]:
        """The norm layers whose entries go wrong or stop the round; all where they only shift what others get."""
        error = self.comparison.error
        keys = {error.key} if self.comparison.stops and error is not None else {one.key for one in self.differences}
        found = tuple(dict.fromkeys(norm for key, norm in owners(self.profile).items() if key in keys))
        return found or self.profile.norms

    def owns(self, key: str | None) -> bool:
        """Whether the entry called ``key`` belongs to a norm layer."""
        return key in owners(self.profile)


@dataclass(frozen=True, slots=True)
class Outcome(Judged):
    """What a round of SecretFlow's does to a model under the settings that the plan was made for."""

    settings: SecretFlowSettings


@dataclass(frozen=True, slots=True)
class Possibility:
    """One way a call may turn out: a reading of it, with everything it leaves open settled.

    ``assumed`` says what was settled, in words (``with SecureAggregator``); empty where nothing was open.
    """

    reading: FLModelCall
    profile: Profile
    outcome: Outcome
    assumed: tuple[str, ...]


@dataclass(frozen=True)
class FLModelCase:
    """A site and the releases it runs with; everything else is derived, when it is first asked for.

    Attributes:
        site: what the source reader found.
        secretflow: SecretFlow's release, None if unknown (then the newest with FLModel is meant).
        torch: torch's release, None if unknown.
        fellows: the other sites whose FLModel is made by way of the call at which this site stands: what is changed
            there, changes them too.
    """

    site: FLModelSite
    secretflow: str | None = None
    torch: str | None = None
    fellows: tuple[FLModelCase, ...] = ()

    @cached_property
    def readings(self) -> tuple[FLModelCall, ...]:
        """The readings under which a round runs: without any aggregation ``fit`` refuses to begin."""
        return tuple(reading for reading in self.site.readings if reading.aggregator != "none")

    @cached_property
    def models(self) -> tuple[Profile, ...]:
        """The model of each reading; empty if any is not known."""
        found = [reading.model for reading in self.readings]
        known = tuple(model for model in found if model is not None)
        return known if len(known) == len(found) else ()

    @cached_property
    def possibilities(self) -> tuple[Possibility, ...]:
        """Every way the call may turn out; empty if there is one of which nothing can be said."""
        found: list[Possibility] = []
        for reading in self.readings:
            ways = tuple(self._ways(reading))
            if not ways:
                return ()
            found.extend(ways)
        return tuple(found)

    @cached_property
    def skipping(self) -> tuple[Possibility, ...]:
        """The possibilities with ``skip_bn=True``."""
        return tuple(way for way in self.possibilities if way.outcome.settings.skip_bn)

    @cached_property
    def passing(self) -> tuple[Possibility, ...]:
        """Each of the possibilities as it would be if the call passed ``skip_bn=True``."""
        judged: dict[tuple[int, SecretFlowSettings], Outcome] = {}
        found = []
        for way in self.possibilities:
            settings = dataclasses.replace(way.outcome.settings, skip_bn=True)
            key = id(way.profile), settings
            if key not in judged:
                judged[key] = judge(way.profile, settings)
            assumed = tuple(text for text in way.assumed if "skip_bn" not in text)
            found.append(dataclasses.replace(way, outcome=judged[key], assumed=assumed))
        return tuple(found)

    @property
    def goes_wrong(self) -> bool:
        """Whether BatchNorm makes every possibility go wrong."""
        return bool(self.possibilities) and all(way.outcome.wrong for way in self.possibilities)

    def _ways(self, reading: FLModelCall) -> Iterable[Possibility]:
        model, backend, strategy = reading.model, reading.backend, reading.strategy
        if model is None and reading.wrapped is not None and backend == "torch":
            model = _NOTHING_KNOWN  # of which the wrapper still says something
        if model is None or backend is None or strategy is None:
            return
        aggregators = (reading.aggregator,) if reading.aggregator is not None else _aggregators(backend, strategy)
        for skip_bn in (False, True) if reading.skip_bn is None else (reading.skip_bn,):
            for aggregator in aggregators:
                assumed = [f"if {condition}" for condition in reading.conditions]
                if reading.skip_bn is None:
                    assumed.append(f"with `skip_bn={skip_bn}`")
                if len(aggregators) > 1:
                    assumed.append(f"with {AGGREGATORS[aggregator]}")
                settings = SecretFlowSettings(
                    backend=backend,
                    strategy=strategy,
                    aggregator=aggregator,
                    skip_bn=skip_bn,
                    secretflow_version=self.secretflow,
                    torch_version=self.torch,
                    base_module=reading.base_module,
                    wrapped=reading.wrapped,
                )
                yield Possibility(reading, model, judge(model, settings), tuple(assumed))


_NOTHING_KNOWN = Profile((), gaps=(Gap(0, "", "the model could not be followed"),))
"""A model that could not be followed."""


def _aggregators(backend: str, strategy: str) -> tuple[str, ...]:
    """What an unknown aggregator is judged as: Plain and Secure, as far as the strategy works with them."""
    usual = ("plain", "secure")
    known = strategy_named(backend, strategy)
    if known is None or not known.aggregators:
        return usual
    return tuple(name for name in usual if name in known.aggregators) or tuple(sorted(known.aggregators))


AGGREGATORS = {
    "plain": "PlainAggregator",
    "secure": "SecureAggregator",
    "spu": "SPUAggregator",
    "sparse": "SparsePlainAggregator",
    "fedgen": "StatefulFedGenAggregator",
    "server_agg_method": "a server_agg_method",
}
"""What people call the aggregators."""


def judge(profile: Profile, settings: SecretFlowSettings) -> Outcome:
    """What a round does to a model under some settings."""
    comparison = beside_fedbn(profile, settings)
    if settings.wrapped is not None and comparison.error is not None and comparison.error.key is None:
        # That the wrapper refuses is on account of BatchNorm, whatever the model holds: without, there is no wrapper.
        bare = beside_fedbn(without_norms(profile), dataclasses.replace(settings, wrapped=None))
    else:
        bare = beside_fedbn(without_norms(profile), settings)
    return Outcome(profile, comparison, bare, settings)


def beside_fedbn(profile: Profile, settings: SecretFlowSettings) -> Comparison:
    """SecretFlow's plan for a model beside FedBN's."""
    return compare(expectation(profile, integers_stay=settings.integers_stay), plan(profile, settings))


def without_norms(profile: Profile) -> Profile:
    """The same model with every known norm layer taken out."""
    return without(profile, profile.norms)


def without(profile: Profile, norms: Iterable[NormLayer]) -> Profile:
    """The same model with some norm layers taken out."""
    gone = {norm.path for norm in norms}
    owned = {key for key, norm in owners(profile).items() if norm.path in gone}
    bare = subset(profile, lambda entry: entry.key not in owned)
    return dataclasses.replace(bare, norms=tuple(norm for norm in profile.norms if norm.path not in gone))


def subset(profile: Profile, keep: Callable[[StateEntry], bool]) -> Profile:
    """The same model with only some of its entries, in their order; what is not known of it stays where it was."""
    kept = [keep(entry) for entry in profile.entries]
    keys = {entry.key for entry, stays in zip(profile.entries, kept, strict=True) if stays}
    entries = tuple(
        entry if entry.alias_of is None or entry.alias_of in keys else dataclasses.replace(entry, alias_of=None)
        for entry, stays in zip(profile.entries, kept, strict=True)
        if stays
    )
    gaps = tuple(dataclasses.replace(gap, index=sum(kept[: gap.index])) for gap in profile.gaps)
    return dataclasses.replace(profile, entries=entries, gaps=gaps)
