"""The README is true: its commands are those that continuous integration runs, and the output it shows comes out."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from bn_audit.cli import run

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


def test_the_first_commands_set_everything_up() -> None:
    first, second = blocks("shell")[:2]
    assert "-m venv .venv" in first
    assert "-c constraints.txt" in first and "[torch,test,dev]" in first
    assert first.rstrip().endswith("bn-audit scan --exit-zero examples/")
    assert second.rstrip().endswith("-m pytest -q -n auto --dist loadfile")
    assert len(first.splitlines()) == len(second.splitlines()) == 1


@pytest.mark.parametrize("number", [1, 2])
def test_continuous_integration_runs_exactly_these(number: int) -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    function = re.search(r"^command_of_readme\(\) \{\n.*?^\}$", script, flags=re.MULTILINE | re.DOTALL)
    assert function is not None
    done = subprocess.run(
        ["bash", "-c", f"{function[0]}\ncommand_of_readme {number}"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    assert done.stdout == blocks("shell")[number - 1]


def test_the_output_shown_is_what_comes_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    shown = re.findall(r"^    \$ bn-audit (.*)\n((?:    .*\n|\n)*)", README, flags=re.MULTILINE)
    assert shown
    for arguments, output in shown:
        run([*arguments.split(), "--isolated", "--color", "never"])
        expected = re.sub(r"^    ", "", output, flags=re.MULTILINE).strip("\n")
        assert capsys.readouterr().out.strip("\n") == expected


def test_every_link_into_the_repository_leads_somewhere() -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_rule_is_listed() -> None:
    from bn_audit.rules import catalogue

    listed = dict(re.findall(r"^\| (BNA\d{3}) \| ([a-z-]+) \|", README, flags=re.MULTILINE))
    assert listed == {rule.code: rule.name for rule in catalogue().values()}
