"""A baseline: the findings that a project knows of, so that only new ones are told.

A finding is known by its file, its rule and the digest of its own source (see :mod:`bn_audit.fingerprint`), never by
its line or its message: it stays known while the lines above it move. Findings of a file that are equal in this are
counted. The file is JSON, an entry a line, sorted, so that a change of it is read in a diff; its schema lies beside
this module. Paths are relative to the baseline's own folder, with ``/``.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from bn_audit.finding import Finding
from bn_audit.fingerprint import fingerprints

__all__ = ["VERSION", "Baseline", "BaselineError", "Key", "Matched", "load", "merged"]

VERSION = 1
_REMEDY = "restore it, or remove it and write it anew with --write-baseline"
_CODE = re.compile(r"BNA\d{3}")
_DIGEST = re.compile(r"[0-9a-f]{16}")

Excerpt = Callable[[str, "int | None", int], "str | None"]


class BaselineError(Exception):
    """A baseline that cannot be used; the text names the file, what is wrong, and what to do."""


class Key(NamedTuple):
    """What a finding is known by; ``path`` is relative to the baseline's folder."""

    path: str
    code: str
    digest: str


@dataclass(frozen=True, slots=True)
class Matched:
    """Findings beside a baseline, each in the order given.

    Attributes:
        new: those that it does not know.
        known: those that it does.
        stale: how often it knows more than there are.
    """

    new: tuple[Finding, ...]
    known: tuple[Finding, ...]
    stale: Mapping[Key, int]


@dataclass(frozen=True, slots=True)
class Baseline:
    """The findings that are known, and how often each.

    ``folder`` is absolute: what the paths are relative to.
    """

    folder: str
    counts: Mapping[Key, int] = field(default_factory=dict)

    def key(self, path: str) -> str:
        """A path of a finding as the baseline has it."""
        absolute = os.path.abspath(path)
        try:
            relative = os.path.relpath(absolute, self.folder)
        except ValueError:  # On another drive.
            relative = absolute
        return relative if os.sep == "/" else relative.replace(os.sep, "/")

    def file(self, key: Key) -> str:
        """The absolute path of an entry's file."""
        return os.path.normpath(os.path.join(self.folder, key.path))

    def of(self, findings: Iterable[Finding], excerpt: Excerpt) -> Baseline:
        """A baseline at the same place that knows these findings and no others."""
        return Baseline(self.folder, Counter(self._keys(tuple(findings), excerpt)))

    def match(self, findings: Iterable[Finding], excerpt: Excerpt) -> Matched:
        """Tell known findings from new ones. Of equal ones the first are known, as many as the baseline counts."""
        findings = tuple(findings)
        left = Counter(self.counts)
        new: list[Finding] = []
        known: list[Finding] = []
        for finding, key in zip(findings, self._keys(findings, excerpt), strict=True):
            (known if left[key] else new).append(finding)
            left[key] -= left[key] > 0
        return Matched(tuple(new), tuple(known), +left)

    def without(self, stale: Mapping[Key, int]) -> Baseline:
        """The same, as many of these fewer."""
        return Baseline(self.folder, Counter(self.counts) - Counter(stale))

    def text(self) -> str:
        """The file's content."""
        rows = [
            json.dumps({**key._asdict(), "count": count}) for key, count in sorted(self.counts.items()) if count > 0
        ]
        inside = ",\n    ".join(rows)
        return (
            f'{{\n  "version": {VERSION},\n  "findings": [{f"{chr(10)}    {inside}{chr(10)}  " if rows else ""}]\n}}\n'
        )

    def _keys(self, findings: tuple[Finding, ...], excerpt: Excerpt) -> list[Key]:
        return [
            Key(self.key(finding.location.path), one.code, one.digest)
            for finding, one in zip(findings, fingerprints(findings, excerpt), strict=True)
        ]


def merged(found: Baseline, old: Baseline, keep: Callable[[Key], bool]) -> Baseline:
    """What was found now, and of an older baseline what this scan could say nothing about."""
    return Baseline(
        found.folder, Counter(found.counts) | Counter({key: n for key, n in old.counts.items() if keep(key)})
    )


def load(path: str) -> Baseline:
    """Read a baseline.

    Raises:
        BaselineError: the file cannot be read, is cut in half, or was written by another version.
    """
    folder = os.path.dirname(os.path.abspath(path))
    try:
        with open(path, "rb") as file:
            document = json.loads(file.read())
    except FileNotFoundError as error:
        raise BaselineError(f"{path}: no such file; --write-baseline {path} makes one") from error
    except OSError as error:
        raise BaselineError(f"{path}: {error.strerror}") from error
    except json.JSONDecodeError as error:
        raise BaselineError(
            f"{path}:{error.lineno}: the baseline is no JSON, or not all of it is there ({error.msg}); {_REMEDY}"
        ) from error
    except (UnicodeDecodeError, RecursionError, ValueError) as error:
        raise BaselineError(f"{path}: the baseline is no JSON: {error}") from error
    version = document.get("version") if isinstance(document, dict) else None
    if version is None:
        raise BaselineError(f"{path}: this is no baseline: it has no version")
    if version != VERSION or isinstance(version, bool):
        raise BaselineError(
            f"{path}: the baseline has version {version!r}, and this bn-audit reads version {VERSION}; {_REMEDY}"
        )
    return Baseline(folder, _counts(path, document))


def _counts(path: str, document: dict[str, Any]) -> Mapping[Key, int]:
    rows = document.get("findings")
    if not isinstance(rows, list) or document.keys() != {"version", "findings"}:
        raise BaselineError(f"{path}: a baseline has `version` and a list of `findings`, and nothing else")
    counts: dict[Key, int] = {}
    for number, row in enumerate(rows, start=1):
        if not _is_entry(row):
            raise BaselineError(f"{path}: entry {number} is not a finding's: {json.dumps(row)[:200]}")
        key = Key(row["path"], row["code"], row["digest"])
        if key in counts:
            raise BaselineError(f"{path}: entry {number} is there twice: {json.dumps(row)}")
        counts[key] = row["count"]
    return counts


def _is_entry(row: object) -> bool:
    return (
        isinstance(row, dict)
        and row.keys() == {"path", "code", "digest", "count"}
        and all(isinstance(row[name], str) for name in ("path", "code", "digest"))
        and bool(row["path"] and _CODE.fullmatch(row["code"]) and _DIGEST.fullmatch(row["digest"]))
        and type(row["count"]) is int
        and row["count"] > 0
    )
