"""``bn-audit scan``: find what source code does to BatchNorm in a federation, without running it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

import click

from bn_audit import __version__
from bn_audit.cli.grouped import GroupedCommand
from bn_audit.cli.output import Failure, emit, wants_color
from bn_audit.cli.settings import SettingsFlags, as_settings, settings_options
from bn_audit.scanning import Cache, Heard, cache_folder, failures, judge, read_options, reported, resolver
from bn_audit.settings.config import ConfigError, shown
from bn_audit.source.read import ReadOptions, ReadResult, list_files, read

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from bn_audit.cli.baselining import Baselining
    from bn_audit.cli.fixing import Look, Scan, Stdin
    from bn_audit.cli.progress import ProgressBar
    from bn_audit.finding import Finding
    from bn_audit.settings.config import Config
    from bn_audit.settings.resolver import Resolver
    from bn_audit.source.discovery import Discovery

__all__ = ["command"]


class Flags(SettingsFlags):
    """What the command line says, in the words of its flags."""

    fix: bool
    unsafe_fixes: bool
    diff: bool
    add_noqa: str | None
    watch: bool
    write_baseline: str | None
    prune_baseline: bool
    no_cache: bool
    exit_zero: bool
    statistics: bool
    quiet: bool
    verbose: bool
    color: str
    output_file: str | None
    show_files: bool
    show_settings: bool
    stdin_filename: str | None


GROUPS = {
    "Rules": ("select", "extend_select", "ignore", "per_file_ignores", "extend_per_file_ignores"),
    "Files": (
        "exclude",
        "extend_exclude",
        "force_exclude",
        "respect_gitignore",
        "stdin_filename",
        "show_files",
    ),
    "Fixes and comments": ("fix", "unsafe_fixes", "diff", "add_noqa"),
    "Baseline": ("baseline", "write_baseline", "prune_baseline"),
    "Report": ("output_format", "output_file", "statistics", "color", "quiet", "verbose"),
    "Exit status": ("fail_on", "exit_zero"),
    "Settings": ("config", "isolated", "show_settings", "secretflow_version"),
    "Speed": ("watch", "jobs", "timeout", "cache_dir", "no_cache"),
}
"""The options as the help shows them."""


@click.command(
    "scan",
    cls=GroupedCommand,
    groups=GROUPS,
    bare=("--add-noqa",),
    short_help="Find what source code does to BatchNorm in a federation.",
)
@click.argument("paths", nargs=-1, metavar="[PATH]...", type=click.Path(readable=False))
@settings_options
@click.option("--fix", is_flag=True, help="Apply safe fixes to the files.")
@click.option("--unsafe-fixes", is_flag=True, help="Count unsafe fixes as fixes, which --fix and --diff then apply.")
@click.option("--diff", is_flag=True, help="Show what --fix would change, as a diff, and write nothing.")
@click.option(
    "--add-noqa", metavar="[=REASON]", help="Add a noqa comment for each finding to the files, with a reason, and end."
)
@click.option("--write-baseline", type=click.Path(dir_okay=False), help="Write all findings to a baseline.")
@click.option("--prune-baseline", is_flag=True, help="Take out of the baseline what is not found any more.")
@click.option("--output-file", type=click.Path(dir_okay=False), metavar="FILE", help="Write the report to a file.")
@click.option("--statistics", is_flag=True, help="Count the findings of each rule instead of showing them.")
@click.option("--exit-zero", is_flag=True, help="Exit with 0 although there are findings.")
@click.option("--show-files", is_flag=True, help="List the files that would be scanned, and end.")
@click.option(
    "--show-settings", is_flag=True, help="Show what settings hold for which files and where they come from, and end."
)
@click.option("--stdin-filename", metavar="PATH", help="The file that the program from stdin stands for.")
@click.option(
    "--watch", is_flag=True, help="Scan again whenever a file changes; Ctrl-C ends it. Needs the extra watch."
)
@click.option("--no-cache", is_flag=True, help="Take nothing from the cache, and keep nothing there.")
@click.option(
    "--color",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    help="When to use colour.  [default: auto]",
)
@click.option("-q", "--quiet", is_flag=True, help="Print the findings and nothing else.")
@click.option(
    "-v",
    "--verbose",
    is_flag=True,
    help="Say on stderr where a model could not be followed further; show tracebacks of internal errors.",
)
@click.pass_context
def command(ctx: click.Context, /, paths: tuple[str, ...], **flags: Unpack[Flags]) -> None:
    """Find what source code does to BatchNorm in a federation. Nothing is executed or imported.

    PATH is a file or a folder, "." by default; "-" reads a program from stdin.

    Exit status: 0 nothing found; 1 findings at or above --fail-on, or with --diff, something to fix; 2 an error.
    """
    ctx.exit(scan(paths or (".",), flags))


def scan(paths: tuple[str, ...], flags: Flags) -> int:
    """Scan and report; the exit status.

    Raises:
        Failure: a configuration cannot be used, or something cannot be written.
    """
    try:
        return _watch(paths, flags) if flags["watch"] else _scan(paths, flags)
    except ConfigError as error:
        raise Failure(str(error)) from error


def _watch(paths: tuple[str, ...], flags: Flags) -> int:
    """Scan again and again, until somebody interrupts."""
    for flag in ("diff", "add_noqa", "write_baseline", "show_files", "show_settings"):
        if flags[flag] not in (None, False):
            raise click.UsageError(f"--watch scans again and again: it does not go with --{flag.replace('_', '-')}")
    if "-" in paths:
        raise click.UsageError("--watch watches files: it does not go with -")
    from bn_audit.cli.watching import watch

    try:
        settings = resolver(config=flags["config"], isolated=flags["isolated"], flags=as_settings(flags))
        known = settings.run(paths).get("baseline")
    except ConfigError:  # which the scan will tell
        known = None
    once: Flags = {**flags, "watch": False}
    watch(paths, [] if known is None else [known], lambda: scan(paths, once))
    return 0


def _scan(paths: tuple[str, ...], flags: Flags) -> int:
    settings = resolver(config=flags["config"], isolated=flags["isolated"], flags=as_settings(flags))
    named = [path for path in paths if path != "-"]
    run = settings.run(named)
    options = read_options(settings, run)
    adds_noqa = flags["add_noqa"] is not None
    if adds_noqa and (flags["fix"] or flags["diff"] or "-" in paths):
        raise click.UsageError("--add-noqa writes comments to files: it goes with none of --fix, --diff and -")
    if flags["stdin_filename"] is not None and "-" not in paths:
        raise click.UsageError("--stdin-filename says what stdin stands for: it needs the path -")
    if flags["show_files"] and flags["show_settings"]:
        raise click.UsageError("--show-files and --show-settings each end the run: name one of them")
    if flags["show_files"] or flags["show_settings"]:
        return _show(named, options, settings, run, flags)
    book = _book(flags, run)
    cache = None if flags["no_cache"] else Cache(cache_folder(run, os.getcwd()), __version__)
    stdin = (flags["stdin_filename"] or "<stdin>", sys.stdin.buffer.read()) if "-" in paths else None
    with _progress(flags) as progress:
        result = read(named, options=options, stdin=stdin, progress=progress, keeper=cache)
    incomplete = _complain(result)
    if flags["verbose"]:
        for note in result.notes:
            for line in note.split("\n"):  # a traceback has several
                _say(line)
    if adds_noqa:
        return max(2 * incomplete, _add_noqa(result, flags, settings, book))
    if flags["fix"] or flags["diff"]:

        def look(stdin: Stdin | None, contents: Mapping[str, bytes]) -> Scan:
            again = read(named, options=options, stdin=stdin, contents=contents, keeper=cache)
            return _seen(again, settings, stdin, contents, book)

        status = _fix(_seen(result, settings, stdin, {}, book), look, stdin, flags, run, settings, book)
    else:
        heard = _hear(judge(result, settings), result, settings, stdin, {}, book)
        status = _write(result, heard, flags, run, stdin, settings=settings, book=book)
    if not flags["quiet"]:
        if not result.paths and all(os.path.isdir(path) for path in named):
            _say(f"there is no Python file and no notebook to look at in {', '.join(named)}")
        for note in settings.notes:
            _say(note)
    if cache is not None and (flags["verbose"] or ("cache_dir" in run and not flags["quiet"])):
        for note in cache.notes:
            _say(note)
    return 2 if incomplete else status


def _book(flags: Flags, run: Config) -> Baselining | None:
    """The baseline of the run, if a flag or its settings name one: the settings' is none that is to be written over."""
    known = flags["baseline"] if flags["write_baseline"] else run.get("baseline")
    if not (known or flags["write_baseline"] or flags["prune_baseline"]):
        return None
    from bn_audit.cli.baselining import Baselining

    return Baselining(
        None if known is None else shown(known),
        flags["write_baseline"],
        prune=flags["prune_baseline"],
        dry=flags["diff"] or flags["add_noqa"] is not None,
    )


def _hear(
    findings: Sequence[Finding],
    result: ReadResult,
    settings: Resolver,
    stdin: Stdin | None,
    contents: Mapping[str, bytes],
    book: Baselining | None,
) -> Heard:
    """What is left to say once suppressions and the baseline are heeded."""
    if not (findings or result.marked or book):
        return Heard()
    from bn_audit.hearing import content_of, hear

    return hear(findings, result, settings, content_of(stdin, contents), None if book is None else book.known)


def _add_noqa(result: ReadResult, flags: Flags, settings: Resolver, book: Baselining | None) -> int:
    """Add comments for what is found; the exit status."""
    from bn_audit.cli.noqa import add_noqa

    heard = _hear(judge(result, settings), result, settings, None, {}, book)
    return add_noqa(heard.findings, flags["add_noqa"] or "", _say, quiet=flags["quiet"])


def _seen(
    result: ReadResult, settings: Resolver, stdin: Stdin | None, contents: Mapping[str, bytes], book: Baselining | None
) -> Scan:
    """What was read and found, as the application of fixes sees it: a fix must not add to what is not selected
    either."""
    from bn_audit.cli.fixing import Scan
    from bn_audit.fix.rounds import lasting

    every = judge(result, settings, every_rule=True)
    heard = _hear(reported(every, settings), result, settings, stdin, contents, book)
    return Scan(heard.findings, every, lasting(result.sites), result, heard)


def _fix(
    scan: Scan,
    look: Look,
    stdin: Stdin | None,
    flags: Flags,
    run: Config,
    settings: Resolver,
    book: Baselining | None,
) -> int:
    """Apply fixes, or show what they would change; the exit status."""
    from bn_audit.cli import fixing
    from bn_audit.report.words import count

    unsafe = flags["unsafe_fixes"]
    if flags["diff"]:
        color = wants_color(flags["color"], to_file=False)
        fixed = fixing.show(scan, look, stdin, unsafe=unsafe, color=color)
        status = int(fixed.count > 0 and not flags["exit_zero"])
        if not flags["quiet"]:
            click.echo(f"Would fix {count(fixed.count, 'finding')}.", err=True)
    else:
        fixed = fixing.fix(scan, look, stdin, unsafe=unsafe)
        status = _write(
            fixed.scan.result,
            fixed.scan.heard,
            flags,
            run,
            fixed.stdin,
            settings=settings,
            book=book,
            fixed=fixed.count,
            complaints=fixed.complaints,
        )
    for complaint in fixed.complaints:
        _say(complaint)
    return 2 if fixed.complaints else status


def _progress(flags: Flags) -> ProgressBar | nullcontext[None]:
    """A progress bar, if anybody looks."""
    if flags["quiet"] or not sys.stderr.isatty():
        return nullcontext()
    from bn_audit.cli.progress import ProgressBar

    return ProgressBar()


def _write(
    result: ReadResult,
    heard: Heard,
    flags: Flags,
    run: Config,
    stdin: Stdin | None,
    *,
    settings: Resolver,
    book: Baselining | None,
    fixed: int = 0,
    complaints: tuple[str, ...] = (),
) -> int:
    """Write the report, in the format and to the place that the flags and the settings of the run name.

    If the program from stdin goes to stdout, the report goes to stderr. The exit status is returned.
    """
    from bn_audit.report.formats import renderer
    from bn_audit.report.model import Report, View

    name = run.get("output_format", "text")
    if name == "html":
        from bn_audit.cli.output import check_extra

        check_extra("--output-format html", "jinja2")
    render = renderer(name, statistics=flags["statistics"])
    if render is None:
        raise Failure(f"the format {name} has no statistics")
    color = wants_color(flags["color"], to_file=flags["output_file"] is not None)
    calls = result.calls
    problems = (*result.complaints, *complaints)
    if book is not None:
        complete = not problems
        heard = book.settle(heard, result, settings, stdin, complete=complete, say=_say, quiet=flags["quiet"])
    failing = failures(heard.findings, settings)
    status = 2 if problems else int(bool(failing) and not flags["exit_zero"])
    report = Report(
        heard.findings,
        files=result.files,
        parsed=result.parsed,
        sites=calls,
        others=len(result.sites) - calls,
        fixed=fixed,
        unsafe_fixes=flags["unsafe_fixes"],
        silenced=heard.silenced,
        paths=result.paths,
        problems=problems,
        failing=failing,
        status=status,
        version=__version__,
    )
    view = View(color=color, footer=not flags["quiet"])
    if heard.findings or heard.silenced:
        from bn_audit.cli.sources import Sources

        sources = Sources(stdin)
        view = view._replace(excerpt=sources.excerpt, in_file=sources.in_file)
    emit(render(report, view), flags["output_file"], to_stderr=flags["fix"] and stdin is not None)
    return status


def _show(paths: list[str], options: ReadOptions, settings: Resolver, run: Config, flags: Flags) -> int:
    from bn_audit.cli.show import settings_lines

    found = list_files(paths, options=options)
    emit(found.files if flags["show_files"] else settings_lines(found.files, settings, run))
    return 2 if _complain(found) else 0


def _complain(result: ReadResult | Discovery) -> bool:
    """Say what could not be read, and whether there was anything."""
    for complaint in result.complaints:
        _say(complaint)
    return bool(result.complaints)


def _say(text: str) -> None:
    from bn_audit.report.words import printable

    click.echo(f"bn-audit: {printable(text)}", err=True)
