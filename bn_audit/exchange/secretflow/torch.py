"""SecretFlow's torch backend: the plan of a round, strategy by strategy.

A round is a sequence of steps, each of which may stop it:

- ``fit`` begins with an exchange of weights before any training (round 0): every party's arrays are gathered, averaged
  and loaded. What goes wrong with BatchNorm mostly goes wrong here;
- then come training and the strategy's own exchange, in which weights (fed_avg_w, fed_prox, moon, scaffold, fed_gen),
  updates (fed_avg_u, fed_stc, fed_scr) or gradients (fed_avg_g) travel.

An epoch is taken to hold at least two aggregations, as it does unless ``aggregate_freq`` covers it all.

Under Ray an error of a load is raised in the party's process and never awaited: ``fit`` may then return normally, with
the state half loaded and the rounds that follow working on that.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from bn_audit.exchange.load import reloaded
from bn_audit.exchange.plan import Plan, PlanError
from bn_audit.exchange.secretflow.aggregate import FLOATS, INTEGERS, Upload, average, gather, keeps_integers
from bn_audit.exchange.secretflow.load import Loader
from bn_audit.exchange.secretflow.sequence import Item, at_top_level, uploads
from bn_audit.exchange.secretflow.settings import SecretFlowSettings, release
from bn_audit.exchange.secretflow.steps import (
    GRADIENTS_NOTE,
    average_sparse,
    either,
    gradients_drift,
    steps_of_gradients,
    subtract,
    then,
    updates_drift,
)
from bn_audit.exchange.secretflow.strategies import Strategy
from bn_audit.exchange.steps import (
    PASSED,
    UNKNOWN,
    Effect,
    Phase,
    effects_by_tensor,
    entry_plans,
    first_stop,
)
from bn_audit.profile import Profile, Shape, StateEntry, tensor_groups

__all__ = ["plan_torch"]


@dataclass(frozen=True, slots=True)
class _Round:
    """What the steps of a strategy work on.

    Attributes:
        sent: what is gathered when ``fit`` begins, and later unless the strategy says otherwise.
        parameters: what ``parameters()`` yields: a shared parameter once.
        exact: whether every entry is known, and whether it is sent.
        loads: loads that were worked out before, for any settings under which the same is sent.
    """

    profile: Profile
    settings: SecretFlowSettings
    items: Sequence[Item]
    groups: Sequence[int]
    sent: Sequence[Upload]
    parameters: Sequence[StateEntry]
    loader: Loader
    exact: bool
    loads: dict[tuple[bool, int, bool], tuple[Phase, list[Effect]]]

    @property
    def gradients(self) -> list[Upload]:
        """``parameters()``, with the dtypes and shapes their gradients share."""
        known: list[Upload] = [(entry, True) for entry in self.parameters]
        return known if self.exact else [(None, False), *known]

    @property
    def integers(self) -> bool:
        """Whether integers come back from the aggregator as integers."""
        return keeps_integers(self.settings.aggregator or "")

    def load(self, integers: bool, round_: int, whole: bool = False) -> tuple[Phase, list[Effect]]:
        """A load's outcome and its effect on every entry, shared tensors considered."""
        key = integers, round_, whole
        if key not in self.loads:
            load = replace(self.loader, whole=whole).load(integers, round_)
            self.loads[key] = load.phase, effects_by_tensor(load.effects, self.groups)
        return self.loads[key]


@dataclass(slots=True)
class _Course:
    """How a round goes on: the steps so far, what they do to the entries, and what else there is to say."""

    phases: list[Phase]
    effects: list[Effect]
    drifts: bool | None = False
    notes: list[str] = field(default_factory=list)


def plan_torch(profile: Profile, settings: SecretFlowSettings, strategy: Strategy) -> Plan:
    """The plan for one known strategy, with ``skip_bn`` and the torch version settled."""
    version = release(settings.secretflow_version)
    skips = bool(settings.skip_bn) and (version is None or version >= (1, 5))
    here = _round(profile, settings, skips)
    loaded, effects = here.load(here.integers, 0)
    taken = reloaded(profile, not skips, 0, whole=not skips)
    course = _Course([gather(here.sent), average(here.sent, settings), taken, loaded], effects)
    if settings.skip_bn and not skips:
        course.notes.append("SecretFlow before 1.5.0 ignores skip_bn")
    if skips and version is not None and version < (1, 7) and strategy.name in ("fed_avg_w", "fed_prox"):
        _send_everything(here, course, strategy)
    else:
        _go_on(here, course, strategy)
    if strategy.trusting:
        course.phases.append(UNKNOWN)
    if settings.aggregator == "server_agg_method":
        course.notes.append("server_agg_method is taken to average entry by entry, in floating point")
    if profile.renamed:
        # skip_bn asks the root for an attribute of each key's first name, and loading for each key; they may be none.
        course.phases.insert(0, UNKNOWN)
    stop = first_stop(course.phases)
    return Plan(
        entry_plans(profile, course.effects, stop),
        stops=stop.stops,
        error=stop.error,
        complete=profile.complete,
        drifts=course.drifts,
        settings=settings.named(),
        notes=tuple(course.notes),
    )


def _round(profile: Profile, settings: SecretFlowSettings, skips: bool) -> _Round:
    version, torch = release(settings.secretflow_version), release(settings.torch_version)
    own_name = bool(settings.base_module and profile.type)
    layout = _layout(
        profile,
        skips,
        first_of_many=torch is not None and torch <= (2, 7),
        model=(profile.type if own_name else "GeneratedTorchModule", own_name or settings.base_module is False),
        scalars_load=version is None or version >= (1, 5),
    )
    return replace(layout, settings=settings)


@functools.lru_cache(maxsize=8)
def _layout(profile: Profile, skips: bool, first_of_many: bool, model: tuple[str, bool], scalars_load: bool) -> _Round:
    """What does not depend on strategy and aggregator. Every combination of them may be asked for, one by one."""
    items = at_top_level(profile, skips)
    groups = tensor_groups(profile)
    loader = Loader(items, groups, first_of_many, model, scalars_load)
    parameters = [
        entry
        for index, (entry, group) in enumerate(zip(profile.entries, groups, strict=True))
        if entry.kind == "parameter" and group == index
    ]
    exact = profile.complete and all(item.skipped is not None for item in items)
    sent = list(uploads(items))
    return _Round(profile, SecretFlowSettings(), items, groups, sent, parameters, loader, exact, {})


def _go_on(here: _Round, course: _Course, strategy: Strategy) -> None:
    """What a strategy does after the exchange that begins ``fit``. fed_avg_w does just the same again."""
    match strategy.name:
        case "fed_prox":
            course.phases += [_sample_counts(here, strategy), _proximal(here, here.sent)]
        case "moon":
            course.phases += [_sample_counts(here, strategy), here.loader.strict(here.integers, 2)]
        case "scaffold":
            course.phases += [gather(here.gradients, 1), _control_variates(here)]
        case "fed_avg_u":
            course.phases += [subtract(here.sent), average(here.sent, here.settings, 1, differences=True)]
            course.drifts = updates_drift(here.sent)
            course.notes.append(
                "fed_avg_u adds the mean update to weights that were trained already: parties drift apart"
            )
        case "fed_stc" | "fed_scr":
            # After training the state of before is loaded again, from the party's own arrays.
            restored, effects = here.load(True, 1)
            course.phases += [subtract(here.sent), restored, average_sparse(here.sent, here.settings, strategy)]
            course.effects = [either(*pair) for pair in zip(course.effects, effects, strict=True)]
        case "fed_avg_g":
            course.phases += [gather(here.gradients, 1), _gradients(here)]
            course.drifts = gradients_drift(here.profile, course.effects)
            course.effects = then(course.effects, steps_of_gradients(here.profile))
            course.notes.append(GRADIENTS_NOTE)
        case "fed_gen":
            course.phases.append(_label_counts(here))
            if here.settings.aggregator == "fedgen":
                course.notes.append("fed_gen's aggregator gives every party the same weight, whatever its samples")
            if here.settings.aggregator == "server_agg_method":
                # Its apply_weights loads what came out of its own aggregator, a dict, and passes over all else.
                course.effects = then(course.effects, [Effect(frozenset({None}))] * len(course.effects))
    if strategy.name not in ("fed_prox", "moon"):
        course.phases.append(_sample_counts(here, strategy))


def _send_everything(here: _Round, course: _Course, strategy: Strategy) -> None:
    """Before 1.7 ``train_step`` returned ``model.get_weights()``, BatchNorm and all, whatever ``skip_bn``."""
    everything = [(item.entry, item.entry is not None) for item in here.items]
    loaded, effects = here.load(here.integers, 2, whole=True)
    course.phases += [gather(everything, 1), average(everything, here.settings, 1), loaded]
    course.effects = then(course.effects, effects)
    course.notes.append(
        "SecretFlow 1.5 and 1.6 leave BatchNorm out of the first exchange alone; "
        "later all is sent, and BatchNorm not loaded"
    )
    if strategy.name == "fed_prox":
        course.phases.append(_proximal(here, everything))


def _label_counts(here: _Round) -> Phase:
    """fed_gen's ``train_step`` hands a dict to the aggregator for a sample count; its own aggregator knows."""
    if here.settings.aggregator == "fedgen":
        return PASSED
    if here.settings.aggregator in ("plain", "secure", "sparse") and any(certain for _, certain in here.sent):
        operator = "*: 'float' and 'dict'" if here.settings.aggregator == "secure" else "+: 'dict' and 'dict'"
        return Phase(True, PlanError("TypeError", f"unsupported operand type(s) for {operator}", False, round=1))
    return UNKNOWN


def _sample_counts(here: _Round, strategy: Strategy) -> Phase:
    """fed_gen's aggregator looks for counts of labels in what ``train_step`` returns, a number in other strategies."""
    if here.settings.aggregator != "fedgen" or strategy.name == "fed_gen":
        return PASSED
    return Phase(True, PlanError("TypeError", "'int' object is not subscriptable", False, round=1))


def _surplus(here: _Round, sent: Sequence[Upload]) -> int | None:
    """At least how many more arrays are sent than there are parameters; None if that is not bounded."""
    if any(item.skipped is None for item in here.items):
        return None
    return sum(entry is not None for entry, _ in sent) - len(here.parameters)


def _proximal(here: _Round, sent: Sequence[Upload]) -> Phase:
    """``FedProx.w_norm`` pairs the received arrays with ``parameters()``, in the second training of an epoch."""
    surplus = _surplus(here, sent)
    if surplus is not None and (surplus > 0 or (surplus < 0 and here.exact)):
        error = PlanError("AssertionError", "weights should be same in the shape", round=2)
        return Phase(True, error)
    if not here.exact:
        return UNKNOWN
    doubtful = False
    for (array, _), parameter in zip(sent, here.parameters, strict=True):
        assert array is not None
        if array is parameter:
            doubtful = doubtful or array.dtype is None
            continue
        if array.dtype == "bool" and here.integers:
            text = (
                "Subtraction, the `-` operator, with a bool tensor is not supported. "
                "If you are trying to invert a mask, use the `~` or `logical_not()` operator instead."
            )
            return Phase(True, PlanError("RuntimeError", text, not doubtful, array.key, 2))
        clash = _broadcast_clash(array.shape, parameter.shape)
        if clash is None or array.dtype is None:
            doubtful = True
        elif clash:
            a, b, dim = clash
            text = f"The size of tensor a ({a}) must match the size of tensor b ({b}) at non-singleton dimension {dim}"
            return Phase(True, PlanError("RuntimeError", text, not doubtful, array.key, 2))
    return UNKNOWN if doubtful else PASSED


def _broadcast_clash(a: Shape | None, b: Shape | None) -> tuple[int, int, int] | tuple[()] | None:
    """Sizes and dimension, counted from the last, at which two shapes do not broadcast.

    () if they do, None if that is not known.
    """
    if a is None or b is None:
        return None
    doubtful = False
    longest = max(len(a), len(b))
    for back in range(1, min(len(a), len(b)) + 1):
        left, right = a[-back], b[-back]
        if left is None or right is None:
            doubtful = doubtful or (left != 1 and right != 1)
        elif left != right and 1 not in (left, right):
            return None if doubtful else (left, right, longest - back)
    return None if doubtful else ()


def _control_variates(here: _Round) -> Phase:
    """scaffold subtracts from the i-th array it sends the gradient of the i-th parameter, in place, while it trains."""
    index_error = PlanError("IndexError", "list index out of range", round=1)
    if not here.exact:
        surplus = _surplus(here, here.sent)
        return Phase(True, replace(index_error, text_certain=False)) if surplus is not None and surplus > 0 else UNKNOWN
    doubtful = False
    for number, (array, _) in enumerate(here.sent):
        assert array is not None
        if number == len(here.parameters):
            return Phase(True, replace(index_error, text_certain=not doubtful, key=array.key))
        parameter = here.parameters[number]
        if array is parameter:
            doubtful = doubtful or array.dtype is None
            continue
        error = _in_place(array, parameter, here.settings)
        if error is not None:
            return Phase(True, replace(error, text_certain=error.text_certain and not doubtful))
        if array.dtype is None or parameter.dtype is None or _fits_in_place(array.shape, parameter.shape) is None:
            doubtful = True
    if len(here.sent) < len(here.parameters):
        return Phase(True, replace(index_error, text_certain=not doubtful))
    return UNKNOWN if doubtful else PASSED


def _in_place(array: StateEntry, parameter: StateEntry, settings: SecretFlowSettings) -> PlanError | None:
    """The error of NumPy's ``array -= gradient``, or None if there is none or it is not known."""
    if array.dtype is None or parameter.dtype is None:
        return None
    if array.dtype in INTEGERS or array.dtype == "bool":
        gradient = "float64" if parameter.dtype == "float64" else "float32"
        wide = array.dtype in ("int32", "int64", "uint32", "uint64")
        result = "float64" if wide else gradient
        numpy = release(settings.numpy_version)
        text = (
            f"Cannot cast ufunc 'subtract' output from dtype('{result}') to dtype('{array.dtype}') "
            "with casting rule 'same_kind'"
        )
        # Up to NumPy 1 a 0-d array takes part in type promotion by its value.
        certain = (array.shape is not None and array.shape != ()) or (numpy is not None and numpy >= (2, 0))
        return PlanError("UFuncTypeError", text, certain and parameter.dtype in FLOATS, array.key, 1)
    if _fits_in_place(array.shape, parameter.shape) is not False:
        return None
    assert array.shape is not None and parameter.shape is not None
    clash = _broadcast_clash(array.shape, parameter.shape)
    if clash == ():
        whole = _broadcast(array.shape, parameter.shape)
        text = (
            f"non-broadcastable output operand with shape {_tuple(array.shape)} "
            f"doesn't match the broadcast shape {_tuple(whole)}"
        )
    else:
        text = (
            "operands could not be broadcast together with shapes "
            f"{_tuple(array.shape)} {_tuple(parameter.shape)} {_tuple(array.shape)} "
        )
    certain = clash is not None and None not in (*array.shape, *parameter.shape)
    return PlanError("ValueError", text, certain, array.key, 1)


def _fits_in_place(array: Shape | None, other: Shape | None) -> bool | None:
    """Whether ``array -= other`` broadcasts to the shape of ``array``."""
    if array is None or other is None:
        return None
    if len(other) > len(array):
        return False
    doubtful = False
    for back in range(1, len(other) + 1):
        left, right = array[-back], other[-back]
        if right == 1:
            continue
        if left is None or right is None:
            doubtful = True
        elif left != right:
            return False
    return None if doubtful else True


def _broadcast(a: Shape, b: Shape) -> Shape:
    longest = max(len(a), len(b))
    padded = ((1,) * (longest - len(shape)) + shape for shape in (a, b))
    return tuple(right if left == 1 else left for left, right in zip(*padded, strict=True))


def _tuple(shape: Shape) -> str:
    """A shape as NumPy's errors print it: ``(3,)``, ``(2,3)``."""
    inner = ",".join("?" if size is None else str(size) for size in shape)
    return f"({inner},)" if len(shape) == 1 else f"({inner})"


def _gradients(here: _Round) -> Phase:
    """fed_avg_g averages the gradients of all parameters and assigns them.

    Only Plain casts the average back to the gradients' dtype; double precision is refused by a float32 parameter.
    """
    averaged = average(here.gradients, here.settings, 1) if here.exact else UNKNOWN
    match here.settings.aggregator:
        case "plain" | "fedgen":
            return averaged
        case "secure" | "sparse":
            single = next((entry for entry in here.parameters if entry.dtype in FLOATS - {"float64"}), None)
            if single is None:
                return UNKNOWN
            torch = release(here.settings.torch_version)
            names = {"float16": "Half", "float32": "Float"}
            if torch is not None and torch <= (2, 7):
                text = "assigned grad has data of a different type"
            else:
                text = (
                    "attempting to assign a gradient with dtype 'double' to a tensor with grad_dtype "
                    f"'{names[single.dtype or 'float32']}'. The gradient must match the tensor's grad_dtype "
                    "(defaults to the tensor's dtype). You can set the tensor's grad_dtype attribute with a specific "
                    "dtype, or None to allow any dtype. Set grad_dtype with caution. Diverging the dtypes of a tensor "
                    "and its gradient may break downstream systems that assume they match."
                )
            assigned = Phase(
                True, PlanError("RuntimeError", text, torch is not None and torch >= (2, 13), single.key, 2)
            )
            return first_stop([averaged, assigned])
        case _:
            return UNKNOWN
