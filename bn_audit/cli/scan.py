"""``bn-audit scan``: find what source code does to BatchNorm in a federation, without running it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import click

from bn_audit import config as configuration
from bn_audit.audit import Selection, SelectionError, Versions, audit
from bn_audit.cli.output import Failure, emit, wants_color
from bn_audit.cli.progress import ProgressBar
from bn_audit.config import Config, ConfigError
from bn_audit.finding import Severity
from bn_audit.report.model import Excerpt, Report, View
from bn_audit.report.words import printable
from bn_audit.source.read import ReadOptions, ReadResult, list_files, read

__all__ = ["command"]

SECRETFLOW = ("secretflow", "secretflow-lite")
"""Distributions that hold FLModel, or bring it."""


def _selectors(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    """Codes or prefixes of codes, separated by commas; ``ALL`` is every rule."""
    words = [word.strip() for value in values for word in value.split(",")]
    if not all(words):
        raise click.BadParameter("a selector is empty", ctx, param)
    return _prefixes(words)


def _prefixes(words: Sequence[str]) -> tuple[str, ...]:
    return tuple("" if word.upper() == "ALL" else word.upper() for word in words)


def _format(ctx: click.Context, param: click.Parameter, value: str | None) -> str:
    """A format's name; the formats are looked for only where one is named."""
    if value is None:
        return "text"
    from bn_audit.report.formats import names

    if value not in names():
        raise click.BadParameter(f"{value!r} is none of {', '.join(names())}", ctx, param)
    return value


def _version(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    try:
        return None if value is None else configuration.parse_version(value)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from error


@dataclass(frozen=True, slots=True)
class Flags:
    """What the command line says, in the words of its flags."""

    select: tuple[str, ...]
    ignore: tuple[str, ...]
    extend_select: tuple[str, ...]
    no_cache: bool
    isolated: bool
    jobs: int
    exit_zero: bool
    fail_on: str | None
    statistics: bool
    quiet: bool
    verbose: bool
    color: str
    output_format: str
    output_file: str | None
    exclude: tuple[str, ...]
    extend_exclude: tuple[str, ...]
    force_exclude: bool
    respect_gitignore: bool
    show_files: bool
    stdin_filename: str | None
    secretflow_version: str | None


@click.command("scan", short_help="Find what source code does to BatchNorm in a federation.")
@click.argument("paths", nargs=-1, metavar="[PATH]...", type=click.Path())
@click.option(
    "--select",
    multiple=True,
    callback=_selectors,
    metavar="CODES",
    help="Rules to apply: codes or prefixes of them, or ALL.",
)
@click.option("--ignore", multiple=True, callback=_selectors, metavar="CODES", help="Rules not to apply.")
@click.option(
    "--extend-select", multiple=True, callback=_selectors, metavar="CODES", help="Rules to apply on top of the others."
)
@click.option("--output-format", callback=_format, metavar="FORMAT", help="text (the default), concise or json.")
@click.option("--output-file", type=click.Path(dir_okay=False), help="Write the report to a file.")
@click.option("--statistics", is_flag=True, help="Show how often each rule spoke instead of the findings.")
@click.option("--exit-zero", is_flag=True, help="Exit with 0 although there are findings.")
@click.option(
    "--fail-on",
    type=click.Choice([severity.value for severity in reversed(Severity)]),
    help="The least severity that makes the exit status 1.  [default: warning]",
)
@click.option("--exclude", multiple=True, metavar="PATTERN", help="Leave out these files, instead of the default ones.")
@click.option("--extend-exclude", multiple=True, metavar="PATTERN", help="Leave out these files as well.")
@click.option("--force-exclude", is_flag=True, help="Leave excluded files out even when they are named.")
@click.option("--respect-gitignore/--no-respect-gitignore", default=True, help="Leave out what git ignores.")
@click.option("--show-files", is_flag=True, help="List the files that would be looked at, and end.")
@click.option("--stdin-filename", metavar="PATH", help="What the source read from stdin is called.")
@click.option(
    "--secretflow-version",
    callback=_version,
    metavar="VERSION",
    help="The release of SecretFlow; else the project's pin, else 1.13.",
)
@click.option("--isolated", is_flag=True, help="Read no configuration file.")
@click.option("--no-cache", is_flag=True, help="Take nothing from a cache. (There is none yet: every scan is cold.)")
@click.option("--jobs", type=click.IntRange(min=0), default=0, help="Processes to use; 0 chooses.  [default: 0]")
@click.option("--color", type=click.Choice(["auto", "always", "never"]), default="auto", help="When to use colour.")
@click.option("-q", "--quiet", is_flag=True, help="Print the findings and nothing else.")
@click.option("-v", "--verbose", is_flag=True, help="Say where trails ended, and show tracebacks of internal errors.")
@click.pass_context
def command(ctx: click.Context, /, paths: tuple[str, ...], **flags: Any) -> None:
    """Find what source code does to BatchNorm in a federation. Nothing is executed or imported.

    PATH is a file or a folder, "." by default; "-" reads a program from stdin.
    """
    ctx.exit(scan(paths or (".",), Flags(**flags)))


def scan(paths: tuple[str, ...], flags: Flags) -> int:
    """Scan and report; the exit status."""
    settings = Config() if flags.isolated else _configuration(paths, flags)
    selection = _selection(flags, settings)
    options = ReadOptions(
        exclude=flags.exclude or settings.exclude or (),
        extend_exclude=(*(settings.extend_exclude or ()), *flags.extend_exclude),
        force_exclude=flags.force_exclude,
        respect_gitignore=flags.respect_gitignore,
        jobs=flags.jobs,
    )
    if flags.show_files:
        return _show_files(paths, options)
    stdin = (flags.stdin_filename or "<stdin>", sys.stdin.buffer.read()) if "-" in paths else None
    with ProgressBar(wanted=not flags.quiet) as progress:
        result = read([path for path in paths if path != "-"], options=options, stdin=stdin, progress=progress)
    incomplete = _complain(result)
    if flags.verbose:
        for note in result.notes:
            _say(note)
    findings = audit(result.sites, result.unreadable, selection, _versions(flags, settings))
    report = Report(findings, files=result.files, parsed=result.parsed, sites=len(result.sites))
    _write(report, flags, _excerpt(stdin))
    if incomplete:
        return 2
    least = Severity(flags.fail_on) if flags.fail_on else settings.fail_on or Severity.WARNING
    failed = any(finding.severity.rank >= least.rank for finding in findings)
    return int(failed and not flags.exit_zero)


def _configuration(paths: tuple[str, ...], flags: Flags) -> Config:
    """The configuration nearest to what all paths have in common."""
    named = [os.path.abspath(path) for path in paths if path != "-"]
    if "-" in paths and flags.stdin_filename is not None:
        named.append(os.path.dirname(os.path.abspath(flags.stdin_filename)))
    try:
        start = os.path.commonpath(named) if named else os.getcwd()
    except ValueError:  # Paths on several drives have nothing in common.
        start = os.getcwd()
    try:
        return configuration.find(start)
    except ConfigError as error:
        raise Failure(str(error)) from error


def _selection(flags: Flags, settings: Config) -> Selection:
    """What the flags select; ``--select`` replaces what the configuration says, the others add to it."""
    if flags.select:
        selection = Selection(flags.select, flags.extend_select, flags.ignore)
    else:
        selection = Selection(
            None if settings.select is None else _prefixes(settings.select),
            (*_prefixes(settings.extend_select or ()), *flags.extend_select),
            (*_prefixes(settings.ignore or ()), *flags.ignore),
        )
    if not selection.everything:
        from bn_audit.rules import catalogue

        try:
            selection.verify(catalogue())
        except SelectionError as error:
            raise Failure(str(error)) from error
    return selection


def _versions(flags: Flags, settings: Config) -> Callable[[str], Versions]:
    """The releases around a file: SecretFlow's from the flag, the configuration or the project's pins, in order."""
    chosen = flags.secretflow_version or settings.secretflow_version

    def versions(path: str) -> Versions:
        from bn_audit.pins import pinned

        return Versions(secretflow=chosen or pinned(path, SECRETFLOW), torch=pinned(path, ("torch",)))

    return versions


def _excerpt(stdin: tuple[str, bytes] | None) -> Excerpt:
    """Lines of source, for frames: from the files, and from stdin for the program that was read there."""
    from bn_audit.source.positions import excerpt

    if stdin is None:
        return excerpt
    name, data = stdin
    cells = _lines(name, data)

    def lines(path: str, cell: int | None, line: int) -> str | None:
        if path != name:
            return excerpt(path, cell, line)
        found = cells.get(cell, ())
        return found[line - 1] if 1 <= line <= len(found) else None

    return lines


def _lines(name: str, data: bytes) -> dict[int | None, list[str]]:
    """The lines of a program by cell, which is None for one that is no notebook; none if it cannot be decoded."""
    from bn_audit.source.notebook import read_notebook
    from bn_audit.source.parse import is_notebook
    from bn_audit.source.text import SourceError, decode

    try:
        if is_notebook(name):
            return {cell.number: cell.source.split("\n") for cell in read_notebook(data)}
        return {None: decode(data).normalized.split("\n")}
    except SourceError:
        return {}


def _write(report: Report, flags: Flags, excerpt: Excerpt) -> None:
    from bn_audit.report.formats import renderer

    render = renderer(flags.output_format, statistics=flags.statistics)
    if render is None:
        raise Failure(f"the format {flags.output_format} has no statistics")
    color = wants_color(flags.color, to_file=flags.output_file is not None)
    view = View(excerpt, color=color, footer=not flags.quiet)
    emit(render(report, view), flags.output_file)


def _show_files(paths: tuple[str, ...], options: ReadOptions) -> int:
    found = list_files([path for path in paths if path != "-"], options=options)
    emit(found.notes)
    return 2 if _complain(found) else 0


def _complain(result: ReadResult) -> bool:
    """Say what could not be read, and whether there was anything."""
    for path in result.missing:
        _say(f"{path}: no such file or folder")
    for problem in result.problems:
        _say(problem)
    return bool(result.missing or result.problems)


def _say(text: str) -> None:
    click.echo(f"bn-audit: {printable(text)}", err=True)
