"""Markdown for a pull request: the verdict first, the tables below it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from bn_audit.parties import PartiesReport
from bn_audit.report.verifications import Look, Subject
from bn_audit.report.verifications.tables import (
    Group,
    groups,
    parties_cells,
    parties_sentence,
    sentence,
    setting_words,
    verified_cells,
)
from bn_audit.report.words import enumerate_words, printable
from bn_audit.verification import Contrast, Verification

__all__ = ["code", "escaped", "render", "table"]

MANY = 12
"""Names that a cell lists."""

_SPECIAL = frozenset("\\`*_[]<>#~|")


def render(subject: Subject, look: Look) -> Iterator[str]:
    """The subject under a heading of level 3, as a comment has it."""
    if isinstance(subject, PartiesReport):
        yield from _parties(subject, look)
    elif isinstance(subject, Contrast):
        yield f"### bn-audit verify: {code(subject.after.target)}"
        for word, verification in (("Before", subject.before), ("After", subject.after)):
            yield ""
            yield f"#### {word}: {escaped(setting_words(verification.settings))}"
            yield from _verification(verification, look)
    else:
        yield f"### bn-audit verify: {code(subject.target)}"
        yield ""
        yield f"{escaped(setting_words(subject.settings))}; {subject.parties} parties, engine {subject.engine}."
        yield from _verification(subject, look)


def _verification(verification: Verification, look: Look) -> Iterator[str]:
    yield ""
    yield f"**{verification.verdict.value.capitalize()}**: {escaped(sentence(verification))}."
    if verification.stop is not None:
        yield from (
            "",
            "```text",
            *(printable(line.expandtabs(4)) for line in str(verification.stop).splitlines()),
            "```",
        )
    for disagreement in verification.disagreements:
        yield f"- {escaped(disagreement)}"
    head = ("FedBN wants", "The plan says", "Measured")
    if look.every:
        rows = [(code(one.entry.key), *verified_cells(one, single=True)) for one in verification.entries]
        yield from table(("Entry", *head, "Off by"), rows)
    else:
        found = groups(
            verification.entries, verified_cells, lambda one: (one.entry.key, one.entry.module), lambda one: one.right
        )
        yield from table((*head, "Entries", "Of"), _rows(found))
    for note in verification.notes:
        yield from ("", f"> {escaped(note)}")


def _parties(report: PartiesReport, look: Look) -> Iterator[str]:
    yield f"### bn-audit verify: {enumerate_words([code(name) for name in report.parties])}"
    yield ""
    yield f"**{'Right' if report.ok else 'Wrong'}**: {escaped(parties_sentence(report))}."
    head = ("FedBN leaves", "Found")
    if look.every:
        rows = [(code(one.key), *parties_cells(one), escaped(one.detail)) for one in report.entries]
        yield from table(("Entry", *head, "Detail"), rows)
    else:
        found = groups(
            report.entries,
            parties_cells,
            lambda one: (one.key, one.key.rpartition(".")[0]),
            lambda one: one.standing.right,
        )
        yield from table((*head, "Entries", "Of"), _rows(found))
        told = [one for one in report.wrong if one.detail]
        yield from [""] if told else []
        yield from (f"- {code(one.key)}: {escaped(one.detail)}" for one in told)
    for note in report.notes:
        yield from ("", f"> {escaped(note)}")


def _rows(found: Sequence[Group]) -> list[tuple[str, ...]]:
    rows = []
    for group in found:
        names = ", ".join(code(place) for place in group.places[:MANY])
        more = f" and {len(group.places) - MANY} more" if len(group.places) > MANY else ""
        cells = [f"**{cell}**" if group.wrong and number else cell for number, cell in enumerate(group.cells)]
        rows.append((*cells, str(len(group.keys)), names + more))
    return rows


def table(head: Sequence[str], rows: Sequence[Sequence[str]], right: frozenset[int] = frozenset()) -> Iterator[str]:
    """A table below an empty line, and nothing where there are no rows.

    Args:
        right: the columns that are set flush right.
    """
    if rows:
        yield ""
        yield f"| {' | '.join(head)} |"
        yield "|" + "".join("---:|" if column in right else "---|" for column in range(len(head)))
        yield from (f"| {' | '.join(row)} |" for row in rows)


def code(text: str) -> str:
    """A code span in which no backtick ends it and no pipe ends a cell of a table."""
    shown = printable(text).replace("|", "\\|")
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    space = " " if shown.startswith("`") or shown.endswith("`") else ""
    return f"{fence}{space}{shown}{space}{fence}"


def escaped(text: str) -> str:
    """Text without anything that Markdown acts upon."""
    return "".join(f"\\{character}" if character in _SPECIAL else character for character in printable(text))
