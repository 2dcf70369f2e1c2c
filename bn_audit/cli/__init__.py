"""The command line. Commands are imported when they are called, so that each starts as fast as it can."""

from __future__ import annotations

import gc
import importlib
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from bn_audit import __version__
from bn_audit.cli.output import hush

__all__ = ["cli", "main", "run"]

COMMANDS = {
    "scan": "bn_audit.cli.scan",
    "inspect": "bn_audit.cli.inspect",
    "verify": "bn_audit.cli.verify",
    "compare": "bn_audit.cli.compare",
    "rule": "bn_audit.cli.rule",
    "server": "bn_audit.cli.server",
    "clean": "bn_audit.cli.clean",
}
"""Each command, and the module that has it under the name ``command``; the order is that of the help."""

INTERRUPTED = 130
"""What a shell gives to a process that SIGINT ended."""


class LazyGroup(click.Group):
    """A group whose commands live in modules of their own, imported only when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(COMMANDS[cmd_name]).command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        word = args[0]
        if word not in COMMANDS and not word.startswith("-"):
            import difflib
            import os

            close = difflib.get_close_matches(word, COMMANDS, n=1)
            meant = f"scan {word}" if os.path.exists(word) else close[0] if close else ""
            hint = f"; did you mean `bn-audit {meant}`?" if meant else ""
            raise click.UsageError(f"there is no command {word!r}{hint}", ctx)
        return super().resolve_command(ctx, args)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "-V",
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=lambda ctx, _, asked: _tell_versions(ctx) if asked and not ctx.resilient_parsing else None,
    help="Show the version, and those of what it runs on, and exit.",
)
def cli() -> None:
    """Find what BatchNorm does to a federated PyTorch model.

    Exit status: 0 nothing found; 1 findings at or above --fail-on; 2 usage, configuration or I/O error, a path that
    does not exist, or an internal error.
    """


def _tell_versions(ctx: click.Context) -> None:
    """All that decides what is found: the parser, Python, whose syntax it may know, and what live models run on."""
    from importlib.metadata import PackageNotFoundError, version

    rows = [f"Python {'.'.join(map(str, sys.version_info[:3]))}"]
    for name in ("libcst", "click", "rich", "torch", "numpy", "safetensors", "secretflow", "flwr", "nvflare"):
        try:
            rows.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    click.echo(f"bn-audit {__version__}\n{', '.join(rows)}")
    ctx.exit()


def main() -> NoReturn:
    """The entry point ``bn-audit``."""
    arguments = sys.argv[1:]
    if arguments[:1] == ["scan"]:
        # What a scan makes lives until the process ends, all but all of it. The reader looks for garbage where it lets
        # go of trees; to look once more at the end would take a tenth of the time.
        gc.disable()
    status = run(arguments)
    gc.freeze()
    sys.exit(status)


def run(arguments: Sequence[str]) -> int:
    """Run a command line and give its exit status. Nothing ends in a traceback, unless one is asked for."""
    for stream in (sys.stdout, sys.stderr):
        # A name that the terminal's encoding lacks must not end the program.
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
    try:
        status = cli.main(list(arguments), prog_name="bn-audit", standalone_mode=False)
        # The language server closes it when an editor says good-bye.
        if not sys.stdout.closed:
            sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        hush()
        return 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except Exception as error:
        if isinstance(error, ImportError) and _is_missing_extra(error):
            click.echo(f"Error: {error}", err=True)
            return 2
        if {"--verbose", "-v"}.intersection(arguments):
            import traceback

            traceback.print_exc()
        hint = "please report it, with the output of --verbose"
        click.echo(f"bn-audit: internal error: {type(error).__name__}: {error} ({hint})", err=True)
        return 2


def _is_missing_extra(error: ImportError) -> bool:
    from bn_audit.extras import MissingExtra

    return isinstance(error, MissingExtra)
