"""What each scope of a file binds, writes and returns, computed once a file.

A *scope* is a module, a class body, a function or a lambda. What a class body binds is not seen from its methods, which
get at it through attributes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import libcst as cst

from bn_audit.source.nodes import children
from bn_audit.source.project import PyModule

__all__ = ["Binding", "FileIndex", "Scope", "Write", "arguments_of"]

Function = cst.FunctionDef | cst.Lambda

_PUTS = frozenset(
    {"append", "extend", "insert", "add", "put", "appendleft", "setdefault", "update", "add_", "sub_", "copy_"}
)
"""Methods that put their last argument into a container."""


_COMPREHENSIONS = frozenset([cst.ListComp, cst.SetComp, cst.DictComp, cst.GeneratorExp])
_SUITES = frozenset([cst.IndentedBlock, cst.SimpleStatementSuite])
_STATEMENTS = frozenset(
    [
        cst.Assign,
        cst.AnnAssign,
        cst.AugAssign,
        cst.NamedExpr,
        cst.For,
        cst.CompFor,
        cst.WithItem,
        cst.Import,
        cst.ImportFrom,
        cst.Return,
        cst.Yield,
        cst.Del,
        cst.Global,
        cst.Nonlocal,
    ]
)
"""Nodes that bind names, put something into a container, or say what a function gives."""


@dataclass(frozen=True, slots=True)
class Binding:
    """One way a name gets a value.

    ``how``: ``value`` (``x = E``), ``item`` (``for x in E``), ``part`` (``x += E``), ``enter`` (``with E as x``),
    ``other`` (imports, definitions). ``path`` are the positions of a tuple that it takes: ``a, (b, c) = E`` gives c
    ``(1, 1)``. ``blocks`` are the blocks around the statement inside the scope, outermost first, by identity.
    """

    how: str
    value: cst.CSTNode | None
    path: tuple[int, ...]
    node: cst.CSTNode
    order: int
    blocks: tuple[int, ...]
    region: cst.CSTNode | None = None
    """The comprehension it is bound in, where it is visible only there."""


@dataclass(frozen=True, slots=True)
class Write:
    """``root.attr = E`` or ``root.attr.append(E)`` or ``root.attr[k] = E``, ``root`` a plain name.

    ``deep`` says that the value became an item of the attribute's.
    """

    root: str
    attr: str
    value: cst.BaseExpression
    path: tuple[int, ...]
    node: cst.CSTNode
    deep: bool = False


@dataclass(slots=True)
class Scope:
    """A module, class body, function or lambda, and what happens in it (nested scopes have their own)."""

    node: cst.Module | cst.ClassDef | Function
    parent: Scope | None
    owner: cst.ClassDef | None
    bindings: dict[str, list[Binding]] = field(default_factory=dict)
    writes: list[Write] = field(default_factory=list)
    puts: dict[str, list[tuple[cst.BaseExpression, cst.CSTNode]]] = field(default_factory=dict)
    """Values that become items of a named container."""
    removals: dict[str, list[tuple[cst.BaseExpression, cst.CSTNode]]] = field(default_factory=dict)
    """Keys that are taken out of a named container: ``state.pop(key)``, ``del state[key]``."""
    returns: list[cst.BaseExpression] = field(default_factory=list)
    yields: list[cst.BaseExpression] = field(default_factory=list)
    shared: set[str] = field(default_factory=set)
    """Names declared global or nonlocal."""

    function: Function | None = field(init=False)
    parameters: list[cst.Param] = field(init=False)
    """Those that are no stars."""

    def __post_init__(self) -> None:
        self.function = self.node if isinstance(self.node, (cst.FunctionDef, cst.Lambda)) else None
        params = self.function.params if self.function is not None else None
        self.parameters = [*params.posonly_params, *params.params, *params.kwonly_params] if params is not None else []


class FileIndex:
    """The scopes of a file, every node's parent and place in it, and its functions and classes by name."""

    def __init__(self, module: PyModule) -> None:
        self.module = module
        self.parents: dict[int, cst.CSTNode] = {}
        self.scopes: dict[int, Scope] = {}
        """By the identity of the module, function or lambda."""
        self.order: dict[int, int] = {}
        """The place of every statement and expression in the file, in the order of the source."""
        self.calls: dict[str, list[cst.Call]] = {}
        self.functions: dict[str, list[cst.FunctionDef]] = {}
        self.assignments: list[cst.Assign | cst.AugAssign] = []
        """In no particular order."""
        self.classes: list[cst.ClassDef] = []
        self._around: dict[int, Scope] = {}
        """By node: the innermost scope it is evaluated in."""
        self.alive: dict[int, tuple[list[Binding], bool]] = {}
        """By the use of a name: the bindings that may hold there."""
        self._root = Scope(module.tree, None, None)
        self.scopes[id(module.tree)] = self._root
        self._fill()

    @property
    def top(self) -> Scope:
        """The module's own scope."""
        return self._root

    def scope_of(self, node: cst.CSTNode) -> Scope:
        """The innermost scope a node is evaluated in."""
        return self._around.get(id(node), self._root)

    def above(self, node: cst.CSTNode) -> Iterator[cst.CSTNode]:
        """The nodes around a node, innermost first."""
        current = self.parents.get(id(node))
        while current is not None:
            yield current
            current = self.parents.get(id(current))

    def statement_of(self, node: cst.CSTNode) -> cst.CSTNode:
        """The small or compound statement that a node is part of; the node itself if it is one."""
        current = node
        while not isinstance(current, (cst.BaseSmallStatement, cst.BaseCompoundStatement)):
            above = self.parents.get(id(current))
            if above is None:
                return current
            current = above
        return current

    def blocks(self, node: cst.CSTNode) -> tuple[int, ...]:
        """The suites around a node inside its scope, outermost first, by identity."""
        found: list[int] = []
        current = node
        for above in self.above(node):
            if isinstance(above, (cst.FunctionDef, cst.Lambda, cst.ClassDef)) and current is above.body:
                break
            if isinstance(above, cst.BaseSuite):
                found.append(id(above))
            current = above
        return tuple(reversed(found))

    def owner_of(self, function: cst.CSTNode) -> cst.ClassDef | None:
        """The class whose method a function is."""
        for above in self.above(function):
            if isinstance(above, cst.ClassDef):
                return above
            if isinstance(above, (cst.FunctionDef, cst.Lambda)):
                return None
        return None

    def _fill(self) -> None:
        stack: list[tuple[cst.CSTNode, Scope, tuple[int, ...], cst.CSTNode | None]] = [
            (self.module.tree, self._root, (), None)
        ]
        order, around, parents = self.order, self._around, self.parents
        number = 0
        while stack:
            node, scope, blocks, region = stack.pop()
            order[id(node)] = number
            around[id(node)] = scope
            number += 1
            # An `isinstance` of libcst's classes, which are abstract, would be half of all the time that this takes.
            kind = type(node)
            if type(node) is cst.Name:
                continue
            if type(node) is cst.FunctionDef or type(node) is cst.Lambda or type(node) is cst.ClassDef:
                inner = self._scope(node, scope, blocks)
                for child in reversed(list(children(node))):
                    parents[id(child)] = node
                    body = child is node.body  # defaults, decorators and bases belong to the scope around
                    stack.append((child, inner if body else scope, () if body else blocks, None if body else region))
                continue
            if type(node) is cst.Call:
                self._call(node, scope)
            elif kind in _STATEMENTS:
                self._statement(node, scope, blocks, region)
            elif kind in _COMPREHENSIONS:
                region = node
            elif kind in _SUITES:
                blocks = (*blocks, id(node))
            for child in reversed(list(children(node))):
                parents[id(child)] = node
                stack.append((child, scope, blocks, region))

    def _scope(self, node: cst.ClassDef | Function, scope: Scope, blocks: tuple[int, ...]) -> Scope:
        if isinstance(node, cst.FunctionDef):
            self.functions.setdefault(node.name.value, []).append(node)
        elif isinstance(node, cst.ClassDef):
            self.classes.append(node)
        if not isinstance(node, cst.Lambda):
            self._bind(scope, node.name, "other", None, (), node, blocks, None)
        inner = self.scopes[id(node)] = Scope(node, scope, self._class_around(node))
        if isinstance(node, cst.Lambda):
            inner.returns.append(node.body)
        return inner

    def _class_around(self, node: cst.CSTNode) -> cst.ClassDef | None:
        return self.owner_of(node) if isinstance(node, cst.FunctionDef) else None

    def _call(self, node: cst.Call, scope: Scope) -> None:
        func = node.func
        name = func.attr.value if isinstance(func, cst.Attribute) else func.value if isinstance(func, cst.Name) else ""
        self.calls.setdefault(str(name), []).append(node)
        if name == "pop" and isinstance(func, cst.Attribute) and isinstance(func.value, cst.Name) and node.args:
            self._removal(scope, func.value.value, node.args[0].value, node)
        if name in _PUTS and isinstance(func, cst.Attribute) and node.args:
            self._put(scope, func.value, node.args[-1].value, node)

    def _statement(self, node: cst.CSTNode, scope: Scope, blocks: tuple[int, ...], region: cst.CSTNode | None) -> None:
        if isinstance(node, (cst.Assign, cst.AugAssign)):
            self.assignments.append(node)
        if isinstance(node, cst.Assign):
            for target in node.targets:
                self._target(scope, target.target, "value", node.value, (), node, blocks, region)
        elif isinstance(node, cst.AnnAssign) and node.value is not None:
            self._target(scope, node.target, "value", node.value, (), node, blocks, region)
        elif isinstance(node, cst.AugAssign):
            self._target(scope, node.target, "part", node.value, (), node, blocks, region)
        elif isinstance(node, cst.NamedExpr):
            self._target(scope, node.target, "value", node.value, (), node, blocks, None)
        elif isinstance(node, cst.For):
            self._target(scope, node.target, "item", node.iter, (), node, (*blocks, id(node.body)), region)
        elif isinstance(node, cst.CompFor):
            self._target(scope, node.target, "item", node.iter, (), node, blocks, region)
        elif isinstance(node, cst.WithItem) and node.asname is not None:
            self._target(scope, node.asname.name, "enter", node.item, (), node, blocks, region)
        elif isinstance(node, (cst.Import, cst.ImportFrom)):
            for alias in node.names if not isinstance(node.names, cst.ImportStar) else ():
                name = alias.asname.name if alias.asname is not None else alias.name
                while isinstance(name, cst.Attribute):
                    name = name.value  # type: ignore[assignment]
                if isinstance(name, cst.Name):
                    self._bind(scope, name, "other", None, (), node, blocks, region)
        elif isinstance(node, cst.Return) and node.value is not None:
            scope.returns.append(node.value)
        elif isinstance(node, cst.Yield) and node.value is not None:
            value = node.value.item if isinstance(node.value, cst.From) else node.value
            scope.yields.append(value)
        elif isinstance(node, cst.Del) and isinstance(node.target, cst.Subscript):
            part = node.target.slice[0].slice
            if isinstance(node.target.value, cst.Name) and isinstance(part, cst.Index):
                self._removal(scope, node.target.value.value, part.value, node)
        elif isinstance(node, (cst.Global, cst.Nonlocal)):
            scope.shared.update(item.name.value for item in node.names)

    def _target(
        self,
        scope: Scope,
        target: cst.CSTNode,
        how: str,
        value: cst.BaseExpression,
        path: tuple[int, ...],
        node: cst.CSTNode,
        blocks: tuple[int, ...],
        region: cst.CSTNode | None,
    ) -> None:
        if isinstance(target, cst.Name):
            self._bind(scope, target, how, value, path, node, blocks, region)
        elif isinstance(target, (cst.Tuple, cst.List)):
            for number, element in enumerate(target.elements):
                self._target(scope, element.value, how, value, (*path, number), node, blocks, region)
        elif isinstance(target, cst.StarredElement):
            self._target(scope, target.value, how, value, path[:-1], node, blocks, region)
        elif isinstance(target, cst.Attribute) and isinstance(target.value, cst.Name):
            scope.writes.append(Write(target.value.value, target.attr.value, value, path, node))
        elif isinstance(target, cst.Attribute) and isinstance(target.value, cst.Subscript):
            if target.attr.value == "data":  # state[key].data = value
                self._put(scope, target.value.value, value, node)
        elif isinstance(target, cst.Subscript):
            self._put(scope, target.value, value, node)

    def _put(self, scope: Scope, container: cst.CSTNode, value: cst.BaseExpression, node: cst.CSTNode) -> None:
        while isinstance(container, cst.Subscript):
            container = container.value
        if isinstance(container, cst.Name):
            scope.puts.setdefault(container.value, []).append((value, node))
        elif isinstance(container, cst.Attribute) and isinstance(container.value, cst.Name):
            scope.writes.append(Write(container.value.value, container.attr.value, value, (), node, True))

    def _removal(self, scope: Scope, name: str, key: cst.BaseExpression, node: cst.CSTNode) -> None:
        if not isinstance(key, (cst.Integer, cst.UnaryOperation)):  # an item of a list
            scope.removals.setdefault(name, []).append((key, node))

    def _bind(
        self,
        scope: Scope,
        name: cst.Name,
        how: str,
        value: cst.CSTNode | None,
        path: tuple[int, ...],
        node: cst.CSTNode,
        blocks: tuple[int, ...],
        region: cst.CSTNode | None,
    ) -> None:
        row = Binding(how, value, path, node, len(self.order), blocks, region)
        scope.bindings.setdefault(name.value, []).append(row)


def arguments_of(call: cst.Call) -> tuple[list[cst.BaseExpression], dict[str, cst.BaseExpression], bool]:
    """Positional and keyword arguments of a call; whether stars may add more."""
    positional: list[cst.BaseExpression] = []
    keywords: dict[str, cst.BaseExpression] = {}
    stars = False
    for arg in call.args:
        if arg.star:
            stars = True
        elif arg.keyword is not None:
            keywords[arg.keyword.value] = arg.value
        elif not stars:
            positional.append(arg.value)
    return positional, keywords, stars
