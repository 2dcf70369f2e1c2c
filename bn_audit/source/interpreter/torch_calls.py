"""What torch's modules do when they are built, filled, changed and copied."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import libcst as cst

from bn_audit.source.interpreter import builtin_calls, calls, classes, external_calls, operations, taught
from bn_audit.source.interpreter.frames import Frame
from bn_audit.source.interpreter.libraries import base_kind, canonical
from bn_audit.source.interpreter.run import Run
from bn_audit.source.interpreter.tensors import DTYPES
from bn_audit.source.interpreter.torch_classes import CONTAINERS
from bn_audit.source.interpreter.values import (
    HOLE,
    BoundMethod,
    ClassVal,
    Const,
    DictVal,
    External,
    ExternalResult,
    Func,
    Hole,
    ListVal,
    Module,
    RegistryGap,
    Step,
    TensorVal,
    Unknown,
    Value,
    uncertain_name,
)
from bn_audit.source.layers import REST, REST_KEYWORDS, UNKNOWN, DType, external_layer, layer_settings, torch_layer
from bn_audit.source.nodes import walk
from bn_audit.source.state import ModuleState, Slot

if TYPE_CHECKING:
    from bn_audit.source.interpreter.calls import Arguments

__all__ = [
    "clone_module",
    "construct",
    "init",
    "method",
    "new_module",
    "plain",
    "plain_arguments",
    "set_parameter",
    "snapshot",
]


def new_module(cls: ClassVal, kind: str, step: Step) -> Module:
    """An empty module of a class of the project."""
    module = Module(cls.name, cls, step)
    module.framework = kind
    return module


# --- arguments for templates -----------------------------------------------------------------------------------------


def plain(value: Value | Hole | None) -> object:
    """A value as the templates take it: Python's own, DType, ModuleState, or UNKNOWN."""
    if isinstance(value, Const):
        return value.value
    if isinstance(value, ListVal) and not value.open:
        items = [plain(item) for item in value.items]
        return tuple(items) if value.kind == "tuple" else items
    if isinstance(value, External) and value.package == "torch" and value.leaf in DTYPES:
        return DType(DTYPES[value.leaf])
    if isinstance(value, External) and value.package == "monai" and value.name.rpartition(".")[0].endswith(".Norm"):
        return value.leaf.lower()  # ``Norm.BATCH`` of MONAI's factory is a name
    if isinstance(value, Module) and value.framework == "torch":
        return snapshot(value)
    return UNKNOWN


def plain_arguments(
    args: Arguments, kwargs: dict[str, Value], open_kwargs: bool = False
) -> tuple[tuple[object, ...], dict[str, object]]:
    """Arguments as the templates take them, with what is unpacked from something unknown marked as such."""
    found = [REST if isinstance(arg, Hole) else plain(arg) for arg in args]
    named: dict[str, object] = {key: plain(value) for key, value in kwargs.items()}
    if open_kwargs:
        named[REST_KEYWORDS] = UNKNOWN
    return tuple(found), named


def snapshot(module: Module) -> ModuleState:
    """A module as a template."""
    slots: list[Slot] = []
    complete = True
    for kind, table in (("parameter", module.params), ("buffer", module.buffers)):
        for name, tensor in table.items():
            if isinstance(tensor, TensorVal):
                if kind == "buffer" and name not in module.persistent:
                    continue
                slots.append(Slot(name, tensor.shape, tensor.dtype, kind, tensor.number))  # type: ignore[arg-type]
            elif isinstance(tensor, RegistryGap):
                complete = False
    found: list[tuple[str, ModuleState]] = []
    for name, child in module.children.items():
        if isinstance(child, Module):
            found.append((name, snapshot(child)))
        elif isinstance(child, RegistryGap):
            complete = False
    return ModuleState(module.type_name, tuple(slots), tuple(found), module.norm, complete)


def clone_module(value: Module, memo: dict[int, Value]) -> Module:
    """A deep copy."""
    twin = Module(value.type_name, value.cls, value.origin)
    memo[id(value)] = twin
    twin.norm, twin.framework, twin.persistent = value.norm, value.framework, set(value.persistent)
    for source, target in ((value.params, twin.params), (value.buffers, twin.buffers)):
        for name, tensor in source.items():
            if isinstance(tensor, TensorVal):
                copied = memo.get(id(tensor))
                if not isinstance(copied, TensorVal):
                    copied = TensorVal(
                        tensor.shape, tensor.dtype, tensor.origin, parameter=tensor.parameter, number=tensor.number
                    )
                    memo[id(tensor)] = copied
                target[name] = copied
            else:
                target[name] = tensor
    for name, child in value.children.items():
        if isinstance(child, Module):
            copied_child = memo.get(id(child))
            twin.children[name] = copied_child if isinstance(copied_child, Module) else clone_module(child, memo)
        else:
            twin.children[name] = child
    twin.attrs = {key: external_calls.clone(item, memo) for key, item in value.attrs.items()}
    if "holds_batchnorm" in value.extra:
        twin.extra["holds_batchnorm"] = True
    return twin


# --- construction ----------------------------------------------------------------------------------------------------


def construct(
    run: Run, name: str, args: Arguments, kwargs: dict[str, Value], open_kwargs: bool, frame: Frame, node: cst.CSTNode
) -> Value | None:
    """Call something of torch or of a library of models by its canonical name; None if it is not known."""
    step = Step(frame.module, node)
    leaf = name.rpartition(".")[2]
    if name.startswith("torch."):
        handler = _FUNCTIONS.get(name)
        if handler is not None:
            return handler(run, args, kwargs, frame, node)
        if name.startswith("torch.nn."):
            if name.count(".") == 2 and leaf in CONTAINERS:
                module = Module(leaf, None, step)
                _fill_container(run, module, leaf, args, kwargs, step)
                return module
            if name.startswith(("torch.nn.utils.", "torch.nn.functional.", "torch.nn.init.")):
                return _utility(run, name, leaf, args, kwargs, frame, node)
            given = plain_arguments(args, kwargs, open_kwargs)
            state = torch_layer(leaf, *given)
            if state is None:
                return None
            layer = Module.grow(state, step)
            layer.attrs.update(_settings(leaf, *given, step))
            return layer
        if name.startswith(("torch.ao.", "torch.quantization.")):
            return run.unknown(
                f"{name} changes the model in ways that are not followed", frame.module, node, called=True
            )
        if leaf in _FACTORIES and name.count(".") == 1:
            return _tensor(run, leaf, args, kwargs, step)
        if leaf in _ELEMENTWISE and name.count(".") == 1:
            first = calls.positional(args, 0)
            if isinstance(first, TensorVal):
                return TensorVal(first.shape, first.dtype if first.dtype and "float" in first.dtype else None, step)
        if leaf in _LIKE and name.count(".") == 1:
            first = calls.positional(args, 0)
            if isinstance(first, TensorVal):
                return TensorVal(first.shape, _dtype_argument(kwargs) or first.dtype, step)
    if leaf in ("fix", "fix_and_validate") and ".ModuleValidator." in f".{name}":
        return _without_batchnorm(run, args, kwargs, frame, node)
    if leaf == "convert_batchnorm_modules" and name.startswith("opacus."):
        return _without_batchnorm(run, args, kwargs, frame, node)
    state = external_layer(name, *plain_arguments(args, kwargs, open_kwargs))
    if state is None and "." in name:
        from bn_audit.source import zoo

        state = zoo.model(name, *plain_arguments(args, kwargs, open_kwargs))
    return Module.grow(state, step) if state is not None else None


def _settings(leaf: str, args: tuple[object, ...], kwargs: dict[str, object], step: Step) -> dict[str, Value]:
    """The attributes in which a layer of torch keeps its arguments."""
    found: dict[str, Value] = {}
    for name, value in layer_settings(leaf, args, kwargs).items():
        if isinstance(value, tuple) and UNKNOWN not in value:
            found[name] = ListVal([Const(part, step) for part in value], "tuple", step)
        elif value is None or isinstance(value, (bool, int, float, str)):
            found[name] = Const(value, step)
        elif value is UNKNOWN:
            found[name] = Unknown(f"{name} of this layer is not known", step)
    return found


def _fill_container(run: Run, module: Module, kind: str, args: Arguments, kwargs: dict[str, Value], step: Step) -> None:
    first = calls.argument(args, kwargs, 0, {"ModuleList": "modules", "ModuleDict": "modules"}.get(kind, "values"))
    if kind == "Sequential":
        if len(args) == 1 and isinstance(first, DictVal):
            _fill_from_dict(run, module, first, step)
        elif len(args) == 1 and isinstance(first, (Unknown, ExternalResult)):
            # An OrderedDict as well as a layer, for all that is known.
            reason = first.reason if isinstance(first, Unknown) else f"{first.func.name} is not known"
            module.add_gap(reason, first.origin or step)
        else:
            _fill_from_items(run, module, args, step)
    elif kind == "ModuleDict" and first is not None:
        if isinstance(first, DictVal):
            _fill_from_dict(run, module, first, step)
        else:
            pairs = builtin_calls.call(run, "dict", [first], {}, _frame_of(step), step.node)
            if isinstance(pairs, DictVal):
                _fill_from_dict(run, module, pairs, step)
    elif kind == "ModuleList" and first is not None:
        _fill_from_items(run, module, operations.iterate(run, first), step)
    elif kind == "ParameterList" and first is not None:
        _add_parameters(run, module, operations.iterate(run, first), step)
    elif kind == "ParameterDict" and first is not None:
        _name_parameters(run, module, first, step)


def _add_parameters(run: Run, module: Module, items: Arguments, step: Step) -> None:
    """``ParameterList`` from items, ``append`` and ``extend``."""
    for item in items:
        if isinstance(item, TensorVal) and not any(isinstance(found, RegistryGap) for found in module.params.values()):
            module.params[str(len(module.params))] = replace_tensor(item, parameter=True)
        else:
            module.params[f"?{len(module.params)}"] = RegistryGap("parameters that are not known", step)
        if run.repeats(module):
            module.params[f"?{len(module.params)}"] = RegistryGap("filled in a loop of unknown length", step)


def _name_parameters(run: Run, module: Module, table: Value, step: Step) -> None:
    """``ParameterDict`` from a dict or pairs, and ``update``."""
    if not isinstance(table, DictVal):
        table = builtin_calls.call(run, "dict", [table], {}, _frame_of(step), step.node)
    for key, value in table.items.items() if isinstance(table, DictVal) else ():
        _name_parameter(run, module, str(key), value, step)
    if not isinstance(table, DictVal) or table.open:
        module.params[f"?{len(module.params)}"] = RegistryGap("parameters that are not known", step)


def _name_parameter(run: Run, module: Module, key: str, value: Value, step: Step) -> None:
    if isinstance(value, TensorVal):
        module.params[key] = replace_tensor(value, parameter=True)
    else:
        module.params[key] = RegistryGap("a parameter that is not known", step)
    if run.repeats(module):
        module.params[f"?{len(module.params)}"] = RegistryGap("filled in a loop of unknown length", step)


def set_parameter(run: Run, module: Module, key: Value, value: Value, step: Step) -> None:
    """``parameters[key] = value`` for a ParameterList or ParameterDict."""
    name = key.value if isinstance(key, Const) else None
    if isinstance(name, int) and not isinstance(name, bool):
        name = str(name % len(module.params)) if module.params and -len(module.params) <= name else None
    if isinstance(name, str):
        _name_parameter(run, module, name, value, step)
    else:
        module.params[f"?{len(module.params)}"] = RegistryGap("a parameter under a key that is not known", step)


def _frame_of(step: Step) -> Frame:
    return Frame("module", step.module, None)


def replace_tensor(tensor: TensorVal, *, parameter: bool) -> TensorVal:
    """The same tensor wrapped as a Parameter (identity is kept where it is one already)."""
    if tensor.parameter == parameter:
        return tensor
    return TensorVal(tensor.shape, tensor.dtype, tensor.origin, parameter=parameter, number=tensor.number)


def _fill_from_items(run: Run, module: Module, items: Arguments, step: Step) -> None:
    for item in items:
        _append(run, module, item, step)


def _append(run: Run, module: Module, item: Value | Hole, step: Step, name: str | None = None) -> None:
    run.step(len(module.children) // 64)
    certain = not any(uncertain_name(label) for label in module.children)
    number = sum(1 for label in module.children if not label.startswith("?"))
    label = name if name is not None else (str(number) if certain else f"{number}+")
    if isinstance(item, Module):
        module.children[label] = item
        if run.repeats(module):
            module.add_gap("filled in a loop of unknown length", step)
    elif isinstance(item, Const) and item.value is None:
        module.children[label] = None
    elif isinstance(item, Hole):
        module.add_gap("holds an unknown number of further layers", step)
    else:
        reason = item.reason if isinstance(item, Unknown) else "a layer that is not known"
        if isinstance(item, ExternalResult):
            reason = f"{item.func.name} is not known"
        module.children[label] = RegistryGap(reason, item.origin or step)


def _fill_from_dict(run: Run, module: Module, table: DictVal, step: Step) -> None:
    for key, value in table.items.items():
        _append(run, module, value, step, str(key))
    if table.open:
        module.add_gap("holds layers under names that are not known", step)


def init(
    run: Run,
    base: External,
    module: Module,
    args: Arguments,
    kwargs: dict[str, Value],
    open_kwargs: bool,
    frame: Frame,
    node: cst.CSTNode,
) -> None:
    """``super().__init__(...)`` of a module into a base class outside the project."""
    step = Step(frame.module, node)
    if module.cls is not None and taught.is_batchnorm(base, module.cls.module.taught):
        taught.register_batchnorm(module, module.origin or step)
        return
    name = canonical(base.name)
    leaf = name.rpartition(".")[2]
    kind = base_kind(name)
    if kind == "torch":
        for table in (module.params, module.buffers, module.children):
            table.clear()  # so does nn.Module.__init__ when it is called a second time
        module.persistent.clear()
        return
    if kind == "plain":
        return
    if kind == "layer" and leaf in CONTAINERS:
        _fill_container(run, module, leaf, args, kwargs, step)
        return
    state: ModuleState | None = None
    if kind == "layer":
        # The abstract bases of torch's norms register what their concrete classes do.
        leaf = {"_BatchNorm": "BatchNorm2d", "_NormBase": "BatchNorm2d", "_InstanceNorm": "InstanceNorm2d"}.get(
            leaf, leaf
        )
        given = plain_arguments(args, kwargs, open_kwargs)
        state = torch_layer(leaf, *given)
        module.attrs.update(_settings(leaf, *given, step))
    if state is None:
        state = external_layer(name, *plain_arguments(args, kwargs, open_kwargs))
    if state is None and module.cls is not None and not _builds_itself(module.cls):
        from bn_audit.source import zoo

        state = zoo.model(name, *plain_arguments(args, kwargs, open_kwargs))
    if state is None:
        module.add_gap(f"its base class {base.name} is not followed", step)
        return
    module.fill(state, module.origin)
    if module.norm is not None:
        module.norm = replace(module.norm, type=module.type_name)


def _builds_itself(cls: ClassVal) -> bool:
    """Whether a class may build parts of a model in its own way which the constructor of its base asks for: only its
    public methods and what Python calls are certainly none of these."""
    named = (entry.attrs for entry in classes.mro(cls) if isinstance(entry, ClassVal))
    private = (name for attrs in named for name in attrs if name.startswith("_") and not name.endswith("__"))
    return any(private)


# --- functions -------------------------------------------------------------------------------------------------------

_FACTORIES = frozenset(
    [
        "zeros",
        "ones",
        "empty",
        "rand",
        "randn",
        "full",
        "eye",
        "arange",
        "linspace",
        "tensor",
        "as_tensor",
        "Tensor",
        "randint",
        "normal",
    ]
)
_LIKE = frozenset(["zeros_like", "ones_like", "empty_like", "rand_like", "randn_like", "full_like"])


_ELEMENTWISE = frozenset({"log", "exp", "sqrt", "sin", "cos", "tanh", "sigmoid", "abs", "neg", "square", "rsqrt"})


def _dtype_argument(kwargs: dict[str, Value]) -> str | None:
    value = kwargs.get("dtype")
    found = plain(value) if value is not None else None
    return found.name if isinstance(found, DType) else None


def _tensor(run: Run, leaf: str, args: Arguments, kwargs: dict[str, Value], step: Step) -> Value:
    dtype = _dtype_argument(kwargs)
    unknown_dtype = (
        "dtype" in kwargs
        and dtype is None
        and not (isinstance(kwargs["dtype"], Const) and kwargs["dtype"].value is None)
    )
    if leaf in ("tensor", "as_tensor"):
        return _literal_tensor(calls.positional(args, 0), dtype, unknown_dtype, step)
    if leaf == "Tensor":
        first = calls.positional(args, 0)
        if isinstance(first, ListVal):
            return _literal_tensor(first, "float32", False, step)
        return TensorVal(_shape(run, args), "float32", step)
    if leaf == "arange":
        numbers = builtin_calls.constants(args)
        shape: tuple[int | None, ...] = (None,)
        guess: str | None = None
        if numbers and all(isinstance(number, int) for number in numbers) and not kwargs.keys() - {"dtype", "device"}:
            with contextlib.suppress(TypeError, ValueError):
                shape = (len(range(*numbers)),)
            guess = "int64"
        elif numbers and any(isinstance(number, float) for number in numbers):
            guess = "float32"
        return TensorVal(shape, dtype or (None if unknown_dtype else guess), step)
    sizes = args
    if leaf == "full":
        sizes = args[:1]
    if leaf == "linspace":
        steps = calls.argument(args, kwargs, 2, "steps")
        length = steps.value if isinstance(steps, Const) and isinstance(steps.value, int) else None
        return TensorVal((length,), dtype or (None if unknown_dtype else "float32"), step)
    if leaf == "eye":
        one = calls.positional(args, 0)
        two = calls.positional(args, 1) or one
        dims = tuple(v.value if isinstance(v, Const) and isinstance(v.value, int) else None for v in (one, two))
        return TensorVal(dims, dtype or (None if unknown_dtype else "float32"), step)
    if leaf in ("randint", "normal"):
        return TensorVal(None, dtype or ("int64" if leaf == "randint" and not unknown_dtype else None), step)
    given = kwargs.get("size")
    shape_found = _shape(run, sizes if given is None else [given])
    default: str | None = "float32"
    if leaf == "full":
        fill = calls.argument(args, kwargs, 1, "fill_value")
        default = _number_dtype(fill.value) if isinstance(fill, Const) else None
    number = None
    if shape_found == () and dtype in _INTEGERS and leaf in ("zeros", "ones"):
        number = 0 if leaf == "zeros" else 1
    return TensorVal(shape_found, dtype or (None if unknown_dtype else default), step, number=number)


_INTEGERS = frozenset({"int64", "int32", "int16", "int8", "uint8"})


def _shape(run: Run, args: Arguments) -> tuple[int | None, ...] | None:
    items = calls.items_of(run, list(args))
    dims: list[int | None] = []
    for item in items:
        if isinstance(item, Hole):
            return None
        if isinstance(item, ListVal):
            return None
        dims.append(item.value if isinstance(item, Const) and isinstance(item.value, int) else None)
        if isinstance(item, Unknown) and len(items) == 1:
            return None  # may be a size as well as a dimension
    return tuple(dims)


def _number_dtype(value: object) -> str | None:
    if isinstance(value, bool):
        return "bool"
    return {int: "int64", float: "float32", complex: "complex64"}.get(type(value))


def _literal_tensor(value: Value | None, dtype: str | None, unknown_dtype: bool, step: Step) -> Value:
    shape: list[int | None] = []
    leaf: Value | Hole | None = value
    while isinstance(leaf, ListVal):
        if leaf.open:
            return TensorVal(None, dtype, step)
        shape.append(len(leaf.items))
        leaf = leaf.items[0] if leaf.items else None
    if isinstance(leaf, TensorVal):
        return TensorVal(None if shape else leaf.shape, dtype or (None if unknown_dtype else leaf.dtype), step)
    if not isinstance(leaf, Const):
        return TensorVal(None if value is None or isinstance(leaf, Unknown) else tuple(shape), dtype, step)
    found = dtype or (None if unknown_dtype else _number_dtype(leaf.value))
    if dtype is None and not unknown_dtype and found == "int64" and isinstance(value, ListVal):
        # One float among the numbers makes the tensor float.
        flat = _numbers(value)
        if flat is None:
            found = None
        elif any(isinstance(number, float) for number in flat):
            found = "float32"
    number = leaf.value if not shape and isinstance(leaf.value, int) and found in _INTEGERS else None
    return TensorVal(tuple(shape), found, step, number=number)


def _numbers(value: ListVal) -> list[Any] | None:
    found: list[Any] = []
    for item in value.items:
        if isinstance(item, ListVal):
            inner = _numbers(item)
            if inner is None:
                return None
            found.extend(inner)
        elif isinstance(item, Const):
            found.append(item.value)
        else:
            return None
    return found


def _parameter(run: Run, args: Arguments, kwargs: dict[str, Value], frame: Frame, node: cst.CSTNode) -> Value:
    data = calls.argument(args, kwargs, 0, "data")
    step = Step(frame.module, node)
    if isinstance(data, TensorVal):
        return TensorVal(data.shape, data.dtype, step, parameter=True, number=data.number)
    return TensorVal(None, None, step, parameter=True)


def _wrapper(type_name: str, child: str) -> Callable[..., Value]:
    def wrap(run: Run, args: Arguments, kwargs: dict[str, Value], frame: Frame, node: cst.CSTNode) -> Value:
        inner = calls.argument(args, kwargs, 0, "module" if child == "module" else "model")
        if isinstance(inner, Module):
            module = Module(type_name, None, Step(frame.module, node))
            module.children[child] = inner
            return module
        if child != "module" and isinstance(inner, (Func, ClassVal)):
            return inner
        return (
            inner
            if isinstance(inner, Unknown)
            else run.unknown("wraps something that is not known", frame.module, node, called=True)
        )

    return wrap


def _script(run: Run, args: Arguments, kwargs: dict[str, Value], frame: Frame, node: cst.CSTNode) -> Value:
    """``torch.jit.script`` and ``trace``: the same state, but no module is a ``_BatchNorm`` any more."""
    inner = calls.argument(args, kwargs, 0, "obj")
    if not isinstance(inner, Module):
        return inner if inner is not None else run.unknown("not followed", frame.module, node)
    scripted = clone_module(inner, {})
    for _, module in scripted.modules():
        if module.norm is not None:
            module.norm = replace(module.norm, batchnorm=False)
    return scripted


def _to_sync(run: Run, args: Arguments, kwargs: dict[str, Value], frame: Frame, node: cst.CSTNode) -> Value:
    inner = calls.argument(args, kwargs, 0, "module")
    if not isinstance(inner, Module):
        return inner if inner is not None else run.unknown("not followed", frame.module, node)
    for _, module in inner.modules():
        if module.norm is not None and module.norm.batchnorm and module.norm.family == "batch":
            module.norm = replace(module.norm, type="SyncBatchNorm", family="sync")
            module.type_name = "SyncBatchNorm"
    return inner


def _without_batchnorm(run: Run, args: Arguments, kwargs: dict[str, Value], frame: Frame, node: cst.CSTNode) -> Value:
    """Opacus: every BatchNorm becomes a GroupNorm, in a copy of the model."""
    inner = calls.argument(args, kwargs, 0, "module")
    if not isinstance(inner, Module):
        return inner if inner is not None else run.unknown("not followed", frame.module, node)
    fixed = clone_module(inner, {})
    for _, module in list(fixed.modules()):
        for name, child in module.children.items():
            if isinstance(child, Module) and child.norm is not None and child.norm.batchnorm:
                module.children[name] = _group_norm(child, Step(frame.module, node))
    return _group_norm(fixed, Step(frame.module, node)) if fixed.norm is not None and fixed.norm.batchnorm else fixed


def _group_norm(norm: Module, step: Step) -> Module:
    made = Module("GroupNorm", None, step)
    features = norm.norm.features if norm.norm is not None else None
    for name in ("weight", "bias"):
        made.params[name] = TensorVal((features,), "float32", step, parameter=True)
    return made


def _hub(run: Run, args: Arguments, kwargs: dict[str, Value], frame: Frame, node: cst.CSTNode) -> Value:
    from bn_audit.source import zoo

    state = zoo.model("torch.hub.load", *plain_arguments(args, kwargs))
    step = Step(frame.module, node)
    if state is not None:
        return Module.grow(state, step)
    return ExternalResult(External("torch.hub.load"), args, kwargs, False, step)


_FUNCTIONS: dict[str, Callable[..., Value]] = {
    "torch.nn.Parameter": _parameter,
    "torch.nn.Buffer": lambda run, args, kwargs, frame, node: _buffer_value(run, args, kwargs, frame, node),
    "torch.nn.DataParallel": _wrapper("DataParallel", "module"),
    "torch.nn.DistributedDataParallel": _wrapper("DistributedDataParallel", "module"),
    "torch.compile": _wrapper("OptimizedModule", "_orig_mod"),
    "torch.jit.script": _script,
    "torch.jit.trace": _script,
    "torch.nn.SyncBatchNorm.convert_sync_batchnorm": _to_sync,
    "torch.hub.load": _hub,
}


def _buffer_value(run: Run, args: Arguments, kwargs: dict[str, Value], frame: Frame, node: cst.CSTNode) -> Value:
    data = calls.argument(args, kwargs, 0, "data")
    return data if isinstance(data, TensorVal) else TensorVal(None, None, Step(frame.module, node))


def _utility(
    run: Run, name: str, leaf: str, args: Arguments, kwargs: dict[str, Value], frame: Frame, node: cst.CSTNode
) -> Value | None:
    if leaf in ("weight_norm", "spectral_norm", "orthogonal", "register_parametrization", "remove_weight_norm"):
        module = calls.positional(args, 0)
        if isinstance(module, Module):
            # The keys of the weight change their names; which ones depends on torch's version.
            # What takes the weight's place stands after its other parameters, or in a module of its own.
            if module.params.pop("weight", None) is not None:
                gap = RegistryGap(f"{leaf} puts others in the place of its weight", Step(frame.module, node))
                module.params[f"?{len(module.params)}"] = gap
                module.add_gap(gap.reason, gap.step)
            return module
        return module
    if leaf.startswith("fuse_conv_bn"):
        return run.unknown("a fused layer", frame.module, node, called=True)
    if name.startswith("torch.nn.init."):
        return calls.positional(args, 0)
    return None


# --- methods ---------------------------------------------------------------------------------------------------------

_SELF = frozenset(
    [
        "cuda",
        "cpu",
        "eval",
        "train",
        "requires_grad_",
        "share_memory",
        "to_empty",
        "xpu",
        "zero_grad",
        "compile",
        "summary",
        "load_state_dict",
        "gradient_checkpointing_enable",
        "tie_weights",
        "init_weights",
        "reset_parameters",
    ]
)
_FLOATS = {"half": "float16", "double": "float64", "bfloat16": "bfloat16", "float": "float32"}


def method(
    run: Run, module: Module, name: str, args: Arguments, kwargs: dict[str, Value], frame: Frame, node: cst.CSTNode
) -> Value:
    """A method of ``nn.Module`` or of a container."""
    step = Step(frame.module, node)
    if name in _SELF:
        return module
    if name in _FLOATS:
        _cast(module, _FLOATS[name])
        return module
    if name in ("to", "type"):
        for arg in [*args, *kwargs.values()]:
            found = plain(arg)
            if isinstance(found, DType):
                _cast(module, found.name)
        return module
    handler = _METHODS.get(name)
    if handler is not None:
        return handler(run, module, args, kwargs, step)
    if name in ("__setattr__", "__delattr__"):
        return builtin_calls.call(run, name.strip("_"), [module, *args], kwargs, frame, node)
    if name == "apply":
        _apply(run, module, calls.positional(args, 0), frame, node)
        return module
    if name in ("reset_classifier", "resize_token_embeddings", "set_classifier"):
        for label in ("fc", "head", "classifier", "last_linear", "head_fc"):
            if label in module.children:
                module.children[label] = RegistryGap(f"{name} changes it", step)
        return Const(None)
    return run.unknown(f"{name}() of a module is not followed", frame.module, node, called=True)


def forward(module: Module) -> None:
    """A forward pass: lazy layers below are initialised by it."""
    for _, part in module.modules():
        if part.norm is not None and part.norm.lazy:
            part.norm = replace(part.norm, lazy=False)


def is_method(name: str) -> bool:
    """Whether a name is a method of torch's modules and containers that is told from others."""
    return name in _SELF or name in _FLOATS or name in _METHODS or name in _OTHERS or name == "apply"


_OTHERS = frozenset(
    [
        "to",
        "type",
        "forward",
        "reset_classifier",
        "resize_token_embeddings",
        "set_classifier",
        "__call__",
        "__setattr__",
        "__delattr__",
    ]
)


def _cast(module: Module, dtype: str) -> None:
    """``module.half()`` and its like: floats change, integers stay."""
    for _, part in module.modules():
        for table in (part.params, part.buffers):
            for name, tensor in table.items():
                if isinstance(tensor, TensorVal) and (tensor.dtype is None or "float" in tensor.dtype):
                    table[name] = TensorVal(
                        tensor.shape,
                        dtype if tensor.dtype is not None else None,
                        tensor.origin,
                        parameter=tensor.parameter,
                    )


def _apply(run: Run, module: Module, func: Value | None, frame: Frame, node: cst.CSTNode) -> None:
    target = func.func if isinstance(func, BoundMethod) else func
    if func is None or not isinstance(target, Func) or not _changes_modules(target):
        return
    for _, part in reversed(list(module.modules())):
        calls.call(run, func, [part], {}, False, frame, node)


_HARMLESS = frozenset({"data", "requires_grad", "momentum", "eps", "training", "inplace"})
"""Attributes of modules and tensors whose assignment registers nothing."""


def _changes_modules(func: Func) -> bool:
    """Whether a function given to ``apply`` may register or replace something, rather than initialise weights."""
    for node in walk(func.node):
        if isinstance(node, cst.Call):
            called = node.func
            name = called.attr.value if isinstance(called, cst.Attribute) else getattr(called, "value", "")
            if name in ("setattr", "add_module", "register_module", "register_buffer", "half", "double", "float", "to"):
                return True
        target = node.target if isinstance(node, cst.AssignTarget) else None
        if isinstance(target, cst.Attribute) and target.attr.value not in _HARMLESS:
            return True
    return False


def _add_module(run: Run, module: Module, args: Arguments, kwargs: dict[str, Value], step: Step) -> Value:
    name, child = calls.argument(args, kwargs, 0, "name"), calls.argument(args, kwargs, 1, "module")
    if isinstance(name, Const) and isinstance(name.value, str) and child is not None:
        module.attrs.pop(name.value, None)
        _append(run, module, child, step, name.value)
    else:
        if isinstance(child, Module):
            label = name.text if isinstance(name, Unknown) and name.text else "?"
            module.children[label] = child
        module.add_gap("added under a name that is not known", step)
    return Const(None)


def _register_buffer(run: Run, module: Module, args: Arguments, kwargs: dict[str, Value], step: Step) -> Value:
    name, tensor = calls.argument(args, kwargs, 0, "name"), calls.argument(args, kwargs, 1, "tensor")
    persistent = calls.argument(args, kwargs, 2, "persistent")
    if not (isinstance(name, Const) and isinstance(name.value, str)):
        module.buffers[f"?{len(module.buffers)}"] = RegistryGap("a buffer of unknown name", step)
        return Const(None)
    label = name.value
    module.attrs.pop(label, None)
    if isinstance(tensor, Const) and tensor.value is None:
        module.buffers[label] = None
    else:
        module.buffers[label] = tensor if isinstance(tensor, TensorVal) else TensorVal(None, None, step)
    if persistent is None or operations.truth(persistent):
        module.persistent.add(label)
    elif operations.truth(persistent) is None:
        module.buffers[label] = RegistryGap("a buffer that may or may not be saved", step)
    return Const(None)


def _register_parameter(run: Run, module: Module, args: Arguments, kwargs: dict[str, Value], step: Step) -> Value:
    name, tensor = calls.argument(args, kwargs, 0, "name"), calls.argument(args, kwargs, 1, "param")
    if isinstance(name, Const) and isinstance(name.value, str):
        if isinstance(tensor, Const) and tensor.value is None:
            module.params[name.value] = None
        elif isinstance(tensor, TensorVal):
            module.params[name.value] = replace_tensor(tensor, parameter=True)
        else:
            module.params[name.value] = TensorVal(None, None, step, parameter=True)
    else:
        module.params[f"?{len(module.params)}"] = RegistryGap("a parameter of unknown name", step)
    return Const(None)


def _children(run: Run, module: Module, args: Arguments, kwargs: dict[str, Value], step: Step) -> Value:
    items: list[Value | Hole] = [
        HOLE if isinstance(child, RegistryGap) else child for child in module.children.values() if child is not None
    ]
    return ListVal(items, "list", step)


def _named_children(run: Run, module: Module, args: Arguments, kwargs: dict[str, Value], step: Step) -> Value:
    items: list[Value | Hole] = [
        HOLE if isinstance(child, RegistryGap) else ListVal([Const(name), child], "tuple")
        for name, child in module.children.items()
        if child is not None
    ]
    return ListVal(items, "list", step)


def _modules(run: Run, module: Module, args: Arguments, kwargs: dict[str, Value], step: Step) -> Value:
    found = list(module.modules())
    items: list[Value | Hole] = [part for _, part in found]
    return ListVal([*items, HOLE] if _has_gap(found) else items, "list", step)


def _named_modules(run: Run, module: Module, args: Arguments, kwargs: dict[str, Value], step: Step) -> Value:
    found = list(module.modules())
    items: list[Value | Hole] = [ListVal([Const(path), part], "tuple") for path, part in found]
    return ListVal([*items, HOLE] if _has_gap(found) else items, "list", step)


def _has_gap(found: list[tuple[str, Module]]) -> bool:
    return any(isinstance(child, RegistryGap) for _, part in found for child in part.children.values())


def _append_method(run: Run, module: Module, args: Arguments, kwargs: dict[str, Value], step: Step) -> Value:
    if classes.container(module) == "ParameterList":
        _add_parameters(run, module, args[:1] or [HOLE], step)
        return module
    for item in args[:1] or [HOLE]:
        _append(run, module, item, step)
    return module


def _extend(run: Run, module: Module, args: Arguments, kwargs: dict[str, Value], step: Step) -> Value:
    first = args[0] if args else HOLE
    items: Arguments = [HOLE] if isinstance(first, Hole) else operations.iterate(run, first)
    if classes.container(module) == "ParameterList":
        _add_parameters(run, module, items, step)
        return module
    for item in items:
        _append(run, module, item, step)
    return module


def _insert(run: Run, module: Module, args: Arguments, kwargs: dict[str, Value], step: Step) -> Value:
    index, child = calls.argument(args, kwargs, 0, "index"), calls.argument(args, kwargs, 1, "module")
    rows = list(module.children.values())
    if isinstance(index, Const) and isinstance(index.value, int) and isinstance(child, Module):
        rows.insert(index.value, child)
        module.children = {str(number): row for number, row in enumerate(rows)}
    else:
        module.add_gap("inserted at a place that is not known", step)
    return module


def _update(run: Run, module: Module, args: Arguments, kwargs: dict[str, Value], step: Step) -> Value:
    first = calls.positional(args, 0)
    if first is not None and classes.container(module) == "ParameterDict":
        _name_parameters(run, module, first, step)
        return Const(None)
    table = first if isinstance(first, DictVal) else None
    if table is None and first is not None:
        made = builtin_calls.call(run, "dict", [first], {}, _frame_of(step), step.node)
        table = made if isinstance(made, DictVal) else None
    if table is not None:
        _fill_from_dict(run, module, table, step)
    else:
        module.add_gap("updated with something that is not known", step)
    return Const(None)


def _keys(run: Run, module: Module, args: Arguments, kwargs: dict[str, Value], step: Step) -> Value:
    return ListVal(
        [HOLE if isinstance(child, RegistryGap) else Const(name) for name, child in module.children.items()],
        "list",
        step,
    )


def _pop(run: Run, module: Module, args: Arguments, kwargs: dict[str, Value], step: Step) -> Value:
    key = calls.positional(args, 0)
    if isinstance(key, Const):
        names = list(module.children)
        name = names[key.value] if isinstance(key.value, int) and -len(names) <= key.value < len(names) else key.value
        found = module.children.pop(name, None)
        if isinstance(found, Module):
            return found
    else:
        module.add_gap("a part removed under a key that is not known", step)
    return run.unknown("a part of a module that is not known", step.module, step.node, called=True)


def _get_submodule(run: Run, module: Module, args: Arguments, kwargs: dict[str, Value], step: Step) -> Value:
    target = calls.argument(args, kwargs, 0, "target")
    current: object = module
    if isinstance(target, Const) and isinstance(target.value, str):
        for part in target.value.split(".") if target.value else []:
            current = current.children.get(part) if isinstance(current, Module) else None
        if isinstance(current, Module):
            return current
    return run.unknown("a part of a module that is not known", step.module, step.node, called=True)


def _set_submodule(run: Run, module: Module, args: Arguments, kwargs: dict[str, Value], step: Step) -> Value:
    target, child = calls.argument(args, kwargs, 0, "target"), calls.argument(args, kwargs, 1, "module")
    if isinstance(target, Const) and isinstance(target.value, str):
        *path, last = target.value.split(".")
        holder = _get_submodule(run, module, [Const(".".join(path))], {}, step)
        if isinstance(holder, Module) and isinstance(child, Module):
            holder.children[last] = child
            return Const(None)
    module.add_gap("a part replaced by something that is not known", step)
    return Const(None)


def _tensors(run: Run, module: Module, args: Arguments, kwargs: dict[str, Value], step: Step) -> Value:
    return ListVal([HOLE], "list", step)


def _state_dict(run: Run, module: Module, args: Arguments, kwargs: dict[str, Value], step: Step) -> Value:
    return DictVal(open=True, origin=step)


_METHODS: dict[str, Callable[[Run, Module, Arguments, dict[str, Value], Step], Value]] = {
    "add_module": _add_module,
    "register_module": _add_module,
    "register_buffer": _register_buffer,
    "register_parameter": _register_parameter,
    "children": _children,
    "named_children": _named_children,
    "modules": _modules,
    "named_modules": _named_modules,
    "append": _append_method,
    "extend": _extend,
    "insert": _insert,
    "update": _update,
    "keys": _keys,
    "values": _children,
    "items": _named_children,
    "pop": _pop,
    "get_submodule": _get_submodule,
    "set_submodule": _set_submodule,
    "parameters": _tensors,
    "named_parameters": _tensors,
    "buffers": _tensors,
    "named_buffers": _tensors,
    "state_dict": _state_dict,
}
