"""Suppressions in real projects, through the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import TRAIN, Command


def scan(bn_audit: Command, *flags: str) -> dict[str, Any]:
    document = json.loads(bn_audit("scan", "--output-format", "json", *flags).out)
    assert isinstance(document, dict)
    return document


def codes(document: dict[str, Any]) -> list[str]:
    return [finding["code"] for finding in document["findings"]]


def comment(project: Path, text: str) -> None:
    """Put a comment behind the FLModel call."""
    (project / "train.py").write_text(f"{TRAIN.rstrip()}  {text}\n", encoding="utf-8")


@pytest.mark.parametrize(
    "text", ["# noqa", "# noqa: BNA101", "# bn-audit: ignore[BNA101] why", "# bn-audit: ignore-file"]
)
def test_a_finding_is_silenced(project: Path, bn_audit: Command, text: str) -> None:
    comment(project, text)
    done = bn_audit("scan")
    assert (done.status, done.out) == (0, "No findings (1 FLModel call in 2 files; 1 suppressed).\n")
    document = scan(bn_audit)
    assert (document["summary"]["errors"], document["summary"]["suppressed"]) == (0, 1)


def test_sarif_keeps_it(project: Path, bn_audit: Command) -> None:
    comment(project, "# noqa: BNA101 averaged on purpose")
    done = bn_audit("scan", "--output-format", "sarif")
    assert done.status == 0
    (result,) = json.loads(done.out)["runs"][0]["results"]
    assert result["suppressions"] == [{"kind": "inSource", "justification": "averaged on purpose"}]


def test_a_suppression_for_nothing(project: Path, bn_audit: Command) -> None:
    comment(project, "# noqa: BNA101, BNA104")
    assert codes(scan(bn_audit)) == ["BNA902"]
    assert bn_audit("scan").status == 1
    (project / "other.py").write_text("x = 1  # noqa: BNA101\n", encoding="utf-8")
    found = scan(bn_audit)
    assert [(one["path"], one["code"]) for one in found["findings"]] == [("other.py", "BNA902"), ("train.py", "BNA902")]
    assert bn_audit("scan", "--fix").status == 0
    assert (project / "other.py").read_text(encoding="utf-8") == "x = 1\n"
    assert (project / "train.py").read_text(encoding="utf-8").endswith(")  # noqa: BNA101\n")


def test_only_a_scan_of_the_whole_repository_knows(project: Path, bn_audit: Command) -> None:
    """What is not scanned may hold the evidence that a rule needs."""
    comment(project, "# noqa: BNA101, BNA104, BNA999")
    below = project / "below"
    below.mkdir()
    (below / "other.py").write_text("x = 1  # noqa: BNA101\n", encoding="utf-8")
    messages = [one["message"] for one in scan(bn_audit, "train.py")["findings"]]
    assert messages == ["this comment silences BNA999, which is no rule of bn-audit's"]
    assert codes(scan(bn_audit, "below")) == []
    assert len(codes(scan(bn_audit, "below", "."))) == 2
    (below / "pyproject.toml").touch()  # A project of its own, in the same repository.
    assert codes(scan(bn_audit, "below")) == []


def test_a_file_that_cannot_be_read_is_not_judged(project: Path, bn_audit: Command) -> None:
    (project / "train.py").write_text(f"{TRAIN}(  # noqa: BNA104\n", encoding="utf-8")
    assert codes(scan(bn_audit)) == ["BNA901"]
    (project / "train.py").write_text(f"{TRAIN}(  # noqa: BNA901\n", encoding="utf-8")
    assert codes(scan(bn_audit)) == []


@pytest.mark.parametrize(
    "flags",
    [
        ("--ignore", "BNA104"),
        ("--select", "BNA101,BNA902"),
        ("--ignore", "BNA902"),
        ("--per-file-ignores", "*.py:BNA104"),
    ],
)
def test_rules_that_do_not_speak(project: Path, bn_audit: Command, flags: tuple[str, ...]) -> None:
    comment(project, "# noqa: BNA101, BNA104")
    assert codes(scan(bn_audit, *flags)) == []


@pytest.mark.parametrize(
    "text", ["# noqa: BNA104, BNA902", "# noqa: BNA104  # noqa", "# noqa: BNA104  # bn-audit: ignore-file[BNA902]"]
)
def test_it_can_be_silenced_itself(project: Path, bn_audit: Command, text: str) -> None:
    comment(project, text)
    assert "BNA902" not in codes(scan(bn_audit, "--ignore", "BNA101"))


def test_a_fix_leaves_what_is_silenced(project: Path, bn_audit: Command) -> None:
    comment(project, "# noqa: BNA101")
    before = (project / "train.py").read_bytes()
    assert bn_audit("scan", "--fix").status == 0
    assert (project / "train.py").read_bytes() == before


def test_same_bytes_whatever_the_jobs(project: Path, bn_audit: Command) -> None:
    for number in range(30):
        (project / f"train{number}.py").write_text(
            f"{TRAIN.rstrip()}  # noqa: BNA10{number % 3 + 1}\n", encoding="utf-8"
        )
    outputs = {bn_audit("scan", "--jobs", jobs, "--output-format", "sarif").out for jobs in ("1", "2")}
    assert len(outputs) == 1


def test_comments_are_added(project: Path, bn_audit: Command) -> None:
    (project / "other.py").write_text(f"# {'é'}\n{TRAIN}", encoding="utf-8")
    done = bn_audit("scan", "--add-noqa")
    assert (done.status, done.out, done.err) == (0, "", "bn-audit: added 2 noqa codes in 2 files\n")
    for name, text in (("train.py", TRAIN), ("other.py", f"# é\n{TRAIN}")):
        expected = text.replace("FLModel(\n", "FLModel(  # noqa: BNA101\n")
        assert (project / name).read_text(encoding="utf-8") == expected
    assert bn_audit("scan").status == 0
    assert bn_audit("scan", "--add-noqa").err == "bn-audit: added 0 noqa codes\n"
    assert bn_audit("scan", "--add-noqa", "-q").err == ""


def test_comments_with_a_reason(project: Path, bn_audit: Command) -> None:
    (project / "other.py").write_text(TRAIN.replace("FLModel(\n", "FLModel(  # noqa: E501\n"), encoding="utf-8")
    (project / "third.py").write_text(TRAIN.replace("FLModel(\n", "FLModel(  # noqa: E501 long\n"), encoding="utf-8")
    assert bn_audit("scan", "--add-noqa=see #12: one scanner", ".").status == 0
    lines = [
        (project / name).read_text(encoding="utf-8").splitlines()[8] for name in ("train.py", "other.py", "third.py")
    ]
    assert [line.partition("(  ")[2] for line in lines] == [
        "# noqa: BNA101 see #12: one scanner",
        "# noqa: E501, BNA101 see #12: one scanner",
        "# noqa: E501, BNA101 long",
    ]
    assert bn_audit("scan").status == 0
    sarif = json.loads(bn_audit("scan", "--output-format", "sarif").out)
    found = [row["suppressions"][0].get("justification") for row in sarif["runs"][0]["results"]]
    assert sorted(found) == ["long", "see #12: one scanner", "see #12: one scanner"]


@pytest.mark.parametrize("reason", ["two\nlines", "E501", "BNA102 too", "# noqa: BNA1", "x # noqa", ": x", "tab\there"])
def test_what_cannot_be_a_reason(project: Path, bn_audit: Command, reason: str) -> None:
    done = bn_audit("scan", f"--add-noqa={reason}")
    assert done.status == 2 and "would not be read as a reason" in done.err
    assert (project / "train.py").read_text(encoding="utf-8") == TRAIN


def test_a_path_behind_the_flag_is_no_reason(project: Path, bn_audit: Command) -> None:
    assert bn_audit("scan", "--add-noqa", "models.py").err == "bn-audit: added 0 noqa codes\n"
    assert bn_audit("scan", "--", "--add-noqa").status == 2


def test_only_what_is_reported_gets_a_comment(project: Path, bn_audit: Command) -> None:
    before = (project / "train.py").read_bytes()
    bn_audit("scan", "--add-noqa", "--ignore", "BNA101")
    bn_audit("scan", "--write-baseline", "known.json")
    bn_audit("scan", "--add-noqa", "--baseline", "known.json")
    assert (project / "train.py").read_bytes() == before


def test_what_gets_no_comment_is_told(project: Path, bn_audit: Command) -> None:
    (project / "broken.py").write_text(f"{TRAIN}(", encoding="utf-8")
    (project / "old.py").write_text("x = 1  # noqa: BNA101\n", encoding="utf-8")
    done = bn_audit("scan", "--add-noqa")
    assert done.status == 0
    assert "BNA901 got no comment: what cannot be read is better left as it is" in done.err
    assert "old.py:1:8: BNA902 got no comment: --fix removes the comment instead" in done.err
    assert "added 1 noqa code in 1 file" in done.err


def test_a_file_that_cannot_be_written(project: Path, bn_audit: Command) -> None:
    (project / "other.py").write_text(TRAIN, encoding="utf-8")
    (project / "other.py").chmod(0o444)
    done = bn_audit("scan", "--add-noqa")
    assert done.status == 2
    assert "other.py: no comment was added: it is read-only" in done.err
    assert "added 1 noqa code in 1 file" in done.err
    assert (project / "other.py").read_text(encoding="utf-8") == TRAIN


@pytest.mark.parametrize("flags", [("--fix",), ("--diff",), ("-",), ("--write-baseline", "known.json")])
def test_flags_that_contradict_each_other(project: Path, bn_audit: Command, flags: tuple[str, ...]) -> None:
    before = (project / "train.py").read_bytes()
    done = bn_audit("scan", "--add-noqa", *flags)
    assert (done.status, done.out) == (2, "")
    assert (project / "train.py").read_bytes() == before
    assert not (project / "known.json").exists()
