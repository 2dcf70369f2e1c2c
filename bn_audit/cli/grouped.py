"""A command whose help shows its options in groups, each under what it is about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

__all__ = ["GroupedCommand"]


class GroupedCommand(click.Command):
    """A command with groups of options.

    Args:
        groups: by title: the options, by the names that the function takes them under, in the order of the help. What
            is in no group comes last, under ``Other``.
    """

    def __init__(self, *args: Any, groups: Mapping[str, tuple[str, ...]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.groups = groups

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        options = [param for param in self.get_params(ctx) if isinstance(param, click.Option)]
        rows = {option.name: option.get_help_record(ctx) for option in options}
        named = {name for group in self.groups.values() for name in group}
        rest = tuple(name for name in rows if name is not None and name not in named)
        for title, group in {**self.groups, "Other": rest}.items():
            shown = [row for row in map(rows.get, group) if row is not None]
            if shown:
                with formatter.section(title):
                    formatter.write_dl(shown)
