from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bn_audit.cli import scan
from tests.cli.conftest import MODELS, TRAIN, Command


def test_findings_and_exit_status(project: Path, bn_audit: Command) -> None:
    done = bn_audit("scan")
    assert (done.status, done.err) == (1, "")
    assert done.out.startswith("train.py:9:12: BNA101 missing-skip-bn [error] [*] `Net` has BatchNorm")
    assert "  8 |         self.bn = nn.BatchNorm1d(8)\n" in done.out
    assert done.out.endswith("Found 1 error (1 FLModel call in 2 files).\n[*] 1 fixable with --fix.\n")


def test_nothing_found(project: Path, bn_audit: Command) -> None:
    (project / "train.py").write_text(TRAIN.replace('"torch",', '"torch", skip_bn=True,'), encoding="utf-8")
    done = bn_audit("scan", ".")
    assert (done.status, done.out) == (0, "No findings (1 FLModel call in 2 files).\n")


@pytest.mark.parametrize(
    ("flags", "status"),
    [
        (["--exit-zero"], 0),
        (["--ignore", "BNA1"], 0),
        (["--select", "BNA4,BNA9"], 0),
        (["--select", "bna101"], 1),
        (["--select", "ALL", "--ignore", "BNA101"], 0),
        (["--ignore", "BNA1", "--extend-select", "BNA101"], 1),
        (["--secretflow-version", "1.13.0b0"], 1),
    ],
)
def test_flags_and_exit_status(project: Path, bn_audit: Command, flags: list[str], status: int) -> None:
    assert bn_audit("scan", *flags).status == status


@pytest.mark.parametrize(("least", "status"), [("error", 0), ("warning", 1), ("info", 1)])
def test_fail_on(project: Path, bn_audit: Command, least: str, status: int) -> None:
    (project / "train.py").write_text(TRAIN.replace('"torch",', '"torch", skip_bn=False,'), encoding="utf-8")
    done = bn_audit("scan", "--fail-on", least)
    assert "BNA102" in done.out
    assert done.status == status


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--select", "BNA7"], "no rule's code begins with `BNA7`"),
        (["--select", "BNA1,,"], "a selector is empty"),
        (["--output-format", "xml"], "'xml' is none of concise, github, gitlab, html, json, jsonl, junit, sarif, text"),
        (["--secretflow-version", "newest"], "'newest' is not a version"),
        (["--fail-on", "never"], "'never'"),
        (["--no-such-flag"], "--no-such-flag"),
        (["--output-file", "no/such/folder/report.txt"], "No such file or directory"),
        (["--jobs", "-1"], "-1"),
    ],
)
def test_usage_errors(project: Path, bn_audit: Command, flags: list[str], says: str) -> None:
    done = bn_audit("scan", *flags)
    assert done.status == 2
    assert says in done.err
    assert "Traceback" not in done.err


def test_a_path_that_does_not_exist_and_the_rest_is_scanned(project: Path, bn_audit: Command) -> None:
    done = bn_audit("scan", "missing.py", "train.py")
    assert done.status == 2
    assert "missing.py" in done.err
    assert "BNA101" in done.out


def test_a_broken_file_is_a_finding_and_the_rest_is_scanned(project: Path, bn_audit: Command) -> None:
    (project / "broken.py").write_text("from secretflow_fl.ml.nn import FLModel\nFLModel(\n", encoding="utf-8")
    done = bn_audit("scan", "--output-format", "concise")
    assert done.status == 1
    assert [line.split()[1] for line in done.out.splitlines()[:-2]] == ["BNA901", "BNA101"]


def test_configuration(project: Path, bn_audit: Command) -> None:
    file = project / "bn-audit.toml"
    file.write_text("ignore = ['BNA101']\n", encoding="utf-8")
    assert bn_audit("scan").status == 0
    assert bn_audit("scan", "--isolated").status == 1
    assert bn_audit("scan", "--select", "BNA1").status == 1
    file.write_text("fail-on = 'error'\nselect = ['all']\n", encoding="utf-8")
    assert bn_audit("scan").status == 1
    file.write_text("ingore = ['BNA101']\n", encoding="utf-8")
    done = bn_audit("scan")
    assert done.status == 2
    assert "did you mean `ignore`?" in done.err and "bn-audit.toml" in done.err
    assert bn_audit("scan", "--isolated").status == 1


def test_configuration_is_looked_for_where_the_paths_lie(
    project: Path, bn_audit: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "bn-audit.toml").write_text("ignore = ['BNA101']\n", encoding="utf-8")
    monkeypatch.chdir(project.parent)
    assert bn_audit("scan", str(project / "train.py"), str(project / "models.py")).status == 0


def test_exclusion(project: Path, bn_audit: Command) -> None:
    assert bn_audit("scan", "--extend-exclude", "train.py").status == 0
    assert bn_audit("scan", "train.py", "--extend-exclude", "train.py").status == 1
    assert bn_audit("scan", "train.py", "--extend-exclude", "train.py", "--force-exclude").status == 0
    (project / ".gitignore").write_text("train.py\n", encoding="utf-8")
    assert bn_audit("scan").status == 0
    assert bn_audit("scan", "--no-respect-gitignore").status == 1


def test_show_files(project: Path, bn_audit: Command) -> None:
    done = bn_audit("scan", "--show-files")
    assert done.status == 0
    assert [Path(line).name for line in done.out.splitlines()] == ["models.py", "train.py"]
    assert bn_audit("scan", "--show-files", "missing").status == 2


def test_the_pinned_release_counts(project: Path, bn_audit: Command) -> None:
    (project / "train.py").write_text(TRAIN.replace('"torch",', '"torch", skip_bn=True,'), encoding="utf-8")
    (project / "requirements.txt").write_text("secretflow==1.4.0b0\n", encoding="utf-8")
    assert "SecretFlow 1.4.0b0 does not know it" in bn_audit("scan").out
    assert bn_audit("scan", "--secretflow-version", "1.13.0b0").status == 0
    (project / "bn-audit.toml").write_text("secretflow-version = '1.13.0b0'\n", encoding="utf-8")
    assert bn_audit("scan").status == 0


def test_output_file(project: Path, bn_audit: Command) -> None:
    done = bn_audit("scan", "--output-format", "json", "--output-file", "report.json", "--color", "always")
    assert (done.status, done.out) == (1, "")
    document = json.loads((project / "report.json").read_text(encoding="utf-8"))
    assert [finding["code"] for finding in document["findings"]] == ["BNA101"]
    assert document["summary"]["files"] == 2


def test_statistics_and_quiet(project: Path, bn_audit: Command) -> None:
    assert bn_audit("scan", "--statistics", "-q").out == "1  BNA101  missing-skip-bn\n"
    quiet = bn_audit("scan", "-q", "--output-format", "concise").out
    assert len(quiet.splitlines()) == 1


def test_stdin(project: Path, bn_audit: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    program = TRAIN.replace("from models import Net\n", MODELS)

    class Stdin:
        buffer = io.BytesIO(program.encode())

    monkeypatch.setattr(sys, "stdin", Stdin)
    done = bn_audit("scan", "-", "--stdin-filename", "edited.py")
    assert done.status == 1
    assert done.out.startswith("edited.py:")
    assert "self.bn = nn.BatchNorm1d(8)\n" in done.out


@pytest.mark.parametrize(
    ("environment", "flag", "colored"),
    [
        ({}, "auto", False),
        ({}, "always", True),
        ({"FORCE_COLOR": "1"}, "auto", True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, "auto", False),
        ({"FORCE_COLOR": "1"}, "never", False),
    ],
)
def test_color(
    project: Path,
    bn_audit: Command,
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    flag: str,
    colored: bool,
) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert ("\x1b[" in bn_audit("scan", "--color", flag).out) is colored


def test_same_input_same_bytes(project: Path, bn_audit: Command) -> None:
    for number in range(5):
        (project / f"train{number}.py").write_text(TRAIN, encoding="utf-8")
    outputs = {bn_audit("scan", "--jobs", jobs).out for jobs in ("0", "1", "2", "1")}
    assert len(outputs) == 1


def test_an_internal_error_is_a_message(project: Path, bn_audit: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise RuntimeError("something inside")

    monkeypatch.setattr(scan, "read", fail)
    done = bn_audit("scan")
    assert done.status == 2
    assert done.err == (
        "bn-audit: internal error: RuntimeError: something inside (please report it, with the output of --verbose)\n"
    )
    assert "Traceback" in bn_audit("scan", "--verbose").err


def test_an_interrupt(project: Path, bn_audit: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(scan, "read", interrupt)
    done = bn_audit("scan")
    assert done.status == 130
    assert "Traceback" not in done.err


def test_a_reader_who_leaves(project: Path) -> None:
    """The pipe's reading end is closed before anything is written."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bn_audit", "scan"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    error = process.stderr.read()
    assert (process.wait(), error) == (1, "")


def test_an_encoding_that_lacks_the_letters(project: Path) -> None:
    (project / "train.py").write_text(TRAIN.replace("Net", "Größe"), encoding="utf-8")
    (project / "models.py").write_text(MODELS.replace("Net", "Größe"), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "bn_audit", "scan"],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 1
    assert rb"Gr\xf6\xdfe" in done.stdout
    assert done.stderr == b""
