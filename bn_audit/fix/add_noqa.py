"""``# noqa`` comments for findings, as pure functions: where they go, and what a file is with them.

A comment goes to the end of the finding's first line, or, where that ends inside a string or in a backslash, to the
first line after it that can hold one. A ``# noqa`` with codes that stands there already gets one more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bn_audit.finding import Edit, Finding
from bn_audit.fix.contents import Refused, edit_bytes
from bn_audit.source.comments import Comment, Comments, comments_of
from bn_audit.source.positions import source_lines
from bn_audit.suppression import Code, directives

__all__ = ["Annotated", "annotate", "can_be_reason"]

BEYOND = {
    "BNA901": "what cannot be read is better left as it is",
    "BNA902": "--fix removes the comment instead",
}
"""Rules whose findings get no comment, and why."""

Lines = Mapping["int | None", tuple[str, ...]]
"""The lines of a file by cell, which is None for a file that is no notebook."""


@dataclass(frozen=True, slots=True)
class Annotated:
    """A file with comments.

    Attributes:
        data: its bytes.
        added: how many codes were added.
        left: findings that got no comment, and why.
    """

    data: bytes
    added: int
    left: tuple[tuple[Finding, str], ...]


def can_be_reason(text: str) -> bool:
    """Whether a text behind the codes of a comment is read as its reason, and as nothing else."""
    read = directives(f"# noqa: BNA101 {text}")
    return (
        text.isprintable()
        and len(read) == 1
        and read[0].codes is not None
        and (len(read[0].codes) == 1 and read[0].reason == text)
    )


def annotate(path: str, data: bytes, findings: Iterable[Finding], reason: str = "") -> Annotated:
    """Add a comment for each of a file's findings.

    Args:
        path: the file's.
        data: its bytes.
        findings: what to silence.
        reason: what is written behind the codes, where no reason stands there.

    Raises:
        Refused: a comment does not fit what stands there, or would change more than it should.
    """
    texts = {text.cell: text for text in comments_of(path, data)}
    lines = source_lines(path, data)
    wanted: dict[tuple[int | None, int], list[str]] = {}
    left: list[tuple[Finding, str]] = []
    for finding in findings:
        against = BEYOND.get(finding.code) or _reason_against(finding, texts, lines)
        if against is not None:
            left.append((finding, against))
            continue
        cell = finding.location.cell
        codes = wanted.setdefault((cell, texts[cell].place(finding.location.line)), [])
        if finding.code not in codes:
            codes.append(finding.code)
    edits: dict[int | None, list[Edit]] = {}
    for (cell, line), codes in wanted.items():
        comment = next((one for one in texts[cell].comments if one.line == line), None)
        edits.setdefault(cell, []).append(_edit(line, lines[cell][line - 1], comment, sorted(codes), reason))
    new = edit_bytes(path, data, edits).data if edits else data
    if _code(path, new) != _code(path, data):
        raise Refused("the comments would change more than comments")
    return Annotated(new, sum(map(len, wanted.values())), tuple(left))


def _reason_against(finding: Finding, texts: Mapping[int | None, Comments], lines: Lines) -> str | None:
    """Why a finding can have no comment, or None."""
    text = texts.get(finding.location.cell)
    if text is None or not 1 <= finding.location.line <= len(lines.get(finding.location.cell, ())):
        return "it is not there any more"
    if not text.holds(text.place(finding.location.line)):
        return "there is no line that could hold a comment"
    return None


def _edit(line: int, source: str, comment: Comment | None, codes: list[str], reason: str) -> Edit:
    """Add codes to a line, which may have a comment."""
    behind = f" {reason}" if reason else ""
    if comment is not None:
        known = next((one for one in directives(comment.text) if one.kind == "noqa" and one.codes), None)
        if known is not None and known.codes:
            column = comment.column + known.codes[-1].end
            between = _between(comment, known.codes)
            more = "".join(f"{between}{code}" for code in codes)
            return Edit(line, column, line, column, more if known.reason else more + behind)
    end = len(source.rstrip())
    return Edit(line, end + 1, line, len(source) + 1, f"  # noqa: {', '.join(codes)}{behind}")


def _between(comment: Comment, named: tuple[Code, ...]) -> str:
    """What stands between two codes."""
    return comment.text[named[0].end : named[1].start] if len(named) > 1 else ", "


def _code(path: str, data: bytes) -> list[tuple[int | None, list[str]]]:
    """The lines of a file without its comments, cell by cell."""
    lines = source_lines(path, data)
    found = []
    for text in comments_of(path, data):
        code = list(lines.get(text.cell, ()))
        for comment in text.comments if code else ():  # what cannot be decoded has comments, but no lines
            code[comment.line - 1] = code[comment.line - 1][: comment.column - 1]
        found.append((text.cell, [line.rstrip() for line in code]))
    return found
