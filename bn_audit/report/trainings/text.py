"""Text for people: what was trained, how the ways of sharing end, and the parties' accuracies."""

from __future__ import annotations

from collections.abc import Iterator

import click

from bn_audit.report.columns import columns, wrapped
from bn_audit.report.trainings.tables import accuracy_rows, conditions, faults, legend, sentence, trained_on
from bn_audit.report.verifications import Look
from bn_audit.report.verifications import text as verifications
from bn_audit.report.words import printable
from bn_audit.training import Trained, Training

__all__ = ["render"]

INDENT = "  "
MANY = 20
"""Parties that are listed unless all are asked for."""


def render(trained: Trained, look: Look) -> Iterator[str]:
    """The verification, if there is one, and the training below it."""
    if trained.verification is not None:
        yield from verifications.render(trained.verification, look)
        yield ""
    lines = _training(trained.training, look)
    yield from lines if not look.ascii_only else (line.replace("±", "+-") for line in lines)


def _training(training: Training, look: Look) -> Iterator[str]:
    name = printable(training.target)
    yield f"{click.style(name, bold=True) if look.color else name}: trained in federation"
    for line in (trained_on(training), conditions(training)):
        yield from wrapped(printable(line), look.width, first=INDENT, indent=INDENT)
    yield ""
    yield from wrapped(sentence(training), look.width, first=INDENT, indent=INDENT)
    yield ""
    rows = [tuple(printable(cell) for cell in row) for row in accuracy_rows(training)]
    shown = rows if look.every or len(rows) <= MANY + 1 else [*rows[:MANY], rows[-1]]
    table = [("party", *(curves.method for curves in training.curves)), *shown]

    def paint(row: int, column: int, text: str) -> str:
        if not look.color:
            return text
        return click.style(text, dim=True) if row == 0 else click.style(text, bold=row == len(table) - 1)

    right = frozenset(range(1, len(table[0])))
    yield from (f"{INDENT}{line}" for line in columns(table, right=right, paint=paint))
    if len(shown) < len(rows):
        yield f"{INDENT}and {len(rows) - len(shown)} more parties, which the mean counts; --all lists them"
    yield ""
    yield from wrapped(legend(training), look.width, first=INDENT, indent=INDENT)
    for note in (*faults(training), *training.notes):
        yield from wrapped(printable(note), look.width, first=f"{INDENT}note: ", indent=INDENT * 4)
