"""The settings of a Flower app that decide what a round does with a model's state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bn_audit.exchange.keep import Keep
from bn_audit.handwritten import Rebuild
from bn_audit.loading import Covers, How
from bn_audit.profile import Profile

__all__ = ["FlowerSettings", "named"]

EVERYTHING = Covers()
NOTHING = Keep()


@dataclass(frozen=True, slots=True)
class FlowerSettings:
    """What client and strategy settle. None is "not known" wherever it is allowed.

    Attributes:
        api: ``numpy`` (a NumPyClient and ``flwr.server.strategy``: a list of arrays, paired with keys by position) or
            ``message`` (a ClientApp with ArrayRecords and ``flwr.serverapp.strategy``: arrays by key).
        strategy: one of :data:`bn_audit.exchange.flower.strategies.STRATEGIES`; of others nothing is known.
        sends: what a client sends: ``[v.cpu().numpy() for v in model.state_dict().values()]``, or the keys of its
            ArrayRecord.
        takes: the keys under which a client loads what it receives; None is the same as ``sends``.
        initial: what the first parameters hold, be they the server's or a client's; None is the same as ``sends``
            with ``numpy``, everything with ``message``.
        rebuild: how a client makes tensors of arrays; with ``message`` it is ``to_torch_state_dict()``.
        keeps: what a client keeps to itself, on top of what ``sends`` and ``takes`` say.
        load: how it loads them; None stands for ``load_state_dict`` strict and not.
        in_place: FedAvg's argument of that name (``numpy``); None stands for both values.
        server_step: whether FedAvgM has a momentum, or a learning rate other than 1.
        flwr_version: ``1.20.0``; None is the newest.
    """

    api: Literal["numpy", "message"] = "numpy"
    strategy: str | None = "fedavg"
    sends: Covers = EVERYTHING
    takes: Covers | None = None
    initial: Covers | None = None
    rebuild: Rebuild = Rebuild.TENSOR
    keeps: Keep = NOTHING
    load: How | None = How.STATE_DICT
    in_place: bool | None = True
    server_step: bool = True
    flwr_version: str | None = None

    def named(self) -> tuple[tuple[str, str], ...]:
        """What is known of the settings, as names and values for a report."""
        pairs = (
            ("framework", "flower"),
            ("flwr_version", self.flwr_version),
            ("api", self.api),
            ("strategy", self.strategy),
            ("rebuild", self.rebuild.value if self.api == "numpy" else None),
            ("load", None if self.load is None else self.load.value),
            ("keeps", str(self.keeps) if self.keeps else None),
        )
        return tuple((name, value) for name, value in pairs if value is not None)


def named(profile: Profile, *words: str) -> frozenset[str]:
    """The keys that have a word in them: what ``if "bn" not in name`` keeps back, as Flower's FedBN baseline does."""
    return frozenset(entry.key for entry in profile.entries if any(word in entry.key for word in words))
