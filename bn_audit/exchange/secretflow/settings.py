"""The settings of a SecretFlow FLModel that decide what a round does, and the versions at which it changed."""

from __future__ import annotations

from dataclasses import dataclass

from bn_audit.exchange.release import release
from bn_audit.wrapping import Wrapping

__all__ = ["SecretFlowSettings", "release"]


@dataclass(frozen=True, slots=True)
class SecretFlowSettings:
    """What an FLModel call and its environment settle. None is "not known" wherever it is allowed.

    Attributes:
        backend: ``torch`` or ``tensorflow``; SecretFlow refuses any other string.
        strategy: one of SecretFlow's names; a user may register others, of which nothing is known.
        aggregator: ``plain``, ``secure``, ``spu``, ``sparse``, ``fedgen`` (StatefulFedGenAggregator),
            ``server_agg_method`` (taken to average entry by entry in floating point), ``none`` (neither); anything else
            is unknown.
        skip_bn: None stands for both values.
        secretflow_version: ``1.13.0b0``, ``sfl`` for the repository that follows it; None is 1.13.
        torch_version: None stands for every release.
        numpy_version: two texts name a NumPy type that changed with 2.0.
        base_module: whether the model derives from SecretFlow's BaseModule; errors of ``load_state_dict`` then name the
            model's class instead of ``GeneratedTorchModule``.
        wrapped: how ``local_batchnorm`` was called to make the model; None if it was not.
        server: whether FLModel is given a ``server`` (its first parameter); fed_stc cannot do without.
    """

    backend: str | None = "tensorflow"
    strategy: str | None = "fed_avg_w"
    aggregator: str | None = None
    skip_bn: bool | None = False
    secretflow_version: str | None = None
    torch_version: str | None = None
    numpy_version: str | None = None
    base_module: bool | None = None
    wrapped: Wrapping | None = None
    server: bool = True

    @property
    def integers_stay(self) -> bool:
        """Whether integers are meant to stay with each party: ``local_batchnorm`` was told so."""
        return self.wrapped is not None and self.wrapped.integers == "local"

    def named(self) -> tuple[tuple[str, str], ...]:
        """What is known of the settings, as names and values for a report."""
        pairs = (
            ("framework", "secretflow"),
            ("secretflow_version", self.secretflow_version),
            ("backend", self.backend),
            ("strategy", self.strategy),
            ("aggregator", self.aggregator),
            ("skip_bn", None if self.skip_bn is None else str(self.skip_bn)),
            ("local_batchnorm", None if self.wrapped is None else "True"),
            ("torch_version", self.torch_version),
        )
        return tuple((name, value) for name, value in pairs if value is not None)
