"""Which names a statement binds, changes and reads: what lets the interpreter run only the statements that matter.

The backward slice is by name and ignores the order of statements; it may run too much, never too little of what is
visible
in one scope.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import libcst as cst

from bn_audit.source.interpreter.needs import BY_NAME, Needs
from bn_audit.source.nodes import children, root_name
from bn_audit.source.suite import LazySuite

__all__ = ["NameIndex", "Names", "blocks", "needed", "pattern_names", "statements"]

_MUTATORS = frozenset(
    [
        "append",
        "extend",
        "insert",
        "add",
        "add_module",
        "register_module",
        "register_buffer",
        "register_parameter",
        "update",
        "setdefault",
        "pop",
        "popitem",
        "remove",
        "clear",
        "sort",
        "reverse",
        "apply",
        "half",
        "double",
        "bfloat16",
        "float",
        "to",
        "cuda",
        "cpu",
        "load_state_dict",
        "set_submodule",
        "fit",
        "evaluate",
        "compile",
        "build",
        "__setitem__",
        "__setattr__",
    ]
)


@dataclass(slots=True)
class Names:
    """``binds``: assigned, defined or imported here; ``touches``: these, and what may be changed; ``uses``: read."""

    binds: set[str] = field(default_factory=set)
    touches: set[str] = field(default_factory=set)
    uses: set[str] = field(default_factory=set)

    def bind(self, name: str) -> None:
        self.binds.add(name)
        self.touches.add(name)

    def take(self, other: Names) -> None:
        self.binds |= other.binds
        self.touches |= other.touches
        self.uses |= other.uses


def statements(body: cst.CSTNode | Sequence[cst.CSTNode]) -> list[cst.CSTNode]:
    """The statements of a suite or module body, simple lines split into their small statements."""
    rows: Iterable[cst.CSTNode]
    if isinstance(body, (cst.IndentedBlock, cst.SimpleStatementSuite, cst.Module)):
        rows = body.body
    elif isinstance(body, cst.CSTNode):
        rows = (body,)
    else:
        rows = body
    result: list[cst.CSTNode] = []
    for row in rows:
        if isinstance(row, cst.SimpleStatementLine):
            result.extend(row.body)
        else:
            result.append(row)
    return result


class NameIndex:
    """Names of statements, computed once a node. Nodes must outlive the index (it belongs to their module)."""

    def __init__(self, module: cst.Module | None = None) -> None:
        self._module = module
        self._names: dict[int, Names] = {}
        self._headers: dict[int, Names] = {}
        self._global_writers: dict[str, set[str]] | None = None

    def names(self, statement: cst.CSTNode) -> Names:
        """The names of a whole statement, blocks below it included."""
        found = self._names.get(id(statement))
        if found is None:
            found = Names()
            self._collect(statement, found)
            self._names[id(statement)] = found
        return found

    def closure(self, body: Sequence[cst.CSTNode], wanted: Iterable[str]) -> frozenset[str]:
        """All names that the values of ``wanted`` may depend on, among the statements of ``body``."""
        items: list[tuple[set[str], set[str]]] = []
        self._items(body, items)
        by_name: dict[str, list[int]] = {}
        for number, (touches, _) in enumerate(items):
            for name in touches:
                by_name.setdefault(name, []).append(number)
        result = set(wanted)
        queue = list(result)
        done: set[int] = set()
        while queue:
            for number in by_name.get(queue.pop(), ()):
                if number in done:
                    continue
                done.add(number)
                fresh = items[number][1] - result
                result |= fresh
                queue.extend(fresh)
        return frozenset(result)

    def closure_around(
        self, body: Sequence[cst.CSTNode], wanted: Iterable[str], made: Iterable[str], path: frozenset[int]
    ) -> tuple[frozenset[str], set[int]]:
        """The same where it is known when the values are wanted: at a call, to which the nodes of ``path`` lead.

        What stands after the call, and in no loop around it, matters only as far as it changes what was ``made`` of
        it. Returned are the names, and the statements that do not matter although they touch some.
        """
        items: list[tuple[cst.CSTNode, bool, set[str], set[str], set[str]]] = []
        self._placed_items(body, path, False, items)
        kinds = {name: {"before"} for name in wanted}
        queue: list[tuple[str, str]] = [(name, "before") for name in kinds]
        for name in made:
            kinds.setdefault(name, set()).add("made")
            queue.append((name, "made"))
        by_name: dict[str, list[int]] = {}
        for number, row in enumerate(items):
            for name in row[2]:
                by_name.setdefault(name, []).append(number)
        used: set[int] = set()
        while queue:
            name, kind = queue.pop()
            for number in by_name.get(name, ()):
                _, after, _, binds, uses = items[number]
                if (after and kind == "before") or (kind == "beside" and name not in binds):
                    continue
                used.add(number)
                fresh = "beside" if after else "before"
                for other in uses:
                    known = kinds.setdefault(other, set())
                    if fresh not in known:
                        known.add(fresh)
                        queue.append((other, fresh))
        passed = {id(row[0]) for number, row in enumerate(items) if row[1] and number not in used}
        return frozenset(kinds), passed

    def _placed_items(
        self,
        body: Sequence[cst.CSTNode],
        path: frozenset[int],
        after: bool,
        items: list[tuple[cst.CSTNode, bool, set[str], set[str], set[str]]],
    ) -> bool:
        """Statements in order: each with whether it stands after the call, and what it touches, binds and uses."""
        for statement in statements(body):
            suites = blocks(statement)
            names = self.names(statement)
            uses = self.header(statement).uses if suites else names.uses
            items.append((statement, after, names.touches, names.binds, uses))
            looped = isinstance(statement, (cst.For, cst.While))
            inner = after
            for block in suites:
                inner = (
                    self._placed_items(statements(block), path if not looped else frozenset(), after, items) or inner
                )
            after = inner or (id(statement) in path)
        return after

    def carriers(self, body: Sequence[cst.CSTNode], names: set[str]) -> set[str]:
        """Names, and those that hold them or what was made from them: ``same = model``, ``trainer = Trainer(model)``;
        not what a method of theirs returned."""
        assigned: list[tuple[set[str], set[str]]] = []
        stack = list(body)
        while stack:
            statement = stack.pop()
            for block in blocks(statement):
                stack.extend(statements(block))
            if isinstance(statement, (cst.Assign, cst.AnnAssign)) and statement.value is not None:
                assigned.append((_carried(statement.value), self.names(statement).touches))
        found = set(names)
        grown = True
        while grown:
            grown = False
            for carried, touches in assigned:
                if not touches <= found and not carried.isdisjoint(found):
                    found |= touches
                    grown = True
        return found

    def expression_names(self, node: cst.CSTNode) -> set[str]:
        """The names an expression, or a part of a statement's head, reads."""
        found = Names()
        self._any(node, found)
        return found.uses

    def _items(self, body: Sequence[cst.CSTNode], items: list[tuple[set[str], set[str]]]) -> None:
        for statement in statements(body):
            suites = blocks(statement)
            if suites:
                items.append((self.names(statement).touches, self.header(statement).uses))
                for block in suites:
                    self._items(statements(block), items)
            else:
                names = self.names(statement)
                items.append((names.touches, names.uses))

    def header(self, statement: cst.CSTNode) -> Names:
        """The names of a compound statement's head: what decides whether, and over what, its blocks run."""
        found = self._headers.get(id(statement))
        if found is None:
            found = Names()
            for part in _header_parts(statement):
                self._expression(part, found)
            self._headers[id(statement)] = found
        return found

    def _collect(self, node: cst.CSTNode, names: Names) -> None:
        if isinstance(node, (cst.Assign, cst.AnnAssign, cst.AugAssign)):
            targets = [target.target for target in node.targets] if isinstance(node, cst.Assign) else [node.target]
            for target in targets:
                self._target(target, names)
                if isinstance(node, cst.AugAssign):
                    self._expression(target, names)
            if node.value is not None:
                self._expression(node.value, names)
        elif isinstance(node, cst.Expr):
            self._expression(node.value, names)
            call = node.value.expression if isinstance(node.value, cst.Await) else node.value
            if isinstance(call, cst.Call):
                # The result is dropped: the call is there for what it does to its object or its arguments.
                if isinstance(call.func, cst.Attribute):
                    self._touch(call.func.value, names)
                link: cst.CSTNode = call
                while isinstance(link, cst.Call):  # Trainer(model).run()
                    self._touch_arguments(link, names)
                    link = link.func.value if isinstance(link.func, cst.Attribute) else link.func
        elif isinstance(node, (cst.Import, cst.ImportFrom)):
            if isinstance(node, cst.ImportFrom) and isinstance(node.names, cst.ImportStar):
                names.touches.add("*")
            else:
                for alias in node.names if not isinstance(node.names, cst.ImportStar) else ():
                    names.bind(_alias_name(alias))
        elif isinstance(node, (cst.FunctionDef, cst.ClassDef)):
            names.bind(node.name.value)
            inner = Names()
            for part in children(node):
                self._any(part, inner)
            names.uses |= inner.uses
        elif isinstance(node, cst.Del):
            self._target(node.target, names)
        elif isinstance(node, (cst.Global, cst.Nonlocal)):
            pass
        else:
            for part in children(node):
                self._any(part, names)
            if isinstance(node, cst.For):
                self._target(node.target, names)
            elif isinstance(node, cst.With):
                for item in node.items:
                    if item.asname is not None:
                        self._target(item.asname.name, names)
            elif isinstance(node, (cst.Try, cst.TryStar)):
                for handler in node.handlers:
                    if handler.name is not None:
                        self._target(handler.name.name, names)
            elif isinstance(node, cst.Match):
                for case in node.cases:
                    for name in pattern_names(case.pattern):
                        names.bind(name)

    def _any(self, node: cst.CSTNode, names: Names) -> None:
        if type(node) is LazySuite:
            names.uses |= node.source.uses
            return
        role = _role(type(node))
        if role == "expression":
            self._expression(node, names)
        elif role == "statement":
            names.take(self.names(node))
        else:
            for part in children(node):
                self._any(part, names)

    def _expression(self, node: cst.CSTNode, names: Names) -> None:
        stack = [node]
        while stack:
            current = stack.pop()
            # An `isinstance` of libcst's classes, which are abstract, takes long where it says no.
            if type(current) is cst.Name:
                names.uses.add(current.value)
            elif type(current) is cst.Attribute or type(current) is cst.Arg:
                stack.append(current.value)
            elif type(current) is cst.NamedExpr:
                self._target(current.target, names)
                stack.append(current.value)
            elif type(current) is cst.Call:
                if isinstance(current.func, cst.Attribute) and current.func.attr.value in _MUTATORS:
                    self._touch(current.func.value, names)
                names.touches |= self._written_by(current)
                needs = _needs(current)
                if needs is not None:
                    stack.append(current.func)
                    stack.extend(arg.value for arg in needed(current, needs))
                    continue
                stack.extend(children(current))
            else:
                stack.extend(children(current))

    def _written_by(self, call: cst.Call) -> set[str]:
        """The global names that a function called by its name assigns, itself or through others of the module."""
        if self._global_writers is None:
            self._global_writers = {} if self._module is None else _global_writers(self._module)
        if not self._global_writers:
            return set()
        func = call.func.attr if isinstance(call.func, cst.Attribute) else call.func
        return self._global_writers.get(func.value, set()) if isinstance(func, cst.Name) else set()

    def _touch(self, node: cst.CSTNode, names: Names) -> None:
        name = root_name(node)
        if name is not None:
            names.touches.add(name)

    def _touch_arguments(self, call: cst.Call, names: Names) -> None:
        needs = _needs(call)
        for arg in call.args if needs is None else needed(call, needs):
            # What a function returned is not the function.
            if not (isinstance(arg.value, cst.Call) and isinstance(arg.value.func, cst.Name)):
                self._touch(arg.value, names)

    def _target(self, node: cst.CSTNode, names: Names) -> None:
        if isinstance(node, cst.Name):
            names.bind(node.value)
        elif isinstance(node, (cst.Tuple, cst.List)):
            for element in node.elements:
                self._target(element.value, names)
        elif isinstance(node, (cst.Attribute, cst.Subscript)):
            self._touch(node, names)
            self._expression(node, names)
        elif isinstance(node, cst.StarredElement):
            self._target(node.value, names)


@functools.cache
def _role(kind: type[cst.CSTNode]) -> str:
    """Whether nodes of a class are expressions or statements."""
    if issubclass(kind, cst.BaseExpression):
        return "expression"
    return "statement" if issubclass(kind, (cst.BaseSmallStatement, cst.BaseCompoundStatement)) else ""


def _carried(node: cst.CSTNode) -> set[str]:
    """The names that an expression's value may hold: itself one, in a display, or as the argument of a call."""
    found: set[str] = set()
    stack = [node]
    while stack:
        current = stack.pop()
        if isinstance(current, cst.Name):
            found.add(current.value)
        elif isinstance(current, cst.Call):
            needs = _needs(current)
            stack.extend(arg.value for arg in (current.args if needs is None else needed(current, needs)))
        elif isinstance(current, (cst.Tuple, cst.List)):
            stack.extend(element.value for element in current.elements)
        elif isinstance(current, cst.IfExp):
            stack.extend((current.body, current.orelse))
    return found


def _global_writers(module: cst.Module) -> dict[str, set[str]]:
    """By function name, the names declared ``global`` in it or in the functions of the module that it calls."""
    written: dict[str, set[str]] = {}
    called: dict[str, set[str]] = {}
    stack: list[tuple[cst.CSTNode, str]] = [(module, "")]
    while stack:
        node, inside = stack.pop()
        if isinstance(node, cst.FunctionDef):
            inside = node.name.value
        elif isinstance(node, LazySuite):
            for function, names in node.source.declared.items():
                written.setdefault(function, set()).update(names)
            for name, callers in node.source.called.items():
                called.setdefault(name, set()).update(callers)
            continue
        elif isinstance(node, cst.Global):
            written.setdefault(inside, set()).update(item.name.value for item in node.names)
        elif isinstance(node, cst.Call):
            func = node.func.attr if isinstance(node.func, cst.Attribute) else node.func
            if isinstance(func, cst.Name):
                called.setdefault(func.value, set()).add(inside)
        stack.extend((child, inside) for child in children(node))
    queue = [name for name in written if name]
    while queue:
        name = queue.pop()
        for caller in called.get(name, ()):
            if caller and not written[name] <= written.get(caller, set()):
                written.setdefault(caller, set()).update(written[name])
                queue.append(caller)
    return written


def _needs(call: cst.Call) -> Needs | None:
    func = call.func
    if isinstance(func, cst.Attribute):
        return BY_NAME.get(func.attr.value)
    return BY_NAME.get(func.value) if isinstance(func, cst.Name) else None


def needed(call: cst.Call, needs: Needs) -> list[cst.Arg]:
    """The arguments of a call that matter."""
    found: list[cst.Arg] = []
    position = 0
    for arg in call.args:
        keyword = arg.keyword.value if arg.keyword is not None else None
        if arg.star or not needs.skips(position, keyword):
            found.append(arg)
        position += keyword is None and not arg.star
    return found


def pattern_names(node: cst.CSTNode) -> list[str]:
    """The names a match pattern captures."""
    found: list[str] = []
    stack = [node]
    while stack:
        current = stack.pop()
        if isinstance(current, (cst.MatchAs, cst.MatchStar)) and current.name is not None:
            found.append(current.name.value)
        if isinstance(current, cst.MatchMapping) and current.rest is not None:
            found.append(current.rest.value)
        stack.extend(children(current))
    return found


def _alias_name(alias: cst.ImportAlias) -> str:
    if alias.asname is not None and isinstance(alias.asname.name, cst.Name):
        return alias.asname.name.value
    node: cst.CSTNode = alias.name
    while isinstance(node, cst.Attribute):
        node = node.value
    return node.value if isinstance(node, cst.Name) else ""


def blocks(statement: cst.CSTNode) -> list[cst.CSTNode]:
    """The suites below a compound statement that are run where they stand."""
    if isinstance(statement, (cst.FunctionDef, cst.ClassDef)) or not isinstance(statement, cst.BaseCompoundStatement):
        return []
    if isinstance(statement, cst.Match):
        return [case.body for case in statement.cases]
    found: list[cst.CSTNode] = [statement.body]
    orelse = getattr(statement, "orelse", None)
    if orelse is not None:
        found.append(orelse if isinstance(orelse, cst.If) else orelse.body)
    found.extend(handler.body for handler in getattr(statement, "handlers", ()))
    finalbody = getattr(statement, "finalbody", None)
    if finalbody is not None:
        found.append(finalbody.body)
    return found


def _header_parts(statement: cst.CSTNode) -> list[cst.CSTNode]:
    if isinstance(statement, (cst.If, cst.While)):
        return [statement.test]
    if isinstance(statement, cst.For):
        return [statement.iter]
    if isinstance(statement, cst.With):
        return [item.item for item in statement.items]
    if isinstance(statement, cst.Match):
        return [statement.subject, *(case.pattern for case in statement.cases)]
    return []
