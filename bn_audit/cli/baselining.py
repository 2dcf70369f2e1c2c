"""``--baseline``, ``--write-baseline`` and ``--prune-baseline``: the findings that a project knows of.

Imported only if one of the flags is given.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import click

from bn_audit.baseline import Baseline, BaselineError, load, merged
from bn_audit.cli.output import Failure
from bn_audit.fix.files import write
from bn_audit.hearing import content_of, excerpt_of, heed_baseline, judged_in
from bn_audit.report.words import count

if TYPE_CHECKING:
    from bn_audit.baseline import Key
    from bn_audit.cli.fixing import Stdin
    from bn_audit.scanning import Heard
    from bn_audit.settings.resolver import Resolver
    from bn_audit.source.read import ReadResult

__all__ = ["Baselining"]

_SHOWN = 5
"""Stale entries that are listed."""


class Baselining:
    """The baseline of a run: read before the scan, so that one that cannot be used ends it before any work is done."""

    def __init__(self, source: str | None, target: str | None, *, prune: bool, dry: bool) -> None:
        """Read what is there.

        Args:
            source: ``--baseline``.
            target: ``--write-baseline``.
            prune: ``--prune-baseline``.
            dry: whether the run shall write no baseline.

        Raises:
            UsageError: the flags contradict each other.
            Failure: the file cannot be used (exit status 2).
        """
        self._source, self._target, self._prune = source, target, prune
        if self._target is not None and (self._source is not None or self._prune):
            raise click.UsageError("--write-baseline takes all findings: it goes with no other flag about a baseline")
        if self._prune and self._source is None:
            raise click.UsageError("--prune-baseline needs --baseline FILE, or a `baseline` in the settings")
        if dry and (self._target is not None or self._prune):
            raise click.UsageError("--diff and --add-noqa write no baseline")
        self.known: Baseline | None = None
        self._old: Baseline | None = None
        if self._source is not None:
            self.known = _load(self._source)
        elif self._target is not None:
            self._old = _load(self._target, missing=True)

    def settle(
        self,
        heard: Heard,
        result: ReadResult,
        settings: Resolver,
        stdin: Stdin | None,
        *,
        complete: bool,
        say: Callable[[str], None],
        quiet: bool,
    ) -> Heard:
        """Write what is to be written, say what is to be said; what is left to report.

        If ``quiet``, only what went wrong is said.
        """
        note = _nothing if quiet else say
        if self._target is not None and self._old is not None:
            if not complete:
                say(f"{self._target}: not written, for not all could be read")
                return heard
            return self._write(heard, result, settings, content_of(stdin, {}), note)
        if self.known is not None and self._source is not None and heard.stale:
            stale = _entries(sum(heard.stale.values()))
            if not self._prune:
                note(f"{self._source}: {stale} not found any more; --prune-baseline removes what is stale")
                for line in _listed(heard.stale):
                    note(f"  {line}")
            elif not complete:
                say(f"{self._source}: not pruned, for not all could be read")
            else:
                _store(self._source, self.known.without(heard.stale))
                note(f"{self._source}: removed {stale} not found any more")
        return heard

    def _write(
        self,
        heard: Heard,
        result: ReadResult,
        settings: Resolver,
        content: Callable[[str], bytes],
        note: Callable[[str], None],
    ) -> Heard:
        assert self._target is not None and self._old is not None
        judged = judged_in(result, settings, self._old)
        found = self._old.of(heard.findings, excerpt_of(content))
        baseline = merged(found, self._old, lambda key: not judged(key))
        _store(self._target, baseline)
        kept = sum(baseline.counts.values()) - len(heard.findings)
        others = f", and kept {_entries(kept)} of files that this scan does not judge" if kept else ""
        note(f"{self._target}: wrote {count(len(heard.findings), 'finding')}{others}")
        return heed_baseline(heard, result, settings, content, baseline)


def _nothing(text: str) -> None:
    """Say nothing."""


def _load(path: str, *, missing: bool = False) -> Baseline:
    """A baseline; an empty one if the file is not there, and may be ``missing``."""
    if missing and not os.path.exists(path):
        return Baseline(os.path.dirname(os.path.abspath(path)))
    try:
        return load(path)
    except BaselineError as error:
        raise Failure(str(error)) from error


def _store(path: str, baseline: Baseline) -> None:
    try:
        write(path, baseline.text().encode("ascii"))
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}") from error


def _entries(number: int) -> str:
    return "1 finding that is" if number == 1 else f"{number} findings that are"


def _listed(stale: Mapping[Key, int]) -> list[str]:
    rows = [f"{key.path}: {key.code}{f' ({count} times)' if count > 1 else ''}" for key, count in sorted(stale.items())]
    rest = len(rows) - _SHOWN
    return rows if rest <= 1 else [*rows[:_SHOWN], f"and {rest} more"]
