"""Versions, as far as plans ask."""

from __future__ import annotations

import re

__all__ = ["release"]


def release(version: str | None) -> tuple[int, int] | None:
    """Major and minor number of a version string; None if it has none (``sfl``, ``main``)."""
    match = re.match(r"v?(\d+)\.(\d+)", version or "")
    return (int(match[1]), int(match[2])) if match else None
