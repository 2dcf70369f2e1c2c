"""What a report is made from, and how it is looked at."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from bn_audit.finding import Finding, Severity

__all__ = ["Excerpt", "Report", "View"]

Excerpt = Callable[[str, "int | None", int], "str | None"]
"""``(path, cell, line) -> text``: a line of source without its line end, or None where there is none."""


class Report(NamedTuple):
    """The outcome of one scan. (A named tuple, because a dataclass takes longer to define than most files to scan.)

    Attributes:
        findings: in the order of the output.
        files: how many files were looked at.
        parsed: how many of them held a trigger and were parsed.
        sites: how many FLModel calls were judged.
        others: how many other sites of a federation were.
        suppressed: how many findings a comment in the source silenced.
        fixed: how many findings there were before their fixes were applied.
        unsafe_fixes: whether unsafe fixes count as fixes.
    """

    findings: tuple[Finding, ...]
    files: int
    parsed: int
    sites: int
    suppressed: int = 0
    others: int = 0
    fixed: int = 0
    unsafe_fixes: bool = False

    def count(self, severity: Severity) -> int:
        """How many findings have this severity."""
        return sum(finding.severity is severity for finding in self.findings)

    def fixes(self, finding: Finding) -> bool:
        """Whether ``--fix`` would mend a finding."""
        from bn_audit.fix.edits import applicable

        return applicable(finding, unsafe=self.unsafe_fixes)

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
    """

    excerpt: Excerpt
    color: bool = False
    footer: bool = True
