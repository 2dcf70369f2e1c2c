"""From paths and settings to findings: what the command line, an editor and whatever else scans have in common.

Settings hold for each file by itself, so they are asked for by path.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from bn_audit.settings.config import Config, ConfigError
from bn_audit.settings.resolver import Resolver
from bn_audit.source.read import ReadOptions, ReadResult

if TYPE_CHECKING:
    from bn_audit.audit import Selection, Versions
    from bn_audit.baseline import Baseline, Key
    from bn_audit.finding import Finding, Silenced
    from bn_audit.settings.keys import Vocabulary
    from bn_audit.suppression import UnusedSuppression

__all__ = [
    "SECRETFLOW",
    "Heard",
    "content_of",
    "failures",
    "hear",
    "judge",
    "read_options",
    "reported",
    "resolver",
    "vocabulary",
]

SECRETFLOW = ("secretflow", "secretflow-lite")
"""Distributions that hold FLModel, or bring it."""


def vocabulary() -> Vocabulary:
    """The words that settings may use."""
    from bn_audit.codes import CODES
    from bn_audit.report.formats import names
    from bn_audit.settings.keys import Vocabulary

    return Vocabulary(CODES, names())


def resolver(*, config: Sequence[str] = (), isolated: bool = False, flags: Config | None = None) -> Resolver:
    """What finds the settings of files.

    Args:
        config: values of ``--config``: at most one is the path of a file that holds everywhere, the others are
            ``key = value`` and lie over whatever file holds.
        isolated: whether to look for no configuration file.
        flags: what lies over all that.

    Raises:
        ConfigError: a file or value cannot be used, or there are two files.
    """
    file: str | None = None
    layers: list[Config] = []
    for text in config:
        if os.path.isfile(text) or "=" not in text:
            if file is not None:
                raise ConfigError(f"--config: only one file can hold everywhere, not {file} and {text}")
            file = text
        else:
            from bn_audit.settings.load import read_inline

            layers.append(read_inline(text, vocabulary()))
    if file is not None and isolated:
        raise ConfigError(f"--config: {file} is a file, and --isolated reads none")
    return Resolver(vocabulary, file=file, isolated=isolated, flags=(*layers, *([flags] if flags else [])))


def read_options(settings: Resolver, run: Config) -> ReadOptions:
    """How to read, by the settings of the files and those of the run."""
    return ReadOptions(
        force_exclude=run.get("force_exclude", False),
        respect_gitignore=run.get("respect_gitignore", True),
        jobs=run.get("jobs", 0),
        exclusions=settings.exclusion,
        teacher=settings.taught,
    )


def judge(result: ReadResult, settings: Resolver, *, every_rule: bool = False) -> tuple[Finding, ...]:
    """The findings about what was read, by the rules and releases that the settings name for each file.

    Most files hold nothing to judge. What judges is imported only where there is something.

    Args:
        every_rule: whether all rules speak, whatever is selected.
    """
    if not (result.sites or result.unreadable):
        return ()
    from bn_audit.audit import Selection, audit

    selection = Selection() if every_rule else _selections(settings)
    return audit(result.sites, result.unreadable, selection, _versions(settings))


def reported(every: Sequence[Finding], settings: Resolver) -> tuple[Finding, ...]:
    """Of the findings of every rule those that :func:`judge` gives without ``every_rule``."""
    selection = _selections(settings)
    return tuple(finding for finding in every if finding.code in selection(finding.location.path))


class Heard(NamedTuple):
    """What is left to say once suppressions and a baseline are heeded.

    Attributes:
        findings: in the order of the output.
        silenced: the others, in the same order.
        stale: what the baseline knows that is not there any more, and how often.
    """

    findings: tuple[Finding, ...] = ()
    silenced: tuple[Silenced, ...] = ()
    stale: Mapping[Key, int] = {}


def hear(
    findings: Sequence[Finding],
    result: ReadResult,
    settings: Resolver,
    content: Callable[[str], bytes],
    baseline: Baseline | None = None,
) -> Heard:
    """Silence what comments in the source and a baseline silence, and tell which of the comments silence nothing.

    Args:
        findings: from :func:`judge`.
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
    from bn_audit.audit import audit, order, tidy
    from bn_audit.silencing import Marks, marks_of, silence, unused
    from bn_audit.source.raw import SourceError

    known: dict[str, Marks] = {}

    def marks(path: str) -> Marks:
        if path not in known:
            try:
                known[path] = marks_of(path, content(path))
            except SourceError:
                known[path] = Marks(path)
        return known[path]

    selection = _selections(settings)
    first = silence(findings, marks)
    broken = {row.location.path for row in result.unreadable}
    idle: list[UnusedSuppression] = []
    for path in sorted({*result.marked, *(finding.location.path for finding in findings)}):
        judged = path not in broken and _is_whole(path, result.folders)
        idle += unused(marks(path), first.used, selection(path).__contains__ if judged else lambda code: False)
    second = silence(audit((), (), selection, _versions(settings), idle), marks)
    silenced = sorted((*first.silenced, *second.silenced), key=lambda one: order(one.finding))
    return Heard(tidy((*first.findings, *second.findings)), tuple(silenced))


def heed_baseline(
    heard: Heard, result: ReadResult, settings: Resolver, content: Callable[[str], bytes], baseline: Baseline
) -> Heard:
    """Silence what a baseline knows of what is left, and tell what it knows that is not there any more."""
    from bn_audit.audit import order
    from bn_audit.finding import Silenced

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
    selection = _selections(settings)

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
    from bn_audit.source.positions import source_lines
    from bn_audit.source.raw import SourceError

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
        if found is not None:
            return found
        from bn_audit.source.raw import read_bytes

        return read_bytes(path)

    return content


def _is_whole(path: str, folders: Sequence[str]) -> bool:
    """Whether all that lies around a file was looked at: only then does silence about it mean anything."""
    if not folders:
        return False
    from bn_audit.source.root import whole_root

    root = os.path.join(whole_root(path), "")
    return any(root.startswith(os.path.join(folder, "")) for folder in folders)


def failures(findings: Sequence[Finding], settings: Resolver) -> frozenset[Finding]:
    """The findings as severe as it takes to fail, by the settings of the files that they stand in."""
    if not findings:
        return frozenset()
    from bn_audit.finding import Severity

    return frozenset(
        finding
        for finding in findings
        if finding.severity.rank >= Severity(settings.of(finding.location.path).get("fail_on", "warning")).rank
    )


def _selections(settings: Resolver) -> Callable[[str], Selection]:
    from bn_audit.audit import Selection

    found: dict[str, Selection] = {}

    def selection(path: str) -> Selection:
        if path not in found:
            config = settings.of(path)
            found[path] = Selection(
                config.get("select"),
                config.get("extend_select", ()),
                config.get("ignore", ()),
                settings.ignored(path),
            )
        return found[path]

    return selection


def _versions(settings: Resolver) -> Callable[[str], Versions]:
    """The releases around a file: SecretFlow's from the settings or the project's pins, in order."""
    from bn_audit.audit import Versions
    from bn_audit.pins import pinned

    def versions(path: str) -> Versions:
        chosen = settings.of(path).get("secretflow_version")
        return Versions(secretflow=chosen or pinned(path, SECRETFLOW), torch=pinned(path, ("torch",)))

    return versions
