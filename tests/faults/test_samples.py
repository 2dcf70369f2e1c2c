"""A sample of each trial, and all that they have found."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

from bn_audit.source.text import normalize_newlines
from tests.faults import files, fuzz, layouts
from tests.fix.programs import PROGRAM, judge

FOUND = Path(__file__).parent.parent / "data" / "faults"
SEEDS = sorted(path for path in FOUND.rglob("*") if path.is_file() and path.parent != FOUND)


@pytest.mark.parametrize("path", SEEDS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_what_was_a_fault_once(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert fuzz.try_one(fuzz.TARGETS[path.parent.name], path.read_bytes()) is None


@pytest.mark.parametrize("name", fuzz.TARGETS)
def test_some_input_of_every_kind(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".git").mkdir()
    *faults, (number, _, _) = fuzz.fuzz(name, seconds=1.0, seed=6, most=200)
    assert [fault for _, _, fault in faults] == []
    assert number > 0


def test_a_fault_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(data: bytes) -> None:
        raise IndexError(len(data))

    monkeypatch.setitem(fuzz.TARGETS, "parser", broken)
    rows = list(fuzz.fuzz("parser", seconds=5.0, seed=6, most=3))
    assert [number for number, _, _ in rows] == [1, 2, 3, 3]
    assert all("IndexError" in fault for _, _, fault in rows[:-1])


BAD = Path(sys.base_prefix, "lib", f"python3.{sys.version_info.minor}", "test", "tokenizedata")
"""Files of CPython's tests with broken syntax, marks and encodings; in test/ itself before 3.13."""


def test_real_files(tmp_path: Path) -> None:
    folders = [str(Path(files.__file__).parent.parent / "fix"), *([str(BAD)] if BAD.is_dir() else [])]
    assert list(files.faults(folders, seed=3, most=14)) == []


def test_a_file_that_is_read_in_one_order_only_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "ab":
        (tmp_path / f"{name}.py").write_text("class A:\n    pass\n", encoding="utf-8")
    looks = iter([*((task, 0) for task in range(4))])
    look_into = files.Inspector.look_into

    def moody(self: files.Inspector, task: files.Task) -> files.Part:
        number, _ = next(looks, (9, 0))
        return look_into(self, task)._replace(notes=("moody",) if number == 3 else ())

    monkeypatch.setattr(files.Inspector, "look_into", moody)
    faults = list(files.faults([str(tmp_path)], seed=1))
    assert any("in another order something else comes of it" in fault for fault in faults)


@pytest.mark.parametrize("seed", range(6))
def test_fixes_in_other_layouts(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    chance = random.Random(seed)
    Path("train.py").write_text(PROGRAM, encoding="utf-8")
    before = judge(["train.py"])
    assert layouts.told(before.findings)
    source = layouts.another_layout(PROGRAM, chance, 30)
    assert source != PROGRAM and normalize_newlines(source) == source
    assert list(layouts.faults_of("train.py", before, layouts.encoded(source, chance))) == []


@pytest.mark.parametrize("change", sorted({*layouts.CHANGES}, key=lambda change: change.__name__))
def test_every_change_of_layout_changes_something(change: layouts.Change) -> None:
    chance = random.Random(5)
    changed = (change(PROGRAM, chance) for _ in range(100))
    assert any(text != PROGRAM and layouts.same_program(PROGRAM, text) for text in changed)
