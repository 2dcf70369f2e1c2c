"""What an outcome means, in words: the consequences that messages name, and lists that stay readable."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal

from bn_audit.exchange.fedbn import owners
from bn_audit.exchange.plan import Difference, Fate, PlanError
from bn_audit.finding import Evidence, Location
from bn_audit.profile import SOMEWHERE, NormLayer, Profile
from bn_audit.rules.case import FLModelCase, Judged, Possibility
from bn_audit.site import FLModelCall

__all__ = ["consequence", "consequences", "listed", "model_name", "norm_names", "stop", "trail"]

Part = Literal["all", "norms", "others"]

SHOWN = 3
"""Names a list shows before it says how many more there are; one more is shown rather than counted."""
MEMORY = "rebuilt from uninitialised memory"
"""What becomes of an integer without dimensions that is taken for a size."""
LINES = 2
"""Lines of an exception's text that are shown; ``load_state_dict`` writes one for each entry."""
PLACES = 2
"""Lines of norm layers that the evidence of one reading shows."""


def listed(names: Iterable[str]) -> str:
    """```a`, `b` and `c```, ```a`, `b`, `c` and 14 more``: each name once."""
    quoted = [f"`{name}`" for name in dict.fromkeys(names)]
    if len(quoted) > SHOWN + 1:
        return f"{', '.join(quoted[:SHOWN])} and {len(quoted) - SHOWN} more"
    if len(quoted) < 2:
        return "".join(quoted)
    return f"{', '.join(quoted[:-1])} and {quoted[-1]}"


def model_name(reading: FLModelCall) -> str:
    """What to call the model of a reading."""
    name = reading.model_name or (reading.model.type if reading.model is not None else "")
    return f"`{name}`" if name else "the model"


def norm_names(profile: Profile, keys: Iterable[str]) -> list[str]:
    """The paths of the norm layers that own some of the entries, each once, in the order of the keys."""
    owned = owners(profile)
    norms = [owned[key] for key in keys if key in owned]
    return list(dict.fromkeys(norm.path or profile.type or "the model" for norm in norms))


def stop(error: PlanError) -> str:
    """``training stops in round 1 with AssertionError: ...``, in one line.

    The exchange that comes before any training belongs to the first round.
    """
    lines = [" ".join(line.split()) for line in error.text.splitlines() if line.strip()]
    more = f" (and {len(lines) - LINES} more lines)" if len(lines) > LINES + 1 else ""
    shown = " ".join(lines[:LINES] if more else lines)
    sure = " with" if error.text_certain else ", most likely with"
    return f"training stops in round {max(error.round, 1)}{sure} {error.type}: {shown}{more}"


def consequence(outcome: Judged, of: Part = "all", corrupt: str = MEMORY) -> str:
    """What BatchNorm certainly does under these settings: to its own entries, to the others, or to all.

    ``corrupt`` says what becomes of an entry with that fate.
    """
    error = outcome.comparison.error
    if outcome.stops and error is not None:
        return stop(error)
    norms = [difference for difference in outcome.differences if outcome.owns(difference.key)]
    others = [difference for difference in outcome.differences if not outcome.owns(difference.key)]
    parts: list[str] = []
    if norms and of != "others":
        parts.extend(_norms(outcome.profile, norms, corrupt))
    if others and of != "norms":
        parts.extend(_others(others, corrupt))
    return "; ".join(parts)


def _norms(profile: Profile, differences: Sequence[Difference], corrupt: str) -> Iterator[str]:
    averaged = [difference for difference in differences if difference.fate is Fate.AVERAGED]
    rest = [difference for difference in differences if difference.fate is not Fate.AVERAGED]
    if averaged:
        keys = [difference.key for difference in averaged]
        yield f"{_what(keys)} of {listed(norm_names(profile, keys))} are averaged over the parties"
    if rest:
        mishap = _mishap(rest, corrupt)
        yield f"{listed(difference.key for difference in rest)} of BatchNorm are exchanged, and {mishap}"


def _what(keys: Sequence[str]) -> str:
    names = {key.rpartition(".")[2] for key in keys}
    statistics = any(name.startswith(("running_", "moving_")) for name in names)
    affine = [word for word, own in (("weight", "gamma"), ("bias", "beta")) if not names.isdisjoint((word, own))]
    if statistics and affine:
        return f"running statistics{',' if len(affine) > 1 else ' and'} {' and '.join(affine)}"
    if statistics:
        return "the running statistics"
    return " and ".join(affine) or "the entries"


def _others(differences: Sequence[Difference], memory: str) -> Iterator[str]:
    never = [one for one in differences if one.fate in (Fate.STALE, Fate.LOCAL)]
    misplaced = [one for one in differences if one.fate is Fate.MISPLACED]
    corrupt = [one for one in differences if one.fate is Fate.CORRUPT]
    rest = [one for one in differences if one.fate not in (Fate.STALE, Fate.LOCAL, Fate.MISPLACED, Fate.CORRUPT)]
    if never:
        yield f"{listed(one.key for one in never)} {_are(never)} never synchronised"
    if misplaced:
        first = misplaced[0]
        source = f" (`{first.key}` the average of `{first.source_key}`)" if first.source_key else ""
        yield f"{listed(one.key for one in misplaced)} {_get(misplaced)} the tensor of another entry{source}"
    if corrupt:
        yield f"{listed(one.key for one in corrupt)} {_are(corrupt)} {memory}"
    if rest:
        yield f"{listed(one.key for one in rest)} {_are(rest)} never given {_their(rest)} own average"


def _mishap(differences: Sequence[Difference], corrupt: str) -> str:
    fates = {difference.fate for difference in differences}
    if fates == {Fate.CORRUPT}:
        return corrupt
    if fates == {Fate.MISPLACED}:
        return "get the tensor of another entry"
    return "do not stay with their party"


def _are(some: Sequence[object]) -> str:
    return "is" if len(some) == 1 else "are"


def _get(some: Sequence[object]) -> str:
    return "gets" if len(some) == 1 else "get"


def _their(some: Sequence[object]) -> str:
    return "its" if len(some) == 1 else "their"


def consequences(possibilities: Sequence[Possibility], of: Part = "all") -> str:
    """What each possibility comes to: said once where all agree, else with what was assumed."""
    by_text: dict[str, list[Possibility]] = {}
    for way in possibilities:
        text = consequence(way.outcome, of) or consequence(way.outcome)
        by_text.setdefault(text, []).append(way)
    if len(by_text) == 1:
        return next(iter(by_text))
    always = {text for text in possibilities[0].assumed if all(text in way.assumed for way in possibilities)}
    shown = [_assumptions(ways, always) + text for text, ways in list(by_text.items())[: SHOWN + 1]]
    more = len(by_text) - len(shown)
    sentence = "; ".join([*(text.rstrip(".") for text in shown[:-1]), shown[-1]])
    return f"{sentence.rstrip('.')}; and {more} more, all wrong" if more else sentence


def _assumptions(ways: Sequence[Possibility], always: set[str]) -> str:
    """What sets these possibilities apart, as a clause before a sentence; "" if it is not known."""
    assumed = [[text for text in way.assumed if text not in always] for way in ways]
    common = [text for text in assumed[0] if all(text in texts for texts in assumed)]
    clauses = [common] if common else assumed
    sentence = " or ".join(dict.fromkeys(" and ".join(texts) for texts in clauses if texts))
    return f"{sentence}, " if sentence else ""


def trail(case: FLModelCase, norms: Callable[[Possibility], Iterable[NormLayer]]) -> tuple[Evidence, ...]:
    """The evidence of a finding at the call: how the call is reached, where the model comes from, the layers, the
    settings.

    Of each reading's layers the first places are named, each place once. What stands inside the finding's own place is
    before the reader's eyes already.
    """
    steps: list[Evidence] = list(case.site.through)
    if case.site.call != case.site.location:
        steps.append(Evidence(case.site.call, "FLModel is called here"))
    for reading in case.readings:
        steps.extend(reading.model_trail)
    told: set[Location] = set()
    for way in case.possibilities:
        places: dict[Location, NormLayer] = {}
        for norm in norms(way):
            if norm.location is not None:
                places.setdefault(norm.location, norm)
        for place, norm in list(places.items())[:PLACES]:
            steps.append(Evidence(place, describe(way.reading, norm)))
            if norm.path.endswith(SOMEWHERE):
                told.add(place)  # of which the source shows nothing
    for reading in case.readings:
        steps.extend(reading.settings_trail)
    kept: dict[Location, Evidence] = {}
    for step in steps:
        if step.location in told or not _inside(step.location, case.site.location):
            kept.setdefault(step.location, step)
    return tuple(kept.values())


def _inside(inner: Location, outer: Location) -> bool:
    return (
        (inner.path, inner.cell) == (outer.path, outer.cell)
        and (inner.line, inner.column) >= (outer.line, outer.column)
        and (inner.end_line, inner.end_column) <= (outer.end_line, outer.end_column)
    )


def describe(reading: FLModelCall, norm: NormLayer) -> str:
    """``this BatchNorm2d is `layer1.0.bn1` of `ResNet```, with how many more the same line makes."""
    if norm.path.endswith(SOMEWHERE):
        return f"the settings say that what is made here has BatchNorm: {listed([norm.path])} of {model_name(reading)}"
    model = reading.model
    paths = [norm.path]
    if model is not None and norm.location is not None:
        paths = [other.path for other in model.norms if other.location == norm.location]
    return f"this {norm.type} is {listed(path or 'the root' for path in paths)} of {model_name(reading)}"
