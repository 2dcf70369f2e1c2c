"""What is remembered from one scan to the next, and how it is known whether it still holds.

Three things are remembered. Of each file of the scan, by its signature, the triggers it holds: so a file that nobody
touched need not be opened. Answers from outside (see :mod:`bn_audit.source.outside`) that are functions of what files
hold, by the signatures of these. And what came of looking into a file, with the questions it rests on and their
answers: it holds as long as every question is answered as it was. Whatever a file rests on is among the questions: the
content of each file that a trail went through, modules that were not there, files that mentioned a name and those that
did not.

So it does not matter when anything was remembered, or by whom, only whether the answers are the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from bn_audit.source.outside import ABOUT_CONTENT, ABOUT_WORDS, UNSTABLE, Answer, Query
from bn_audit.source.signature import Signature, is_settled

if TYPE_CHECKING:
    from bn_audit.source.outside import Outside

__all__ = ["Key", "Memory", "Result", "Seen", "remembered"]

Key = tuple[str, ...]
"""What was done: a word for it, then its arguments."""


class Seen(NamedTuple):
    """A file of a scan: its signature, None if it cannot be trusted, and the triggers it holds."""

    signature: Signature | None
    held: tuple[bytes, ...] = ()


class Result(NamedTuple):
    """What came of it, and the answers it rests on.

    ``part`` is as :mod:`bn_audit.source.codec` encodes it: what is not asked for need not be decoded.
    """

    part: object
    answers: Mapping[Query, Answer]


class Memory(NamedTuple):
    """All that one scan leaves to the next of the same paths.

    Attributes:
        wanted: the triggers that were looked for.
        files: the files of the scan, as it calls them.
        signatures: of the files whose content ``answers`` are about, by absolute path.
        answers: to questions about what files hold.
        results: by what was done.
    """

    wanted: tuple[bytes, ...] = ()
    files: Mapping[str, Seen] = {}
    signatures: Mapping[str, Signature] = {}
    answers: Mapping[Query, Answer] = {}
    results: Mapping[Key, Result] = {}


def remembered(
    wanted: tuple[bytes, ...],
    files: Mapping[str, Seen],
    outside: Outside | None,
    results: Mapping[Key, Result],
    began: int,
) -> Memory:
    """What a scan leaves to the next one.

    Args:
        wanted: the triggers that were looked for.
        files: the files of the scan, with their signatures from before they were read.
        outside: what the scan asked, if it asked anything.
        results: what came of it.
        began: when it began, in nanoseconds.
    """
    trusted = {path: _trusted(seen, began) for path, seen in files.items()}
    if outside is None:
        return Memory(wanted, trusted)
    signatures = {
        path: found for path, found in outside.signatures.items() if found is not None and is_settled(found, began)
    }
    stable = {key: result for key, result in results.items() if not any(a == UNSTABLE for a in result.answers.values())}
    answers = dict(outside.answers)
    for result in stable.values():
        answers.update(result.answers)
    kept = {
        query: answer
        for query, answer in answers.items()
        if answer != UNSTABLE and (query[0] in ABOUT_WORDS or (query[0] in ABOUT_CONTENT and query[1] in signatures))
    }
    about = {query[1] for query in kept if query[0] in ABOUT_CONTENT}
    return Memory(wanted, trusted, {path: signatures[path] for path in sorted(about)}, kept, stable)


def _trusted(seen: Seen, began: int) -> Seen:
    if seen.signature is None or is_settled(seen.signature, began):
        return seen
    return Seen(None, seen.held)
