"""Running a scope up to the calls of interest in it, with parameters that nobody has given unknown.

A *root* is a module's top level, or a function as if called from outside. Its statements are run as far as the
targets need
them; calls that lead on to an FLModel call are followed as a matter of course.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import libcst as cst

from bn_audit.source.interpreter import calls, classes, expressions, flmodel, scopes, statements, torch_calls
from bn_audit.source.interpreter.frames import Frame
from bn_audit.source.interpreter.run import Run
from bn_audit.source.interpreter.values import (
    BoundMethod,
    ClassVal,
    Func,
    Instance,
    Module,
    Partial,
    Property,
    Step,
    Value,
)
from bn_audit.source.names import statements as flat
from bn_audit.source.project import PyModule
from bn_audit.source.targets import Target

__all__ = ["any_object", "execute_root"]


def execute_root(
    run: Run, targets: Sequence[Target], further: Iterable[Target] = (), *, no_further: bool = False
) -> None:
    """Run the scope that holds ``targets`` (all of one scope); ``further`` are calls on the way in other scopes.

    With ``no_further`` the run ends with the statement that reaches them: what is done with their results is not seen.
    """
    first = targets[0]
    run.targets = frozenset(id(target.node) for target in targets)
    run.needs = {id(target.node): target.needs for target in (*targets, *further) if target.needs is not None}
    run.target_paths = frozenset().union(*(target.path for target in (*targets, *further)))
    frame = run.module_frame(first.module)
    owner: ClassVal | None = None
    functions = first.functions
    if not functions:
        top = Frame("module", first.module, None)
        run.until = top if no_further else None
        top.wanted = flmodel.relevant(run, first.module, first.module.body)
        statements.execute_block(run, first.module.body, top)
        return
    for scope in first.scopes:
        if isinstance(scope, cst.ClassDef):
            owner = _class(run, scope, first.module, frame, owner)
        elif isinstance(scope, (cst.FunctionDef, cst.Lambda)):
            func = _function(run, scope, first.module, frame, owner)
            inner = Frame("function", first.module, func.frame, func=func, owner=func.owner)
            # The frame of a root has no caller; it counts as one level.
            inner.depth = 1
            run.until = inner if no_further and scope is functions[-1] else None
            skip = _bind_self(run, func, inner)
            calls.symbolic_arguments(run, func, inner, skip)
            if isinstance(scope, cst.Lambda):
                if scope is functions[-1]:
                    expressions.evaluate(run, scope.body, inner)
                frame, owner = inner, None
                continue
            body = flat(scope.body)
            inner.wanted = flmodel.relevant(run, first.module, body)
            run.active[id(scope)] = run.active.get(id(scope), 0) + 1
            signal = statements.execute_block(run, body, inner)
            run.active[id(scope)] -= 1
            if signal is not None and signal.value is not None:
                flmodel.returned(run, signal.value, func)
            if run.targets <= run.reached:
                return  # an outer function has called the inner one itself
            frame, owner = inner, None


def _class(run: Run, node: cst.ClassDef, module: PyModule, frame: Frame, owner: ClassVal | None) -> ClassVal:
    name = node.name.value
    found: Value | None
    if owner is not None:
        found = owner.attrs.get(name)
    elif frame.kind == "module":
        found = scopes.global_value(run, module, name)
    else:
        found = frame.vars.get(name)
    if isinstance(found, ClassVal) and found.node is node:
        return found
    made = calls.make_class(run, node, frame)
    return made if isinstance(made, ClassVal) else ClassVal(name, node, module, [], {}, frame)


def _function(
    run: Run, node: cst.FunctionDef | cst.Lambda, module: PyModule, frame: Frame, owner: ClassVal | None
) -> Func:
    if isinstance(node, cst.Lambda):
        value = expressions.evaluate(run, node, frame)
        assert isinstance(value, Func)
        value.owner = owner
        return value
    name = node.name.value
    found: Value | None
    if owner is not None:
        found = owner.attrs.get(name)
    elif frame.kind == "module":
        found = scopes.global_value(run, module, name)
    else:
        found = frame.vars.get(name)
    while isinstance(found, (Property, Partial, BoundMethod)):
        found = found.func if not isinstance(found.func, str) else None
    if isinstance(found, Func) and found.node is node:
        return found
    made = Func(name, node, module, frame, calls.defaults(run, node.params, frame))
    made.owner = owner
    return made


def _bind_self(run: Run, func: Func, inner: Frame) -> int:
    """Give a method its ``self`` or ``cls``; how many parameters that makes."""
    owner = func.owner
    params = [*func.node.params.posonly_params, *func.node.params.params]
    if owner is None or func.kind == "staticmethod" or not params or isinstance(func.node, cst.Lambda):
        return 0
    name = params[0].name.value
    if func.kind == "classmethod":
        inner.vars[name] = inner.self_value = owner
        return 1
    value = any_object(run, owner, inner, func)
    inner.vars[name] = inner.self_value = value
    return 1


def any_object(run: Run, cls: ClassVal, frame: Frame, method: Func | None = None) -> Value:
    """An object of a class as if made by a call nobody has seen: its ``__init__`` is run with unknown parameters.

    ``method`` is the method that is run for it next; if that is ``__init__`` itself, it is not run here.
    """
    kind = classes.kind(cls)
    step = Step(cls.module, cls.node)
    value: Instance | Module
    if kind in ("torch", "keras"):
        value = torch_calls.new_module(cls, kind, step)
    else:
        value = Instance(cls, step)
        value.symbolic = True
    found = classes.find(cls, "__init__")
    if found is None or not isinstance(found[0], Func) or (method is not None and found[0].node is method.node):
        return value
    init = found[0]
    inner = Frame("function", init.module, init.frame, caller=frame, func=init, owner=init.owner, self_value=value)
    params = [*init.node.params.posonly_params, *init.node.params.params]
    if not params or not isinstance(init.node, cst.FunctionDef):
        return value
    inner.vars[params[0].name.value] = value
    calls.symbolic_arguments(run, init, inner, 1)
    run.active[id(init.node)] = run.active.get(id(init.node), 0) + 1
    statements.execute_block(run, flat(init.node.body), inner)
    run.active[id(init.node)] -= 1
    return value
