"""What an attribute of an object may hold: what its methods write there, its base's, or whoever has the object."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator

import libcst as cst

from bn_audit.source.flow.callers import MAX_CALLERS, function_of
from bn_audit.source.flow.containers import argument_at
from bn_audit.source.flow.displays import entries_under
from bn_audit.source.flow.endpoints import ANSWERS
from bn_audit.source.flow.following import MAX_CALLS, MAX_DEPTH, filtered
from bn_audit.source.flow.frameworks import held_by
from bn_audit.source.flow.index import Scope, Write, arguments_of
from bn_audit.source.flow.passing import PASSING_METHODS
from bn_audit.source.flow.values import (
    Callee,
    Combined,
    Env,
    Imported,
    Loaded,
    Made,
    Opaque,
    Origin,
    Received,
    State,
    is_of_message,
)
from bn_audit.source.flow.variables import Variables
from bn_audit.source.interpreter import classes
from bn_audit.source.interpreter.values import (
    ClassVal,
    Const,
    External,
    Func,
    Instance,
    Module,
    ModuleRef,
    Partial,
    Property,
)
from bn_audit.source.nodes import is_empty
from bn_audit.source.text import SourceError

__all__ = ["Attributes"]


_MAX_WRITES = 8
"""Places of a file where one attribute is written that are looked at."""
_HELD = frozenset(["model", "network", "net"])
"""What a library's object calls the model that it is given first."""


class Attributes(Variables):
    """The part of a follower that knows objects."""

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
                yield from self._of_library(inner.name, node, env)
                return
            if isinstance(value, ModuleRef):
                if isinstance(inner, (ClassVal, Func, Partial)):
                    yield Callee(self.as_given(inner))
                else:
                    top = self.index(value.module).top
                    yield from self._global_object(attr, Env(value.module, top))
                return
        origins = tuple(self.items(self.origins(base, env)))
        entries = entries_under(self, base, attr, env) if any(map(is_of_message, origins)) else []
        if entries:  # a field of a message
            for entry in entries:
                yield from self.origins(entry.value, entry.env)
            return
        for origin in origins:
            if isinstance(origin, Made):
                for each in self.of_object(origin, attr):
                    found = True
                    yield each
                if origin.kind == "library" and isinstance(origin.node, cst.Call):
                    for each in self._wrapped(origin.node, attr, origin.env):
                        found = True
                        yield each
            elif isinstance(origin, Imported):
                yield from self._picked_in(origin, (attr,))
            if attr in PASSING_METHODS and isinstance(origin, (State, Combined, Loaded, Received, Made)):
                found = True
                yield origin
            elif is_of_message(origin) or (attr in ANSWERS and isinstance(origin, Combined)):
                found = True
                yield origin  # a field of it
            elif isinstance(origin, Combined) and origin.averaging.by is not None and origin.averaging.by.own:
                found = True
                yield origin  # what the object holds that was added up
            elif isinstance(origin, Received):
                found = True
                yield Received(attr)
        if not found:
            yield Opaque(attr)

    @abstractmethod
    def _of_library(self, name: str, node: cst.CSTNode, env: Env) -> Iterable[Origin]:
        """What a thing of a library is, by its dotted name."""

    def _wrapped(self, made: cst.Call, attr: str, env: Env) -> Iterable[Origin]:
        """``trainer.network`` of ``trainer = SupervisedTrainer(network=model)``, ``converter.model`` of
        ``converter = Converter(model)``."""
        positional, keywords, _ = arguments_of(made)
        if attr in keywords:
            yield from self.origins(keywords[attr], env)
        elif attr in _HELD and positional:
            for origin in self.items(self.origins(positional[0], env)):
                if isinstance(origin, Made) and origin.kind == "model":
                    yield origin

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
            if current.bound:
                return
            given = argument_at(current.call, number - (1 if method else 0), name)
            if isinstance(given, cst.Name):
                name, current = given.value, current.caller
                continue
            if isinstance(given, cst.Attribute) and current.caller is not None:
                yield from self._deep(given, attr, current.caller)
            return

    def _written_by(
        self, call: cst.Call, caller: Env, env: Env, number: int, method: bool, attr: str
    ) -> Iterable[Origin]:
        if caller.depth + env.depth > MAX_CALLS or self._depth > MAX_DEPTH:
            return
        given = argument_at(call, number - (1 if method else 0), env.scope.parameters[number].name.value)
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
        key = (id(made.node), made.name, attr, "attribute", id(made.cls.node))
        if key in self._busy:
            self.cut += 1
            return
        self._busy.add(key)
        try:
            written = known = False
            for write, env in self.writes_of(made, attr):
                written = written or not is_empty(write.value)
                passed = self._passed(write.node, env) if write.deep else ()
                yield from filtered(self._combined(write.node, env), passed)
                for origin in filtered(self._take(self.origins(write.value, env), write.path), passed):
                    known = known or not isinstance(origin, (Opaque, Received))
                    yield origin
            if not written:
                yield from self._held(made, attr)
                yield from self._given_as(attr, made)
            if not known and classes.find(made.cls, attr) is None:
                yield from self._set_outside(made, attr)
                yield from self._filled_of_object(made, attr)
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
        if not isinstance(made.node, cst.Call) or made.bound:
            return
        place = -1
        if made.cls is not None:
            init = classes.find(made.cls, "__init__")
            fields = list(classes.annotated_fields(made.cls))
            if attr not in fields or (init is not None and isinstance(getattr(init[0], "node", None), cst.FunctionDef)):
                return
            place = fields.index(attr)
        given = argument_at(made.node, place, attr)
        if given is not None:
            yield from self.origins(given, made.env)

    def _set_outside(self, made: Made, attr: str) -> Iterable[Origin]:
        """What is written to an object's attribute where it is made, ``server = Server(args); server.nets = nets``, or
        elsewhere in that file: ``for client in self.clients: client.net = Net()``."""
        assert made.cls is not None
        if isinstance(made.node, cst.Call):
            beside = False
            for origin in self._set_beside(made.node, made.env, attr):
                beside = True
                yield origin
            if not beside:
                yield from self._set_elsewhere(made, attr)
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

    def _set_elsewhere(self, made: Made, attr: str) -> Iterator[Origin]:
        """What is written to an attribute of an object in other functions of the file that makes it."""
        module = made.env.module
        for node, target in self.index(module).assigned(attr)[:_MAX_WRITES]:
            env = self.env(module, node)
            params = env.scope.parameters
            own = params[0].name.value if env.scope.owner is not None and params else ""
            held = target.value
            if isinstance(held, cst.Name) and held.value == own:
                continue
            if not is_empty(node.value) and any(row == made for row in self.items(self.origins(held, env))):
                yield from self.origins(node.value, env)

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
            given = argument_at(call, place, name)
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
            if not made.bound:
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
                bound = made.bound if call is made.node else ()
                return Env(func.module, scope, call, caller, made, caller.depth + 1, bound)
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
            bound = made.bound if call is made.node else ()
            env = Env(func.module, scope, call, env, made, env.depth + 1, bound)
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
