"""What the formats for people share: what was done, what came of it in a sentence, and the table of accuracies."""

from __future__ import annotations

from collections.abc import Iterator

from bn_audit.report.words import count, enumerate_words
from bn_audit.training import FEDAVG, FEDBN, LOCAL, Accuracy, Curves, Training

__all__ = ["MEAN", "accuracy_rows", "conditions", "faults", "legend", "percent", "sentence", "trained_on"]

MEAN = "mean"


def trained_on(training: Training) -> str:
    """``5 parties on scikit-learn's digits``, with the examples that each has."""
    trains = sorted({party.train for party in training.parties})
    tests = sorted({party.test for party in training.parties})
    examples = f"{_span(trains)} examples to train on and {_span(tests)} to test with"
    return f"{len(training.parties)} parties on {training.data}; {examples} each"


def conditions(training: Training) -> str:
    """``30 rounds of 1 epoch, SGD with learning rate 0.1 on batches of 32; 3 seeds``."""
    return (
        f"{count(training.rounds, 'round')} of {count(training.epochs, 'epoch')}, SGD with learning rate "
        f"{training.learning_rate:g} on batches of {training.batch_size}; {count(len(training.seeds), 'seed')}"
    )


def sentence(training: Training) -> str:
    """How the ways of sharing end beside each other; what that is worth is for the reader to say."""
    fedbn = training.of(FEDBN)
    parts = [_beside(fedbn, training.of(FEDAVG)), _beside(fedbn, training.of(LOCAL))]
    told = f"{FEDBN} ends {enumerate_words(parts)}"
    setting = training.setting
    return f"{told}; the setting ends {_beside(setting, fedbn)}" if setting is not None else told


def _beside(curves: Curves, other: Curves) -> str:
    difference = curves.above(other)
    points = f"{abs(100 * difference.mean):.1f}"
    if points == "0.0" and not f"{100 * (difference.spread or 0):.1f}".strip("0."):
        return f"level with {other.method}"
    spread = "" if difference.spread is None else f" ± {100 * difference.spread:.1f}"
    return f"{points}{spread} points {'above' if difference.mean >= 0 else 'below'} {other.method}"


def accuracy_rows(training: Training) -> list[tuple[str, ...]]:
    """A row for each party and one for their mean; a column for each way of sharing, after the name."""
    rows = [
        (party.name, *(percent(curves.party(number)) for curves in training.curves))
        for number, party in enumerate(training.parties)
    ]
    return [*rows, (MEAN, *(percent(curves.mean) for curves in training.curves))]


def legend(training: Training) -> str:
    """What the numbers are."""
    spread = "; ± is the standard deviation between seeds" if len(training.seeds) > 1 else ""
    return f"accuracy in % of each party's model on its own test examples, in eval mode, after the last round{spread}"


def percent(accuracy: Accuracy) -> str:
    """``88.5 ± 1.1``, without the spread of a single seed."""
    spread = "" if accuracy.spread is None else f" ± {100 * accuracy.spread:.1f}"
    return f"{100 * accuracy.mean:.1f}{spread}"


def faults(training: Training) -> Iterator[str]:
    """Which trainings went astray."""
    for curves in training.curves:
        rounds = [number for number in curves.not_finite if number is not None]
        if rounds:
            seeds = count(len(rounds), "seed")
            yield f"{curves.method}: a loss was NaN or infinite in {seeds}, from round {min(rounds)} on; lower --lr"


def _span(numbers: list[int]) -> str:
    return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"
