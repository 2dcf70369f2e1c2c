"""Files that vanish, change, loop or have odd names, clocks that go back, many scans at once: what a scan says of the
others is what it would say without."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bn_audit.report.formats import names
from bn_audit.source import raw
from bn_audit.source.inspector import Inspector
from bn_audit.source.part import Part, Task
from tests.cli.conftest import MODELS, TRAIN, Command

POSIX = pytest.mark.skipif(os.name == "nt", reason="names and links as POSIX has them")
ODD = (
    b"new\nline.py",
    b"car\rriage.py",
    b"quo'te\".py",
    b"not-utf-8-\xff\xfe.py",
    "right-\u202eto-left.py".encode(),
    b"::error file=a::b.py",
    b"<script>&amp;.py",
    b"%0A%25,x:y.py",
    b"esc\x1b[2J.py",
    b" blank .py",
    b"-flag.py",
    "模型\u200d.py".encode(),
    b"back\\slash.py",
)


@POSIX
@pytest.mark.parametrize("form", names())
def test_names_of_files(project: Path, bn_audit: Command, form: str) -> None:
    for name in ODD:
        Path(os.fsdecode(name)).write_text(TRAIN, encoding="utf-8")
    done = bn_audit("scan", "--output-format", form, "--jobs", "1")
    assert done.status == 1 and done.err == ""
    assert bn_audit("scan", "--output-format", form, "--jobs", "2", "--no-cache") == done
    done.out.encode()  # no lone surrogates
    assert re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e]", done.out) is None
    count = len(ODD) + 1
    if form == "json":
        paths = [row["path"] for row in json.loads(done.out)["findings"] if row["code"] == "BNA101"]
        assert len(paths) == len(set(paths)) == count
    elif form == "jsonl":
        assert sum(json.loads(line)["code"] == "BNA101" for line in done.out.splitlines()) == count
    elif form == "sarif":
        results = json.loads(done.out)["runs"][0]["results"]
        assert sum(row["ruleId"] == "BNA101" for row in results) == count
    elif form == "gitlab":
        assert len({row["fingerprint"] for row in json.loads(done.out)}) >= count
    elif form == "junit":
        assert ElementTree.fromstring(done.out).get("failures") == str(count)
    elif form == "github":
        assert sum(line.startswith("::error ") for line in done.out.split("\n")) == count
    elif form == "html":
        assert "<script>&amp;.py" not in done.out
    else:
        assert sum(": BNA101 " in line for line in done.out.split("\n")) == count


@POSIX
def test_fixes_in_files_of_odd_names(project: Path, bn_audit: Command) -> None:
    for name in ODD:
        Path(os.fsdecode(name)).write_text(TRAIN, encoding="utf-8")
    done = bn_audit("scan", "--fix", "--no-cache")
    assert (done.status, done.err) == (0, "")
    assert all("skip_bn=True" in Path(os.fsdecode(name)).read_text(encoding="utf-8") for name in ODD)
    assert bn_audit("scan").status == 0


def test_a_file_that_vanishes(project: Path, bn_audit: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """After it was found, and before it is parsed."""
    (project / "other.py").write_text(TRAIN, encoding="utf-8")
    expected = bn_audit("scan", "--output-format", "concise", "--no-cache", "train.py").out.splitlines()[0]
    look_into = Inspector.look_into

    def patched(self: Inspector, task: Task) -> Part:
        (project / "other.py").unlink(missing_ok=True)
        return look_into(self, task)

    monkeypatch.setattr(Inspector, "look_into", patched)
    for _ in range(2):
        done = bn_audit("scan", "--output-format", "concise", "--jobs", "1")
        assert expected in done.out.splitlines()
        assert "internal error" not in done.err and "Traceback" not in done.err


def test_a_file_that_changes_while_it_is_read(
    project: Path, bn_audit: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two reads of one scan, so that no two parts of it speak of the same. Nothing of that is remembered."""
    read_bytes, chance = raw.read_bytes, random.Random(3)

    def patched(path: str, most: int = raw.MAX_BYTES) -> bytes:
        if path.endswith(("train.py", "models.py")):
            old = read_bytes(path)
            Path(path).write_bytes(
                b"\n" * chance.randrange(1, 9) + old.lstrip() if chance.random() < 0.8 else old[:200]
            )
        return read_bytes(path, most)

    with monkeypatch.context() as patch:
        for module in ("outside", "positions"):
            patch.setattr(f"bn_audit.source.{module}.read_bytes", patched)
        for _ in range(5):
            done = bn_audit("scan")
            assert done.status in (0, 1) and "internal error" not in done.err
    (project / "train.py").write_text(TRAIN, encoding="utf-8")
    (project / "models.py").write_text(MODELS, encoding="utf-8")
    assert bn_audit("scan", "-v") == bn_audit("scan", "--no-cache", "-v")


@pytest.mark.parametrize("hours", [-100_000, -1, 1, 100_000])
def test_a_clock_that_goes(project: Path, bn_audit: Command, monkeypatch: pytest.MonkeyPatch, hours: int) -> None:
    """Back or forth, between two scans; and files that are changed keep their size, and get times of another clock."""
    first = bn_audit("scan")
    now = time.time()
    real = time.time_ns
    monkeypatch.setattr(time, "time", lambda: now + hours * 3600)
    monkeypatch.setattr(time, "time_ns", lambda: real() + hours * 3_600_000_000_000)
    assert bn_audit("scan") == first
    changed = TRAIN.replace('"torch",', '"torch",').replace(
        "aggregator=SecureAggregator", "aggregator=SecureAggregatOr"
    )
    (project / "train.py").write_text(changed, encoding="utf-8")
    os.utime(project / "train.py", (now + hours * 3600, now + hours * 3600))
    assert bn_audit("scan") == bn_audit("scan", "--no-cache")
    (project / "train.py").write_text(TRAIN, encoding="utf-8")
    os.utime(project / "train.py", (now, now))
    assert bn_audit("scan") == first


@POSIX
def test_links_in_loops(project: Path, bn_audit: Command) -> None:
    """Two thousand of them: to the folder itself, to each other, up, down, and to files that are there already."""
    expected = bn_audit("scan", "--no-cache")
    (project / "a" / "b").mkdir(parents=True)
    targets = ("..", ".", "../..", "../a", "../a/b", "../train.py", "nothing", "l7", "../a/l8")
    for number in range(2_000):
        (project / "a" / f"l{number}{'.py' if number % 2 else ''}").symlink_to(targets[number % len(targets)])
    start = time.process_time()
    assert bn_audit("scan", "--no-cache") == expected
    assert time.process_time() - start < 20


def test_eight_scans_with_one_cache(project: Path) -> None:
    command = [sys.executable, "-m", "bn_audit", "scan", "--cache-dir", "cache"]
    cold = subprocess.run([*command, "--no-cache"], capture_output=True, check=False)
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(8)]
    running[0].kill()
    running[0].wait()
    for one in running[1:]:
        out, err = one.communicate()
        assert (one.returncode, out, err) == (cold.returncode, cold.stdout, cold.stderr)
    assert subprocess.run(command, capture_output=True, check=False).stdout == cold.stdout
