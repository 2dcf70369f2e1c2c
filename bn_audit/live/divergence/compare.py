"""The parties compared: what makes a comparison meaningful first, then the distances.

A distance between running statistics is one between the parties' data only if a channel means the same thing in both
models: the weights before the layer have to have grown from one another. And the statistics have to have seen data.
What speaks against it is told by name, and refused unless the user insists.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
from numpy.typing import NDArray

from bn_audit.comparison import (
    NW2,
    Affine,
    Channel,
    ComparedLayer,
    Comparison,
    LeftOut,
    Pairs,
)
from bn_audit.federated.distances import between, nw2, pairwise
from bn_audit.live.divergence.statistics import Layer, Parties, Source, place, read
from bn_audit.live.errors import TargetError

__all__ = ["MOST_NUMBERS", "Options", "compare"]

MOST_NUMBERS = 500_000_000
"""Channels times pairs that are computed for all layers; of more, only the first layer's pairs are."""
_MOMENTUM = 0.1


@dataclass(frozen=True, slots=True)
class Options:
    """What is asked for.

    Attributes:
        metrics: the one to show first; nW2 is computed besides, since levels rest on it.
        layers: patterns (``*`` and ``?``) of paths; empty is all.
        channels: whether the first layer's distances are wanted channel by channel.
        force: whether to go on where a comparison means little.
        momentum: of the norm layers, which a state dict does not tell; None is the plain mean over all batches.
    """

    metrics: tuple[str, ...] = (NW2,)
    layers: tuple[str, ...] = ()
    channels: bool = False
    force: bool = False
    momentum: float | None = _MOMENTUM


def compare(sources: Sequence[Source], options: Options) -> tuple[Comparison, Parties]:
    """Compare the parties; also what was read of them, for a calibration.

    Raises:
        TargetError: fewer than two parties, one that cannot be read, or reasons against a comparison that
            ``options.force`` does not override. A comparison without a layer is never made.
    """
    if len(sources) < 2:
        raise TargetError("a comparison takes at least two parties: name a checkpoint for each")
    found = read(sources)
    _select(found, options.layers)
    masks = _judge_health(found)
    _judge_sameness(found)
    if found.problems and not options.force:
        raise TargetError(refusal(found.problems))
    found.notes[:0] = [f"compared all the same (--force), though {problem}" for problem in found.problems]
    _note_training(found, options.momentum)
    if not found.layers:
        reasons = "; ".join(f"{place(path)}: {reason}" for path, reason in found.left_out[:5])
        raise TargetError(f"no norm layer is left to compare: {reasons}")
    return _measured(found, masks, options), found


def refusal(problems: Sequence[str]) -> str:
    """Why nothing is compared, in words."""
    listed = list(dict.fromkeys(problems))
    shown = listed[:5] + ([f"and {len(listed) - 5} more reasons"] if len(listed) > 5 else [])
    if len(shown) == 1:
        return f"not compared: {shown[0]} (--force goes on)"
    return "not compared (--force goes on):\n" + "\n".join(f"  - {reason}" for reason in shown)


def _select(found: Parties, patterns: Sequence[str]) -> None:
    if not patterns:
        return
    known = [layer.path for layer in found.layers]
    for pattern in patterns:
        if not any(fnmatchcase(path, pattern) for path in known):
            raise TargetError(f"no norm layer is called {pattern!r}; there are {', '.join(known[:8])}")
    found.layers = [one for one in found.layers if any(fnmatchcase(one.path, pattern) for pattern in patterns)]


def _judge_health(found: Parties) -> dict[str, NDArray[np.bool_]]:
    """Take out layers that say nothing; by path, the channels of the others that can be compared."""
    masks: dict[str, NDArray[np.bool_]] = {}
    kept = []
    untrained = [_untrained(layer) for layer in found.layers]
    for number, name in enumerate(found.names):
        if found.layers and all(flags[number] for flags in untrained):
            found.problems.append(f"no norm layer of {name} has seen data: its statistics are untrained (BNA407)")
    for layer, flags in zip(found.layers, untrained, strict=True):
        broken = {
            "NaN": np.isnan(layer.mean) | np.isnan(layer.var),
            "infinite": np.isinf(layer.mean) | np.isinf(layer.var),
            "a negative variance": layer.var < 0,
        }
        told = [
            f"{place(layer.path)} of {name} is broken (BNA406): {int(mask[number].sum())} of {layer.mean.shape[1]} "
            f"channels {'have ' if what.startswith('a ') else 'are '}{what}"
            for what, mask in broken.items()
            for number, name in enumerate(found.names)
            if mask[number].any()
        ]
        if told:
            found.problems.extend(told)
            found.left_out.append((layer.path, "broken statistics"))
            continue
        if flags.any():
            names = [name for name, flag in zip(found.names, flags, strict=True) if flag]
            if not flags.all() and not any("untrained (BNA407)" in problem for problem in found.problems):
                found.problems.append(
                    f"{place(layer.path)} of {', '.join(names[:3])} is untrained (BNA407), of others it is not"
                )
            found.left_out.append((layer.path, "untrained (BNA407)" if flags.all() else f"untrained in {names[0]}"))
            continue
        zero = layer.var == 0
        if zero.any():
            number = int(zero.any(axis=1).argmax())
            found.problems.append(
                f"{place(layer.path)} of {found.names[number]} has zero variance in {int(zero[number].sum())} of "
                f"{zero.shape[1]} channels: they always had one value there, and no spread to measure a shift by"
            )
        mask = ~zero.any(axis=0)
        if not mask.any():
            found.left_out.append((layer.path, "zero variance in every channel"))
            continue
        masks[layer.path] = mask
        kept.append(layer)
    found.layers = kept
    return masks


def _untrained(layer: Layer) -> NDArray[np.bool_]:
    """By party, whether the statistics are those of a layer that was just built."""
    counted = np.array([bool(count) for count in layer.count])
    initial: NDArray[np.bool_] = (layer.mean == 0).all(axis=1) & (layer.var == 1).all(axis=1) & ~counted
    return initial


def _judge_sameness(found: Parties) -> None:
    """Parties whose statistics are the same bit for bit, at every layer."""
    seen: dict[int, int] = {}
    for number in range(len(found.names)):
        key = hash(tuple(part[number].tobytes() for layer in found.layers for part in (layer.mean, layer.var)))
        first = seen.setdefault(key, number)
        if found.layers and first != number:
            found.problems.append(
                f"{found.names[first]} and {found.names[number]} have the same statistics, bit for bit: one party "
                "twice, or BatchNorm is averaged, and tells nothing of a party any more (bn-audit verify --parties)"
            )


def _note_training(found: Parties, momentum: float | None) -> None:
    """Statistics that still hold part of their initial values."""
    if momentum is None:
        return
    early = [
        (name, count)
        for name, count in zip(found.names, found.layers[0].count if found.layers else [], strict=False)
        if count is not None and (1 - momentum) ** count > 0.05
    ]
    if early:
        name, count = min(early, key=lambda pair: pair[1])
        share = 100 * (1 - momentum) ** count
        more = f" and {len(early) - 1} more" if len(early) > 1 else ""
        found.notes.append(
            f"{name}{more}: after {count} batches {share:.0f} % of the running statistics are still their initial "
            f"values (with momentum {momentum:g}), which draws the parties together"
        )


def _measured(found: Parties, masks: dict[str, NDArray[np.bool_]], options: Options) -> Comparison:
    parties = len(found.names)
    channels = sum(int(mask.sum()) for mask in masks.values())
    every = channels * parties * (parties - 1) // 2 <= MOST_NUMBERS
    metrics = tuple(dict.fromkeys((*options.metrics, NW2)))
    layers = []
    notes = list(found.notes)
    for number, layer in enumerate(found.layers):
        mask = masks[layer.path]
        mean, var = (part[:, mask].astype(np.float64) for part in (layer.mean, layer.var))
        pairs = every or number == 0
        if not mask.all():
            notes.append(f"{place(layer.path)}: {int((~mask).sum())} channels with zero variance are left out")
        layers.append(
            ComparedLayer(
                path=layer.path,
                features=int(mask.sum()),
                comparable=not any(layer.foreign),
                distances={metric: pairwise(metric, mean, var) for metric in metrics} if pairs else {},
                centre=tuple(nw2(mean, var, mean.mean(axis=0), var.mean(axis=0)).mean(axis=-1).tolist()),
                affine=_affine(layer) if pairs else None,
                channels=_channels(metrics[0], mean, var, np.flatnonzero(mask))
                if options.channels and not number
                else (),
            )
        )
    if not every:
        notes.append(
            f"of {parties} parties the pairs of the first layer were computed; of the others, how far each party is "
            "from the mean of all (--layer chooses another first layer)"
        )
    strangers = [layer for layer in found.layers if any(layer.foreign)]
    if strangers and not all(any(layer.foreign) for layer in found.layers):
        party = next(number for number, key in enumerate(strangers[0].foreign) if key)
        notes.append(
            f"from {strangers[0].path} on channels do not mean the same thing: {strangers[0].foreign[party]} of "
            f"{found.names[party]} has nothing in common with that of {found.names[0]}"
        )
    return Comparison(
        parties=found.names,
        metrics=metrics,
        layers=tuple(layers),
        left_out=tuple(LeftOut(path, reason) for path, reason in found.left_out),
        weights=tuple(found.weights),
        notes=tuple(notes),
    )


def _affine(layer: Layer) -> Affine | None:
    if layer.weight is None or layer.bias is None:
        return None
    return Affine(_roots(layer.weight), _roots(layer.bias))


def _roots(values: NDArray[np.floating]) -> Pairs:
    """The root of the mean square difference of every pair."""
    wide = values.astype(np.float64)
    # Of a normal distribution without variance, W2 is the distance of the means.
    found = pairwise("w2", wide, np.zeros_like(wide))
    scale = 1 / np.sqrt(wide.shape[1])
    scaled = found.values[:]
    for number, value in enumerate(scaled):
        scaled[number] = value * scale
    return Pairs(found.parties, scaled)


def _channels(
    metric: str, mean: NDArray[np.float64], var: NDArray[np.float64], numbers: NDArray[np.intp]
) -> tuple[Channel, ...]:
    parties, channels = mean.shape
    total, largest = np.zeros(channels), np.full(channels, -1.0)
    pair = np.zeros((channels, 2), dtype=int)
    for one in range(parties - 1):
        found = between(metric, mean[one], var[one], mean[one + 1 :], var[one + 1 :])
        total += found.sum(axis=0)
        here = found.argmax(axis=0)
        value = found[here, np.arange(channels)]
        better = value > largest
        largest[better] = value[better]
        pair[better] = np.stack([np.full(channels, one), here + one + 1], axis=1)[better]
    pairs = parties * (parties - 1) // 2
    return tuple(
        Channel(
            int(number), float(total[place] / pairs), float(largest[place]), (int(pair[place, 0]), int(pair[place, 1]))
        )
        for place, number in enumerate(numbers)
    )
