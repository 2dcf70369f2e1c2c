"""JSON for programs. The schema is that of verifications: ``report/verification.schema.json``, version 1."""

from __future__ import annotations

import json
from collections.abc import Iterator

from bn_audit.report.trainings.tables import sentence
from bn_audit.report.verifications import Look
from bn_audit.report.verifications.json import VERSION, verification_object
from bn_audit.training import Accuracy, Curves, Trained, Training

__all__ = ["render"]


def render(trained: Trained, look: Look) -> Iterator[str]:
    """The training, its curves whole, and the verification or null, as one object. ASCII only."""
    verification = trained.verification
    data = {
        "version": VERSION,
        "target": trained.training.target,
        "verification": None if verification is None else verification_object(verification),
        "training": _training(trained.training),
        "ok": trained.ok,
    }
    yield json.dumps(data, indent=2, allow_nan=False)


def _training(training: Training) -> dict[str, object]:
    return {
        "data": training.data,
        "parties": [{"name": one.name, "train": one.train, "test": one.test} for one in training.parties],
        "classes": training.classes,
        "rounds": training.rounds,
        "epochs": training.epochs,
        "seeds": list(training.seeds),
        "batch_size": training.batch_size,
        "learning_rate": training.learning_rate,
        "methods": [_curves(curves, len(training.parties)) for curves in training.curves],
        "sentence": sentence(training),
        "notes": list(training.notes),
    }


def _curves(curves: Curves, parties: int) -> dict[str, object]:
    return {
        "method": curves.method,
        "accuracy": _accuracy(curves.mean),
        "party_accuracies": [_accuracy(curves.party(number)) for number in range(parties)],
        "curves": [[list(accuracies) for accuracies in rounds] for rounds in curves.accuracies],
        "not_finite": list(curves.not_finite),
    }


def _accuracy(accuracy: Accuracy) -> dict[str, float | None]:
    return {"mean": accuracy.mean, "spread": accuracy.spread}
