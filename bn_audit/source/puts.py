"""Which methods put something into a container."""

from __future__ import annotations

__all__ = ["PUTS"]

PUTS = frozenset(
    {"append", "extend", "insert", "add", "put", "appendleft", "setdefault", "update", "add_", "sub_", "copy_"}
)
"""Methods that put their last argument into a container."""
