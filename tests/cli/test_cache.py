from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bn_audit.source import inspector, past, signature
from tests.cli.conftest import MODELS, TRAIN, Command

CACHE = ".bn-audit_cache"
Count = Callable[[], int]


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Count:
    """How many files were looked into since the last time somebody asked."""
    seen: list[object] = []
    for name in ("look_into", "exports"):
        original = getattr(inspector.Inspector, name)

        def counted(self: object, *arguments: object, original: Callable[..., object] = original) -> object:
            seen.append(arguments)
            return original(self, *arguments)

        monkeypatch.setattr(inspector.Inspector, name, counted)

    def count() -> int:
        found = len(seen)
        seen.clear()
        return found

    return count


def entries(project: Path) -> list[Path]:
    return list((project / CACHE).glob("*.json"))


def test_nothing_is_looked_into_twice(project: Path, bn_audit: Command, looks: Count) -> None:
    first = bn_audit("scan")
    assert looks() > 0
    assert bn_audit("scan") == first
    assert looks() == 0
    assert len(entries(project)) == 1


def test_no_cache_takes_and_keeps_nothing(project: Path, bn_audit: Command, looks: Count) -> None:
    first = bn_audit("scan", "--no-cache")
    assert looks() > 0 and not (project / CACHE).exists()
    bn_audit("scan")
    looks()
    assert bn_audit("scan", "--no-cache") == first
    assert looks() > 0


def test_a_model_that_is_edited(project: Path, bn_audit: Command, looks: Count) -> None:
    assert "BNA101" in bn_audit("scan").out
    (project / "models.py").write_text(MODELS.replace("BatchNorm1d", "LayerNorm"), encoding="utf-8")
    assert "No findings" in bn_audit("scan").out
    (project / "models.py").write_text(MODELS, encoding="utf-8")
    assert "BNA101" in bn_audit("scan").out
    looks()
    (project / "other.py").write_text("x = 1\n", encoding="utf-8")
    assert "in 3 files" in bn_audit("scan").out
    assert looks() == 0


def test_a_file_that_comes_before_on_the_import_path(project: Path, bn_audit: Command) -> None:
    (project / "sub").mkdir()
    (project / "train.py").rename(project / "sub" / "train.py")
    assert "BNA101" in bn_audit("scan").out
    plain = MODELS.replace("BatchNorm1d", "LayerNorm")
    (project / "sub" / "models.py").write_text(plain, encoding="utf-8")
    assert "No findings" in bn_audit("scan").out
    (project / "sub" / "models.py").unlink()
    assert "BNA101" in bn_audit("scan").out
    (project / "models.py").rename(project / "nets.py")
    assert "BNA101" not in bn_audit("scan").out


def test_a_module_outside_of_what_is_scanned(project: Path, bn_audit: Command) -> None:
    assert "BNA101" in bn_audit("scan", "train.py").out
    (project / "models.py").write_text(MODELS.replace("BatchNorm1d", "LayerNorm"), encoding="utf-8")
    assert "No findings" in bn_audit("scan", "train.py").out


def test_settings_and_comments_that_change(project: Path, bn_audit: Command, looks: Count) -> None:
    assert bn_audit("scan").status == 1
    looks()
    config = project / "bn-audit.toml"
    config.write_text('ignore = ["BNA101"]\n', encoding="utf-8")
    assert bn_audit("scan").status == 0
    assert looks() == 0  # rules judge anew, whatever is remembered of the source
    config.write_text('models-without-batchnorm = ["models.Net"]\n', encoding="utf-8")
    assert "No findings" in bn_audit("scan").out
    config.unlink()
    (project / "train.py").write_text(TRAIN.replace("FLModel(\n", "FLModel(  # noqa: BNA101\n"), encoding="utf-8")
    assert bn_audit("scan").status == 0
    (project / "train.py").write_text(TRAIN, encoding="utf-8")
    (project / "requirements.txt").write_text("secretflow==1.4.0b0\n", encoding="utf-8")
    before = bn_audit("scan").out
    (project / "requirements.txt").write_text("secretflow==1.13.0b0\n", encoding="utf-8")
    assert bn_audit("scan").out != before or "BNA105" not in before


def test_a_change_that_size_and_times_do_not_show(project: Path, bn_audit: Command) -> None:
    """Two edits within a tick of the clock look alike; so what was just written is read again."""
    path = project / "models.py"
    bn_audit("scan")
    status = path.stat()
    path.write_text(MODELS.replace("BatchNorm1d(8)", "LayerNorm(8)  "), encoding="utf-8")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size
    assert "No findings" in bn_audit("scan").out


def test_files_known_by_their_signature_are_not_read(
    project: Path, bn_audit: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signature, "MARGIN", 0)
    monkeypatch.setattr(past, "_MANY", 0)
    time.sleep(0.05)
    first = bn_audit("scan", "--output-format", "concise")
    monkeypatch.setattr("bn_audit.source.prefilter.triggers_in", None)
    monkeypatch.setattr("bn_audit.source.outside.read_bytes", None)
    assert bn_audit("scan", "--output-format", "concise") == first


def test_one_file_of_a_folder_does_not_make_the_folder_forgotten(
    project: Path, bn_audit: Command, looks: Count
) -> None:
    bn_audit("scan")
    bn_audit("scan", "train.py")
    looks()
    bn_audit("scan")
    bn_audit("scan", "train.py")
    assert looks() == 0


def test_fixes_with_a_cache(project: Path, bn_audit: Command) -> None:
    bn_audit("scan")
    assert "skip_bn" in bn_audit("scan", "--diff", "--unsafe-fixes").out
    fixed = bn_audit("scan", "--fix", "--unsafe-fixes")
    assert fixed.status == 0 and "skip_bn=True" in (project / "train.py").read_text(encoding="utf-8")
    assert bn_audit("scan").out == bn_audit("scan", "--no-cache").out


@pytest.mark.parametrize(
    ("flags", "variable", "setting", "place"),
    [
        ((), None, None, CACHE),
        (("--cache-dir", "here"), None, None, "here"),
        ((), "there", None, "there"),
        (("--cache-dir", "here"), "there", None, "here"),
        ((), None, "in/settings", "in/settings"),
        ((), "there", "in/settings", "there"),
        (("--isolated",), None, "in/settings", CACHE),
    ],
)
def test_where_the_cache_is(
    project: Path,
    bn_audit: Command,
    monkeypatch: pytest.MonkeyPatch,
    flags: tuple[str, ...],
    variable: str | None,
    setting: str | None,
    place: str,
) -> None:
    if variable is not None:
        monkeypatch.setenv("BN_AUDIT_CACHE_DIR", variable)
    if setting is not None:
        (project / "bn-audit.toml").write_text(f'cache-dir = "{setting}"\n', encoding="utf-8")
    bn_audit("scan", *flags)
    assert [path.parent for path in project.rglob("CACHEDIR.TAG")] == [project / place]


def test_the_cache_of_a_subfolder_is_the_projects(
    project: Path, bn_audit: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "sub").mkdir()
    monkeypatch.chdir(project / "sub")
    bn_audit("scan", "..")
    assert entries(project)


def test_a_damaged_cache(project: Path, bn_audit: Command) -> None:
    first = bn_audit("scan")
    (path,) = entries(project)
    path.write_bytes(path.read_bytes()[:-9])
    again = bn_audit("scan", "-v")
    assert (again.status, again.out) == (first.status, first.out)
    assert "damaged" in again.err
    path.write_bytes(path.read_bytes()[:-9])
    assert bn_audit("scan") == first
    assert "damaged" not in bn_audit("scan", "-v").err


def test_a_file_in_place_of_the_cache(project: Path, bn_audit: Command) -> None:
    (project / CACHE).write_text("mine", encoding="utf-8")
    first = bn_audit("scan", "--no-cache")
    assert bn_audit("scan") == first
    named = bn_audit("scan", "--cache-dir", CACHE)
    assert (named.status, named.out) == (first.status, first.out)
    assert "nothing is kept for the next scan" in named.err
    assert bn_audit("scan", "--cache-dir", CACHE, "--quiet").err == ""
    assert (project / CACHE).read_text(encoding="utf-8") == "mine"


def test_a_cache_that_cannot_be_written(project: Path, bn_audit: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a folder that is read-only, also where the tests run as root."""
    first = bn_audit("scan")
    for path in entries(project):
        path.unlink()
    original = os.replace

    def denied(source: str, target: str) -> None:
        if CACHE in os.fspath(target):
            raise PermissionError(13, "Permission denied")
        original(source, target)

    monkeypatch.setattr(os, "replace", denied)
    assert bn_audit("scan") == first
    assert "Permission denied" in bn_audit("scan", "-v").err


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder(project: Path, bn_audit: Command) -> None:
    first = bn_audit("scan", "--no-cache")
    project.chmod(0o555)
    try:
        assert bn_audit("scan") == first
        assert "Permission denied" in bn_audit("scan", "-v").err
    finally:
        project.chmod(0o755)


def test_a_full_disk(project: Path) -> None:
    """No file may grow beyond a few bytes, as on a disk that fills up in the middle of a write."""
    resource = pytest.importorskip("resource")
    command = [sys.executable, "-m", "bn_audit", "scan"]
    cold = subprocess.run([*command, "--no-cache"], capture_output=True, check=False)

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))

    full = subprocess.run([*command, "-v"], capture_output=True, check=False, preexec_fn=limit)
    assert (full.returncode, full.stdout) == (cold.returncode, cold.stdout)
    assert b"nothing is kept for the next scan" in full.stderr
    assert not entries(project) and not list((project / CACHE).glob("*.part"))


def test_scans_at_the_same_time_and_one_is_killed_again_and_again(project: Path) -> None:
    command = [sys.executable, "-m", "bn_audit", "scan", "--cache-dir", "cache"]
    cold = subprocess.run([*command, "--no-cache"], capture_output=True, check=False)
    chance = random.Random(4)
    texts = [MODELS, MODELS + "\n", MODELS + "\n\n"]
    for number in range(6):
        (project / "models.py").write_text(texts[number % 3], encoding="utf-8")
        killed = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        others = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
        time.sleep(chance.uniform(0.1, 0.8))
        killed.kill()
        killed.wait()
        for other in others:
            out, err = other.communicate()
            assert (other.returncode, out, err) == (cold.returncode, cold.stdout, cold.stderr)
    for path in (project / "cache").glob("*.json"):
        assert path.read_bytes().startswith(b"bn-audit ")


def test_clean(project: Path, bn_audit: Command) -> None:
    bn_audit("scan")
    (project / "sub").mkdir()
    bn_audit("scan", "--cache-dir", f"sub/{CACHE}")
    done = bn_audit("clean")
    assert (done.status, done.out) == (0, "")
    assert done.err.splitlines() == [f"Removed {CACHE}", f"Removed sub/{CACHE}"]
    assert not list(project.rglob("CACHEDIR.TAG"))
    assert bn_audit("clean").err == ""


def test_clean_elsewhere(project: Path, bn_audit: Command) -> None:
    bn_audit("scan", "--cache-dir", "here")
    assert bn_audit("clean", "--cache-dir", "here", "--quiet").err == ""
    assert not (project / "here").exists()
    (project / "bn-audit.toml").write_text('cache-dir = "there"\n', encoding="utf-8")
    bn_audit("scan")
    assert bn_audit("clean").err == "Removed there\n"


def test_clean_removes_nothing_but_a_cache(project: Path, bn_audit: Command) -> None:
    assert bn_audit("clean", "--cache-dir", ".").err == ""
    assert (project / "train.py").exists()
    assert bn_audit("clean", "missing").status == 2


def test_clean_and_settings_that_cannot_be_used(project: Path, bn_audit: Command) -> None:
    (project / "bn-audit.toml").write_text("cache-dir = 1\n", encoding="utf-8")
    done = bn_audit("clean")
    assert done.status == 2 and "cache-dir" in done.err
