"""The settings of an NVFlare job that decide what a round does with a model's state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bn_audit.exchange.keep import Keep
from bn_audit.loading import Covers, How

__all__ = ["STRATEGIES", "NVFlareSettings"]

EVERYTHING = Covers()
NOTHING = Keep()

STRATEGIES = ("fedavg", "fedprox", "scatter_and_gather")
"""``FedAvg`` (FedProx is its argument ``fedprox_mu``), and ``ScatterAndGather`` with InTimeAccumulateWeightedAggregator
and FullModelShareableGenerator: the same helper averages in all of them."""


@dataclass(frozen=True, slots=True)
class NVFlareSettings:
    """What a job settles. None is "not known" wherever it is allowed.

    Attributes:
        strategy: one of :data:`STRATEGIES`; of others nothing is known.
        exchange: ``server_expected_format``: ``numpy`` (the default) or ``pytorch``. The client's own is ``pytorch``.
        transfer: ``params_transfer_type``: ``full`` parameters or the ``diff`` from what was received.
        exclude_vars: of the aggregator: a regular expression, searched for in keys. What matches is not averaged.
        hold_back: ``exclude_vars`` of PTFileModelPersistor: what matches is not in the first parameters.
        sends: what a client puts into ``FLModel(params=...)``.
        takes: what a client loads of what it received; None is all that is there.
        keeps: what a client keeps to itself, on top of what ``sends`` and ``takes`` say.
        load: how it loads it; None stands for ``load_state_dict`` strict and not.
        weigh_by_local_iter: of the aggregator: without it, contributions are added as they are, and taken to have been
            weighed by the client.
        nvflare_version: ``2.7.1``; None is the newest.
    """

    strategy: str | None = "fedavg"
    exchange: Literal["numpy", "pytorch"] = "numpy"
    transfer: Literal["full", "diff"] = "full"
    exclude_vars: str | None = None
    hold_back: str | None = None
    sends: Covers = EVERYTHING
    takes: Covers | None = None
    keeps: Keep = NOTHING
    load: How | None = How.STATE_DICT
    weigh_by_local_iter: bool = True
    nvflare_version: str | None = None

    def named(self) -> tuple[tuple[str, str], ...]:
        """What is known of the settings, as names and values for a report."""
        pairs = (
            ("framework", "nvflare"),
            ("nvflare_version", self.nvflare_version),
            ("strategy", self.strategy),
            ("exchange", self.exchange),
            ("transfer", self.transfer),
            ("exclude_vars", self.exclude_vars),
            ("load", None if self.load is None else self.load.value),
            ("keeps", str(self.keeps) if self.keeps else None),
        )
        return tuple((name, value) for name, value in pairs if value is not None)
