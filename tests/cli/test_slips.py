"""What people write who know other tools, or slip: it works, or says what was meant."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cli.conftest import Command


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["."], "there is no command '.'; did you mean `bn-audit scan .`?"),
        (["scna"], "there is no command 'scna'; did you mean `bn-audit scan`?"),
        (["nothing-like-it"], "there is no command 'nothing-like-it'\n"),
        (["scan", "--select", "BAN101"], "no rule's code begins with `BAN101`; did you mean BNA101?"),
        (["scan", "--select", "BNA9999"], "no rule's code begins with `BNA9999`\n"),
        (["scan", "--ignore", "skip-bn-disabled"], "; the code of skip-bn-disabled is BNA102"),
        (["rule", "skip-bn-misplaced"], "did you mean skip-bn-misplaces-weights?"),
        (["rule", "BNA999"], "there is no rule 'BNA999'\n"),
        (["scan", "--show-files", "--show-settings"], "each end the run"),
        (["scan", "--stdin-filename", "a.py", "."], "it needs the path -"),
    ],
)
def test_what_was_meant_is_told(project: Path, bn_audit: Command, arguments: list[str], says: str) -> None:
    done = bn_audit(*arguments)
    assert done.status == 2
    assert says in done.err


def test_a_table_with_a_head_in_our_own_file(project: Path, bn_audit: Command) -> None:
    (project / "bn-audit.toml").write_text('[tool.bn-audit]\nselect = ["BNA1"]\n')
    done = bn_audit("scan", ".")
    assert done.status == 2
    assert "bn-audit.toml: has no head: its keys stand there without `[tool.bn-audit]`" in done.err


@pytest.mark.parametrize(
    ("pattern", "left"),
    [
        ("a,b", {"c/x.py", "d,e/x.py"}),
        ("a, b ,", {"c/x.py", "d,e/x.py"}),
        ("{a,c}", {"b/x.py", "d,e/x.py"}),
        ("{a,b},c", {"d,e/x.py"}),
        ("{a,b", {"c/x.py", "d,e/x.py"}),
        ("a}", {"a/x.py", "b/x.py", "c/x.py", "d,e/x.py"}),
    ],
)
@pytest.mark.parametrize("flag", ["--exclude", "--extend-exclude"])
def test_patterns_between_commas(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bn_audit: Command, flag: str, pattern: str, left: set[str]
) -> None:
    for name in ("a", "b", "c", "d,e"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.py").touch()
    monkeypatch.chdir(tmp_path)
    done = bn_audit("scan", "--show-files", flag, pattern)
    assert set(done.out.split("\n")) - {""} == left


def test_a_folder_with_nothing_to_look_at_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bn_audit: Command
) -> None:
    monkeypatch.chdir(tmp_path)
    done = bn_audit("scan")
    assert (done.status, done.err) == (0, "bn-audit: there is no Python file and no notebook to look at in .\n")
    assert bn_audit("scan", "--quiet").err == ""
    (tmp_path / "a.py").touch()
    assert bn_audit("scan").err == ""
    assert bn_audit("scan", "--force-exclude", "--exclude", "a.py", "a.py").err == ""


def test_a_file_that_may_not_be_read_does_not_keep_the_others_from_it(
    project: Path, bn_audit: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it may be read shows when it is read, and not before anything is."""
    real = os.open

    def refuse(path: object, *rest: int, **more: int) -> int:
        if str(path).endswith("closed.py"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *rest, **more)  # type: ignore[arg-type]

    (project / "closed.py").touch()
    monkeypatch.setattr(os, "access", lambda path, *rest, **more: not str(path).endswith("closed.py"))
    monkeypatch.setattr(os, "open", refuse)
    done = bn_audit("scan", "closed.py", "train.py")
    assert "BNA1" in done.out and "Usage" not in done.err
