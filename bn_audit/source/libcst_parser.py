"""libcst's parser, without the checks that its nodes make of themselves when they are made.

Each node looks whether what it was given could be written down: whether a name is empty, white space is white, brackets
come in pairs. That is for those who make nodes by hand. Of a text that has just been parsed all of it holds, and to
look took a sixth of the time.
"""

from __future__ import annotations

import libcst as cst

__all__ = ["parse_module"]

_CHECK = cst.CSTNode.__post_init__


def parse_module(text: str) -> cst.Module:
    """As ``libcst.parse_module``, whose errors it raises.

    Whoever makes nodes in another thread meanwhile has them unchecked too.
    """
    try:
        cst.CSTNode.__post_init__ = _nothing  # type: ignore[assignment, method-assign]
        return cst.parse_module(text)
    finally:
        cst.CSTNode.__post_init__ = _CHECK  # type: ignore[method-assign]


def _nothing(node: cst.CSTNode) -> None:
    pass
