from __future__ import annotations

import io
import sys

import pytest

from bn_audit.cli.progress import ProgressBar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(monkeypatch: pytest.MonkeyPatch, stderr: io.StringIO, *, wanted: bool, delay: float) -> str:
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setenv("TERM", "xterm")
    with ProgressBar(wanted=wanted, delay=delay) as progress:
        for done in range(4):
            progress(done, 3)
    return stderr.getvalue()


def test_it_shows_itself_on_a_terminal_once_the_time_has_come(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "3/3" in shown(monkeypatch, Terminal(), wanted=True, delay=0)


@pytest.mark.parametrize(
    ("stderr", "wanted", "delay"), [(Terminal, True, 60), (Terminal, False, 0), (io.StringIO, True, 0)]
)
def test_it_stays_away_else(
    monkeypatch: pytest.MonkeyPatch, stderr: type[io.StringIO], wanted: bool, delay: float
) -> None:
    assert shown(monkeypatch, stderr(), wanted=wanted, delay=delay) == ""
