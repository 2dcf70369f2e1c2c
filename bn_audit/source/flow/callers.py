"""Who calls a function, and which classes derive from one: the search by name through the files of a project."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import libcst as cst

from bn_audit.source.flow.dispatch import dispatch_of, dispatched_in
from bn_audit.source.flow.index import arguments_of
from bn_audit.source.flow.indirect import handing_calls, indirect_calls
from bn_audit.source.flow.values import Bound, Callee, Env, Given, Made, given_before
from bn_audit.source.interpreter import classes
from bn_audit.source.interpreter.values import BoundMethod, ClassVal, Func, Partial, Value
from bn_audit.source.nodes import dotted_name
from bn_audit.source.text import SourceError

if TYPE_CHECKING:
    from bn_audit.source.flow.following import Following
    from bn_audit.source.project import PyModule

__all__ = ["MAX_CALLERS", "Callers", "function_of", "is_plain", "is_static", "related"]

MAX_CALLERS = 24
"""Callers of one function that are looked at."""
_MAX_CALLER_SOURCE = 120_000
"""Characters of source that are opened to find the callers of one function: the nearest files come first."""
_MAX_HEIRS = 4
"""Classes that inherit a constructor which are looked for in tables."""
_MAX_SUBCLASSES = 16
"""Subclasses of a class whose methods are looked at for what they write to ``self``."""


_BY_OBJECT = frozenset({"__init__", "__call__"})
"""Methods that are called without their name."""


class Callers:
    """Finds callers and subclasses for a follower; keeps what it has found."""

    def __init__(self, follower: Following) -> None:
        self._follower = follower
        self._running: dict[tuple[int, cst.CSTNode | None, ClassVal | None], list[tuple[cst.Call, Env]]] = {}
        self._callers: dict[int, list[tuple[PyModule, cst.Call]]] = {}
        self._subclasses: dict[int, list[ClassVal]] = {}
        self._indirect: dict[int, list[tuple[PyModule, cst.Call]]] = {}

    def beside(self, follower: Following) -> Callers:
        """The same for another follower of the same project: what is found by name alone is shared."""
        found = Callers(follower)
        found._callers, found._subclasses, found._indirect = self._callers, self._subclasses, self._indirect
        return found

    def of(self, env: Env) -> list[tuple[PyModule, cst.Call]]:
        """The calls in the project that may run a scope, by name."""
        function = env.scope.function
        if not isinstance(function, cst.FunctionDef):
            return []
        found = self._callers.get(id(function))
        if found is not None:
            return found
        found = self._callers[id(function)] = []
        names = [function.name.value]
        if names[0] == "__init__" and env.scope.owner is not None:
            names = [env.scope.owner.name.value, *(heir.name for heir in self._heirs(env, function))]
        least = self._follower.project.left - _MAX_CALLER_SOURCE
        for name in names:
            paths = [*self._follower.finder(name, env.module, "give" if _needs_arguments(env) else "call")]
            if function.name.value == "__init__":
                paths.extend(self._follower.finder(name, env.module, "base"))
            elif isinstance(env.scope.parent and env.scope.parent.node, cst.Module):
                paths = [path for path in paths if self._may_import(path, env.module)]
            for path in dict.fromkeys([*paths, env.module.path]):
                if self._follower.project.left < least:
                    self._follower.exhausted = True
                    break
                try:
                    module = self._follower.project.open(path)
                except SourceError:
                    continue
                index = self._follower.index(module)
                found.extend((module, call) for call in index.calls_of(name))
                found.extend((module, call) for call in dispatched_in(index, name))
                if function.name.value == "__init__":  # from subclasses, by super() or by the base's name
                    found.extend((module, call) for call in index.calls_of("__init__"))
                if len(found) >= MAX_CALLERS:
                    break
        found[:] = list({id(call): (module, call) for module, call in found}.values())[:MAX_CALLERS]
        return found

    def indirectly(self, env: Env) -> list[tuple[PyModule, cst.Call]]:
        """The calls in the project that may run a constructor or function through a table, by another name, or by one
        that is put together at run time; or an object as if it were a function."""
        function = env.scope.function
        owner = env.scope.owner
        if not isinstance(function, cst.FunctionDef) or (owner is not None and function.name.value not in _BY_OBJECT):
            return []
        found = self._indirect.get(id(function))
        if found is None:
            found = self._indirect[id(function)] = []
            if owner is not None and function.name.value == "__call__":
                project, finder = self._follower.project, self._follower.finder
                found.extend(indirect_calls(project, finder, owner.name.value, env.module, objects=True))
                return found
            names = [(function.name.value if owner is None else owner.name.value, env.module)]
            if owner is not None:
                names.extend((heir.name, heir.module) for heir in self._heirs(env, function)[:_MAX_HEIRS])
            for name, module in names:
                found.extend(indirect_calls(self._follower.project, self._follower.finder, name, module))
                found.extend(self._handed(name, module))
        return found

    def _handed(self, name: str, module: PyModule) -> Iterator[tuple[PyModule, cst.Call]]:
        """The calls by which those call a class or function who are given it: ``def run(method): method(server)``."""
        for source, call, place in handing_calls(self._follower.project, name, module):
            for value, receiver in self._follower.callee(call, self._follower.env(source, call)):
                member = classes.find(value, "__init__") if isinstance(value, ClassVal) else None
                func = function_of(member[0] if member is not None else value)
                scope = self._follower.index(func.module).scope(func.node) if func is not None else None
                if func is None or scope is None:
                    continue
                method = scope.owner is not None and (receiver is not None or member is not None)
                number = place + method if isinstance(place, int) else -1
                names = [param.name.value for param in scope.parameters]
                taken = names[number] if 0 <= number < len(names) else place
                index = self._follower.index(func.module)
                kept = [
                    row.attr for row in scope.writes if isinstance(row.value, cst.Name) and row.value.value == taken
                ]
                for word in dict.fromkeys([taken, *kept]):
                    for made in index.calls_of(word) if isinstance(word, str) else ():
                        own = index.scope_of(made) is scope
                        if own if isinstance(made.func, cst.Name) else word in kept:
                            yield func.module, made

    def _may_import(self, path: str, module: PyModule) -> bool:
        """Whether a file names a module, or the package it lies in: to call its function by name it has to."""
        if os.path.abspath(path) == module.path:
            return True
        stem = os.path.basename(os.path.splitext(module.path)[0])
        names = [name for name in (stem, os.path.basename(module.folder)) if name and name != "__init__"]
        return self._follower.project.outside.holds(os.path.abspath(path), [name.encode() for name in names])

    def _heirs(self, env: Env, init: cst.FunctionDef) -> list[ClassVal]:
        """The subclasses that have an ``__init__`` from their base: to call them is to call it."""
        assert env.scope.owner is not None
        cls = self._follower.lookup.class_of(env.module, env.scope.owner)
        found: list[ClassVal] = []
        for other in self.subclasses(cls) if cls is not None else ():
            member = classes.find(other, "__init__")
            method = function_of(member[0]) if member is not None else None
            if method is not None and method.node is init:
                found.append(other)
        return found

    def _fitting(self, env: Env) -> Iterator[tuple[PyModule, cst.Call]]:
        """Those of the calls by name that give what the function takes."""
        for module, call in self.of(env):
            if may_take(env, call, whole=not module.derive(_has_partial)):
                yield module, call

    def running(self, env: Env) -> Iterator[tuple[cst.Call, Env]]:
        """The calls in the project that certainly run a scope for its object, each with the scope it stands in."""
        made = env.receiver
        key = (id(env.scope), made.node if made is not None else None, made.cls if made is not None else None)
        known = self._running.get(key)
        if known is not None:
            yield from known
            return
        before = self._follower.cut
        found: list[tuple[cst.Call, Env]] = []
        for rows in (self._fitting, self.indirectly):
            for module, call in rows(env):
                caller = self._follower.env(module, call)
                if self.runs(call, caller, env):
                    found.append((call, caller))
                    yield call, caller
            if found:
                break
        if self._follower.cut == before:
            self._running[key] = found

    def runs_of(self, env: Env) -> Iterator[Env]:
        """The runs of a scope by the calls in the project that certainly run it."""
        for call, caller in self.running(env):
            bound = self._bound_by(call, caller, env) if caller.module.derive(_has_partial) else ()
            yield Env(env.module, env.scope, call, caller, env.receiver, caller.depth + 1, bound or ())

    def runs(self, call: cst.Call, caller: Env, env: Env) -> bool:
        """Whether a call certainly runs a scope."""
        return self._bound_by(call, caller, env) is not None

    def _bound_by(self, call: cst.Call, caller: Env, env: Env) -> tuple[Bound, ...] | None:
        """What was given before to what a call runs; None if it does not certainly run a scope."""
        function = env.scope.function
        handed = dispatch_of(call)
        if handed is not None:
            for origin in self._follower.origins(handed.function, caller):
                inner, bound = given_before(origin.value) if isinstance(origin, Callee) else (None, ())
                target = function_of(inner)
                if target is not None and target.node is function:
                    return bound
        for called, receiver in self._follower.callee(call, caller):
            value, bound = given_before(called)
            target = function_of(value)
            if target is not None and target.node is function and related(receiver, env.receiver):
                return bound
            if isinstance(value, ClassVal):
                init = classes.find(value, "__init__")
                method = function_of(init[0]) if init is not None else None
                if method is not None and method.node is function:
                    return bound
        return None

    def subclasses(self, cls: ClassVal) -> list[ClassVal]:
        """The classes of the project that have a class among their bases, as far as files name both."""
        key = id(cls.node)
        known = self._subclasses.get(key)
        if known is not None:
            return known
        found = self._subclasses[key] = []
        for path in self._follower.finder(cls.name, cls.module, "base"):
            try:
                module = self._follower.project.open(path)
            except SourceError:
                continue
            for node in self._follower.index(module).classes():
                if len(found) >= _MAX_SUBCLASSES:
                    return found
                if node is cls.node or not any(dotted_name(base.value) for base in node.bases):
                    continue
                other = self._follower.lookup.class_of(module, node)
                if other is not None and any(
                    isinstance(entry, ClassVal) and entry.node is cls.node for entry in classes.mro(other)
                ):
                    found.append(other)
        return found


def _needs_arguments(env: Env) -> bool:
    """Whether a function cannot be called without arguments, its object apart."""
    function = env.scope.function
    if not isinstance(function, cst.FunctionDef) or not is_plain(function):
        return False
    params = function.params
    needed = sum(param.default is None for param in (*params.posonly_params, *params.params))
    return needed > (env.scope.owner is not None)


def is_plain(function: cst.FunctionDef) -> bool:
    """Whether a function takes what it says it does; a wrapper may take something else."""
    return all(dotted_name(row.decorator) in _PLAIN for row in function.decorators)


def is_static(function: cst.CSTNode) -> bool:
    return isinstance(function, cst.FunctionDef) and any(
        dotted_name(row.decorator) == "staticmethod" for row in function.decorators
    )


def may_take(env: Env, call: cst.Call, *, whole: bool = True) -> bool:
    """Whether a function takes as many arguments as a call gives, and has the keywords; true if that cannot be told.

    To find out what object a method is called on can take a long time, and many methods share a name.

    Args:
        env: a run of the function's scope.
        call: of something of its name.
        whole: whether it gives all arguments there are, and none were given before by ``functools.partial``.
    """
    function = env.scope.function
    if not isinstance(function, cst.FunctionDef) or dispatch_of(call) is not None or not is_plain(function):
        return True
    params = function.params
    placed = [*params.posonly_params, *params.params]
    positional, keywords, stars = arguments_of(call)
    if not isinstance(params.star_arg, cst.Param) and len(positional) > len(placed):
        return False
    known = {param.name.value for param in (*placed, *params.kwonly_params)}
    if params.star_kwarg is None and not keywords.keys() <= known:
        return False
    if stars or not whole:
        return True
    given = len(positional) + len(keywords) + (env.scope.owner is not None)
    return given >= sum(param.default is None for param in placed)


def _has_partial(module: PyModule) -> bool:
    return any("partial" in part.source for part in module.parsed.parts)


_PLAIN = frozenset(["staticmethod", "classmethod", "abstractmethod", "abc.abstractmethod", "override", "torch.no_grad"])
"""Decorators that leave a function's parameters as they are."""


def function_of(value: Value | None) -> Func | None:
    """The function behind a member of a class; None if something was given to it before, by ``functools.partial``."""
    while isinstance(value, (BoundMethod, Partial)) and not isinstance(value, Given):
        value = value.func if not isinstance(value.func, str) else None
    return value if isinstance(value, Func) else None


def related(one: Made | None, other: Made | None) -> bool:
    """Whether two objects may be the same, by their classes: one derives from the other's."""
    if one is None or other is None or one.cls is None or other.cls is None:
        return True
    pairs = ((one.cls, other.cls), (other.cls, one.cls))
    return any(
        isinstance(entry, ClassVal) and entry.node is base.node for cls, base in pairs for entry in classes.mro(cls)
    )
