"""A client's exchange laid out for the rules: for each of its models, what certainly travels and what comes back.

A client may send in several ways (when it has trained, when it is asked for its first parameters), and load in several.
What is said of a model holds in every one of them.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bn_audit.exchange.fedbn import owners
from bn_audit.federation import ExchangeSite, Loading, Participant, Sending
from bn_audit.filters import EVERYTHING, IsParameter, Test, picked, text_of
from bn_audit.finding import Evidence, Location
from bn_audit.profile import NormLayer, Profile, StateEntry
from bn_audit.rules.averaging_case import Judged, Misfit, counts, distinct, misfits, model_trail, of_models
from bn_audit.rules.wording import norm_names

__all__ = [
    "Exchanged",
    "Told",
    "exchanged",
    "half_exchanges",
    "norm_entries",
    "norms_named",
    "wrong_filter",
    "wrong_filters",
]

_PLACES = 2


@dataclass(frozen=True, slots=True)
class Exchanged:
    """One model of a client's.

    Attributes:
        participant: the model.
        sends, loads: the ways that concern it.
        known: whether all that the client sends is known.
    """

    participant: Participant
    sends: tuple[Sending, ...]
    loads: tuple[Loading, ...]
    known: bool

    @property
    def profile(self) -> Profile:
        """What the model holds."""
        return self.participant.profile

    @property
    def norms(self) -> list[NormLayer]:
        """Its norm layers that certainly keep running statistics which training updates."""
        return [norm for norm in self.profile.norms if counts(norm)]

    def sent(self, entry: StateEntry) -> bool | None:
        """Whether an entry travels, however the client sends; None if that is not known."""
        return _agreed([picked(way.covers, entry, self.profile) for way in self.sends])

    def loaded(self, entry: StateEntry) -> bool | None:
        """Whether what arrives takes an entry's place, wherever the client loads it; None if that is not known."""
        return _agreed([picked(way.takes, entry, self.profile) for way in self.loads])


@dataclass(frozen=True, slots=True)
class Told:
    """What a rule has to say of a client: where, what, and the trail."""

    place: Location
    message: str
    evidence: tuple[Evidence, ...]


def _agreed(answers: Sequence[bool | None]) -> bool | None:
    """What all answers agree on; None if they do not, or if there is none."""
    return answers[0] if answers and all(answer is answers[0] for answer in answers) else None


@functools.lru_cache(maxsize=256)
def exchanged(site: ExchangeSite) -> tuple[Exchanged, ...]:
    """The models that a client sends, or that take what arrives, each with what is known of it."""
    ways: tuple[Sending | Loading, ...] = (*site.sends, *site.loads)
    participants = dict.fromkeys(participant for way in ways for participant in way.participants)
    known = all(way.participants for way in site.sends)
    return tuple(
        Exchanged(
            participant,
            tuple(way for way in site.sends if participant in way.participants),
            tuple(way for way in site.loads if participant in way.participants),
            known,
        )
        for participant in participants
        if participant.profile.framework == "torch"
    )


def norm_entries(one: Exchanged, norms: Sequence[NormLayer]) -> list[StateEntry]:
    """The entries that some of a model's norm layers own, in order."""
    paths = {norm.path for norm in norms}
    owned = owners(one.profile)
    return [entry for entry in one.profile.entries if entry.key in owned and owned[entry.key].path in paths]


def norms_named(rows: Sequence[tuple[Exchanged, Sequence[NormLayer]]]) -> str:
    """Norm layers of models by their paths."""
    return of_models(
        [
            (one.participant, norm_names(one.profile, [entry.key for entry in norm_entries(one, norms)]))
            for one, norms in rows
        ]
    )


def trail(
    site: ExchangeSite, found: Sequence[Exchanged], place: Location, *, norms: bool = True
) -> tuple[Evidence, ...]:
    """How the state is sent and loaded, where the models are made and defined, and where their BatchNorms stand."""
    what = "a client" if site.role == "client" else "called by the server"
    steps = [Evidence(site.location, f"`{site.name}` is {what} of {site.framework}")] if site.name else []
    for one in found[:_PLACES]:
        for sending in one.sends:
            steps.extend(sending.through)
            steps.append(Evidence(sending.location, "the state that is sent is taken here"))
        for loading in one.loads:
            steps.extend(loading.through)
            steps.append(Evidence(loading.location, "what arrives is loaded here"))
    for one in found[:_PLACES]:
        steps.extend(model_trail(one.participant) if norms else one.participant.trail)
    return distinct(steps, place)


# --- what other families ask -----------------------------------------------------------------------------------------


def half_exchanges(site: ExchangeSite) -> Iterator[Told]:
    """Clients that send what ``parameters()`` gives, and nothing says that somebody chose so."""
    if site.role != "client" or site.apart or site.kept:
        return
    found = [one for one in exchanged(site) if _half(one)]
    if not found:
        return
    first = found[0]
    place = first.sends[0].location
    yield Told(
        place,
        f"only parameters are sent: weight and bias of {norms_named([(one, _affine(one)) for one in found])} are "
        f"averaged by {site.framework}, and the running statistics they were trained with stay behind",
        trail(site, found, place),
    )


def _affine(one: Exchanged) -> list[NormLayer]:
    return [norm for norm in one.norms if norm.affine is True]


def _half(one: Exchanged) -> bool:
    weights = [entry for entry in norm_entries(one, _affine(one)) if entry.kind == "parameter"]
    return (
        one.known
        and bool(weights)
        and bool(one.sends)
        and all(way.what == "parameters" and way.covers == IsParameter() for way in one.sends)
        and all(one.loaded(entry) is True for entry in weights)
        # Arrays of parameters that get other keys are another matter (BNA204).
        and all(way.keys is None or _same(way.keys, IsParameter(), one.profile) for way in one.loads)
    )


def _same(one: Test, other: Test, profile: Profile) -> bool:
    """Whether two tests certainly pick the same entries of a model."""
    answers = [(picked(one, entry, profile), picked(other, entry, profile)) for entry in profile.entries]
    return all(first is not None and first is second for first, second in answers)


def wrong_filters(site: ExchangeSite) -> Iterator[tuple[Test, list[Misfit], Told]]:
    """Filters by name, on what is sent or on what is loaded, that a model's keys prove wrong."""
    if site.role != "client" or site.kept:
        return
    rows: dict[tuple[Location, Test], list[tuple[Exchanged, Misfit]]] = {}
    for one in exchanged(site):
        wrong = wrong_filter(one)
        if wrong is not None:
            place, covers, misfit = wrong
            rows.setdefault((place, covers), []).append((one, misfit))
    for (place, covers), found in rows.items():
        yield (
            covers,
            [wrong for _, wrong in found],
            Told(place, text_of(covers), trail(site, [one for one, _ in found], place)),
        )


def wrong_filter(one: Exchanged) -> tuple[Location, Test, Misfit] | None:
    """The first filter by name of a model's exchange that its keys prove wrong, and where it is."""
    if not one.known or not one.sends or not one.loads:
        return None
    judged = _judged(one)
    ways = [(way.location, way.covers) for way in one.sends] + [(way.location, way.takes) for way in one.loads]
    for place, covers in ways:
        misfit = misfits(covers, judged) if covers != EVERYTHING else None
        if misfit is not None:
            return place, covers, misfit
    return None


def _judged(one: Exchanged) -> Judged:
    """What of BatchNorm certainly goes out and comes back in, and what certainly does not."""
    shared: list[StateEntry] = []
    kept: list[StateEntry] = []
    for entry in norm_entries(one, one.norms):
        sent, loaded = one.sent(entry), one.loaded(entry)
        if sent and loaded:
            shared.append(entry)
        elif sent is False or loaded is False:
            kept.append(entry)
    return Judged(one.participant, None, tuple(shared), tuple(kept))
