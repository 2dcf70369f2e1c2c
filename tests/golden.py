"""Golden files: output that people have read and found right."""

from __future__ import annotations

import os
from pathlib import Path

DATA = Path(__file__).parent / "data"


def same_as(name: str | Path, text: str) -> None:
    """Compare with a golden file; ``BN_AUDIT_UPDATE=1`` writes it instead, for a person to read the difference."""
    path = DATA / name
    if os.environ.get("BN_AUDIT_UPDATE"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
    assert path.is_file(), f"{path} is missing; run with BN_AUDIT_UPDATE=1 and read what it writes"
    with path.open(encoding="utf-8", newline="") as file:
        assert text == file.read()
