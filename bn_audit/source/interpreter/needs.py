"""Which arguments of a call matter to us: those that do not are never looked at, nor what they are made from.

It keeps trails short: the data a model is trained on, the devices it runs on and the metrics it reports decide
nothing about
BatchNorm, and are often the costliest things a program makes.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["BY_NAME", "FLMODEL", "FLMODEL_PARAMETERS", "Needs"]


@dataclass(frozen=True, slots=True)
class Needs:
    """The parameters of a called function that matter, among all in order."""

    parameters: tuple[str, ...]
    wanted: frozenset[str]

    def skips(self, number: int | None, keyword: str | None) -> bool:
        """Whether an argument, by its position or keyword, certainly does not matter."""
        if keyword is not None:
            return keyword in self.parameters and keyword not in self.wanted
        return number is not None and number < len(self.parameters) and self.parameters[number] not in self.wanted


FLMODEL_PARAMETERS = (
    "server", "device_list", "model", "aggregator", "strategy", "consensus_num", "backend", "random_seed", "skip_bn",
)  # fmt: skip
"""FLModel's parameters in order, since SecretFlow 1.5.0."""

FLMODEL = Needs(FLMODEL_PARAMETERS, frozenset({"model", "aggregator", "strategy", "backend", "skip_bn"}))
"""What decides what happens to BatchNorm; ``server_agg_method`` is one more, among ``**kwargs``."""

_NOTHING: frozenset[str] = frozenset()

BY_NAME: dict[str, Needs] = {
    # Of validation_data only whether it is None matters, which the call itself shows.
    "fit": Needs(
        ("x", "y", "batch_size", "batch_sampling_rate", "epochs", "verbose", "callbacks", "validation_data"),
        frozenset({"epochs"}),
    ),
    "evaluate": Needs(("x", "y", "batch_size", "sample_weight", "validation_data"), _NOTHING),
    "predict": Needs(("x", "batch_size"), _NOTHING),
    "TorchModel": Needs(("model_fn", "loss_fn", "optim_fn", "metrics"), frozenset({"model_fn"})),
    "PlainAggregator": Needs(("device",), _NOTHING),
    "SecureAggregator": Needs(("device", "participants", "fxp_bits"), _NOTHING),
    "SPUAggregator": Needs(("device",), _NOTHING),
    "SparsePlainAggregator": Needs(("device",), _NOTHING),
    "compile": Needs(("optimizer", "loss", "metrics"), _NOTHING),
}
"""By the last name of what is called. They are SecretFlow's and Keras's names; a function of the project is followed
whole."""
