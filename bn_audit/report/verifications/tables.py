"""What the formats for people share: sentences, and tables in which like entries stand together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from bn_audit.exchange.plan import ANY, Fate
from bn_audit.parties import PartiesReport, PartyEntry, Standing
from bn_audit.report.settings_words import other_settings
from bn_audit.report.words import count, enumerate_words
from bn_audit.verification import Stop, Verdict, Verification, VerifiedEntry

__all__ = [
    "Group",
    "entry_words",
    "fates",
    "groups",
    "off_by",
    "parties_cells",
    "parties_sentence",
    "places",
    "sentence",
    "setting_words",
    "stop_words",
    "verified_cells",
]

Entry = TypeVar("Entry", VerifiedEntry, PartyEntry)


@dataclass(frozen=True, slots=True)
class Group:
    """Entries whose cells are the same.

    Attributes:
        cells: what they share.
        wrong: whether they are not what FedBN wants; None if that is not settled.
        keys: in order.
        places: their modules, where all entries of one are here; else their keys.
    """

    cells: tuple[str, ...]
    wrong: bool | None
    keys: tuple[str, ...]
    places: tuple[str, ...]


def sentence(verification: Verification) -> str:
    """The verdict in one sentence."""
    rounds = count(verification.rounds, "round")
    total = len(verification.entries)
    match verification.verdict:
        case Verdict.RIGHT:
            local = sum(Fate.LOCAL in entry.expected for entry in verification.entries)
            kept = f"{entry_words(local)} local" if local else "no BatchNorm to keep local"
            return f"after {rounds} the state equals FedBN's: {entry_words(total - local)} averaged, {kept}"
        case Verdict.STOPS:
            assert verification.stop is not None
            return f"{stop_words(verification.stop)}, with {_short(str(verification.stop))}"
        case Verdict.WRONG if verification.drifts:
            return f"{rounds} ran, and the parties drift apart: what is averaged does not end up the same in all"
        case Verdict.WRONG:
            wrong = len(verification.wrong)
            kinds: dict[str, int] = {}
            for entry in verification.wrong:
                word = fates(entry.measured[:1] or entry.planned)
                kinds[word] = kinds.get(word, 0) + 1
            told = enumerate_words([f"{number} {word}" for word, number in kinds.items()])
            # In SecretFlow uninitialised memory decides whether a load of it raises; Flower makes a zero of it.
            secretflow = dict(verification.settings).get("framework") == "secretflow"
            chance = secretflow and any(Fate.CORRUPT in entry.planned for entry in verification.entries)
            ran = f"{rounds} may run without an error, by chance" if chance else f"{rounds} ran without an error"
            return f"{ran}, and {wrong} of {entry_words(total)} are not what FedBN leaves: {told}"
        case Verdict.DISAGREES:
            return (
                "the plan and the framework's own classes disagree, so neither proves anything; "
                "please report it with the model's state"
            )
        case Verdict.OPEN:
            return "not proven: the plan leaves open what happens"


def stop_words(stop: Stop) -> str:
    """When a round stops."""
    return "before any training" if stop.round == 0 else f"in round {stop.round}"


def parties_sentence(report: PartiesReport) -> str:
    """The verdict on a round, in one sentence."""
    total = len(report.entries)
    local = sum(entry.standing is Standing.LOCAL for entry in report.entries)
    if report.ok:
        kept = f"{entry_words(local)} of norm layers local" if local else "no norm layer to keep local"
        return f"the round left what FedBN leaves: {entry_words(total - local)} equal in all parties, {kept}"
    found = [
        f"{number} {standing.value}"
        for standing in Standing
        if not standing.right and (number := sum(entry.standing is standing for entry in report.entries))
    ]
    return f"{len(report.wrong)} of {entry_words(total)} are not what FedBN leaves: {enumerate_words(found)}"


def entry_words(number: int) -> str:
    """``1 entry``, ``2 entries``."""
    return f"{number} {'entry' if number == 1 else 'entries'}"


def setting_words(settings: Sequence[tuple[str, str]]) -> str:
    """``fed_avg_w, plain, skip_bn=True (secretflow, torch 2.13.0)``."""
    known = dict(settings)
    if known.get("framework") != "secretflow":
        return other_settings(settings)
    release = f" {known['secretflow_version']}" if "secretflow_version" in known else ""
    torch = f", torch {known['torch_version'].partition('+')[0]}" if "torch_version" in known else ""
    wrapped = ", local_batchnorm" if "local_batchnorm" in known else ""
    return (
        f"{known.get('strategy')}, {known.get('aggregator')}, skip_bn={known.get('skip_bn')}{wrapped} "
        f"({known.get('framework')}{release}{torch})"
    )


def fates(known: Sequence[Fate] | frozenset[Fate], source_key: str | None = None) -> str:
    """Fates in words: ``stale``, ``misplaced (of fc1.bias)``, ``stale or averaged``; "-" if there is none."""
    if frozenset(known) >= ANY:
        return "open"
    ordered = sorted(known, key=list(Fate).index) if isinstance(known, frozenset) else known
    source = f" (of {source_key})" if source_key is not None else ""
    return (" or ".join(fate.value for fate in ordered) or "-") + source


def off_by(entry: VerifiedEntry) -> str:
    """The distance from FedBN's value; "0" for no more than rounding."""
    if entry.deviation is None:
        return "-"
    if entry.deviation != entry.deviation:
        return "NaN"
    return "0" if entry.right or entry.deviation == 0 else f"{entry.deviation:.2g}"


def verified_cells(entry: VerifiedEntry, *, single: bool = False) -> tuple[str, ...]:
    """What FedBN wants, what the plan says, and what was measured.

    Args:
        single: for an entry by itself, with whose tensor it gets and how far off it is.
    """
    measured = entry.measured[:1] if entry.measured and entry.measured[0] in entry.planned else entry.measured
    cells = (fates(entry.expected), fates(entry.planned, entry.source_key if single else None), fates(measured))
    return (*cells, off_by(entry)) if single else cells


def parties_cells(entry: PartyEntry) -> tuple[str, ...]:
    """What FedBN leaves, and what was found."""
    return ("local" if entry.norm else "equal", entry.standing.value)


def groups(
    entries: Sequence[Entry],
    cells: Callable[[Entry], tuple[str, ...]],
    named: Callable[[Entry], tuple[str, str]],
    right: Callable[[Entry], bool | None],
) -> list[Group]:
    """Entries with the same cells together, the wrong ones first.

    Args:
        named: an entry's key and module.
        right: whether it is what FedBN wants.
    """
    found: dict[tuple[tuple[str, ...], bool | None], list[Entry]] = {}
    for entry in entries:
        found.setdefault((cells(entry), right(entry)), []).append(entry)
    whole: dict[str, int] = {}
    for entry in entries:
        whole[named(entry)[1]] = whole.get(named(entry)[1], 0) + 1
    order = {False: 0, None: 1, True: 2}
    listed = sorted(found.items(), key=lambda item: order[item[0][1]])
    return [
        Group(
            shared,
            None if fine is None else not fine,
            tuple(named(member)[0] for member in members),
            places([named(member) for member in members], whole),
        )
        for (shared, fine), members in listed
    ]


def places(members: Sequence[tuple[str, str]], whole: dict[str, int]) -> tuple[str, ...]:
    """Modules, where all entries of one are among the members; keys otherwise."""
    here: dict[str, list[str]] = {}
    for key, module in members:
        here.setdefault(module, []).append(key)
    found: list[str] = []
    for module, keys in here.items():
        found.extend([module] if module and len(keys) == whole[module] > 1 else keys)
    return tuple(found)


def _short(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    more = f" {lines[1]}{' ...' if len(lines) > 2 else ''}" if len(lines) > 1 else ""
    return f"{lines[0]}{more}".rstrip(".")
