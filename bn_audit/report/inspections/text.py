"""Text for people: norm layers, state, what becomes of it, and what there is to say about that."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import click

from bn_audit.exchange.plan import PlanError
from bn_audit.exchange.secretflow import SecretFlowSettings
from bn_audit.finding import Finding, Severity
from bn_audit.inspection import Choice, EntryFate, Inspection, Judgement, Verdict
from bn_audit.profile import Shape
from bn_audit.report.columns import columns, wrapped
from bn_audit.report.groups import (
    NormGroup,
    expected_words,
    fate_groups,
    fate_meanings,
    fate_words,
    health_words,
    matrix_rows,
    momentum_words,
    norm_groups,
    shortened,
    yes_no,
)
from bn_audit.report.inspections import Look
from bn_audit.report.settings_words import FRAMEWORKS, option_words, other_settings
from bn_audit.report.tree import tree
from bn_audit.report.words import count, enumerate_words, printable

__all__ = ["LEGEND", "MANY", "NONE_RIGHT", "entries", "render", "settings_words"]

MANY = 12
"""Norm layers, and other rows, beyond which like ones share a line."""
NONE_RIGHT = (
    "No settings of SecretFlow's are right for this model as it is. To make fed_avg_w right, with skip_bn=True:"
)
INDENT = "  "
LINES = 3
"""Lines that the layers of one fate may take."""

_VERDICTS = {
    Verdict.RIGHT: "green",
    Verdict.STOPS: "red",
    Verdict.SPOILS: "yellow",
    Verdict.WRONG: "yellow",
    Verdict.UNKNOWN: "blue",
}
LEGEND = {
    Verdict.RIGHT: "every entry meets what FedBN expects: BatchNorm stays local, the rest is averaged",
    Verdict.STOPS: "training ends with an error",
    Verdict.SPOILS: "nothing fails, and BatchNorm is averaged or other entries are not",
    Verdict.WRONG: "as spoils; whether it stops as well is chance, or not known",
    Verdict.UNKNOWN: "what is known of the model does not tell",
}
_SEVERITIES = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.INFO: "blue"}
_UNHEALTHY = ("NaN", "inf", "negative")
_AGGREGATORS = {
    "plain": "PlainAggregator",
    "secure": "SecureAggregator",
    "spu": "SPUAggregator",
    "sparse": "SparsePlainAggregator",
    "fedgen": "StatefulFedGenAggregator",
    "server_agg_method": "a server_agg_method",
}


def render(inspection: Inspection, look: Look) -> Iterator[str]:
    """The inspection in sections, as wide as the terminal."""
    bold = _painter(look, bold=True)
    profile = inspection.profile
    subject = f"{printable(profile.type)}, " if profile.type else ""
    size = f"{entries(len(profile.entries))}, {count(len(inspection.norms), 'norm layer')}"
    yield f"{bold(printable(inspection.target))}: {subject}{size}"
    for note in inspection.notes:
        yield from wrapped(printable(note), look.width, first=f"{INDENT}note: ", indent=INDENT * 4)
    sections = [
        ("Modules", _tree(inspection, look) if look.tree else iter(())),
        ("Norm layers", _norms(inspection, look)),
        ("State", _state(inspection, look)),
    ]
    if inspection.judgement is not None:
        sections.append((settings_words(inspection.judgement), _judgement(inspection, inspection.judgement, look)))
    elif inspection.matrix:
        sections.append(("SecretFlow's settings, and what they come to for this model", _matrix(inspection, look)))
        for framework in dict.fromkeys(choice.framework for choice in inspection.choices):
            title = f"{FRAMEWORKS[framework]}'s, with the whole state dict exchanged and with norm layers kept"
            sections.append((title, _choices([one for one in inspection.choices if one.framework == framework], look)))
    sections.append(("Findings", _findings(inspection.findings, look)))
    for title, lines in sections:
        body = list(lines)
        if body:
            yield ""
            yield from map(bold, wrapped(title, look.width, first="", indent=INDENT * 2))
            yield from (f"{INDENT}{line}".rstrip() for line in body)
    yield ""
    yield _footer(inspection)


def settings_words(judgement: Judgement) -> str:
    """``SecretFlow 1.13, torch 2.13.0: fed_avg_w, PlainAggregator, skip_bn=True``."""
    settings = judgement.settings
    if not isinstance(settings, SecretFlowSettings):
        return other_settings(settings.named())
    torch = f", torch {settings.torch_version}" if settings.torch_version else ""
    aggregator = _AGGREGATORS.get(settings.aggregator or "", str(settings.aggregator))
    release = settings.secretflow_version or "1.13"
    wrapped = "" if settings.wrapped is None else ", local_batchnorm"
    return f"SecretFlow {release}{torch}: {settings.strategy}, {aggregator}, skip_bn={settings.skip_bn}{wrapped}"


def _tree(inspection: Inspection, look: Look) -> Iterator[str]:
    mark, dim = _painter(look, fg="cyan", bold=True), _painter(look, dim=True)
    yield from tree(inspection, mark=mark, dim=dim, ascii_only=look.ascii_only)


def _norms(inspection: Inspection, look: Look) -> Iterator[str]:
    if not inspection.norms:
        return
    groups = norm_groups(inspection.norms, separate=look.every or len(inspection.norms) <= MANY)
    rows = [_NORM_HEAD, *(_norm_row(group) for group in groups)]
    rows, same = _narrowed(rows, look.width - len(INDENT))
    head = rows[0]
    dim, loud = _painter(look, dim=True), _painter(look, fg="red", bold=True)

    def paint(row: int, column: int, text: str) -> str:
        if row == 0:
            return dim(text)
        broken = head[column] == "statistics" and any(word in text for word in _UNHEALTHY)
        return loud(text) if broken else text

    numbers = ("features", "momentum", "eps", "depth")
    yield from columns(rows, right=frozenset(n for n, title in enumerate(head) if title in numbers), paint=paint)
    if same:
        yield dim(f"all: {', '.join(same)}")
    if any("zero" in text for row in rows for text in row):
        yield dim("zero: channels with a variance of 0, constant so far")


_NORM_HEAD = ("name", "type", "features", "momentum", "eps", "affine", "statistics", "depth")


def _narrowed(rows: list[tuple[str, ...]], width: int) -> tuple[list[tuple[str, ...]], list[str]]:
    """The rows of a table that is too wide without the columns that say the same everywhere, and what those say."""
    same: list[str] = []
    for title in ("eps", "momentum", "affine", "depth", "type"):
        if sum(max(map(len, column)) + 2 for column in zip(*rows, strict=True)) - 2 <= width:
            break
        place = rows[0].index(title)
        values = {row[place] for row in rows[1:]}
        if len(values) == 1:
            same.append(f"{title} {values.pop()}")
            rows = [row[:place] + row[place + 1 :] for row in rows]
    return rows, same


def _norm_row(group: NormGroup) -> tuple[str, ...]:
    first = group.norms[0]
    layer = first.layer
    name = printable(layer.path) or "(root)"
    if len(group.norms) > 1:
        name = f"{name} and {len(group.norms) - 1} more"
    eps = "?" if layer.eps is None else f"{layer.eps:g}"
    return (
        name,
        printable(layer.type),
        group.features,
        momentum_words(layer),
        eps,
        yes_no(layer.affine),
        health_words(first),
        str(first.depth),
    )


def _state(inspection: Inspection, look: Look) -> Iterator[str]:
    rows: list[Sequence[str]] = [("dtype", "kind", "owner", "entries", "values")]
    for one in inspection.summary:
        owner = "norm layers" if one.norm else "other layers"
        values = "?" if one.elements is None else f"{one.elements:,}"
        rows.append((one.dtype or "?", one.kind, owner, str(one.entries), values))
    dim = _painter(look, dim=True)
    if len(rows) > 1:
        yield from columns(
            rows, right=frozenset({3, 4}), paint=lambda row, column, text: dim(text) if row == 0 else text
        )


def _judgement(inspection: Inspection, judgement: Judgement, look: Look) -> Iterator[str]:
    color = _VERDICTS[judgement.verdict]
    loud, dim = _painter(look, fg=color, bold=True), _painter(look, dim=True)
    word = judgement.verdict.value
    lines = list(wrapped(f"{word}: {printable(judgement.sentence)}", look.width - len(INDENT)))
    yield lines[0].replace(word, loud(word), 1)
    yield from lines[1:]
    if look.every and inspection.error is not None and "\n" in inspection.error.text:
        yield ""
        yield from _error(inspection.error, look)
    if inspection.entries:
        yield ""
        if inspection.error is not None:
            yield dim("As far as the round goes:")
        yield from _every(inspection.entries, look) if look.every else _grouped(inspection.entries, look)
        for meaning in fate_meanings(fate_words(one) for one in inspection.entries):
            yield dim(meaning)
    for note in judgement.plan.notes:
        yield from wrapped(note, look.width - len(INDENT), first="note: ", indent=" " * 6)


def _error(error: PlanError, look: Look) -> Iterator[str]:
    """The whole text of an exception; ``load_state_dict`` writes a line for each entry."""
    yield _painter(look, dim=True)("The error:" if error.text_certain else "The error, most likely:")
    for line in f"{error.type}: {error.text}".splitlines():
        depth = INDENT * (2 if line[:1].isspace() else 1)
        yield from wrapped(printable(line.strip()), look.width - len(INDENT), first=depth, indent=depth + INDENT)


def _grouped(entries: Sequence[EntryFate], look: Look) -> Iterator[str]:
    groups = fate_groups(entries)
    head = ("FedBN wants", "the round gives", "entries", "of")
    fixed = [(one.expected, one.fate, str(len(one.entries))) for one in groups]
    used = sum(max(len(row[column]) for row in (head, *fixed)) + 2 for column in range(3)) + len(INDENT)
    room = max(look.width - used, 24)
    rows: list[Sequence[str]] = [head]
    for cells, group in zip(fixed, groups, strict=True):
        rows.append((*cells, shortened((printable(place) for place in group.places), room * LINES - room // 3)))

    def paint(row: int, column: int, text: str) -> str:
        if row == 0:
            return _painter(look, dim=True)(text)
        if column == 1:
            return _painter(look, fg="red" if groups[row - 1].wrong else "green")(text)
        return text

    yield from columns(rows, right=frozenset({2}), paint=paint, width=look.width - len(INDENT))


def _every(entries: Sequence[EntryFate], look: Look) -> Iterator[str]:
    rows: list[Sequence[str]] = [("key", "shape", "dtype", "FedBN wants", "the round gives")]
    for one in entries:
        source = f" (of {one.source_key})" if one.source_key is not None else ""
        key = printable(one.entry.key)
        fate = f"{fate_words(one)}{printable(source)}"
        rows.append((key, _shape(one.entry.shape), one.entry.dtype or "?", expected_words(one), fate))

    def paint(row: int, column: int, text: str) -> str:
        if row == 0:
            return _painter(look, dim=True)(text)
        if column == 4:
            return _painter(look, fg="red" if entries[row - 1].wrong else "green")(text)
        return text

    yield from columns(rows, paint=paint)


def _shape(shape: Shape | None) -> str:
    return "?" if shape is None else f"[{', '.join('?' if size is None else str(size) for size in shape)}]"


def _matrix(inspection: Inspection, look: Look) -> Iterator[str]:
    rows = matrix_rows(inspection.matrix)
    verdicts = [(row.without, row.skipping) for row in rows]
    head = ("strategy", "aggregator", "skip_bn=False", "skip_bn=True")
    cells: list[Sequence[str]] = [head]
    before = ""
    for row in rows:
        strategy = row.strategy if row.strategy != before else ""
        before = row.strategy
        cells.append((strategy, ", ".join(row.aggregators), row.without.value, row.skipping.value))

    def paint(row: int, column: int, text: str) -> str:
        if row == 0:
            return _painter(look, dim=True)(text)
        return _painter(look, fg=_VERDICTS[verdicts[row - 1][column - 2]])(text) if column > 1 else text

    yield from columns(cells, paint=paint)
    yield ""
    used = {verdict for pair in verdicts for verdict in pair}
    used |= {verdict for one in inspection.choices for verdict in (one.everything, one.keeping)}
    legend = [(verdict.value, meaning) for verdict, meaning in LEGEND.items() if verdict in used]
    words = [verdict for verdict in LEGEND if verdict in used]
    yield from columns(
        legend,
        paint=lambda row, column, text: _painter(look, fg=_VERDICTS[words[row]])(text) if column == 0 else text,
        width=look.width - len(INDENT),
    )
    if inspection.advice is not None:
        yield ""
        advice = f"{NONE_RIGHT} {printable(inspection.advice)}"
        yield from wrapped(advice, look.width - len(INDENT))


def _choices(choices: Sequence[Choice], look: Look) -> Iterator[str]:
    rows = [(option_words(one.options), ", ".join(one.strategies)) for one in choices]
    verdicts = [(one.everything, one.keeping) for one in choices]
    room = max(look.width - len(INDENT) - max(len(first) for first, _ in rows) - 26, 24)
    cells: list[Sequence[str]] = [("exchanged", "strategy", "everything", "norms kept")]
    painted: list[tuple[Verdict, Verdict] | None] = [None]
    before = ""
    for (options, names), pair in zip(rows, verdicts, strict=True):
        parts = textwrap.wrap(names, room, break_long_words=False)
        for number, part in enumerate(parts):
            words = tuple(verdict.value for verdict in pair) if number == 0 else ("", "")
            cells.append((options if number == 0 and options != before else "", part, *words))
            painted.append(pair if number == 0 else None)
        before = options

    def paint(row: int, column: int, text: str) -> str:
        if row == 0:
            return _painter(look, dim=True)(text)
        pair = painted[row]
        return text if pair is None or column < 2 else _painter(look, fg=_VERDICTS[pair[column - 2]])(text)

    yield from columns(cells, paint=paint)


def _findings(findings: Sequence[Finding], look: Look) -> Iterator[str]:
    bold = _painter(look, bold=True)
    for number, finding in enumerate(findings):
        if number:
            yield ""
        color = _SEVERITIES[finding.severity]
        plain = f"{finding.code} {finding.name} [{finding.severity.value}] {printable(finding.message)}"
        lines = list(wrapped(plain, look.width - len(INDENT), indent=INDENT, first=""))
        yield lines[0].replace(finding.code, _painter(look, fg=color, bold=True)(finding.code), 1)
        yield from lines[1:]
        if finding.help is not None:
            text = list(wrapped(f"help: {printable(finding.help)}", look.width - 2 * len(INDENT), indent=INDENT * 3))
            yield f"{INDENT}{text[0].strip().replace('help', bold('help'), 1)}"
            yield from (f"{INDENT}{line}" for line in text[1:])


def _footer(inspection: Inspection) -> str:
    counts = [
        (sum(finding.severity is severity for finding in inspection.findings), severity.value)
        for severity in _SEVERITIES
    ]
    found = [count(number, noun) for number, noun in counts if number]
    verdict = "" if inspection.judgement is None else f"Verdict: {inspection.judgement.verdict.value}. "
    return f"{verdict}Found {enumerate_words(found)}." if found else f"{verdict}No findings."


def entries(number: int) -> str:
    return f"{number} {'entry' if number == 1 else 'entries'}"


def _painter(
    look: Look, *, fg: str | None = None, bold: bool | None = None, dim: bool | None = None
) -> Callable[[str], str]:
    return partial(click.style, fg=fg, bold=bold, dim=dim) if look.color else str
