"""From findings to what is left to say: comments in the source and a baseline are heeded.

Imported only where there is something to silence, or a comment that may silence nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from bn_audit.audit import audit, order, tidy
from bn_audit.finding import Finding, Silenced
from bn_audit.scanning import Heard, selections, versions_of
from bn_audit.silencing import Marks, marks_of, silence, unused
from bn_audit.source.positions import source_lines
from bn_audit.source.raw import SourceError, read_bytes
from bn_audit.source.root import whole_root

if TYPE_CHECKING:
    from bn_audit.baseline import Baseline, Key
    from bn_audit.settings.resolver import Resolver
    from bn_audit.source.read import ReadResult
    from bn_audit.suppression import UnusedSuppression

__all__ = ["content_of", "excerpt_of", "hear", "heed_baseline", "judged_in"]


def hear(
    findings: Sequence[Finding],
    result: ReadResult,
    settings: Resolver,
    content: Callable[[str], bytes],
    baseline: Baseline | None = None,
) -> Heard:
    """Silence what comments in the source and a baseline silence, and tell which of the comments silence nothing.

    Args:
        findings: from :func:`bn_audit.scanning.judge`.
        result: what was read.
        settings: of the files.
        content: the bytes that were read, by path. Raises SourceError if they cannot be had any more.
        baseline: the findings that are known.
    """
    heard = _heed_comments(findings, result, settings, content) if findings or result.marked else Heard()
    return heard if baseline is None else heed_baseline(heard, result, settings, content, baseline)


def _heed_comments(
    findings: Sequence[Finding], result: ReadResult, settings: Resolver, content: Callable[[str], bytes]
) -> Heard:
    known: dict[str, Marks] = {}

    def marks(path: str) -> Marks:
        if path not in known:
            try:
                known[path] = marks_of(path, content(path))
            except SourceError:
                known[path] = Marks(path)
        return known[path]

    selection = selections(settings)
    first = silence(findings, marks)
    broken = {row.location.path for row in result.unreadable}
    idle: list[UnusedSuppression] = []
    for path in sorted({*result.marked, *(finding.location.path for finding in findings)}):
        judged = path not in broken and _is_whole(path, result.folders)
        idle += unused(marks(path), first.used, selection(path).__contains__ if judged else lambda code: False)
    second = silence(audit((), (), selection, versions_of(settings), idle), marks)
    silenced = sorted((*first.silenced, *second.silenced), key=lambda one: order(one.finding))
    return Heard(tidy((*first.findings, *second.findings)), tuple(silenced))


def heed_baseline(
    heard: Heard, result: ReadResult, settings: Resolver, content: Callable[[str], bytes], baseline: Baseline
) -> Heard:
    """Silence what a baseline knows of what is left, and tell what it knows that is not there any more."""
    matched = baseline.match(heard.findings, excerpt_of(content))
    known = (*heard.silenced, *(Silenced(finding, "baseline") for finding in matched.known))
    judged = judged_in(result, settings, baseline)
    return Heard(
        matched.new,
        tuple(sorted(known, key=lambda one: order(one.finding))),
        {key: count for key, count in matched.stale.items() if judged(key)},
    )


def judged_in(result: ReadResult, settings: Resolver, baseline: Baseline) -> Callable[[Key], bool]:
    """What says whether a scan knows all about an entry of a baseline: its file is gone, or its rule was applied to it
    with all of the repository around it."""
    looked_at = {os.path.abspath(path) for path in result.paths}
    broken = {os.path.abspath(row.location.path) for row in result.unreadable}
    selection = selections(settings)

    def judged(key: Key) -> bool:
        file = baseline.file(key)
        if not os.path.lexists(file):
            return True
        return (
            file in looked_at and file not in broken and key.code in selection(file) and _is_whole(file, result.folders)
        )

    return judged


def excerpt_of(content: Callable[[str], bytes]) -> Callable[[str, int | None, int], str | None]:
    """What gives a line of source by path, cell and number, from the bytes that were read."""
    known: dict[str, dict[int | None, tuple[str, ...]]] = {}

    def excerpt(path: str, cell: int | None, line: int) -> str | None:
        if path not in known:
            try:
                known[path] = source_lines(path, content(path))
            except SourceError:
                known[path] = {}
        lines = known[path].get(cell, ())
        return lines[line - 1] if 1 <= line <= len(lines) else None

    return excerpt


def content_of(stdin: tuple[str, bytes] | None, contents: Mapping[str, bytes]) -> Callable[[str], bytes]:
    """What gives the bytes that :func:`bn_audit.source.read.read` reads, from the same arguments."""

    def content(path: str) -> bytes:
        if stdin is not None and path == stdin[0]:
            return stdin[1]
        found = contents.get(os.path.abspath(path))
        return read_bytes(path) if found is None else found

    return content


def _is_whole(path: str, folders: Sequence[str]) -> bool:
    """Whether all that lies around a file was looked at: only then does silence about it mean anything."""
    if not folders:
        return False
    root = os.path.join(whole_root(path), "")
    return any(root.startswith(os.path.join(folder, "")) for folder in folders)
