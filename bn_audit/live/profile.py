"""Exact profiles of live modules, and of state dicts.

A module is BatchNorm-like if it is a ``_BatchNorm``, or owns running statistics (:mod:`bn_audit.running`), or is a
scripted or exported module that was made from a ``_BatchNorm``.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator, Mapping
from typing import Any, Literal

from bn_audit.live.bare import BareEntry, profile_of_bare
from bn_audit.live.errors import TargetError, require_torch
from bn_audit.live.tensors import dtype_name, integer_value, other_than_dense, shape_of
from bn_audit.profile import Gap, NormLayer, Profile, StateEntry

require_torch()

import torch  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase  # noqa: E402
from torch.nn.modules.instancenorm import _InstanceNorm  # noqa: E402
from torch.nn.modules.lazy import LazyModuleMixin  # noqa: E402
from torch.nn.parameter import is_lazy  # noqa: E402
from torch.nn.utils.parametrize import type_before_parametrizations  # noqa: E402

from bn_audit.federated.behaviour import seen_statistics  # noqa: E402
from bn_audit.federated.errors import AggregationError  # noqa: E402
from bn_audit.federated.owners import (  # noqa: E402
    attribute_of,
    identity,
    members,
    names_statistics,
    owned,
    owns_statistics,
)
from bn_audit.live.reload import tried  # noqa: E402
from bn_audit.running import Role, is_statistic  # noqa: E402

__all__ = ["bare_of_state", "profile", "profile_of_state"]


def profile(module: nn.Module) -> Profile:
    """The exact profile of a built model, on any device, the meta device among them.

    Entries stand as in ``module.state_dict()``. What a state dict holds that is no tensor (extra state, packed
    parameters of quantised layers) leaves a gap, and so does a tensor that is not dense. Norm layers are listed once
    for each path that leads to them.

    Raises:
        TargetError: if a module contains itself, or its state dict is none.
    """
    try:
        found = owned(module)
    except RecursionError as error:
        raise TargetError(f"{type(module).__name__} contains itself, or is nested too deeply for Python") from error
    except AggregationError as error:
        raise TargetError(str(error)) from error
    parameters: set[Hashable] = {identity(parameter) for parameter in module.parameters()} if found.renamed else set()
    first: dict[Hashable, str] = {}
    seen = {path: seen_statistics(part) for path, part in found.modules.items() if not names_statistics(part)}
    entries: list[StateEntry] = []
    gaps: list[Gap] = []
    for key, value in found.state.items():
        owner = found.owners[key]
        if not isinstance(value, torch.Tensor):
            gaps.append(Gap(len(entries), owner, f"{key} is no tensor but {_class_name(value)}", may_hold_norm=False))
            continue
        other = other_than_dense(value)
        if other is not None:
            gaps.append(Gap(len(entries), owner, f"{key} is no dense tensor but {other}", may_hold_norm=False))
            continue
        if key in found.unknown:
            reason = f"{key} is the name of no tensor of the model, and of which it is a copy cannot be tried"
            gaps.append(Gap(len(entries), owner, reason))
            continue
        alias = first.setdefault(identity(value), key)
        name = (found.foreign.get(key) or key).rpartition(".")[2]
        trained = (
            isinstance(value, nn.Parameter)
            or identity(value) in parameters
            or name in getattr(found.modules.get(owner), "_parameters", ())
        )
        entries.append(
            StateEntry(
                key=key,
                shape=shape_of(value),
                dtype=dtype_name(value),
                kind="parameter" if trained else "buffer",
                module=owner,
                value=integer_value(value),
                alias_of=alias if alias != key else None,
                lazy=is_lazy(value),
                own=name if name != key.rpartition(".")[2] else None,
                seen=seen.get(owner, {}).get(name),
            )
        )
    recorded = _recorded_classes(found.modules)
    norms = [
        _norm(path, part, recorded.get(path), path in found.hidden, seen.get(path, {}))
        for path, part in found.modules.items()
    ]
    return Profile(
        tuple(entries),
        tuple(norm for norm in norms if norm is not None),
        tuple(gaps),
        type=_class_of(module)[0],
        renamed=found.renamed,
        reload=tried(module, found),
    )


def profile_of_state(state: Mapping[str, object]) -> Profile:
    """The profile of a state dict without its model, by the structure of its keys (:mod:`bn_audit.live.bare`)."""
    return profile_of_bare(bare_of_state(state))


def bare_of_state(state: Mapping[str, object]) -> Iterator[BareEntry]:
    """What a state dict says of its entries, in its order."""
    first: dict[Hashable, str] = {}
    for key, value in state.items():
        if not isinstance(value, torch.Tensor):
            yield BareEntry(key, None, None, tensor=False, kind=f"no tensor but {_class_name(value)}")
            continue
        other = other_than_dense(value)
        if other is not None:
            yield BareEntry(key, None, None, tensor=False, kind=f"no dense tensor but {other}")
            continue
        alias = first.setdefault(identity(value), key)
        yield BareEntry(
            key,
            shape_of(value),
            dtype_name(value),
            integer_value(value),
            alias if alias != key else None,
            parameter=isinstance(value, nn.Parameter),
        )


def _class_name(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__name__}".removeprefix("builtins.")


def _recorded_classes(modules: Mapping[str, nn.Module]) -> dict[str, str]:
    """For the featureless modules of an exported program: the qualified name of what they were made from.

    The graph recorded it: a node's ``nn_module_stack`` maps to pairs of a path and a class, or its name.
    """
    classes: dict[str, str] = {}
    for path, module in modules.items():
        if type(module).__module__ == "torch.export.unflatten" and isinstance(getattr(module, "_ty", None), str):
            classes[path] = str(module._ty)
        if not isinstance(module, torch.fx.GraphModule):
            continue
        for node in module.graph.nodes:
            for below, kind in (node.meta.get("nn_module_stack") or {}).values():
                full = f"{path}.{below}".strip(".")
                if type(modules.get(full)) is nn.Module:
                    classes[full] = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
    return classes


def _class_of(module: nn.Module, recorded: str | None = None) -> tuple[str, type[Any] | None]:
    """The name of the class a module was written as, and the class itself; None if only the name is left."""
    if isinstance(module, torch.jit.ScriptModule):
        name = str(module.original_name)
        return name, getattr(nn, name, None)
    if recorded is not None:
        name = recorded.rpartition(".")[2]
        return name, getattr(nn, name, None) if recorded.startswith("torch.nn.") else None
    parametrized = attribute_of(module, "parametrizations") is not None
    written = type_before_parametrizations(module) if parametrized else type(module)
    return written.__name__, written


def _norm(
    path: str, module: nn.Module, recorded: str | None, hidden: bool, seen: Mapping[str, Role]
) -> NormLayer | None:
    """The norm layer a module is, or None. What finds a wrapper at its path (``hidden``) finds no BatchNorm; ``seen``
    are statistics that go by no name that is known for one."""
    own = members(module)
    parametrized = attribute_of(module, "parametrizations", {})

    def holds(name: str) -> bool:
        # weight_norm and pruning leave other names behind.
        return name in parametrized or any(f"{name}{suffix}" in own for suffix in ("", "_g", "_orig"))

    name, cls = _class_of(module, recorded)
    tracked = owns_statistics(module)
    if not tracked and not _derives(cls, _BatchNorm):
        return None
    batchnorm = isinstance(module, _BatchNorm) and not hidden
    momentum = attribute_of(module, "momentum")
    affine = holds("weight") or holds("bias")
    if not _derives(cls, _NormBase):  # it may call them gamma and beta
        affine = affine or any(
            not is_statistic(parameter) and parameter not in seen
            for parameter, _ in module.named_parameters(recurse=False)
        )
    return NormLayer(
        path=path,
        type=name,
        batchnorm=batchnorm,
        tracked=tracked,
        affine=affine,
        features=_features(module, own, seen),
        momentum=_number(momentum),
        cumulative=_cumulative(module, cls),
        eps=_number(attribute_of(module, "eps")),
        lazy=isinstance(module, LazyModuleMixin) and bool(module.has_uninitialized_params()),
        family=_family(cls),
        seen=tuple(seen.items()),
    )


def _features(module: nn.Module, own: Mapping[str, torch.Tensor], seen: Collection[str]) -> int | None:
    features = attribute_of(module, "num_features")
    if isinstance(features, int) and features > 0:  # an uninitialised lazy layer says 0
        return features
    named = {name: attribute_of(module, name) for name in seen} | dict(own)
    shapes = [shape_of(named[name]) for name in (*filter(is_statistic, own), *seen, "weight") if name in named]
    sizes = [[size for size in shape if size != 1] or [1] for shape in shapes if shape]
    return next((size[0] for size in sizes if len(size) == 1), None)


def _cumulative(module: nn.Module, cls: type[Any] | None) -> bool | None:
    """Whether ``momentum=None`` makes it average over all batches, as torch's own norm layers do."""
    missing = object()
    momentum = attribute_of(module, "momentum", missing)
    if momentum is None:
        return True if _derives(cls, _NormBase) else None
    if momentum is not missing:
        return False
    # A traced layer has lost its attributes; one that never had a momentum updates nothing by it.
    return None if _derives(cls, _NormBase) or cls is None else False


def _family(cls: type[Any] | None) -> Literal["batch", "instance", "sync", "other"]:
    # Libraries that bring their own do not derive it from torch's, but call it Sync.
    if cls is not None and any("Sync" in base.__name__ for base in cls.__mro__):
        return "sync"
    if _derives(cls, _BatchNorm):
        return "batch"
    return "instance" if _derives(cls, _InstanceNorm) else "other"


def _derives(cls: type[Any] | None, base: type[Any]) -> bool:
    return isinstance(cls, type) and issubclass(cls, base)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
