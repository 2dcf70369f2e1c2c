"""SecretFlow's FLModel: what a call of it is given, and what is done with the result.

An *arrival* is an FLModel call that a run reached, with its settings read and its model built in that run's world.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import libcst as cst

from bn_audit.site import Aggregator
from bn_audit.source.interpreter import calls, classes, operations, scopes, statements
from bn_audit.source.interpreter.frames import Frame
from bn_audit.source.interpreter.libraries import base_kind, secretflow_leaf
from bn_audit.source.interpreter.needs import FLMODEL_PARAMETERS
from bn_audit.source.interpreter.profiles import RawProfile, to_profile
from bn_audit.source.interpreter.run import Decision, Run
from bn_audit.source.interpreter.values import (
    BoundMethod,
    ClassVal,
    Const,
    External,
    ExternalResult,
    Func,
    Hole,
    Instance,
    ListVal,
    Module,
    Partial,
    Step,
    Unknown,
    Value,
    Wrapped,
    dependencies,
)
from bn_audit.source.names import blocks, needed
from bn_audit.source.names import statements as flat
from bn_audit.source.nodes import children
from bn_audit.wrapping import Wrapping

if TYPE_CHECKING:
    from bn_audit.source.interpreter.calls import Arguments
    from bn_audit.source.project import PyModule

__all__ = ["Arrival", "arrive", "arrive_at_override", "arrive_by_name", "event", "relevant", "returned"]

AGGREGATORS: dict[str, Aggregator] = {
    "PlainAggregator": "plain",
    "SecureAggregator": "secure",
    "SPUAggregator": "spu",
    "SparsePlainAggregator": "sparse",
    "SparseTensorAggregator": "sparse",
}


@dataclass(slots=True)
class Event:
    """A later ``fit`` or ``evaluate`` of an FLModel."""

    method: str
    validates: bool | None
    epochs: int | None
    step: Step


@dataclass(slots=True)
class Arrival:
    """An FLModel call in one world."""

    step: Step
    chain: tuple[Step, ...]
    makers: frozenset[int]
    """The calls that made the objects whose methods are on the way, by identity."""
    value: Value
    raw: RawProfile | None
    model_name: str
    model_trail: list[Step]
    unresolved: Step | None
    backend: str | None
    strategy: str | None
    aggregator: Aggregator | None
    skip_bn: bool | None
    skip_bn_passed: bool | None
    skip_bn_value: Value | None
    """What is passed, None if nothing is."""
    takes_skip_bn: bool
    """Whether what is called certainly takes ``skip_bn`` by name and hands it to SecretFlow."""
    settings_trail: list[Step]
    base_module: bool | None
    wrapped: Wrapping | None
    from_builder: bool
    """Whether FLModel is given what makes a model, not one that is made."""
    model_deps: frozenset[str]
    skip_deps: frozenset[str]
    other_deps: frozenset[str]
    decisions: tuple[Decision, ...]
    events: list[Event] = field(default_factory=list)
    returned_by: Func | None = None
    """The root function that hands the FLModel to its callers."""


def arrive(
    run: Run,
    value: Value,
    args: Arguments,
    kwargs: dict[str, Value],
    open_kwargs: bool,
    frame: Frame,
    node: cst.CSTNode,
    deps: frozenset[str] = frozenset(),
) -> None:
    """Note that a run has reached an FLModel call; ``value`` is the FLModel it makes."""
    given: dict[str, Value] = dict(kwargs)
    unsure = open_kwargs
    for number, arg in enumerate(args):
        if isinstance(arg, Hole):
            unsure = True
            break
        if number < len(FLMODEL_PARAMETERS):
            given.setdefault(FLMODEL_PARAMETERS[number], arg)
    _record(run, value, given, unsure, frame, node, deps, takes_skip_bn=True)


def arrive_at_override(
    run: Run,
    value: Value,
    init: Func,
    args: Arguments,
    kwargs: dict[str, Value],
    open_kwargs: bool,
    frame: Frame,
    node: cst.CSTNode,
    deps: frozenset[str],
) -> None:
    """A subclass whose ``__init__`` does FLModel's work itself: its own parameters, by name, are the settings."""
    params = [param.name.value for param in (*init.node.params.posonly_params, *init.node.params.params)][1:]
    if "model" not in params:
        return
    given: dict[str, Value] = {}
    for name, default in init.defaults.items():
        if name in FLMODEL_PARAMETERS and not name.startswith("skip_bn"):
            given[name] = default
    unsure = open_kwargs
    for name, arg in zip(params, args, strict=False):
        if isinstance(arg, Hole):
            unsure = True
            break
        given[name] = arg
    given.update(kwargs)
    _record(run, value, given, unsure, frame, node, deps, takes_skip_bn=False)


def arrive_by_name(
    run: Run,
    value: Value,
    wrapper: Value,
    args: Arguments,
    kwargs: dict[str, Value],
    open_kwargs: bool,
    frame: Frame,
    node: cst.CSTNode,
    deps: frozenset[str],
) -> None:
    """A wrapper that takes FLModel's parameters by name; which one a positional argument is, only a signature tells."""
    given: dict[str, Value] = {}
    params: list[str] = []
    skipped = 0
    takes_skip_bn = True
    if isinstance(wrapper, BoundMethod) and isinstance(wrapper.func, Func):
        wrapper, skipped = wrapper.func, 1
    elif isinstance(wrapper, ClassVal):
        init = classes.find(wrapper, "__init__")
        wrapper, skipped = (init[0], 1) if init is not None else (wrapper, 0)
    if isinstance(wrapper, Func):
        given.update({name: calls.omitted(wrapper, name) for name in wrapper.defaults if name in FLMODEL_PARAMETERS})
        signature = wrapper.node.params
        params = [param.name.value for param in (*signature.posonly_params, *signature.params)][skipped:]
        by_name = (param.name.value for param in (*signature.params, *signature.kwonly_params))
        takes_skip_bn = signature.star_kwarg is not None or "skip_bn" in by_name
    for name, arg in zip(params, args, strict=False):
        if isinstance(arg, Value):
            given[name] = arg
    unsure = open_kwargs or len(args) > len(params) or any(isinstance(arg, Hole) for arg in args)
    _record(run, value, {**given, **kwargs}, unsure, frame, node, deps, takes_skip_bn=takes_skip_bn)


def _record(
    run: Run,
    value: Value,
    given: dict[str, Value],
    unsure: bool,
    frame: Frame,
    node: cst.CSTNode,
    deps: frozenset[str],
    *,
    takes_skip_bn: bool,
) -> None:
    step = Step(frame.module, node)
    before = len(run.decisions)
    direct = {id(arg.value) for arg in node.args} if isinstance(node, cst.Call) else set()
    settings_trail: list[Step] = []

    def text(name: str, default: str) -> tuple[str | None, frozenset[str]]:
        found = given.get(name)
        if found is None:
            return (None, deps) if unsure else (default, frozenset())
        if isinstance(found, Const) and isinstance(found.value, str):
            _note(found, f"{name} is {found.value!r}", direct, settings_trail)
            return found.value, frozenset()
        return None, dependencies(found)

    strategy, strategy_deps = text("strategy", "fed_avg_w")
    backend, backend_deps = text("backend", "tensorflow")
    skip_bn, passed, skip_deps = _skip_bn(run, given.get("skip_bn"), unsure, deps)
    if isinstance(given.get("skip_bn"), Const):
        _note(given["skip_bn"], f"skip_bn is {skip_bn}", direct, settings_trail)
    aggregator, aggregator_deps, made = _aggregator(given, unsure, deps)
    if made is not None and aggregator is not None and aggregator != "none":
        _note(made, f"the aggregator is made here: {_aggregator_words(aggregator)}", direct, settings_trail)

    model = given.get("model")
    trail: list[Step] = []
    name = ""
    unresolved: Step | None = None
    raw: RawProfile | None = None
    model_deps: frozenset[str] = frozenset()
    base_module: bool | None = None
    wrapped: Wrapping | None = None
    if model is None:
        reason = "it may come in through ** arguments that are not known" if unsure else "no model is passed"
        unresolved, model_deps = step.saying(reason), deps
    else:
        built, name = _build(run, model, trail, frame, node)
        wrapped = built.extra.get("wrapping") if isinstance(built, Module) else _wrapping(model)
        override = _own_exchange(built, _STATE if wrapped else _EXCHANGE) if isinstance(built, Module) else None
        if override is not None:
            unresolved = override
        elif isinstance(built, Module):
            raw = to_profile(built)
            base_module = _is_base_module(built)
        else:
            unresolved = _end(built, step)
            model_deps = dependencies(built)
    model_deps |= frozenset().union(*(decision.deps for decision in run.decisions[before:]))
    other = strategy_deps | backend_deps | aggregator_deps
    other |= frozenset().union(*(decision.deps for decision in run.decisions[:before]))
    arrival = Arrival(
        step, _chain(frame, step), _makers(frame), value,
        raw, name, trail, unresolved, backend, strategy, aggregator, skip_bn, passed,
        given.get("skip_bn"), takes_skip_bn, settings_trail, base_module, wrapped,
        not isinstance(model, Module),
        model_deps, skip_deps, other, tuple(run.decisions),
    )  # fmt: skip
    run.arrivals.append(arrival)


def _note(value: Value, message: str, direct: set[int], trail: list[Step]) -> None:
    """Tell where a setting comes from, unless it is written in the call itself."""
    if value.origin is not None and id(value.origin.node) not in direct:
        trail.append(value.origin.saying(message))


def _aggregator_words(aggregator: Aggregator) -> str:
    return {
        "plain": "PlainAggregator",
        "secure": "SecureAggregator",
        "spu": "SPUAggregator",
        "sparse": "SparsePlainAggregator",
        "server_agg_method": "server_agg_method",
    }.get(aggregator, aggregator)


def _skip_bn(
    run: Run, value: Value | None, unsure: bool, deps: frozenset[str]
) -> tuple[bool | None, bool | None, frozenset[str]]:
    if value is None:
        return (None, None, deps) if unsure else (False, False, frozenset())
    if isinstance(value, Const):
        return bool(value.value), True, frozenset()
    return operations.assumed(run, value), True, dependencies(value)


def _aggregator(
    given: dict[str, Value], unsure: bool, deps: frozenset[str]
) -> tuple[Aggregator | None, frozenset[str], Value | None]:
    value = given.get("aggregator")
    if value is None and unsure:
        return None, deps, None
    if value is None or (isinstance(value, Const) and value.value is None):
        method = given.get("server_agg_method")
        if method is None:
            return (None, deps, None) if unsure else ("none", frozenset(), None)
        if isinstance(method, Const) and method.value is None:
            return "none", frozenset(), None
        if isinstance(method, Unknown) and not method.called:
            return None, method.deps, None
        return "server_agg_method", frozenset(), method
    if isinstance(value, ExternalResult):
        leaf = secretflow_leaf(value.func.name)
        return AGGREGATORS.get(leaf or ""), frozenset(), value
    if isinstance(value, Instance):
        # A subclass that only dresses up one of SecretFlow's aggregators behaves like it.
        if classes.find(value.cls, "average") is not None:
            owner = classes.find(value.cls, "average")
            if owner is not None and isinstance(owner[0], External):
                return AGGREGATORS.get(secretflow_leaf(owner[0].name) or ""), frozenset(), value
        return None, frozenset(), value
    return None, dependencies(value), None


def _build(run: Run, model: Value, trail: list[Step], frame: Frame, node: cst.CSTNode) -> tuple[Value, str]:
    """Build what ``model=`` stands for, as SecretFlow's workers do; and what to call it."""
    kwargs: dict[str, Value] = {}
    open_kwargs = False
    target = model
    if isinstance(model, ExternalResult) and secretflow_leaf(model.func.name) == "TorchModel":
        if model.origin is not None and model.origin.node is not node:
            trail.append(model.origin.saying("the TorchModel is made here"))
        found = calls.argument(model.args, model.kwargs, 0, "model_fn")
        if found is None:
            return run.unknown("TorchModel without a model_fn", frame.module, node), ""
        target = found
        taken = {"model_fn", "loss_fn", "optim_fn", "metrics"}
        kwargs = {key: value for key, value in model.kwargs.items() if key not in taken}
        open_kwargs = model.open
    name = _describe(run, target, trail, frame)
    if isinstance(target, Module):
        return target, name
    if isinstance(target, (ClassVal, Func, BoundMethod, Partial, External)) or (
        isinstance(target, Instance) and classes.find(target.cls, "__call__") is not None
    ):
        built = calls.call(run, target, [], kwargs, open_kwargs, frame, node)
        if isinstance(built, Module) and not isinstance(target, (ClassVal, External)):
            name = built.type_name if built.type_name not in ("Sequential", "Model", "Functional") else name
            if built.cls is not None:
                _describe(run, built.cls, trail, frame)
        return built, name
    return target, name


def _describe(run: Run, target: Value, trail: list[Step], frame: Frame) -> str:
    """The name of a model's class or builder; its import and definition join the trail."""
    while isinstance(target, Partial):
        if isinstance(target, Wrapped) and target.origin is not None:
            trail.append(target.origin.saying("`local_batchnorm` wraps it here"))
        target = target.func
    if isinstance(target, BoundMethod) and isinstance(target.func, Func):
        target = target.func
    if isinstance(target, Module):
        if target.origin is not None:
            trail.append(target.origin.saying("the model is made here"))
        if target.cls is None:
            return target.type_name
        target = target.cls
    if isinstance(target, External):
        if target.origin is not None and not isinstance(target.origin.node, (cst.Import, cst.ImportFrom)):
            trail.append(target.origin.saying(f"{target.name} is used here"))
        return target.name
    if isinstance(target, (ClassVal, Func)) and target.origin is not None:
        name = target.name if target.name != "<lambda>" else "a lambda"
        imported = _import_step(run, target, trail, frame)
        if imported is not None:
            trail.append(imported.saying(f"{name} is imported here"))
        node = target.node.name if isinstance(target.node, (cst.ClassDef, cst.FunctionDef)) else target.node
        trail.append(Step(target.module, node, f"{name} is defined here"))
        return name
    return ""


def _import_step(run: Run, target: ClassVal | Func, trail: list[Step], frame: Frame) -> Step | None:
    modules = [step.module for step in reversed(trail)]
    scope: Frame | None = frame
    while scope is not None:
        modules.append(scope.module)
        scope = scope.caller
    for module in dict.fromkeys(modules):
        if module is not target.module:
            found = scopes.imported_at(run, target, module)
            if found is not None:
                return found
    return None


_STATE = ("get_gradients", "set_gradients", "state_dict", "load_state_dict")
_EXCHANGE = ("get_weights", "update_weights", "get_weights_not_bn", "update_weights_not_bn", *_STATE)
"""Methods through which SecretFlow exchanges a model's state: a model that overrides one does something of its own.
Of the first four ``local_batchnorm`` gives a model its own."""


def _wrapping(model: Value) -> Wrapping | None:
    """How what makes a model is wrapped, though the model is not known."""
    target: Value | Hole | None = model
    if isinstance(target, ExternalResult) and secretflow_leaf(target.func.name) == "TorchModel":
        target = calls.argument(target.args, target.kwargs, 0, "model_fn")
    while isinstance(target, Partial):
        if isinstance(target, Wrapped):
            return target.wrapping
        target = target.func
    return None


def _own_exchange(module: Module, methods: Sequence[str]) -> Step | None:
    """Where a model's class overrides what is exchanged, if it does."""
    for cls in classes.mro(module.cls) if module.cls is not None else ():
        for name in methods:
            member = cls.attrs.get(name) if isinstance(cls, ClassVal) else None
            if isinstance(member, Func):
                return Step(
                    member.module, member.node, f"{name} is overridden here, so the exchange is the model's own"
                )
    return None


def _is_base_module(module: Module) -> bool | None:
    """Whether a model derives from SecretFlow's BaseModule; None if some base of its class is not known."""
    if module.cls is None:
        return None if "taught" in module.extra else False
    order = classes.mro(module.cls)
    if any(isinstance(base, External) and secretflow_leaf(base.name) == "BaseModule" for base in order):
        return True
    unknown = any(
        isinstance(base, Unknown) or (isinstance(base, External) and base_kind(base.name) is None) for base in order
    )
    return None if unknown else False


def _end(value: Value, step: Step) -> Step:
    """Where and why the trail to the model ended."""
    if isinstance(value, Unknown):
        return (value.origin or step).saying(value.reason)
    if isinstance(value, ExternalResult):
        return (value.origin or step).saying(f"{value.func.name} is not known")
    if isinstance(value, External):
        return (value.origin or step).saying(f"{value.name} is not known")
    if isinstance(value, Const):
        return step.saying("the model is None" if value.value is None else f"the model is {value.value!r}")
    return (value.origin or step).saying("this is no model that could be followed")


def _chain(frame: Frame, step: Step) -> tuple[Step, ...]:
    """The calls that led here, outermost first, the FLModel call last."""
    found = [step]
    current: Frame | None = frame
    seen: Step | None = None
    while current is not None:
        if current.call is not None and current.kind == "function" and current.call is not seen:
            found.append(current.call)
            seen = current.call
        current = current.caller
    return tuple(reversed(found))


def _makers(frame: Frame) -> frozenset[int]:
    found: set[int] = set()
    current: Frame | None = frame
    while current is not None:
        if isinstance(current.self_value, (Instance, Module)) and current.self_value.origin is not None:
            found.add(id(current.self_value.origin.node))
        current = current.caller
    return frozenset(found)


def event(
    run: Run,
    value: Value,
    method: str,
    args: Arguments,
    kwargs: dict[str, Value],
    open_kwargs: bool,
    frame: Frame,
    node: cst.CSTNode,
) -> None:
    """Note a ``fit`` or ``evaluate`` on an FLModel that this run made."""
    if method not in ("fit", "evaluate"):
        return
    for arrival in run.arrivals:
        if arrival.value is not value:
            continue
        epochs = calls.argument(args, kwargs, 4, "epochs")
        count = 1 if epochs is None and not open_kwargs else None
        if isinstance(epochs, Const) and isinstance(epochs.value, int):
            count = epochs.value
        validates = _validates(node, args, kwargs, open_kwargs)
        arrival.events.append(Event(method, validates, count, Step(frame.module, node)))


def returned(run: Run, value: Value, func: Func) -> None:
    """A root function hands an FLModel to its callers: they may fit and evaluate it."""
    values = value.items if isinstance(value, ListVal) else [value]
    for arrival in run.arrivals:
        if arrival.value in values:
            arrival.returned_by = func


def _validates(node: cst.CSTNode, args: Arguments, kwargs: dict[str, Value], open_kwargs: bool) -> bool | None:
    """Whether a ``fit`` is given validation data. The data itself is not looked at: anything but a literal None
    counts."""
    if calls.argument(args, kwargs, 7, "validation_data") is None:
        return None if open_kwargs else False
    for arg in node.args if isinstance(node, cst.Call) else ():
        if arg.keyword is not None and arg.keyword.value == "validation_data":
            return not (isinstance(arg.value, cst.Name) and arg.value.value == "None")
    return True


def relevant(run: Run, module: PyModule, body: Sequence[cst.CSTNode]) -> frozenset[str]:
    """The names that matter for the targets below a body: what they are made from, and what is made from them."""
    key = (module.path, id(body[0]) if body else 0)
    found = run.budget.relevant.get(key)
    if found is None:
        found = run.budget.relevant[key] = _relevant(run, module, body)
    return found


def _relevant(run: Run, module: PyModule, body: Sequence[cst.CSTNode]) -> frozenset[str]:
    wanted: set[str] = set()
    made: set[str] = set()
    stack = list(body)
    while stack:
        statement = stack.pop()
        inner = blocks(statement)
        if id(statement) not in run.target_paths:
            if statements.returns(statement):  # what decides whether the rest is reached
                wanted |= module.names.header(statement).uses
                for block in inner:
                    stack.extend(flat(block))
            continue
        if inner:
            for part in children(statement):
                if not isinstance(part, (cst.BaseSuite, cst.Else, cst.If, cst.ExceptHandler, cst.Finally)):
                    wanted |= module.names.expression_names(part)
            for block in inner:
                stack.extend(flat(block))
        else:
            made |= module.names.names(statement).binds
            wanted |= _needed_names(run, module, statement)
    if run.carried:
        return module.names.closure(body, module.names.carriers(body, wanted | made))
    names, passed = module.names.closure_around(body, wanted, made, run.target_paths)
    run.budget.passed |= passed
    return names


def _needed_names(run: Run, module: PyModule, statement: cst.CSTNode) -> set[str]:
    """The names a statement with a target reads, less those of arguments that do not matter."""
    found: set[str] = set()
    stack = [statement]
    while stack:
        node = stack.pop()
        if isinstance(node, cst.Call) and id(node) in run.needs:
            stack.append(node.func)
            stack.extend(arg.value for arg in needed(node, run.needs[id(node)]))
        elif id(node) in run.target_paths and not isinstance(node, (cst.FunctionDef, cst.ClassDef, cst.Lambda)):
            stack.extend(children(node))
        elif isinstance(node, cst.AssignTarget):
            continue
        else:
            found |= module.names.expression_names(node)
    return found
