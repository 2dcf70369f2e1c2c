"""Fixes applied to files in memory, round by round, each result judged before it counts.

Of fixes that overlap the first one is applied; the others wait for the next round, which begins with what is found
then. A file whose result cannot be parsed, or is not what its fixes announced, is left as it was, and the rest goes on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from bn_audit.federation import EvaluationSite, FederatedSite, TrainingSite
from bn_audit.finding import Applicability, Edit, Finding, Location, Severity
from bn_audit.fix.contents import Edited, Refused, edit_bytes
from bn_audit.fix.edits import compatible
from bn_audit.site import FLModelSite
from bn_audit.source.parse import parse
from bn_audit.source.text import SourceError

__all__ = ["LIMIT", "FixedFile", "Judgement", "Outcome", "fix_files", "lasting"]

LIMIT = 10
"""Rounds; as many fixes that wait for one another are more than a file has."""

Spot = tuple[str, "int | None", int, int]
"""Path, cell, line and column."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is found in some contents.

    Attributes:
        findings: those that are reported, and may be fixed.
        every: those of all rules, whether or not they are reported: what a fix must not add to.
        sites: where calls were judged that are there whatever is fixed; see ``lasting``.
    """

    findings: tuple[Finding, ...]
    every: tuple[Finding, ...]
    sites: frozenset[Location]


def lasting(sites: Iterable[FLModelSite | FederatedSite]) -> frozenset[Location]:
    """The places of sites that have to be found after a fix too. A model that runs in the wrong mode is a site only as
    long as it does."""
    return frozenset(site.location for site in sites if not isinstance(site, (EvaluationSite, TrainingSite)))


J = TypeVar("J", bound=Judgement)


@dataclass(frozen=True, slots=True)
class FixedFile:
    """A file and what becomes of it; ``fixed`` are the findings that are gone."""

    path: str
    old: bytes
    new: bytes
    fixed: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Outcome(Generic[J]):
    """What came of it.

    Attributes:
        files: those that change, by path.
        judgement: what is found once they have changed.
        refused: files that are left as they are, and why.
    """

    files: tuple[FixedFile, ...]
    judgement: J
    refused: tuple[tuple[str, str], ...]


@dataclass(slots=True)
class _State:
    old: dict[str, bytes] = field(default_factory=dict)
    now: dict[str, bytes] = field(default_factory=dict)
    fixed: dict[str, list[Finding]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


def fix_files(
    first: J, judge: Callable[[Mapping[str, bytes]], J], take: Callable[[str], bytes], *, unsafe: bool
) -> Outcome[J]:
    """Apply the fixes of findings until there is none left to apply, in memory.

    Args:
        first: what a scan found.
        judge: finds again, with the given contents, by the paths of findings, in place of what stands in those files.
        take: reads a file that shall be changed. Raises Refused.
        unsafe: whether unsafe fixes are applied as well.
    """
    state = _State()
    judgement = first
    for _ in range(LIMIT):
        chosen = _chosen(judgement, state, unsafe)
        if _take(chosen, state, take):
            # A scan may have seen other bytes. From here on all speak of the same.
            judgement = judge(state.now)
            chosen = _chosen(judgement, state, unsafe)
        trial = _edited(chosen, state)
        if not trial:
            if not chosen:
                break
            continue
        contents = {**state.now, **{path: edited.data for path, edited in trial.items()}}
        after = judge(contents)
        faults = _faults(judgement, after, chosen, trial)
        if faults and len(trial) > 1:
            # One of them is at fault: each has to stand by itself.
            faults = {}
            for path, edited in trial.items():
                alone = judge({**state.now, path: edited.data})
                faults.update(_faults(judgement, alone, {path: chosen[path]}, {path: edited}))
        for path, reason in faults.items():
            _leave(state, path, reason)
        for path, edited in trial.items():
            if path not in faults:
                state.now[path] = edited.data
                state.fixed.setdefault(path, []).extend(chosen[path])
        judgement = judge(state.now) if faults else after
    changed = [path for path in sorted(state.now) if state.now[path] != state.old[path]]
    files = tuple(FixedFile(path, state.old[path], state.now[path], tuple(state.fixed[path])) for path in changed)
    return Outcome(files, judgement, tuple(sorted(state.refused.items())))


def _chosen(judgement: Judgement, state: _State, unsafe: bool) -> dict[str, list[Finding]]:
    """The findings to fix next, by path: those whose fixes go together."""
    found: dict[str, list[Finding]] = {}
    for finding in compatible(judgement.findings, unsafe=unsafe):
        if finding.location.path not in state.refused:
            found.setdefault(finding.location.path, []).append(finding)
    return found


def _take(chosen: Iterable[str], state: _State, take: Callable[[str], bytes]) -> bool:
    """Read what has not been read yet; whether there was anything."""
    new = [path for path in chosen if path not in state.old]
    for path in new:
        try:
            state.old[path] = state.now[path] = take(path)
        except Refused as error:
            state.refused[path] = str(error)
    # One file under two names is changed under the first.
    seen: dict[str, str] = {}
    for path in sorted(state.old):
        real = os.path.realpath(path)
        if seen.setdefault(real, path) != path:
            state.refused.setdefault(path, f"it is {seen[real]} under another name")
    return bool(new)


def _leave(state: _State, path: str, reason: str) -> None:
    state.now[path] = state.old[path]
    state.fixed.pop(path, None)
    state.refused[path] = reason


def _edited(chosen: Mapping[str, Sequence[Finding]], state: _State) -> dict[str, Edited]:
    """The files after their fixes, as far as they can be written and parsed; the others are refused."""
    found = {}
    for path, findings in chosen.items():
        if path in state.refused:
            continue
        edits: dict[int | None, list[Edit]] = {}
        for finding in findings:
            if finding.fix is not None:
                edits.setdefault(finding.location.cell, []).extend(finding.fix.edits)
        try:
            edited = edit_bytes(path, state.now[path], edits)
            _check(path, state.now[path], edited.data)
        except Refused as error:
            _leave(state, path, str(error))
        else:
            found[path] = edited
    return found


def _check(path: str, old: bytes, new: bytes) -> None:
    """Refuse what cannot be parsed any more."""
    try:
        broken = parse(path, new).unreadable
        if not broken or len(broken) == len(parse(path, old).unreadable):
            return
        reason = broken[0].reason
    except SourceError as error:
        reason = error.reason
    raise Refused(f"the fix does not give valid Python: {reason}")


def _faults(
    before: Judgement, after: Judgement, chosen: Mapping[str, Sequence[Finding]], trial: Mapping[str, Edited]
) -> dict[str, str]:
    """The files whose result is not what their fixes announced, and why.

    What was fixed is gone, though the call is still there; nothing that matters is found that was not before, but
    where an unsafe fix said so. What comes up in a file without a fix is laid to all.
    """
    fixed = [finding for path in trial for finding in chosen[path]]
    known = {_key(finding, trial) for finding in before.every}
    sites = {_spot(place, {}) for place in after.sites}
    found = {_key(finding, {}) for finding in after.every}
    announced = set()
    faults: dict[str, str] = {}
    for finding in fixed:
        spot = _spot(finding.location, trial)
        if (finding.code, spot) in found:
            faults[spot[0]] = f"after the fix, {finding.code} is found all the same"
        elif finding.location in before.sites and spot not in sites:
            faults[spot[0]] = "after the fix, the call is not found any more"
        if finding.fix is not None and finding.fix.applicability is Applicability.UNSAFE:
            announced.add(spot)
    for finding in after.every:
        spot = _spot(finding.location, {})
        new = finding.severity is not Severity.INFO and (finding.code, spot) not in known
        if new and spot not in announced:
            where = f"{finding.location.path}:{spot[2]}"
            for path in (spot[0],) if spot[0] in trial else tuple(trial):
                faults.setdefault(path, f"after the fix, {finding.code} is found at {where}")
    return faults


def _key(finding: Finding, trial: Mapping[str, Edited]) -> tuple[str, Spot]:
    return finding.code, _spot(finding.location, trial)


def _spot(place: Location, trial: Mapping[str, Edited]) -> Spot:
    """Where a stretch begins, after the edits of its file."""
    line, column = place.line, place.column
    edited = trial.get(place.path)
    if edited is not None:
        line, column = edited.moved(place.cell, line, column)
    return place.path, place.cell, line, column
