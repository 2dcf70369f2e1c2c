"""A comparison with the lines that chance stays below, and with the groups and outliers that stand out from it.

Only the first layer gets lines. What reaches a deeper layer has passed the party's own BatchNorms, which training made
different from party to party; its statistics differ for that too, and data of one distribution do not show by how much.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from bn_audit.comparison import NW2, Calibration, Comparison, Pairs
from bn_audit.live.divergence.calibration import bound, line, noise, split_half
from bn_audit.live.divergence.data import moments_of
from bn_audit.live.divergence.groups import groups_of, outliers_of, places_of
from bn_audit.live.divergence.statistics import Parties, Source
from bn_audit.live.errors import TargetError
from bn_audit.live.profile import profile as profile_of

if TYPE_CHECKING:
    from torch import nn

    from bn_audit.live.training.data import PartyData

__all__ = ["SPLITS", "Own", "Training", "by_bound", "by_data", "own_of", "with_groups"]

SPLITS = 200
_SEED = 0


@dataclass(frozen=True, slots=True)
class Training:
    """How the statistics came about.

    Attributes:
        batch_size: of the local training.
        momentum: of the norm layers; None is the plain mean over all batches.
    """

    batch_size: int
    momentum: float | None = 0.1


@dataclass(frozen=True, slots=True)
class Own:
    """What is run to measure chance: a model, and by party the data of which its ``train`` is used."""

    model: nn.Module
    data: Mapping[str, PartyData]


def own_of(model: nn.Module, data: str) -> Own:
    """A model and the data that a user names, which runs the user's code.

    Args:
        model: the parties'.
        data: what ``verify --train`` takes for its ``--data``.

    Raises:
        TargetError: see :func:`bn_audit.live.training.given_data`.
    """
    from bn_audit.live.training import given_data, seeded

    with seeded(0):
        drawn = given_data(data).draw(0)
    return Own(model, {party.name: party for party in drawn})


def by_bound(comparison: Comparison, found: Parties, samples: Sequence[int], training: Training) -> Comparison:
    """Lines from the numbers of examples alone.

    Args:
        found: what was read of the parties.
        samples: by party.

    Raises:
        TargetError: what is compared is not the model's first norm layer.
    """
    if comparison.first.path != found.first:
        raise TargetError(
            f"what reaches {comparison.first.path} has passed {found.first}, a norm layer of the party's own: chance "
            f"can be told at {found.first} alone"
        )
    lines = bound([noise(one, training.batch_size, training.momentum) for one in samples])
    calibration = Calibration("bound", 0, tuple(samples), training.batch_size, training.momentum)
    return _with_lines(comparison, lines, calibration)


def by_data(
    comparison: Comparison,
    found: Parties,
    sources: Sequence[Source],
    own: Own,
    training: Training,
    splits: int = SPLITS,
) -> Comparison:
    """Lines from the parties' own data, split at random.

    Args:
        found: what was read of the parties.
        sources: the parties, in the comparison's order.
        own: the model, into which their states go and whose momentum counts where it has one, and the data.
        splits: how many a party.

    Raises:
        TargetError: a party has no data, or the model cannot be run on it.
    """
    model, data = own.model, own.data
    missing = [name for name in comparison.parties if name not in data]
    if missing:
        raise TargetError(
            f"the data has no party called {missing[0]!r}; it has {', '.join(list(data)[:8])} (--names says what the "
            "files are called)"
        )
    path = comparison.first.path
    # All that there are, whatever is compared.
    others = [norm.path for norm in profile_of(model).norms if norm.tracked is not False]
    layer = dict(model.named_modules(remove_duplicate=False)).get(path)
    momentum = getattr(layer, "momentum", training.momentum)
    generator = np.random.default_rng(_SEED)
    draws, examples = [], []
    for number, (name, source) in enumerate(zip(comparison.parties, sources, strict=True)):
        _, state = source.open()
        batches = data[name].train.batches(training.batch_size)
        channels = {path: found.layers[0].mean.shape[1]}
        moments = moments_of(model, state, batches, [path], name, others, channels).get(path)
        if moments is None:
            raise TargetError(
                f"{path} does not get one input of [examples, channels, ...] in a forward, so that chance cannot be "
                "measured there; --samples gives a bound"
            )
        examples.append(len(moments.mean))
        draws.append(
            split_half(
                moments,
                batch_size=training.batch_size,
                momentum=momentum,
                batches=found.layers[0].count[number],
                splits=splits,
                generator=generator,
            )
        )
    calibration = Calibration("split-half", splits, tuple(examples), training.batch_size, momentum)
    return _with_lines(comparison, line(draws), calibration)


def _with_lines(comparison: Comparison, lines: Pairs, calibration: Calibration) -> Comparison:
    first, *rest = comparison.layers
    return replace(comparison, layers=(replace(first, lines=lines), *rest), calibration=calibration)


def with_groups(comparison: Comparison) -> Comparison:
    """Groups, outliers and a map at the first layer, where it means something."""
    first = comparison.first
    if not first.comparable or len(comparison.parties) < 3:
        return comparison
    middle = None if first.lines is None else float(np.median(first.lines.values))
    places, share = places_of(first.distances[NW2])
    outliers = outliers_of(first.distances[NW2], middle)
    comparison = replace(comparison, outliers=outliers, places=places, places_share=share if places else None)
    if importlib.util.find_spec("scipy") is None:
        note = "groups of parties are not looked for without scipy: pip install 'scipy>=1.11'"
        return replace(comparison, notes=(*comparison.notes, note))
    return replace(comparison, groups=groups_of(first.distances[NW2], middle))
