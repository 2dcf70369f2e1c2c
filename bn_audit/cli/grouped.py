"""A command whose help shows its options in groups, each under what it is about."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import click

__all__ = ["GroupedCommand"]


class GroupedCommand(click.Command):
    """A command with groups of options.

    Args:
        groups: by title: the options, by the names that the function takes them under, in the order of the help. What
            is in no group comes last, under ``Other``.
        bare: options that take a value only behind ``=``: what follows them is a path.
    """

    def __init__(
        self, *args: Any, groups: Mapping[str, tuple[str, ...]], bare: Collection[str] = (), **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.groups = groups
        self.bare = bare

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        marked = [f"{arg}=" if arg in self.bare else arg for arg in args[:end]]
        return super().parse_args(ctx, marked + args[end:])

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
