"""One look at a workspace: from folders, and what the editor holds of their files, to findings by file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bn_audit import pins
from bn_audit.finding import Finding
from bn_audit.fix.add_noqa import annotate
from bn_audit.fix.contents import Refused
from bn_audit.hearing import content_of, hear
from bn_audit.scanning import judge, read_options, resolver
from bn_audit.source.raw import SourceError, read_bytes
from bn_audit.source.read import read

__all__ = ["Look", "content", "look", "silenced"]


@dataclass(frozen=True, slots=True)
class Look:
    """What was found.

    Attributes:
        findings: by absolute path, in the order of the output; files without any are left out.
        notes: what could not be read, and what the settings have to say, in words.
    """

    findings: Mapping[str, tuple[Finding, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def look(paths: Sequence[str], contents: Mapping[str, bytes]) -> Look:
    """Scan folders and files; ``contents`` is what the editor holds, by absolute path.

    The configuration and the project's pins are read again each time: they may have changed.

    Raises:
        ConfigError: a configuration cannot be used.
    """
    pins.forget()
    settings = resolver()
    # One process: the editor and its other servers want the rest of the machine.
    options = read_options(settings, settings.run(paths))._replace(jobs=1)
    result = read(paths, options=options, contents=contents)
    heard = hear(judge(result, settings), result, settings, content_of(None, contents))
    found: dict[str, list[Finding]] = {}
    for finding in heard.findings:
        found.setdefault(os.path.abspath(finding.location.path), []).append(finding)
    return Look({path: tuple(rows) for path, rows in found.items()}, (*result.complaints, *settings.notes))


def content(path: str, contents: Mapping[str, bytes]) -> bytes | None:
    """What the editor holds of a file, else what is on disk; None if it is gone."""
    held = contents.get(path)
    if held is not None:
        return held
    try:
        return read_bytes(path)
    except SourceError:
        return None


def silenced(path: str, data: bytes, finding: Finding) -> bytes | None:
    """A file with a comment that silences a finding; None where there can be none."""
    try:
        annotated = annotate(path, data, [finding])
    except Refused:
        return None
    return annotated.data if annotated.added else None
