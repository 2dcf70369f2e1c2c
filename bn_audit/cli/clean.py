"""``bn-audit clean``: remove caches."""

from __future__ import annotations

import os
from collections.abc import Iterator

import click

from bn_audit.cli.output import Failure
from bn_audit.scanning import CACHE, cache_folder, resolver
from bn_audit.settings.config import ConfigError, shown

__all__ = ["command"]


@click.command("clean", short_help="Remove the caches below a folder.")
@click.argument("paths", nargs=-1, metavar="[PATH]...", type=click.Path(exists=True, file_okay=False))
@click.option("--cache-dir", envvar="BN_AUDIT_CACHE_DIR", metavar="PATH", help="A cache elsewhere.")
@click.option("-q", "--quiet", is_flag=True, help="Do not name what is removed.")
def command(paths: tuple[str, ...], cache_dir: str | None, quiet: bool) -> None:
    """Remove the caches below PATH, "." by default, and the one that the settings name. Nothing but what bn-audit wrote
    is removed."""
    from bn_audit.source.keeper import clean

    for folder in dict.fromkeys(_caches(paths or (".",), cache_dir)):
        try:
            done = clean(folder)
        except OSError as error:
            raise Failure(f"{shown(folder)}: {error.strerror}") from error
        if done and not quiet:
            click.echo(f"Removed {shown(folder)}", err=True)


def _caches(paths: tuple[str, ...], named: str | None) -> Iterator[str]:
    if named is not None:
        yield os.path.abspath(named)
    for path in paths:
        start = os.path.abspath(path)
        try:
            yield cache_folder(resolver().at(start), start)
        except ConfigError as error:
            raise Failure(str(error)) from error
        for folder, folders, _ in os.walk(start):
            if CACHE in folders:
                yield os.path.join(folder, CACHE)
            folders[:] = sorted(name for name in folders if name not in (CACHE, ".git", "node_modules"))
