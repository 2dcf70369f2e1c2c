"""JUnit's XML, as Jenkins, GitLab and other systems read it: a suite a file, a case a finding.

A file without findings is a suite with one case that passes, so that a system that counts tests sees what was looked
at. A finding that does not make the command fail is a case that passes, and says what it has to say.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from xml.sax.saxutils import escape

from bn_audit.finding import Finding
from bn_audit.report.model import Report, View
from bn_audit.report.words import forward, position, printable, sentence

__all__ = ["render"]


def render(report: Report, view: View) -> Iterator[str]:
    """The whole report. What XML cannot hold, control characters and lone surrogates, comes as an escape."""
    by_path: dict[str, list[Finding]] = {path: [] for path in report.paths}
    for finding in report.findings:
        by_path.setdefault(finding.location.path, []).append(finding)
    failures = sum(map(report.fails, report.findings))
    tests = sum(max(len(findings), 1) for findings in by_path.values()) + len(report.problems)
    yield '<?xml version="1.0" encoding="UTF-8"?>'
    yield f'<testsuites name="bn-audit" {_counts(tests, failures, len(report.problems))}>'
    if report.problems:
        yield from _problems(report.problems)
    for path in sorted(by_path):
        yield from _suite(path, by_path[path], report)
    yield "</testsuites>"


def _problems(problems: Sequence[str]) -> Iterator[str]:
    """A suite of what could not be read: the scan is not complete."""
    yield f'  <testsuite name="bn-audit" {_counts(len(problems), 0, len(problems))}>'
    for problem in problems:
        yield f"    <testcase {_attributes(classname='bn-audit', name=problem)}>"
        yield f"      <error {_attributes(type='unreadable', message=problem)}/>"
        yield "    </testcase>"
    yield "  </testsuite>"


def _suite(path: str, findings: Sequence[Finding], report: Report) -> Iterator[str]:
    path = forward(path)
    failures = sum(map(report.fails, findings))
    counts = _counts(max(len(findings), 1), failures, 0)
    yield f"  <testsuite {_attributes(name=path, file=path)} {counts}>"
    if not findings:
        yield f"    <testcase {_attributes(classname=path, name='bn-audit')}/>"
    for finding in findings:
        yield f"    <testcase {_attributes(classname=path, name=_name(finding))}>"
        if report.fails(finding):
            said = _attributes(type=finding.severity.value, message=finding.message)
            yield f"      <failure {said}>{_text(_lines(finding))}</failure>"
        else:
            yield f"      <system-out>{_text(_lines(finding))}</system-out>"
        yield "    </testcase>"
    yield "  </testsuite>"


def _name(finding: Finding) -> str:
    """The rule and the place, which tell the cases of a suite apart."""
    place = finding.location
    cell = "" if place.cell is None else f"cell {place.cell}, "
    return f"{finding.code} {finding.name} ({cell}line {place.line}, column {place.column})"


def _lines(finding: Finding) -> str:
    lines = [f"{position(finding.location)}: {finding.code} {printable(sentence(finding.message))}"]
    if finding.help is not None:
        lines.append(f"help: {printable(finding.help)}")
    lines += [f"{position(step.location)}: {printable(step.message)}" for step in finding.evidence]
    return "\n".join(lines)


def _counts(tests: int, failures: int, errors: int) -> str:
    return f'tests="{tests}" failures="{failures}" errors="{errors}"'


def _attributes(**values: str) -> str:
    return " ".join(f'{key}="{escape(printable(value), {chr(34): "&quot;"})}"' for key, value in values.items())


def _text(lines: str) -> str:
    """Lines that are printable but for the line ends between them."""
    return escape(lines)
