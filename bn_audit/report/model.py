"""What a report is made from, and how it is looked at."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from bn_audit.finding import Finding, Location, Severity, Silenced

__all__ = ["Excerpt", "InFile", "Report", "View"]

Excerpt = Callable[[str, "int | None", int], "str | None"]
"""``(path, cell, line) -> text``: a line of source without its line end, or None where there is none."""

InFile = Callable[["Location"], "Location"]
"""From a location in a notebook's cell to the same in the text of the notebook's file; others stay as they are."""


def _no_source(path: str, cell: int | None, line: int) -> None:
    """There is none to show."""


def _as_if_at_the_top(location: Location) -> Location:
    from bn_audit.finding import Location

    return location if location.cell is None else Location(location.path, 1, 1, 1, 1)


class Report(NamedTuple):
    """The outcome of one scan. (A named tuple, because a dataclass takes longer to define than most files to scan.)

    Attributes:
        findings: in the order of the output.
        files: how many files were looked at.
        parsed: how many of them held a trigger and were parsed.
        sites: how many FLModel calls were judged.
        others: how many other sites of a federation were.
        fixed: how many findings there were before their fixes were applied.
        unsafe_fixes: whether unsafe fixes count as fixes.
        silenced: findings that a comment or a baseline silenced, in the order of the output.
        paths: the files looked at, in order.
        problems: what could not be read, in words.
        failing: the findings that make the command fail; None is those from a warning on.
        status: the command's exit status.
        version: bn-audit's own.
    """

    findings: tuple[Finding, ...]
    files: int
    parsed: int
    sites: int
    others: int = 0
    fixed: int = 0
    unsafe_fixes: bool = False
    silenced: tuple[Silenced, ...] = ()
    paths: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    failing: frozenset[Finding] | None = None
    status: int = 0
    version: str = ""

    def count(self, severity: Severity) -> int:
        """How many findings have this severity."""
        return sum(finding.severity is severity for finding in self.findings)

    def fixes(self, finding: Finding) -> bool:
        """Whether ``--fix`` would mend a finding."""
        from bn_audit.fix.edits import applicable

        return applicable(finding, unsafe=self.unsafe_fixes)

    def fails(self, finding: Finding) -> bool:
        """Whether a finding makes the command fail."""
        if self.failing is None:
            return finding.severity.value != "info"
        return finding in self.failing

    @property
    def suppressed(self) -> int:
        """How many findings a comment silenced."""
        return sum(one.by == "comment" for one in self.silenced)

    @property
    def baselined(self) -> int:
        """How many findings a baseline silenced."""
        return sum(one.by == "baseline" for one in self.silenced)

    @property
    def fixable(self) -> int:
        """How many findings ``--fix`` would mend."""
        return sum(map(self.fixes, self.findings))

    @property
    def hidden_fixes(self) -> int:
        """How many more it would mend with ``--unsafe-fixes``."""
        return sum(finding.fix is not None for finding in self.findings) - self.fixable


class View(NamedTuple):
    """How a person, or a program, wants to see a report.

    Attributes:
        excerpt: gives lines of source for frames.
        color: whether escape sequences for colour are wanted.
        footer: whether the counts are wanted below the findings.
        in_file: for formats that know no cells, where a location in one is in the notebook's file.
    """

    excerpt: Excerpt = _no_source
    color: bool = False
    footer: bool = True
    in_file: InFile = _as_if_at_the_top
