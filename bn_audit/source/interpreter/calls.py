"""Calls: binding arguments, running functions, making classes and instances."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import libcst as cst

from bn_audit.source.interpreter import (
    builtin_calls,
    changes,
    classes,
    expressions,
    external_calls,
    flmodel,
    keras_calls,
    keras_graph,
    operations,
    records,
    scopes,
    statements,
    taught,
    torch_calls,
)
from bn_audit.source.interpreter.frames import Frame
from bn_audit.source.interpreter.libraries import LOCAL_BATCHNORM, base_kind, is_flmodel, secretflow_leaf
from bn_audit.source.interpreter.needs import BY_NAME, FLMODEL
from bn_audit.source.interpreter.run import MAX_CALL_STEPS, MAX_DEPTH, CallTooLong, Run
from bn_audit.source.interpreter.values import (
    HOLE,
    BoundMethod,
    BuiltinVal,
    ClassVal,
    Const,
    DictVal,
    External,
    ExternalResult,
    Func,
    Hole,
    Instance,
    KerasTensor,
    ListVal,
    Module,
    ModuleRef,
    Omitted,
    Partial,
    Property,
    RegistryGap,
    Step,
    SuperVal,
    Unknown,
    Value,
    Wrapped,
    dependencies,
)
from bn_audit.source.names import Names
from bn_audit.source.names import statements as flat
from bn_audit.source.nodes import dotted_name, walk

if TYPE_CHECKING:
    from bn_audit.source.interpreter.needs import Needs

__all__ = [
    "Arguments",
    "attribute_set_elsewhere",
    "call",
    "call_function",
    "call_method",
    "defaults",
    "evaluate_call",
    "instantiate",
    "make_class",
    "make_function",
    "omitted",
    "symbolic_arguments",
]

Arguments = list["Value | Hole"]
DATACLASS_INIT = "@dataclass.__init__"
"""The ``__init__`` that ``@dataclass`` makes for a class, as a method of that class."""
_MAX_RECURSION = 10


def defaults(run: Run, params: cst.Parameters, frame: Frame) -> dict[str, Value]:
    """The values of a function's defaults, by parameter."""
    found: dict[str, Value] = {}
    for param in (*params.posonly_params, *params.params, *params.kwonly_params):
        if param.default is not None:
            found[param.name.value] = expressions.evaluate(run, param.default, frame)
    return found


def make_function(run: Run, node: cst.FunctionDef, frame: Frame) -> Value:
    """The function a ``def`` makes, through its decorators."""
    func = Func(node.name.value, node, frame.module, frame, defaults(run, node.params, frame))
    if frame.kind == "class":
        func.owner = frame.owner
    result: Value = func
    for decorator in reversed(node.decorators):
        result = _decorate(run, result, func, decorator.decorator, frame)
    return result


def _decorate(run: Run, value: Value, func: Func, decorator: cst.BaseExpression, frame: Frame) -> Value:
    maker = expressions.evaluate(run, decorator, frame)
    name = maker.name if isinstance(maker, (BuiltinVal, External)) else ""
    if name in ("staticmethod", "classmethod"):
        func.kind = name
        return value
    if name == "property" or name.endswith(("cached_property", ".property")):
        return Property(func)
    if isinstance(decorator, cst.Attribute) and decorator.attr.value in ("setter", "deleter"):
        return frame.vars.get(func.name, value)
    if name in LOCAL_BATCHNORM or (isinstance(maker, (Func, Partial)) and not _wraps(maker)):
        made = call(run, maker, [value], {}, False, frame, decorator)
        if isinstance(made, (Func, Partial, BoundMethod, ClassVal)):
            return made
    return value


def _wraps(maker: Value) -> bool:
    """Whether a decorator makes functions that say by ``functools.wraps`` that they stand for the decorated one: then
    that one is followed itself, past what the wrapper does with the arguments on the way."""
    while isinstance(maker, Partial):
        maker = maker.func
    if not isinstance(maker, Func):
        return False
    return any(
        isinstance(node, cst.Decorator)
        and isinstance(node.decorator, cst.Call)
        and (dotted_name(node.decorator.func) or "").rpartition(".")[2] == "wraps"
        for node in walk(maker.node)
    )


def make_class(run: Run, node: cst.ClassDef, frame: Frame) -> Value:
    """The class a ``class`` statement makes; a decorator that yields no class is taken to keep it."""
    bases = [
        expressions.evaluate(run, arg.value, frame)
        if arg.star == ""
        else run.unknown("bases that are unpacked", frame.module, arg)
        for arg in node.bases
    ]
    body = Frame("class", frame.module, frame, caller=frame, call=frame.call)
    body.depth = frame.depth
    cls = ClassVal(node.name.value, node, frame.module, bases, body.vars, frame)
    body.owner = cls
    statements.execute_block(run, flat(node.body), body)
    for member in body.vars.values():
        func = member.func if isinstance(member, Property) else member
        if isinstance(func, Func) and func.owner is None:
            func.owner = cls
    if records.is_enum(cls):
        records.make_enum(run, cls, frame, node)
    result: Value = cls
    for decorator in reversed(node.decorators):
        maker = expressions.evaluate(run, decorator.decorator, frame)
        ours = isinstance(maker, External) and maker.name in LOCAL_BATCHNORM
        if ours or isinstance(maker, (Func, Partial)):
            made = call(run, maker, [result], {}, False, frame, decorator.decorator)
            if isinstance(made, (ClassVal, Func, Partial)):
                result = made
        elif isinstance(maker, (External, ExternalResult)):
            name = maker.name if isinstance(maker, External) else maker.func.name
            if name in ("dataclasses.dataclass", "attr.s", "attrs.define", "attr.define"):
                cls.attrs.setdefault("__init__", BoundMethod(DATACLASS_INIT, cls))
    return result


def evaluate_call(run: Run, node: cst.Call, frame: Frame, *, dropped: bool = False) -> Value:
    """The value of a call expression; ``dropped`` if nobody takes it."""
    if isinstance(node.func, cst.Name) and node.func.value == "super" and "super" not in frame.vars:
        return _super(run, node, frame)
    if isinstance(node.func, cst.Name) and not node.args and node.func.value not in frame.vars:
        if node.func.value == "globals":
            return ModuleRef(frame.module, Step(frame.module, node))  # items of it are the module's names
        if node.func.value in ("locals", "vars"):
            return DictVal(dict(frame.vars), open=True, origin=Step(frame.module, node))
    func = expressions.evaluate(run, node.func, frame)
    if dropped and isinstance(func, Func) and frame.module.taught is None and _changes_nothing(run, func):
        return Const(None)
    needs = run.needs.get(id(node))
    if isinstance(func, External):
        needs = FLMODEL if is_flmodel(func.name) else None
        if secretflow_leaf(func.name):
            needs = needs or BY_NAME.get(func.leaf)
    elif isinstance(func, BoundMethod) and isinstance(func.func, str):
        needs = BY_NAME.get(func.func)
    args, kwargs, open_kwargs, deps = arguments(run, node, frame, needs)
    if id(node) in run.targets:
        run.reached.add(id(node))
    if id(node) not in run.watched:
        return call(run, func, args, kwargs, open_kwargs, frame, node, deps)
    run.making += 1
    try:
        value = call(run, func, args, kwargs, open_kwargs, frame, node, deps)
    finally:
        run.making -= 1
    run.watched[id(node)] = value
    run.made_by[id(node)] = func
    return value


def _changes_nothing(run: Run, func: Func) -> bool:
    """Whether a function whose result nobody takes can be left out: it touches none of its parameters, nor anything
    outside, and leads to no target."""
    if not isinstance(func.node, cst.FunctionDef) or id(func.node) in run.target_paths or func.owner is not None:
        return False
    found = func.module.pure.get(id(func.node))
    if found is None:
        params = {param.name.value for param in walk(func.node.params) if isinstance(param, cst.Param)}
        names = Names()
        for statement in flat(func.node.body):
            names.take(func.module.names.names(statement))
        outside = any(isinstance(node, (cst.Global, cst.Nonlocal)) for node in walk(func.node))
        found = not outside and names.touches.isdisjoint(params) and names.touches - names.binds <= set(_LIBRARIES)
        func.module.pure[id(func.node)] = found
    return found


_LIBRARIES = ("torch", "np", "numpy", "random", "os", "logging", "logger", "plt", "sys", "warnings", "tf")
"""Names by which functions of libraries are called for their effect, none of them on anything that matters here."""


def arguments(
    run: Run, node: cst.Call, frame: Frame, needs: Needs | None = None
) -> tuple[Arguments, dict[str, Value], bool, frozenset[str]]:
    """Positional and keyword arguments of a call, stars unfolded; whether ``**`` of something unknown may add more.

    Arguments that are not needed are not looked at: what they are made from need not be run.
    """
    args: Arguments = []
    kwargs: dict[str, Value] = {}
    open_kwargs = False
    deps: frozenset[str] = frozenset()
    for arg in node.args:
        if arg.star == "*":
            value = expressions.evaluate(run, arg.value, frame)
            args.extend(operations.iterate(run, value))
            if isinstance(value, Unknown) or (isinstance(value, ListVal) and value.open):
                deps |= dependencies(value)
        elif arg.star == "**":
            value = expressions.evaluate(run, arg.value, frame)
            if isinstance(value, DictVal):
                kwargs.update({key: item for key, item in value.items.items() if isinstance(key, str)})
                open_kwargs = open_kwargs or value.open
                if value.open:
                    deps |= value.deps
            else:
                open_kwargs = True
                deps |= dependencies(value)
        else:
            keyword = arg.keyword.value if arg.keyword is not None else None
            if needs is not None and needs.skips(len(args), keyword):
                value = Unknown("not looked at", key=run.fresh(), called=True)
            else:
                value = expressions.evaluate(run, arg.value, frame)
            if keyword is not None:
                kwargs[keyword] = value
            else:
                args.append(value)
    if run.change is not None:
        changes.check_arguments(run.change, node, kwargs, open_kwargs)
    return args, kwargs, open_kwargs, deps


def _super(run: Run, node: cst.Call, frame: Frame) -> Value:
    scope: Frame | None = frame
    while scope is not None and scope.kind != "function":
        scope = scope.parent
    self_value = scope.self_value if scope is not None else None
    owner = scope.func.owner if scope is not None and scope.func is not None else None
    if node.args:
        first = expressions.evaluate(run, node.args[0].value, frame)
        if isinstance(first, ClassVal):
            owner = first
        if len(node.args) > 1:
            self_value = expressions.evaluate(run, node.args[1].value, frame)
    if owner is None or self_value is None:
        return run.unknown("super() outside a method", frame.module, node)
    return SuperVal(owner, self_value)


def call(
    run: Run,
    func: Value,
    args: Arguments,
    kwargs: dict[str, Value],
    open_kwargs: bool,
    frame: Frame,
    node: cst.CSTNode,
    deps: frozenset[str] = frozenset(),
) -> Value:
    """Call a value. ``open_kwargs``: there may be keyword arguments beyond those given, depending on ``deps``."""
    run.step()
    if run.change is not None:
        changes.check_call(run.change, func, kwargs)
    if frame.module.taught is not None:
        found = taught.call(frame.module.taught, run, func, args, kwargs, open_kwargs, frame, node, deps)
        if found is not None:
            return found
    if isinstance(func, Func):
        return call_function(run, func, args, kwargs, frame, node, open_kwargs, deps)
    if isinstance(func, BoundMethod):
        if isinstance(func.func, Func):
            return call_function(run, func.func, [func.self_value, *args], kwargs, frame, node, open_kwargs, deps)
        return call_method(run, func.self_value, func.func, args, kwargs, frame, node, open_kwargs, deps)
    if isinstance(func, ClassVal):
        return instantiate(run, func, args, kwargs, frame, node, open_kwargs, deps)
    if isinstance(func, Partial):
        merged = {**func.kwargs, **kwargs}
        made = call(run, func.func, [*func.args, *args], merged, open_kwargs, frame, node, deps)
        if isinstance(func, Wrapped) and isinstance(made, Module):
            made.extra["wrapping"] = func.wrapping
        return made
    if isinstance(func, BuiltinVal):
        return builtin_calls.call(run, func.name, args, kwargs, frame, node)
    if isinstance(func, External):
        return external_calls.call(run, func, args, kwargs, open_kwargs, frame, node, deps)
    if isinstance(func, Instance):
        method = classes.find(func.cls, "__call__")
        if method is not None and isinstance(method[0], Func):
            return call_function(run, method[0], [func, *args], kwargs, frame, node, open_kwargs, deps)
    if isinstance(func, Module):
        if func.framework == "keras":
            return keras_calls.apply(run, func, args, kwargs, frame, node)
        torch_calls.forward(func)
        return run.unknown("what a forward pass yields", frame.module, node)
    if any(isinstance(value, KerasTensor) for value in args):
        # A layer that is not known, applied to a Keras tensor.
        gap = RegistryGap(func.reason if isinstance(func, Unknown) else "a layer that is not known", func.origin)
        step = Step(frame.module, node)
        return KerasTensor(gap, keras_graph.gather(args, step), step)
    if isinstance(func, Const):
        return run.unknown("a call of something that is no function", frame.module, node)
    reason = func.reason if isinstance(func, Unknown) else "a call that is not followed"
    text = f"{func.text}(...)" if isinstance(func, Unknown) and func.text else None
    found_deps = dependencies(func) | deps
    for value in [*args, *kwargs.values()]:
        found_deps |= dependencies(value)
    return run.unknown(reason, frame.module, node, deps=found_deps, called=True, text=text)


def call_function(
    run: Run,
    func: Func,
    args: Arguments,
    kwargs: dict[str, Value],
    frame: Frame,
    node: cst.CSTNode,
    open_kwargs: bool = False,
    deps: frozenset[str] = frozenset(),
) -> Value:
    """Run a function of the project with arguments and give what it returns."""
    key = id(func.node)
    if frame.depth >= MAX_DEPTH or run.active.get(key, 0) >= _MAX_RECURSION:
        return run.unknown("a call too deep to follow", frame.module, node, called=True)
    inner = Frame("function", func.module, func.frame, caller=frame, call=Step(frame.module, node), func=func)
    _bind(run, func, args, kwargs, open_kwargs, deps, inner, node)
    if isinstance(func.node, cst.Lambda):
        return expressions.evaluate(run, func.node.body, inner)
    inner.owner = func.owner
    if func.owner is not None and func.kind != "staticmethod" and args and isinstance(args[0], Value):
        inner.self_value = args[0]
    run.active[key] = run.active.get(key, 0) + 1
    floor = run.floor
    if inner.depth <= 2:
        run.floor = max(floor, run.budget.left - MAX_CALL_STEPS)
    try:
        return run_body(run, func, inner)
    except CallTooLong:
        if run.floor == floor:
            raise
        # It stopped halfway: what it was given may have been changed, or was not yet.
        for value in (*args, *kwargs.values()):
            if isinstance(value, Value):
                operations.blur(value, Step(frame.module, node))
        return run.unknown("a call too long to follow", frame.module, node, called=True)
    finally:
        run.active[key] -= 1
        run.floor = floor


def run_body(run: Run, func: Func, inner: Frame) -> Value:
    """Run a function's body in a frame with its parameters bound."""
    assert isinstance(func.node, cst.FunctionDef)
    body = flat(func.node.body)
    if id(func.node) in run.target_paths:
        inner.wanted = flmodel.relevant(run, func.module, body)
    signal = statements.execute_block(run, body, inner)
    if inner.yields is not None:
        return ListVal([*inner.yields], "list", Step(func.module, func.node))
    if signal is not None and signal.kind == "return" and signal.value is not None:
        return signal.value
    if signal is not None and signal.kind == "raise":
        return run.unknown("a call that raises", func.module, func.node)
    return Const(None)


def _bind(
    run: Run,
    func: Func,
    args: Arguments,
    kwargs: dict[str, Value],
    open_kwargs: bool,
    deps: frozenset[str],
    inner: Frame,
    node: cst.CSTNode,
) -> None:
    params = func.node.params
    positional = [*params.posonly_params, *params.params]
    rest = list(args)
    left = dict(kwargs)
    uncertain = False
    for param in positional:
        name = param.name.value
        if rest and not uncertain:
            head = rest[0]
            if isinstance(head, Hole):
                uncertain = True
            else:
                rest.pop(0)
                inner.vars[name] = head
                continue
        if name in left:
            inner.vars[name] = left.pop(name)
        elif uncertain or open_kwargs:
            inner.vars[name] = run.unknown(
                f"{name} comes from arguments that are not known", func.module, param, deps=deps
            )
        elif name in func.defaults:
            inner.vars[name] = omitted(func, name)
        else:
            inner.vars[name] = run.unknown(f"{name} is not passed", func.module, param)
    if isinstance(params.star_arg, cst.Param):
        inner.vars[params.star_arg.name.value] = ListVal(list(rest), "tuple")
    for param in params.kwonly_params:
        name = param.name.value
        if name in left:
            inner.vars[name] = left.pop(name)
        elif open_kwargs:
            inner.vars[name] = run.unknown(
                f"{name} comes from arguments that are not known", func.module, param, deps=deps
            )
        elif name in func.defaults:
            inner.vars[name] = omitted(func, name)
        else:
            inner.vars[name] = run.unknown(f"{name} is not passed", func.module, param)
    if run.change is not None:
        taken = [param.name.value for param in positional[: len(args)]]
        changes.check_function(run.change, func, taken, kwargs, left, inner.vars)
    if params.star_kwarg is not None:
        extra = DictVal(left, open=open_kwargs, deps=deps, origin=Step(inner.module, node))
        inner.vars[params.star_kwarg.name.value] = extra


def omitted(func: Func, name: str) -> Value:
    """What a parameter is that a call leaves out."""
    default = func.defaults[name]
    return Omitted(default, name) if type(default) is Const and not default.value else default


def symbolic_arguments(run: Run, func: Func, inner: Frame, skip: int = 0) -> None:
    """Bind a root function's parameters to unknowns that know where they come from."""
    params = func.node.params
    for number, param in enumerate((*params.posonly_params, *params.params, *params.kwonly_params)):
        name = param.name.value
        if number < skip or name in inner.vars:
            continue
        inner.vars[name] = symbolic(run, func, name, param)
    if isinstance(params.star_arg, cst.Param):
        name = params.star_arg.name.value
        run.symbolic[parameter_key(func, name)] = func
        inner.vars.setdefault(name, ListVal([HOLE], "tuple", deps=frozenset({parameter_key(func, name)})))
    if params.star_kwarg is not None:
        name = params.star_kwarg.name.value
        run.symbolic[parameter_key(func, name)] = func
        inner.vars.setdefault(name, DictVal(open=True, deps=frozenset({parameter_key(func, name)})))


def parameter_key(func: Func, name: str) -> str:
    """What identifies a parameter of a root: the place of its function and its name."""
    return f"{func.module.path}:{id(func.node)}:{name}"


def symbolic(run: Run, func: Func, name: str, node: cst.CSTNode) -> Value:
    """A parameter of a root: what a pytest fixture of its name makes, else unknown."""
    fixture = _fixture(run, func, name)
    if fixture is not None:
        return fixture
    key = parameter_key(func, name)
    run.symbolic[key] = func
    default = func.defaults.get(name)
    usual = default if isinstance(default, Const) and default.value is not None and not run.carried else None
    return Unknown(
        f"{name} is a parameter of {func.name}, and no call that gives it was found",
        Step(func.module, node),
        key=key,
        deps=frozenset({key}),
        text=name,
        likely=usual or run.likely.get(name),
    )


def _fixture(run: Run, func: Func, name: str) -> Value | None:
    """What the fixture of a name makes, for a parameter of a test or of a fixture."""
    if not (func.name.startswith("test") or _is_fixture(func)) or func.node is None:
        return None
    found = scopes.global_value(run, func.module, name) if func.module.binds(name) else None
    if not isinstance(found, Func) or not _is_fixture(found) or run.active.get(id(found.node)):
        return None
    inner = Frame("function", found.module, found.frame, func=found)
    inner.depth = 2
    symbolic_arguments(run, found, inner)
    run.active[id(found.node)] = 1
    try:
        result = run_body(run, found, inner)
    finally:
        run.active[id(found.node)] = 0
    if inner.yields:
        return inner.yields[0]
    return result


def _is_fixture(func: Func) -> bool:
    decorators = func.node.decorators if isinstance(func.node, cst.FunctionDef) else ()
    for decorator in decorators:
        node = decorator.decorator.func if isinstance(decorator.decorator, cst.Call) else decorator.decorator
        if (dotted_name(node) or "").rpartition(".")[2] == "fixture":
            return True
    return False


def instantiate(
    run: Run,
    cls: ClassVal,
    args: Arguments,
    kwargs: dict[str, Value],
    frame: Frame,
    node: cst.CSTNode,
    open_kwargs: bool = False,
    deps: frozenset[str] = frozenset(),
) -> Value:
    """An object of a class of the project."""
    step = Step(frame.module, node)
    kind = classes.kind(cls)
    value: Value
    value = torch_calls.new_module(cls, kind, step) if kind in ("torch", "keras") else Instance(cls, step)
    if records.is_enum(cls):
        return _enum_member(run, cls, args, frame, node)
    if records.is_namedtuple(cls):
        records.fill(run, cls, value, args, kwargs, frame, node, open_kwargs)
        return value
    found = classes.find(cls, "__init__")
    if found is None:
        return value
    member, owner = found
    if isinstance(member, BoundMethod) and member.func == DATACLASS_INIT:
        call_method(run, member.self_value, DATACLASS_INIT, [value, *args], kwargs, frame, node, open_kwargs, deps)
    elif isinstance(member, Func):
        before = len(run.arrivals)
        call_function(run, member, [value, *args], kwargs, frame, node, open_kwargs, deps)
        if kind == "flmodel" and len(run.arrivals) == before:
            flmodel.arrive_at_override(run, value, member, args, kwargs, open_kwargs, frame, node, deps)
    elif isinstance(owner, External):
        external_init(run, owner, value, args, kwargs, open_kwargs, frame, node, deps)
    elif isinstance(value, Module):
        value.add_gap("a base class that is not known", step)
    return value


def _enum_member(run: Run, cls: ClassVal, args: Arguments, frame: Frame, node: cst.CSTNode) -> Value:
    """``Kind("batch")``: the member with this value."""
    wanted = positional(args, 0)
    if isinstance(wanted, Const):
        for member in records.enum_members(cls).values():
            value = member.attrs["value"] if isinstance(member, Instance) else member
            if isinstance(value, Const) and value.value == wanted.value:
                return member
    elif isinstance(wanted, Instance) and wanted.cls is cls:
        return wanted
    return run.unknown("a member of an enumeration that is not known", frame.module, node, deps=dependencies(wanted))


def external_init(
    run: Run,
    base: External,
    value: Value,
    args: Arguments,
    kwargs: dict[str, Value],
    open_kwargs: bool,
    frame: Frame,
    node: cst.CSTNode,
    deps: frozenset[str] = frozenset(),
) -> None:
    """``super().__init__(...)`` into a class outside the project."""
    if is_flmodel(base.name) and isinstance(value, Instance):
        flmodel.arrive(run, value, args, kwargs, open_kwargs, frame, node, deps)
    elif isinstance(value, Module):
        if value.framework == "keras":
            keras_calls.init(run, base, value, args, kwargs, frame, node)
        else:
            torch_calls.init(run, base, value, args, kwargs, open_kwargs, frame, node)
    elif isinstance(value, Instance) and base_kind(base.name) != "plain":
        value.open_reason = f"{base.name} is not followed"


def call_method(
    run: Run,
    value: Value,
    name: str,
    args: Arguments,
    kwargs: dict[str, Value],
    frame: Frame,
    node: cst.CSTNode,
    open_kwargs: bool = False,
    deps: frozenset[str] = frozenset(),
) -> Value:
    """A method by name, of a value of ours or of a base class outside the project (``torch.nn.Module.__init__``)."""
    base, _, method = name.rpartition(".")
    if name == DATACLASS_INIT and isinstance(value, ClassVal):
        if args and isinstance(args[0], Value):
            records.fill(run, value, args[0], args[1:], kwargs, frame, node, open_kwargs)
        return Const(None)
    if base and method == "__init__":
        external_init(run, External(base), value, args, kwargs, open_kwargs, frame, node, deps)
        return Const(None)
    if isinstance(value, Module):
        if value.framework == "keras":
            return keras_calls.method(run, value, method, args, kwargs, frame, node)
        return torch_calls.method(run, value, method, args, kwargs, frame, node)
    if isinstance(value, Instance):
        if name in records.METHODS:
            return records.method(run, value, name, kwargs, open_kwargs, frame, node)
        flmodel.event(run, value, method, args, kwargs, open_kwargs, frame, node)
        return run.unknown(f"{name} is not followed", frame.module, node, called=True, deps=deps)
    if isinstance(value, ExternalResult):
        step = Step(frame.module, node)
        flmodel.event(run, value, method, args, kwargs, open_kwargs, frame, node)
        result = ExternalResult(External(f"{value.func.name}.{name}"), args, kwargs, open_kwargs, step)
        if method in ("cuda", "cpu", "to", "eval", "train"):
            return value
        return result
    return builtin_calls.method(run, value, method, args, kwargs, frame, node)


def attribute_set_elsewhere(run: Run, value: Instance, name: str, frame: Frame) -> Value | None:
    """``self.name`` of an instance whose ``__init__`` does not set it: what its set-up methods set, if they do."""
    if value.attrs.get("__set_up__") is not None:
        return None
    value.attrs["__set_up__"] = Const(True)
    for method in ("setUpClass", "setup_class", "setUp", "setup_method", "setup", "__post_init__", "build", "prepare"):
        found = classes.find(value.cls, method)
        if found is None or not isinstance(found[0], Func) or run.active.get(id(found[0].node)):
            continue
        func = found[0]
        target: Value = value.cls if func.kind == "classmethod" else value
        inner = Frame("function", func.module, func.frame, caller=frame, call=frame.call, func=func, self_value=target)
        if isinstance(func.node, cst.FunctionDef):
            params = [*func.node.params.posonly_params, *func.node.params.params]
            if params:
                inner.vars[params[0].name.value] = target
            symbolic_arguments(run, func, inner, skip=1)
            run.active[id(func.node)] = 1
            try:
                statements.execute_block(run, flat(func.node.body), inner)
            finally:
                run.active[id(func.node)] -= 1
    if name in value.attrs:
        return value.attrs[name]
    return value.cls.attrs.get(name)


def positional(args: Sequence[Value | Hole], number: int) -> Value | None:
    """The ``number``-th positional argument, if it is certain which one that is."""
    if len(args) > number and not any(isinstance(arg, Hole) for arg in args[: number + 1]):
        found = args[number]
        return found if isinstance(found, Value) else None
    return None


def argument(args: Sequence[Value | Hole], kwargs: dict[str, Value], number: int, name: str) -> Value | None:
    """An argument by position or by name."""
    found = positional(args, number)
    return found if found is not None else kwargs.get(name)


def items_of(run: Run, values: Arguments) -> Arguments:
    """Arguments with a single list or generator among them unfolded: ``f(a, b)`` and ``f([a, b])`` alike."""
    if len(values) == 1 and isinstance(values[0], ListVal):
        return operations.iterate(run, values[0])
    return values
