"""Follow an expression back to what it may come from.

Containers are transparent: a list comes from whatever was put into it, and an item of it from the same. Arithmetic on
states, copies and conversions are transparent too. Where a function is looked at by itself, its parameters come from
all its callers in the project.
"""

from __future__ import annotations

from collections.abc import Iterable

import libcst as cst

from bn_audit.source.flow.calls import Calls
from bn_audit.source.flow.changes import text_of
from bn_audit.source.flow.choosing import chooses_parties
from bn_audit.source.flow.circumstances import Condition, impossible
from bn_audit.source.flow.displays import entries_under
from bn_audit.source.flow.following import MAX_DEPTH, Origins, filtered, no_vectors, unfiltered
from bn_audit.source.flow.marks import Marks
from bn_audit.source.flow.values import (
    Callee,
    Combined,
    Env,
    Filter,
    Made,
    Opaque,
    Origin,
    Parts,
    State,
    Stepped,
)
from bn_audit.source.flow.variables import among
from bn_audit.source.interpreter.values import Func

__all__ = ["Follower"]

_LINEAR = (cst.Add, cst.Subtract, cst.Multiply, cst.Divide, cst.Or, cst.And)
"""Operators that make vectors of vectors."""


_MAX_ORIGINS = 1000
"""Origins of one expression: a state by each of the ways through conditions that it may have taken."""


class Follower(Calls):
    """One search through a project; keeps what it has found out."""

    def origins(self, node: cst.CSTNode, env: Env) -> Origins:
        """All that an expression may come from, each once, in the order in which it was found."""
        key = (id(node), env.key)
        known = self._known.get(key)
        if known is not None:
            return known
        known = self._tentative.get(key)
        if known is not None:
            self.cut += 1  # what rests on it lacks the same
            return known
        if key in self._busy:
            self.cut += 1
            return ()
        self.steps -= 1
        if self.steps < 0 or self._depth > MAX_DEPTH:
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
            if len(rows) > _MAX_ORIGINS:
                self.exhausted = True
                break
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
            outcome = self.constants.outcome(node.test, env)
            if outcome is not False:
                yield from self.origins(node.body, env)
            if outcome is not True:
                yield from self.origins(node.orelse, env)
        elif isinstance(node, (cst.BooleanOperation, cst.BinaryOperation)):
            if isinstance(node.operator, cst.Add):
                yield from self._combined(node, env)
            found = (*self.origins(node.left, env), *self.origins(node.right, env))
            yield from found if isinstance(node.operator, _LINEAR) else no_vectors(found)
        elif isinstance(node, (cst.ListComp, cst.SetComp, cst.GeneratorExp)):
            yield from filtered(self.origins(node.elt, env), self._clauses(node, node.elt, env))
        elif isinstance(node, cst.DictComp):
            yield from filtered(self.origins(node.value, env), self._clauses(node, node.value, env))
        elif isinstance(node, cst.NamedExpr):
            yield from self.origins(node.value, env)
        elif isinstance(node, (cst.Await, cst.UnaryOperation)):
            yield from self.origins(node.expression, env)
        elif isinstance(node, cst.Lambda):
            yield Callee(Func("<lambda>", node, env.module, self.lookup.run.module_frame(env.module), {}))

    def _clauses(self, node: cst.BaseComp, value: cst.BaseExpression, env: Env) -> tuple[Filter, ...]:
        """The ``if`` clauses of a comprehension, with what it calls the key: the first name of ``for k, v in ...``."""
        found: list[Filter] = []
        clause: cst.CompFor | None = getattr(node, "for_in", None)
        while clause is not None:
            target: cst.CSTNode = clause.target
            if isinstance(target, cst.Tuple) and target.elements:
                target = target.elements[0].value
            name = target.value if isinstance(target, cst.Name) else ""
            found.extend(
                Filter(row.test, True, name, env)
                for row in clause.ifs
                if not chooses_parties(self, clause, row.test, env)
            )
            found.extend(among(clause.target, clause.iter, value, env))
            clause = clause.inner_for_in
        return tuple(found)

    def _combined(self, node: cst.CSTNode, env: Env) -> Iterable[Origin]:
        marks = env.module.derive(Marks)
        averaging = marks.averaging(node)
        if averaging is not None:
            yield Combined(averaging, env)
        step = marks.step(node)
        if step is not None:
            yield Stepped(step, env)

    def _subscript(self, node: cst.Subscript, env: Env) -> Iterable[Origin]:
        base = node.value
        part = node.slice[0].slice if len(node.slice) == 1 else None
        if isinstance(base, cst.Attribute) and base.attr.value == "__dict__" and isinstance(part, cst.Index):
            yield from self._picked(base.value, part.value, env)
            yield Opaque("getattr")
            return
        key = text_of(part.value) if isinstance(part, cst.Index) else None
        entries = entries_under(self, node.value, key, env) if key is not None else []
        if entries:
            for entry in entries:
                yield from self.origins(entry.value, entry.env)
            return
        found = self.opened(self.origins(node.value, env), "__getitem__")
        number = _literal_index(node)
        if isinstance(base, cst.Name) and isinstance(part, cst.Index) and text_of(part.value) is not None:
            found = self._beside_what_is_taken_out(found, base, env)
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

    def _beside_what_is_taken_out(self, found: Origins, name: cst.Name, env: Env) -> Origins:
        """One thing of several, ``package["state"]``: that ``package.pop("loss")`` takes out another leaves nothing out
        of it."""
        here = self.holder(name.value, name, env)
        rows = () if here is None else self._removed(name.value, here)
        others = {id(row.node) for row in rows if text_of(row.node) is not None}
        return tuple(unfiltered(found, others)) if others else found


def _model_of(origin: Made | State) -> Made | None:
    return origin.model if isinstance(origin, State) else origin


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
