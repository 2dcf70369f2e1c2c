"""The house: imports run one way, and the command line starts light."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = {"libcst", "rich", "pathspec", "jsonschema", "torch", "numpy", "importlib.metadata", "tomllib", "json"}


def loaded(code: str) -> set[str]:
    """The modules a fresh interpreter has loaded after running some code."""
    script = f"import sys\n{code}\nprint(*sys.modules, sep='\\n', file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stderr.split())


def test_the_arrows() -> None:
    pytest.importorskip("importlinter")
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]
    done = subprocess.run([*command, "--no-cache"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_package_imports_nothing_heavy() -> None:
    assert loaded("import bn_audit") & (HEAVY | {"click"}) == set()


@pytest.mark.parametrize("arguments", [[], ["scan", "--help"]])
def test_the_command_line_starts_light(arguments: list[str]) -> None:
    code = f"from bn_audit.cli import run\nrun({arguments!r})"
    assert loaded(code) & (HEAVY - {"json"}) == set()


def test_a_file_without_a_trigger_costs_no_parser(tmp_path: Path) -> None:
    file = tmp_path / "plain.py"
    file.write_text("print('no federation here')\n", encoding="utf-8")
    modules = loaded(f"from bn_audit.cli import run\nassert run(['scan', {str(file)!r}]) == 0")
    assert modules & HEAVY == set()
    assert not any(name.startswith(("bn_audit.rules", "bn_audit.exchange")) for name in modules)
