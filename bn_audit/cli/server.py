"""``bn-audit server``: the language server, over stdin and stdout."""

from __future__ import annotations

import click

from bn_audit.cli.output import Failure

__all__ = ["command"]


@click.command("server", short_help="Run the language server, for editors.")
def command() -> None:
    """Run the language server over stdin and stdout, for editors.

    It tells what `bn-audit scan` finds in the workspace while files are edited, offers the fixes and comments that
    silence, and shows the rules' pages. It needs the extra `lsp`.
    """
    try:
        from bn_audit.server.serve import create
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("pygls", "lsprotocol"):
            raise
        from bn_audit.extras import install

        raise Failure(f"the language server needs pygls: {install('lsp')}") from error
    create().start_io()
