"""Calls of what lies outside the project: the functions of Python's library that matter here, and the ways to the
others."""

from __future__ import annotations

import ast
import contextlib
import itertools
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import libcst as cst

from bn_audit.source.interpreter import (
    attributes,
    builtin_calls,
    calls,
    expressions,
    flmodel,
    keras_calls,
    operations,
    records,
    scopes,
    torch_calls,
)
from bn_audit.source.interpreter.frames import Frame
from bn_audit.source.interpreter.libraries import (
    FEDML_AVERAGES,
    FEDML_OPTIMIZER,
    LOCAL_BATCHNORM,
    canonical,
    is_flmodel,
    secretflow_leaf,
)
from bn_audit.source.interpreter.run import Run
from bn_audit.source.interpreter.values import (
    HOLE,
    Const,
    DictVal,
    External,
    ExternalResult,
    Hole,
    Instance,
    ListVal,
    Module,
    Partial,
    Step,
    Value,
    Wrapped,
    dependencies,
)
from bn_audit.wrapping import INTEGERS, Wrapping

if TYPE_CHECKING:
    from bn_audit.source.interpreter.calls import Arguments

__all__ = ["call", "clone"]


def call(
    run: Run,
    func: External,
    args: Arguments,
    kwargs: dict[str, Value],
    open_kwargs: bool,
    frame: Frame,
    node: cst.CSTNode,
    deps: frozenset[str] = frozenset(),
) -> Value:
    """Call something outside the project."""
    step = Step(frame.module, node)
    if func.leaf == "__init__" and args and isinstance(args[0], (Module, Instance)):
        base = External(func.name.rpartition(".")[0])
        calls.external_init(run, base, args[0], args[1:], kwargs, open_kwargs, frame, node, deps)
        return Const(None)
    if is_flmodel(func.name):
        made = ExternalResult(func, args, kwargs, open_kwargs, step)
        flmodel.arrive(run, made, args, kwargs, open_kwargs, frame, node, deps)
        return made
    name = canonical(func.name)
    if func.leaf in _MAKERS:
        args, kwargs = _with_name(run, _MAKERS[func.leaf], args, kwargs, frame, node)
    handler = _HANDLERS.get(name)
    if handler is not None:
        return handler(run, args, kwargs, frame, node)
    if func.package == "math":
        return _math(run, func.leaf, args, frame, node)
    found: Value | None = None
    if func.package in ("tensorflow", "keras", "tf_keras") and not name.startswith("keras."):
        found = keras_calls.operation(args, kwargs, step)
    elif name.startswith("keras."):
        found = keras_calls.construct(run, name, args, kwargs, open_kwargs, frame, node)
    else:
        found = torch_calls.construct(run, name, args, kwargs, open_kwargs, frame, node)
    if found is not None:
        return found
    # Something else takes this in; a module among the arguments may be changed only by what is known to do so.
    return ExternalResult(func, args, kwargs, open_kwargs, step)


def clone(value: Value, memo: dict[int, Value] | None = None) -> Value:
    """``copy.deepcopy``: containers, instances and modules anew, shared parts shared again."""
    memo = {} if memo is None else memo
    if id(value) in memo:
        return memo[id(value)]
    if isinstance(value, ListVal):
        items: list[Value | Hole] = []
        result: Value = ListVal(items, value.kind, value.origin)
        memo[id(value)] = result
        items.extend(item if isinstance(item, Hole) else clone(item, memo) for item in value.items)
        return result
    if isinstance(value, DictVal):
        table = DictVal(open=value.open, origin=value.origin, deps=value.deps)
        memo[id(value)] = table
        table.items.update({key: clone(item, memo) for key, item in value.items.items()})
        return table
    if isinstance(value, Module):
        return torch_calls.clone_module(value, memo)
    if isinstance(value, Instance):
        twin = Instance(value.cls, value.origin)
        memo[id(value)] = twin
        twin.symbolic = value.symbolic
        twin.attrs = {key: clone(item, memo) for key, item in value.attrs.items()}
        return twin
    return value


def _instantiate(run: Run, args: Arguments, kwargs: dict[str, Value], frame: Frame, node: cst.CSTNode) -> Value:
    """Hydra's ``instantiate(cfg.model)``: what the settings beside the program name, called with what they say."""
    key = run.settings.get(id(node)) or _text_of(frame, node).rpartition(".")[2]
    hint = run.likely.get(f"{key}._target_")
    nothing = run.unknown("made from a configuration that is not known", frame.module, node, called=True)
    if hint is None or not isinstance(hint.value, str):
        return nothing
    text = f"{key}._target_ == {hint.value!r}"
    if not run.decide(text, lambda: text, dependencies(args[0]) if args else frozenset(), likely=True):
        return nothing
    module, _, name = hint.value.rpartition(".")
    func = attributes.get(run, scopes.import_module(run, frame.module, module, node), name, frame, node)
    named = {
        setting.rpartition(".")[2]: _set_value(run, value, frame, node)
        for setting, value in run.likely.items()
        if setting.startswith(f"{key}.") and not setting.rpartition(".")[2].startswith("_")
    }
    return calls.call(run, func, args[1:], {**named, **kwargs}, False, frame, node)


def _set_value(run: Run, value: Const, frame: Frame, node: cst.CSTNode) -> Value:
    """A setting as an argument: a list is written out, what refers to another setting is not followed."""
    text = value.value
    if isinstance(text, str) and text.startswith(("$", "[", "{")):
        with contextlib.suppress(ValueError, SyntaxError, MemoryError, RecursionError):
            items = ast.literal_eval(text)
            if isinstance(items, list):
                return ListVal([Const(item) for item in items], "list", Step(frame.module, node))
        return run.unknown("a setting that is not known", frame.module, node)
    return value


def _fedml_model(run: Run, args: Arguments, kwargs: dict[str, Value], frame: Frame, node: cst.CSTNode) -> Value:
    """FedML's ``model.create(args, classes)``, which takes the model's name from the settings."""
    variants = run.beside(frame.module, "model_args.model")
    for name in dict.fromkeys(row["model_args.model"] for row in variants if _averages(row)):
        classes = run.unknown("the number of classes")
        given = {"model": Const(name), "class_num": calls.argument(args, kwargs, 1, "output_dim") or classes}
        found = torch_calls.construct(run, "fedml.model.create", [], given, False, frame, node)
        # One that is not recorded is left to the others: nothing could be said of it.
        if isinstance(found, Module) and found.children and _is_chosen(run, f"args.model == {name!r}"):
            return found
    return run.unknown("made from a configuration that is not known", frame.module, node, called=True)


def _is_chosen(run: Run, text: str) -> bool | None:
    return run.decide(text, lambda: text, frozenset(), likely=True)


def _averages(settings: Mapping[str, object]) -> bool:
    return str(settings.get(FEDML_OPTIMIZER)).startswith(FEDML_AVERAGES)


_MAKERS = {
    "create_model": ("model_name", "arch"),
    "get_model": ("name",),
    "TorchVisionFCModel": ("model_name",),
    "EfficientNetBN": ("model_name",),
    "from_name": ("model_name",),
}
"""What in libraries makes a model of a name, its first argument, and what keywords it has for it."""


def _with_name(
    run: Run, keywords: tuple[str, ...], args: Arguments, kwargs: dict[str, Value], frame: Frame, node: cst.CSTNode
) -> tuple[Arguments, dict[str, Value]]:
    """The arguments of such a call, the name as what it likely is."""
    if args:
        first = args[0]
        if isinstance(first, Value):
            args = [operations.supposed(run, first, lambda: _text_of(frame, node)), *args[1:]]
        return args, kwargs
    word = next((word for word in keywords if word in kwargs), None)
    if word is None:
        return args, kwargs
    return args, {**kwargs, word: operations.supposed(run, kwargs[word], lambda: _text_of(frame, node, word))}


def _text_of(frame: Frame, node: cst.CSTNode, keyword: str = "") -> str:
    """How a message writes an argument of a call: the first, or that of a keyword."""
    for arg in node.args if isinstance(node, cst.Call) else ():
        if (arg.keyword.value if arg.keyword is not None else "") == keyword:
            return expressions.code(frame, arg.value)
    return "the name"


def _partial(run: Run, args: Arguments, kwargs: dict[str, Value], frame: Frame, node: cst.CSTNode) -> Value:
    if args and isinstance(args[0], Value):
        return Partial(args[0], list(args[1:]), dict(kwargs), Step(frame.module, node))
    return run.unknown("a partial of something that is not known", frame.module, node, called=True)


def _local_batchnorm(run: Run, args: Arguments, kwargs: dict[str, Value], frame: Frame, node: cst.CSTNode) -> Value:
    """Our own wrapper: what makes a model, a TorchModel, or (without either) what a decorator is."""
    step = Step(frame.module, node)
    unsure = any(isinstance(arg, Hole) for arg in args) or (
        isinstance(node, cst.Call) and any(arg.star == "**" for arg in node.args)
    )
    given = {name: value for name, value in kwargs.items() if name in ("strategy", "integers")}
    found = next(
        (value for value in (*args[:1], kwargs.get("model"), kwargs.get("model_fn")) if value is not None), None
    )
    if found is None or (isinstance(found, Const) and found.value is None):
        return Partial(External("bn_audit.federated.secretflow.local_batchnorm"), [], given, step)
    if isinstance(found, Hole):
        return run.unknown("what local_batchnorm is given is not known", frame.module, node, called=True)
    integers = _text(given.get("integers"), None if unsure else "refuse")
    wrapping = Wrapping(_text(given.get("strategy"), None), next((one for one in INTEGERS if one == integers), None))
    if isinstance(found, ExternalResult) and secretflow_leaf(found.func.name) == "TorchModel":
        inner = calls.argument(found.args, found.kwargs, 0, "model_fn")
        if inner is None:
            return found
        wrapped = Wrapped(inner, wrapping, step)
        rest = found.args[1:] if found.args else []
        named = {name: value for name, value in found.kwargs.items() if name != "model_fn"}
        made = [wrapped, *rest] if found.args else []
        return ExternalResult(
            found.func, made, named if made else {"model_fn": wrapped, **named}, found.open, found.origin
        )
    return Wrapped(found, wrapping, step)


def _text(value: Value | None, default: str | None) -> str | None:
    if value is None:
        return default
    return value.value if isinstance(value, Const) and isinstance(value.value, str) else None


def _copy(run: Run, args: Arguments, kwargs: dict[str, Value], frame: Frame, node: cst.CSTNode) -> Value:
    value = calls.argument(args, kwargs, 0, "x")
    if value is None:
        return run.unknown("a copy of something that is not known", frame.module, node)
    memo: dict[int, Value] = {}
    copied = clone(value, memo)
    run.step(len(memo))  # a model that holds copies of itself doubles with each
    return copied


def _dict(run: Run, args: Arguments, kwargs: dict[str, Value], frame: Frame, node: cst.CSTNode) -> Value:
    return builtin_calls.call(run, "dict", args, kwargs, frame, node)


def _defaultdict(run: Run, args: Arguments, kwargs: dict[str, Value], frame: Frame, node: cst.CSTNode) -> Value:
    made = builtin_calls.call(run, "dict", args[1:], kwargs, frame, node)
    factory = calls.argument(args, kwargs, 0, "default_factory")
    if isinstance(made, DictVal) and not (isinstance(factory, Const) and factory.value is None):
        made.factory = factory
    return made


def _named_tuple(run: Run, args: Arguments, kwargs: dict[str, Value], frame: Frame, node: cst.CSTNode) -> Value:
    return records.named_tuple(run, args, kwargs, frame, node)


def _typed_named_tuple(run: Run, args: Arguments, kwargs: dict[str, Value], frame: Frame, node: cst.CSTNode) -> Value:
    return records.named_tuple(run, args, kwargs, frame, node, typed=True)


def _replace(run: Run, args: Arguments, kwargs: dict[str, Value], frame: Frame, node: cst.CSTNode) -> Value:
    return records.replaced(run, calls.positional(args, 0), kwargs, False, frame, node)


def _asdict(run: Run, args: Arguments, kwargs: dict[str, Value], frame: Frame, node: cst.CSTNode) -> Value:
    value = calls.positional(args, 0)
    return records.as_dict(value) if value is not None else run.unknown("not followed", frame.module, node)


def _namespace(run: Run, args: Arguments, kwargs: dict[str, Value], frame: Frame, node: cst.CSTNode) -> Value:
    made = ExternalResult(External("types.SimpleNamespace"), args, kwargs, False, Step(frame.module, node))
    made.attrs.update(kwargs)
    return made


def _chain(run: Run, args: Arguments, kwargs: dict[str, Value], frame: Frame, node: cst.CSTNode) -> Value:
    items: list[Value | Hole] = []
    for arg in args:
        items.extend([HOLE] if isinstance(arg, Hole) else operations.iterate(run, arg))
    return ListVal(items, "list", Step(frame.module, node))


def _chain_from(run: Run, args: Arguments, kwargs: dict[str, Value], frame: Frame, node: cst.CSTNode) -> Value:
    first = args[0] if args else HOLE
    rows: Arguments = [HOLE] if isinstance(first, Hole) else operations.iterate(run, first)
    return _chain(run, rows, kwargs, frame, node)


def _product(run: Run, args: Arguments, kwargs: dict[str, Value], frame: Frame, node: cst.CSTNode) -> Value:
    rows = [[HOLE] if isinstance(arg, Hole) else operations.iterate(run, arg) for arg in args]
    size = math.prod(len(row) for row in rows)
    if "repeat" in kwargs or size > 1024 or any(isinstance(item, Hole) for row in rows for item in row):
        return ListVal([HOLE], "list", Step(frame.module, node))
    return ListVal([ListVal(list(row), "tuple") for row in itertools.product(*rows)], "list", Step(frame.module, node))


def _accumulate(run: Run, args: Arguments, kwargs: dict[str, Value], frame: Frame, node: cst.CSTNode) -> Value:
    numbers = builtin_calls.constants(operations.iterate(run, args[0])) if args and isinstance(args[0], Value) else None
    step = Step(frame.module, node)
    if numbers is None or len(args) > 1 or kwargs or not all(isinstance(number, (int, float)) for number in numbers):
        return ListVal([HOLE], "list", step)
    return ListVal([Const(number) for number in itertools.accumulate(numbers)], "list", step)


def _pairwise(run: Run, args: Arguments, kwargs: dict[str, Value], frame: Frame, node: cst.CSTNode) -> Value:
    items = operations.iterate(run, args[0]) if args and isinstance(args[0], Value) else [HOLE]
    step = Step(frame.module, node)
    if any(isinstance(item, Hole) for item in items):
        return ListVal([HOLE], "list", step)
    return ListVal([ListVal([one, two], "tuple") for one, two in itertools.pairwise(items)], "list", step)


def _islice(run: Run, args: Arguments, kwargs: dict[str, Value], frame: Frame, node: cst.CSTNode) -> Value:
    edges = builtin_calls.constants(args[1:])
    items: list[Value | Hole] = operations.iterate(run, args[0]) if args and isinstance(args[0], Value) else [HOLE]
    step = Step(frame.module, node)
    stop = slice(*edges).stop if edges and len(edges) <= 3 else None
    head = items if stop is None else items[:stop]
    if edges is None or not 1 <= len(edges) <= 3 or any(isinstance(item, Hole) for item in head):
        return ListVal([HOLE], "list", step)
    return ListVal(items[slice(*edges)], "list", step)


def _count(run: Run, args: Arguments, kwargs: dict[str, Value], frame: Frame, node: cst.CSTNode) -> Value:
    first, by = calls.argument(args, kwargs, 0, "start"), calls.argument(args, kwargs, 1, "step")
    start = first.value if isinstance(first, Const) else (0 if first is None else None)
    width = by.value if isinstance(by, Const) else (1 if by is None else None)
    step = Step(frame.module, node)
    if not isinstance(start, int) or not isinstance(width, int):
        return ListVal([HOLE], "list", step)
    return ListVal([*(Const(start + number * width) for number in range(_COUNTED)), HOLE], "list", step)


_COUNTED = 256
"""How far ``itertools.count`` is followed."""


def _repeat(run: Run, args: Arguments, kwargs: dict[str, Value], frame: Frame, node: cst.CSTNode) -> Value:
    value, times = calls.argument(args, kwargs, 0, "object"), calls.argument(args, kwargs, 1, "times")
    if value is not None and isinstance(times, Const) and isinstance(times.value, int) and times.value <= 1024:
        return ListVal([value] * times.value, "list", Step(frame.module, node))
    return ListVal([value, HOLE] if value is not None else [HOLE], "list", Step(frame.module, node))


def _reduce(run: Run, args: Arguments, kwargs: dict[str, Value], frame: Frame, node: cst.CSTNode) -> Value:
    func, rows = calls.positional(args, 0), calls.positional(args, 1)
    if func is None or rows is None:
        return run.unknown("not followed", frame.module, node)
    items = operations.iterate(run, rows)
    if len(args) > 2:
        items = [args[2], *items]
    if not items or any(isinstance(item, Hole) for item in items):
        return run.unknown("folded over something that is not known", frame.module, node)
    result = items[0]
    assert isinstance(result, Value)
    for item in items[1:]:
        result = calls.call(run, func, [result, item], {}, False, frame, node)
    return result


def _first(run: Run, args: Arguments, kwargs: dict[str, Value], frame: Frame, node: cst.CSTNode) -> Value:
    """Decorators that keep what they are given."""
    value = calls.positional(args, 0)
    return value if value is not None else run.unknown("not followed", frame.module, node)


def _second(run: Run, args: Arguments, kwargs: dict[str, Value], frame: Frame, node: cst.CSTNode) -> Value:
    value = calls.argument(args, kwargs, 1, "val")
    return value if value is not None else run.unknown("not followed", frame.module, node)


def _import(run: Run, args: Arguments, kwargs: dict[str, Value], frame: Frame, node: cst.CSTNode) -> Value:
    name = calls.argument(args, kwargs, 0, "name")
    if name is not None:
        name = operations.supposed(run, name, lambda: _text_of(frame, node))
    if isinstance(name, Const) and isinstance(name.value, str) and not name.value.startswith("."):
        return scopes.import_module(run, frame.module, name.value, node)
    return run.unknown("a module picked by a name that is not known", frame.module, node)


def _decorator(run: Run, args: Arguments, kwargs: dict[str, Value], frame: Frame, node: cst.CSTNode) -> Value:
    """``functools.wraps(f)``: a decorator that keeps what it is given."""
    return External("bn_audit.keep")


def _shuffle(run: Run, args: Arguments, kwargs: dict[str, Value], frame: Frame, node: cst.CSTNode) -> Value:
    """Of more than one item, none is known any more."""
    value = calls.argument(args, kwargs, 0, "x")
    if isinstance(value, ListVal) and len(value.items) > 1:
        value.items[:] = [HOLE]
    return Const(None)


def _operator(name: str) -> Callable[[Run, Arguments, dict[str, Value], Frame, cst.CSTNode], Value]:
    def compute(run: Run, args: Arguments, kwargs: dict[str, Value], frame: Frame, node: cst.CSTNode) -> Value:
        left, right = calls.positional(args, 0), calls.positional(args, 1)
        if left is None or right is None:
            return run.unknown("not followed", frame.module, node)
        return operations.binary(run, name, left, right, frame, node)

    return compute


_HANDLERS: dict[str, Callable[[Run, Arguments, dict[str, Value], Frame, cst.CSTNode], Value]] = {
    "functools.partial": _partial,
    "functools.partialmethod": _partial,
    **dict.fromkeys(LOCAL_BATCHNORM, _local_batchnorm),
    "functools.reduce": _reduce,
    "functools.wraps": _decorator,
    "importlib.import_module": _import,
    "hydra.utils.instantiate": _instantiate,
    "hydra.utils.call": _instantiate,
    "fedml.model.create": _fedml_model,
    "fedml.model.model_hub.create": _fedml_model,
    "typing.cast": _second,
    "functools.lru_cache": _first,
    "functools.cache": _first,
    "bn_audit.keep": _first,
    "contextlib.contextmanager": _first,
    "copy.deepcopy": _copy,
    "copy.copy": _copy,
    "collections.OrderedDict": _dict,
    "typing.OrderedDict": _dict,
    "collections.defaultdict": _defaultdict,
    "collections.namedtuple": _named_tuple,
    "typing.NamedTuple": _typed_named_tuple,
    "dataclasses.asdict": _asdict,
    "dataclasses.replace": _replace,
    "types.SimpleNamespace": _namespace,
    "argparse.Namespace": _namespace,
    "random.shuffle": _shuffle,
    "numpy.random.shuffle": _shuffle,
    "operator.add": _operator("Add"),
    "operator.concat": _operator("Add"),
    "operator.floordiv": _operator("FloorDivide"),
    "operator.mul": _operator("Multiply"),
    "operator.sub": _operator("Subtract"),
    "operator.truediv": _operator("Divide"),
    "itertools.chain": _chain,
    "itertools.chain.from_iterable": _chain_from,
    "itertools.product": _product,
    "itertools.accumulate": _accumulate,
    "itertools.count": _count,
    "itertools.islice": _islice,
    "itertools.pairwise": _pairwise,
    "itertools.repeat": _repeat,
}

_MATH = {
    name: getattr(math, name)
    for name in ("ceil", "floor", "sqrt", "log2", "log", "log10", "gcd", "prod", "trunc", "fabs", "exp", "pow")
}


def _math(run: Run, name: str, args: Arguments, frame: Frame, node: cst.CSTNode) -> Value:
    values: list[Any] | None = builtin_calls.constants(args)
    if values is None and len(args) == 1 and isinstance(args[0], ListVal):
        plain = builtin_calls.constants(args[0].items)
        values = [plain] if plain is not None else None
    func = _MATH.get(name)
    if (
        values is not None
        and func is not None
        and all(not isinstance(v, (int, float)) or abs(v) < 1e12 for v in values)
    ):
        try:
            return Const(func(*values), Step(frame.module, node))
        except (ValueError, TypeError, OverflowError):
            pass
    deps: frozenset[str] = frozenset()
    for arg in args:
        deps |= dependencies(arg)
    return run.unknown("a number that is not known", frame.module, node, deps=deps)
