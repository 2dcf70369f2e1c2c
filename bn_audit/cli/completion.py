"""What a shell may complete beyond what click knows by itself; all that is needed is imported when a shell asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

__all__ = ["formats", "rules", "selectors", "targets"]


def selectors(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Codes and their families; of a list, the last one."""
    from bn_audit.codes import CODES

    before, comma, word = incomplete.rpartition(",")
    families = sorted({code[:4] for code in CODES})
    return [f"{before}{comma}{name}" for name in ("ALL", *families, *CODES) if name.startswith(word.upper())]


def rules(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The codes of the rules, with what each says, and their names."""
    from click.shell_completion import CompletionItem

    from bn_audit.rules import catalogue

    return [
        CompletionItem(name, help=rule.summary)
        for rule in catalogue().values()
        for name, typed in ((rule.code, incomplete.upper()), (rule.name, incomplete.lower()))
        if name.startswith(typed) and (incomplete or name == rule.code)
    ]


def formats(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """The formats of ``scan``."""
    from bn_audit.report.formats import names

    return [name for name in names() if name.startswith(incomplete)]


def targets(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Files: what follows a colon is known to nobody who does not run the file."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="file")]
