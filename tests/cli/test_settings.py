"""Settings of files and flags, as a scan heeds them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import TRAIN, Command


@pytest.fixture
def nested(project: Path) -> Path:
    """The project with a copy of itself below, which has settings of its own."""
    (project / "sub").mkdir()
    for name in ("train.py", "models.py"):
        shutil.copy(project / name, project / "sub" / name)
    return project


def places(text: str) -> list[str]:
    return [line.split(":")[0] for line in text.splitlines() if "BNA" in line]


def test_each_file_has_the_settings_nearest_to_it(nested: Path, bn_audit: Command) -> None:
    (nested / "pyproject.toml").write_text("[tool.bn-audit]\nignore = ['BNA101']\n", encoding="utf-8")
    assert places(bn_audit("scan", "--output-format", "concise").out) == []
    (nested / "sub" / "bn-audit.toml").write_text("", encoding="utf-8")
    assert places(bn_audit("scan", "--output-format", "concise").out) == ["sub/train.py"]
    assert places(bn_audit("scan", "--output-format", "concise", "train.py", "sub/train.py").out) == ["sub/train.py"]


def test_the_status_is_as_the_findings_file_says(nested: Path, bn_audit: Command) -> None:
    for name in ("train.py", "sub/train.py"):
        (nested / name).write_text(TRAIN.replace('"torch",', '"torch", skip_bn=False,'), encoding="utf-8")
    (nested / "bn-audit.toml").write_text("fail-on = 'error'\n", encoding="utf-8")
    assert bn_audit("scan").status == 0  # warnings
    (nested / "sub" / "bn-audit.toml").write_text("", encoding="utf-8")
    assert bn_audit("scan").status == 1
    assert bn_audit("scan", "--fail-on", "error").status == 0


def test_releases_of_each_file(nested: Path, bn_audit: Command) -> None:
    for name in ("train.py", "sub/train.py"):
        (nested / name).write_text(TRAIN.replace('"torch",', '"torch", skip_bn=True,'), encoding="utf-8")
    (nested / "sub" / "bn-audit.toml").write_text("secretflow-version = '1.4.0b0'", encoding="utf-8")
    assert places(bn_audit("scan", "--output-format", "concise").out) == ["sub/train.py"]


def test_exclusions_of_each_folder(nested: Path, bn_audit: Command) -> None:
    (nested / "sub" / "bn-audit.toml").write_text("extend-exclude = ['train.py']", encoding="utf-8")
    assert bn_audit("scan", "--show-files").out.split() == ["models.py", "sub/models.py", "train.py"]
    (nested / "bn-audit.toml").write_text("exclude = ['sub/models.py', 'models.py']", encoding="utf-8")
    assert bn_audit("scan", "--show-files").out.split() == ["sub/models.py", "train.py"]
    (nested / "bn-audit.toml").write_text("exclude = ['sub']", encoding="utf-8")
    assert bn_audit("scan", "--show-files").out.split() == ["models.py", "train.py"]


def test_excluded_and_named(nested: Path, bn_audit: Command) -> None:
    (nested / "bn-audit.toml").write_text("exclude = ['sub']\nforce-exclude = true\n", encoding="utf-8")
    assert bn_audit("scan", "--show-files", "sub/train.py", "train.py").out.split() == ["train.py"]
    assert bn_audit("scan", "--show-files", "--no-force-exclude", "sub/train.py").out.split() == ["sub/train.py"]


def test_a_folder_above_the_project_excludes_nothing(
    tmp_path: Path, bn_audit: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = tmp_path / "venv" / "project"
    inside.mkdir(parents=True)
    (inside / "a.py").touch()
    monkeypatch.chdir(inside)
    assert bn_audit("scan", "--show-files", "--force-exclude", "a.py").out.split() == ["a.py"]
    (inside / "bn-audit.toml").touch()
    monkeypatch.chdir(tmp_path)
    assert bn_audit("scan", "--show-files", "--force-exclude", "venv/project/a.py").out.split() == ["venv/project/a.py"]


def test_per_file_ignores(nested: Path, bn_audit: Command) -> None:
    config = nested / "bn-audit.toml"
    config.write_text("[per-file-ignores]\n'sub/*' = ['BNA1']\n", encoding="utf-8")
    assert places(bn_audit("scan", "--output-format", "concise").out) == ["train.py"]
    # Flags take the place of the table; what is called extend adds to it.
    flags = ["scan", "--output-format", "concise", "--per-file-ignores", "nothing.py:BNA101"]
    assert places(bn_audit(*flags).out) == ["sub/train.py", "train.py"]
    flags[3:] = ["--extend-per-file-ignores", "models.py:BNA401,BNA402,train.py:BNA101"]
    assert places(bn_audit(*flags).out) == []


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("BNA101", "'BNA101' is no pattern:CODE"),
        (":BNA101", "is no pattern:CODE"),
        ("a.py:", "a selector is empty"),
        ("a.py:XYZ", "no rule's code begins with `XYZ`"),
    ],
)
def test_what_is_no_pattern_with_codes(project: Path, bn_audit: Command, value: str, says: str) -> None:
    done = bn_audit("scan", "--per-file-ignores", value)
    assert done.status == 2
    assert says in done.err


def test_one_file_for_all_and_settings_in_a_flag(nested: Path, bn_audit: Command) -> None:
    (nested / "sub" / "bn-audit.toml").write_text("ignore = ['BNA1']", encoding="utf-8")
    (nested / "ci.toml").write_text("fail-on = 'error'\noutput-format = 'concise'\n", encoding="utf-8")
    done = bn_audit("scan", "--config", "ci.toml")
    assert places(done.out) == ["sub/train.py", "train.py"]
    done = bn_audit("scan", "--config", "ci.toml", "--config", "ignore = ['BNA101']")
    assert (done.status, places(done.out)) == (0, [])
    done = bn_audit("scan", "--config", "output-format = 'concise'")
    assert places(done.out) == ["train.py"]


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--config", "none.toml"], "none.toml: No such file or directory"),
        (["--config", "jobs = "], "is neither a file nor TOML"),
        (["--config", "jbos = 1"], "did you mean `jobs`?"),
        (["--config", "a.toml", "--config", "b.toml"], "only one file can hold everywhere"),
        (["--config", "a.toml", "--isolated"], "a.toml is a file, and --isolated reads none"),
    ],
)
def test_bad_values_of_config(project: Path, bn_audit: Command, flags: list[str], says: str) -> None:
    (project / "a.toml").touch()
    (project / "b.toml").touch()
    done = bn_audit("scan", *flags)
    assert done.status == 2
    assert says in done.err


def test_a_broken_configuration_below_ends_the_scan(nested: Path, bn_audit: Command) -> None:
    (nested / "sub" / "bn-audit.toml").write_text("\nselct = []\n", encoding="utf-8")
    done = bn_audit("scan")
    assert (done.status, done.out) == (2, "")
    assert done.err == "Error: sub/bn-audit.toml:2: unknown key `selct`; did you mean `select`?\n"
    (nested / "bn-audit.toml").write_text("extend-exclude = ['sub']", encoding="utf-8")
    assert bn_audit("scan").status == 1


def test_two_files_in_one_folder(project: Path, bn_audit: Command) -> None:
    (project / "bn-audit.toml").write_text("ignore = ['BNA1']", encoding="utf-8")
    (project / "pyproject.toml").write_text("[tool.bn-audit]\njobs = 1\n", encoding="utf-8")
    done = bn_audit("scan")
    assert done.status == 0
    assert "`tool.bn-audit` is not read, because bn-audit.toml stands beside it" in done.err
    assert bn_audit("scan", "--quiet").err == ""


def test_stdin_has_the_settings_of_its_name(nested: Path, bn_audit: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    import io
    import sys

    class Stdin:
        buffer = io.BytesIO(TRAIN.encode())

    (nested / "sub" / "bn-audit.toml").write_text("ignore = ['BNA1']", encoding="utf-8")
    monkeypatch.setattr(sys, "stdin", Stdin)
    assert bn_audit("scan", "-", "--stdin-filename", "sub/new.py").status == 0
    Stdin.buffer = io.BytesIO(TRAIN.encode())
    assert bn_audit("scan", "-", "--stdin-filename", "new.py").status == 1


def test_settings_teach_the_reader(project: Path, bn_audit: Command) -> None:
    (project / "models.py").unlink()
    (project / "train.py").write_text(TRAIN.replace("models", "inhouse"), encoding="utf-8")
    assert "BNA108" in bn_audit("scan").out
    (project / "bn-audit.toml").write_text("models-with-batchnorm = ['inhouse.Net']\n", encoding="utf-8")
    done = bn_audit("scan")
    assert done.status == 1
    assert "BNA101 missing-skip-bn [error] `inhouse.Net` has BatchNorm" in done.out
    assert "the settings say that what is made here has BatchNorm" in done.out
