"""The monitor of :mod:`bn_audit.federated.monitor` inside SecretFlow: what a model made by ``local_batchnorm`` writes
down of its norm layers with each exchange, in the party's own process.

By default nothing leaves the party: its file holds its own statistics, and how far they moved. With ``mean=True`` each
party adds its running means and variances to what it sends, so that their mean comes back, and writes down how far its
own layers are from it. **Statistics describe data.** With SecureAggregator nobody sees those of a party; with any other
aggregator the server does.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from bn_audit.federated.errors import AggregationError
from bn_audit.federated.monitor import LayerStatistics, Monitor, distances_from, statistics_of

__all__ = ["Monitoring", "Recorder"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Monitoring:
    """What is to be written down of the rounds.

    Attributes:
        folder: where every party writes ``PARTY.jsonl``, on its own disk. What the parties bring together of them is a
            history for ``bn-audit compare --history``.
        mean: whether the parties' mean is made, by sending statistics along, and distances from it are written instead
            of a party's own statistics. With fed_avg_w alone; the mean is the aggregator's, weighted by samples.
        tensorboard: whether scalars for TensorBoard go to ``folder/tensorboard`` as well (extra ``monitor``).
    """

    folder: str | os.PathLike[str]
    mean: bool = False
    tensorboard: bool = False


class Recorder:
    """Writes down a party's rounds.

    Args:
        party: its name.

    Raises:
        FileExistsError, OSError, ImportError: as :class:`~bn_audit.federated.monitor.Monitor`.
    """

    def __init__(self, monitoring: Monitoring, party: str) -> None:
        folder = Path(monitoring.folder)
        self.party = party
        self.mean = monitoring.mean
        board = folder / "tensorboard" if monitoring.tensorboard else None
        self._monitor: Monitor | None = Monitor(folder / f"{party}.jsonl", tensorboard=board)
        self._round = 0
        self._waiting = False
        if self.mean:
            _log.warning(
                "%s: the running statistics of this party's norm layers are sent along, so that the parties' mean "
                "can be had. They describe its data. With SecureAggregator nobody sees them; else the server does.",
                party,
            )

    def __deepcopy__(self, memo: Any) -> None:
        """A copy of a model is no party's, and writes nothing."""

    def sent(self, model: nn.Module, dtype: np.dtype[Any]) -> list[Any]:
        """What goes before a model's own arrays: nothing, unless the mean is asked for."""
        self._waiting = True
        if not self.mean:
            return []
        layers = statistics_of(model).values()
        return [array.astype(dtype) for layer in layers for array in (layer.mean, layer.var)]

    def arrived(self, model: nn.Module, arrays: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any]]:
        """What was sent by :meth:`sent`, of all parties, and the rest.

        Raises:
            AggregationError: it is not all there.
        """
        layers = statistics_of(model) if self.mean else {}
        first, rest = arrays[: 2 * len(layers)], arrays[2 * len(layers) :]
        expected = [own.shape for layer in layers.values() for own in (layer.mean, layer.var)]
        if [np.shape(array) for array in first] != expected:
            raise AggregationError(
                "the means of the parties' statistics are not among what arrived: every party has to make the same "
                "model, with the same monitor",
                party=self.party,
            )
        return first, rest

    def record(self, model: nn.Module, means: Sequence[Any]) -> None:
        """Write down an exchange: the first load after something was sent, since SecretFlow may load the same twice.

        What keeps that from being written does not keep the party from training.
        """
        if self._monitor is None or not self._waiting:
            return
        self._waiting = False
        own = statistics_of(model)
        try:
            if self.mean:
                pairs = zip(own, means[::2], means[1::2], strict=True)
                centre = {path: LayerStatistics(_wide(mean), _wide(var)) for path, mean, var in pairs}
                self._monitor.record_distances(self._round, self.party, distances_from(centre, own))
            else:
                self._monitor.record_own(self._round, self.party, own)
        except OSError as error:
            _log.error("%s: round %d is not written down, nor what follows: %s", self.party, self._round, error)
            self._monitor = None
        self._round += 1


def _wide(array: Any) -> Any:
    return np.asarray(array, dtype=np.float64)
