"""SecretFlow's strategies: what a rule may want to know of one by its name.

Read from ``secretflow_fl/ml/nn/fl/backend/{torch,tensorflow}/strategy`` of 1.13.0b0, and run.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Strategy", "strategies", "strategy"]


@dataclass(frozen=True, slots=True)
class Strategy:
    """One strategy on one backend.

    Attributes:
        name: as passed to FLModel.
        backend: ``torch`` or ``tensorflow``.
        calls_train: whether local training puts the model into training mode. Where it does not, the eval mode in which
            ``evaluate()`` leaves a torch model lasts. Keras is told so at every forward.
        aggregators: the aggregators that work; empty if any does.
        skip_bn_breaks: what becomes of ``skip_bn=True`` whatever the model, if it holds a top-level BatchNorm with
            trained weight and bias; "" if that depends on the model alone.
        trusting: whether it asks more of a model than its state shows: a gradient for each parameter, or methods and
            arguments of its own. Where that is wanting, the round stops with an error that no plan foresees.
    """

    name: str
    backend: str
    calls_train: bool = True
    aggregators: frozenset[str] = frozenset()
    skip_bn_breaks: str = ""
    trusting: bool = False


_SPARSE = frozenset({"sparse"})
_KERAS_LOAD = (
    "it loads with model.set_weights(), which wants BatchNorm's weights as well, "
    "while skip_bn leaves them out of what is sent"
)
_ALL = (
    Strategy("fed_avg_w", "torch"),
    Strategy(
        "fed_avg_g",
        "torch",
        calls_train=False,
        aggregators=frozenset({"plain", "server_agg_method"}),
        skip_bn_breaks="it exchanges the gradients of all parameters, BatchNorm's weight and bias among them",
        trusting=True,
    ),
    Strategy("fed_avg_u", "torch", calls_train=False),
    Strategy(
        "fed_prox",
        "torch",
        calls_train=False,
        skip_bn_breaks="its proximal term pairs the received arrays with all parameters, BatchNorm's among them",
    ),
    Strategy("fed_stc", "torch", calls_train=False, aggregators=_SPARSE),
    Strategy("fed_scr", "torch", calls_train=False, aggregators=_SPARSE),
    Strategy(
        "scaffold",
        "torch",
        skip_bn_breaks="it pairs the arrays to send with the gradients of all parameters, BatchNorm's among them",
        trusting=True,
    ),
    Strategy(
        "moon",
        "torch",
        skip_bn_breaks="it loads the received arrays into its global model without skipping BatchNorm",
        trusting=True,
    ),
    Strategy("fed_gen", "torch", aggregators=frozenset({"fedgen"}), trusting=True),
    Strategy("fed_avg_w", "tensorflow", skip_bn_breaks=_KERAS_LOAD),
    Strategy(
        "fed_avg_g",
        "tensorflow",
        skip_bn_breaks="it exchanges the gradients of all trainable weights, BatchNorm's gamma and beta among them",
        trusting=True,
    ),
    Strategy("fed_avg_u", "tensorflow", skip_bn_breaks=_KERAS_LOAD),
    Strategy("fed_prox", "tensorflow", skip_bn_breaks=_KERAS_LOAD),
    Strategy("fed_stc", "tensorflow", aggregators=_SPARSE),
    Strategy("fed_scr", "tensorflow", aggregators=_SPARSE, skip_bn_breaks=_KERAS_LOAD),
)
_BY_NAME = {(one.backend, one.name): one for one in _ALL}


def strategy(backend: str | None, name: str | None) -> Strategy | None:
    """SecretFlow's own strategy of that name, or None: what a user registers is not known."""
    if backend is None or name is None:
        return None
    return _BY_NAME.get((backend, name))


def strategies(backend: str) -> tuple[Strategy, ...]:
    """SecretFlow's own strategies on a backend."""
    return tuple(one for one in _ALL if one.backend == backend)
