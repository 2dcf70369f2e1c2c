"""Files with settings, and the words they may use."""

from __future__ import annotations

import textwrap
from pathlib import Path

from bn_audit.codes import CODES
from bn_audit.settings.keys import Vocabulary

VOCABULARY = Vocabulary(CODES, ("concise", "json", "text"))


def write(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return str(path)
