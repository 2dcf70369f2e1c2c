"""A comment that silences a rule where the rule has nothing to say.

Suppressions outlive what they were written for: the call is fixed, the line moves, the code was never right. Such a
comment tells its reader of a hazard that is not there, and silences the next one that comes to its line.
"""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.finding import Applicability, Finding, Fix, Severity
from bn_audit.rules.examples import federation
from bn_audit.rules.rule import Example, Rule
from bn_audit.suppression import UnusedSuppression

__all__ = ["RULES"]


def _check(suppression: UnusedSuppression) -> Iterator[Finding]:
    codes = (*suppression.unused, *suppression.unknown)
    where = "in this file" if suppression.whole_file else "here"
    said = []
    if suppression.unused:
        said.append(f"{_listed(suppression.unused)}, which {_are(suppression.unused)} not found {where}")
    if suppression.unknown:
        said.append(f"{_listed(suppression.unknown)}, which {_are(suppression.unknown)} no rule of bn-audit's")
    what = f"{_listed(codes)} from the comment" if suppression.left else "the comment"
    yield RULE.finding(
        suppression.location,
        f"this comment silences {', and '.join(said)}",
        fix=Fix(Applicability.SAFE, f"remove {what}", suppression.edits),
    )


def _listed(codes: tuple[str, ...]) -> str:
    return " and ".join(filter(None, (", ".join(codes[:-1]), codes[-1])))


def _are(codes: tuple[str, ...]) -> str:
    return "is" if len(codes) == 1 else "are"


_LAYERS = ("self.conv = nn.Conv2d(1, 8, 3)", "self.fc = nn.Linear(8 * 26 * 26, 10)", "self.bn = nn.BatchNorm2d(8)")


def _program(comment: str, *settings: str, last: bool = True) -> Example:
    """A federation, with a comment at the end of its FLModel call or at the beginning of the file."""
    ((name, source),) = federation(*_LAYERS, settings=settings).files
    return Example(((name, f"{source.rstrip()}  {comment}\n" if last else f"{comment}\n{source}"),))


RULE = Rule(
    code="BNA902",
    name="unused-suppression",
    severity=Severity.WARNING,
    summary="A comment silences a rule that has nothing to say there",
    finds="""\
A `# noqa`, `# bn-audit: ignore` or `# bn-audit: ignore-file` that names a code of bn-audit's, where that rule finds
nothing; and a code that is no rule's.""",
    why="""\
The comment speaks of a hazard that is not there, or not any more. And it silences the rule, unseen, should the hazard
come back to that line.""",
    remedy="Remove the code; or the comment, if it names no other.",
    silent="""\
- The comment names no code of bn-audit's: a bare `# noqa` may be meant for another linter.
- The rule is not selected, or is ignored for this file.
- Not all of the project was scanned: `scan` was given files, or a folder below the root of the repository. What is
  not scanned may be what a rule needs for its evidence. A code that is no rule's is told all the same.
- The file, or a cell of the notebook, cannot be read (BNA901): what it holds was not judged.
- The comment names BNA902 itself.""",
    fix_safety="""\
Safe. Only the comment changes: the code is taken out, or the comment with its reason if no other code is in it. Codes
of other linters stay.""",
    references=("ruff's unused-noqa (RUF100)",),
    bad=(
        _program("# noqa: BNA101", "skip_bn=True"),
        _program("# bn-audit: ignore-file[BNA102]", "skip_bn=True", last=False),
        _program("# noqa: BNA999", "skip_bn=True"),
    ),
    good=(
        _program("# noqa: BNA102 averaged on purpose", "skip_bn=False"),
        _program("# bn-audit: ignore-file[BNA101]", last=False),
        _program("# noqa", "skip_bn=True"),
    ),
    judges=UnusedSuppression,
    check=_check,
)

RULES = (RULE,)
