"""A release of SecretFlow, as a person writes it."""

from __future__ import annotations

__all__ = ["parse_version"]

VERSION = r"v?\d+(\.\d+)*((a|b|rc|\.?dev|\.?post)\d*)*(\+[\w.]+)?"


def parse_version(text: str) -> str:
    """A release of SecretFlow as it is written (``1.13.0b0``).

    Raises:
        ValueError: it is none.
    """
    import re

    if re.fullmatch(VERSION, text.strip(), re.ASCII) is None:
        raise ValueError(f"{text!r} is not a version")
    return text.strip().removeprefix("v")
