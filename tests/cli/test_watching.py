"""``--watch``, as people use it: in a process of its own, and interrupted in the end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bn_audit.cli.watching import _may_matter
from tests.cli.conftest import MODELS, TRAIN, Command

ROOT = Path(__file__).parents[2]
PATIENCE = 60
"""Seconds, for machines that do much besides."""


@pytest.fixture(autouse=True)
def interrupts() -> Iterator[None]:
    """The process under test takes interrupts, also where the tests run in the background, which ignores them."""
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, handler)


class Watching:
    """A running ``bn-audit scan --watch`` and what it has said so far."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.said = b""
        self._seen = 0
        for stream in (process.stdout, process.stderr):
            threading.Thread(target=self._listen, args=(stream,), daemon=True).start()

    def _listen(self, stream: object) -> None:
        while data := os.read(stream.fileno(), 4096):  # type: ignore[attr-defined]
            self.said += data

    def expect(self, text: str) -> None:
        """Wait for something new."""
        end = time.monotonic() + PATIENCE
        while (found := self.said.find(text.encode(), self._seen)) < 0:
            assert time.monotonic() < end and self.process.poll() is None, self.said[self._seen :].decode()
            time.sleep(0.02)
        self._seen = found + len(text)


@contextmanager
def watching(project: Path, *arguments: str) -> Iterator[Watching]:
    pytest.importorskip("watchfiles")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "bn_audit", "scan", "--watch", "--output-format", "concise", *arguments]
    with subprocess.Popen(
        command, cwd=project, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            yield Watching(process)
        finally:
            process.kill()


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_scans_again_until_it_is_interrupted(project: Path) -> None:
    with watching(project, "train.py") as one:
        one.expect("BNA101")
        (project / "models.py").write_text(MODELS.replace("BatchNorm1d", "LayerNorm"), encoding="utf-8")
        one.expect("No findings")
        (project / "models.py").write_text(MODELS, encoding="utf-8")
        one.expect("BNA101")
        (project / "bn-audit.toml").write_text("ignore = [", encoding="utf-8")
        one.expect("Error: ")
        (project / "bn-audit.toml").write_text('ignore = ["BNA101"]', encoding="utf-8")
        one.expect("No findings")
        (project / "bn-audit.toml").unlink()
        one.expect("BNA101")
        one.process.send_signal(signal.SIGINT)
        assert one.process.wait(PATIENCE) == 130
        assert b"Traceback" not in one.said and b"\x1b" not in one.said


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_what_a_scan_writes_starts_no_other(project: Path) -> None:
    with watching(project, "--output-file", "report.txt") as one:
        end = time.monotonic() + PATIENCE
        while not (project / "report.txt").exists() and time.monotonic() < end:
            time.sleep(0.02)
        first = (project / "report.txt").stat().st_mtime_ns
        (project / "notes.md").write_text("x", encoding="utf-8")
        time.sleep(3)
        assert (project / "report.txt").stat().st_mtime_ns == first
        one.process.send_signal(signal.SIGINT)
        assert one.process.wait(PATIENCE) == 130


@pytest.mark.skipif(os.name == "nt", reason="pseudo-terminals")
def test_a_terminal_is_cleared(project: Path) -> None:
    pytest.importorskip("watchfiles")
    import pty

    ours, theirs = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm"}
    process = subprocess.Popen(
        [sys.executable, "-m", "bn_audit", "scan", "--watch"],
        cwd=project,
        env=environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    try:
        said = b""
        while b"Found 1 error" not in said:
            said += os.read(ours, 4096)
        assert b"\x1b[2J" in said or b"\x1b[H" in said
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 130
    finally:
        process.kill()
        process.wait()
        os.close(ours)


@pytest.mark.parametrize(
    "flags", [("--diff",), ("--add-noqa",), ("--write-baseline", "x"), ("--show-files",), ("--show-settings",), ("-",)]
)
def test_what_it_does_not_go_with(project: Path, bn_audit: Command, flags: tuple[str, ...]) -> None:
    done = bn_audit("scan", "--watch", *flags)
    assert done.status == 2 and f"does not go with {flags[0]}" in done.err


def test_without_watchfiles(project: Path, bn_audit: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    done = bn_audit("scan", "--watch")
    assert done.status == 2 and "pip install 'watchfiles>=1,<2'" in done.err
    assert (project / "train.py").read_text(encoding="utf-8") == TRAIN


@pytest.mark.parametrize(
    ("path", "matters"),
    [
        ("/p/a.py", True),
        ("/p/A.IPYNB", True),
        ("/p/requirements-dev.txt", True),
        ("/p/requirements/base.txt", True),
        ("/p/uv.lock", True),
        ("/p/.gitignore", True),
        ("/p/report.txt", False),
        ("/p/model.pt", False),
        ("/p/.bn-audit_cache/0.json", False),
    ],
)
def test_what_may_matter(path: str, matters: bool) -> None:
    assert _may_matter(path) is matters
