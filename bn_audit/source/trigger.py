"""What makes a file worth a look: the name of SecretFlow's FLModel, and of SecretFlow."""

from __future__ import annotations

import re

__all__ = ["TRIGGER", "takes_flmodel"]

TRIGGER = b"FLModel"

_ORIGIN = re.compile(rb"secretflow|(?:from|import)\s+sfl\b")


def takes_flmodel(data: bytes) -> bool:
    """Whether a file that holds the trigger may take FLModel from SecretFlow itself, and not from another file."""
    return _ORIGIN.search(data) is not None
