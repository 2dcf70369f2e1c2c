"""Text for people: the verdict, what the fates of the entries are, and what stops the round."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import click

from bn_audit.parties import PartiesReport
from bn_audit.report.columns import columns, wrapped
from bn_audit.report.groups import fate_meanings
from bn_audit.report.verifications import Look, Subject
from bn_audit.report.verifications.tables import (
    Group,
    entry_words,
    groups,
    parties_cells,
    parties_sentence,
    sentence,
    setting_words,
    verified_cells,
)
from bn_audit.report.words import count, enumerate_words, printable
from bn_audit.verification import Contrast, Verdict, Verification

__all__ = ["render"]

INDENT = "  "
LINES = 3
"""Lines that the entries of one group may take."""

_VERDICTS = {
    Verdict.RIGHT: "green",
    Verdict.WRONG: "red",
    Verdict.STOPS: "red",
    Verdict.DISAGREES: "magenta",
    Verdict.OPEN: "blue",
}
_ERROR_LINES = 6
"""Lines of a long error that are shown: torch names every entry of which it complains."""

_ENGINES = {
    "contract": "the plan executed on tensors",
    "wheel": "the framework's own classes",
    "secretflow": "the installed framework",
    "flower": "the installed Flower's simulation",
    "ray": "the installed framework, its parties processes of Ray",
}


def render(subject: Subject, look: Look) -> Iterator[str]:
    """The subject in sections, as wide as the terminal."""
    if isinstance(subject, PartiesReport):
        yield from _parties(subject, look)
    elif isinstance(subject, Contrast):
        yield from _contrast(subject, look)
    else:
        yield from _verification(subject, look)


def _verification(verification: Verification, look: Look) -> Iterator[str]:
    bold = _painter(look, bold=True)
    yield f"{bold(printable(verification.target))}: {printable(setting_words(verification.settings))}"
    ran = (
        f"{verification.parties} parties, {count(verification.rounds, 'round')}; "
        f"{_ENGINES[verification.engine]}, beside the reference FedBN"
    )
    yield from wrapped(ran, look.width, first=INDENT, indent=INDENT)
    yield ""
    yield from _verdict(verification.verdict.value, sentence(verification), _VERDICTS[verification.verdict], look)
    yield from _details(verification, look)


def _details(verification: Verification, look: Look) -> Iterator[str]:
    stop = verification.stop
    if stop is not None and "\n" in stop.text:
        yield ""
        lines = str(stop).splitlines()
        more = 0 if look.every or len(lines) <= _ERROR_LINES + 1 else len(lines) - _ERROR_LINES
        which = "The error's first lines" if more else "The error in full"
        yield _painter(look, dim=True)(f"{INDENT}{which}{'' if stop.exact else ', most likely'}")
        yield from (f"{INDENT * 2}{printable(line.expandtabs(4))}" for line in lines[: len(lines) - more])
        if more:
            yield _painter(look, dim=True)(f"{INDENT * 2}and {count(more, 'more line')}; --all shows them")
    for disagreement in verification.disagreements:
        yield from wrapped(printable(disagreement), look.width, first=f"{INDENT}- ", indent=INDENT * 2)
    if verification.entries:
        yield ""
        head = ("FedBN wants", "the plan says", "measured")
        entries = verification.entries
        if look.every:
            rows = [(printable(one.entry.key), *verified_cells(one, single=True)) for one in entries]
            marks = [None if one.right is None else not one.right for one in entries]
            yield from _rows(("key", *head, "off by"), rows, marks, 3, look)
        else:
            found = groups(
                entries, verified_cells, lambda one: (one.entry.key, one.entry.module), lambda one: one.right
            )
            yield from _grouped(head, found, 2, look)
        dim = _painter(look, dim=True)
        for meaning in fate_meanings(cell for one in entries for cell in verified_cells(one)[1:]):
            yield dim(f"{INDENT}{meaning}")
    for note in verification.notes:
        yield from wrapped(printable(note), look.width, first=f"{INDENT}note: ", indent=INDENT * 4)


def _contrast(contrast: Contrast, look: Look) -> Iterator[str]:
    bold = _painter(look, bold=True)
    for word, verification in (("before", contrast.before), ("after", contrast.after)):
        yield f"{bold(word)}: {printable(verification.target)}: {printable(setting_words(verification.settings))}"
        still = word == "after" and not (verification.ok or contrast.before.ok)
        label = f"still {verification.verdict.value}" if still else verification.verdict.value
        text = sentence(verification)
        yield from _verdict(label, text, _VERDICTS[verification.verdict], look)
        yield from _details(verification, look)
        if word == "before":
            yield ""


def _parties(report: PartiesReport, look: Look) -> Iterator[str]:
    bold = _painter(look, bold=True)
    since = ", with the state before" if report.previous else ""
    yield f"{bold('Round')}: {enumerate_words([printable(name) for name in report.parties])}{since}"
    yield ""
    yield from _verdict(
        "right" if report.ok else "wrong", parties_sentence(report), "green" if report.ok else "red", look
    )
    entries = report.entries
    if entries:
        yield ""
        head = ("FedBN leaves", "found")
        if look.every:
            rows = [(printable(one.key), *parties_cells(one), printable(one.detail)) for one in entries]
            marks: list[bool | None] = [not one.standing.right for one in entries]
            yield from _rows(("key", *head, "detail"), rows, marks, 2, look)
        else:
            found = groups(
                entries,
                parties_cells,
                lambda one: (one.key, one.key.rpartition(".")[0]),
                lambda one: one.standing.right,
            )
            yield from _grouped(head, found, 1, look)
            yield from _party_details(report, look)
    for note in report.notes:
        yield from wrapped(printable(note), look.width, first=f"{INDENT}note: ", indent=INDENT * 4)


_TOLD = 10
"""Wrong entries that are told one by one."""


def _party_details(report: PartiesReport, look: Look) -> Iterator[str]:
    wrong = [one for one in report.wrong if one.detail]
    if wrong:
        yield ""
    for one in wrong[:_TOLD]:
        line = f"{printable(one.key)}: {printable(one.detail)}"
        yield from wrapped(line, look.width, first=INDENT, indent=INDENT * 2)
    if len(wrong) > _TOLD:
        yield f"{INDENT}and {entry_words(len(wrong) - _TOLD)} more; --all lists them"


def _verdict(word: str, text: str, color: str, look: Look) -> Iterator[str]:
    lines = list(wrapped(f"{word}: {printable(text)}", look.width - len(INDENT), first=INDENT, indent=INDENT))
    yield lines[0].replace(word, _painter(look, fg=color, bold=True)(word), 1)
    yield from lines[1:]


def _grouped(head: Sequence[str], found: Sequence[Group], marked: int, look: Look) -> Iterator[str]:
    whole = (*head, "entries", "of")
    fixed = [(*group.cells, str(len(group.keys))) for group in found]
    used = sum(max(len(row[column]) for row in (whole, *fixed)) + 2 for column in range(len(head) + 1)) + len(INDENT)
    room = max(look.width - used, 24)
    rows = [
        (*cells, _shortened([printable(place) for place in group.places], room * LINES - room // 3))
        for cells, group in zip(fixed, found, strict=True)
    ]
    yield from _rows(whole, rows, [group.wrong for group in found], marked, look, right=frozenset({len(head)}))


def _rows(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    wrong: Sequence[bool | None],
    marked: int,
    look: Look,
    right: frozenset[int] = frozenset(),
) -> Iterator[str]:
    colors = {True: "red", False: "green", None: "blue"}

    def paint(row: int, column: int, text: str) -> str:
        if row == 0:
            return _painter(look, dim=True)(text)
        return _painter(look, fg=colors[wrong[row - 1]])(text) if column == marked else text

    lines = columns([head, *rows], right=right, paint=paint, width=look.width - len(INDENT))
    yield from (f"{INDENT}{line}" for line in lines)


def _shortened(names: Sequence[str], width: int) -> str:
    shown: list[str] = []
    for name in names:
        if shown and len(", ".join([*shown, name])) > width:
            return f"{', '.join(shown)} and {len(names) - len(shown)} more"
        shown.append(name)
    return ", ".join(shown)


def _painter(
    look: Look, *, fg: str | None = None, bold: bool | None = None, dim: bool | None = None
) -> Callable[[str], str]:
    return partial(click.style, fg=fg, bold=bold, dim=dim) if look.color else str
