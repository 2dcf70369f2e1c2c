"""Whether a shared file may have our table: most do not, and the TOML parser is dear at start-up."""

from __future__ import annotations

import re

from bn_audit.settings.config import TABLE
from bn_audit.source.raw import SourceError, read_bytes

__all__ = ["may_have_table"]

# The head of the table, a dotted key, or what may stand around a plain key or an inline table.
_TABLE = rb"""tool["']?\s*\.\s*["']?bn-audit|(?m:^)\s*(?:\[\s*["']?tool["']?\s*\]|["']?tool["']?\s*=)"""


def may_have_table(path: str) -> bool:
    """Whether the bytes of a pyproject.toml speak of our table. True if it cannot be read, which is worth an error."""
    try:
        data = read_bytes(path)
    except SourceError:
        return True
    return TABLE.encode() in data and re.search(_TABLE, data) is not None
