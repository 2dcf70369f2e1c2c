"""What is told to be missing is what the package says it may do without."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from bn_audit.extras import EXTRAS, install

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]


def test_the_extras_are_those_of_the_package() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for name in ("test", "dev"):
        del declared[name]
    own = {name: tuple(row for row in rows if not row.startswith("bn-audit")) for name, rows in declared.items()}
    assert own == EXTRAS


@pytest.mark.parametrize("extra", EXTRAS)
def test_the_command_names_packages_and_not_bn_audit(extra: str) -> None:
    command = install(extra)
    assert command.startswith("pip install '") and "bn-audit" not in command
    assert re.findall(r"'([^']+)'", command) == list(EXTRAS[extra])


def test_nothing_tells_to_install_bn_audit_from_an_index() -> None:
    """There is none that has it, and somebody else could take the name."""
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "bn_audit").rglob("*.py")]
    for page in pages:
        assert not re.search(r"pip install[^\n]*[' ]bn-audit(\[|$|'| )", page.read_text(encoding="utf-8")), page
