"""What each scope of a file binds, writes and returns, computed once a file.

A *scope* is a module, a class body, a function or a lambda. What a class body binds is not seen from its methods, which
get at it through attributes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeVar

import libcst as cst

from bn_audit.source.nodes import children, dotted_name, leaf_name, root_name
from bn_audit.source.project import PyModule
from bn_audit.source.puts import PUTS
from bn_audit.source.sketch import Body
from bn_audit.source.suite import LazySuite

__all__ = ["PARTIES", "Binding", "FileIndex", "Piece", "Scope", "Write", "arguments_of", "setdefault_key"]

Function = cst.FunctionDef | cst.Lambda

_COMPREHENSIONS = frozenset([cst.ListComp, cst.SetComp, cst.DictComp, cst.GeneratorExp])
_GATHERS = {"all_gather_object": (0, 1), "gather_object": (1, 0), "all_gather": (0, 1), "gather": (1, 0)}
"""Functions of torch.distributed that fill a list with what each process hands in: which argument is the list, and
which is handed in. Whether the processes are parties is for the file to say."""
_NO_GATHERS = frozenset(["asyncio.gather", "torch.gather"])
"""Functions that are called like one of them and take no list of all."""
_SUMS = {"all_reduce": 0, "reduce": 0, "Allreduce": 1, "Reduce": 1}
"""Functions that put a sum over processes into one of their arguments, and which."""
PARTIES = re.compile(r"(?i)federat|fed_?avg|\bclients?\b|\bpart(?:y|ies)\b")
"""Words of which a file has one whose processes are parties."""
_IN_MEMORY = re.compile(r"\bBytesIO\b")
"""What a file speaks of that packs states as bytes: ``torch.save(state, buffer)`` puts them into the buffer."""
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
    reduced: dict[str, list[cst.Call]] = field(default_factory=dict)
    """Calls that put a sum over the processes into what a name stands for: ``dist.all_reduce(vector)``."""
    shared: set[str] = field(default_factory=set)
    """Names declared global or nonlocal."""

    function: Function | None = field(init=False)
    parameters: list[cst.Param] = field(init=False)
    """Those that are no stars."""

    def __post_init__(self) -> None:
        self.function = self.node if isinstance(self.node, (cst.FunctionDef, cst.Lambda)) else None
        params = self.function.params if self.function is not None else None
        self.parameters = [*params.posonly_params, *params.params, *params.kwonly_params] if params is not None else []

    def takes(self, name: str | None) -> bool:
        """Whether a name is one of the parameters."""
        return any(param.name.value == name for param in self.parameters)

    def sole_value(self, name: str) -> cst.BaseExpression | None:
        """What a variable is assigned, if that is all that binds it here."""
        rows = self.bindings.get(name, ())
        if len(rows) != 1 or rows[0].how != "value" or rows[0].path:
            return None
        value = rows[0].value
        return value if isinstance(value, cst.BaseExpression) else None


_Task = tuple[cst.CSTNode, Scope, tuple[int, ...], "cst.CSTNode | None"]
"""A node to go over, its scope, the blocks around it, and the comprehension around it."""

_Node = TypeVar("_Node", bound=cst.CSTNode)

_DECORATOR = re.compile(r"^\s*@", re.MULTILINE)
_CLASS = re.compile(r"^\s*class\b", re.MULTILINE)


@lru_cache(maxsize=512)
def _called(name: str) -> re.Pattern[str]:
    return re.compile(rf"\b{re.escape(name)}\b[\s\\)]*\(")


@lru_cache(maxsize=16)
def _assigned(attr: str) -> re.Pattern[str]:
    return re.compile(rf"\.{re.escape(attr)}\s*=(?!=)")


@dataclass(slots=True)
class Piece:
    """A part of a file that is gone over at once: all but the bodies that are parsed when they are needed, or one such.

    Attributes:
        assignments: in no particular order.
        comprehensions: those that may make states, lists and dicts, likewise.
    """

    assignments: list[cst.Assign | cst.AugAssign] = field(default_factory=list)
    comprehensions: list[cst.DictComp | cst.ListComp] = field(default_factory=list)
    calls: dict[str, list[cst.Call]] = field(default_factory=dict)
    functions: dict[str, list[cst.FunctionDef]] = field(default_factory=dict)
    classes: list[cst.ClassDef] = field(default_factory=list)


_ROOM = 4
"""Nodes that a character of source makes at most, twice over: what is kept free in the order of nodes for a body."""


class FileIndex:
    """The scopes of a file, every node's parent and place in it, and its functions and classes by name.

    A body that is parsed only when it is needed is gone over when something in it is asked for: its scope, one of its
    nodes, or, if its text has the word, the calls or functions of a name.

    Attributes:
        pieces: what was gone over so far.
        alive: by the use of a name: the bindings that may hold there.
        anew: by loop and name: whether the name's model takes a state in each turn.
        counted: by ``while``: the names that it counts; None if it is no loop over several things.
    """

    def __init__(self, module: PyModule) -> None:
        self.module = module
        self.pieces: list[Piece] = []
        self.alive: dict[int, tuple[list[Binding], bool]] = {}
        self.anew: dict[tuple[int, str], bool] = {}
        self.counted: dict[int, tuple[str, ...] | None] = {}
        self._parents: dict[int, cst.CSTNode] = {}
        self._scopes: dict[int, Scope] = {}
        """By the identity of the module, function or lambda."""
        self._code: dict[int, str] = {}
        self._mentions: dict[re.Pattern[str], bool] = {}
        self._order: dict[int, int] = {}
        self._around: dict[int, Scope] = {}
        """By node: the innermost scope it is evaluated in."""
        self._waiting: dict[int, tuple[LazySuite, Scope]] = {}
        """By identity: the bodies that were not gone over, each with its function's scope."""
        self._number = 0
        self._piece = Piece()
        self._root = Scope(module.tree, None, None)
        self._scopes[id(module.tree)] = self._root
        self._go_over([(module.tree, self._root, (), None)])

    @property
    def top(self) -> Scope:
        """The module's own scope."""
        return self._root

    def scope(self, node: cst.CSTNode) -> Scope | None:
        """What happens in a module, class, function or lambda of this file; None for any other node."""
        found = self._scopes.get(id(node))
        if found is None and self._catch_up():
            found = self._scopes.get(id(node))
        if found is not None and type(node) is cst.FunctionDef:
            self._look_into(node.body)
        return found

    def may_write(self, function: cst.FunctionDef, attr: str) -> bool:
        """Whether a function may write to an attribute of a name, by what is known without parsing its body."""
        waiting = self._waiting.get(id(function.body))
        return waiting is None or attr in waiting[0].source.writes

    def scope_of(self, node: cst.CSTNode) -> Scope:
        """The innermost scope a node is evaluated in."""
        found = self._around.get(id(node))
        if found is None and self._catch_up():
            found = self._around.get(id(node))
        return self._root if found is None else found

    def parent(self, node: cst.CSTNode) -> cst.CSTNode | None:
        """The node above a node; None above the module."""
        found = self._parents.get(id(node))
        if found is None and self._catch_up():
            found = self._parents.get(id(node))
        return found

    def place(self, node: cst.CSTNode) -> int | None:
        """The place of a statement or expression in the order of the source; None if it is not of this file."""
        found = self._order.get(id(node))
        if found is None and self._catch_up():
            found = self._order.get(id(node))
        return found

    def order(self, node: cst.CSTNode) -> int:
        """The place of a node of this file in the order of the source."""
        found = self.place(node)
        if found is None:
            raise KeyError(node)
        return found

    def calls_of(self, name: str, beside: str = "") -> list[cst.Call]:
        """The calls of anything of a name, in order; if a word is to stand beside them, those in functions without it
        may be missing."""
        pattern = _called(name)
        # To search for the words first takes a fraction of the time that the pattern does.
        self.look_for(lambda body: name in body.text and beside in body.text and pattern.search(body.text))
        return self._sorted(call for piece in self.pieces for call in piece.calls.get(name, ()))

    def calls_like(self, endings: tuple[str, ...], beside: str) -> list[cst.Call]:
        """The calls of anything whose name ends in one of some words, in order: those in functions that hold another
        word, if not more."""
        self.look_for(lambda body: beside in body.text and any(f"{ending}(" in body.text for ending in endings))
        rows = (row for piece in self.pieces for name, row in piece.calls.items() if name.endswith(endings))
        return self._sorted(call for row in rows for call in row)

    def calls_in(self, scope: Scope) -> list[cst.Call]:
        """The calls that a scope makes itself, in order."""
        around = self._around
        rows = (row for piece in self.pieces for row in piece.calls.values())
        return self._sorted(call for row in rows for call in row if around.get(id(call)) is scope)

    def declaring(self, name: str) -> list[Scope]:
        """The functions that declare a name to be a global of theirs, and bind it."""
        if not any("global " in part.source for part in self.module.parsed.parts):
            return []
        self._look_for("global", re.compile(rf"\bglobal\b[^\n]*\b{re.escape(name)}\b"))
        return [scope for scope in self._scopes.values() if name in scope.shared and name in scope.bindings]

    def filling(self, name: str) -> list[Scope]:
        """The functions that put something into a container by its name, which is none of their own."""
        self._look_for(name, re.compile(rf"\b{re.escape(name)}\s*[.\[]"))
        return [
            scope
            for scope in self._scopes.values()
            if name in scope.puts
            and scope.function is not None
            and not scope.takes(name)
            and (name not in scope.bindings or name in scope.shared)
        ]

    def filling_of(self, attr: str) -> list[tuple[Scope, Write]]:
        """What is put into a container that is an attribute of something, each with the scope that does it."""
        self.look_for(lambda body: attr in body.writes)
        return [
            (scope, write)
            for scope in self._scopes.values()
            for write in scope.writes
            if write.deep and write.attr == attr
        ]

    def assigned(self, attr: str) -> list[tuple[cst.Assign, cst.Attribute]]:
        """The assignments to an attribute of anything, in order, each with its target."""
        self._look_for(f".{attr}", _assigned(attr))
        rows = [
            (node, node.targets[0].target)
            for piece in self.pieces
            for node in piece.assignments
            if isinstance(node, cst.Assign) and isinstance(node.targets[0].target, cst.Attribute)
        ]
        order = self._order
        found = [(node, target) for node, target in rows if target.attr.value == attr]
        return sorted(found, key=lambda row: order[id(row[0])])

    def calls_with(self, *words: str) -> list[cst.Call]:
        """The calls of a file, in order: all in those functions that hold one of some words, if not more."""
        self.look_for(lambda body: any(word in body.text for word in words))
        return self._sorted(call for piece in self.pieces for rows in piece.calls.values() for call in rows)

    def functions_of(self, name: str) -> list[cst.FunctionDef]:
        """The functions and methods of a name, in order."""
        self._look_for(name, re.compile(rf"\bdef\s+{re.escape(name)}\b"))
        return self._sorted(node for piece in self.pieces for node in piece.functions.get(name, ()))

    def decorated(self) -> list[cst.FunctionDef]:
        """The functions and methods with decorators, in order."""
        self._look_for("@", _DECORATOR)
        rows = (node for piece in self.pieces for found in piece.functions.values() for node in found)
        return self._sorted(node for node in rows if node.decorators)

    def classes(self) -> list[cst.ClassDef]:
        """All classes, in order."""
        self._look_for("class", _CLASS)
        return self._sorted(node for piece in self.pieces for node in piece.classes)

    def look_for(self, wanted: Callable[[Body], object]) -> None:
        """Go over the bodies that are wanted, if they were not."""
        for suite, _ in list(self._waiting.values()):
            if wanted(suite.source):
                self._look_into(suite)

    def _look_for(self, word: str, pattern: re.Pattern[str]) -> None:
        # To search for the word first takes a fraction of the time that the pattern does.
        self.look_for(lambda body: word in body.text and pattern.search(body.text))

    def _sorted(self, nodes: Iterable[_Node]) -> list[_Node]:
        order = self._order
        return sorted(nodes, key=lambda node: order[id(node)])

    def above(self, node: cst.CSTNode) -> Iterator[cst.CSTNode]:
        """The nodes around a node, innermost first."""
        current = self.parent(node)
        while current is not None:
            yield current
            current = self._parents.get(id(current))

    def code(self, node: cst.CSTNode) -> str:
        """A node of the file as it is written."""
        found = self._code.get(id(node))
        if found is None:
            found = self._code[id(node)] = self.module.tree.code_for_node(node).strip()
        return found

    def holds(self, function: cst.FunctionDef, pattern: re.Pattern[str]) -> bool:
        """Whether the text of a function has something of a pattern. A body that is parsed when it is needed is not."""
        body = function.body
        if not isinstance(body, LazySuite):
            return pattern.search(self.code(function)) is not None
        head = f"{function.name.value}({self.code(function.params)})"
        return any(pattern.search(text) is not None for text in (head, body.source.text))

    def mentions(self, pattern: re.Pattern[str]) -> bool:
        """Whether the text of the file has something of a pattern."""
        found = self._mentions.get(pattern)
        if found is None:
            parts = self.module.parsed.parts
            found = self._mentions[pattern] = any(pattern.search(part.source) for part in parts)
        return found

    def statement_of(self, node: cst.CSTNode) -> cst.CSTNode:
        """The small or compound statement that a node is part of; the node itself if it is one."""
        current = node
        while not isinstance(current, (cst.BaseSmallStatement, cst.BaseCompoundStatement)):
            above = self.parent(current)
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

    # --- going over the tree -----------------------------------------------------------------------------------------

    def _catch_up(self) -> bool:
        """Go over the bodies that others have looked into; False if there are none."""
        parsed = [suite for suite, _ in self._waiting.values() if suite.whole is not None]
        for suite in parsed:
            self._look_into(suite)
        return bool(parsed)

    def _look_into(self, suite: cst.BaseSuite) -> None:
        waiting = self._waiting.pop(id(suite), None)
        if waiting is None:
            return
        lazy, scope = waiting
        number, self._number = self._number, self._order[id(lazy)] + 1
        self._piece = Piece()
        parents = self._parents
        stack: list[_Task] = []
        for child in reversed(list(children(lazy))):
            parents[id(child)] = lazy
            stack.append((child, scope, (id(lazy),), None))
        self._go_over(stack)
        self._number = number

    def _go_over(self, stack: list[_Task]) -> None:
        order, around, parents = self._order, self._around, self._parents
        self.pieces.append(self._piece)
        while stack:
            node, scope, blocks, region = stack.pop()
            order[id(node)] = self._number
            around[id(node)] = scope
            self._number += 1
            # An `isinstance` of libcst's classes, which are abstract, would be half of all the time that this takes.
            kind = type(node)
            if type(node) is cst.Name:
                continue
            if type(node) is LazySuite:
                self._waiting[id(node)] = (node, scope)
                self._number += _ROOM * len(node.source.text)
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
                if isinstance(node, (cst.DictComp, cst.ListComp)):
                    self._piece.comprehensions.append(node)
            elif kind in _SUITES:
                blocks = (*blocks, id(node))
            for child in reversed(list(children(node))):
                parents[id(child)] = node
                stack.append((child, scope, blocks, region))

    def _scope(self, node: cst.ClassDef | Function, scope: Scope, blocks: tuple[int, ...]) -> Scope:
        if isinstance(node, cst.FunctionDef):
            self._piece.functions.setdefault(node.name.value, []).append(node)
        elif isinstance(node, cst.ClassDef):
            self._piece.classes.append(node)
        if not isinstance(node, cst.Lambda):
            self._bind(scope, node.name, "other", None, (), node, blocks, None)
        inner = self._scopes[id(node)] = Scope(node, scope, self._class_around(node))
        if isinstance(node, cst.Lambda):
            inner.returns.append(node.body)
        return inner

    def _class_around(self, node: cst.CSTNode) -> cst.ClassDef | None:
        return self.owner_of(node) if isinstance(node, cst.FunctionDef) else None

    def _call(self, node: cst.Call, scope: Scope) -> None:
        func = node.func
        name = leaf_name(func.func if isinstance(func, cst.Call) else func)  # ``delayed(train)(client)``
        self._piece.calls.setdefault(str(name), []).append(node)
        if name == "pop" and isinstance(func, cst.Attribute) and isinstance(func.value, cst.Name) and node.args:
            self._removal(scope, func.value.value, node.args[0].value, node)
        place = _SUMS.get(str(name))
        if place is not None and len(node.args) > place:
            held = root_name(node.args[place].value)
            if held is not None:
                scope.reduced.setdefault(held, []).append(node)
        if name in ("save", "dump") and len(node.args) > 1 and self.mentions(_IN_MEMORY):
            self._put(scope, node.args[1].value, node.args[0].value, node)
        if name in _GATHERS and len(node.args) > 1 and dotted_name(func) not in _NO_GATHERS and self.mentions(PARTIES):
            container, value = _GATHERS[name]
            self._put(scope, node.args[container].value, node.args[value].value, node)
        if name in PUTS and isinstance(func, cst.Attribute) and node.args:
            self._put(scope, func.value, node.args[-1].value, node)
        elif name == "lerp_" and isinstance(func, cst.Attribute) and node.args:
            self._put(scope, func.value, node.args[0].value, node)

    def _statement(self, node: cst.CSTNode, scope: Scope, blocks: tuple[int, ...], region: cst.CSTNode | None) -> None:
        if isinstance(node, (cst.Assign, cst.AugAssign)):
            self._piece.assignments.append(node)
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
        while True:
            if isinstance(container, cst.Subscript):
                container = container.value
            elif setdefault_key(container) is not None:
                assert isinstance(container, cst.Call) and isinstance(container.func, cst.Attribute)
                container = container.func.value
            elif (scaled := _scaled_in_place(container)) is not None:
                container = scaled
            else:
                break
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
        row = Binding(how, value, path, node, self._number, blocks, region)
        scope.bindings.setdefault(name.value, []).append(row)


def setdefault_key(node: cst.CSTNode) -> cst.BaseExpression | None:
    """``key`` of ``held.setdefault(key, [])``, which is an item of ``held``."""
    if type(node) is cst.Call and isinstance(node.func, cst.Attribute) and node.func.attr.value == "setdefault":
        return node.args[0].value if node.args else None
    return None


def _scaled_in_place(node: cst.CSTNode) -> cst.BaseExpression | None:
    """``x`` of ``x.mul_(c)``, which is x still."""
    if type(node) is cst.Call and isinstance(node.func, cst.Attribute) and node.func.attr.value == "mul_":
        return node.func.value
    return None


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
