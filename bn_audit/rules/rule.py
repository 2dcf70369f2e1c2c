"""What a rule is: a code, a page of documentation, examples that are its tests, and a check."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import UnionType
from typing import Generic, TypeVar

from bn_audit.finding import Evidence, Finding, Fix, Location, Severity

__all__ = ["Example", "Rule"]

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Example:
    """A small program, as people write them: ``(file name, source)`` pairs. The first file is the one to look at.

    ``target`` is what to inspect of it (``model.py:model``) where a rule judges live models; None where the source is
    what matters.
    """

    files: tuple[tuple[str, str], ...]
    target: str | None = None


@dataclass(frozen=True, slots=True)
class Rule(Generic[S]):
    """One thing that can be wrong.

    The text fields are Markdown, and are the rule's documentation in every place. The tests run the examples through
    the source reader, or inspect their targets: the rule speaks in every bad one, and in no good one.

    Attributes:
        code: ``BNA`` and three digits.
        name: words for people, in kebab case.
        severity: of a finding, unless the check knows better.
        summary: one sentence, without a full stop.
        finds: what it finds.
        why: why that is bad.
        remedy: what to do.
        silent: when it stays silent.
        fix_safety: whether edits are offered, and how far they may be trusted.
        references: papers, and places of behaviour in code.
        bad, good: examples that it speaks of, and that it does not.
        judges: the kind of subject its check takes, or several of them.
        check: the findings about one subject.
        yields_to: codes of rules that say the same with more right: what is part of their trails is not said again.
    """

    code: str
    name: str
    severity: Severity
    summary: str
    finds: str
    why: str
    remedy: str
    silent: str
    fix_safety: str
    references: tuple[str, ...]
    bad: tuple[Example, ...]
    good: tuple[Example, ...]
    judges: type[S] | UnionType
    check: Callable[[S], Iterator[Finding]]
    yields_to: tuple[str, ...] = ()

    def finding(
        self,
        location: Location,
        message: str,
        *,
        evidence: tuple[Evidence, ...] = (),
        help: str | None = None,
        severity: Severity | None = None,
        fix: Fix | None = None,
    ) -> Finding:
        """A finding of this rule; its own severity unless another is given."""
        return Finding(self.code, self.name, severity or self.severity, message, location, evidence, help, fix)
