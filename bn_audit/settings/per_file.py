"""``per-file-ignores``: codes that are not reported of files that match a pattern."""

from __future__ import annotations

import os
import re

from bn_audit.source.glob import forward, translate

__all__ = ["PerFile"]


class PerFile:
    """One pattern. Without a slash it stands for the file's name, with one for its whole path; ``!`` turns it round."""

    def __init__(self, pattern: str, codes: tuple[str, ...]) -> None:
        self.codes = codes
        self._turned = pattern.startswith("!")
        pattern = pattern.removeprefix("!")
        self._whole = "/" in pattern
        self._expression = re.compile(translate(pattern), re.DOTALL)

    def matches(self, path: str) -> bool:
        """Whether it holds for a file given by its absolute path."""
        subject = forward(path) if self._whole else os.path.basename(path)
        return (self._expression.fullmatch(subject) is not None) is not self._turned
