"""From paths and settings to findings: what the command line, an editor and whatever else scans have in common.

Settings hold for each file by itself, so they are asked for by path.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from bn_audit.settings.config import Config, ConfigError
from bn_audit.settings.resolver import Resolver
from bn_audit.source.read import ReadOptions, ReadResult

if TYPE_CHECKING:
    from bn_audit.audit import Selection, Versions
    from bn_audit.baseline import Key
    from bn_audit.finding import Finding, Silenced
    from bn_audit.settings.keys import Vocabulary
    from bn_audit.source.keeper import Keeper

__all__ = [
    "SECRETFLOW",
    "Heard",
    "failures",
    "judge",
    "read_options",
    "reported",
    "resolver",
    "selections",
    "versions_of",
    "vocabulary",
]

SECRETFLOW = ("secretflow", "secretflow-lite")
"""Distributions that hold FLModel, or bring it."""
TIMEOUT = 60
"""Seconds of processor time that a file may take, if nobody says how many. None that is known takes half of it."""
CACHE = ".bn-audit_cache"
"""The name of the folder that a cache is in if nobody names one."""


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
        seconds=run.get("timeout", TIMEOUT),
        contain=True,
    )


class Cache:
    """The cache of a run, opened when a scan first asks for it.

    Attributes:
        folder: where it is.
        version: the tool's.
    """

    def __init__(self, folder: str, version: str) -> None:
        self.folder = folder
        self.version = version
        self._keeper: Keeper | None = None

    def __call__(self) -> Keeper:
        """What remembers scans."""
        if self._keeper is None:
            from bn_audit.source.keeper import Keeper

            self._keeper = Keeper(self.folder, self.version)
        return self._keeper

    @property
    def notes(self) -> tuple[str, ...]:
        """Why something could not be kept or recalled, in words."""
        return () if self._keeper is None else tuple(self._keeper.notes)


def cache_folder(run: Config, start: str) -> str:
    """Where the cache of a run is, by its settings; else in the root of the project around the folder ``start``."""
    if "cache_dir" in run:
        return run["cache_dir"]
    from bn_audit.source.root import project_root

    return os.path.join(run.get("root") or project_root(os.path.join(start, "_")), CACHE)


def judge(result: ReadResult, settings: Resolver, *, every_rule: bool = False) -> tuple[Finding, ...]:
    """The findings about what was read, by the rules and releases that the settings name for each file.

    Most files hold nothing to judge. What judges is imported only where there is something.

    Args:
        every_rule: whether all rules speak, whatever is selected.
    """
    if not (result.sites or result.unreadable):
        return ()
    from bn_audit.audit import Selection, audit

    selection = Selection() if every_rule else selections(settings)
    return audit(result.sites, result.unreadable, selection, versions_of(settings))


def reported(every: Sequence[Finding], settings: Resolver) -> tuple[Finding, ...]:
    """Of the findings of every rule those that :func:`judge` gives without ``every_rule``."""
    selection = selections(settings)
    return tuple(finding for finding in every if finding.code in selection(finding.location.path))


class Heard:
    """What is left to say once suppressions and a baseline are heeded.

    Attributes:
        findings: in the order of the output.
        silenced: the others, in the same order.
        stale: what the baseline knows that is not there any more, and how often.
    """

    __slots__ = ("findings", "silenced", "stale")

    def __init__(
        self,
        findings: tuple[Finding, ...] = (),
        silenced: tuple[Silenced, ...] = (),
        stale: Mapping[Key, int] | None = None,
    ) -> None:
        self.findings = findings
        self.silenced = silenced
        self.stale = stale or {}


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


def selections(settings: Resolver) -> Callable[[str], Selection]:
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


def versions_of(settings: Resolver) -> Callable[[str], Versions]:
    """The releases around a file: SecretFlow's from the settings or the project's pins, in order."""
    from bn_audit.audit import Versions
    from bn_audit.pins import pinned

    def versions(path: str) -> Versions:
        chosen = settings.of(path).get("secretflow_version")
        return Versions(secretflow=chosen or pinned(path, SECRETFLOW), torch=pinned(path, ("torch",)))

    return versions
