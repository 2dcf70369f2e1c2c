"""Follow an expression back to what it may come from.

Containers are transparent: a list comes from whatever was put into it, and an item of it from the same. Arithmetic on
states, copies and conversions are transparent too. Where a function is looked at by itself, its parameters come from
all its callers in the project.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import libcst as cst

from bn_audit.source.flow.alive import alive_at
from bn_audit.source.flow.averaging import conditions, is_begun, loops_around
from bn_audit.source.flow.callers import MAX_CALLERS, Callers, function_of
from bn_audit.source.flow.circumstances import Condition, impossible
from bn_audit.source.flow.dispatch import Dispatch, dispatch_of, without_remote
from bn_audit.source.flow.dynamic import PICKERS, picks_by_name
from bn_audit.source.flow.frameworks import held_by, is_flow
from bn_audit.source.flow.imported import IMPORTERS, imports_of, picked_in, text_with_holes
from bn_audit.source.flow.index import Binding, FileIndex, Scope, Write, arguments_of
from bn_audit.source.flow.lookup import Lookup
from bn_audit.source.flow.marks import Marks
from bn_audit.source.flow.passing import (
    JOINING_FUNCTIONS,
    PASSING_FUNCTIONS,
    PASSING_METHODS,
    REDUCING,
    STATES,
    makes_models,
)
from bn_audit.source.flow.values import (
    Callee,
    Combined,
    Env,
    Filter,
    Imported,
    Loaded,
    Made,
    Opaque,
    Origin,
    Parts,
    Received,
    State,
    Stepped,
)
from bn_audit.source.interpreter import classes
from bn_audit.source.interpreter.libraries import canonical
from bn_audit.source.interpreter.taught import names_of
from bn_audit.source.interpreter.values import (
    BoundMethod,
    ClassVal,
    Const,
    External,
    Func,
    Instance,
    Module,
    ModuleRef,
    Partial,
    Property,
    Value,
)
from bn_audit.source.nodes import dotted_name, root_name
from bn_audit.source.text import SourceError

if TYPE_CHECKING:
    from bn_audit.source.project import Project, PyModule
    from bn_audit.source.words import Using

__all__ = ["Finder", "Follower"]

Origins = tuple[Origin, ...]


class Finder(Protocol):
    """Names files of the project that use something of a name."""

    def __call__(self, name: str, module: PyModule, using: Using = "call") -> Sequence[str]: ...


_MAX_DEPTH = 90
"""Expressions within expressions that are followed."""
_MAX_CALLS = 12
"""Calls within calls that are told apart by where they were made."""
_LINEAR = (cst.Add, cst.Subtract, cst.Multiply, cst.Divide, cst.Or, cst.And)
"""Operators that make vectors of vectors."""
_MAX_IMPORTS = 8
"""Files through which one name is handed on."""


class Follower:
    """One search through a project; keeps what it has found out."""

    def __init__(self, project: Project, finder: Finder, steps: int = 60_000) -> None:
        self.project = project
        self.finder = finder
        self.steps = steps
        self.exhausted = False
        self.lookup = Lookup(project)
        self.callers = Callers(self)
        self._known: dict[tuple[object, ...], Origins] = {}
        self._tentative: dict[tuple[object, ...], Origins] = {}
        self._busy: set[tuple[object, ...]] = set()
        self._standings: dict[tuple[object, ...], tuple[bool, int]] = {}
        self._depth = 0
        self.cut = 0
        """Above 0 where a circle was met: what was found then is no whole answer."""

    # --- files and names ---------------------------------------------------------------------------------------------

    def index(self, module: PyModule) -> FileIndex:
        """What each scope of a file binds."""
        return module.derive(FileIndex)

    def env(self, module: PyModule, node: cst.CSTNode) -> Env:
        """The scope around a node, looked at by itself."""
        return self.alone(module, self.index(module).scope_of(node))

    def alone(self, module: PyModule, scope: Scope) -> Env:
        """A scope without a caller; a method's ``self`` is then any object of its class."""
        while isinstance(scope.node, cst.ClassDef) and scope.parent is not None:
            scope = scope.parent
        receiver = None
        holder: Scope | None = scope
        while holder is not None and holder.owner is None:
            holder = holder.parent
        if holder is not None and holder.owner is not None:
            receiver = self.any_object(module, holder.owner)
        return Env(module, scope, receiver=receiver)

    def any_object(self, module: PyModule, node: cst.ClassDef) -> Made | None:
        """An object of a class that nobody is seen to make."""
        cls = self.lookup.class_of(module, node)
        if cls is None:
            return None
        return Made(_kind(cls), cls.name, cls, node, Env(module, self.index(module).top))

    # --- expressions -------------------------------------------------------------------------------------------------

    def origins(self, node: cst.CSTNode, env: Env) -> Origins:
        """All that an expression may come from, each once, in the order in which it was found."""
        key = (id(node), env.key)
        known = self._known.get(key) or self._tentative.get(key)
        if known is not None:
            return known
        if key in self._busy:
            self.cut += 1
            return ()
        self.steps -= 1
        if self.steps < 0 or self._depth > _MAX_DEPTH:
            self.exhausted = True
            return (Opaque("a trail too long to follow"),)
        self._busy.add(key)
        self._depth += 1
        before = self.cut
        try:
            found = self._distinct(self._origins(node, env))
        finally:
            self._busy.discard(key)
            self._depth -= 1
        if self.cut == before or not self._busy:
            self._known[key] = found
        else:
            # Met itself on the way: what is missing comes in where the circle began. Good enough until that is done.
            self._tentative[key] = found
        if not self._busy:
            self.cut = 0
            self._tentative.clear()
        return found

    def _distinct(self, found: Iterable[Origin]) -> Origins:
        """Each origin once: of the ways that lead to a model, that with the fewest conditions which can all hold."""
        rows: dict[Origin, Origin] = {}
        for origin in found:
            known = rows.setdefault(origin, origin)
            if known is not origin and isinstance(known, (Made, State)) and isinstance(origin, (Made, State)):
                one, other = _model_of(known), _model_of(origin)
                if one is not None and other is not None and self._standing(other) < self._standing(one):
                    rows[known] = origin
        return tuple(rows.values())

    def _standing(self, made: Made) -> tuple[bool, int]:
        """Whether the branches exclude one another in which the calls stand that lead to an object, and how many they
        are."""
        key = (id(made.node), made.env.key, id(made.env.call))
        known = self._standings.get(key)
        if known is None:
            known = self._standings[key] = self._stands(made)
        return known

    def _stands(self, made: Made) -> tuple[bool, int]:
        count = 0
        tests: list[Condition] = []
        node: cst.CSTNode = made.node
        env: Env | None = made.env
        while env is not None:
            for above in self.index(env.module).above(node):
                if isinstance(above, (cst.FunctionDef, cst.Lambda, cst.ClassDef)):
                    break
                if isinstance(above, cst.If):
                    count += 1
                    if node is above.body:
                        tests.append(Condition(self.index(env.module).code(above.test), True))
                node = above
            if env.call is None:
                break
            node, env = env.call, env.caller
        return impossible(tests), count

    def _origins(self, node: cst.CSTNode, env: Env) -> Iterable[Origin]:
        if isinstance(node, cst.Name):
            yield from self._name(node, env)
        elif isinstance(node, cst.Attribute):
            yield from self.attribute(node, env)
        elif isinstance(node, cst.Call):
            yield from self._combined(node, env)
            yield from self._call(node, env)
        elif isinstance(node, cst.Subscript):
            yield from self._subscript(node, env)
        elif isinstance(node, cst.Tuple):
            if any(isinstance(element, cst.StarredElement) for element in node.elements):
                for element in node.elements:
                    yield from self.items(self.origins(element.value, env))
            else:
                yield Parts(tuple(self.origins(element.value, env) for element in node.elements))
        elif isinstance(node, (cst.List, cst.Set)):
            for element in node.elements:
                yield from self.origins(element.value, env)
        elif isinstance(node, cst.Dict):
            for row in node.elements:
                yield from self.origins(row.value, env)
        elif isinstance(node, cst.IfExp):
            yield from self.origins(node.body, env)
            yield from self.origins(node.orelse, env)
        elif isinstance(node, (cst.BooleanOperation, cst.BinaryOperation)):
            found = (*self.origins(node.left, env), *self.origins(node.right, env))
            yield from found if isinstance(node.operator, _LINEAR) else _no_vectors(found)
        elif isinstance(node, (cst.ListComp, cst.SetComp, cst.GeneratorExp)):
            yield from filtered(self.origins(node.elt, env), _clauses(node, env))
        elif isinstance(node, cst.DictComp):
            yield from filtered(self.origins(node.value, env), _clauses(node, env))
        elif isinstance(node, cst.NamedExpr):
            yield from self.origins(node.value, env)
        elif isinstance(node, (cst.Await, cst.UnaryOperation)):
            yield from self.origins(node.expression, env)
        elif isinstance(node, cst.Lambda):
            yield Callee(Func("<lambda>", node, env.module, self.lookup.run.module_frame(env.module), {}))

    def _combined(self, node: cst.CSTNode, env: Env) -> Iterable[Origin]:
        marks = env.module.derive(Marks)
        averaging = marks.averaging(node)
        if averaging is not None:
            yield Combined(averaging, env)
        step = marks.step(node)
        if step is not None:
            yield Stepped(step, env)

    def items(self, found: Iterable[Origin]) -> Iterator[Origin]:
        """The items of what may be tuples; other containers are their items."""
        for origin in found:
            if isinstance(origin, Parts):
                for part in origin.parts:
                    yield from self.items(part)
            else:
                yield origin

    def _take(self, found: Iterable[Origin], path: Sequence[int]) -> Iterator[Origin]:
        """What stands at a place in nested tuples."""
        if not path:
            yield from found
            return
        for origin in found:
            if isinstance(origin, Parts):
                if path[0] < len(origin.parts):
                    yield from self._take(origin.parts[path[0]], path[1:])
            else:
                yield origin

    # --- names -------------------------------------------------------------------------------------------------------

    def _name(self, node: cst.Name, env: Env) -> Iterable[Origin]:
        name = node.value
        here = self.holder(name, node, env)
        if here is None:
            local = self._local_function(name, env)
            value = local if local is not None else self.lookup.global_value(env.module, name)
            if isinstance(value, (ClassVal, Func, Partial)):
                yield Callee(value)
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
        module: PyModule | None = env.module
        for _ in range(_MAX_IMPORTS):
            if module is None:
                return
            top = self.index(module).top
            rows = top.bindings.get(name, ())
            if any(row.how != "other" for row in rows):
                yield from self.bound(name, None, Env(module, top), Env(module, top))
                return
            module, name = self._imported(module, name, rows)

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
                if any(param.name.value == name for param in scope.parameters) or _star_names(scope, name):
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
            yield from filtered(self.binding(row, here), removed)
        for value, node in scope.puts.get(name, ()):
            passed = (*self._passed(node, here), *removed)
            yield from filtered(self._combined(node, here), passed)
            yield from filtered(self.origins(value, here), passed)
        if name not in scope.puts and alive and all(row.how == "value" and is_empty(row.value) for row in alive):
            yield from self._filled(name, here)
        for call in scope.reduced.get(name, ()):
            yield from filtered(self._combined(call, here), removed)
        if not sealed:
            yield from self.parameter(name, here)
            if scope.parent is None:
                yield from self._declared(name, here)

    def _filled(self, name: str, here: Env) -> Iterable[Origin]:
        """What other functions put into a container that a variable holds: ``train(client, states)``."""
        index = self.index(here.module)
        for call in index.calls_in(here.scope):
            if not _hands(call, name):
                continue
            handed = dispatch_of(call)
            targets = self.callee(call, here)
            if handed is not None:
                rows = [row for row in self.origins(handed.function, here) if isinstance(row, Callee)]
                targets = [(row.value, row.receiver) for row in rows]
            for value, receiver in targets:
                func = function_of(value)
                scope = self.index(func.module).scope(func.node) if func is not None else None
                if func is None or scope is None or here.depth >= _MAX_CALLS:
                    continue
                inner = Env(func.module, scope, call, here, receiver, here.depth + 1)
                for param in scope.parameters:
                    for put, _ in scope.puts.get(param.name.value, ()) if self._is_given(param, name, inner) else ():
                        yield from self.origins(put, inner)

    def _is_given(self, param: cst.Param, name: str, env: Env) -> bool:
        """Whether a parameter is given a variable of the caller's."""
        assert env.call is not None
        scope = env.scope
        method = scope.owner is not None and not _is_static(scope.node)
        number = next(place for place, row in enumerate(scope.parameters) if row is param) - (1 if method else 0)
        handed = dispatch_of(env.call)
        if handed is not None:
            given = handed.named.get(param.name.value)
            if given is None and 0 <= number < len(handed.given) and handed.how != "map":
                given = handed.given[number]
        else:
            given = _argument(env.call, number, param.name.value)
        return isinstance(given, cst.Name) and given.value == name

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
        part = node.targets[0].target.slice[0].slice
        if not isinstance(part, cst.Index) or not isinstance(part.value, cst.Name):
            return ()
        name, index = part.value.value, self.index(env.module)
        loop = next((loop for loop in loops_around(index, node)[::-1] if name in loop.names), None)
        if loop is None:
            return ()
        container = root_name(node.targets[0].target)
        tests = conditions(index, node, loop)
        return tuple(Filter(test, wanted, name, env) for test, wanted in tests if not is_begun(test, name, container))

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
            if name == "zip":
                return (Parts(tuple(self.each(part, env) for part in positional)),)
            if isinstance(node.func, cst.Attribute) and node.func.attr.value == "items" and not node.args:
                return (Parts(((Opaque("key"),), tuple(self.items(self.origins(node.func.value, env))))),)
            if isinstance(node.func, cst.Attribute) and node.func.attr.value == "keys" and not node.args:
                return (Opaque("key"),)
            if isinstance(node.func, cst.Attribute) and node.func.attr.value == "named_parameters":
                return (Parts(((Opaque("key"),), self.origins(node, env))),)
            if name == "range":
                return (Opaque("index"),)
        found = self.origins(node, env)
        if len(found) == 1 and isinstance(found[0], Parts) and isinstance(node, cst.Tuple):
            return tuple(self.items(found))  # written out, it is gone over item by item; a list of tuples keeps them
        return found

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
        method = scope.owner is not None and isinstance(function, cst.FunctionDef) and not _is_static(function)
        if method and number == 0:
            if env.receiver is not None:
                yield env.receiver
            return
        if method and number == 1 and env.receiver is not None and _is_flow(env.receiver):
            yield env.receiver  # runs of the flow itself, one for each party
            return
        if env.call is not None and env.caller is not None:
            yield from self._given(name, number, method, star, env, env.call, env.caller)
            return
        found = False
        for call, caller in self.callers.running(env):
            found = True
            inner = Env(env.module, scope, call, caller, env.receiver, caller.depth + 1)
            yield from self._given(name, number, method, star, inner, call, caller)
        if not found:
            default = params[number].default if number is not None else None
            if default is not None and not isinstance(default, cst.Name):
                yield from self.origins(default, self.alone(env.module, scope.parent) if scope.parent else env)
            yield Received(name)

    def _given(
        self, name: str, number: int | None, method: bool, star: str, env: Env, call: cst.Call, caller: Env
    ) -> Iterable[Origin]:
        positional, keywords, stars = arguments_of(call)
        if star:
            for arg in call.args:
                yield from self.items(self.origins(arg.value, caller))
            return
        assert number is not None
        handed = dispatch_of(call)
        if handed is not None and self._hands_on(handed.function, env, caller):
            yield from self._handed(handed, name, number - (1 if method else 0), caller)
            return
        if name in keywords:
            yield from self.origins(keywords[name], caller)
            return
        place = number - (1 if method and not _unbound(call, env) else 0)
        keyword_only = env.scope.function is not None and number >= len(env.scope.parameters) - len(
            env.scope.function.params.kwonly_params
        )
        if 0 <= place < len(positional) and not keyword_only:
            yield from self.origins(positional[place], caller)
            return
        if stars:
            for arg in call.args:
                if arg.star:
                    yield from self.items(self.origins(arg.value, caller))
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
            isinstance(row, Callee) and getattr(function_of(row.value), "node", None) is env.scope.node for row in found
        )

    # --- attributes --------------------------------------------------------------------------------------------------

    def attribute(self, node: cst.Attribute, env: Env) -> Iterable[Origin]:
        """What ``E.attr`` may be."""
        attr = node.attr.value
        yield from self.member(node.value, attr, env, node)

    def member(
        self, base: cst.BaseExpression, attr: str, env: Env, node: cst.CSTNode | None = None
    ) -> Iterable[Origin]:
        """What an expression's attribute may be: what was written to it by that name, and by its object's class."""
        found = False
        if isinstance(base, cst.Name):
            for origin in self._written(base.value, attr, env):
                found = True
                yield origin
        value = self.lookup.dotted(base, env)
        if value is not None and node is not None and not isinstance(value, (Const, Module, Instance)):
            inner = self.lookup.dotted(node, env)
            if isinstance(inner, External):
                yield Opaque(inner.name)
                return
            if isinstance(value, ModuleRef):
                if isinstance(inner, (ClassVal, Func, Partial)):
                    yield Callee(inner)
                else:
                    top = self.index(value.module).top
                    yield from self._global_object(attr, Env(value.module, top))
                return
        for origin in self.items(self.origins(base, env)):
            if isinstance(origin, Made):
                for each in self.of_object(origin, attr):
                    found = True
                    yield each
                if origin.kind == "library" and isinstance(origin.node, cst.Call):
                    # ``trainer.network`` of ``trainer = SupervisedTrainer(network=model)``
                    given = arguments_of(origin.node)[1].get(attr)
                    if given is not None:
                        found = True
                        yield from self.origins(given, origin.env)
            elif isinstance(origin, Imported):
                yield from self._picked_in(origin, (attr,))
            if attr in PASSING_METHODS and isinstance(origin, (State, Loaded, Received, Made)):
                found = True
                yield origin
            elif isinstance(origin, Received):
                found = True
                yield Received(attr)
        if not found:
            yield Opaque(attr)

    def _written(self, name: str, attr: str, env: Env) -> Iterable[Origin]:
        """Values written to ``name.attr`` in the scopes through which the object came here."""
        current: Env | None = env
        seen: set[int] = set()
        while current is not None and id(current.scope) not in seen:
            seen.add(id(current.scope))
            method = current.scope.owner is not None
            params = current.scope.parameters
            own = bool(method and params and params[0].name.value == name)
            if not own:
                for write in current.scope.writes:
                    if write.root == name and write.attr == attr:
                        yield from self._take(self.origins(write.value, current), write.path)
            number = next((i for i, param in enumerate(params) if param.name.value == name), None)
            if number is None or own:
                holder = self.holder(name, None, current)
                if holder is not None and holder.scope is not current.scope:
                    current = holder
                    continue
                return
            if current.call is None or current.caller is None:
                for call, caller in self.callers.running(current):
                    yield from self._written_by(call, caller, current, number, method, attr)
                return
            given = _argument(current.call, number - (1 if method else 0), name)
            if isinstance(given, cst.Name):
                name, current = given.value, current.caller
                continue
            if isinstance(given, cst.Attribute) and current.caller is not None:
                yield from self._deep(given, attr, current.caller)
            return

    def _written_by(
        self, call: cst.Call, caller: Env, env: Env, number: int, method: bool, attr: str
    ) -> Iterable[Origin]:
        if caller.depth + env.depth > _MAX_CALLS or self._depth > _MAX_DEPTH:
            return
        given = _argument(call, number - (1 if method else 0), env.scope.parameters[number].name.value)
        key = (id(call), number, attr, "written")
        if key in self._busy:
            return
        self._busy.add(key)
        self._depth += 1
        try:
            if isinstance(given, cst.Name):
                yield from self._written(given.value, attr, caller)
            elif isinstance(given, cst.Attribute):
                yield from self._deep(given, attr, caller)
        finally:
            self._busy.discard(key)
            self._depth -= 1

    def _deep(self, base: cst.Attribute, attr: str, env: Env) -> Iterable[Origin]:
        """``self.args.model`` where ``self.args = args`` and ``args.model = E``."""
        if not isinstance(base.value, cst.Name):
            return
        for origin in self.origins(base.value, env):
            if isinstance(origin, Made) and origin.cls is not None:
                for write, inner in self.writes_of(origin, base.attr.value):
                    if isinstance(write.value, cst.Name):
                        yield from self._written(write.value.value, attr, inner)

    def of_object(self, made: Made, attr: str) -> Iterable[Origin]:
        """What an attribute of an object may hold: what the methods of its class, and of its bases, write to it."""
        if made.cls is None:
            yield from self._given_as(attr, made)
            return
        key = (id(made.node), made.name, attr, "attribute", id(made.cls.node) if made.picked else 0)
        if key in self._busy:
            self.cut += 1
            return
        self._busy.add(key)
        try:
            written = False
            for write, env in self.writes_of(made, attr):
                written = written or not is_empty(write.value)
                passed = self._passed(write.node, env) if write.deep else ()
                yield from filtered(self._combined(write.node, env), passed)
                yield from filtered(self._take(self.origins(write.value, env), write.path), passed)
            if not written:
                yield from self._held(made, attr)
                yield from self._given_as(attr, made)
                if classes.find(made.cls, attr) is None:
                    yield from self._set_outside(made, attr)
            member = classes.find(made.cls, attr)
            method = function_of(member[0]) if member is not None else None
            if method is not None:
                yield Callee(method, made)
            elif member is not None and isinstance(member[0], ClassVal):
                yield Callee(member[0])
            if member is not None and isinstance(member[0], Property) and isinstance(member[0].func, Func):
                yield from self.returned(member[0].func, None, made, made.env)
        finally:
            self._busy.discard(key)

    def _given_as(self, attr: str, made: Made) -> Iterable[Origin]:
        """What a message or record is made with under a name: ``Reply(content=state).content``."""
        if not isinstance(made.node, cst.Call):
            return
        place = -1
        if made.cls is not None:
            init = classes.find(made.cls, "__init__")
            fields = list(classes.annotated_fields(made.cls))
            if attr not in fields or (init is not None and isinstance(getattr(init[0], "node", None), cst.FunctionDef)):
                return
            place = fields.index(attr)
        given = _argument(made.node, place, attr)
        if given is not None:
            yield from self.origins(given, made.env)

    def _set_outside(self, made: Made, attr: str) -> Iterable[Origin]:
        """What is written to an object's attribute where it is made: ``server = Server(args); server.nets = nets``."""
        assert made.cls is not None
        if isinstance(made.node, cst.Call):
            yield from self._set_beside(made.node, made.env, attr)
            return
        found = classes.find(made.cls, "__init__")
        init = function_of(found[0]) if found is not None else None
        scope = self.index(init.module).scope(init.node) if init is not None else None
        if init is None or scope is None:
            return
        env = Env(init.module, scope, receiver=made)
        for module, call in self.callers.of(env):
            caller = self.env(module, call)
            if any(write.attr == attr for write in caller.scope.writes) and self.callers.runs(call, caller, env):
                yield from self._set_beside(call, caller, attr)

    def _set_beside(self, call: cst.Call, env: Env, attr: str) -> Iterator[Origin]:
        """What is written to an attribute of what a call gives, in the scope that calls."""
        for write in env.scope.writes:
            made_here = any(row.value is call for row in env.scope.bindings.get(write.root, ()))
            if made_here and write.attr == attr and not is_empty(write.value):
                yield from self._take(self.origins(write.value, env), write.path)

    def _held(self, made: Made, attr: str) -> Iterable[Origin]:
        """What the constructor of a framework's class keeps under a name, for classes that derive from it."""
        assert made.cls is not None
        bases = classes.external_bases(made.cls)
        kept = next((row for base in bases for row in held_by(base.name) if row[0] == attr), None)
        if kept is None:
            return
        _, name, place = kept
        for call, env in self._base_calls(made):
            given = _argument(call, place, name)
            if given is not None:
                yield from self.origins(given, env)

    def _base_calls(self, made: Made) -> Iterator[tuple[cst.Call, Env]]:
        """The calls that run the constructor of an object's base outside the project."""
        assert made.cls is not None
        found = classes.find(made.cls, "__init__")
        init = function_of(found[0]) if found is not None else None
        if init is not None and found is not None and isinstance(found[1], ClassVal):
            index = self.index(init.module)
            scope = index.scope(init.node)
            if scope is not None:
                env = self._env_of_method(init, scope, made, found[1])
                yield from ((call, env) for call in index.calls_of("__init__") if index.scope_of(call) is scope)
            return
        if isinstance(made.node, cst.Call):
            yield made.node, made.env
            return
        for path in self.finder(made.cls.name, made.cls.module)[:MAX_CALLERS]:
            try:
                module = self.project.open(path)
            except SourceError:
                continue
            for call in self.index(module).calls_of(made.cls.name):
                env = self.env(module, call)
                if any(isinstance(value, ClassVal) and value.node is made.node for value, _ in self.callee(call, env)):
                    yield call, env

    def writes_of(self, made: Made, attr: str) -> Iterator[tuple[Write, Env]]:
        assert made.cls is not None
        for cls in self.family(made):
            index = self.index(cls.module)
            for member in cls.attrs.values():
                func = function_of(member)
                if func is None or func.module is not cls.module or not isinstance(func.node, cst.FunctionDef):
                    continue
                if not index.may_write(func.node, attr):
                    continue
                scope = index.scope(func.node)
                if scope is None or not scope.parameters:
                    continue
                own = scope.parameters[0].name.value
                for write in scope.writes:
                    if write.root == own and write.attr == attr:
                        yield write, self._env_of_method(func, scope, made, cls)

    def family(self, made: Made) -> list[ClassVal]:
        """The classes whose methods may write to an object: its own and its bases; for any object, subclasses too."""
        assert made.cls is not None
        found = [entry for entry in classes.mro(made.cls) if isinstance(entry, ClassVal)]
        if isinstance(made.node, cst.ClassDef):
            found.extend(self.callers.subclasses(made.cls))
        return found

    def _env_of_method(self, func: Func, scope: Scope, made: Made, cls: ClassVal) -> Env:
        if func.name == "__init__" and isinstance(made.node, cst.Call):
            chain = self._init_call(made, cls)
            if chain is not None:
                call, caller = chain
                return Env(func.module, scope, call, caller, made, caller.depth + 1)
        if isinstance(made.node, cst.ClassDef) and made.cls is not None and cls.node is not made.cls.node:
            below = self.any_object(cls.module, cls.node) if cls not in classes.mro(made.cls) else None
            return Env(func.module, scope, None, None, below or made)
        return Env(func.module, scope, None, None, made)

    def _init_call(self, made: Made, cls: ClassVal) -> tuple[cst.Call, Env] | None:
        """The call that runs a class's ``__init__`` for an object: the one that made it, or ``super().__init__``."""
        assert made.cls is not None and isinstance(made.node, cst.Call)
        first = classes.find(made.cls, "__init__")
        if first is None or not isinstance(first[1], ClassVal):
            return None
        if first[1].node is cls.node:
            return made.node, made.env
        current = first[1]
        call, env = made.node, made.env
        for _ in range(8):
            func = function_of(current.attrs.get("__init__"))
            if func is None or not isinstance(func.node, cst.FunctionDef):
                return None
            index = self.index(func.module)
            scope = index.scope(func.node)
            if scope is None:
                return None
            env = Env(func.module, scope, call, env, made, env.depth + 1)
            above = next((row for row in index.calls_of("__init__") if index.scope_of(row) is scope), None)
            if above is None:
                return None
            following = classes.find(made.cls, "__init__", after=current)
            if following is None or not isinstance(following[1], ClassVal):
                return None
            call = above
            if following[1].node is cls.node:
                return call, env
            current = following[1]
        return None

    # --- calls -------------------------------------------------------------------------------------------------------

    def _call(self, node: cst.Call, env: Env) -> Iterable[Origin]:
        func = node.func
        if isinstance(func, cst.Attribute):
            attr = func.attr.value
            if attr in STATES and (attr != "state_dict" or len(node.args) < 2):
                yield from self._state(node, func, env)
                return
        target = self.callee(node, env)
        if target:
            picked = self._is_choice(func, env)
            for value, receiver in target:
                yield from self._apply(value, receiver, node, env, picked)
            if picked and any(isinstance(value, ClassVal) and _kind(value) == "model" for value, _ in target):
                yield Made("model", "", None, node, env)
            return
        handed = dispatch_of(node)
        if handed is not None and handed.gives:
            called = [row for row in self.origins(handed.function, env) if isinstance(row, Callee)]
            for row in called:
                yield from self._apply(row.value, row.receiver, node, env)
            if called:
                return
        if isinstance(func, cst.Attribute):
            attr = func.attr.value
            if attr in PASSING_METHODS:
                given = self.items(self.origins(func.value, env))
                yield from _no_vectors(given) if attr in REDUCING else given
                return
            base = tuple(self.items(self.origins(func.value, env)))
            if any(isinstance(origin, Received) for origin in base):
                yield Received(attr)
                return
        name = dotted_name(func) or ""
        leaf = name.rpartition(".")[2]
        if leaf == "getattr" and len(node.args) > 1 and _imports_by_name(env.module):
            yield from self._picked(node.args[0].value, node.args[1].value, env)
        picked = leaf not in PICKERS and (
            picks_by_name(self.index(env.module), func) or any(map(_is_picked, self.origins(func, env)))
        )
        if picked:
            yield Made("model", "", None, node, env)
        else:
            # A message of a protocol that is not in the source is known by what it is made with.
            record = leaf[:1].isupper() and any(arg.keyword is not None for arg in node.args)
            yield Made("object", name, None, node, env) if record else Opaque(name)

    def _picked(self, base: cst.BaseExpression, name: cst.BaseExpression, env: Env) -> Iterator[Origin]:
        """What is picked by a name in modules that are imported by one."""
        for origin in self.items(self.origins(base, env)):
            if isinstance(origin, Imported):
                text = text_with_holes(self.index(env.module), name)
                yield from self._picked_in(origin, text)

    def _picked_in(self, imported: Imported, text: tuple[str | None, ...]) -> Iterator[Origin]:
        for module, node in picked_in(self.project, imported, text):
            cls = self.lookup.class_of(module, node)
            if cls is not None:
                yield Callee(cls, picked=True)

    def _is_choice(self, func: cst.BaseExpression, env: Env) -> bool:
        """Whether what is called was seen to be picked by a name at run time."""
        key = (id(func), env.key)
        found = self._known.get(key) or self._tentative.get(key) or ()
        return any(isinstance(row, Callee) and row.picked for row in found)

    def _state(self, node: cst.Call, func: cst.Attribute, env: Env) -> Iterable[Origin]:
        what = STATES[func.attr.value]
        found = False
        for origin in self.items(self.origins(func.value, env)):
            if isinstance(origin, Made) and origin.kind == "model":
                found = True
                yield State(what, origin, node, env)
            elif isinstance(origin, (Loaded, Received)):
                found = True
                yield State(what, None, node, env)
        if not found:
            yield State(what, None, node, env)

    def callee(self, node: cst.Call, env: Env) -> list[tuple[Value, Made | None]]:
        """What a call may call: functions with the object they are methods of, classes, things of libraries."""
        func = without_remote(node.func)
        if isinstance(func, cst.Name):
            local = self._local_function(func.value, env)
            if local is not None:
                return [(local, None)]
        value = self.lookup.dotted(func, env)
        if isinstance(value, (Func, ClassVal, External, Partial)):
            return [(value, None)]
        if isinstance(value, BoundMethod) and isinstance(value.func, Func):
            return [(value.func, None)]
        if value is not None and not isinstance(value, (Module, Instance)) and hasattr(value, "name"):
            name = getattr(value, "name", "")
            if isinstance(name, str) and (name in PASSING_FUNCTIONS or name == "filter"):
                return [(External(name), None)]
        found: list[tuple[Value, Made | None]] = []
        if isinstance(func, cst.Attribute):
            above = isinstance(func.value, cst.Call) and dotted_name(func.value.func) == "super"
            if above and env.receiver is not None and env.receiver.cls is not None:
                return self._super_method(func.attr.value, env)
            for origin in self.items(self.origins(func.value, env)):
                if isinstance(origin, Made) and origin.cls is not None:
                    member = classes.find(origin.cls, func.attr.value)
                    method = function_of(member[0]) if member is not None else None
                    if method is not None and not any(known is method for known, _ in found):
                        found.append((method, origin))
                    found.extend(self._overrides(origin, func.attr.value))
        if not found and not isinstance(func, cst.Lambda):
            for origin in self.items(self.origins(func, env)):
                if isinstance(origin, Callee):
                    found.append((origin.value, origin.receiver))
        return found

    def _overrides(self, made: Made, name: str) -> Iterator[tuple[Value, Made | None]]:
        """What a method may be where only the base of an object's class is known: that of a subclass."""
        if not isinstance(made.node, cst.ClassDef) or made.cls is None:
            return
        for cls in self.callers.subclasses(made.cls):
            method = function_of(cls.attrs.get(name))
            if method is not None and method.module is cls.module:
                yield method, self.any_object(cls.module, cls.node)

    def _super_method(self, name: str, env: Env) -> list[tuple[Value, Made | None]]:
        receiver = env.receiver
        assert receiver is not None and receiver.cls is not None
        holder: Scope | None = env.scope
        while holder is not None and holder.owner is None:
            holder = holder.parent
        owner = (
            self.lookup.class_of(env.module, holder.owner) if holder is not None and holder.owner is not None else None
        )
        if owner is None:
            return []
        found = classes.find(receiver.cls, name, after=owner)
        method = function_of(found[0]) if found is not None else None
        return [(method, receiver)] if method is not None else []

    def _local_function(self, name: str, env: Env) -> Func | None:
        scope: Scope | None = env.scope
        while scope is not None and scope.parent is not None:
            rows = scope.bindings.get(name)
            if rows and not isinstance(scope.node, cst.ClassDef):
                row = rows[-1]
                if isinstance(row.node, cst.FunctionDef):
                    return Func(name, row.node, env.module, self.lookup.run.module_frame(env.module), {})
                return None
            scope = scope.parent
        return None

    def _apply(
        self, value: Value, receiver: Made | None, node: cst.Call, env: Env, picked: bool = False
    ) -> Iterable[Origin]:
        if isinstance(value, Partial):
            yield from self._apply(value.func, receiver, node, env, picked)
        elif env.module.taught is not None and env.module.taught.makes_model(names_of(value)):
            yield Made("model", names_of(value)[0], None, node, env)
        elif isinstance(value, ClassVal):
            yield Made(_kind(value), value.name, value, node, env, picked=picked)
        elif isinstance(value, Func):
            if self._adds_noise(value):
                step = env.module.derive(Marks).step_by(node)
                if step is not None:
                    yield Stepped(step, env)
            yield from self.returned(value, node, receiver, env)
        elif isinstance(value, External):
            yield from self._external(canonical(value.name), node, env)
        else:
            yield Opaque(dotted_name(node.func) or "")

    def _external(self, name: str, node: cst.Call, env: Env) -> Iterable[Origin]:
        if name == "filter" and len(node.args) == 2:
            unclear = (Filter(node, True, "", env),)
            yield from filtered(self.items(self.origins(node.args[1].value, env)), unclear)
            return
        if name.rpartition(".")[2] in IMPORTERS:
            imported = imports_of(self.project, self.index(env.module), node)
            yield imported if imported is not None else Opaque(name)
        elif name in ("torch.load", "safetensors.torch.load_file", "pickle.load", "joblib.load"):
            yield Loaded()
        elif name in JOINING_FUNCTIONS:
            for given in node.args[:1]:
                for origin in self.items(self.origins(given.value, env)):
                    yield replace(origin, flat=True) if isinstance(origin, State) else origin
        elif name in PASSING_FUNCTIONS or name.rpartition(".")[2] in ("DataParallel", "DistributedDataParallel"):
            positional, keywords, _ = arguments_of(node)
            for number, argument in enumerate((*positional, *keywords.values())):
                if name in ("map", "functools.reduce") and number == 0:
                    continue
                if name in ("zip", "enumerate"):
                    yield from self.items(self.each(node, env))
                    return
                found = self.origins(argument, env)
                leaf = name.rpartition(".")[2]
                # ``dict((key, value) for ...)``: what it holds are the values.
                values = self.items(found) if leaf in ("dict", "OrderedDict") else found
                yield from _no_vectors(values) if leaf in REDUCING else values
            for arg in node.args:
                if arg.star == "*":
                    yield from self.items(self.origins(arg.value, env))
        else:
            yield Made("model" if makes_models(name) else "library", name, None, node, env)

    def _adds_noise(self, func: Func) -> bool:
        """Whether a function adds noise to what it gives back."""
        return isinstance(func.node, cst.FunctionDef) and func.module.derive(Marks).adds_noise(func.node)

    def returned(self, func: Func, call: cst.Call | None, receiver: Made | None, env: Env) -> Iterable[Origin]:
        """What a function returns (or yields) when it is called so."""
        index = self.index(func.module)
        scope = index.scope(func.node)
        if scope is None:
            return
        if receiver is None and scope.owner is not None:
            receiver = self.any_object(func.module, scope.owner)
        if env.depth >= _MAX_CALLS:
            inner = Env(func.module, scope, receiver=receiver)
        else:
            inner = Env(func.module, scope, call, env if call is not None else None, receiver, env.depth + 1)
        for value in scope.returns:
            yield from self.origins(value, inner)
        for value in scope.yields:
            yield from self.origins(value, inner)

    def _subscript(self, node: cst.Subscript, env: Env) -> Iterable[Origin]:
        base = node.value
        part = node.slice[0].slice if len(node.slice) == 1 else None
        if isinstance(base, cst.Attribute) and base.attr.value == "__dict__" and isinstance(part, cst.Index):
            yield from self._picked(base.value, part.value, env)
            yield Opaque("getattr")
            return
        found = self.origins(node.value, env)
        number = _literal_index(node)
        if number is None:
            if isinstance(node.value, cst.Name) or any(isinstance(origin, Parts) for origin in found):
                # A list of tuples: an item of it is a tuple still.
                yield from found
                return
            yield from self.items(found)
            return
        for origin in found:
            if isinstance(origin, Parts):
                if -len(origin.parts) <= number < len(origin.parts):
                    yield from origin.parts[number]
            else:
                yield origin


def filtered(found: Iterable[Origin], filters: tuple[Filter, ...]) -> Iterator[Origin]:
    """States, and what they were combined to, after they have passed conditions on their entries."""
    for origin in found:
        if filters and isinstance(origin, (State, Combined)):
            known = {id(row.node) for row in origin.filters}
            fresh = tuple(row for row in filters if id(row.node) not in known)
            yield replace(origin, filters=(*origin.filters, *fresh))
        elif filters and isinstance(origin, Parts):
            yield Parts(tuple(tuple(filtered(part, filters)) for part in origin.parts))
        else:
            yield origin


def _no_vectors(found: Iterable[Origin]) -> Iterator[Origin]:
    """Entries that were joined to vectors, of which a distance or a sum was taken: what they were for is lost."""
    for origin in found:
        yield replace(origin, flat=False) if isinstance(origin, State) and origin.flat else origin


def _model_of(origin: Made | State) -> Made | None:
    return origin.model if isinstance(origin, State) else origin


def _clauses(node: cst.BaseComp, env: Env) -> tuple[Filter, ...]:
    """The ``if`` clauses of a comprehension, with what it calls the key: the first name of ``for k, v in ...``."""
    found: list[Filter] = []
    clause: cst.CompFor | None = getattr(node, "for_in", None)
    while clause is not None:
        target: cst.CSTNode = clause.target
        if isinstance(target, cst.Tuple) and target.elements:
            target = target.elements[0].value
        name = target.value if isinstance(target, cst.Name) else ""
        found.extend(Filter(row.test, True, name, env) for row in clause.ifs)
        clause = clause.inner_for_in
    return tuple(found)


_CONTAINERS = frozenset(["list", "dict", "set", "OrderedDict", "defaultdict", "deque", "Queue", "SimpleQueue"])


def is_empty(node: cst.CSTNode | None) -> bool:
    """Whether a value is None, or a container with nothing in it, as far as its expression tells."""
    if isinstance(node, (cst.List, cst.Dict)):
        return not node.elements
    if isinstance(node, cst.Call):
        name = (dotted_name(node.func) or "").rpartition(".")[2]
        return name in _CONTAINERS and (not node.args or name in ("defaultdict", "Queue"))
    return isinstance(node, cst.Name) and node.value == "None"


def _hands(call: cst.Call, name: str) -> bool:
    """Whether a name is among the arguments of a call, or in a tuple or list that is."""
    for arg in call.args:
        rows = (
            [row.value for row in arg.value.elements] if isinstance(arg.value, (cst.Tuple, cst.List)) else [arg.value]
        )
        if any(isinstance(row, cst.Name) and row.value == name for row in rows):
            return True
    return False


def _imports_by_name(module: PyModule) -> bool:
    return any(word in part.source for part in module.parsed.parts for word in IMPORTERS)


def _is_picked(origin: Origin) -> bool:
    """Whether a value is a class or function that was picked by its name."""
    return isinstance(origin, Opaque) and origin.name.rpartition(".")[2] in PICKERS


def _is_flow(made: Made) -> bool:
    """Whether an object's class is one whose steps a framework hands the runs of it."""
    return made.cls is not None and any(is_flow(base.name) for base in classes.external_bases(made.cls))


def _kind(cls: ClassVal) -> str:
    return "model" if classes.kind(cls) == "torch" else "object"


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


def _is_static(function: cst.CSTNode) -> bool:
    return isinstance(function, cst.FunctionDef) and any(
        dotted_name(row.decorator) == "staticmethod" for row in function.decorators
    )


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


def _argument(call: cst.Call, place: int, name: str) -> cst.BaseExpression | None:
    positional, keywords, _ = arguments_of(call)
    if name in keywords:
        return keywords[name]
    return positional[place] if 0 <= place < len(positional) else None


def _literal_index(node: cst.Subscript) -> int | None:
    if len(node.slice) != 1 or not isinstance(node.slice[0].slice, cst.Index):
        return None
    value = node.slice[0].slice.value
    sign = 1
    if isinstance(value, cst.UnaryOperation) and isinstance(value.operator, cst.Minus):
        sign, value = -1, value.expression
    if isinstance(value, cst.Integer):
        try:
            return sign * int(value.value, 0)
        except ValueError:
            return None
    return None
