"""``bn-audit rule``: a rule's page."""

from __future__ import annotations

from typing import Any

import click

from bn_audit.cli.completion import rules as known_rules
from bn_audit.cli.output import emit
from bn_audit.rules import catalogue
from bn_audit.rules.page import as_data, page
from bn_audit.rules.rule import Rule

__all__ = ["command"]


@click.command("rule", short_help="Explain a rule.")
@click.argument("code", required=False, shell_complete=known_rules)
@click.option("--all", "every", is_flag=True, help="Explain every rule, in the order of the codes.")
@click.option(
    "--output-format", type=click.Choice(["text", "json"]), default="text", help="How to write it.  [default: text]"
)
def command(code: str | None, every: bool, output_format: str) -> None:
    """Explain a rule: what it finds, why that is bad, what to do, and when it stays silent.

    CODE is a rule's code (BNA101) or its name (missing-skip-bn). The text is Markdown.
    """
    if every == (code is not None):
        raise click.UsageError("give either a rule's code or --all")
    rules = list(catalogue().values()) if code is None else [_find(code)]
    if output_format == "json":
        import json

        emit([json.dumps([as_data(rule) for rule in rules] if every else as_data(rules[0]), indent=2)])
    else:
        emit(["\n\n".join(page(rule) for rule in rules)])


def _find(wanted: str) -> Rule[Any]:
    rules = catalogue()
    names = {rule.name: rule for rule in rules.values()}
    found = rules.get(wanted.upper()) or names.get(wanted.lower())
    if found is None:
        import difflib

        codes = difflib.get_close_matches(wanted.upper(), rules, cutoff=0.8)
        # Of the names that are like it, the one that begins like it.
        close = codes or difflib.get_close_matches(wanted.lower(), names)
        best = max(close, key=lambda one: _in_common(one, wanted.lower()), default=None)
        hint = "" if best is None else f"; did you mean {best}?"
        raise click.UsageError(f"there is no rule {wanted!r}{hint}")
    return found


def _in_common(one: str, other: str) -> int:
    """With how many signs that are the same both begin."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))
