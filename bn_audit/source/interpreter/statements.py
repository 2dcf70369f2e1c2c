"""Statements: what running them does to a frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import libcst as cst

from bn_audit.source.interpreter import attributes, calls, expressions, matching, operations, scopes
from bn_audit.source.interpreter.frames import Frame
from bn_audit.source.interpreter.run import Reached, Run
from bn_audit.source.interpreter.values import Const, DictVal, External, Hole, ListVal, Module, Step, Unknown, Value
from bn_audit.source.names import blocks
from bn_audit.source.names import statements as flat
from bn_audit.source.nodes import children

__all__ = ["UNDECIDED", "Signal", "assign", "execute", "execute_block", "returns"]


UNDECIDED = "set under a condition that is not known"
"""Why a part is not known where more conditions were met than can be tried both ways."""


class Signal:
    """How a block ended other than by its end: ``return`` (with a value), ``break``, ``continue`` or ``raise``."""

    __slots__ = ("kind", "value")

    def __init__(self, kind: str, value: Value | None = None) -> None:
        self.kind = kind
        self.value = value


def execute_block(run: Run, body: Sequence[cst.CSTNode], frame: Frame) -> Signal | None:
    """Run the statements of a block that the frame wants."""
    for statement in body:
        if not _wanted(run, statement, frame):
            continue
        signal = execute(run, statement, frame)
        if run.until is frame and run.targets <= run.reached:
            raise Reached
        if signal is not None:
            return signal
    return None


def _wanted(run: Run, statement: cst.CSTNode, frame: Frame) -> bool:
    wanted = frame.wanted
    if wanted is None or id(statement) in run.target_paths:
        return True
    if id(statement) in run.budget.passed:
        return False
    if isinstance(statement, cst.Return):
        return frame.kind == "function"
    touches = frame.module.names.names(statement).touches
    if not touches.isdisjoint(wanted):
        return True
    if frame.kind == "function" and isinstance(statement, (cst.If, cst.Try, cst.With, cst.For, cst.While, cst.Match)):
        return returns(statement)
    return False


def returns(statement: cst.CSTNode) -> bool:
    """Whether a function may end inside a compound statement."""
    for block in blocks(statement):
        for inner in flat(block):
            if isinstance(inner, cst.Return) or returns(inner):
                return True
    return False


def execute(run: Run, node: cst.CSTNode, frame: Frame) -> Signal | None:
    """Run one statement."""
    run.step()
    handler = _HANDLERS.get(type(node))
    return handler(run, node, frame) if handler is not None else None


def _expr(run: Run, node: cst.Expr, frame: Frame) -> None:
    if _is_inert(frame, node):
        return
    if isinstance(node.value, cst.Call):
        calls.evaluate_call(run, node.value, frame, dropped=True)
    else:
        expressions.evaluate(run, node.value, frame)


def _assign(run: Run, node: cst.Assign, frame: Frame) -> None:
    value = expressions.evaluate(run, node.value, frame)
    for target in node.targets:
        assign(run, target.target, value, frame)


def _annotated(run: Run, node: cst.AnnAssign, frame: Frame) -> None:
    if node.value is not None:
        assign(run, node.target, expressions.evaluate(run, node.value, frame), frame)


def _augmented(run: Run, node: cst.AugAssign, frame: Frame) -> None:
    left = expressions.evaluate(run, node.target, frame)
    right = expressions.evaluate(run, node.value, frame)
    operator = type(node.operator).__name__.removesuffix("Assign")
    if operator == "Add" and isinstance(left, ListVal) and left.kind == "list":
        operations.extend(run, left, right)
        return
    if operator == "Add" and isinstance(left, Module):
        calls.call_method(run, left, "extend", [right], {}, frame, node)
        return
    if operator == "BitOr" and isinstance(left, DictVal):
        operations.merge_dict(left, right)
        return
    assign(run, node.target, operations.binary(run, operator, left, right, frame, node), frame)


def assign(run: Run, target: cst.CSTNode, value: Value, frame: Frame) -> None:
    """Bind a value to an assignment target."""
    if isinstance(target, cst.Name):
        _bind(run, frame, target.value, value)
    elif isinstance(target, (cst.Tuple, cst.List)):
        _unpack(run, target, value, frame)
    elif isinstance(target, cst.Attribute):
        attributes.set_attribute(
            run, expressions.evaluate(run, target.value, frame), target.attr.value, value, frame, target
        )
    elif isinstance(target, cst.Subscript):
        container = expressions.evaluate(run, target.value, frame)
        part = target.slice[0].slice if len(target.slice) == 1 else None
        if isinstance(part, cst.Index):
            operations.set_item(run, container, expressions.evaluate(run, part.value, frame), value, frame, target)
        elif isinstance(container, ListVal):
            container.items.append(Hole())
    elif isinstance(target, cst.StarredElement):
        assign(run, target.value, value, frame)


def _bind(run: Run, frame: Frame, name: str, value: Value) -> None:
    if name in frame.globals:
        scope = frame.parent
        while scope is not None:
            if name in scope.vars or scope.kind == "module":
                scope.vars[name] = value
                if scope.kind == "module":
                    run.settle(scope.module, name, value)
                return
            scope = scope.parent
    frame.vars[name] = value


def _unpack(run: Run, target: cst.Tuple | cst.List, value: Value, frame: Frame) -> None:
    elements = [element.value for element in target.elements]
    starred = next((i for i, e in enumerate(target.elements) if isinstance(e, cst.StarredElement)), None)
    items = operations.iterate(run, value)
    certain = not any(isinstance(item, Hole) for item in items)
    values = [item for item in items if isinstance(item, Value)]
    if certain and starred is None and len(values) == len(elements):
        for element, item in zip(elements, values, strict=True):
            assign(run, element, item, frame)
        return
    if certain and starred is not None and len(values) >= len(elements) - 1:
        tail = len(elements) - starred - 1
        for element, item in zip(elements[:starred], values[:starred], strict=True):
            assign(run, element, item, frame)
        middle = values[starred : len(values) - tail]
        assign(run, elements[starred], ListVal(list(middle)), frame)
        for element, item in zip(elements[starred + 1 :], values[len(values) - tail :], strict=True):
            assign(run, element, item, frame)
        return
    for number, element in enumerate(elements):
        assign(run, element, operations.part_of(run, value, number, frame, element), frame)


def _import(run: Run, node: cst.Import | cst.ImportFrom, frame: Frame) -> None:
    scopes.run_import(run, node, frame)


def _function(run: Run, node: cst.FunctionDef, frame: Frame) -> None:
    frame.vars[node.name.value] = calls.make_function(run, node, frame)


def _class(run: Run, node: cst.ClassDef, frame: Frame) -> None:
    frame.vars[node.name.value] = calls.make_class(run, node, frame)


def _return(run: Run, node: cst.Return, frame: Frame) -> Signal:
    return Signal("return", Const(None) if node.value is None else expressions.evaluate(run, node.value, frame))


def _break(run: Run, node: cst.Break, frame: Frame) -> Signal:
    return Signal("break")


def _continue(run: Run, node: cst.Continue, frame: Frame) -> Signal:
    return Signal("continue")


def _raise(run: Run, node: cst.Raise, frame: Frame) -> Signal:
    return Signal("raise")


def _scope(run: Run, node: cst.Global | cst.Nonlocal, frame: Frame) -> None:
    for item in node.names:
        frame.globals.add(item.name.value)


def _delete(run: Run, node: cst.Del, frame: Frame) -> None:
    targets = (
        [element.value for element in node.target.elements] if isinstance(node.target, cst.Tuple) else [node.target]
    )
    for target in targets:
        if isinstance(target, cst.Name):
            frame.vars.pop(target.value, None)
        elif isinstance(target, cst.Attribute):
            attributes.delete(run, expressions.evaluate(run, target.value, frame), target.attr.value)
        elif isinstance(target, cst.Subscript) and len(target.slice) == 1:
            part = target.slice[0].slice
            if isinstance(part, cst.Index):
                container, key = (
                    expressions.evaluate(run, target.value, frame),
                    expressions.evaluate(run, part.value, frame),
                )
                operations.delete_item(run, container, key)


def _if(run: Run, node: cst.If, frame: Frame) -> Signal | None:
    test = expressions.evaluate(run, node.test, frame)
    orelse = node.orelse
    then_body = flat(node.body)
    else_body = [] if orelse is None else flat(orelse if isinstance(orelse, cst.If) else orelse.body)
    outcome = operations.truth(test)
    if outcome is None and not run.carried and _only_numbers(then_body) and _only_numbers(else_body):
        # How many classes a data set has decides nothing about norm layers.
        hint = operations.likely(run, test)
        outcome = None if hint is None else bool(hint.value)
    elif outcome is None:
        forced = _forced(run, then_body, else_body)
        idle = forced is None and _inert(run, then_body, frame) and _inert(run, else_body, frame)
        outcome = expressions.condition(run, test, node.test, frame, False if idle else forced, idle=idle)
    if outcome is None:
        _havoc(run, [*then_body, *else_body], frame)
        return None
    return execute_block(run, then_body if outcome else else_body, frame)


def _only_numbers(body: list[cst.CSTNode]) -> bool:
    """Whether all that statements do is to give names numbers."""
    for statement in body:
        if isinstance(statement, cst.If):
            orelse = statement.orelse
            other = None if orelse is None else orelse if isinstance(orelse, cst.If) else orelse.body
            if not _only_numbers(flat(statement.body)) or (other is not None and not _only_numbers(flat(other))):
                return False
        elif not (
            isinstance(statement, cst.Assign)
            and isinstance(statement.value, (cst.Integer, cst.Float))
            and all(isinstance(target.target, cst.Name) for target in statement.targets)
        ):
            return False
    return True


def _forced(run: Run, then_body: list[cst.CSTNode], else_body: list[cst.CSTNode]) -> bool | None:
    """The outcome to take without trying the other: on the way to the target, or away from a raise."""
    if any(id(statement) in run.target_paths for statement in then_body):
        return True
    if any(id(statement) in run.target_paths for statement in else_body):
        return False
    if _fails(then_body) and not _fails(else_body):
        return False
    if else_body and _fails(else_body):
        return True
    return None


def _fails(body: list[cst.CSTNode]) -> bool:
    return any(
        isinstance(statement, cst.Raise)
        or (
            isinstance(statement, cst.Assert)
            and isinstance(statement.test, cst.Name)
            and statement.test.value == "False"
        )
        or (isinstance(statement, cst.Expr) and _exits(statement.value))
        for statement in body
    )


def _exits(node: cst.CSTNode) -> bool:
    return isinstance(node, cst.Call) and (
        (isinstance(node.func, cst.Name) and node.func.value in ("exit", "quit"))
        or (isinstance(node.func, cst.Attribute) and node.func.attr.value in ("exit", "_exit"))
    )


_TALK = frozenset(
    ["print", "warn", "warning", "info", "debug", "error", "exception", "critical", "log", "write", "flush"]
)
_HARMLESS = frozenset({"data", "requires_grad", "training", "inplace"})


def _inert(run: Run, body: list[cst.CSTNode], frame: Frame) -> bool:
    """Whether a block does nothing that could matter: says something, checks something, initialises weights, passes."""
    return all(_is_inert(frame, statement) or not _wanted(run, statement, frame) for statement in body)


def _is_inert(frame: Frame, statement: cst.CSTNode) -> bool:
    cache = frame.module.inert
    found = cache.get(id(statement))
    if found is None:
        found = cache[id(statement)] = _does_nothing(frame, statement)
    return found


def _does_nothing(frame: Frame, statement: cst.CSTNode) -> bool:
    if isinstance(statement, (cst.Pass, cst.Assert, cst.Continue)):
        return True
    if isinstance(statement, cst.Expr):
        value = statement.value
        return isinstance(value, (cst.SimpleString, cst.Ellipsis)) or (
            isinstance(value, cst.Call) and _says_or_fills(value)
        )
    if isinstance(statement, cst.Assign):
        return all(
            isinstance(target.target, cst.Attribute) and target.target.attr.value in _HARMLESS
            for target in statement.targets
        )
    if isinstance(statement, (cst.If, cst.For, cst.With)):
        inner = [part for block in blocks(statement) for part in flat(block)]
        fills = any(isinstance(part, cst.Expr) for part in inner)
        # A number computed on the way to an initialisation dies with it.
        return all(_is_inert(frame, part) or (fills and _is_number(part)) for part in inner)
    return False


def _says_or_fills(call: cst.Call) -> bool:
    """``print(...)``, ``logger.info(...)``, ``nn.init.zeros_(...)``, ``m.weight.data.normal_(...)``."""
    func = call.func
    if isinstance(func, cst.Name):
        return func.value in _TALK or (func.value.endswith("_") and not func.value.startswith("_"))
    if not isinstance(func, cst.Attribute):
        return False
    name = func.attr.value
    return name in _TALK or (name.endswith("_") and not name.startswith("_") and name != "requires_grad_")


def _is_number(statement: cst.CSTNode) -> bool:
    if not isinstance(statement, cst.Assign) or not all(isinstance(t.target, cst.Name) for t in statement.targets):
        return False
    return isinstance(statement.value, (cst.BinaryOperation, cst.Integer, cst.Float, cst.Attribute)) or (
        isinstance(statement.value, cst.Call)
        and isinstance(statement.value.func, cst.Attribute)
        and isinstance(statement.value.func.value, cst.Name)
        and statement.value.func.value.value in ("math", "np", "numpy")
    )


def _havoc(run: Run, body: list[cst.CSTNode], frame: Frame) -> None:
    """Make unknown what statements that are not run might have changed."""
    for statement in body:
        targets = frame.module.changed.get(id(statement))
        if targets is None:
            targets = frame.module.changed[id(statement)] = _changed(statement)
        for target, in_place in targets:
            _forget(run, target, in_place, frame)


def _changed(statement: cst.CSTNode) -> list[tuple[cst.CSTNode, bool]]:
    """What a statement and those below it bind, or (True) may change in place; not what functions defined there
    would."""
    found: list[tuple[cst.CSTNode, bool]] = []
    stack = [statement]
    while stack:
        node = stack.pop()
        if isinstance(node, (cst.FunctionDef, cst.ClassDef, cst.Lambda)):
            continue
        if isinstance(node, cst.Assign):
            found.extend((target.target, False) for target in node.targets)
        elif isinstance(node, (cst.AnnAssign, cst.AugAssign, cst.For)):
            found.append((node.target, False))
        elif isinstance(node, cst.Expr) and isinstance(node.value, cst.Call):
            call = node.value
            if isinstance(call.func, cst.Attribute):
                found.append((call.func.value, True))
            found.extend((arg.value, True) for arg in call.args)
        if isinstance(node, (cst.BaseCompoundStatement, cst.BaseSuite, cst.SimpleStatementLine, cst.Else,
        cst.ExceptHandler,
                             cst.Finally, cst.MatchCase)):  # fmt: skip
            stack.extend(children(node))
    return found


def _forget(run: Run, target: cst.CSTNode, in_place: bool, frame: Frame) -> None:
    reason = UNDECIDED
    if in_place:
        if isinstance(target, (cst.Name, cst.Attribute)):
            operations.blur(expressions.evaluate(run, target, frame), Step(frame.module, target))
    elif isinstance(target, (cst.Name, cst.Tuple, cst.List)):
        assign(run, target, run.unknown(reason, frame.module, target), frame)
    elif isinstance(target, cst.Attribute):
        container = expressions.evaluate(run, target.value, frame)
        if isinstance(container, Module):
            attributes.forget(container, target.attr.value, Step(frame.module, target))
        else:
            attributes.set_attribute(
                run, container, target.attr.value, run.unknown(reason, frame.module, target), frame, target
            )
    elif isinstance(target, cst.Subscript):
        operations.blur(expressions.evaluate(run, target.value, frame), Step(frame.module, target))


def _for(run: Run, node: cst.For, frame: Frame) -> Signal | None:
    if _is_inert(frame, node):
        return None
    iterable = expressions.evaluate(run, node.iter, frame)
    body = flat(node.body)
    broke = False
    for item in expressions.loop_items(run, iterable, frame, node.iter):
        if isinstance(item, Hole):
            value: Value = operations.element_of(run, iterable, frame, node.iter)
            run.enter_loop()
        else:
            value = item
        try:
            assign(run, node.target, value, frame)
            signal = execute_block(run, body, frame)
        finally:
            if isinstance(item, Hole):
                run.leave_loop()
        if signal is not None:
            if signal.kind == "break":
                broke = True
                break
            if signal.kind in ("return", "raise"):
                return signal
    if node.orelse is not None and not broke:
        return execute_block(run, flat(node.orelse.body), frame)
    return None


def _while(run: Run, node: cst.While, frame: Frame) -> Signal | None:
    body = flat(node.body)
    for _ in range(expressions.MAX_ITERATIONS):
        outcome = operations.truth(expressions.evaluate(run, node.test, frame))
        if outcome is False:
            break
        if outcome is None:
            run.enter_loop()
        try:
            signal = execute_block(run, body, frame)
        finally:
            if outcome is None:
                run.leave_loop()
        if signal is not None:
            if signal.kind == "break":
                return None
            if signal.kind in ("return", "raise"):
                return signal
        if outcome is None:
            # How often it runs is not known: once shows what it does, and what it counts is no longer known.
            _havoc_names(run, body, frame)
            return None
    if node.orelse is not None:
        return execute_block(run, flat(node.orelse.body), frame)
    return None


def _havoc_names(run: Run, body: list[cst.CSTNode], frame: Frame) -> None:
    for statement in body:
        if isinstance(statement, (cst.Assign, cst.AugAssign)):
            for target, _ in _changed(statement):
                if isinstance(target, cst.Name) and isinstance(frame.vars.get(target.value), Const):
                    assign(run, target, run.unknown("changed in a loop", frame.module, target), frame)


def _with(run: Run, node: cst.With, frame: Frame) -> Signal | None:
    for item in node.items:
        value = expressions.evaluate(run, item.item, frame)
        if item.asname is not None:
            entered = attributes.entered(run, value, frame, item.item)
            assign(run, item.asname.name, entered, frame)
    return execute_block(run, flat(node.body), frame)


def _try(run: Run, node: cst.Try | cst.TryStar, frame: Frame) -> Signal | None:
    body = flat(node.body)
    target_in_handler = any(
        id(statement) in run.target_paths for handler in node.handlers for statement in flat(handler.body)
    )
    before = dict(frame.vars)
    signal = execute_block(run, body, frame)
    if target_in_handler or (signal is not None and signal.kind == "raise"):
        signal = None
        for handler in node.handlers:
            signal = execute_block(run, flat(handler.body), frame)
            if target_in_handler or signal is not None:
                break
    elif signal is None:
        _imports_that_fail(run, node, body, frame, before)
        if node.orelse is not None:
            signal = execute_block(run, flat(node.orelse.body), frame)
    if node.finalbody is not None:
        signal = execute_block(run, flat(node.finalbody.body), frame) or signal
    return signal


def _imports_that_fail(
    run: Run, node: cst.Try | cst.TryStar, body: list[cst.CSTNode], frame: Frame, before: dict[str, Value]
) -> None:
    """``try: import a except ImportError: import b``: where the first leads nowhere and the other somewhere, take
    that."""
    if not any(isinstance(statement, (cst.Import, cst.ImportFrom)) for statement in body):
        return
    missing = [
        name for name, value in frame.vars.items() if before.get(name) is not value and _may_be_missing(run, value)
    ]
    if not missing:
        return
    for handler in node.handlers:
        other = Frame("module" if frame.kind == "module" else frame.kind, frame.module, frame.parent, func=frame.func)
        other.wanted = frame.wanted
        execute_block(run, flat(handler.body), other)
        for name in missing:
            found = other.vars.get(name)
            if found is not None and not _may_be_missing(run, found):
                frame.vars[name] = found


def _may_be_missing(run: Run, value: Value) -> bool:
    """Whether what was imported is neither in the project nor of a library that is known."""
    return isinstance(value, Unknown) or (isinstance(value, External) and not run.project.is_external(value.package))


def _match(run: Run, node: cst.Match, frame: Frame) -> Signal | None:
    subject = expressions.evaluate(run, node.subject, frame)
    for case in node.cases:
        outcome = matching.matches(run, case.pattern, subject, frame)
        if outcome is not False and case.guard is not None:
            guard = operations.truth(expressions.evaluate(run, case.guard, frame))
            outcome = guard if outcome else (False if guard is False else None)
        if outcome is None:
            forced = True if any(id(statement) in run.target_paths for statement in flat(case.body)) else None
            key = f"node:{id(case)}"
            text = frame.module.tree.code_for_node(case.pattern)
            outcome = run.decide(key, lambda text=text: f"case {text}", frozenset(), forced)  # type: ignore[misc]
            if outcome is None:
                _havoc(run, flat(case.body), frame)
                continue
        if outcome:
            return execute_block(run, flat(case.body), frame)
    return None


_HANDLERS: dict[type[cst.CSTNode], Callable[[Run, Any, Frame], Signal | None]] = {
    cst.Expr: _expr,
    cst.Assign: _assign,
    cst.AnnAssign: _annotated,
    cst.AugAssign: _augmented,
    cst.Import: _import,
    cst.ImportFrom: _import,
    cst.FunctionDef: _function,
    cst.ClassDef: _class,
    cst.Return: _return,
    cst.Break: _break,
    cst.Continue: _continue,
    cst.Raise: _raise,
    cst.Global: _scope,
    cst.Nonlocal: _scope,
    cst.Del: _delete,
    cst.If: _if,
    cst.For: _for,
    cst.While: _while,
    cst.With: _with,
    cst.Try: _try,
    cst.TryStar: _try,
    cst.Match: _match,
}
