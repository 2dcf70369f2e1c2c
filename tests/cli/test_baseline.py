"""Baselines through the command line: written, read, stale, pruned, and never lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import TRAIN, Command


def entries(path: Path) -> list[dict[str, Any]]:
    found = json.loads(path.read_text(encoding="utf-8"))["findings"]
    assert isinstance(found, list)
    return found


def test_only_what_is_new_is_told(project: Path, bn_audit: Command) -> None:
    written = bn_audit("scan", "--write-baseline", "known.json")
    assert (written.status, written.err) == (0, "bn-audit: known.json: wrote 1 finding\n")
    assert written.out == "No findings (1 FLModel call in 2 files; 1 in the baseline).\n"
    assert [entry["path"] for entry in entries(project / "known.json")] == ["train.py"]
    (project / "train.py").write_text(f"import os\n\n{TRAIN}", encoding="utf-8")
    assert bn_audit("scan", "--baseline", "known.json") == bn_audit("scan", "--baseline", "known.json")
    done = bn_audit("scan", "--baseline", "known.json")
    assert (done.status, done.out, done.err) == (0, written.out, "")
    (project / "new.py").write_text(TRAIN, encoding="utf-8")
    done = bn_audit("scan", "--baseline", "known.json", "--output-format", "concise", "-q")
    assert done.status == 1
    assert [line.partition(":")[0] for line in done.out.splitlines()] == ["new.py"]


def test_the_baseline_of_the_settings(project: Path, bn_audit: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "bn-audit.toml").write_text('baseline = "known.json"\n', encoding="utf-8")
    missing = bn_audit("scan")
    assert missing.status == 2 and "known.json" in missing.err
    assert bn_audit("scan", "--write-baseline", "known.json").status == 0
    assert bn_audit("scan").status == 0
    assert bn_audit("scan", "--isolated").status == 1
    (project / "other.json").write_bytes((project / "known.json").read_bytes().replace(b"train.py", b"other.py"))
    assert bn_audit("scan", "--baseline", "other.json").status == 1
    (project / "train.py").write_text(f"{TRAIN}\n", encoding="utf-8")
    (project / "sub").mkdir()
    monkeypatch.chdir(project / "sub")
    assert bn_audit("scan", "..").status == 0
    (project / "train.py").unlink()
    assert "removed 1 finding" in bn_audit("scan", "..", "--prune-baseline").err
    assert entries(project / "known.json") == []


def test_a_second_one_in_the_same_file_is_new(project: Path, bn_audit: Command) -> None:
    bn_audit("scan", "--write-baseline", "known.json")
    again = TRAIN.partition("fl_model = ")[2]
    (project / "train.py").write_text(f"{TRAIN}fl_model = {again}", encoding="utf-8")
    document = json.loads(bn_audit("scan", "--baseline", "known.json", "--output-format", "json").out)
    assert [one["line"] for one in document["findings"]] == [len(TRAIN.splitlines()) + 1]
    assert document["summary"]["baselined"] == 1


def test_in_sarif(project: Path, bn_audit: Command) -> None:
    bn_audit("scan", "--write-baseline", "known.json")
    done = bn_audit("scan", "--baseline", "known.json", "--output-format", "sarif")
    (result,) = json.loads(done.out)["runs"][0]["results"]
    assert [one["kind"] for one in result["suppressions"]] == ["external"]


def test_stale_entries_are_told_and_pruned(project: Path, bn_audit: Command) -> None:
    (project / "gone.py").write_text(TRAIN, encoding="utf-8")
    bn_audit("scan", "--write-baseline", "known.json")
    (project / "gone.py").unlink()
    before = (project / "known.json").read_bytes()
    done = bn_audit("scan", "--baseline", "known.json")
    assert done.status == 0
    assert done.err == (
        "bn-audit: known.json: 1 finding that is not found any more; --prune-baseline removes what is stale\n"
        "bn-audit:   gone.py: BNA101\n"
    )
    assert bn_audit("scan", "-q", "--baseline", "known.json").err == ""
    assert (project / "known.json").read_bytes() == before
    done = bn_audit("scan", "--baseline", "known.json", "--prune-baseline")
    assert "removed 1 finding" in done.err
    assert [entry["path"] for entry in entries(project / "known.json")] == ["train.py"]
    assert bn_audit("scan", "--baseline", "known.json").err == ""


def test_a_scan_of_a_part_calls_nothing_stale(project: Path, bn_audit: Command) -> None:
    """What is not scanned may be what makes a finding; and pre-commit names single files."""
    (project / "below").mkdir()
    (project / "below" / "other.py").write_text("pass\n", encoding="utf-8")
    bn_audit("scan", "--write-baseline", "known.json")
    (project / "train.py").write_text("pass\n", encoding="utf-8")
    for paths in (["below"], ["train.py"], ["models.py"]):
        assert bn_audit("scan", "--baseline", "known.json", *paths).err == ""
    assert bn_audit("scan", "--baseline", "known.json", "--ignore", "BNA101").err == ""
    assert "1 finding" in bn_audit("scan", "--baseline", "known.json", ".").err


def test_writing_keeps_what_this_scan_does_not_judge(project: Path, bn_audit: Command) -> None:
    (project / "below").mkdir()
    (project / "below" / "train.py").write_text(TRAIN, encoding="utf-8")
    bn_audit("scan", "--write-baseline", "known.json")
    assert len(entries(project / "known.json")) == 2
    done = bn_audit("scan", "below", "--write-baseline", "known.json")
    assert done.err == (
        "bn-audit: known.json: wrote 1 finding, and kept 1 finding that is of files that this scan does not judge\n"
    )
    assert len(entries(project / "known.json")) == 2
    (project / "below" / "train.py").unlink()
    bn_audit("scan", "--write-baseline", "known.json")
    assert [entry["path"] for entry in entries(project / "known.json")] == ["train.py"]


@pytest.mark.parametrize("flag", ["--baseline", "--write-baseline"])
@pytest.mark.parametrize("text", ['{"version": 9, "findings": []}', '{"version": 1, "findi', ""])
def test_a_baseline_that_cannot_be_used(project: Path, bn_audit: Command, flag: str, text: str) -> None:
    (project / "known.json").write_text(text, encoding="utf-8")
    done = bn_audit("scan", flag, "known.json")
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("Error: known.json")
    assert (project / "known.json").read_text(encoding="utf-8") == text


def test_an_incomplete_scan_writes_nothing(project: Path, bn_audit: Command) -> None:
    done = bn_audit("scan", ".", "missing", "--write-baseline", "known.json")
    assert done.status == 2
    assert "known.json: not written, for not all could be read" in done.err
    assert not (project / "known.json").exists()
    bn_audit("scan", ".", "--write-baseline", "known.json")
    (project / "train.py").write_text("pass\n", encoding="utf-8")
    before = (project / "known.json").read_bytes()
    done = bn_audit("scan", ".", "missing", "--baseline", "known.json", "--prune-baseline")
    assert "not pruned" in done.err
    assert (project / "known.json").read_bytes() == before


def test_a_folder_that_is_not_there(project: Path, bn_audit: Command) -> None:
    done = bn_audit("scan", "--write-baseline", "missing/known.json")
    assert done.status == 2
    assert "missing/known.json: No such file or directory" in done.err


@pytest.mark.parametrize(
    "flags",
    [
        ("--baseline", "a.json", "--write-baseline", "a.json"),
        ("--write-baseline", "a.json", "--prune-baseline"),
        ("--prune-baseline",),
        ("--write-baseline", "a.json", "--diff"),
    ],
)
def test_flags_that_contradict_each_other(project: Path, bn_audit: Command, flags: tuple[str, ...]) -> None:
    done = bn_audit("scan", *flags)
    assert (done.status, done.out) == (2, "")
    assert not (project / "a.json").exists()


def test_what_is_known_is_not_fixed(project: Path, bn_audit: Command) -> None:
    bn_audit("scan", "--write-baseline", "known.json")
    (project / "new.py").write_text(TRAIN, encoding="utf-8")
    done = bn_audit("scan", "--baseline", "known.json", "--fix")
    assert "skip_bn" not in (project / "train.py").read_text(encoding="utf-8")
    assert "skip_bn=True" in (project / "new.py").read_text(encoding="utf-8")
    assert (done.status, "Fixed 1 finding." in done.out) == (0, True)
    done = bn_audit("scan", "--fix", "--write-baseline", "rest.json")
    assert entries(project / "rest.json") == []


def test_suppressed_findings_are_not_written(project: Path, bn_audit: Command) -> None:
    (project / "train.py").write_text(f"{TRAIN.rstrip()}  # noqa: BNA101\n", encoding="utf-8")
    bn_audit("scan", "--write-baseline", "known.json")
    assert entries(project / "known.json") == []


def test_the_same_bytes_from_wherever(project: Path, bn_audit: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "b").mkdir()
    bn_audit("scan", "--write-baseline", "b/one.json")
    monkeypatch.chdir(project / "b")
    bn_audit("scan", "..", "--write-baseline", "two.json")
    assert (project / "b/one.json").read_bytes() == (project / "b/two.json").read_bytes()
    assert bn_audit("scan", "..", "--baseline", "one.json").status == 0
