"""Attributes: reading, setting and deleting them, with the registries of ``nn.Module`` behind."""

from __future__ import annotations

from dataclasses import replace

import libcst as cst

from bn_audit.source.interpreter import calls, classes, keras_calls, operations, records, scopes, tensors, torch_calls
from bn_audit.source.interpreter.frames import Frame
from bn_audit.source.interpreter.run import Run
from bn_audit.source.interpreter.values import (
    BoundMethod,
    BuiltinVal,
    ClassVal,
    Const,
    DictVal,
    EnumMember,
    External,
    ExternalResult,
    Func,
    Instance,
    KerasTensor,
    ListVal,
    Module,
    ModuleRef,
    NamespaceRef,
    Partial,
    Property,
    RegistryGap,
    Step,
    SuperVal,
    TensorVal,
    Unknown,
    Value,
    dependencies,
)
from bn_audit.source.nodes import children
from bn_audit.source.state import NormTraits

__all__ = ["delete", "entered", "forget", "get", "set_attribute"]


def get(run: Run, value: Value, name: str, frame: Frame, node: cst.CSTNode) -> Value:
    """``value.name``."""
    if isinstance(value, ModuleRef) and name == "__dict__":
        return value  # its items are its globals
    if isinstance(value, (ModuleRef, NamespaceRef)):
        return scopes.member(run, value, name, frame.module, node)
    if isinstance(value, External):
        if name == "__dict__":
            return value  # its items are its attributes
        return External(f"{value.name}.{name}", Step(frame.module, node))
    if isinstance(value, Module):
        return _module_attribute(run, value, name, frame, node)
    if isinstance(value, Instance):
        return _instance_attribute(run, value, name, frame, node)
    if isinstance(value, ClassVal):
        found = classes.find(value, name)
        if found is not None:
            return _class_member(run, value, name, found, frame, node)
        if name in ("__name__", "__qualname__"):
            return Const(value.name)
        return run.unknown(f"{value.name} has no {name} that could be found", frame.module, node)
    if isinstance(value, SuperVal):
        return _super_attribute(run, value, name, frame, node)
    if isinstance(value, ExternalResult):
        if name in value.attrs:
            return value.attrs[name]
        return BoundMethod(name, value, Step(frame.module, node))
    if isinstance(value, TensorVal):
        if name == "shape" and value.shape is not None:
            return ListVal(
                [Const(dim) if dim is not None else run.unknown("a dimension") for dim in value.shape], "tuple"
            )
        if name == "data":
            return tensors.fresh(value, value.shape, value.dtype, Step(frame.module, node))
        return BoundMethod(name, value, Step(frame.module, node))
    if isinstance(value, Partial):
        if name == "func":
            return value.func
        if name == "keywords":
            return DictVal(dict(value.kwargs))
        if name == "args":
            return ListVal(list(value.args), "tuple")
    if isinstance(value, EnumMember) and name in ("name", "value"):
        return Const(value.name if name == "name" else value.value, value.origin)
    if isinstance(value, Func) and name in ("__name__", "__qualname__"):
        return Const(value.name)
    if isinstance(value, (Const, ListVal, DictVal, KerasTensor, BuiltinVal, Func, BoundMethod)):
        return BoundMethod(name, value, Step(frame.module, node))
    if isinstance(value, Unknown):
        key = f"{value.key}.{name}" if value.key and not value.key.startswith("#") else None
        text = f"{value.text}.{name}" if value.text else None
        return Unknown(value.reason, value.origin or Step(frame.module, node), key=key or run.fresh(), deps=value.deps,
                       called=value.called, text=text, likely=run.hint(value.text, name))  # fmt: skip
    return run.unknown("an attribute that is not known", frame.module, node)


def _class_member(
    run: Run, cls: ClassVal, name: str, found: tuple[Value, Value], frame: Frame, node: cst.CSTNode
) -> Value:
    member, owner = found
    if member is owner and isinstance(owner, External):
        return External(f"{owner.name}.{name}", Step(frame.module, node))
    if member is owner:
        return run.unknown("a member of a base class that is not known", frame.module, node)
    if isinstance(member, Func) and member.kind == "classmethod":
        return BoundMethod(member, cls, Step(frame.module, node))
    return member


def _bind(run: Run, member: Value, self_value: Value, frame: Frame, node: cst.CSTNode) -> Value:
    if isinstance(member, Property):
        return calls.call_function(run, member.func, [self_value], {}, frame, node)
    if isinstance(member, BoundMethod) and member.func == calls.DATACLASS_INIT:
        return Partial(member, [self_value], {})
    if isinstance(member, Func):
        if member.kind == "staticmethod":
            return member
        target: Value = self_value
        if member.kind == "classmethod" and isinstance(self_value, (Instance, Module)) and self_value.cls is not None:
            target = self_value.cls
        return BoundMethod(member, target, Step(frame.module, node))
    return member


def _instance_attribute(run: Run, value: Instance, name: str, frame: Frame, node: cst.CSTNode) -> Value:
    if name in value.attrs:
        return value.attrs[name]
    if name in records.METHODS and "__items__" in value.attrs:
        if name == "_fields":
            return ListVal([Const(field) for field in classes.annotated_fields(value.cls)], "tuple")
        return BoundMethod(name, value, Step(frame.module, node))
    if name == "__class__":
        return value.cls
    if name == "__dict__":
        return DictVal(value.attrs, open=True)
    found = classes.find(value.cls, name)
    if found is not None:
        member, owner = found
        if member is owner and isinstance(owner, External):
            return BoundMethod(f"{owner.name}.{name}", value, Step(frame.module, node))
        if isinstance(member, Func) and classes.kind(value.cls) == "flmodel":
            # What a subclass of FLModel does inside fit() is a matter of its own: only that it is called matters.
            return BoundMethod(name, value, Step(frame.module, node))
        if member is not owner:
            return _bind(run, member, value, frame, node)
    late = calls.attribute_set_elsewhere(run, value, name, frame)
    if late is not None:
        value.attrs[name] = late
        return late
    key = f"{value.cls.name}.{name}@{id(value)}"
    return Unknown(
        f"self.{name} is not set where it could be read" if value.symbolic else f"{value.cls.name}.{name} is not set",
        Step(frame.module, node),
        key=key,
        text=f"{value.cls.name}.{name}",
    )


_SIZES = {
    # attribute: (parameter, dimension), for layers of torch inside models whose constructor calls are not read
    "in_features": ("weight", 1),
    "out_features": ("weight", 0),
    "num_features": ("weight", 0),
    "num_embeddings": ("weight", 0),
    "embedding_dim": ("weight", 1),
    "embed_dim": ("in_proj_weight", 1),
}


def _module_attribute(run: Run, value: Module, name: str, frame: Frame, node: cst.CSTNode) -> Value:
    for table in (value.params, value.buffers, value.children):
        found = table.get(name)
        if isinstance(found, (TensorVal, Module)):
            return found
        if name in table and found is None:
            return Const(None)
    if name in value.attrs:
        return value.attrs[name]
    if name == "__class__" and value.cls is not None:
        return value.cls
    if value.framework == "keras":
        tracked = keras_calls.attribute(run, value, name, Step(frame.module, node))
        if tracked is not None:
            return tracked
    if name == "_modules":
        registry = Module("ModuleDict", None, value.origin)
        registry.children = value.children  # one and the same dict: what is put here is registered there
        return registry
    if name in ("momentum", "eps", "affine", "track_running_stats") and value.norm is not None:
        setting = _norm_setting(value.norm, name)
        return setting if setting is not None else run.unknown(f"{name} of a norm layer", frame.module, node)
    if name in ("weight", "bias") and value.cls is None and not value.children:
        return Const(None)  # a layer without it, such as one built with bias=False
    if value.cls is None and (name in _SIZES or name in ("in_channels", "out_channels")):
        transposed = value.type_name.startswith("ConvTranspose")
        if (name == "in_channels") != transposed and name not in _SIZES:
            return run.unknown(f"{name} of a layer whose groups are not known", frame.module, node)
        parameter, dimension = _SIZES.get(name, ("weight", 0))
        tensor = value.params.get(parameter)
        if isinstance(tensor, TensorVal) and tensor.shape is not None and len(tensor.shape) > dimension:
            size = tensor.shape[dimension]
            if size is not None:
                return Const(size)
        return run.unknown(f"{name} of a layer whose size is not known", frame.module, node)
    if value.cls is not None:
        member = classes.find(value.cls, name)
        if member is not None and member[0] is not member[1]:
            return _bind(run, member[0], value, frame, node)
    step = Step(frame.module, node)
    if value.framework == "keras" or torch_calls.is_method(name):
        return BoundMethod(name, value, step)
    return run.unknown(f"{name} of {value.type_name} is not known", frame.module, node, called=True)


def _norm_setting(norm: NormTraits, name: str) -> Const | None:
    """A norm layer's attribute, where it is known."""
    if name == "momentum" and norm.cumulative:
        return Const(None)
    known = {"track_running_stats": norm.tracked}.get(name, getattr(norm, name, None))
    return Const(known) if known is not None else None


def _set_norm_setting(module: Module, norm: NormTraits, name: str, value: Value) -> None:
    """``bn.momentum = 0.01``, and None where it is not known what is set."""
    given = value.value if isinstance(value, Const) else None
    number = float(given) if isinstance(given, (int, float)) else None
    if name == "momentum":
        cumulative = given is None if isinstance(value, Const) else None
        module.norm = replace(norm, momentum=number, cumulative=cumulative)
    elif name == "eps":
        module.norm = replace(norm, eps=number)


def _super_attribute(run: Run, value: SuperVal, name: str, frame: Frame, node: cst.CSTNode) -> Value:
    self_value = value.self_value
    cls = self_value if isinstance(self_value, ClassVal) else getattr(self_value, "cls", None)
    if isinstance(cls, ClassVal):
        found = classes.find(cls, name, after=value.cls)
        if found is not None:
            member, owner = found
            if member is owner and isinstance(owner, External):
                return BoundMethod(f"{owner.name}.{name}", self_value, Step(frame.module, node))
            if member is owner:
                return BoundMethod(f"?.{name}", self_value, Step(frame.module, node))
            return _bind(run, member, self_value, frame, node)
    return BoundMethod(f"object.{name}", self_value, Step(frame.module, node))


def set_attribute(run: Run, container: Value, name: str, value: Value, frame: Frame, node: cst.CSTNode) -> None:
    """``container.name = value``."""
    if isinstance(container, Module):
        _set_module_attribute(run, container, name, value, Step(frame.module, node))
    elif isinstance(container, (Instance, ExternalResult, ClassVal)):
        container.attrs[name] = value
    elif isinstance(container, ModuleRef):
        run.settle(container.module, name, value)


def _set_module_attribute(run: Run, module: Module, name: str, value: Value, step: Step) -> None:
    if isinstance(value, Module):
        module.params.pop(name, None)
        module.buffers.pop(name, None)
        module.attrs.pop(name, None)
        module.children[name] = value
    elif isinstance(value, TensorVal) and value.parameter:
        module.children.pop(name, None)
        module.buffers.pop(name, None)
        module.params[name] = value
    elif name in module.params:
        if isinstance(value, Const) and value.value is None:
            module.params[name] = None
    elif name in module.children:
        if isinstance(value, Const) and value.value is None:
            module.children[name] = None
        else:
            module.children[name] = RegistryGap("replaced by something that is not known", step)
            module.attrs[name] = value
    elif name in module.buffers and (
        isinstance(value, TensorVal) or (isinstance(value, Const) and value.value is None)
    ):
        module.buffers[name] = value if isinstance(value, TensorVal) else None
    else:
        if (
            isinstance(value, (Unknown, ExternalResult))
            and module.framework == "torch"
            and _may_register(module, name, value)
        ):
            reason = value.reason if isinstance(value, Unknown) else f"{value.func.name} is not known"
            module.children[name] = RegistryGap(f"self.{name}: {reason}", step)
        if module.framework == "keras" and name == "trainable" and isinstance(value, Const):
            keras_calls.set_trainable(module, bool(value.value))
        if module.framework == "keras" and isinstance(value, (ListVal, DictVal)):
            keras_calls.track(module, name, value, step)
        module.attrs[name] = value
        if module.norm is not None:
            _set_norm_setting(module, module.norm, name, value)
    if isinstance(value, Module) and run.repeats(module):
        module.add_gap("set in a loop of unknown length", step)


_NOT_MODULES = frozenset(
    [
        "numpy",
        "math",
        "random",
        "os",
        "logging",
        "time",
        "json",
        "pathlib",
        "collections",
        "itertools",
        "functools",
        "re",
        "copy",
        "string",
        "enum",
        "datetime",
    ]
)


def _may_register(module: Module, name: str, value: Unknown | ExternalResult) -> bool:
    """Whether what is assigned to ``self.name`` may be a module: the class calls it, goes over it or takes items of
    it."""
    if isinstance(value, ExternalResult) and (
        value.func.package in _NOT_MODULES or value.func.name.startswith(("torch.device", "torch.Size", "torch.optim"))
    ):
        return False
    if name in module.attrs and not isinstance(module.attrs[name], (Unknown, ExternalResult)):
        return False  # a setting takes another value
    if module.cls is None:
        return True
    return any(isinstance(cls, ClassVal) and name in _called_attributes(cls) for cls in classes.mro(module.cls))


def _called_attributes(cls: ClassVal) -> frozenset[str]:
    """Names N for which the class body has ``self.N(...)``, ``self.N.method(...)``, ``self.N[...]`` or ``for x in
    self.N``."""
    cache = cls.module.called_attributes
    found = cache.get(id(cls.node))
    if found is None:
        names: set[str] = set()
        stack: list[cst.CSTNode] = [cls.node.body]
        while stack:
            node = stack.pop()
            probe: cst.CSTNode | None = None
            if isinstance(node, cst.Call):
                probe = node.func
                if isinstance(probe, cst.Attribute) and isinstance(probe.value, cst.Attribute):
                    probe = probe.value
            elif isinstance(node, cst.Subscript):
                probe = node.value
            elif isinstance(node, (cst.For, cst.CompFor)):
                probe = node.iter
            if isinstance(probe, cst.Attribute) and isinstance(probe.value, cst.Name) and probe.value.value == "self":
                names.add(probe.attr.value)
            stack.extend(children(node))
        found = frozenset(names)
        cache[id(cls.node)] = found
    return found


def forget(module: Module, name: str, step: Step) -> None:
    """``module.name`` may or may not have been set: what is registered there is no longer known."""
    for table in (module.params, module.buffers, module.children):
        if name in table:
            table[name] = RegistryGap("set under a condition that is not known", step)
            return
    module.children[name] = RegistryGap("set under a condition that is not known", step)


def delete(run: Run, container: Value, name: str) -> None:
    """``del container.name``."""
    if isinstance(container, Module):
        for table in (container.params, container.buffers, container.children, container.attrs):
            table.pop(name, None)
    elif isinstance(container, (Instance, ExternalResult)):
        container.attrs.pop(name, None)


def entered(run: Run, value: Value, frame: Frame, node: cst.CSTNode) -> Value:
    """What ``with value as name`` binds."""
    if isinstance(value, Instance):
        found = classes.find(value.cls, "__enter__")
        if found is not None and isinstance(found[0], Func):
            return calls.call_function(run, found[0], [value], {}, frame, node)
        return value
    if isinstance(value, ListVal) and value.items:
        # A generator under @contextmanager: what it yields first.
        first = operations.iterate(run, value)[0]
        if isinstance(first, Value):
            return first
    return run.unknown("what a context manager yields", frame.module, node, deps=dependencies(value))
