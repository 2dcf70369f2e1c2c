"""JSON for programs. The schema lies beside this package: ``report/verification.schema.json``, version 1."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator

from bn_audit.exchange.plan import Fate
from bn_audit.parties import PartiesReport, PartyEntry
from bn_audit.report.verifications import Look, Subject
from bn_audit.report.verifications.tables import parties_sentence, sentence
from bn_audit.verification import Contrast, Verification, VerifiedEntry

__all__ = ["VERSION", "render", "verification_object"]

VERSION = 1


def render(subject: Subject, look: Look) -> Iterator[str]:
    """The subject as one object, every entry in it. ASCII only."""
    if isinstance(subject, PartiesReport):
        data = _parties(subject)
    elif isinstance(subject, Contrast):
        data = {
            "before": verification_object(subject.before),
            "after": verification_object(subject.after),
            "ok": subject.ok,
        }
    else:
        data = verification_object(subject)
    yield json.dumps({"version": VERSION, **data}, indent=2, allow_nan=False)


def verification_object(verification: Verification) -> dict[str, object]:
    """What stands for a verification."""
    stop = verification.stop
    return {
        "target": verification.target,
        "settings": dict(verification.settings),
        "engine": verification.engine,
        "parties": verification.parties,
        "rounds": verification.rounds,
        "entries": [_entry(one) for one in verification.entries],
        "error": None if stop is None else str(stop),
        "error_round": None if stop is None else stop.round,
        "error_exact": None if stop is None else stop.exact,
        "drifts": verification.drifts,
        "disagreements": list(verification.disagreements),
        "verdict": verification.verdict.value,
        "sentence": sentence(verification),
        "ok": verification.ok,
        "findings": [],
        "notes": list(verification.notes),
    }


def _entry(one: VerifiedEntry) -> dict[str, object]:
    entry = one.entry
    return {
        "key": entry.key,
        "shape": None if entry.shape is None else list(entry.shape),
        "dtype": entry.dtype,
        "kind": entry.kind,
        "module": entry.module,
        "norm": one.norm,
        "expected": _single(one.expected),
        "fate": _single(one.planned),
        "possible": [fate.value for fate in Fate if fate in one.planned],
        "source_key": one.source_key,
        "measured": [fate.value for fate in one.measured],
        "deviation": one.deviation if one.deviation is not None and math.isfinite(one.deviation) else None,
        "right": one.right,
    }


def _single(known: frozenset[Fate]) -> str | None:
    return next(iter(known)).value if len(known) == 1 else None


def _parties(report: PartiesReport) -> dict[str, object]:
    return {
        "parties": list(report.parties),
        "previous": report.previous,
        "entries": [_party_entry(one) for one in report.entries],
        "sentence": parties_sentence(report),
        "ok": report.ok,
        "notes": list(report.notes),
    }


def _party_entry(one: PartyEntry) -> dict[str, object]:
    difference = one.difference
    return {
        "key": one.key,
        "shape": list(one.shape),
        "dtype": one.dtype,
        "norm": one.norm,
        "standing": one.standing.value,
        "right": one.standing.right,
        "difference": difference if difference is not None and math.isfinite(difference) else None,
        "detail": one.detail,
    }
