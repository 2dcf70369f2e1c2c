from __future__ import annotations

import io
import subprocess
import sys

import pytest

from bn_audit.cli import scan
from bn_audit.cli.progress import ProgressBar
from tests.cli.conftest import Command


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(monkeypatch: pytest.MonkeyPatch, delay: float) -> str:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with ProgressBar(delay) as progress:
        for done in range(4):
            progress(done, 3)
    return terminal.getvalue()


def test_it_shows_itself_once_the_time_has_come(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "3/3" in shown(monkeypatch, delay=0)
    assert shown(monkeypatch, delay=60) == ""


def test_rich_is_imported_only_then() -> None:
    code = (
        "import sys\nfrom bn_audit.cli.progress import ProgressBar\n"
        "with ProgressBar() as p: p(1, 2)\nprint('rich' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize(
    ("stderr", "quiet", "wanted"), [(Terminal, [], True), (Terminal, ["-q"], False), (io.StringIO, [], False)]
)
def test_a_scan_has_one_if_anybody_looks(
    tmp_path: object,
    bn_audit: Command,
    monkeypatch: pytest.MonkeyPatch,
    stderr: type[io.StringIO],
    quiet: list[str],
    wanted: bool,
) -> None:
    given: list[object] = []
    read = scan.read

    def watch(*arguments: object, progress: object, **options: object) -> object:
        given.append(progress)
        return read(*arguments, progress=None, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(scan, "read", watch)
    monkeypatch.setattr(sys, "stderr", stderr())
    bn_audit("scan", str(tmp_path), *quiet)
    assert [isinstance(progress, ProgressBar) for progress in given] == [wanted]
