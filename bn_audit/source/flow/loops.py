"""The loops around a node, what they bind and what depends on them; the conditions on the way."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import libcst as cst

from bn_audit.source.flow.index import Binding, FileIndex
from bn_audit.source.nodes import dotted_name, is_empty, root_name, walk

__all__ = [
    "OVER_TIME",
    "TAKERS",
    "Loop",
    "comp_loops",
    "conditions",
    "depends",
    "loop_of",
    "loops_around",
    "over_time",
    "said_of",
    "stands_in",
    "unwrapped",
]

_WRAPPERS = frozenset(["list", "tuple", "enumerate", "sorted", "tqdm", "tqdm.tqdm", "reversed"])
TAKERS = frozenset(["get", "get_nowait", "pop", "popleft", "recv", "recv_pyobj"])
_MAX_LOOPS = 6
OVER_TIME = re.compile(
    r"(?i)epoch|step|iter|round|snapshot|history|fold|seed|split|trial|(?<![a-z])(?:swa|ema|t|e|ep|rnd|run)(?![a-z])"
)
"""What a loop goes over whose turns are no parties: one after the other in time, or an experiment each."""

_SHARES = re.compile(
    r"(?i)federat|client|part(?:y|ies|icipant)|worker|user|hospital|silo|device|agent|site|bank|owner|peer"
    r"|(?<![a-z])(?:\w*_)?(?:loaders|datasets|data_?loaders|subsets|shards)(?![a-z])"
)
"""What a loop goes over whose turns have data of their own each."""


@dataclass(frozen=True, slots=True)
class Loop:
    """A ``for``, of a statement or a comprehension, or a ``while`` that counts or takes one of several in each turn:
    the names it binds, what it goes over, where.

    A ``while`` binds what it counts, ``i`` of ``while i < len(states): ...; i += 1``, and goes over what it asks for.
    """

    node: cst.For | cst.CompFor | cst.While
    names: tuple[str, ...]
    iter: cst.BaseExpression

    @property
    def body(self) -> cst.BaseSuite | None:
        """What is done in each turn; None for a comprehension."""
        return None if isinstance(self.node, cst.CompFor) else self.node.body

    @property
    def target(self) -> cst.BaseExpression | None:
        """What each turn binds; None where it is counted."""
        return None if isinstance(self.node, cst.While) else self.node.target


def loops_around(index: FileIndex, node: cst.CSTNode) -> list[Loop]:
    """The loops around a node inside its scope, outermost first."""
    found: list[Loop] = []
    current = node
    for above in index.above(node):
        if isinstance(above, (cst.FunctionDef, cst.Lambda, cst.ClassDef)):
            break
        if isinstance(above, cst.For) and current is above.body:
            found.append(loop_of(above))
        elif isinstance(above, cst.While) and current is above.body:
            names = _counted(index, above)
            if names is not None:
                found.append(Loop(above, names, above.test))
        elif isinstance(above, cst.BaseComp) and not isinstance(current, cst.CompFor):
            found.extend(reversed(comp_loops(above)))
        current = above
    found.reverse()
    return found[-_MAX_LOOPS:]


def stands_in(index: FileIndex, node: cst.CSTNode, kinds: tuple[type[cst.CSTNode], ...]) -> bool:
    """Whether a node stands in something of some kinds, a loop or a branch, inside its scope."""
    for above in index.above(node):
        if isinstance(above, kinds):
            return True
        if isinstance(above, (cst.FunctionDef, cst.Lambda, cst.ClassDef)):
            return False
    return False


def comp_loops(node: cst.BaseComp) -> list[Loop]:
    found: list[Loop] = []
    clause: cst.CompFor | None = getattr(node, "for_in", None)
    while clause is not None:
        found.append(loop_of(clause))
        clause = clause.inner_for_in
    return found


def loop_of(node: cst.For | cst.CompFor) -> Loop:
    names = tuple(part.value for part in walk(node.target) if isinstance(part, cst.Name))
    return Loop(node, names, node.iter)


def _counted(index: FileIndex, loop: cst.While) -> tuple[str, ...] | None:
    """What a ``while`` counts: ``i`` of ``while i < len(states): ...; i += 1``, or of ``while True: if i ==
    len(states): break; ...; i += 1``; nothing if it takes one of several in each turn: ``while left: state =
    left.pop()``. None for any other, and for one that counts the steps of a training: its turns are no parties."""
    key = id(loop)
    if key not in index.counted:
        scope = index.scope_of(loop)
        found: list[str] = []
        for name in dict.fromkeys(_compared(loop)):
            rows = [row for row in scope.bindings.get(name, ()) if id(loop.body) in row.blocks]
            if len(rows) == 1 and _is_step(rows[0], name):
                found.append(name)
        over_time = any(OVER_TIME.search(name) for name in found)
        takes = not over_time and (bool(found) or _takes_next(loop.body))
        index.counted[key] = tuple(found) if takes else None
    return index.counted[key]


def _compared(loop: cst.While) -> Iterator[str]:
    """What a loop compares with something to know whether it is done."""
    tests = [loop.test]
    for row in loop.body.body if dotted_name(loop.test) in ("True", "1") else ():
        if isinstance(row, cst.If) and any(isinstance(part, cst.Break) for part in walk(row.body)):
            tests.append(row.test)
    for test in tests:
        if isinstance(test, cst.Comparison) and len(test.comparisons) == 1:
            for side in (test.left, test.comparisons[0].comparator):
                if isinstance(side, cst.Name):
                    yield side.value


def _is_step(row: Binding, name: str) -> bool:
    """``i += 1``, ``i = i + 1``, ``i -= 1``."""
    value = row.value
    if row.how == "value" and isinstance(value, cst.BinaryOperation):
        counted = isinstance(value.left, cst.Name) and value.left.value == name
        return counted and isinstance(value.operator, (cst.Add, cst.Subtract)) and isinstance(value.right, cst.Integer)
    return row.how == "part" and isinstance(value, cst.Integer)


def said_of(index: FileIndex, loop: Loop) -> str:
    """What a loop says of what it goes over: the names that it binds, and where they come from."""
    return f"{' '.join(loop.names)} {index.code(loop.iter)}"


def over_time(index: FileIndex, loop: Loop) -> bool:
    """Whether a loop says that its turns are one after the other in time, or trials, and of no parties."""
    said = said_of(index, loop)
    return OVER_TIME.search(said) is not None and _SHARES.search(said) is None


def unwrapped(node: cst.BaseExpression) -> cst.BaseExpression:
    while isinstance(node, cst.Call) and (dotted_name(node.func) or "") in _WRAPPERS and node.args:
        node = node.args[0].value
    return node


def depends(
    index: FileIndex,
    node: cst.CSTNode,
    loop: Loop,
    seen: frozenset[str] = frozenset(),
    adding: cst.CSTNode | None = None,
) -> bool:
    """Whether an expression changes from one turn of a loop to the next: it reads what the loop binds, or what is bound
    in its body from that, other than by ``adding`` to what it held, or by making it of itself: ``net = step(net, x)``
    is nobody's own."""
    return _depends(index, node, loop, set(seen), adding)


def _depends(index: FileIndex, node: cst.CSTNode, loop: Loop, seen: set[str], adding: cst.CSTNode | None) -> bool:
    """Each name is asked for once."""
    body = loop.body
    for part in walk(node):
        if not isinstance(part, cst.Name):
            continue
        above = index.parent(part)
        if isinstance(above, cst.Attribute) and above.attr is part:
            continue
        if isinstance(above, cst.Arg) and above.keyword is part:
            continue
        if part.value in loop.names:
            return True
        if body is None or part.value in seen:
            continue
        seen.add(part.value)
        for row in index.scope_of(part).bindings.get(part.value, ()):
            inside = id(body) in row.blocks and row.node is not loop.node and row.region is None
            # What is added to a sum makes it nobody's own, nor does the first that it begins with.
            if row.how == "part" or row.node is adding or (inside and _begins(index, row, part.value)):
                continue
            if not inside or row.value is None:
                continue
            if row.how == "value" and _is_handed(row.value, part.value):
                continue
            if _takes_next(row.value) or _depends(index, _part(row), loop, seen, adding):
                return True
            if row.how == "value" and isinstance(row.value, cst.Call) and _is_fed(index, part.value, body, loop):
                return True
    return False


def _is_handed(node: cst.CSTNode, name: str) -> bool:
    """Whether an expression is a call that is given what a name stands for, or is its method."""
    if not isinstance(node, cst.Call):
        return False
    return any(isinstance(arg.value, cst.Name) and arg.value.value == name for arg in node.args)


def _is_fed(index: FileIndex, name: str, body: cst.BaseSuite, loop: Loop) -> bool:
    """Whether what a turn makes anew, ``local = copy.deepcopy(net)``, is used with what is the turn's own: ``local(x)``
    of ``for x, y in loader``, ``train(local, loader)``."""
    said = said_of(index, loop)
    if not _SHARES.search(said) or OVER_TIME.search(said):
        return False
    own = {*loop.names}
    for part in walk(body):
        if isinstance(part, cst.For) and any(isinstance(one, cst.Name) and one.value in own for one in walk(part.iter)):
            own.update(loop_of(part).names)
    for part in walk(body):
        if not isinstance(part, cst.Call):
            continue
        given = [arg.value for arg in part.args]
        used = root_name(part.func) == name or any(isinstance(one, cst.Name) and one.value == name for one in given)
        if used and any(isinstance(one, cst.Name) and one.value in own for value in given for one in walk(value)):
            return True
    return False


def _takes_next(node: cst.CSTNode) -> bool:
    """Whether an expression takes the next of what comes in: ``queue.get()``, ``pipe.recv()``, ``next(replies)``."""
    for part in walk(node):
        if isinstance(part, cst.Call):
            if isinstance(part.func, cst.Attribute) and part.func.attr.value in TAKERS:
                # With an argument, ``get`` and ``pop`` look for a key.
                if part.func.attr.value not in ("get", "pop") or all(arg.keyword is not None for arg in part.args):
                    return True
            elif isinstance(part.func, cst.Name) and part.func.value == "next":
                return True
    return False


def _begins(index: FileIndex, row: Binding, name: str) -> bool:
    """Whether a binding is made only where there is none yet: ``if total is None: total = ...``, ``if i == 0: ...``."""
    current = row.node
    for above in index.above(row.node):
        if isinstance(above, cst.If):
            return _is_first(index, above, name) is (current is above.body)
        if isinstance(above, (cst.For, cst.While, cst.FunctionDef, cst.Lambda)):
            return False
        current = above
    return False


def _is_first(index: FileIndex, branch: cst.If, name: str) -> bool | None:
    """Whether a condition holds at the first turn alone, when there is nothing yet in what a name stands for, or at all
    but the first; None if neither is known."""
    test, wanted = branch.test, True
    while isinstance(test, cst.UnaryOperation) and isinstance(test.operator, cst.Not):
        test, wanted = test.expression, not wanted
    if _held(test) == name:
        return not wanted
    if not isinstance(test, cst.Comparison) or len(test.comparisons) != 1:
        return None
    operator, right = test.comparisons[0].operator, test.comparisons[0].comparator
    first = isinstance(operator, (cst.Is, cst.Equal))
    more = isinstance(operator, cst.GreaterThan) and isinstance(right, cst.Integer)
    if not first and not more and not isinstance(operator, (cst.IsNot, cst.NotEqual)):
        return None
    nothing = isinstance(right, cst.Integer) and right.value == "0"
    counted = isinstance(test.left, cst.Name) and nothing and _counts_turns(index, branch, test.left.value)
    if counted or (_held(test.left) == name and (nothing or is_empty(right))):
        return first is wanted
    return None


def _held(node: cst.BaseExpression) -> str | None:
    """``total`` of ``total`` and of ``len(total)``."""
    if isinstance(node, cst.Call) and dotted_name(node.func) == "len" and len(node.args) == 1:
        node = node.args[0].value
    return dotted_name(node)


def _counts_turns(index: FileIndex, node: cst.CSTNode, name: str) -> bool:
    """Whether a name is the number of the turn of a loop around: ``for i, state in enumerate(states)``."""
    for loop in loops_around(index, node):
        called = dotted_name(loop.iter.func) if isinstance(loop.iter, cst.Call) else None
        if loop.names and loop.names[0] == name:
            return called in ("enumerate", "range")
    return False


def _part(row: Binding) -> cst.CSTNode:
    """What a binding takes its value from: of ``for a, b in zip(x, y)`` the one that goes with the name."""
    assert row.value is not None
    over = unwrapped(row.value) if isinstance(row.value, cst.BaseExpression) else row.value
    if row.how == "item" and row.path and isinstance(over, cst.Call) and dotted_name(over.func) == "zip":
        number = row.path[-1]
        if number < len(over.args):
            return over.args[number].value
    return row.value


def conditions(index: FileIndex, node: cst.CSTNode, keys: Loop | None) -> tuple[tuple[cst.BaseExpression, bool], ...]:
    """The conditions between a loop over entries, or else the function, and a node in it: branches, ``continue`` before
    it, ``if`` clauses."""
    found: list[tuple[cst.BaseExpression, bool]] = []
    current = node
    for above in index.above(node):
        if isinstance(above, cst.If):
            if current is above.body:
                found.append((above.test, True))
            elif current is above.orelse:
                found.append((above.test, False))
        elif isinstance(above, cst.IfExp):
            if current is not above.test:
                found.append((above.test, current is above.body))
        elif isinstance(above, cst.BaseSuite):
            found.extend(_skipped(above.body, current))
        elif isinstance(above, cst.BaseComp) and not isinstance(current, cst.CompFor):
            clause: cst.CompFor | None = getattr(above, "for_in", None)
            while clause is not None:
                found.extend((row.test, True) for row in clause.ifs)
                clause = clause.inner_for_in
        if above is keys.node if keys is not None else isinstance(above, cst.FunctionDef):
            break
        current = above
    return tuple(found)


def _skipped(body: Sequence[cst.CSTNode], before: cst.CSTNode) -> Iterator[tuple[cst.BaseExpression, bool]]:
    """Conditions under which a turn ends before a statement is reached."""
    for row in body:
        if row is before:
            return
        if isinstance(row, cst.If) and row.orelse is None:
            last = row.body.body[-1] if row.body.body else None
            if isinstance(last, cst.SimpleStatementLine):
                last = last.body[-1]
            if isinstance(last, (cst.Continue, cst.Return, cst.Break)):
                yield row.test, False
