"""Markdown for a pull request: the verdict first, the long tables folded."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from bn_audit.inspection import Inspection, Judgement
from bn_audit.report.groups import (
    expected_words,
    fate_groups,
    fate_words,
    health_words,
    matrix_rows,
    momentum_words,
    norm_groups,
    shortened,
    yes_no,
)
from bn_audit.report.inspections import Look
from bn_audit.report.inspections.text import LEGEND, MANY, NONE_RIGHT, entries, settings_words
from bn_audit.report.settings_words import FRAMEWORKS, option_words
from bn_audit.report.words import count, printable

__all__ = ["render"]

LINE = 300
"""Characters that the layers of one fate may take in a cell."""


def render(inspection: Inspection, look: Look) -> Iterator[str]:
    """The inspection under a heading of level 3, as a comment has it."""
    profile = inspection.profile
    yield f"### bn-audit: {_code(inspection.target)}"
    yield ""
    subject = f"{_code(profile.type)}, " if profile.type else ""
    yield f"{subject}{entries(len(profile.entries))}, {count(len(inspection.norms), 'norm layer')}."
    for note in inspection.notes:
        yield ""
        yield f"> {_escaped(note)}"
    if inspection.judgement is not None:
        yield from _judgement(inspection, inspection.judgement, look)
    elif inspection.matrix:
        yield from _matrix(inspection)
    for finding in inspection.findings:
        yield ""
        yield f"- **{finding.code}** {finding.name} [{finding.severity.value}]: {_prose(finding.message)}"
        if finding.help is not None:
            yield f"  <br>Help: {_prose(finding.help)}"
    if inspection.norms:
        yield from _folded("Norm layers", _norms(inspection, look))
    if inspection.summary:
        yield from _folded("State", _state(inspection))


def _judgement(inspection: Inspection, judgement: Judgement, look: Look) -> Iterator[str]:
    yield ""
    settings, sentence = _escaped(settings_words(judgement)), _prose(judgement.sentence.rstrip("."))
    yield f"**{judgement.verdict.value.capitalize()}** under {settings}: {sentence}."
    error = inspection.error
    if look.every and error is not None and "\n" in error.text:
        yield from _folded("The error in full", ["```", *f"{error.type}: {error.text}".splitlines(), "```"])
    if look.every:
        rows = [
            (_code(one.entry.key), expected_words(one), _marked(fate_words(one), one.wrong), _source(one.source_key))
            for one in inspection.entries
        ]
        table = list(_table(("Entry", "FedBN wants", "The round gives", "Tensor of"), rows))
        yield from _folded("Every entry", table)
    elif inspection.entries:
        yield ""
        yield from _table(
            ("FedBN wants", "The round gives", "Entries", "Of"),
            [
                (one.expected, _marked(one.fate, one.wrong), str(len(one.entries)), _code(shortened(one.places, LINE)))
                for one in fate_groups(inspection.entries)
            ],
        )
    for note in judgement.plan.notes:
        yield ""
        yield f"> {_escaped(note)}"


def _matrix(inspection: Inspection) -> Iterator[str]:
    rows = matrix_rows(inspection.matrix)
    yield ""
    yield from _table(
        ("Strategy", "Aggregator", "`skip_bn=False`", "`skip_bn=True`"),
        [(_code(row.strategy), ", ".join(row.aggregators), row.without.value, row.skipping.value) for row in rows],
    )
    used = {verdict for row in rows for verdict in (row.without, row.skipping)}
    used |= {verdict for one in inspection.choices for verdict in (one.everything, one.keeping)}
    yield ""
    yield "; ".join(f"*{verdict.value}*: {meaning}" for verdict, meaning in LEGEND.items() if verdict in used) + "."
    if inspection.choices:
        yield ""
        yield from _table(
            ("Framework", "Exchanged", "Strategy", "Everything", "Norm layers kept"),
            [
                (
                    FRAMEWORKS[one.framework],
                    option_words(one.options),
                    ", ".join(map(_code, one.strategies)),
                    one.everything.value,
                    one.keeping.value,
                )
                for one in inspection.choices
            ],
        )
    if inspection.advice is not None:
        yield ""
        yield f"{_escaped(NONE_RIGHT)} {_prose(inspection.advice)}."


def _norms(inspection: Inspection, look: Look) -> Iterator[str]:
    groups = norm_groups(inspection.norms, separate=look.every or len(inspection.norms) <= MANY)
    rows = []
    for group in groups:
        first = group.norms[0]
        more = f" and {len(group.norms) - 1} more" if len(group.norms) > 1 else ""
        eps = "?" if first.layer.eps is None else f"{first.layer.eps:g}"
        rows.append(
            (
                f"{_code(first.layer.path or '(root)')}{more}",
                _code(first.layer.type),
                group.features,
                momentum_words(first.layer),
                eps,
                yes_no(first.layer.affine),
                health_words(first),
                str(first.depth),
            )
        )
    yield from _table(("Name", "Type", "Features", "Momentum", "Eps", "Affine", "Statistics", "Depth"), rows)


def _state(inspection: Inspection) -> Iterator[str]:
    rows = [
        (
            one.dtype or "?",
            one.kind,
            "norm layers" if one.norm else "other layers",
            str(one.entries),
            "?" if one.elements is None else f"{one.elements:,}",
        )
        for one in inspection.summary
    ]
    yield from _table(("Dtype", "Kind", "Owner", "Entries", "Values"), rows)


def _folded(title: str, body: Iterator[str] | Sequence[str]) -> Iterator[str]:
    yield ""
    yield f"<details><summary>{title}</summary>"
    yield ""
    yield from body
    yield ""
    yield "</details>"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', _PIPE) for cell in row)} |"


_PIPE = "\\|"
"""A pipe that ends no cell, in a code span or out of one."""


def _marked(text: str, wrong: bool) -> str:
    return f"**{text}**" if wrong else text


def _source(key: str | None) -> str:
    return "" if key is None else _code(key)


def _code(text: str) -> str:
    """A code span; its fence is longer than any row of backticks in the text."""
    shown = printable(text)
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    space = " " if shown.startswith("`") or shown.endswith("`") else ""
    return f"{fence}{space}{shown}{space}{fence}"


def _escaped(text: str) -> str:
    return "".join(f"\\{character}" if character in _SPECIAL else character for character in printable(text))


_SPECIAL = frozenset("\\`*_[]<>#~")


def _prose(text: str) -> str:
    """Text in which names stand between backticks already; the rest is escaped."""
    parts = printable(text).split("`")
    if len(parts) % 2 == 0:
        return _escaped(text)
    return "".join(_code(part) if number % 2 else _escaped(part) for number, part in enumerate(parts))
