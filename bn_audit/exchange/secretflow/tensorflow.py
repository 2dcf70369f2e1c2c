"""SecretFlow's TensorFlow backend: the plan of a round, strategy by strategy.

Keras has no integer counter, and weights are set by position in the list of all weights or of a layer's. What goes
wrong:

- with ``skip_bn`` the weights of each layer of ``model.layers`` that is no BatchNormalization are sent, but only as
  many are given back to a layer as it has *trainable* weights: a layer with others (a nested model with a
  BatchNormalization, a SyncBatchNormalization, a frozen layer) refuses them when ``fit`` begins. Weights of the model's
  own stay where they are;
- most strategies then load with ``model.set_weights()``, which wants all weights, whatever ``skip_bn`` left out.

As for torch, an epoch is taken to hold at least two aggregations.
"""

from __future__ import annotations

from collections.abc import Sequence

from bn_audit.exchange.plan import Fate, Plan, PlanError
from bn_audit.exchange.secretflow.aggregate import FLOATS, INTEGERS, Upload, average
from bn_audit.exchange.secretflow.sequence import Item, at_top_level, uploads
from bn_audit.exchange.secretflow.settings import SecretFlowSettings, release
from bn_audit.exchange.secretflow.steps import (
    GRADIENTS_NOTE,
    average_sparse,
    gradients_drift,
    steps_of_gradients,
    subtract,
    then,
    updates_drift,
)
from bn_audit.exchange.secretflow.strategies import Strategy
from bn_audit.exchange.steps import PASSED, UNKNOWN, Effect, Phase, entry_plans, first_stop
from bn_audit.profile import Profile

__all__ = ["plan_tensorflow"]

_MEASURED = FLOATS | INTEGERS | {"bool"}
_PACKED = {"float16": "half", "float32": "float", "float64": "double"}
_TENSOR = "tensorflow.python.framework.ops.EagerTensor"


def plan_tensorflow(profile: Profile, settings: SecretFlowSettings, strategy: Strategy) -> Plan:
    """The plan for one known strategy, with ``skip_bn`` settled."""
    version = release(settings.secretflow_version)
    skips = bool(settings.skip_bn) and (version is None or version >= (1, 5))
    notes = ["SecretFlow before 1.5.0 ignores skip_bn"] if settings.skip_bn and not skips else []
    # Weights of the model's own belong to none of model.layers.
    items = at_top_level(profile, skips, own_stay=True)
    sent: list[Upload] = list(uploads(items))
    effects = [_effect(item) for item in items if item.entry is not None]
    # Keras hands out 0-d weights as NumPy scalars.
    phases = [_known(sent), average(sent, settings, differences=True)]
    if skips:
        phases.append(_give_back(items))
    drifts: bool | None = False
    match strategy.name:
        case "fed_avg_w":
            phases.append(_set_all(profile, items))
        case "fed_prox":
            phases += [_set_all(profile, items), _proximal(profile)]
        case "fed_avg_u":
            phases += [subtract(sent), average(sent, settings, 1, differences=True), _set_all(profile, items)]
        case "fed_stc":
            phases += [subtract(sent), average_sparse(sent, settings, strategy)]
        case "fed_scr":
            phases += [subtract(sent), average_sparse(sent, settings, strategy), _set_all(profile, items)]
            drifts = updates_drift(sent)
            notes.append("fed_scr adds the mean update to weights that were trained already: parties drift apart")
        case "fed_avg_g":
            phases += [_gradients(profile, settings)]
            drifts = gradients_drift(profile, effects)
            effects = then(effects, steps_of_gradients(profile))
            notes.append(GRADIENTS_NOTE)
    if strategy.trusting:
        phases.append(UNKNOWN)
    if settings.aggregator == "server_agg_method":
        notes.append("server_agg_method is taken to average entry by entry, in floating point")
    stop = first_stop(phases)
    return Plan(
        entry_plans(profile, effects, stop),
        stops=stop.stops,
        error=stop.error,
        complete=profile.complete,
        drifts=drifts,
        settings=settings.named(),
        notes=tuple(notes),
    )


def _effect(item: Item) -> Effect:
    possible: set[Fate | None] = set()
    if item.skipped is not True:
        possible.add(Fate.AVERAGED)
    if item.skipped is not False:
        possible.add(None)
    return Effect(frozenset(possible))


def _known(sent: Sequence[Upload]) -> Phase:
    """What NumPy makes of TensorFlow's other dtypes has not been measured."""
    known = all(certain and entry is not None and entry.dtype in _MEASURED for entry, certain in sent)
    return PASSED if known else UNKNOWN


def _give_back(items: Sequence[Item]) -> Phase:
    """``set_weights_not_bn``, when ``fit`` begins: to each layer as many weights as it has trainable ones."""
    doubtful = False
    for item in items:
        if item.entry is None or item.skipped is None:
            doubtful = True
        elif item.skipped is False and item.entry.kind == "buffer":
            layer = [other.entry for other in items if other.entry is not None and other.entry.top == item.entry.top]
            given = sum(entry.kind == "parameter" for entry in layer)
            return Phase(True, _length_error(item.entry.top, given, len(layer), item.entry.key, 0))
    return UNKNOWN if doubtful else PASSED


def _set_all(profile: Profile, items: Sequence[Item]) -> Phase:
    """``model.set_weights()`` with what was sent, in the second training of an epoch."""
    if any(item.entry is not None and item.skipped for item in items):
        if not profile.complete:
            return Phase(True, PlanError("ValueError", _LENGTH.format(profile.type), False, None, 2))
        given = sum(item.entry is not None and item.skipped is False for item in items)
        return Phase(True, _length_error(profile.type, given, len(profile.entries), None, 2))
    return UNKNOWN if any(item.skipped is None for item in items) else PASSED


_LENGTH = 'You called `set_weights(weights)` on layer "{}" with a weight list of length'


def _length_error(layer: str, given: int, wanted: int, key: str | None, round_: int) -> PlanError:
    # The text goes on with the first 50 characters of the weights themselves.
    text = f"{_LENGTH.format(layer)} {given}, but the layer was expecting {wanted} weights. Provided weights: "
    return PlanError("ValueError", text, False, key, round_)


def _proximal(profile: Profile) -> Phase:
    """``FedProx.w_norm`` maps over the received weights and the trainable variables, and packs what it gets.

    They must be as many, and of one dtype.
    """
    if any(entry.kind == "buffer" for entry in profile.entries):
        # The text goes on with the weights themselves.
        text = "The two structures don't have the same nested structure."
        return Phase(True, PlanError("ValueError", text, False, round=2))
    exact = profile.complete
    first: str | None = None
    for number, entry in enumerate(profile.entries):
        if entry.dtype not in _PACKED:
            exact = False
        elif first is None:
            first = entry.dtype
        elif entry.dtype != first:
            text = (
                f"cannot compute Pack as input #{number}(zero-based) was expected to be a {_PACKED[first]} tensor "
                f"but is a {_PACKED[entry.dtype]} tensor [Op:Pack] name: stack"
            )
            return Phase(True, PlanError("InvalidArgumentError", text, exact, entry.key, 2))
    return PASSED if exact else UNKNOWN


def _gradients(profile: Profile, settings: SecretFlowSettings) -> Phase:
    """fed_avg_g sends TensorFlow's tensors, which only Plain and SPU take for arrays."""
    if not any(entry.kind == "parameter" for entry in profile.entries):
        return UNKNOWN
    match settings.aggregator:
        case "plain":
            return PASSED
        case "secure":
            text = f"Accept ndarray or dataframe/series only but got <class '{_TENSOR}'>"
            return Phase(True, PlanError("AssertionError", text, False, round=1))
        case "sparse":
            text = "Sparse encoding method not supporterd in SecurePlainAggregator"
            return Phase(True, PlanError("AssertionError", text, round=1))
        case _:
            return UNKNOWN
