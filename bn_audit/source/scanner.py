"""A lexical scan of Python text: where logical lines end, and whether a parser can be trusted with what they hold.

libcst's native parser recurses on the C stack. Measured with libcst 1.9.0: some 200 nested brackets overflow a stack of
1 MiB, 2,000 one of 8 MiB, and so do 10,000 terms of a sum; the process then dies with SIGSEGV, which no ``except`` can
stop. Its time is quadratic in the depth of brackets and in the length of a chain, and exponential in the depth of
``case`` patterns (a factor of 4 a level) and of ``del`` targets (a factor of 2). This scan bounds all of it before the
parser sees the text. It knows strings, f-strings (nested ones too, PEP 701), comments, brackets and continuation lines,
and costs about an eighth of what parsing does.

The limits are those of CPython or wider: 200 nested brackets are its own limit, and CPython 3.11 compiles no chain of
3,000.

The tree is large: 3 to 5 KB for each name, number, text, sign and line end, where comments and text have none of their
own. A table of numbers of 1 MB would take 2 GB, and 18 seconds to parse. So their number is bounded too, which keeps a
tree below some 1.2 GB.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from bn_audit.source.text import SourceError

__all__ = ["STRINGS", "check_length", "check_size", "fstring_text", "logical_line_end", "weight"]

_MAX_BRACKETS = 200
_MAX_CHAIN = 3_000
_MAX_CHARACTERS = 2_000_000  # of a program as people write them: some 220 bytes of libcst's tree each
_MAX_WORDS = 250_000  # some 4 KB of it each, line ends included
_MAX_WORK = 20_000_000  # about ten seconds of libcst's time

STRINGS = r"""
    (?<!\w)(?P<fstring>(?:[fFtT][rR]?|[rR][fFtT])(?:'''|\"""|'|"))
    | (?P<string>
        '''[^'\\]*(?:(?:\\.|'(?!''))[^'\\]*)*'''
      | \"""[^"\\]*(?:(?:\\.|"(?!""))[^"\\]*)*\"""
      | '(?!'')[^'\\\n]*(?:\\.[^'\\\n]*)*'
      | "(?!"")[^"\\\n]*(?:\\.[^"\\\n]*)*"
      )
    | (?P<unterminated>['"])
"""
"""A whole string, the beginning of an f-string (what follows is found by :func:`fstring_text`), or a quote that never
ends; a part of a verbose regular expression whose dot matches line ends."""

_TOKEN = re.compile(
    r"\#[^\n]* | \\\n |"
    + STRINGS
    + r"""
    | (?P<open>[(\[{]) | (?P<close>[)\]}]) | (?P<separator>[,;]) | (?P<newline>\n) | (?P<colon>:)
    | (?P<loose>[-+&|^~<>]+ | \b(?:and|or|not|if|del)\b) | (?P<tight>[*/%@.]+ | \bawait\b)
    | (?P<nest>\b(?:lambda|for)\b)
    """,
    re.VERBOSE | re.DOTALL,
)

_QUOTED = r"""(?:'''(?:\\.?|[^\\])*?(?:'''|\Z)|\"""(?:\\.?|[^\\])*?(?:\"""|\Z)
    |'(?:\\.?|[^\\\n])*?(?:'|(?=\n)|\Z)|"(?:\\.?|[^\\\n])*?(?:"|(?=\n)|\Z))"""
_LARGE = rf"""\#[^\n]* | (?<=\n)[ \t]*\n
    | (?P<fstring>(?<!\w)(?:[fFtT][rR]?|[rR][fFtT]){_QUOTED}) | (?P<node>{_QUOTED}|\w+|[^\w ])"""
"""What a parser makes nodes of, in a text too large to be sure that there are not too many: most never are."""
_WORD = re.compile(r"\w+|[^\w ]")


@cache
def fstring_text(quote: str, raw: bool) -> re.Pattern[str]:
    """By the closing quote and whether it is a raw one, what matters inside the text of an f-string: an escape (but not
    of a brace), a doubled brace, the start or end of a field, the closing quote."""
    escape = "" if raw else r"\\N\{[^}\n]*\}|"
    line_end = "|\n" if len(quote) == 1 else ""
    return re.compile(escape + r"\\[^{}]|\{\{|\}\}|[{}]|" + quote + line_end, re.DOTALL)


# A format specification ends with its field; a brace is never doubled there.
_FORMAT_SPEC = re.compile(r"[{}]")

_LETTERS_AND_BLANKS = b"_ \t" + bytes(byte for byte in range(256) if byte > 0x7F or chr(byte).isalnum())
_SHORT = 120
"""Characters of a line that by itself cannot go beyond any limit, whatever it holds. Such lines are not counted as
work: 250,000 brackets, the most that are parsed, 58 deep in every line, take libcst four seconds."""
_SIMPLE_STRING = re.compile(r"""'[^']*'|"[^"]*\"""")

_INDENT_AND_WORD = re.compile(r"""([ \t\f]*)(case\b(?=[ \t]*[\w"'(\[{*-])|elif\b)?""")


@dataclass(slots=True)
class _Frame:
    """An open bracket, f-string, field or format specification, and the chain lengths that hold after it."""

    kind: str  # "(" a bracket, "{" a replacement field, ":" a format specification, "f" an f-string
    count: int
    tight: int
    base: int
    text: re.Pattern[str] = _FORMAT_SPEC
    quote: str = ""


def check_size(text: str) -> None:
    """Refuse what would overflow the parser's stack or keep it busy for minutes. ``text`` has ``\\n`` line ends.

    Raises:
        SourceError: too long, nested too deeply, or a chain of operators, attributes and calls with too many links.
    """
    check_length([text])
    position = work = 0
    elifs: dict[str, int] = {}
    while position < len(text):
        start = _INDENT_AND_WORD.match(text, position)
        assert start is not None  # it matches the empty string
        indent, word = start.groups()
        if word == "elif":  # each branch nests in the one before it
            elifs[indent] = elifs.get(indent, 0) + 1
            if elifs[indent] > _MAX_CHAIN:
                raise _error(f"an if statement with more than {_MAX_CHAIN:,} branches", text, start.start(2))
        elif elifs and text[start.end() : start.end() + 1] not in ("\n", "#", ""):
            elifs.pop(indent, None)
        end = text.find("\n", position)
        if word is None and 0 <= end - position <= _SHORT and _is_whole(text[position:end]):
            position = end + 1
        else:
            position, work = _scan(text, position, work, in_case=word == "case")


def _is_whole(line: str) -> bool:
    """Whether a line certainly holds whole logical lines, and none of what takes time exponential in its length."""
    if "\\" in line or "del" in line:
        return False
    if "'" in line or '"' in line:
        if "'''" in line or '"""' in line:
            return False
        line = _SIMPLE_STRING.sub("", line)
        if "'" in line or '"' in line:
            return False
    return (
        line.count("(") == line.count(")") and line.count("[") == line.count("]") and line.count("{") == line.count("}")
    )


def check_length(texts: Sequence[str]) -> None:
    """Refuse texts whose trees, all of them together, would fill the memory.

    Raises:
        SourceError: they are too long.
    """
    length = sum(map(len, texts))
    if length > _MAX_CHARACTERS:
        raise SourceError(f"the source has {length:,} characters, more than the {_MAX_CHARACTERS:,} that are parsed")
    if length > _MAX_WORDS:  # shorter ones cannot hold more
        words = sum(map(_words, texts))
        if words > _MAX_WORDS:
            raise SourceError(
                f"the source has {words:,} names, numbers, signs and line ends, more than the {_MAX_WORDS:,} that are "
                "parsed"
            )


def weight(text: str) -> int:
    """The length of a program as people write them whose tree would be as large as that of a text: its own, unless it
    is a table of numbers and signs."""
    return max(len(text), 4 * len(text.encode("utf-8", "surrogatepass").translate(None, _LETTERS_AND_BLANKS)))


def _words(text: str) -> int:
    count = 0
    for match in re.compile(_LARGE, re.VERBOSE | re.DOTALL).finditer(text):
        if match.lastgroup == "node":
            count += 1
        elif match.lastgroup == "fstring":
            count += len(_WORD.findall(match[0]))
    return count


def logical_line_end(text: str, start: int) -> int:
    """Where the logical line (statement, or blank line) that begins at ``start`` ends, its ``\\n`` included."""
    try:
        return _scan(text, start, 0)[0]
    except SourceError:  # the parser will never see it
        return len(text)


def _scan(text: str, position: int, work: int, in_case: bool = False) -> tuple[int, int]:
    """Scan one logical line from ``position``; where it ends, and the work of the parser so far.

    ``count`` bounds, within a factor of two, how deep in the tree the next operand lies below the statement: a link of
    a chain adds one, a comma begins a new chain. ``tight`` of them bind tighter than ``+``, and a looser operator
    leaves them behind. ``lambda`` and ``for`` nest what follows them, commas or not, until the bracket closes: they
    raise ``base``.
    """
    frames: list[_Frame] = []
    count = tight = base = depth = 0
    growth = 4 if in_case else 1
    while position < len(text):
        frame = frames[-1] if frames else None
        if frame is not None and frame.kind in "f:":
            match = frame.text.search(text, position)
            if match is None:
                return len(text), work
            token, position = match[0], match.end()
            if token == "{":
                depth += 1
                work += _bracket_work(depth, growth)
                _check(text, match.start(), count, depth, work)
                frames.append(_Frame("{", count, tight, base))
                base, tight = count + 1, 0
                count = base
            elif token == "}":
                if frame.kind == ":":  # and so ends the field
                    frames.pop()
                    field = frames.pop()
                    count, tight, base, depth = field.count, field.tight, field.base, depth - 1
            elif token == frame.quote:
                frames.pop()
            elif token == "\n":  # unterminated: the tokenizer will refuse the text
                return position, work
            continue
        match = _TOKEN.search(text, position)
        if match is None:
            return len(text), work
        position, kind = match.end(), match.lastgroup
        if kind == "newline":
            if frame is None:
                return position, work
        elif kind == "separator":
            count, tight = base, 0
        elif kind == "open":
            depth += 1
            work += _bracket_work(depth, growth)
            _check(text, match.start(), count, depth, work)
            frames.append(_Frame("(", count + 1, tight + 1, base))
            base, tight = count + 1, 0
            count = base
        elif kind == "close":
            if frame is not None and (frame.kind == "(" or match[0] == "}"):
                frames.pop()
                count, tight, base, depth = frame.count, frame.tight, frame.base, depth - 1
        elif kind == "colon":
            if frame is not None and frame.kind == "{":
                frames.append(_Frame(":", count, tight, base))
        elif kind == "unterminated":
            return len(text), work
        elif kind is not None:
            token = match[0]
            links = 1 if token[-1].isalpha() or kind in ("string", "fstring") else len(token)  # --x is two of them
            if kind == "loose":
                count, tight = count - tight + links, 0
                growth = 2 if token == "del" else growth
            elif kind == "nest":
                base, tight = max(base, count) + 1, 0
                count = base
            else:
                count, tight = count + links, tight + links
                if kind == "fstring":
                    quote = token.lstrip("fFtTrR")
                    frames.append(_Frame("f", count, tight, base, fstring_text(quote, "r" in token.lower()), quote))
            work += count
            _check(text, match.start(), count, depth, work)
    return position, work


def _bracket_work(depth: int, growth: int) -> int:
    """What a bracket at this depth costs the parser, in links of a chain (about half a microsecond each)."""
    return 16 * depth if growth == 1 else int(growth ** (depth + 1))


def _check(text: str, offset: int, count: int, depth: int, work: int) -> None:
    if depth > _MAX_BRACKETS:
        raise _error(f"more than {_MAX_BRACKETS} nested brackets", text, offset)
    if count > _MAX_CHAIN:
        reason = f"an expression with a chain of more than {_MAX_CHAIN:,} operators, attributes or calls"
        raise _error(reason, text, offset)
    if work > _MAX_WORK:
        raise _error("too many deeply nested expressions", text, offset)


def _error(reason: str, text: str, offset: int) -> SourceError:
    line_start = text.rfind("\n", 0, offset) + 1
    return SourceError(reason, text.count("\n", 0, offset) + 1, offset - line_start + 1)
