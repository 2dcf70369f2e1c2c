"""Shell completion: what a shell is told, and what bash makes of it."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bn_audit.codes import CODES
from bn_audit.report.formats import names

ROOT = Path(__file__).parents[2]


def completed(*words: str) -> list[str]:
    """What is offered for the last word."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "_BN_AUDIT_COMPLETE": "bash_complete",
        "COMP_WORDS": shlex.join(["bn-audit", *words[:-1]]) + " " + words[-1],
        "COMP_CWORD": str(len(words)),
    }
    done = subprocess.run(
        [sys.executable, "-m", "bn_audit"], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return [line.partition(",")[2] for line in done.stdout.splitlines()]


def test_commands() -> None:
    assert completed("") == ["scan", "inspect", "verify", "compare", "rule", "server", "clean"]
    assert completed("s") == ["scan", "server"]


def test_options() -> None:
    assert completed("scan", "--fi") == ["--fix"]
    assert "--no-skip-bn" in completed("inspect", "--no")


def test_values() -> None:
    assert completed("scan", "--output-format", "") == list(names())
    assert completed("scan", "--fail-on", "w") == ["warning"]
    assert completed("inspect", "a.py:Net", "--aggregator", "s") == ["secure", "spu", "sparse", "server_agg_method"]


def test_codes() -> None:
    assert completed("rule", "bna10") == [code for code in CODES if code.startswith("BNA10")]
    assert completed("rule", "missing") == ["missing-skip-bn"]
    assert completed("scan", "--select", "BNA9") == ["BNA9", "BNA901", "BNA902"]
    assert completed("scan", "--ignore", "BNA101,bna9") == ["BNA101,BNA9", "BNA101,BNA901", "BNA101,BNA902"]


SHELLS = {
    "bash": """
COMP_WORDS=(bn-audit scan --output-format "s"); COMP_CWORD=3
_bn_audit_completion bn-audit; echo "${COMPREPLY[@]}"
""",
    "fish": "complete -C 'bn-audit scan --output-format s'",
    # zsh completes only on a terminal: what its function asks for is asked for here.
    "zsh": """
functions _bn_audit_completion > /dev/null || exit 1
COMP_WORDS="bn-audit scan --output-format s" COMP_CWORD=3 _BN_AUDIT_COMPLETE=zsh_complete bn-audit | sed -n 2p
""",
}
"""What to run in each shell after its script."""


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_for_each_shell(shell: str, tmp_path: Path) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"there is no {shell}")
    command = tmp_path / "bn-audit"
    command.write_text(
        f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(ROOT))} exec {shlex.quote(sys.executable)} -m bn_audit "$@"\n',
        encoding="utf-8",
    )
    command.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "HOME": str(tmp_path)}
    script = subprocess.run(
        [command],
        env={**environment, "_BN_AUDIT_COMPLETE": f"{shell}_source"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    begin = "autoload -Uz compinit; compinit -u\n" if shell == "zsh" else ""
    (tmp_path / "script").write_text(f"{begin}{script}\n{SHELLS[shell]}\n", encoding="utf-8")
    done = subprocess.run([program, tmp_path / "script"], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["sarif"], done.stderr
