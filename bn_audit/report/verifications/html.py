"""A page for people: the verdict, a band of all entries by what becomes of them, and a row for each.

A fix stands beside what it fixes. It is no format of ``--output-format``, but written beside the report, by ``--html``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from bn_audit.exchange.plan import Fate
from bn_audit.parties import PartiesReport
from bn_audit.report.pages import page
from bn_audit.report.verifications import Subject
from bn_audit.report.verifications.tables import (
    off_by,
    parties_cells,
    parties_sentence,
    sentence,
    setting_words,
    verified_cells,
)
from bn_audit.report.words import count, printable
from bn_audit.report.words import sentence as ended
from bn_audit.verification import Contrast, Verification, VerifiedEntry

__all__ = ["render"]

_ENGINES = {
    "contract": "the plan executed on tensors",
    "wheel": "the framework's own classes",
    "secretflow": "the installed framework",
    "flower": "the installed Flower's simulation",
    "ray": "the installed framework, its parties processes of Ray",
}
_HOW = (
    "FedBN averages every entry of the state dict over the parties, but for those of norm layers, which stay local "
    "with each party. An entry that is stale gets nothing, a misplaced one another entry's tensor, a corrupt one what "
    "no party had; where one fails, the round stops."
)
_HOW_PARTIES = (
    "After a round of FedBN every entry is equal in all parties, bit for bit, but for those of norm layers, which are "
    "each party's own."
)


def render(subject: Subject, version: str) -> str:
    """The page, whole.

    Args:
        version: bn-audit's own.

    Raises:
        ImportError: jinja2 is not installed.
    """
    if isinstance(subject, PartiesReport):
        return page("verification", {**_parties(subject), "version": version})
    return page("verification", {**_verified(subject), "version": version})


def _verified(subject: Verification | Contrast) -> dict[str, object]:
    shown = [subject.before, subject.after] if isinstance(subject, Contrast) else [subject]
    labels = ["Before", "After"] if isinstance(subject, Contrast) else [""]
    by_key = [{one.entry.key: one for one in verification.entries} for verification in shown]
    keys = list(dict.fromkeys(key for entries in by_key for key in entries))
    heads = ["entry", "norm layer", "FedBN wants"]
    for label in labels:
        of = f"{label.lower()}: " if label else ""
        heads += [f"{of}the plan says", f"{of}measured", f"{of}off by"]
    return {
        "title": f"Verified: {printable(shown[0].target)}",
        "sheets": [
            {
                "label": f"{label}: {printable(one.target)}" if label else printable(one.target),
                "settings": f"{printable(setting_words(one.settings))}; {one.parties} parties, "
                f"{count(one.rounds, 'round')}; {_ENGINES[one.engine]}",
                "verdict": one.verdict.value,
                "sentence": ended(printable(sentence(one))),
                "stop": "\n".join(printable(line.expandtabs(4)) for line in str(one.stop).splitlines())
                if one.stop is not None
                else "",
                "disagreements": [printable(line) for line in one.disagreements],
                "notes": [ended(printable(note)) for note in one.notes],
                "marks": [_mark(entry) for entry in one.entries],
            }
            for label, one in zip(labels, shown, strict=True)
        ],
        "legend": [
            {"fate": "averaged", "text": "averaged"},
            {"fate": "local", "text": "local"},
            {"fate": "bad", "text": "not as FedBN has it"},
            {"fate": "unknown", "text": "not known"},
        ],
        "heads": heads,
        "rows": [_row(key, [entries.get(key) for entries in by_key]) for key in keys],
        "how": _HOW,
    }


def _mark(one: VerifiedEntry) -> dict[str, str]:
    """An entry in the band: what becomes of it."""
    possible = set(one.measured[:1]) or set(one.planned)
    if one.right is False or possible & {Fate.FAILS, Fate.MISPLACED, Fate.CORRUPT, Fate.STALE}:
        kind = "bad" if one.right is not True else "averaged"
    else:
        kind = next(iter(possible)).value if len(possible) == 1 else "unknown"
    wanted, planned, measured = verified_cells(one)
    return {"fate": kind, "text": printable(f"{one.entry.key}: FedBN {wanted}, plan {planned}, measured {measured}")}


def _row(key: str, found: Sequence[VerifiedEntry | None]) -> dict[str, object]:
    known = next(one for one in found if one is not None)
    cells: list[dict[str, object]] = [
        {"text": known.norm or "", "bad": False},
        {"text": verified_cells(known)[0], "bad": False},
    ]
    for one in found:
        cells += _cells(one)
    return {"key": printable(key), "cells": cells, "bad": any(one is not None and one.right is False for one in found)}


def _cells(one: VerifiedEntry | None) -> Iterator[dict[str, object]]:
    if one is None:
        yield from ({"text": "-", "bad": False} for _ in range(3))
        return
    _, planned, measured, *_ = verified_cells(one, single=True)
    wrong = one.right is False
    yield from ({"text": printable(text), "bad": wrong} for text in (planned, measured, off_by(one)))


def _parties(report: PartiesReport) -> dict[str, Any]:
    names = [printable(name) for name in report.parties]
    return {
        "title": f"A round of {count(len(names), 'party', 'parties')}",
        "sheets": [
            {
                "label": ", ".join(names),
                "settings": "with the state before" if report.previous else "",
                "verdict": "right" if report.ok else "wrong",
                "sentence": ended(parties_sentence(report)),
                "stop": "",
                "disagreements": [],
                "notes": [ended(printable(note)) for note in report.notes],
                "marks": [
                    {
                        "fate": "bad" if not one.standing.right else "local" if one.norm else "equal",
                        "text": printable(f"{one.key}: {one.standing.value}"),
                    }
                    for one in report.entries
                ],
            }
        ],
        "legend": [
            {"fate": "equal", "text": "equal"},
            {"fate": "local", "text": "local"},
            {"fate": "bad", "text": "not as FedBN leaves it"},
        ],
        "heads": ["entry", "norm layer", "FedBN leaves", "found", "detail"],
        "rows": [
            {
                "key": printable(one.key),
                "bad": not one.standing.right,
                "cells": [
                    {"text": one.norm or "", "bad": False},
                    {"text": parties_cells(one)[0], "bad": False},
                    {"text": parties_cells(one)[1], "bad": not one.standing.right},
                    {"text": printable(one.detail), "bad": False},
                ],
            }
            for one in report.entries
        ],
        "how": _HOW_PARTIES,
    }
