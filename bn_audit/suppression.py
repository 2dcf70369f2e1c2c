"""How people say in a comment that they do not want to hear of something, and what the comment says.

    x = FLModel(...)  # noqa: BNA101
    x = FLModel(...)  # noqa: BNA101, F841 averaged on purpose
    x = FLModel(...)  # bn-audit: ignore[BNA101] averaged on purpose
    # bn-audit: ignore-file[BNA101]

``noqa`` is flake8's and ruff's, and is read as ruff reads it: without codes it silences every rule, with a colon it
must name some, in capitals. ``ignore`` and ``ignore-file`` are ours, so that what stands in their brackets should be a
code of ours; without brackets they silence every rule.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from bn_audit.finding import Edit, Location

__all__ = ["Code", "Directive", "UnusedSuppression", "directives"]

Kind = Literal["noqa", "ignore", "ignore-file"]


@dataclass(frozen=True, slots=True)
class Code:
    """A code as a directive names it, and where: offsets in the comment."""

    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Directive:
    """A suppression in a comment.

    Attributes:
        kind: how it is written.
        codes: the rules it silences; None is every rule.
        start: where its ``#`` stands, as an offset in the comment.
        stop: where its codes end.
        end: where its reason ends.
        reason: what is written after the codes; "" if nothing.
    """

    kind: Kind
    codes: tuple[Code, ...] | None
    start: int
    stop: int
    end: int
    reason: str

    def silences(self, code: str) -> bool:
        """Whether a rule is among those it names."""
        return self.codes is None or any(code == named.text for named in self.codes)


@dataclass(frozen=True, slots=True)
class UnusedSuppression:
    """A suppression with codes that silence nothing (BNA902).

    Attributes:
        location: of the directive.
        whole_file: whether it speaks for the file.
        unused: codes of rules that were applied and found nothing there.
        unknown: codes that are no rule's.
        left: whether other codes stay.
        edits: what removes these codes, or the comment if none is left.
    """

    location: Location
    whole_file: bool
    unused: tuple[str, ...]
    unknown: tuple[str, ...]
    left: bool
    edits: tuple[Edit, ...]


_HEAD = re.compile(
    r"\#\s*(?:(?P<noqa>(?i:noqa))(?![\w-])(?P<colon>\s*:)?"
    r"|bn-audit:\s*(?P<ours>ignore-file|ignore)(?![\w-])(?P<open>\s*\[)?)"
)
_NOQA_CODE = re.compile(r"[,\s]*([A-Z]+[0-9]+)(?!\w)")
_OUR_CODE = re.compile(r"[^\s,]+")
_NEXT_COMMENT = re.compile(r"(?<!\s)\s*#(?!\d)")
_PUNCTUATION = " \t:;,.-\u2013\u2014"


def directives(comment: str) -> tuple[Directive, ...]:
    """The suppressions in a comment, which begins with its ``#``."""
    return tuple(_directives(comment))


def _directives(comment: str) -> Iterator[Directive]:
    position = 0
    while (head := _HEAD.search(comment, position)) is not None:
        position = head.end()
        codes: tuple[Code, ...] | None = None
        if head["colon"] is not None:
            codes = tuple(_noqa_codes(comment, position))
            position = codes[-1].end if codes else position
        elif head["open"] is not None:
            close = comment.find("]", position)
            if close < 0:
                continue
            codes = tuple(Code(code[0], *code.span()) for code in _OUR_CODE.finditer(comment, position, close))
            position = close + 1
        following = _NEXT_COMMENT.search(comment, position)
        end = len(comment.rstrip()) if following is None else following.start()
        kind: Kind = "noqa" if head["noqa"] else "ignore" if head["ours"] == "ignore" else "ignore-file"
        yield Directive(kind, codes, head.start(), position, end, comment[position:end].strip(_PUNCTUATION))
        position = end


def _noqa_codes(comment: str, position: int) -> Iterator[Code]:
    while (code := _NOQA_CODE.match(comment, position)) is not None:
        yield Code(code[1], *code.span(1))
        position = code.end()
