"""The list of codes that selectors are checked against."""

from __future__ import annotations

import os
import re
from pathlib import Path

from bn_audit import codes
from bn_audit.rules import catalogue


def test_every_rule_has_its_code_in_the_list() -> None:
    path = Path(codes.__file__)
    text = path.read_text(encoding="utf-8")
    rows = "".join(f'    "{code}",\n' for code in catalogue())
    updated = re.sub(r"CODES = \(\n.*\)\n", lambda match: f"CODES = (\n{rows})\n", text, flags=re.DOTALL)
    if os.environ.get("BN_AUDIT_UPDATE"):
        path.write_text(updated, encoding="utf-8")
    assert updated == text, "run this test with BN_AUDIT_UPDATE=1, and read what it changes"
