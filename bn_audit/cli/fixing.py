"""``--fix`` and ``--diff``: fixes worked out, written or shown, and what went wrong said.

Imported only where there is something to fix.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from bn_audit.cli.output import hush
from bn_audit.fix.contents import Refused
from bn_audit.fix.diff import unified_diff
from bn_audit.fix.files import put, take
from bn_audit.fix.rounds import FixedFile, Judgement, fix_files
from bn_audit.scanning import Heard
from bn_audit.source.read import ReadResult

__all__ = ["Fixed", "Scan", "fix", "show"]

Stdin = tuple[str, bytes]
"""What the program read from stdin is called, and its bytes."""


@dataclass(frozen=True, slots=True)
class Scan(Judgement):
    """What a scan found, what it read, and what of the findings is left to say."""

    result: ReadResult
    heard: Heard


Look = Callable[["Stdin | None", Mapping[str, bytes]], Scan]
"""Scans again, with another program from stdin, and other contents of files by their absolute paths."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """What is left once fixes are applied.

    Attributes:
        scan: what is found now.
        stdin: the program from stdin after its fixes.
        count: how many findings were fixed.
        complaints: files that were left as they are, and why.
    """

    scan: Scan
    stdin: Stdin | None
    count: int
    complaints: tuple[str, ...]


def fix(first: Scan, look: Look, stdin: Stdin | None, *, unsafe: bool) -> Fixed:
    """Fix what can be fixed in the files, and write them; the program from stdin goes to stdout."""
    files, scan, refused = _work_out(first, look, stdin, unsafe)
    done: list[FixedFile] = []
    late: list[tuple[str, str]] = []
    for file in files:
        try:
            if stdin is None or file.path != stdin[0]:
                put(file.path, file.old, file.new)
            done.append(file)
        except Refused as error:
            late.append((file.path, str(error)))
    if stdin is not None:
        stdin = stdin[0], next((file.new for file in done if file.path == stdin[0]), stdin[1])
        _write([stdin[1]])
    if late:
        scan = look(stdin, {})  # some of what was to be written is not
    _forget_sources()
    return Fixed(scan, stdin, sum(len(file.fixed) for file in done), _complaints((*refused, *late)))


def show(first: Scan, look: Look, stdin: Stdin | None, *, unsafe: bool, color: bool) -> Fixed:
    """Print what :func:`fix` would do as a diff, and write nothing."""
    files, scan, refused = _work_out(first, look, stdin, unsafe)
    lines = (line for file in files for line in unified_diff(file.path, file.old, file.new))
    _write(_painted(lines) if color else lines)
    return Fixed(scan, stdin, sum(len(file.fixed) for file in files), _complaints(refused))


def _work_out(
    first: Scan, look: Look, stdin: Stdin | None, unsafe: bool
) -> tuple[tuple[FixedFile, ...], Scan, tuple[tuple[str, str], ...]]:
    def judge(contents: Mapping[str, bytes]) -> Scan:
        program = stdin
        if stdin is not None and stdin[0] in contents:
            program = stdin[0], contents[stdin[0]]
        named = {path: data for path, data in contents.items() if stdin is None or path != stdin[0]}
        return look(program, {os.path.abspath(path): data for path, data in named.items()})

    def content(path: str) -> bytes:
        return stdin[1] if stdin is not None and path == stdin[0] else take(path)

    outcome = fix_files(first, judge, content, unsafe=unsafe)
    return outcome.files, outcome.judgement, outcome.refused


def _complaints(refused: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    return tuple(f"{path}: not fixed: {reason}" for path, reason in sorted(refused))


def _forget_sources() -> None:
    """What a report shows of a file is what stands there now."""
    from bn_audit.source import positions

    positions.forget()


def _write(pieces: Iterable[bytes]) -> None:
    """Write bytes to stdout as they are."""
    try:
        for piece in pieces:
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        hush()


def _painted(lines: Iterable[bytes]) -> Iterable[bytes]:
    """A diff in the colours of git."""
    codes = {b"---": b"1", b"+++": b"1", b"@@ ": b"36", b"-": b"31", b"+": b"32"}
    for line in lines:
        code = codes.get(line[:3]) or codes.get(line[:1])
        text, newline, rest = line.partition(b"\n")
        yield b"\x1b[" + code + b"m" + text + b"\x1b[0m" + newline + rest if code else line
