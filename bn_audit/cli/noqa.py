"""``--add-noqa``: a comment for each finding, written to the files. Imported only where there is something to write."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import click

from bn_audit.finding import Finding
from bn_audit.fix.add_noqa import annotate, can_be_reason
from bn_audit.fix.contents import Refused
from bn_audit.fix.files import put, take
from bn_audit.report.words import count, position

__all__ = ["add_noqa"]


def add_noqa(findings: Iterable[Finding], reason: str, say: Callable[[str], None], *, quiet: bool) -> int:
    """Write the comments, with a reason if it is not empty, and say how many; the exit status: 2 if a file could not be
    written.

    Raises:
        UsageError: the reason cannot be one.
    """
    if reason and not can_be_reason(reason):
        raise click.UsageError(f"--add-noqa: {reason!r} would not be read as a reason behind the codes")
    by_path: dict[str, list[Finding]] = {}
    for finding in findings:
        by_path.setdefault(finding.location.path, []).append(finding)
    added = files = 0
    status = 0
    for path, found in by_path.items():
        try:
            old = take(path)
            annotated = annotate(path, old, found, reason)
            if annotated.added:
                put(path, old, annotated.data)
        except Refused as error:
            say(f"{path}: no comment was added: {error}")
            status = 2
            continue
        added += annotated.added
        files += bool(annotated.added)
        if not quiet:
            for finding, reason in annotated.left:
                say(f"{position(finding.location)}: {finding.code} got no comment: {reason}")
    if not quiet:
        where = f" in {count(files, 'file')}" if files else ""
        say(f"added {count(added, 'noqa code')}{where}")
    return status
