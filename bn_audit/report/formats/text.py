"""Text for people: each finding with its source framed, its evidence as further frames, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING

import click

from bn_audit.report.model import Report, View
from bn_audit.report.words import count, enumerate_words, position, printable

if TYPE_CHECKING:
    from bn_audit.finding import Finding

__all__ = ["MARK", "finding_lines", "footer", "render", "statistics"]

_COLORS = {"error": "red", "warning": "yellow", "info": "blue"}
"""By severity, the most severe first. Words, so that a report without findings need not import what they are."""
_HELP_WIDTH = 100
MARK = "[*]"
"""Stands before the message of a finding that ``--fix`` mends."""


def render(report: Report, view: View) -> Iterator[str]:
    """The findings with their frames, and a footer with the counts."""
    for finding in report.findings:
        yield from finding_lines(finding, view, fixable=report.fixes(finding))
        yield ""
    if view.footer:
        yield from footer(report)


def statistics(report: Report, view: View) -> Iterator[str]:
    """A line for each rule that spoke: how often, its code and its name."""
    counts: dict[tuple[str, str], int] = {}
    for finding in report.findings:
        counts[finding.code, finding.name] = counts.get((finding.code, finding.name), 0) + 1
    width = max((len(str(number)) for number in counts.values()), default=1)
    bold = _painter(view.color, bold=True)
    for (code, name), number in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        yield f"{number:>{width}}  {bold(code)}  {name}"
    if view.footer:
        yield from footer(report)


def footer(report: Report) -> Iterator[str]:
    """The counts: what was found and in how much, in one sentence, and what of it can be fixed, in another."""
    judged = [count(report.sites, "FLModel call")] if report.sites else []
    if report.others or not judged:
        judged.append(count(report.others, "other federated site" if judged else "federated site"))
    where = f"{enumerate_words(judged)} in {count(report.files, 'file')}"
    severities = [finding.severity.value for finding in report.findings]
    found = [count(severities.count(noun), noun) for noun in _COLORS if noun in severities]
    what = f"Found {enumerate_words(found)}" if found else "No findings"
    fixed = f"Fixed {count(report.fixed, 'finding')}. " if report.fixed else ""
    yield f"{fixed}{what} ({where}{_kept_back(report)})."
    hidden = report.hidden_fixes
    if report.fixable:
        yield f"{MARK} {report.fixable} fixable with --fix{f' ({hidden} more with --unsafe-fixes)' if hidden else ''}."
    elif hidden:
        yield f"No safe fixes ({count(hidden, 'unsafe fix', 'unsafe fixes')} with --unsafe-fixes)."


def _kept_back(report: Report) -> str:
    counts = ((report.suppressed, "suppressed"), (report.baselined, "in the baseline"))
    words = [f"{number} {how}" for number, how in counts if number]
    return f"; {', '.join(words)}" if words else ""


def finding_lines(finding: Finding, view: View, *, fixable: bool) -> Iterator[str]:
    """One finding: what it says, its source, its evidence, what to do about it, and what a fix would change."""
    import textwrap

    from bn_audit.report.changes import changed_lines
    from bn_audit.report.frames import Style, frame, line_frame

    color = _COLORS[finding.severity.value]
    bold, gutter = _painter(view.color, bold=True), _painter(view.color, fg="cyan")
    loud = _painter(view.color, fg=color, bold=True)
    yield (
        f"{bold(position(finding.location))}: {loud(finding.code)} {finding.name} "
        f"[{_painter(view.color, fg=color)(finding.severity.value)}] "
        f"{bold(MARK) + ' ' if fixable else ''}{printable(finding.message)}"
    )
    places = [finding.location, *(evidence.location for evidence in finding.evidence)]
    margin = max(3, *(len(str(place.end_line)) for place in places))
    pad = " " * margin
    primary = Style("^", gutter, loud)
    yield from frame(finding.location, view.excerpt, primary, margin=margin, context=1)
    secondary = Style("-", gutter, gutter)
    for _, group in groupby(
        finding.evidence, lambda step: (step.location.path, step.location.cell, step.location.line)
    ):
        steps = list(group)
        for step in steps:
            yield f"{pad}{gutter('-->')} {position(step.location)}: {printable(step.message)}"
        yield from line_frame([step.location for step in steps], view.excerpt, secondary, margin=margin)
    notes = [] if finding.help is None else [("help", finding.help)]
    if finding.fix is not None:
        notes.append(("fix" if finding.fix.applicability.value == "safe" else "unsafe fix", finding.fix.message))
    for kind, note in notes:
        lead = f"{pad} {gutter('=')} {bold(kind)}: "
        lines = textwrap.wrap(printable(note), _HELP_WIDTH, break_on_hyphens=False, break_long_words=False)
        for number, line in enumerate(lines):
            yield f"{lead if number == 0 else ' ' * (margin + len(f' = {kind}: '))}{line}"
    old, new = _painter(view.color, fg="red"), _painter(view.color, fg="green")
    yield from changed_lines(finding, view.excerpt, margin=margin, gutter=gutter, old=old, new=new)


def _painter(color: bool, *, fg: str | None = None, bold: bool | None = None) -> Callable[[str], str]:
    return partial(click.style, fg=fg, bold=bold) if color else str
