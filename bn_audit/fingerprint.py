"""What a finding is about, told from the source it stands at: the same after the lines above it have moved.

A finding's fingerprint is its rule and the digest of its own source, without comments, white space, the kind of quotes
and trailing commas, so that a formatter changes nothing. Its message and its evidence do not count: they may speak of
other files. Findings of a file that are equal in this are told apart by their order.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bn_audit.source.comments import comments_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from bn_audit.finding import Finding, Location

__all__ = ["Fingerprint", "content_digest", "fingerprints"]

_WHITE = re.compile(r"\s+")
_TRAILING_COMMA = re.compile(r",(?=[)\]}])")
_DIGITS = 16


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What stays of a finding when its surroundings change.

    Attributes:
        code: the rule's.
        digest: of the finding's source, in hexadecimal digits.
        number: how many findings of this rule and source come before it in its file.
    """

    code: str
    digest: str
    number: int


def fingerprints(
    findings: Iterable[Finding], excerpt: Callable[[str, int | None, int], str | None]
) -> tuple[Fingerprint, ...]:
    """The fingerprints of findings, in their order.

    Args:
        findings: in the order in which equal ones are counted.
        excerpt: gives a line of source by path, cell and number; None where there is none.
    """
    counts: Counter[tuple[str, str, str]] = Counter()
    found = []
    for finding in findings:
        digest = content_digest(finding.location, excerpt)
        key = finding.location.path, finding.code, digest
        found.append(Fingerprint(finding.code, digest, counts[key]))
        counts[key] += 1
    return tuple(found)


def content_digest(location: Location, excerpt: Callable[[str, int | None, int], str | None]) -> str:
    """The digest of a stretch of source; of its whole line, if the stretch is empty."""
    lines = [
        excerpt(location.path, location.cell, number) or "" for number in range(location.line, location.end_line + 1)
    ]
    if (location.line, location.column) < (location.end_line, location.end_column):
        lines[-1] = lines[-1][: location.end_column - 1]
        lines[0] = lines[0][location.column - 1 :]
    source = "\n".join(lines)
    text = _TRAILING_COMMA.sub("", _WHITE.sub("", _without_comments(source) or source).replace("'", '"'))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]


def _without_comments(source: str) -> str:
    """The source without its comments; empty if it is nothing else."""
    lines = source.split("\n")
    for comment in comments_in(source).comments:
        lines[comment.line - 1] = lines[comment.line - 1][: comment.column - 1]
    return "\n".join(lines).strip()
