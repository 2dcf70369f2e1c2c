"""Calls to look into: candidates in a file by name, and the scopes around them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import libcst as cst

from bn_audit.source.interpreter.needs import Needs
from bn_audit.source.nodes import children
from bn_audit.source.project import PyModule

__all__ = ["Target", "Tree", "called_name"]


def called_name(node: cst.Call) -> str:
    """The last name of what is called: ``c`` in ``a.b.c(...)``; "" if it has none."""
    func = node.func
    if isinstance(func, cst.Attribute):
        return func.attr.value
    return func.value if isinstance(func, cst.Name) else ""


@dataclass(frozen=True, slots=True)
class Target:
    """A call, and the classes, functions and lambdas around it, outermost first."""

    module: PyModule
    node: cst.Call
    scopes: tuple[cst.CSTNode, ...]
    path: frozenset[int]
    """The identities of the nodes from the module's body down to the call."""
    needs: Needs | None = None
    """Which arguments matter; None if all do."""
    branches: tuple[cst.CSTNode, ...] = ()
    """The blocks around it, in the innermost scope, that run under a condition, outermost first."""

    @property
    def functions(self) -> tuple[cst.FunctionDef | cst.Lambda, ...]:
        return tuple(scope for scope in self.scopes if isinstance(scope, (cst.FunctionDef, cst.Lambda)))


class Tree:
    """One pass over a module: its calls by name, and every node's parent."""

    def __init__(self, module: PyModule) -> None:
        self.module = module
        self._parents: dict[int, cst.CSTNode] = {}
        self.calls: dict[str, list[cst.Call]] = {}
        self.classes: list[cst.ClassDef] = []
        self.assigns: list[cst.Assign] = []
        self.aliases: list[tuple[str, str]] = []
        stack: list[cst.CSTNode] = [module.tree]
        while stack:
            node = stack.pop()
            if isinstance(node, cst.Call):
                self.calls.setdefault(called_name(node), []).append(node)
            elif isinstance(node, cst.ClassDef):
                self.classes.append(node)
            elif isinstance(node, cst.Assign):
                self.assigns.append(node)
            elif isinstance(node, cst.ImportAlias):
                if node.asname is not None and isinstance(node.asname.name, cst.Name):
                    name = node.name.attr.value if isinstance(node.name, cst.Attribute) else node.name.value
                    self.aliases.append((str(name), node.asname.name.value))
                continue
            below = list(children(node))
            for child in below:
                self._parents[id(child)] = node
            stack.extend(reversed(below))

    def target(self, node: cst.Call, needs: Needs | None = None) -> Target:
        """The scopes and the path of a call."""
        scopes: list[cst.CSTNode] = []
        branches: list[cst.CSTNode] = []
        path: set[int] = {id(node)}
        current: cst.CSTNode | None = node
        while current is not None:
            above = self._parents.get(id(current))
            if above is None:
                break
            # Defaults, decorators and bases are evaluated outside the scope they head.
            inside = current is getattr(above, "body", None)
            if isinstance(above, (cst.FunctionDef, cst.Lambda, cst.ClassDef)) and inside:
                scopes.append(above)
            if (
                not scopes
                and isinstance(above, (cst.If, cst.MatchCase))
                and current is not getattr(above, "test", None)
            ):
                branches.append(current)
            path.add(id(above))
            current = above
        return Target(self.module, node, tuple(reversed(scopes)), frozenset(path), needs, tuple(reversed(branches)))

    def parent(self, node: cst.CSTNode) -> cst.CSTNode | None:
        """The node above a node; None above the module."""
        return self._parents.get(id(node))

    def scope(self, node: cst.CSTNode) -> cst.CSTNode | None:
        """The innermost function, lambda or class around a node; None at the top level of the file."""
        above = self.parent(node)
        while above is not None and not isinstance(above, (cst.FunctionDef, cst.Lambda, cst.ClassDef)):
            above = self.parent(above)
        return above

    def conditions(self, node: cst.CSTNode, *, holds: bool = True) -> list[cst.BaseExpression]:
        """The tests of the branches around a node inside its scope that must hold for it to be reached, or must fail,
        innermost first."""
        found: list[cst.BaseExpression] = []
        current: cst.CSTNode | None = node
        while current is not None:
            above = self._parents.get(id(current))
            if isinstance(above, (cst.FunctionDef, cst.Lambda, cst.ClassDef)):
                break
            if isinstance(above, cst.If) and current is (above.body if holds else above.orelse):
                found.append(above.test)
            current = above
        return found

    def assigned_to(self, node: cst.CSTNode) -> str:
        """The name that an expression is assigned to where it stands; "" if there is none."""
        above = self._parents.get(id(node))
        if isinstance(above, cst.Assign) and isinstance(above.targets[0].target, cst.Name):
            return above.targets[0].target.value
        return ""

    def part_of(self, node: cst.CSTNode) -> str:
        """``Net.body`` for what a method of Net assigns to ``self.body``; "" if it is assigned to no such attribute."""
        above = self._parents.get(id(node))
        target = above.targets[0].target if isinstance(above, cst.Assign) else None
        if not isinstance(target, cst.Attribute) or not isinstance(target.value, cst.Name):
            return ""
        while above is not None and not isinstance(above, cst.ClassDef):
            above = self._parents.get(id(above))
        return f"{above.name.value}.{target.attr.value}" if isinstance(above, cst.ClassDef) else ""

    def calls_of(self, names: Iterable[str]) -> list[cst.Call]:
        """The calls of any of these names, in source order of each name."""
        return [call for name in sorted(names) for call in self.calls.get(name, ())]

    def spread(self, names: Iterable[str]) -> set[str]:
        """The names that may stand for something of these names in this file: import aliases, assigned copies,
        partials,
        subclasses."""
        found = set(names)
        changed = True
        while changed:
            changed = False
            for original, bound in self.aliases:
                if original in found and bound not in found:
                    found.add(bound)
                    changed = True
            for cls in self.classes:
                if cls.name.value not in found and any(_mentions(base.value, found) for base in cls.bases):
                    found.add(cls.name.value)
                    changed = True
            for assign in self.assigns:
                if not _mentions(assign.value, found):
                    continue
                for target in assign.targets:
                    name = target.target
                    if isinstance(name, cst.Attribute):
                        name = name.attr
                    if isinstance(name, cst.Name) and name.value not in found:
                        found.add(name.value)
                        changed = True
        return found

    def module_level(self, names: Iterable[str]) -> set[str]:
        """Which of the names the module binds at its top level, so that another file may import them."""
        return {name for name in names if self.module.binds(name)}


def _mentions(node: cst.CSTNode, names: set[str]) -> bool:
    """Whether an expression holds one of the names other than by calling it."""
    stack = [node]
    while stack:
        current = stack.pop()
        if isinstance(current, cst.Name):
            if current.value in names:
                return True
        elif isinstance(current, cst.Attribute):
            if current.attr.value in names:
                return True
            stack.append(current.value)
        elif isinstance(current, cst.Call):
            if not isinstance(current.func, (cst.Name, cst.Attribute)):
                stack.append(current.func)
            stack.extend(arg.value for arg in current.args)
        elif isinstance(current, (cst.Lambda, cst.BaseComp)):
            continue
        else:
            stack.extend(children(current))
    return False
