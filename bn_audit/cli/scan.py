"""``bn-audit scan``: find what source code does to BatchNorm in a federation, without running it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, TypedDict

import click

from bn_audit import config as configuration
from bn_audit.cli.framework import SECRETFLOW
from bn_audit.cli.output import Failure, emit, wants_color
from bn_audit.config import Config, ConfigError
from bn_audit.source.read import ReadOptions, ReadResult, list_files, read

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from bn_audit.audit import Selection, Versions
    from bn_audit.cli.progress import ProgressBar
    from bn_audit.finding import Finding
    from bn_audit.report.model import Excerpt
    from bn_audit.source.discovery import Discovery

__all__ = ["command"]


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


class Flags(TypedDict):
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
    type=click.Choice(["error", "warning", "info"]),
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
def command(ctx: click.Context, /, paths: tuple[str, ...], **flags: Unpack[Flags]) -> None:
    """Find what source code does to BatchNorm in a federation. Nothing is executed or imported.

    PATH is a file or a folder, "." by default; "-" reads a program from stdin.
    """
    ctx.exit(scan(paths or (".",), flags))


def scan(paths: tuple[str, ...], flags: Flags) -> int:
    """Scan and report; the exit status.

    Most files hold nothing to judge. What judges is imported only where there is something.
    """
    settings = Config() if flags["isolated"] else _configuration(paths, flags)
    selection = _selection(flags, settings)
    options = ReadOptions(
        exclude=flags["exclude"] or settings.get("exclude", ()),
        extend_exclude=(*settings.get("extend_exclude", ()), *flags["extend_exclude"]),
        force_exclude=flags["force_exclude"],
        respect_gitignore=flags["respect_gitignore"],
        jobs=flags["jobs"],
    )
    if flags["show_files"]:
        return _show_files(paths, options)
    stdin = (flags["stdin_filename"] or "<stdin>", sys.stdin.buffer.read()) if "-" in paths else None
    with _progress(flags) as progress:
        result = read([path for path in paths if path != "-"], options=options, stdin=stdin, progress=progress)
    incomplete = _complain(result)
    if flags["verbose"]:
        for note in result.notes:
            _say(note)
    findings: tuple[Finding, ...] = ()
    if result.sites or result.unreadable:
        from bn_audit.audit import Selection, audit

        findings = audit(result.sites, result.unreadable, selection or Selection(), _versions(flags, settings))
    _write(result, findings, flags, stdin)
    if incomplete:
        return 2
    return int(_fails(findings, flags, settings) and not flags["exit_zero"])


def _progress(flags: Flags) -> ProgressBar | nullcontext[None]:
    """A progress bar, if anybody looks."""
    if flags["quiet"] or not sys.stderr.isatty():
        return nullcontext()
    from bn_audit.cli.progress import ProgressBar

    return ProgressBar()


def _fails(findings: Sequence[Finding], flags: Flags, settings: Config) -> bool:
    """Whether a finding is as severe as it takes to fail."""
    if not findings:
        return False
    from bn_audit.finding import Severity

    least = Severity(flags["fail_on"]) if flags["fail_on"] else settings.get("fail_on", Severity.WARNING)
    return any(finding.severity.rank >= least.rank for finding in findings)


def _configuration(paths: tuple[str, ...], flags: Flags) -> Config:
    """The configuration nearest to what all paths have in common."""
    named = [os.path.abspath(path) for path in paths if path != "-"]
    if "-" in paths and flags["stdin_filename"] is not None:
        named.append(os.path.dirname(os.path.abspath(flags["stdin_filename"])))
    try:
        start = os.path.commonpath(named) if named else os.getcwd()
    except ValueError:  # Paths on several drives have nothing in common.
        start = os.getcwd()
    try:
        return configuration.find(start)
    except ConfigError as error:
        raise Failure(str(error)) from error


def _selection(flags: Flags, settings: Config) -> Selection | None:
    """What the flags and the configuration select; None if they say nothing.

    ``--select`` replaces what the configuration says, the other flags add to it.
    """
    configured = {} if flags["select"] else settings
    select = flags["select"] or _prefixes(configured.get("select", ()))
    extend = (*_prefixes(configured.get("extend_select", ())), *flags["extend_select"])
    ignore = (*_prefixes(configured.get("ignore", ())), *flags["ignore"])
    if not (select or extend or ignore):
        return None
    from bn_audit.audit import Selection, SelectionError
    from bn_audit.rules import catalogue

    selection = Selection(select or None, extend, ignore)
    try:
        selection.verify(catalogue())
    except SelectionError as error:
        raise Failure(str(error)) from error
    return selection


def _versions(flags: Flags, settings: Config) -> Callable[[str], Versions]:
    """The releases around a file: SecretFlow's from the flag, the configuration or the project's pins, in order."""
    chosen = flags["secretflow_version"] or settings.get("secretflow_version")

    def versions(path: str) -> Versions:
        from bn_audit.audit import Versions
        from bn_audit.pins import pinned

        return Versions(secretflow=chosen or pinned(path, SECRETFLOW), torch=pinned(path, ("torch",)))

    return versions


def _excerpt(stdin: tuple[str, bytes] | None) -> Excerpt:
    """Lines of source, for frames: from the files, and from stdin for the program that was read there."""
    read_there: dict[int | None, list[str]] | None = None

    def excerpt(path: str, cell: int | None, line: int) -> str | None:
        nonlocal read_there
        if stdin is None or path != stdin[0]:
            from bn_audit.source.positions import excerpt

            return excerpt(path, cell, line)
        if read_there is None:
            read_there = _lines(*stdin)
        lines = read_there.get(cell, [])
        return lines[line - 1] if 1 <= line <= len(lines) else None

    return excerpt


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


def _write(result: ReadResult, findings: tuple[Finding, ...], flags: Flags, stdin: tuple[str, bytes] | None) -> None:
    """Write the report, in the format and to the place that the flags name."""
    from bn_audit.report.formats import renderer
    from bn_audit.report.model import Report, View

    render = renderer(flags["output_format"], statistics=flags["statistics"])
    if render is None:
        raise Failure(f"the format {flags['output_format']} has no statistics")
    color = wants_color(flags["color"], to_file=flags["output_file"] is not None)
    calls = result.calls
    report = Report(findings, files=result.files, parsed=result.parsed, sites=calls, others=len(result.sites) - calls)
    emit(render(report, View(_excerpt(stdin), color=color, footer=not flags["quiet"])), flags["output_file"])


def _show_files(paths: tuple[str, ...], options: ReadOptions) -> int:
    found = list_files([path for path in paths if path != "-"], options=options)
    emit(found.files)
    return 2 if _complain(found) else 0


def _complain(result: ReadResult | Discovery) -> bool:
    """Say what could not be read, and whether there was anything."""
    for path in result.missing:
        _say(f"{path}: no such file or folder")
    for problem in result.problems:
        _say(problem)
    return bool(result.missing or result.problems)


def _say(text: str) -> None:
    from bn_audit.report.words import printable

    click.echo(f"bn-audit: {printable(text)}", err=True)
