"""What is put into a container that a variable holds elsewhere than where it is bound: by functions that are given it,
by functions inside, by other files that import it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

import libcst as cst

from bn_audit.source.flow.callers import function_of, is_static
from bn_audit.source.flow.combining.sums import begins_anew
from bn_audit.source.flow.dispatch import dispatch_of
from bn_audit.source.flow.following import MAX_CALLS, Following
from bn_audit.source.flow.index import FileIndex, arguments_of
from bn_audit.source.flow.loops import OVER_TIME, Loop, depends, loop_of, loops_around, over_time, said_of
from bn_audit.source.flow.passing import STATES
from bn_audit.source.flow.values import Callee, Env, Made, Origin
from bn_audit.source.interpreter.values import ModuleRef
from bn_audit.source.nodes import dotted_name, root_name, walk
from bn_audit.source.text import SourceError

if TYPE_CHECKING:
    from bn_audit.source.project import PyModule

__all__ = ["Containers", "argument_at"]

_MAX_RUNS = 8
"""Callers of a function that puts something into a container of another file."""
_TRIALS = re.compile(r"(?i)fold|seed|trial")
"""What a function is called that trains once more."""
_SNAPSHOTS = re.compile(r"(?i)snapshot|history|epoch|checkpoint|(?<![a-z])(?:swa|ema)(?![a-z])")
"""What is called so keeps one training's states over time."""

_AROUND = (cst.For, cst.While, cst.FunctionDef, cst.Lambda, cst.ClassDef)


class Containers(Following):
    """The part of a follower that knows what is put into containers."""

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
                if func is None or scope is None or here.depth >= MAX_CALLS:
                    continue
                inner = Env(func.module, scope, call, here, receiver, here.depth + 1)
                for param in scope.parameters:
                    for put, at in scope.puts.get(param.name.value, ()) if self._is_given(param, name, inner) else ():
                        yield from self._combined(at, inner)
                        yield from self.origins(put, inner)

    def _filled_within(self, name: str, here: Env) -> Iterable[Origin]:
        """What functions put into a container of a scope around them: ``updates = []``, ``def receive(state):
        updates.append(state)``."""
        for scope in self.index(here.module).filling(name):
            outer = scope.parent
            while outer is not None and outer is not here.scope:
                outer = None if name in outer.bindings or outer.takes(name) else outer.parent
            if outer is None:
                continue
            yield from self._put_by(name, scope.puts[name], self.alone(here.module, scope))

    def _filled_elsewhere(self, name: str, here: Env) -> Iterable[Origin]:
        """What other files put into a container of a module: ``store.states.append(state)``, ``from store import
        states``."""
        for other in self._files_that_fill(name, here.module):
            yield from self._filled_in(other, name, here)

    def _files_that_fill(self, name: str, module: PyModule) -> Iterator[PyModule]:
        """The other files that put something into what goes by a name, and speak of a module."""
        stem = os.path.splitext(os.path.basename(module.path))[0]
        folder = os.path.basename(os.path.dirname(module.path))
        word = (folder if stem == "__init__" else stem).encode()
        root = self.project.root(module.path)
        for path in self.finder(name, module, "fill"):
            absolute = os.path.abspath(path)
            if absolute == module.path or self.project.root(absolute) != root:
                continue
            if not self.project.outside.holds(absolute, [word]):
                continue
            try:
                yield self.project.open(path)
            except SourceError:
                continue

    def _filled_of_object(self, made: Made, attr: str) -> Iterable[Origin]:
        """What other files put into a container that an object of a module holds: ``from store import store``,
        ``store.states.append(state)``."""
        module, top = made.env.module, made.env.scope
        if top.parent is not None:
            return
        homes = {
            (module.path, name) for name, rows in top.bindings.items() if any(row.value is made.node for row in rows)
        }
        for other in self._files_that_fill(attr, module) if homes else ():
            for scope, write in self.index(other).filling_of(attr):
                inner = self.alone(other, scope)
                if self.holder(write.root, None, inner) is not None:
                    continue  # a variable of its own
                found = self.home(write.root, other)
                if found is not None and (found[0].module.path, found[1]) in homes:
                    yield from self._put_by(attr, [(write.value, write.node)], inner, alike=True)

    def _filled_in(self, module: PyModule, name: str, here: Env) -> Iterable[Origin]:
        """What one of the other files puts into it."""
        index = self.index(module)
        home = (here.module.path, name)
        for own in _names_of(index, name):
            found = self.home(own, module)
            if found is None or (found[0].module.path, found[1]) != home:
                continue
            scopes = index.filling(own)
            if own in index.top.puts:
                scopes.append(index.top)
            for scope in scopes:
                yield from self._put_by(own, scope.puts[own], self.alone(module, scope), alike=True)
        for scope, write in index.filling_of(name):
            inner = self.alone(module, scope)
            held = self.lookup.dotted(cst.Name(write.root), inner)
            if isinstance(held, ModuleRef) and held.module.path == here.module.path:
                yield from self._put_by(name, [(write.value, write.node)], inner, alike=True)

    def _put_by(
        self, name: str, puts: Iterable[tuple[cst.BaseExpression, cst.CSTNode]], env: Env, *, alike: bool = False
    ) -> Iterable[Origin]:
        """What a function puts into a container that others read: no snapshots of one training.

        Args:
            alike: whether the function and who calls it have to say so too.
        """
        index, scope = self.index(env.module), env.scope
        function = scope.function.name.value if isinstance(scope.function, cst.FunctionDef) else ""
        if _SNAPSHOTS.search(f"{name} {function}"):
            return
        if alike and (_TRIALS.search(function) or self._is_run_over_time(env)):
            return
        for value, node in puts:
            held = " ".join(said_of(index, loop) for loop in loops_around(index, node)[-1:])
            if OVER_TIME.search(held):
                continue
            yield from self._combined(node, env)
            yield from self.origins(value, env)

    def _is_snapshot(self, name: str, value: cst.BaseExpression, node: cst.CSTNode, here: Env) -> bool:
        """Whether a container gets the state of one model in each turn of its training: ``for epoch in range(n):
        train(net); states.append(net.state_dict())``."""
        index, scope = self.index(here.module), here.scope
        around = next((above for above in index.above(node) if isinstance(above, _AROUND)), None)
        if not isinstance(around, (cst.For, cst.While)):
            return False
        loop = loop_of(around) if isinstance(around, cst.For) else Loop(around, (), around.test)
        inside = id(around.body)
        if not over_time(index, loop):
            return False
        listed = isinstance(node, cst.Call) or (isinstance(node, cst.Assign) and depends(index, node.targets[0], loop))
        if not listed or any(inside in row.blocks for row in scope.bindings.get(name, ())):
            return False
        if isinstance(value, cst.Name):
            named = [row for row in scope.bindings.get(value.value, ()) if row.region is None]
            if len(named) != 1 or named[0].how != "value" or not isinstance(named[0].value, cst.BaseExpression):
                return False
            value = named[0].value
        for part in walk(value):
            if isinstance(part, cst.Call) and isinstance(part.func, cst.Attribute) and part.func.attr.value in STATES:
                root = root_name(part.func.value)
                rows = scope.bindings.get(root, ()) if root is not None else ()
                if root is None or root in loop.names or depends(index, part, loop):
                    return False
                return not any(inside in row.blocks for row in rows) and not begins_anew(index, loop, part.func.value)
        return False

    def _is_run_over_time(self, env: Env) -> bool:
        """Whether a function is run once for each step or trial, as the loops around its calls say."""
        for call, caller in islice(self.callers.running(env), _MAX_RUNS) if env.scope.function is not None else ():
            index = self.index(caller.module)
            if any(over_time(index, loop) for loop in loops_around(index, call)[-1:]):
                return True
        return False

    def _is_given(self, param: cst.Param, name: str, env: Env) -> bool:
        """Whether a parameter is given a variable of the caller's."""
        assert env.call is not None
        scope = env.scope
        method = scope.owner is not None and not is_static(scope.node)
        number = next(place for place, row in enumerate(scope.parameters) if row is param) - (1 if method else 0)
        handed = dispatch_of(env.call)
        if handed is not None:
            given = handed.named.get(param.name.value)
            if given is None and 0 <= number < len(handed.given) and handed.how != "map":
                given = handed.given[number]
        else:
            given = argument_at(env.call, number, param.name.value)
        return isinstance(given, cst.Name) and given.value == name


def _names_of(index: FileIndex, name: str) -> Iterator[str]:
    """What a file calls what it imports by a name."""
    for own, rows in index.top.bindings.items():
        for row in rows:
            if isinstance(row.node, cst.ImportFrom) and not isinstance(row.node.names, cst.ImportStar):
                parts = [(alias.name, alias.asname.name if alias.asname else alias.name) for alias in row.node.names]
                if any(dotted_name(part) == name and dotted_name(called) == own for part, called in parts):
                    yield own
                    break


def _hands(call: cst.Call, name: str) -> bool:
    """Whether a name is among the arguments of a call, or in a tuple or list that is."""
    for arg in call.args:
        rows = (
            [row.value for row in arg.value.elements] if isinstance(arg.value, (cst.Tuple, cst.List)) else [arg.value]
        )
        if any(isinstance(row, cst.Name) and row.value == name for row in rows):
            return True
    return False


def argument_at(call: cst.Call, place: int, name: str) -> cst.BaseExpression | None:
    positional, keywords, _ = arguments_of(call)
    if name in keywords:
        return keywords[name]
    return positional[place] if 0 <= place < len(positional) else None
