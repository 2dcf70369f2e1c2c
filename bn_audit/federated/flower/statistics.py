"""A node's running statistics in a message, for those who ask for it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from flwr.app import ConfigRecord

from bn_audit.federated.errors import AggregationError
from bn_audit.federated.flower.form import Array
from bn_audit.federated.monitor import LayerStatistics, Statistics, statistics_of

__all__ = ["STATISTICS", "packed", "statistics_in", "unpacked"]

STATISTICS = "bn_audit.statistics"
"""The record's name in a reply."""


def statistics_in(arrays: Mapping[str, Array]) -> dict[str, LayerStatistics]:
    """The running statistics among what a node keeps."""
    return statistics_of({key: torch.from_numpy(array) for key, array in arrays.items() if array.dtype.kind == "f"})


def packed(party: str, statistics: Statistics) -> ConfigRecord:
    """A record of a node's name and its statistics."""
    record = ConfigRecord({"party": party, "layers": list(statistics)})
    for number, layer in enumerate(statistics.values()):
        record[f"mean {number}"] = layer.mean.tolist()
        record[f"var {number}"] = layer.var.tolist()
    return record


def unpacked(record: ConfigRecord, node: str) -> tuple[str, dict[str, LayerStatistics]]:
    """The name and the statistics of a node.

    Raises:
        AggregationError: the record is no such record.
    """
    party, layers = record.get("party"), record.get("layers")
    if not isinstance(party, str) or not party or not isinstance(layers, list):
        raise AggregationError("no statistics as LocalBatchNormMod sends them", party=node, key=STATISTICS)
    found = {}
    for number, path in enumerate(layers):
        parts = [record.get(f"{name} {number}") for name in ("mean", "var")]
        numbers = [np.array(part, dtype=np.float64) for part in parts if isinstance(part, list)]
        if len(numbers) < 2 or numbers[0].shape != numbers[1].shape or not isinstance(path, str):
            raise AggregationError(f"no mean and variance of {path!r}", party=node, key=STATISTICS)
        found[path] = LayerStatistics(*numbers)
    return party, found
