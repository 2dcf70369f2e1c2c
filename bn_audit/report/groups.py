"""Summaries that keep a large model readable: entries of one fate together, norm layers of one kind together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from bn_audit.exchange.plan import ANY, Fate
from bn_audit.health import NormHealth
from bn_audit.inspection import Cell, EntryFate, InspectedNorm, Verdict
from bn_audit.profile import NormLayer

__all__ = [
    "FateGroup",
    "MatrixRow",
    "NormGroup",
    "expected_words",
    "fate_groups",
    "fate_meanings",
    "fate_words",
    "health_words",
    "matrix_rows",
    "momentum_words",
    "norm_groups",
    "shortened",
    "yes_no",
]


@dataclass(frozen=True, slots=True)
class FateGroup:
    """Entries of one expectation and one fate. ``places`` names their layers; keys, where a layer's entries part."""

    expected: str
    fate: str
    wrong: bool
    entries: tuple[EntryFate, ...]
    places: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NormGroup:
    """Norm layers that differ in nothing but path and size, in module order."""

    norms: tuple[InspectedNorm, ...]

    @property
    def features(self) -> str:
        """``64``, ``64 to 2048``; "?" where it is not known."""
        sizes = sorted({norm.layer.features for norm in self.norms if norm.layer.features is not None})
        if not sizes:
            return "?"
        return str(sizes[0]) if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"


@dataclass(frozen=True, slots=True)
class MatrixRow:
    """Aggregators with which a strategy comes to the same, without and with ``skip_bn``."""

    strategy: str
    aggregators: tuple[str, ...]
    without: Verdict
    skipping: Verdict


def fate_groups(entries: Sequence[EntryFate]) -> tuple[FateGroup, ...]:
    """Entries by what is expected of them and what they meet: what goes wrong first."""
    groups: dict[tuple[bool, str, str], list[EntryFate]] = {}
    for one in entries:
        groups.setdefault((not one.wrong, expected_words(one), fate_words(one)), []).append(one)
    found = [
        FateGroup(expected, fate, not fine, tuple(members), _places(members, entries))
        for (fine, expected, fate), members in groups.items()
    ]
    return tuple(sorted(found, key=lambda group: not group.wrong))


def expected_words(one: EntryFate) -> str:
    """What FedBN wants of an entry."""
    return one.expected.value if one.expected is not None else "local or averaged"


def fate_words(one: EntryFate) -> str:
    """What an entry meets; "" where no settings were given."""
    if one.possible >= ANY:
        return "not known"
    return " or ".join(fate.value for fate in Fate if fate in one.possible)


_MEANINGS = {
    Fate.STALE: "no mean of the parties reaches it",
    Fate.MISPLACED: "gets another entry's tensor",
    Fate.CORRUPT: "gets a value that is no party's and no mean",
    Fate.FAILS: "the round stops there",
}


def fate_meanings(cells: Iterable[str]) -> Iterator[str]:
    """What those words for fates say that do not speak for themselves, as far as they are in some cells."""
    words = {word for cell in cells for word in cell.split()}
    for fate, meaning in _MEANINGS.items():
        if fate.value in words:
            yield f"{fate.value}: {meaning}"


def _places(members: Sequence[EntryFate], entries: Sequence[EntryFate]) -> tuple[str, ...]:
    whole: dict[str, int] = {}
    for one in entries:
        whole[one.entry.module] = whole.get(one.entry.module, 0) + 1
    here: dict[str, list[EntryFate]] = {}
    for one in members:
        here.setdefault(one.entry.module, []).append(one)
    places: list[str] = []
    for module, parts in here.items():
        if module and len(parts) == whole[module] > 1:
            places.append(module)
        else:
            places.extend(one.entry.key for one in parts)
    return tuple(places)


def norm_groups(norms: Sequence[InspectedNorm], *, separate: bool) -> tuple[NormGroup, ...]:
    """Norm layers of one kind, or each by itself."""
    if separate:
        return tuple(NormGroup((norm,)) for norm in norms)
    groups: dict[tuple[object, ...], list[InspectedNorm]] = {}
    for norm in norms:
        layer = norm.layer
        kind = layer.type, momentum_words(layer), layer.eps, layer.affine, health_words(norm), norm.depth
        groups.setdefault(kind, []).append(norm)
    return tuple(NormGroup(tuple(members)) for members in groups.values())


def momentum_words(layer: NormLayer) -> str:
    """``0.1``; ``cumulative`` for torch's ``momentum=None``; "-" where there are no statistics to update."""
    if layer.tracked is False:
        return "-"
    if layer.cumulative:
        return "cumulative"
    return "?" if layer.momentum is None else f"{layer.momentum:g}"


def health_words(norm: InspectedNorm) -> str:
    """How the statistics of a layer are, in a few words."""
    if norm.layer.tracked is False:
        return "none"
    if norm.layer.lazy:
        return "uninitialised"
    health = norm.health
    if health is not None and not health.saved:
        return "not saved"
    if health is None or not health.known:
        return "not at hand"
    faults = _faults(health)
    if faults:
        return ", ".join(faults)
    return "untrained" if health.untrained else "sound"


def _faults(health: NormHealth) -> list[str]:
    counts = ((health.nan, "NaN"), (health.inf, "inf"), (health.negative, "negative"), (health.zero, "zero"))
    return [f"{number} {what}" for number, what in counts if number]


def yes_no(known: bool | None) -> str:
    """``yes``, ``no``, and "?" for what is not known."""
    return "?" if known is None else ("yes" if known else "no")


def matrix_rows(cells: Sequence[Cell]) -> tuple[MatrixRow, ...]:
    """The cells by strategy, aggregators of the same outcome together."""
    pairs: dict[tuple[str, str], dict[bool, Verdict]] = {}
    for cell in cells:
        pairs.setdefault((cell.strategy, cell.aggregator), {})[cell.skip_bn] = cell.verdict
    rows: dict[tuple[str, Verdict, Verdict], list[str]] = {}
    for (strategy, aggregator), both in pairs.items():
        rows.setdefault((strategy, both[False], both[True]), []).append(aggregator)
    order = list(dict.fromkeys(cell.strategy for cell in cells))
    found = [MatrixRow(strategy, tuple(names), *both) for (strategy, *both), names in rows.items()]
    return tuple(sorted(found, key=lambda row: order.index(row.strategy)))


def shortened(names: Iterable[str], width: int) -> str:
    """``a, b, c`` as far as it fits, then ``... and 12 more``; the last names it, where it saves nothing."""
    listed = list(names)
    text = ", ".join(listed)
    if len(text) <= width:
        return text
    shown: list[str] = []
    for name in listed:
        if shown and len(", ".join([*shown, name])) > width - len(f", and {len(listed)} more"):
            break
        shown.append(name)
    rest = len(listed) - len(shown)
    return f"{', '.join(shown)} and {rest} more" if rest else text
