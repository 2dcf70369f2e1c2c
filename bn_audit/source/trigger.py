"""What makes a file worth a look: the name of SecretFlow's FLModel, and of SecretFlow."""

from __future__ import annotations

import re

from bn_audit.source.text import utf_16_or_32

__all__ = ["TRIGGER", "takes_flmodel"]

TRIGGER = b"FLModel"

_ORIGIN = re.compile(rb"secretflow|(?:from|import)\s+sfl\b")


def takes_flmodel(data: bytes) -> bool:
    """Whether a file that holds the trigger may take FLModel from SecretFlow itself, and not from another file."""
    # UTF-16 puts a null byte beside each letter; Python does not read it as source, which is worth an error.
    return _ORIGIN.search(data if utf_16_or_32(data) is None else data.replace(b"\0", b"")) is not None
