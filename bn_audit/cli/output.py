"""Where output goes: a terminal or a file, in colour or without, to a reader who may have gone."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable

import click

__all__ = ["Failure", "check_extra", "check_page", "check_place", "emit", "hush", "wants_color", "write_whole"]


class Failure(click.ClickException):
    """An error that ends the command with exit status 2."""

    exit_code = 2


def emit(lines: Iterable[str], path: str | None = None, *, to_stderr: bool = False) -> None:
    """Write lines to stdout, to stderr, or to a file.

    A file is written whole or not at all. A reader who closes the pipe has seen enough: no error, and the exit status
    stays what the findings make it.

    Raises:
        Failure: the file cannot be written (exit status 2).
    """
    text = "".join(f"{line}\n" for line in lines)
    if path is not None:
        from bn_audit.fix.files import write

        try:
            write(path, text.encode("utf-8", "backslashreplace"))
        except OSError as error:
            raise Failure(f"{path}: {error.strerror}") from error
        return
    if to_stderr:
        click.echo(text, nl=False, err=True)
        return
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        hush()


def check_place(path: str) -> None:
    """Refuse a file that could not be written, before anything takes time.

    Raises:
        Failure: there is no such folder, or it is not to be written to.
    """
    folder = os.path.dirname(os.path.realpath(path))
    if not os.access(folder, os.W_OK):
        raise Failure(f"{path}: {'there is no folder' if not os.path.isdir(folder) else 'cannot write to'} {folder}")


def check_page(path: str) -> None:
    """Refuse a page that could not be written, for want of a folder or of jinja2.

    Raises:
        Failure: with the remedy.
    """
    check_extra("--html", "jinja2")
    check_place(path)


def check_extra(flag: str, module: str) -> None:
    """Refuse a flag whose module, of the extra ``compare``, is not installed.

    Raises:
        Failure: with the remedy.
    """
    import importlib.util

    if importlib.util.find_spec(module) is None:
        from bn_audit.extras import install

        raise Failure(f"{flag} needs {module}, which is not installed: {install('compare')}")


def write_whole(content: bytes, path: str) -> None:
    """Write a file whole or not at all: what stood there before stays until all of the new is written.

    Raises:
        Failure: the file cannot be written (exit status 2).
    """
    import tempfile

    target = os.path.realpath(path)
    temporary = ""
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=".bn-audit-", suffix=".tmp", dir=os.path.dirname(target))
        with open(descriptor, "wb") as file:
            file.write(content)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, target)
        temporary = ""
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}") from error
    finally:
        if temporary:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def hush() -> None:
    """Send the rest of stdout nowhere, so that the interpreter does not complain about the pipe when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def wants_color(choice: str, *, to_file: bool) -> bool:
    """Whether to write colour: ``always``, ``never``, or ``auto``, which asks the terminal and its environment.

    The environment is that of no-color.org and force-color.org.
    """
    if choice != "auto":
        return choice == "always"
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return not to_file and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
