"""Globs as ruff reads them: ``*`` and ``?`` match slashes too. Nothing is compiled before it is needed.

A pattern with many stars must not take time that is exponential in their number, as it does where each of them may
give back what it took: ``a*a*a*a*b`` is a few bytes of somebody else's project. All but the last take as little as
they can and give nothing back, which finds the same: what follows a star begins with another one, and can take what
the first has left.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Sequence

__all__ = ["FEW", "absolute", "forward", "frugal", "is_plain", "translate"]

FEW = 2
"""So many stars are taken as they come: what they cost is at most the square of a path's length."""
_MOST_CHOICES = 64
_DEEPEST = 32
"""Braces in braces: Python's compiler of expressions goes down one call after another."""
_groups = itertools.count()

_TOKEN = r"/\*\*/|\*+|\[[!^]?\]?[^\]]*\]|."
_MAGIC = frozenset("*?[{")


def translate(pattern: str) -> str:
    """A glob as a regular expression: ``*``, ``**``, ``?``, ``[...]``, ``{a,b}``. ``*`` and ``?`` match slashes too.

    One that has many stars and more choices in braces than anybody writes, or braces in one another as deep as nobody
    writes them, stands for itself.
    """
    tokens = re.findall(_TOKEN, pattern, re.DOTALL)
    if _depth(tokens) > _DEEPEST:
        return re.escape(pattern)
    if sum("*" in token for token in tokens) <= FEW:
        return _plainly(pattern, tokens)
    choices = _choices(tokens)
    if choices is None:
        return re.escape(pattern)
    return "|".join(_sparingly(pattern, choice) for choice in choices)


def frugal(parts: Sequence[str], stars: Sequence[int]) -> str:
    """Parts of an expression put together, in which those at ``stars`` match as little as they can, and give nothing
    back; but the last, after which a match has to end."""
    if not stars:
        return "".join(parts)
    result = ["".join(parts[: stars[0]])]
    for start, end in itertools.pairwise(stars):
        # An atomic group, which Python has from 3.11 on.
        name = f"g{next(_groups)}"
        result.append(f"(?=(?P<{name}>{parts[start]}{''.join(parts[start + 1 : end])}))(?P={name})")
    result.extend(parts[stars[-1] :])
    return "".join(result)


def _depth(tokens: Sequence[str]) -> int:
    """How many braces stand in one another at most."""
    deepest = depth = 0
    for token in tokens:
        depth = max(0, depth + (token == "{") - (token == "}"))
        deepest = max(deepest, depth)
    return deepest


def _choices(tokens: Sequence[str]) -> list[list[str]] | None:
    """The globs without braces that one with them stands for; None if there are too many."""
    # The alternatives of each brace that is open, of which each is a list of globs; the outermost is never closed.
    stack: list[list[list[list[str]]]] = [[[[]]]]
    for token in tokens:
        if token == "{":
            stack.append([[[]]])
        elif token == "," and len(stack) > 1:
            stack[-1].append([[]])
        elif token == "}" and len(stack) > 1:
            _close(stack)
        else:
            for glob in stack[-1][-1]:
                glob.append(token)
        if sum(len(globs) for globs in stack[-1]) > _MOST_CHOICES:
            return None
    while len(stack) > 1:
        _close(stack)
        if len(stack[-1][-1]) > _MOST_CHOICES:
            return None
    return stack[0][0]


def _close(stack: list[list[list[list[str]]]]) -> None:
    inner = [glob for globs in stack.pop() for glob in globs]
    stack[-1][-1] = [[*glob, *end] for glob in stack[-1][-1] for end in inner]


def _sparingly(pattern: str, tokens: Sequence[str]) -> str:
    parts: list[str] = []
    stars: list[int] = []
    for token in tokens:
        if token == "/**/":
            parts.append("/")
        if token == "/**/" or token.startswith("*"):
            stars.append(len(parts))
        parts.append("(?:.*/)?" if token == "/**/" else _part(token))
    for number in stars[:-1]:
        parts[number] = "(?:.*?/)??" if parts[number] == "(?:.*/)?" else ".*?"
    expression = f"(?:{frugal(parts, stars)})"
    try:
        re.compile(expression)
    except re.error:  # a range that runs backwards
        return re.escape(pattern)
    return expression


def _plainly(pattern: str, tokens: Sequence[str]) -> str:
    parts = []
    braces = 0
    for token in tokens:
        if token == "{":
            part = "(?:"
            braces += 1
        elif token == "}" and braces:
            part = ")"
            braces -= 1
        elif token == "," and braces:
            part = "|"
        else:
            part = _part(token)
        parts.append(part)
    expression = "(?:" + "".join(parts) + ")" * (braces + 1)
    try:
        re.compile(expression)
    except re.error:  # a range that runs backwards
        return re.escape(pattern)
    return expression


def _part(token: str) -> str:
    """What a token that is no brace matches."""
    if token == "/**/":
        return "/(?:.*/)?"
    if token.startswith("*"):
        return ".*"
    if token == "?":
        return "."
    if token.startswith("[") and len(token) > 2:
        negated = token[1] in "!^"
        members = re.sub(r"([\\\[\]&~|^])", r"\\\1", token[2 if negated else 1 : -1])
        return f"[{'^' if negated else ''}{members}]"
    return re.escape(token)


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
