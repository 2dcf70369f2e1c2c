"""Which findings a comment silences, and which suppressions silence nothing.

A comment speaks for a finding if it stands

- at the end of the finding's first line or of its last one,
- or at the end of the statement that the finding begins in (of a compound statement that is its head: the line with
  the colon),
- or, where such a line ends inside a string or in a backslash, at the end of the first line that can hold a comment;
- for ``# bn-audit: ignore``, also on a line of its own before the finding's first line.

The lines between the first and the last one do not count: a ``# noqa`` there is meant for that line. In a notebook
all this holds cell by cell; ``ignore-file`` speaks for the whole notebook.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bn_audit.codes import CODES
from bn_audit.finding import Edit, Finding, Location, Silenced

if TYPE_CHECKING:
    from bn_audit.source.comments import Comment, Comments
    from bn_audit.suppression import Directive, UnusedSuppression

__all__ = ["Marks", "Silencing", "marks_of", "silence", "unused"]

UNUSED = "BNA902"
_WORTH_A_LOOK = re.compile(rb"(?i)#\s*noqa|#\s*bn-audit:")
_IN_NOTEBOOK = re.compile(rb"(?i)noqa|bn-audit:")
_OURS = re.compile(r"BNA\d+")


@dataclass(frozen=True, slots=True)
class Mark:
    """A suppression in a file: what it says, in which comment of which text."""

    directive: Directive
    comment: Comment
    text: Comments

    def covers(self, finding: Finding) -> bool:
        """Whether it silences a finding of its file."""
        if not self.directive.silences(finding.code):
            return False
        if self.directive.kind == "ignore-file":
            return True
        place = finding.location
        if place.cell != self.text.cell:
            return False
        if (
            self.directive.kind == "ignore"
            and self.comment.alone
            and self.text.next_code(self.comment.line) == place.line
        ):
            return True
        return self.comment.line in lines_of(self.text, place)


@dataclass(frozen=True, slots=True)
class Marks:
    """The suppressions of a file."""

    path: str
    marks: tuple[Mark, ...] = ()

    def covering(self, finding: Finding) -> list[Mark]:
        """Those that silence a finding."""
        return [mark for mark in self.marks if mark.covers(finding)]


@dataclass(frozen=True, slots=True)
class Silencing:
    """Findings after suppressions.

    Attributes:
        findings: those that nothing silences.
        silenced: the others.
        used: by path, the suppressions that silence something, each with the rule.
    """

    findings: tuple[Finding, ...]
    silenced: tuple[Silenced, ...]
    used: frozenset[tuple[str, int, str]] = field(default=frozenset())


def lines_of(text: Comments, place: Location) -> frozenset[int]:
    """The lines at whose end a comment speaks for a stretch of source."""
    _, end = text.statement(place.line)
    lines = {place.line, end}
    if place.end_line <= end:
        lines.add(place.end_line)
    return frozenset(lines | {text.place(line) for line in lines})


def marks_of(path: str, data: bytes) -> Marks:
    """The suppressions in the bytes of a file, which need not be valid Python."""
    # In a notebook a comment may stand anywhere in the JSON text, with anything escaped.
    if (_IN_NOTEBOOK if path.lower().endswith(".ipynb") else _WORTH_A_LOOK).search(data) is None:
        return Marks(path)
    # Most files have none, and what reads them takes as long to import as a small file to look into.
    from bn_audit.source.comments import comments_of
    from bn_audit.suppression import directives

    return Marks(
        path,
        tuple(
            Mark(directive, comment, text)
            for text in comments_of(path, data)
            for comment in text.comments
            for directive in directives(comment.text)
        ),
    )


def silence(findings: Iterable[Finding], marks: Callable[[str], Marks]) -> Silencing:
    """Take the findings out that a comment silences.

    Args:
        findings: in any order, which stays.
        marks: the suppressions of a file, by its path in findings.
    """
    kept: list[Finding] = []
    silenced: list[Silenced] = []
    used: set[tuple[str, int, str]] = set()
    for finding in findings:
        path = finding.location.path
        known = marks(path).marks
        covering = [number for number, mark in enumerate(known) if mark.covers(finding)]
        if not covering:
            kept.append(finding)
            continue
        used.update((path, number, finding.code) for number in covering)
        reasons = (known[number].directive.reason for number in covering)
        silenced.append(Silenced(finding, "comment", next(filter(None, reasons), "")))
    return Silencing(tuple(kept), tuple(silenced), frozenset(used))


def unused(
    marks: Marks, used: Collection[tuple[str, int, str]], applied: Callable[[str], bool]
) -> tuple[UnusedSuppression, ...]:
    """The suppressions of a file that name a code for nothing, as what BNA902 judges.

    A suppression without codes may be meant for others, and one that names BNA902 for later.

    Args:
        marks: the file's.
        used: which of them silence what, from :func:`silence`.
        applied: whether a rule was applied to all of the file, so that its silence means something.
    """
    if not marks.marks:
        return ()
    from bn_audit.suppression import UnusedSuppression

    found = []
    for number, mark in enumerate(marks.marks):
        codes = mark.directive.codes or ()
        if any(code.text == UNUSED for code in codes):
            continue
        ours = [code.text for code in codes if mark.directive.kind != "noqa" or _OURS.fullmatch(code.text)]
        unknown = tuple(dict.fromkeys(code for code in ours if code not in CODES))
        idle = tuple(
            dict.fromkeys(
                code for code in ours if code in CODES and applied(code) and (marks.path, number, code) not in used
            )
        )
        if unknown or idle:
            left = [code.text for code in codes if code.text not in (*unknown, *idle)]
            found.append(
                UnusedSuppression(
                    location=_location(marks.path, mark),
                    whole_file=mark.directive.kind == "ignore-file",
                    unused=idle,
                    unknown=unknown,
                    left=bool(left),
                    edits=(_without_codes(mark, left) if left else _without_directive(mark),),
                )
            )
    return tuple(found)


def _location(path: str, mark: Mark) -> Location:
    line, column = mark.comment.line, mark.comment.column
    return Location(path, line, column + mark.directive.start, line, column + mark.directive.stop, mark.text.cell)


def _without_codes(mark: Mark, left: Sequence[str]) -> Edit:
    """Leave only these codes, with what stood between the first two of all."""
    codes = mark.directive.codes or ()
    between = mark.comment.text[codes[0].end : codes[1].start]
    return _edit(mark.comment, codes[0].start, codes[-1].end, between.join(left))


def _without_directive(mark: Mark) -> Edit:
    """Remove the directive and its reason; the comment, if that is all there is; the line, if that has it to itself."""
    comment, directive = mark.comment, mark.directive
    before, after = comment.text[: directive.start].rstrip(), comment.text[directive.end :]
    if before:
        return _edit(comment, len(before), directive.end, "")
    if after.strip():
        return _edit(comment, 0, directive.end + len(after) - len(after.lstrip()), "")
    if comment.alone and comment.line < mark.text.lines:
        return Edit(comment.line, 1, comment.line + 1, 1, "")
    return _edit(comment, -comment.gap, len(comment.text), "")


def _edit(comment: Comment, start: int, end: int, content: str) -> Edit:
    return Edit(comment.line, comment.column + start, comment.line, comment.column + end, content)
