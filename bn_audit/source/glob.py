"""Globs as ruff reads them: ``*`` and ``?`` match slashes too. Nothing is compiled before it is needed."""

from __future__ import annotations

import os
import re

__all__ = ["absolute", "forward", "is_plain", "translate"]

_TOKEN = r"/\*\*/|\*+|\[[!^]?\]?[^\]]*\]|."
_MAGIC = frozenset("*?[{")


def translate(pattern: str) -> str:
    """A glob as a regular expression: ``*``, ``**``, ``?``, ``[...]``, ``{a,b}``. ``*`` and ``?`` match slashes too."""
    parts = []
    braces = 0
    for token in re.findall(_TOKEN, pattern, re.DOTALL):
        if token == "/**/":
            part = "/(?:.*/)?"
        elif token.startswith("*"):
            part = ".*"
        elif token == "?":
            part = "."
        elif token.startswith("[") and len(token) > 2:
            negated = token[1] in "!^"
            members = re.sub(r"([\\\[\]&~|^])", r"\\\1", token[2 if negated else 1 : -1])
            part = f"[{'^' if negated else ''}{members}]"
        elif token == "{":
            part = "(?:"
            braces += 1
        elif token == "}" and braces:
            part = ")"
            braces -= 1
        elif token == "," and braces:
            part = "|"
        else:
            part = re.escape(token)
        parts.append(part)
    expression = "(?:" + "".join(parts) + ")" * (braces + 1)
    try:
        re.compile(expression)
    except re.error:  # a range that runs backwards
        return re.escape(pattern)
    return expression


def absolute(pattern: str, root: str) -> str:
    """A pattern with a slash is a path relative to ``root``; one without stands for itself."""
    pattern = forward(pattern)
    pattern = pattern.rstrip("/")
    if "/" not in pattern or os.path.isabs(pattern):
        return pattern
    return f"{_literal(forward(root).rstrip('/'))}/{pattern.removeprefix('./')}"


def is_plain(pattern: str) -> bool:
    """Whether a pattern matches nothing but itself."""
    return _MAGIC.isdisjoint(pattern)


def forward(path: str) -> str:
    """A path with ``/`` between its parts."""
    return path if os.sep == "/" else path.replace(os.sep, "/")


def _literal(text: str) -> str:
    """A glob that matches the text itself."""
    return text if is_plain(text) and "}" not in text else re.sub(r"[*?\[{}]", lambda match: f"[{match[0]}]", text)
