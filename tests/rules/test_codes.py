"""The list of codes that selectors are checked against."""

from __future__ import annotations

import importlib
import os
import pkgutil
import re
from pathlib import Path
from typing import get_args

from bn_audit import codes, rules
from bn_audit.rules import catalogue, rules_about


def test_every_rule_has_its_code_in_the_list() -> None:
    path = Path(codes.__file__)
    text = path.read_text(encoding="utf-8")
    rows = "".join(f'    "{code}",\n' for code in catalogue())
    updated = _with(text, r"CODES = \(\n.*?^\)\n", f"CODES = (\n{rows})\n")
    families: dict[str, set[str]] = {}
    for module in pkgutil.iter_modules(rules.__path__):
        for rule in getattr(importlib.import_module(f"bn_audit.rules.{module.name}"), "RULES", ()):
            for kind in get_args(rule.judges) or (rule.judges,):
                families.setdefault(kind.__name__, set()).add(module.name)
    rows = ""
    for kind in sorted(families):
        names = sorted(families[kind])
        listed = (
            f'"{names[0]}",' if len(names) == 1 else "\n" + "".join(f'        "{name}",\n' for name in names) + "    "
        )
        rows += f'    "{kind}": ({listed}),\n'
    updated = _with(updated, r"FAMILIES = \{\n.*?^\}\n", f"FAMILIES = {{\n{rows}}}\n")
    if os.environ.get("BN_AUDIT_UPDATE"):
        path.write_text(updated, encoding="utf-8")
    assert updated == text, "run this test with BN_AUDIT_UPDATE=1, and read what it changes"


def _with(text: str, pattern: str, table: str) -> str:
    """A text with a table in place of what the pattern finds, which is there once."""
    changed, count = re.subn(pattern, lambda match: table, text, flags=re.DOTALL | re.MULTILINE)
    assert count == 1
    return changed


def test_a_subject_is_judged_by_all_rules_about_it() -> None:
    for kind, families in codes.FAMILIES.items():
        subject = type(kind, (), {})()
        expected = {
            code
            for code, rule in catalogue().items()
            if kind in {one.__name__ for one in get_args(rule.judges) or (rule.judges,)}
        }
        assert expected <= rules_about([subject]).keys()
        assert families
    assert rules_about([object()]) == {}
