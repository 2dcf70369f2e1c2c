"""A rule's documentation: as a Markdown page, and as data."""

from __future__ import annotations

from typing import Any

from bn_audit.rules.rule import Example, Rule

__all__ = ["as_data", "page"]


def page(rule: Rule[Any]) -> str:
    """The page of a rule, in Markdown, without a line end at its end."""
    sections = [
        ("What it finds", rule.finds),
        ("Why it is bad", rule.why),
        ("Example", _example(rule.bad[0])),
        ("What to do", rule.remedy),
        *([("Use instead", _example(rule.good[0]))] if rule.good else []),
        ("When it stays silent", rule.silent),
        ("Fix safety", rule.fix_safety),
        ("References", "\n".join(f"- {reference}" for reference in rule.references)),
    ]
    head = f"# {rule.name} ({rule.code})\n\n{rule.summary}. Severity: {rule.severity.value}.\n"
    return "\n".join([head, *(f"## {title}\n\n{text.strip()}\n" for title, text in sections)]).rstrip()


def as_data(rule: Rule[Any]) -> dict[str, object]:
    """What ``bn-audit rule --output-format json`` prints."""
    return {
        "code": rule.code,
        "name": rule.name,
        "severity": rule.severity.value,
        "summary": rule.summary,
        "finds": rule.finds.strip(),
        "why": rule.why.strip(),
        "remedy": rule.remedy.strip(),
        "silent": rule.silent.strip(),
        "fix_safety": rule.fix_safety.strip(),
        "references": list(rule.references),
        "bad": [dict(example.files) for example in rule.bad],
        "good": [dict(example.files) for example in rule.good],
        "markdown": page(rule),
    }


def _example(example: Example) -> str:
    blocks = []
    for name, source in example.files:
        title = f"# {name}\n" if len(example.files) > 1 else ""
        blocks.append(f"```python\n{title}{source.strip()}\n```")
    return "\n\n".join(blocks)
