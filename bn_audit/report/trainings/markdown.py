"""Markdown for a pull request: how the ways of sharing end, and the table of accuracies."""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.report.trainings.tables import accuracy_rows, conditions, faults, legend, sentence, trained_on
from bn_audit.report.verifications import Look
from bn_audit.report.verifications import markdown as verifications
from bn_audit.report.verifications.markdown import code, escaped, table
from bn_audit.training import Trained, Training

__all__ = ["render"]


def render(trained: Trained, look: Look) -> Iterator[str]:
    """The verification, if there is one, and the training below it."""
    if trained.verification is not None:
        yield from verifications.render(trained.verification, look)
        yield ""
    yield from _training(trained.training)


def _training(training: Training) -> Iterator[str]:
    yield f"### bn-audit verify --train: {code(training.target)}"
    yield ""
    yield f"Trained by {escaped(trained_on(training))}. {escaped(conditions(training))}."
    yield ""
    yield f"**{escaped(sentence(training))}.**"
    *rows, mean = accuracy_rows(training)
    cells = [tuple(escaped(cell) for cell in row) for row in rows]
    bold = tuple(f"**{cell}**" for cell in mean)
    head = ("Party", *(curves.method for curves in training.curves))
    yield from table(head, [*cells, bold], right=frozenset(range(1, len(head))))
    yield ""
    yield f"<sub>{escaped(legend(training))}</sub>"
    for note in (*faults(training), *training.notes):
        yield from ("", f"> {escaped(note)}")
