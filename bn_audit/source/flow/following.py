"""What the parts of a follower share, and what they ask of each other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import libcst as cst

from bn_audit.source.flow.callers import Callers
from bn_audit.source.flow.constants import Constants
from bn_audit.source.flow.given import given_by, taken
from bn_audit.source.flow.index import FileIndex, Scope, Write
from bn_audit.source.flow.lookup import Lookup
from bn_audit.source.flow.values import Bound, Combined, Env, Filter, Given, Imported, Made, Origin, Parts, State
from bn_audit.source.interpreter import classes
from bn_audit.source.interpreter.values import ClassVal, Func, Partial, Value

if TYPE_CHECKING:
    from bn_audit.source.flow.endpoints import Endpoints
    from bn_audit.source.flow.files import Files
    from bn_audit.source.flow.wires import Wires
    from bn_audit.source.project import Project, PyModule
    from bn_audit.source.words import Using

__all__ = [
    "MAX_CALLS",
    "MAX_DEPTH",
    "MAX_STEPS",
    "Finder",
    "Following",
    "Origins",
    "filtered",
    "kind_of",
    "no_vectors",
    "unfiltered",
]

Origins = tuple[Origin, ...]

MAX_DEPTH = 90
"""Expressions within expressions that are followed."""
MAX_STEPS = 60_000
"""Expressions that one search follows."""
MAX_CALLS = 12
"""Calls within calls that are told apart by where they were made."""


class Finder(Protocol):
    """Names files of the project that use something of a name."""

    def __call__(self, name: str, module: PyModule, using: Using = "call") -> Sequence[str]: ...


class Following(ABC):
    """One search through a project; keeps what it has found out.

    Its parts are layers: variables, the attributes of objects, calls; the whole is
    :class:`bn_audit.source.flow.follow.Follower`.
    """

    files: Files
    endpoints: Endpoints
    wires: Wires

    def __init__(self, project: Project, finder: Finder, steps: int = MAX_STEPS) -> None:
        self.project = project
        self.finder = finder
        self.steps = steps
        self.exhausted = False
        self.lookup = Lookup(project)
        self.callers = Callers(self)
        self.constants = Constants(self)
        self._known: dict[tuple[object, ...], Origins] = {}
        self._tentative: dict[tuple[object, ...], Origins] = {}
        self._busy: set[tuple[object, ...]] = set()
        self._standings: dict[tuple[object, ...], tuple[bool, int]] = {}
        self._literals: dict[tuple[int, ...], Mapping[str, object]] = {}
        self._depth = 0
        self.cut = 0
        """Above 0 where a circle was met: what was found then is no whole answer."""

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
        return Made(kind_of(cls), cls.name, cls, node, Env(module, self.index(module).top))

    def given(self, env: Env) -> Mapping[str, object]:
        """The parameters of a run of a function whose values are written out where it is called."""
        if env.call is None or env.caller is None:
            return {}
        known = self._literals.get(env.key)
        if known is None:
            known = self._literals[env.key] = given_by(env, self.given(env.caller))
        return known

    def reached(self, node: cst.CSTNode, env: Env) -> bool:
        """Whether a run of a scope may come to a node of it, by what its call gives and by the program's constants."""
        values = self.given(env)
        if values and not taken(self.index(env.module), node, values):
            return False
        return not self.constants.rules_out(node, env)

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

    @abstractmethod
    def origins(self, node: cst.CSTNode, env: Env) -> Origins:
        """All that an expression may come from, each once, in the order in which it was found."""

    @abstractmethod
    def callee(self, node: cst.Call, env: Env) -> list[tuple[Value, Made | None]]:
        """What a call may call: functions with the object they are methods of, classes, things of libraries."""

    @abstractmethod
    def holder(self, name: str, node: cst.CSTNode | None, env: Env) -> Env | None:
        """The run of the scope that binds a name as seen from ``env``; None if it is no variable of this file."""

    @abstractmethod
    def home(self, name: str, module: PyModule) -> tuple[Env, str] | None:
        """The top level that binds a variable, of this module or of that which it is imported from, and what it is
        called there; None if none does."""

    @abstractmethod
    def writes_of(self, made: Made, attr: str) -> Iterator[tuple[Write, Env]]:
        """What the methods of an object's class put into one of its attributes."""

    def as_given(self, value: Value) -> Value:
        """What ``functools.partial`` makes where the interpreter has seen it, with where its arguments are written."""
        step = value.origin
        if type(value) is not Partial or step is None or not isinstance(step.node, cst.Call):
            return value
        return Given(self.as_given(value.func), Bound(step.node, self.env(step.module, step.node)))

    @abstractmethod
    def returned(
        self, func: Func, call: cst.Call | None, receiver: Made | None, env: Env, bound: tuple[Bound, ...] = ()
    ) -> Iterable[Origin]:
        """What a function returns (or yields) when it is called so."""

    @abstractmethod
    def _combined(self, node: cst.CSTNode, env: Env) -> Iterable[Origin]:
        """What is combined at a node, and what a server does there."""

    @abstractmethod
    def _local_function(self, name: str, env: Env) -> Func | None:
        """A function that is defined within one, by its name there."""

    @abstractmethod
    def _picked_in(self, imported: Imported, text: tuple[str | None, ...]) -> Iterator[Origin]:
        """What a name picks in modules that are imported by names."""


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


def unfiltered(found: Iterable[Origin], nodes: Collection[int]) -> Iterator[Origin]:
    """The same without some of the conditions, by the identity of their nodes."""
    for origin in found:
        if isinstance(origin, (State, Combined)):
            yield replace(origin, filters=tuple(row for row in origin.filters if id(row.node) not in nodes))
        else:
            yield origin


def no_vectors(found: Iterable[Origin]) -> Iterator[Origin]:
    """Entries that were joined to vectors, of which a distance or a sum was taken: what they were for is lost."""
    for origin in found:
        yield replace(origin, flat=False) if isinstance(origin, State) and origin.flat else origin


def kind_of(cls: ClassVal) -> str:
    return "model" if classes.kind(cls) == "torch" else "object"
