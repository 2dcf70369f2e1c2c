"""Calls of what the settings speak of: models with and without BatchNorm, norm layers, wrappers of FLModel.

The settings of the file that holds the call count.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import libcst as cst

from bn_audit.source.interpreter import flmodel
from bn_audit.source.interpreter.values import (
    BoundMethod,
    ClassVal,
    External,
    ExternalResult,
    Func,
    Module,
    RegistryGap,
    Step,
    TensorVal,
    Value,
)
from bn_audit.source.state import NormTraits

if TYPE_CHECKING:
    from bn_audit.source.interpreter.calls import Arguments
    from bn_audit.source.interpreter.frames import Frame
    from bn_audit.source.interpreter.run import Run
    from bn_audit.source.taught import Taught

__all__ = ["call", "is_batchnorm", "names_of", "register_batchnorm"]

FLMODEL = "secretflow_fl.ml.nn.FLModel"


def names_of(value: Value) -> tuple[str, ...]:
    """The dotted names that settings may call a function or class by; none if it has none."""
    if isinstance(value, External):
        return (value.name,)
    if isinstance(value, ClassVal):
        return (f"{value.module.name}.{value.name}",)
    if isinstance(value, BoundMethod) and isinstance(value.func, Func):
        value = value.func
    if isinstance(value, Func):
        owner = f"{value.owner.name}." if value.owner is not None else ""
        return (f"{value.module.name}.{owner}{value.name}",)
    return ()


def call(
    taught: Taught,
    run: Run,
    func: Value,
    args: Arguments,
    kwargs: dict[str, Value],
    open_kwargs: bool,
    frame: Frame,
    node: cst.CSTNode,
    deps: frozenset[str],
) -> Value | None:
    """What a call makes by the settings; None if they do not speak of it."""
    names = names_of(func)
    if not names:
        return None
    step = Step(frame.module, node)
    leaf = names[0].rpartition(".")[2]
    if not taught.models_with_batchnorm.isdisjoint(names):
        return _model(leaf, "the settings say no more of it than that it has BatchNorm", step, holds=True)
    if not taught.models_without_batchnorm.isdisjoint(names):
        return _model(leaf, "the settings say no more of it than that it has no BatchNorm", step, holds=False)
    if isinstance(func, (External, ClassVal)) and taught.is_batchnorm(names):
        layer = Module(leaf, None, step)
        register_batchnorm(layer, step)
        return layer
    if not taught.flmodel_wrappers.isdisjoint(names):
        made = ExternalResult(External(FLMODEL), args, kwargs, open_kwargs, step)
        flmodel.arrive_by_name(run, made, func, args, kwargs, open_kwargs, frame, node, deps)
        return made
    return None


def is_batchnorm(base: Value, taught: Taught | None) -> bool:
    """Whether a base class is BatchNorm-like by the settings."""
    return taught is not None and isinstance(base, External) and taught.is_batchnorm((base.name,))


def register_batchnorm(module: Module, step: Step) -> None:
    """What a BatchNorm-like class registers: running statistics, and perhaps weight, bias and a counter.

    Whether it is a ``_BatchNorm`` of torch is not known.
    """
    module.norm = NormTraits(module.type_name, None, True, None, None, None, None, None, False, "batch")
    module.params["?"] = RegistryGap(f"the weight and bias of {module.type_name} are not known", step)
    for name in ("running_mean", "running_var"):
        module.buffers[name] = TensorVal((None,), None, step)
        module.persistent.add(name)
    module.buffers["?"] = RegistryGap(f"the counter of {module.type_name} is not known", step)


def _model(name: str, reason: str, step: Step, *, holds: bool) -> Module:
    module = Module(name, None, step)
    module.extra["taught"] = True
    if holds:
        module.children["?0"] = RegistryGap(reason, step)
        module.extra["holds_batchnorm"] = True
    else:
        module.params["?"] = RegistryGap(reason, step)  # where no norm layer can be
    return module
