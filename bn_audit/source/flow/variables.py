"""What a variable may hold: what is bound to it, put into it, or given to it as a parameter by whoever calls."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import libcst as cst

from bn_audit.source.flow.alive import alive_at, never_both
from bn_audit.source.flow.callers import function_of, is_static
from bn_audit.source.flow.changes import key_of
from bn_audit.source.flow.combining.sums import is_begun
from bn_audit.source.flow.containers import Containers
from bn_audit.source.flow.dispatch import Dispatch, dispatch_of
from bn_audit.source.flow.entries import takes_entry
from bn_audit.source.flow.following import Origins, filtered, kind_of
from bn_audit.source.flow.frameworks import is_flow
from bn_audit.source.flow.given import bound_arguments
from bn_audit.source.flow.index import Binding, FileIndex, Scope, arguments_of
from bn_audit.source.flow.loops import Loop, conditions, loops_around
from bn_audit.source.flow.passing import makes_models
from bn_audit.source.flow.plans import MadeByPlan, given_by_plan
from bn_audit.source.flow.values import (
    PARAMETER_KEY,
    Callee,
    Env,
    Filter,
    Made,
    Opaque,
    Origin,
    Parts,
    State,
    given_before,
)
from bn_audit.source.interpreter import classes
from bn_audit.source.interpreter.libraries import canonical
from bn_audit.source.interpreter.planned import Planned
from bn_audit.source.interpreter.values import (
    ClassVal,
    External,
    Func,
    Partial,
)
from bn_audit.source.nodes import dotted_name, is_empty, root_name, walk

if TYPE_CHECKING:
    from bn_audit.source.project import PyModule

__all__ = ["Variables", "among"]

Test = tuple[cst.BaseExpression, bool]
"""A condition, and whether it must hold."""

_MAX_IMPORTS = 8
"""Files through which one name is handed on."""


class Variables(Containers):
    """The part of a follower that knows variables."""

    def _name(self, node: cst.Name, env: Env) -> Iterable[Origin]:
        name = node.value
        here = self.holder(name, node, env)
        if here is None:
            local = self._local_function(name, env)
            value = local if local is not None else self.lookup.global_value(env.module, name)
            if isinstance(value, (ClassVal, Func, Partial)):
                yield Callee(self.as_given(value))
            elif isinstance(value, External):
                yield Opaque(value.name) if not makes_models(canonical(value.name)) else Callee(value)
            elif value is not None:
                yield from self._global_object(name, env)
            else:
                found = tuple(self._declared(name, env))
                yield from found or (Opaque(name),)
            return
        yield from self.bound(name, node, here, env)

    def _declared(self, name: str, env: Env) -> Iterator[Origin]:
        """What functions of a file put into a global of it: ``global client; client = Client(data)``."""
        for scope in self.index(env.module).declaring(name):
            here = self.alone(env.module, scope)
            for row in scope.bindings[name]:
                yield from self.binding(row, here)

    def _global_object(self, name: str, env: Env) -> Iterable[Origin]:
        """A variable of a module's top level, here or where it is imported from."""
        found = self.home(name, env.module)
        if found is not None:
            here, own = found
            yield from self.bound(own, None, here, here)

    def home(self, name: str, module: PyModule) -> tuple[Env, str] | None:
        """The top level that binds a variable, of this module or of that which it is imported from, and what it is
        called there; None if none does."""
        source: PyModule | None = module
        for _ in range(_MAX_IMPORTS):
            if source is None:
                return None
            top = self.index(source).top
            rows = top.bindings.get(name, ())
            if any(row.how != "other" for row in rows):
                return Env(source, top), name
            source, name = self._imported(source, name, rows)
        return None

    def _imported(self, module: PyModule, name: str, rows: Sequence[Binding]) -> tuple[PyModule | None, str]:
        """The module and name behind ``from module import name``; None if it is nothing of the project's."""
        for row in rows:
            if not isinstance(row.node, cst.ImportFrom) or isinstance(row.node.names, cst.ImportStar):
                continue
            for alias in row.node.names:
                bound = alias.asname.name if alias.asname is not None else alias.name
                if isinstance(bound, cst.Name) and bound.value == name and isinstance(alias.name, cst.Name):
                    level, source = len(row.node.relative), dotted_name(row.node.module) or ""
                    found = self.project.relative(source, level, module) if level else self.project.find(source, module)
                    return found, alias.name.value
        return None, name

    def holder(self, name: str, node: cst.CSTNode | None, env: Env) -> Env | None:
        """The run of the scope that binds a name as seen from ``env``; None if it is no variable of this file."""
        current: Env | None = env
        scope: Scope | None = env.scope
        while scope is not None:
            if not isinstance(scope.node, cst.ClassDef) and name not in scope.shared:
                if scope.takes(name) or _star_names(scope, name):
                    return current if current is not None and current.scope is scope else self.alone(env.module, scope)
                rows = scope.bindings.get(name)
                if rows and any(row.how != "other" for row in rows):
                    return current if current is not None and current.scope is scope else self.alone(env.module, scope)
            scope = scope.parent
            if current is not None and current.scope is not scope:
                current = None
        return None

    def bound(self, name: str, use: cst.CSTNode | None, here: Env, env: Env) -> Iterable[Origin]:
        """What a variable of a scope may hold where it is used."""
        scope = here.scope
        rows = scope.bindings.get(name, [])
        index = self.index(here.module)
        local = use if use is not None and here.scope is env.scope else None
        alive, sealed = alive_at(index, rows, local)
        removed = self._removed(name, here)
        for row in alive:
            if row.region is not None or self.reached(row.node, here):
                yield from filtered(self.binding(row, here), removed)
        for value, node in scope.puts.get(name, ()):
            if local is not None and sealed and never_both(index, node, local):
                continue
            if self._is_snapshot(name, value, node, here):
                continue
            passed = (*self._passed(node, here), *removed)
            yield from filtered(self._combined(node, here), passed)
            yield from filtered(self.origins(value, here), passed)
        if name not in scope.puts and alive and all(row.how == "value" and is_empty(row.value) for row in alive):
            yield from self._filled(name, here)
            yield from self._filled_within(name, here)
            if scope.parent is None:
                yield from self._filled_elsewhere(name, here)
        for call in scope.reduced.get(name, ()):
            yield from filtered(self._combined(call, here), removed)
        if not sealed:
            yield from self.parameter(name, here)
            if scope.parent is None:
                yield from self._declared(name, here)

    def _removed(self, name: str, env: Env) -> tuple[Filter, ...]:
        """What is taken out of a named state again: ``if "bn" in key: del state[key]``."""
        found: list[Filter] = []
        index = self.index(env.module)
        for key, node in env.scope.removals.get(name, ()):
            tests: tuple[tuple[cst.BaseExpression, bool], ...] = ()
            if isinstance(key, cst.Name):
                loop = next((loop for loop in loops_around(index, node)[::-1] if key.value in loop.names), None)
                tests = conditions(index, node, loop) if loop is not None else ()
            if len(tests) == 1 and isinstance(key, cst.Name):
                found.append(Filter(tests[0][0], not tests[0][1], key.value, env))
            else:
                found.append(Filter(key, False, "", env))
        return tuple(found)

    def _passed(self, node: cst.CSTNode, env: Env) -> tuple[Filter, ...]:
        """The conditions under which ``part[key] = value`` passes an entry on."""
        if not isinstance(node, cst.Assign) or not isinstance(node.targets[0].target, cst.Subscript):
            return ()
        target = node.targets[0].target
        part = target.slice[0].slice
        if not isinstance(part, cst.Index) or not isinstance(part.value, cst.Name):
            return ()
        name, index = part.value.value, self.index(env.module)
        if _is_converted(index, node.value, index.code(target)):
            return ()  # ``state[key] = state[key].to(device)``: the entry is there, whatever is asked before
        loop = next((loop for loop in loops_around(index, node)[::-1] if name in loop.names), None)
        if loop is None or loop.target is None:
            return ()
        container = root_name(node.targets[0].target)
        tests = [row for row in conditions(index, node, loop) if not is_begun(row[0], name, container)]
        if tests and container is not None:
            tests = self._in_every_branch(tests, node, container, loop, env)
        found = [Filter(test, wanted, name, env) for test, wanted in tests]
        return (*found, *among(loop.target, loop.iter, node.value, env))

    def _in_every_branch(self, tests: list[Test], node: cst.Assign, container: str, loop: Loop, env: Env) -> list[Test]:
        """The conditions without those under whose opposite the entry is passed on as well, in another form: counters
        as they are, and the rest in eight bits."""
        index = self.index(env.module)
        for _, other in env.scope.puts.get(container, ()):
            if other is node or not isinstance(other, cst.Assign) or loop.node not in index.above(other):
                continue
            if index.code(other.targets[0].target) == index.code(node.targets[0].target) and takes_entry(
                index, other.value, loop
            ):
                against = {(id(test), not wanted) for test, wanted in conditions(index, other, loop)}
                tests = [row for row in tests if (id(row[0]), row[1]) not in against]
        return tests

    def binding(self, row: Binding, env: Env) -> Iterable[Origin]:
        """What one binding gives its name."""
        if row.value is None:
            return
        yield from self._combined(row.node, env)
        if row.how == "item":
            yield from self._take(self.each(row.value, env), row.path)
        else:
            yield from self._take(self.origins(row.value, env), row.path)

    def each(self, node: cst.CSTNode, env: Env) -> Origins:
        """What going over an expression gives."""
        if isinstance(node, cst.Call):
            name = dotted_name(node.func) or ""
            positional, _, _ = arguments_of(node)
            if name in ("enumerate", "tqdm", "tqdm.tqdm", "trange") and positional:
                inner = self.each(positional[0], env)
                return (Parts(((Opaque("index"),), inner)),) if name == "enumerate" else inner
            if name == "zip" and len(node.args) == 1 and node.args[0].star == "*":
                return tuple(self.items(self.origins(node.args[0].value, env)))
            if name == "zip":
                return (Parts(tuple(self.each(part, env) for part in positional)),)
            if isinstance(node.func, cst.Attribute) and node.func.attr.value == "items" and not node.args:
                return (Parts(((Opaque("key"),), tuple(self.items(self.origins(node.func.value, env))))),)
            if isinstance(node.func, cst.Attribute) and node.func.attr.value == "keys" and not node.args:
                return (Opaque("key"),)
            if isinstance(node.func, cst.Attribute) and node.func.attr.value == "named_parameters":
                return (Parts(((PARAMETER_KEY,), self.origins(node, env))),)
            if name == "range":
                return (Opaque("index"),)
        found = self.opened(self.origins(node, env), "__iter__", "__getitem__")
        if len(found) == 1 and isinstance(found[0], Parts) and isinstance(node, cst.Tuple):
            return tuple(self.items(found))  # written out, it is gone over item by item; a list of tuples keeps them
        return found

    def opened(self, found: Origins, *methods: str) -> Origins:
        """The items of objects whose classes say themselves what their items are, by the first of these methods that
        they have; anything else as it is."""
        if not any(isinstance(origin, Made) and origin.cls is not None for origin in found):
            return found
        rows: list[Origin] = []
        for origin in found:
            rows.extend((isinstance(origin, Made) and self._items_of(origin, methods)) or (origin,))
        return tuple(dict.fromkeys(rows))

    def _items_of(self, made: Made, methods: Sequence[str]) -> Origins:
        for method in methods if made.cls is not None else ():
            member = classes.find(made.cls, method) if made.cls is not None else None
            func = function_of(member[0]) if member is not None else None
            if func is None:
                continue
            given = tuple(self.returned(func, None, made, made.env))
            # ``return Iterator(self)``: an object of a class of its own, which hands them out.
            return self.opened(given, "__next__") if method == "__iter__" and made not in given else given
        return ()

    def of_parameters(self, keys: cst.BaseExpression, env: Env) -> bool:
        """Whether an expression certainly gives the keys of parameters alone."""
        func = keys.func if isinstance(keys, cst.Call) and not keys.args else None
        if isinstance(func, cst.Attribute) and func.attr.value in ("keys", "items"):
            keys = func.value
        found: list[Origin] = []
        for origin in self.each(keys, env):
            found.extend(origin.parts[0] if isinstance(origin, Parts) and origin.parts else (origin,))
        return bool(found) and all(
            row == PARAMETER_KEY or (isinstance(row, State) and row.what == "parameters") for row in found
        )

    def parameter(self, name: str, env: Env) -> Iterable[Origin]:
        """What a parameter may be given: by the call that runs the scope, else by all calls in the project."""
        scope = env.scope
        function = scope.function
        if function is None:
            return
        star = _star_names(scope, name)
        params = scope.parameters
        number = next((i for i, param in enumerate(params) if param.name.value == name), None)
        if number is None and not star:
            return
        method = scope.owner is not None and isinstance(function, cst.FunctionDef) and not is_static(function)
        if method and number == 0:
            if env.receiver is not None:
                yield env.receiver
            return
        begins = isinstance(function, cst.FunctionDef) and function.name.value == "__init__"
        if method and number == 1 and not begins and env.receiver is not None and _is_flow(env.receiver):
            yield env.receiver  # runs of the flow itself, one for each party
            return
        if env.call is not None and env.caller is not None:
            yield from self._given(name, number, method, star, env, env.call, env.caller)
            return
        found = False
        for inner in self.callers.runs_of(env):
            assert inner.call is not None and inner.caller is not None
            found = True
            yield from self._given(name, number, method, star, inner, inner.call, inner.caller)
        if not found:
            planned = tuple(self._planned(name, env)) if method else ()
            if planned:
                yield from planned
                return
            default = params[number].default if number is not None else None
            if default is not None and not isinstance(default, cst.Name):
                yield from self.origins(default, self.alone(env.module, scope.parent) if scope.parent else env)
            yield from self._arrived(name, function, env)

    @abstractmethod
    def _arrived(self, name: str, node: cst.CSTNode, env: Env) -> Iterable[Origin]:
        """What nobody in the project gives a function: what arrives at an endpoint, if it is one."""

    def _planned(self, name: str, env: Env) -> Iterator[Origin]:
        """What a plan gives the constructor of a flow, which no call in the project runs."""
        flow = env.receiver
        if flow is None or flow.cls is None or env.scope.owner is not flow.cls.node or not _is_flow(flow):
            return
        planned = given_by_plan(self.project, env.module, flow.cls.name, name)
        if not isinstance(planned, Planned):
            return
        source, _, leaf = planned.template.rpartition(".")
        module = self.project.find(source, env.module)
        value = self.lookup.global_value(module, leaf) if module is not None else None
        if module is None:
            return
        if not isinstance(value, ClassVal):
            yield from self._global_object(leaf, Env(module, self.index(module).top))
        elif kind_of(value) == "model":
            here = Env(value.module, self.index(value.module).top)
            yield MadeByPlan("model", planned.template, value, value.node, here, plan=planned)

    def _given(
        self, name: str, number: int | None, method: bool, star: str, env: Env, call: cst.Call, caller: Env
    ) -> Iterable[Origin]:
        positional, keywords, stars = arguments_of(call)
        handed = dispatch_of(call)
        if star:
            over = [(arg.value, caller) for arg in call.args]
            over.extend((arg.value, row.env) for row in env.bound for arg in row.node.args[1:])
            if handed is None and not stars and not env.bound:
                left = _left_over(env.scope, star, positional, keywords, method and not _unbound(call, env))
                over = [(given, caller) for given in left]
            for given, run in over:
                yield from self.items(self.origins(given, run))
            return
        assert number is not None
        place = number - (1 if method and not _unbound(call, env) else 0)
        keyword_only = env.scope.function is not None and number >= len(env.scope.parameters) - len(
            env.scope.function.params.kwonly_params
        )
        before: Mapping[str, tuple[cst.BaseExpression, Env]] = {}
        if env.bound:
            lead, before = bound_arguments(env.bound)
            if 0 <= place < len(lead) and not keyword_only:
                yield from self.origins(*lead[place])
                return
            place -= len(lead)
        if handed is not None and self._hands_on(handed.function, env, caller):
            yield from self._handed(handed, name, place if env.bound else number - (1 if method else 0), caller)
            return
        if name in keywords:
            yield from self.origins(keywords[name], caller)
            return
        if 0 <= place < len(positional) and not keyword_only:
            yield from self.origins(positional[place], caller)
            return
        if name in before:
            yield from self.origins(*before[name])
            return
        if stars:
            for arg in call.args:
                if arg.star:
                    yield from self.items(self.origins(arg.value, caller))
            return
        if any(arg.star for row in env.bound for arg in row.node.args):
            yield Opaque(name)
            return
        default = env.scope.parameters[number].default
        if default is not None:
            above = env.scope.parent
            yield from self.origins(default, self.alone(env.module, above) if above is not None else env)

    def _handed(self, handed: Dispatch, name: str, place: int, caller: Env) -> Iterable[Origin]:
        """What a parameter gets where its function is handed on to be called."""
        given: cst.BaseExpression | None = handed.named.get(name)
        if given is None and handed.how == "starmap":
            for origin in self.each(handed.given[0], caller) if handed.given[0] is not None else ():
                if not isinstance(origin, Parts):
                    yield origin
                elif 0 <= place < len(origin.parts):
                    yield from origin.parts[place]
            return
        if given is None and 0 <= place < len(handed.given):
            given = handed.given[place]
        if given is not None:
            yield from self.each(given, caller) if handed.how == "map" else self.origins(given, caller)

    def _hands_on(self, function: cst.BaseExpression, env: Env, caller: Env) -> bool:
        """Whether a function that is handed on is the one that is run."""
        found = self.origins(function, caller)
        return any(
            isinstance(row, Callee) and getattr(function_of(given_before(row.value)[0]), "node", None) is env.scope.node
            for row in found
        )


def among(target: cst.CSTNode, keys: cst.BaseExpression, value: cst.CSTNode, env: Env) -> tuple[Filter, ...]:
    """The condition that ``state[key]`` stands under in a loop over keys: that it is one of them."""
    if isinstance(target, cst.Tuple) and target.elements:
        target = target.elements[0].value
    if not isinstance(keys, (cst.Name, cst.Attribute)) or not isinstance(target, cst.Name):
        return ()
    return (Filter(keys, True, "", env, among=True),) if _is_asked_by(value, target.value) else ()


def _is_asked_by(node: cst.CSTNode, key: str) -> bool:
    """Whether an expression takes an entry by a key: ``state[key].clone()``."""
    return any(
        isinstance(part, cst.Subscript) and isinstance(asked := key_of(part), cst.Name) and asked.value == key
        for part in walk(node)
    )


def _is_converted(index: FileIndex, value: cst.BaseExpression, entry: str) -> bool:
    """Whether a value is an entry in another form, by its code: ``state[key].to(device)``."""
    if not isinstance(value, (cst.Call, cst.Attribute)):
        return False
    while isinstance(value, (cst.Call, cst.Attribute)):
        value = value.func if isinstance(value, cst.Call) else value.value
    return isinstance(value, cst.Subscript) and index.code(value) == entry


def _is_flow(made: Made) -> bool:
    """Whether an object's class is one whose steps a framework hands the runs of it."""
    return made.cls is not None and any(is_flow(base.name) for base in classes.external_bases(made.cls))


def _star_names(scope: Scope, name: str) -> str:
    """``*`` or ``**`` if a name is a star parameter of a scope."""
    function = scope.function
    if function is None:
        return ""
    params = function.params
    if isinstance(params.star_arg, cst.Param) and params.star_arg.name.value == name:
        return "*"
    if params.star_kwarg is not None and params.star_kwarg.name.value == name:
        return "**"
    return ""


def _left_over(
    scope: Scope,
    star: str,
    positional: Sequence[cst.BaseExpression],
    keywords: Mapping[str, cst.BaseExpression],
    method: bool,
) -> list[cst.BaseExpression]:
    """What a star parameter gets of what a call writes out: that for which there is no other parameter."""
    assert scope.function is not None
    params = scope.function.params
    placed = [*params.posonly_params, *params.params]
    if star == "*":
        return list(positional[max(len(placed) - method, 0) :])
    known = {param.name.value for param in (*params.params, *params.kwonly_params)}
    return [value for name, value in keywords.items() if name not in known]


def _unbound(call: cst.Call, env: Env) -> bool:
    """Whether a method is called on its class, with the object as first argument: ``Base.__init__(self, x)``."""
    func = call.func
    return (
        isinstance(func, cst.Attribute)
        and func.attr.value == "__init__"
        and not isinstance(func.value, cst.Call)
        and bool(call.args)
        and isinstance(call.args[0].value, cst.Name)
        and call.args[0].value.value == "self"
    )
