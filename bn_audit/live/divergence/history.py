"""A history: how far each party was from the mean of all, round by round, as lines of JSON.

A line is one party in one round::

    {"version": 1, "round": 3, "party": "alice", "layers": [{"path": "bn1", "distance": 0.31}]}

``distance`` is nW2 from the mean of the parties (the mean of their running means, and of their running variances). A
layer may have the running statistics themselves instead of it, or beside it, as ``mean`` and ``var``: lists of numbers,
one a channel. Statistics describe data; whoever writes them shares them. Fields that are not known are passed by. Lines
stand in any order; a party may miss a round, or a layer.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bn_audit.comparison import Comparison, Round
from bn_audit.federated.distances import nw2
from bn_audit.federated.monitor import VERSION
from bn_audit.live.divergence.statistics import Source
from bn_audit.live.errors import TargetError, require_torch
from bn_audit.live.profile import profile_of_state
from bn_audit.profile import Profile

require_torch()

import torch  # noqa: E402

__all__ = ["VERSION", "History", "Line", "read_history", "with_history"]


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer in one line."""

    distance: float | None
    mean: tuple[float, ...] | None
    var: tuple[float, ...] | None


@dataclass(frozen=True, slots=True)
class Line:
    """One party in one round; layers by path."""

    round: int
    party: str
    layers: Mapping[str, Layer]


@dataclass(frozen=True, slots=True)
class History:
    """All lines of a file, by round and party.

    Attributes:
        path: of the file.
        rounds: in order; by party.
    """

    path: Path
    rounds: Mapping[int, Mapping[str, Line]]

    @property
    def parties(self) -> tuple[str, ...]:
        """All that take part, in the order of their names."""
        return tuple(sorted({party for lines in self.rounds.values() for party in lines}))

    def last(self) -> list[Source]:
        """The parties of the last round, from the statistics in it.

        Raises:
            TargetError: it has none.
        """
        number = max(self.rounds)
        sources = []
        for party, line in sorted(self.rounds[number].items()):
            state = {
                f"{path}.{name}" if path else name: torch.tensor(values, dtype=torch.float64)
                for path, layer in line.layers.items()
                for name, values in (("running_mean", layer.mean), ("running_var", layer.var))
                if values is not None
            }
            if not state:
                raise TargetError(
                    f"{self.path}: round {number} has no statistics of {party}, only distances: name the parties' "
                    "checkpoints as well"
                )
            sources.append(_source(party, state))
        return sources


def _source(party: str, state: Mapping[str, torch.Tensor]) -> Source:
    def opened() -> tuple[Profile, Mapping[str, torch.Tensor]]:
        return profile_of_state(state), state

    return Source(party, opened)


def read_history(path: Path) -> History:
    """Read a history.

    Raises:
        TargetError: it cannot be read, is empty, or a line is none, with its number.
    """
    rounds: dict[int, dict[str, Line]] = {}
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TargetError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    lines = text.split("\n")
    for number, written in enumerate(lines, start=1):
        if not written.strip():
            continue
        place = f"{path}:{number}"
        line = _line(written, place, cut=number == len(lines))
        if line.party in rounds.setdefault(line.round, {}):
            raise TargetError(f"{place}: round {line.round} has {line.party} twice")
        rounds[line.round][line.party] = line
    if not rounds:
        raise TargetError(f"{path} holds no rounds")
    return History(path, {number: rounds[number] for number in sorted(rounds)})


def _line(text: str, place: str, cut: bool) -> Line:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        if cut:
            raise TargetError(
                f"{place}: the file is cut off in the middle of this line; take the line out, or let the monitor finish"
            ) from error
        raise TargetError(f"{place}: no JSON: {error}") from error
    if not isinstance(value, dict):
        raise TargetError(f"{place}: a line is an object with round, party and layers, not {type(value).__name__}")
    if value.get("version") != VERSION:
        raise TargetError(f"{place}: version {value.get('version')!r} is not known; known is {VERSION}")
    number, party, layers = value.get("round"), value.get("party"), value.get("layers")
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        raise TargetError(f"{place}: round is {number!r}, not a number from 0 on")
    if not isinstance(party, str) or not party:
        raise TargetError(f"{place}: party is {party!r}, not a name")
    if not isinstance(layers, list) or not layers:
        raise TargetError(f"{place}: layers is no list of layers")
    found: dict[str, Layer] = {}
    for layer in layers:
        if not isinstance(layer, dict) or not isinstance(layer.get("path"), str):
            raise TargetError(f"{place}: a layer is an object with a path")
        if layer["path"] in found:
            raise TargetError(f"{place}: the layer {layer['path']} stands there twice")
        found[layer["path"]] = _layer(layer, f"{place}: {layer['path']}")
    return Line(number, party, found)


def _layer(value: Mapping[str, object], place: str) -> Layer:
    distance = value.get("distance")
    if distance is not None and (not isinstance(distance, (int, float)) or not _number(distance) or distance < 0):
        raise TargetError(f"{place}: distance is {distance!r}, not a number from 0 on")
    parts: list[tuple[float, ...] | None] = []
    for name in ("mean", "var"):
        numbers = value.get(name)
        if numbers is None:
            parts.append(None)
            continue
        if not isinstance(numbers, list) or not numbers or not all(map(_number, numbers)):
            raise TargetError(f"{place}: {name} is no list of finite numbers")
        parts.append(tuple(map(float, numbers)))
    mean, var = parts
    if (mean is None) != (var is None) or (mean is not None and var is not None and len(mean) != len(var)):
        raise TargetError(f"{place}: mean and var belong together, one number a channel each")
    if var is not None and min(var) < 0:
        raise TargetError(f"{place}: a variance is negative")
    if distance is None and mean is None:
        raise TargetError(f"{place}: it has neither distance nor mean and var")
    return Layer(float(distance) if isinstance(distance, (int, float)) else None, mean, var)


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def with_history(comparison: Comparison, history: History) -> Comparison:
    """The comparison with its parties' courses over the rounds.

    Raises:
        TargetError: none of its parties is in the history, or a layer changes its number of channels in a round.
    """
    known = set(history.parties)
    if not known & set(comparison.parties):
        raise TargetError(
            f"{history.path} has none of the parties {', '.join(comparison.parties[:5])}; it has "
            f"{', '.join(history.parties[:5])} (--names says what the files are called)"
        )
    paths = [layer.path for layer in comparison.layers]
    rounds = tuple(
        Round(number, {path: _centre(history, lines, path, comparison.parties) for path in paths})
        for number, lines in history.rounds.items()
    )
    notes = list(comparison.notes)
    missing = [party for party in comparison.parties if party not in known]
    if missing:
        notes.append(f"the history knows nothing of {', '.join(missing[:5])}")
    others = sorted(known - set(comparison.parties))
    if others:
        notes.append(f"the history has parties that are not compared: {', '.join(others[:5])}")
    return replace(comparison, history=rounds, notes=tuple(notes))


def _centre(history: History, lines: Mapping[str, Line], path: str, parties: Sequence[str]) -> tuple[float | None, ...]:
    layers = {party: line.layers[path] for party, line in lines.items() if path in line.layers}
    whole = {party: layer for party, layer in layers.items() if layer.mean is not None}
    sizes = {len(layer.mean or ()) for layer in whole.values()}
    if len(sizes) > 1:
        number = next(iter(lines.values())).round
        raise TargetError(
            f"{history.path}: in round {number} {path} has {' and '.join(map(str, sorted(sizes)))} channels"
        )
    measured: dict[str, float] = {}
    if len(whole) > 1:
        mean, var = (
            np.array([getattr(layer, name) for layer in whole.values()], dtype=np.float64) for name in ("mean", "var")
        )
        apart = nw2(mean, var, mean.mean(axis=0), var.mean(axis=0)).mean(axis=-1)
        measured = dict(zip(whole, apart.tolist(), strict=True))
    told = {party: layer.distance for party, layer in layers.items()}
    # What a monitor measured over all parties comes before what the parties at hand give.
    return tuple(told[party] if told.get(party) is not None else measured.get(party) for party in parties)
