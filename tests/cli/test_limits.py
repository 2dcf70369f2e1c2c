"""A file that costs too much, or that we fail at, costs the scan nothing but its own findings."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from bn_audit import scanning
from bn_audit.source.inspector import Inspector
from bn_audit.source.part import Part, Task
from tests.cli.conftest import TRAIN, Command

FORKS = pytest.mark.skipif(
    os.name == "nt" or multiprocessing.get_start_method() != "fork", reason="the workers must know of the patch"
)
ANOTHER = TRAIN.replace("fl_model = ", "another = ")


def fail(monkeypatch: pytest.MonkeyPatch, name: str, error: BaseException | None) -> None:
    """Make one file raise an error; or, without one, never end."""
    look_into = Inspector._look_into

    def patched(self: Inspector, task: Task) -> Part:
        if os.path.basename(task.path) != name:
            return look_into(self, task)
        if error is not None:
            raise error
        while True:
            try:
                while True:
                    pass
            except Exception:  # such as the reader has: it must not stop the clock
                pass

    monkeypatch.setattr(Inspector, "_look_into", patched)


def test_a_file_that_takes_long(project: Path, bn_audit: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanning, "TIMEOUT", 0.1)
    # libcst needs several times as long for it, in which no Python code runs
    (project / "slow.py").write_text(ANOTHER + "a\n" * 20_000, encoding="utf-8")
    done = bn_audit("scan", "--output-format", "concise", "slow.py")
    assert done.status == 2
    assert done.err == (
        "bn-audit: slow.py: given up after 0.1 s of processor time; leave it out with --extend-exclude, or give it "
        "more with --timeout\n"
    )
    assert "slow.py" not in done.out
    done = bn_audit("scan", "--output-format", "json", "slow.py")
    assert [f"bn-audit: {problem}\n" for problem in json.loads(done.out)["problems"]] == [done.err]
    # Nothing of this is kept: with more time, the file is judged.
    done = bn_audit("scan", "--timeout", "0", "--output-format", "concise", "slow.py")
    assert (done.status, done.err) == (1, "")
    assert "slow.py:9:11: BNA101" in done.out


@FORKS
def test_the_same_with_one_process_and_with_two(
    project: Path, bn_audit: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "slow.py").write_text(ANOTHER, encoding="utf-8")
    (project / "bn-audit.toml").write_text("timeout = 1\n", encoding="utf-8")
    fail(monkeypatch, "slow.py", None)
    arguments = ("scan", "--output-format", "sarif", "--no-cache")
    one, two = (bn_audit(*arguments, "--jobs", jobs) for jobs in ("1", "2"))
    assert one == two
    assert (one.status, one.err.count("\n")) == (2, 1)
    assert "train.py" in one.out and "slow.py: given up after 1 s" in one.err


def test_exit_zero_is_not_for_errors(project: Path, bn_audit: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    fail(monkeypatch, "train.py", MemoryError())
    done = bn_audit("scan", "--exit-zero")
    assert done.status == 2
    assert "train.py: given up, there is no memory left; leave it out with --extend-exclude" in done.err


def test_an_error_of_ours_is_one_of_its_file(project: Path, bn_audit: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "odd.py").write_text(ANOTHER, encoding="utf-8")
    fail(monkeypatch, "odd.py", ZeroDivisionError("a day of rain"))
    done = bn_audit("scan")
    assert done.status == 2
    told = "bn-audit: odd.py: internal error: ZeroDivisionError: a day of rain (please report it, with the output of"
    assert done.err.startswith(told) and "Traceback" not in done.err
    assert "train.py:9:12: BNA101" in done.out
    done = bn_audit("scan", "--verbose")
    assert told in done.err and "Traceback (most recent call last):" in done.err


@FORKS
def test_a_process_that_is_killed(project: Path, bn_audit: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(6):
        (project / f"train{number}.py").write_text(TRAIN, encoding="utf-8")
    expected = bn_audit("scan", "--output-format", "concise", "--no-cache").out.splitlines()
    look_into = Inspector.look_into

    def patched(self: Inspector, task: Task) -> Part:
        if task.path == "train3.py":
            os.kill(os.getpid(), signal.SIGKILL)
        return look_into(self, task)

    monkeypatch.setattr(Inspector, "look_into", patched)
    done = bn_audit("scan", "--output-format", "concise", "--no-cache", "--jobs", "2")
    assert done.status == 2
    assert done.err == (
        "bn-audit: train3.py: the process that looked into it was ended from outside, or ran out of memory; leave it "
        "out with --extend-exclude\n"
    )
    findings = [line for line in expected if ": BNA" in line and not line.startswith("train3.py")]
    assert len(findings) == 6
    assert [line for line in done.out.splitlines() if ": BNA" in line] == findings
