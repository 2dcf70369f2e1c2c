"""How far each party's norm layers are from the mean of all parties, round by round: what a training leaves behind for
``bn-audit compare --history``, as lines of JSON, and for TensorBoard.

The mean of the parties is made of their statistics, and **statistics describe data**: a running mean is the mean of
what a party's examples make of a layer. So what can be measured depends on what may leave a party:

- nothing: a party writes a file of its own, with its statistics and how far they moved since its last record
  (:meth:`Monitor.record_own`). How far the parties are from each other is then known to nobody, until they bring their
  files together: ``cat alice.jsonl bob.jsonl > rounds.jsonl`` is a history.
- the mean: where an aggregation hands out the mean of statistics and shows those of no party (SecretFlow's
  SecureAggregator), each party measures itself against it (:func:`distances_from`), and its distances, one number a
  layer, are recorded (:meth:`Monitor.record_distances`).
- the statistics: who receives them measures all (:meth:`Monitor.record`). Nobody sends them unless told to.

Distances are nW2, in standard deviations (:mod:`bn_audit.federated.distances`), a layer's the mean over its channels.
The mean of the parties is that of their running means and that of their running variances, all parties alike, as
docs/compare.md has it. The first norm layer sees the data through one layer of weights; deeper ones can be blind.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from bn_audit.extras import MissingExtra, install
from bn_audit.federated.behaviour import seen_statistics
from bn_audit.federated.distances import nw2
from bn_audit.federated.errors import AggregationError
from bn_audit.federated.owners import names_statistics
from bn_audit.federated.state import tensor_identity
from bn_audit.running import Role, moments, role_of

__all__ = ["VERSION", "LayerStatistics", "Monitor", "Statistics", "distances_from", "mean_of", "statistics_of"]

VERSION = 1
"""Of the lines that are written."""

FIRST = "first norm layer"
"""What TensorBoard shows the first layer's distance under; the others stand under ``layers/``."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LayerStatistics:
    """One layer's running statistics.

    Attributes:
        mean, var: float64, shape (channels,).
    """

    mean: NDArray[np.float64]
    var: NDArray[np.float64]


Statistics = Mapping[str, LayerStatistics]
"""A party's, by the path of the layer, in the order of the model."""


def statistics_of(model: nn.Module | Mapping[str, Any]) -> dict[str, LayerStatistics]:
    """Copies of a model's running statistics.

    Args:
        model: a module or a state dict.

    Returns:
        By path of the module, in the state's order; of a layer that has both running mean and variance, by whatever
        names (:mod:`bn_audit.running`), and once if it goes by several paths.
    """
    state = model.state_dict() if isinstance(model, nn.Module) else model
    modules = dict(model.named_modules(remove_duplicate=False)) if isinstance(model, nn.Module) else {}
    layers: dict[str, dict[str, Role]] = {}
    for key in state:
        path, _, name = key.rpartition(".")
        role = role_of(name)
        if role is None and path in modules and not names_statistics(modules[path]):
            role = seen_statistics(modules[path]).get(name)
        if role is not None:
            layers.setdefault(path, {})[name] = role
    found: dict[str, LayerStatistics] = {}
    seen = set()
    for path, roles in layers.items():
        pair = moments(roles)
        if pair is None:
            continue
        mean, spread = (state[f"{path}.{name}" if path else name] for name in pair[:2])
        if not isinstance(mean, Tensor) or not isinstance(spread, Tensor) or mean.is_complex():
            continue
        if nn.parameter.is_lazy(mean) or mean.device.type == "meta" or not mean.numel():
            continue
        identity = tensor_identity(mean)
        if identity not in seen:
            seen.add(identity)
            wide = _array(spread)
            # A standard deviation below 0 is as broken as a variance.
            found[path] = LayerStatistics(_array(mean), wide * np.abs(wide) if pair[2] else wide)
    return found


def _array(tensor: Tensor) -> NDArray[np.float64]:
    return np.array(tensor.detach().double().cpu().reshape(-1).numpy())


def mean_of(parties: Mapping[str, Statistics]) -> dict[str, LayerStatistics]:
    """The mean of running means, and of running variances, over the parties that have a layer.

    A party in which a layer is broken (BNA406: NaN, infinite, a negative variance) does not count for it.

    Raises:
        AggregationError: a layer has another number of channels in a party than in those before it.
    """
    found: dict[str, LayerStatistics] = {}
    for path in dict.fromkeys(path for own in parties.values() for path in own):
        layers = {party: own[path] for party, own in parties.items() if path in own and _is_sound(own[path])}
        first = next(iter(layers), "")
        for party, layer in layers.items():
            if layer.mean.shape != layers[first].mean.shape:
                raise AggregationError(
                    f"{layer.mean.size} channels, but {layers[first].mean.size} in {first}: the parties have other "
                    "architectures, and no mean",
                    party=party,
                    key=path,
                )
        if layers:
            found[path] = LayerStatistics(
                np.mean([layer.mean for layer in layers.values()], axis=0),
                np.mean([layer.var for layer in layers.values()], axis=0),
            )
    return found


def distances_from(reference: Statistics, own: Statistics) -> dict[str, float]:
    """How far a party's layers are from a reference: the mean of the parties, or what they were before.

    Returns:
        nW2 by path, of the layers that both have, in the order of ``own``. Broken ones are left out.

    Raises:
        AggregationError: a layer has another number of channels in the reference.
    """
    found: dict[str, float] = {}
    for path, layer in own.items():
        other = reference.get(path)
        if other is None or not _is_sound(layer) or not _is_sound(other):
            continue
        if layer.mean.shape != other.mean.shape:
            raise AggregationError(f"{layer.mean.size} channels, but {other.mean.size} in the reference", key=path)
        distance = float(nw2(layer.mean, layer.var, other.mean, other.var).mean())
        if np.isfinite(distance):
            found[path] = distance
    return found


def _is_sound(layer: LayerStatistics) -> bool:
    return bool(
        layer.mean.shape == layer.var.shape
        and np.isfinite(layer.mean).all()
        and np.isfinite(layer.var).all()
        and (layer.var >= 0).all()
    )


class Monitor:
    """Writes a history.

    Lines are added one record at a time, so that a reader finds whole rounds whenever it looks.

        monitor = Monitor("rounds.jsonl", tensorboard="runs")
        monitor.record(3, {"alice": statistics_of(alice), "bob": statistics_of(bob)})

    Args:
        path: of the lines of JSON. A file that is there and not empty is an error unless ``resume``.
        tensorboard: a folder for TensorBoard's scalars, a run for each party (extra ``monitor``).
        statistics: whether :meth:`record` writes the parties' statistics too, from which ``compare`` makes all it
            knows of the last round. They describe the parties' data.
        resume: whether to go on with a file that is there; its rounds are kept, and not written again.

    Raises:
        FileExistsError: the file holds something, and ``resume`` is not asked for.
        ValueError: ``resume``, and the file holds something else than a history.
        ImportError: TensorBoard is asked for and not installed.
        OSError: the file cannot be written.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        tensorboard: str | os.PathLike[str] | None = None,
        statistics: bool = False,
        resume: bool = False,
    ) -> None:
        self.path = Path(path)
        self._statistics = statistics
        self._boards = None if tensorboard is None else _Boards(Path(tensorboard))
        self._before: dict[str, Statistics] = {}
        self._broken: set[tuple[str, str]] = set()
        self._said = False
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # What cannot be written is told now, and not after the first round.
        with self.path.open("a", encoding="utf-8"):
            pass
        if self.path.stat().st_size and not resume:
            raise FileExistsError(
                f"{self.path} holds a history already: remove it, choose another path, or pass resume=True to go on "
                "with it"
            )
        self._written = set(_written(self.path))

    def __enter__(self) -> Monitor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close TensorBoard's files. The lines of JSON are complete after every record."""
        if self._boards is not None:
            self._boards.close()

    def record(self, round_: int, parties: Mapping[str, Statistics]) -> dict[str, dict[str, float]]:
        """Measure the parties against their mean, where their statistics are at hand, and write it down.

        Args:
            round_: from 0 on.
            parties: their statistics by name. Of one party alone there is no mean, and nothing is written.

        Returns:
            Distances by party and path.

        Raises:
            AggregationError: as :func:`mean_of`. Nothing has been written then.
            ValueError: the round has been written for one of them.
        """
        if len(parties) < 2:
            return {}
        centre = mean_of(parties)
        found = {party: distances_from(centre, own) for party, own in parties.items()}
        if self._statistics and not self._said:
            self._said = True
            _log.warning(
                "%s: the running statistics of %d parties are written to this file. They describe the parties' data.",
                self.path,
                len(parties),
            )
        for party, own in parties.items():
            self._tell_broken(round_, party, own)
        self._write(
            round_,
            {
                party: [
                    {"path": path, "distance": distance, **(_numbers(own[path]) if self._statistics else {})}
                    for path, distance in found[party].items()
                ]
                for party, own in parties.items()
            },
        )
        self._show(round_, found)
        return found

    def record_distances(self, round_: int, party: str, distances: Mapping[str, float]) -> None:
        """Write down what a party measured itself (:func:`distances_from` the mean of the parties).

        Raises:
            ValueError: the round has been written for this party, or a distance is no number from 0 on.
        """
        for path, distance in distances.items():
            if not (np.isfinite(distance) and distance >= 0):
                raise ValueError(f"{party}: {path}: a distance is a number from 0 on, not {distance!r}")
        self._write(round_, {party: [{"path": path, "distance": float(d)} for path, d in distances.items()]})
        self._show(round_, {party: dict(distances)})

    def record_own(
        self, round_: int, party: str, own: Statistics, before: Statistics | None = None
    ) -> dict[str, float]:
        """Write down a party's own statistics, on its own disk: it knows no other party's.

        Args:
            before: what they were; by default, what this monitor recorded of the party last.

        Returns:
            How far each layer moved since then, by path; also in the lines, as ``moved``. It tells whether statistics
            have settled, and nothing of the other parties.

        Raises:
            AggregationError: a layer has changed its number of channels.
            ValueError: the round has been written for this party.
        """
        moved = distances_from(self._before.get(party, {}) if before is None else before, own)
        self._tell_broken(round_, party, own)
        layers = [
            {"path": path, **({"moved": moved[path]} if path in moved else {}), **_numbers(layer)}
            for path, layer in own.items()
            if _is_sound(layer)
        ]
        self._write(round_, {party: layers})
        self._before[party] = dict(own)
        if self._boards is not None and moved:
            self._boards.add(round_, party, {f"moved/{path}": value for path, value in moved.items()})
        return moved

    def _write(self, round_: int, parties: Mapping[str, Sequence[Mapping[str, object]]]) -> None:
        for party in parties:
            if (round_, party) in self._written:
                raise ValueError(f"{self.path}: round {round_} of {party} has been written: a monitor is for one run")
        # A line without layers is none.
        lines = [
            json.dumps({"version": VERSION, "round": round_, "party": party, "layers": layers}, allow_nan=False)
            for party, layers in parties.items()
            if layers
        ]
        with self.path.open("a", encoding="utf-8") as file:
            file.write("".join(f"{line}\n" for line in lines))
        self._written.update((round_, party) for party in parties)

    def _show(self, round_: int, parties: Mapping[str, Mapping[str, float]]) -> None:
        if self._boards is None:
            return
        for party, distances in parties.items():
            shown = {f"layers/{path}": value for path, value in distances.items()}
            if distances:
                shown = {FIRST: next(iter(distances.values())), **shown}
            self._boards.add(round_, party, shown)

    def _tell_broken(self, round_: int, party: str, own: Statistics) -> None:
        for path, layer in own.items():
            if not _is_sound(layer) and (party, path) not in self._broken:
                self._broken.add((party, path))
                _log.warning(
                    "round %d: %s: the statistics of %s are broken (NaN, infinite or a negative variance); the layer "
                    "is left out of the history",
                    round_,
                    party,
                    path or "the model itself",
                )


class _Boards:
    """TensorBoard's files: a run for each party, so that they are drawn into one chart."""

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingExtra(f"TensorBoard is not installed: {install('monitor')}") from error
        self._make: Any = SummaryWriter
        self._folder = folder
        self._writers: dict[str, Any] = {}

    def add(self, round_: int, party: str, values: Mapping[str, float]) -> None:
        if party not in self._writers:
            # A name is no path.
            name = quote(party, safe=" ")
            name = name.replace(".", "%2E") if name.startswith(".") else name
            self._writers[party] = self._make(str(self._folder / name))
        writer = self._writers[party]
        for tag, value in values.items():
            writer.add_scalar(tag, value, round_)
        writer.flush()

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()


def _numbers(layer: LayerStatistics) -> dict[str, list[float]]:
    return {"mean": layer.mean.tolist(), "var": layer.var.tolist()}


def _written(path: Path) -> Iterator[tuple[int, str]]:
    """The rounds and parties in a history that is gone on with."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            value = json.loads(line)
            yield value["round"], value["party"]
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{path}:{number} is no line of a history; there is nothing to go on with") from error
