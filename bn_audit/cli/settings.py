"""The flags of ``scan`` that say what a configuration file may say too, as settings over those of files."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, cast

import click

from bn_audit.cli.completion import formats, selectors
from bn_audit.settings.versions import parse_version

if TYPE_CHECKING:
    from bn_audit.settings.config import Config, PerFileIgnores

__all__ = ["SettingsFlags", "as_settings", "settings_options"]

Command = TypeVar("Command", bound=Callable[..., object])


class SettingsFlags(TypedDict):
    """What the flags say; None or nothing is what is not said."""

    select: tuple[str, ...]
    ignore: tuple[str, ...]
    extend_select: tuple[str, ...]
    per_file_ignores: PerFileIgnores
    extend_per_file_ignores: PerFileIgnores
    exclude: tuple[str, ...]
    extend_exclude: tuple[str, ...]
    force_exclude: bool | None
    respect_gitignore: bool | None
    fail_on: str | None
    secretflow_version: str | None
    output_format: str | None
    cache_dir: str | None
    baseline: str | None
    jobs: int | None
    timeout: int | None
    config: tuple[str, ...]
    isolated: bool


def settings_options(command: Command) -> Command:
    """Add the flags to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def as_settings(flags: SettingsFlags) -> Config:
    """What the flags set over every file's settings; what is relative in them is relative to the working directory."""
    said: dict[str, Any] = {key: flags[key] for key in _KEYS if flags[key] not in (None, ())}  # type: ignore[literal-required]
    if not said:
        return cast("Config", said)
    from bn_audit.source.glob import absolute

    here = os.getcwd()
    for key in ("exclude", "extend_exclude"):
        if key in said:
            said[key] = tuple(absolute(pattern, here) for pattern in said[key])
    for key in ("per_file_ignores", "extend_per_file_ignores"):
        if key in said:
            said[key] = tuple(
                ("!" * pattern.startswith("!") + absolute(pattern.removeprefix("!"), here), codes)
                for pattern, codes in said[key]
            )
    for key in ("cache_dir", "baseline"):
        if key in said:
            said[key] = os.path.abspath(said[key])
    said["origins"] = {key.replace("_", "-"): (_flag(key, said[key]),) for key in said}
    return cast("Config", said)


_KEYS = (
    "select",
    "ignore",
    "extend_select",
    "per_file_ignores",
    "extend_per_file_ignores",
    "exclude",
    "extend_exclude",
    "force_exclude",
    "respect_gitignore",
    "fail_on",
    "secretflow_version",
    "output_format",
    "cache_dir",
    "baseline",
    "jobs",
    "timeout",
)


def _flag(key: str, value: object) -> str:
    return f"--{'no-' if value is False else ''}{key.replace('_', '-')}"


def _selectors(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    """Codes or prefixes of codes, separated by commas; ``ALL`` is every rule."""
    return tuple(_selector(word, ctx, param) for value in values for word in value.split(","))


def _selector(word: str, ctx: click.Context, param: click.Parameter) -> str:
    from bn_audit.codes import CODES

    prefix = word.strip().upper()
    if not prefix:
        raise click.BadParameter("a selector is empty", ctx, param)
    if prefix == "ALL":
        return ""
    if not any(code.startswith(prefix) for code in CODES):
        raise click.BadParameter(f"no rule's code begins with `{word.strip()}`{_meant(word.strip())}", ctx, param)
    return prefix


def _meant(word: str) -> str:
    """The code of a rule that is called by its name, or one that is like what was written."""
    import difflib

    from bn_audit.rules import catalogue

    codes = {rule.name: rule.code for rule in catalogue().values()}
    if word.lower() in codes:
        return f"; the code of {word.lower()} is {codes[word.lower()]}"
    close = difflib.get_close_matches(word.upper(), codes.values(), n=1, cutoff=0.8)
    return f"; did you mean {close[0]}?" if close else ""


def _patterns(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    """Patterns, separated by commas as ruff's are; commas within braces are the pattern's own."""
    found: list[str] = []
    for value in values:
        depth, start = 0, 0
        for place, sign in enumerate(f"{value},"):
            depth += (sign == "{") - (sign == "}" and depth > 0)
            if sign == "," and (depth == 0 or place == len(value)):
                found.append(value[start:place].strip())
                start = place + 1
    return tuple(pattern for pattern in found if pattern)


def _per_file(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> PerFileIgnores:
    """``pattern:CODE,CODE,pattern:CODE``; a pattern may hold colons, but what follows the last one is a code."""
    rows: list[tuple[str, list[str]]] = []
    for value in values:
        rows_before = len(rows)
        for part in value.split(","):
            pattern, colon, code = part.rpartition(":")
            if colon:
                rows.append((pattern.strip(), []))
            if len(rows) == rows_before or not rows[-1][0]:
                raise click.BadParameter(f"{part!r} is no pattern:CODE", ctx, param)
            rows[-1][1].append(_selector(code, ctx, param))
    return tuple((pattern, tuple(codes)) for pattern, codes in rows)


def _format(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """A format's name; the formats are looked for only where one is named."""
    if value is None:
        return None
    from bn_audit.report.formats import names

    if value not in names():
        raise click.BadParameter(f"{value!r} is none of {', '.join(names())}", ctx, param)
    return value


def _version(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    try:
        return None if value is None else parse_version(value)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from error


_OPTIONS: Sequence[Callable[[Any], Any]] = (
    click.option(
        "--select",
        multiple=True,
        callback=_selectors,
        shell_complete=selectors,
        metavar="CODES",
        help="Rules to apply: codes or prefixes of them, separated by commas, or ALL.  [default: ALL]",
    ),
    click.option(
        "--ignore",
        multiple=True,
        callback=_selectors,
        shell_complete=selectors,
        metavar="CODES",
        help="Rules not to apply. Of two selectors, the longer one counts.",
    ),
    click.option(
        "--extend-select",
        multiple=True,
        callback=_selectors,
        shell_complete=selectors,
        metavar="CODES",
        help="Rules to apply on top of the others.",
    ),
    click.option(
        "--per-file-ignores",
        multiple=True,
        callback=_per_file,
        metavar="PATTERN:CODES",
        help="Rules not to apply to files that match a pattern, instead of those of the configuration.",
    ),
    click.option(
        "--extend-per-file-ignores",
        multiple=True,
        callback=_per_file,
        metavar="PATTERN:CODES",
        help="The same, on top of those of the configuration.",
    ),
    click.option(
        "--fail-on",
        type=click.Choice(["error", "warning", "info"]),
        help="The least severity that makes the exit status 1.  [default: warning]",
    ),
    click.option(
        "--exclude",
        multiple=True,
        callback=_patterns,
        metavar="PATTERNS",
        help="Leave out these files and folders, instead of the default ones; patterns, separated by commas.",
    ),
    click.option(
        "--extend-exclude",
        multiple=True,
        callback=_patterns,
        metavar="PATTERNS",
        help="Leave out these files and folders as well.",
    ),
    click.option(
        "--force-exclude/--no-force-exclude", default=None, help="Leave excluded files out even when they are named."
    ),
    click.option(
        "--respect-gitignore/--no-respect-gitignore",
        default=None,
        help="Leave out what git ignores.  [default: respect-gitignore]",
    ),
    click.option(
        "--secretflow-version",
        callback=_version,
        metavar="VERSION",
        help="The release of SecretFlow; else the project's pin, else 1.13.",
    ),
    click.option(
        "--config",
        multiple=True,
        metavar="PATH|KEY=VALUE",
        help="A configuration file that holds everywhere, or a key and its value, as in TOML, over every file's.",
    ),
    click.option(
        "--output-format",
        callback=_format,
        shell_complete=formats,
        metavar="FORMAT",
        help="text (the default), concise, github, gitlab, html, json, jsonl, junit or sarif.",
    ),
    click.option(
        "--baseline",
        type=click.Path(dir_okay=False),
        metavar="FILE",
        help="Leave out the findings that this file knows.",
    ),
    click.option(
        "--cache-dir",
        envvar="BN_AUDIT_CACHE_DIR",
        metavar="PATH",
        help="The folder of the cache; also BN_AUDIT_CACHE_DIR.  [default: .bn-audit_cache in the project's root]",
    ),
    click.option(
        "--timeout",
        type=click.IntRange(min=0),
        metavar="SECONDS",
        help="Processor time that one file may take; 0 for no limit.  [default: 60]",
    ),
    click.option("--jobs", type=click.IntRange(min=0), metavar="N", help="Processes to use; 0, the default, chooses."),
    click.option("--isolated", is_flag=True, help="Read no configuration file."),
)
