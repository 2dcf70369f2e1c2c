"""Expressions to values."""

from __future__ import annotations

import ast
import contextlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import libcst as cst

from bn_audit.source.interpreter import attributes, calls, operations, scopes, statements, tensors
from bn_audit.source.interpreter.frames import Frame
from bn_audit.source.interpreter.run import Run
from bn_audit.source.interpreter.values import (
    HOLE,
    MAX_ITEMS,
    BuiltinVal,
    Const,
    DictVal,
    Func,
    Hole,
    ListVal,
    SetVal,
    Step,
    TensorVal,
    Unknown,
    Value,
    dependencies,
)

__all__ = ["code", "evaluate", "evaluate_items"]


def code(frame: Frame, node: cst.CSTNode) -> str:
    """The source of a node on one line, shortened: how a message writes a condition."""
    text = " ".join(frame.module.tree.code_for_node(node).split())
    return text if len(text) <= 60 else text[:57] + "..."


def evaluate(run: Run, node: cst.CSTNode, frame: Frame) -> Value:
    """The value of an expression in a frame. Never raises but for the run's budget."""
    run.step()
    handler = _HANDLERS.get(type(node))
    if handler is None:
        return run.unknown(f"{type(node).__name__} is not followed", frame.module, node)
    return handler(run, node, frame)


_CONSTANTS: dict[str, Any] = {"True": True, "False": False, "None": None}


def _name(run: Run, node: cst.Name, frame: Frame) -> Value:
    if node.value in _CONSTANTS:
        if run.change is not None and run.change.node is node:
            return run.change.value
        return Const(_CONSTANTS[node.value], Step(frame.module, node))
    return scopes.lookup(run, node.value, frame, node)


def _literal(run: Run, node: cst.Integer | cst.Float | cst.Imaginary, frame: Frame) -> Value:
    try:
        return Const(ast.literal_eval(node.value), Step(frame.module, node))
    except (ValueError, SyntaxError):
        return run.unknown("a number Python does not read", frame.module, node)


def _string(run: Run, node: cst.SimpleString | cst.ConcatenatedString, frame: Frame) -> Value:
    if isinstance(node, cst.ConcatenatedString):
        left, right = evaluate(run, node.left, frame), evaluate(run, node.right, frame)
        if isinstance(left, Const) and isinstance(right, Const) and type(left.value) is type(right.value):
            return Const(left.value + right.value, Step(frame.module, node))
        return run.unknown("a text with parts that are not known", frame.module, node)
    try:
        return Const(ast.literal_eval(node.value), Step(frame.module, node))
    except (ValueError, SyntaxError):
        return run.unknown("a string Python does not read", frame.module, node)


def _fstring(run: Run, node: cst.FormattedString, frame: Frame) -> Value:
    parts: list[str] = []
    guess: list[str] = []
    certain = True
    deps: frozenset[str] = frozenset()
    for part in node.parts:
        if not isinstance(part, cst.FormattedStringExpression):
            text = part.value if isinstance(part, cst.FormattedStringText) else ""
            parts.append(text.replace("{{", "{").replace("}}", "}"))
            guess.append(parts[-1])
            continue
        value = evaluate(run, part.expression, frame)
        plain = part.conversion is None and not part.format_spec
        if isinstance(value, Const) and isinstance(value.value, (str, int, float, bool, type(None))):
            spec = ""
            for piece in part.format_spec or ():
                if isinstance(piece, cst.FormattedStringText):
                    spec += piece.value
            try:
                if re.search(r"\d{4}", spec):
                    raise ValueError("a text too long to follow")
                content = repr(value.value) if part.conversion == "r" else value.value
                parts.append(format(content, spec) if not plain else str(content))
                guess.append(parts[-1])
                continue
            except (ValueError, TypeError):
                pass
        certain = False
        deps |= dependencies(value)
        parts.append("{" + code(frame, part.expression) + "}")
        hint = operations.likely(run, value) if plain else None
        guess.extend([str(hint.value)] if hint is not None else [])
    if sum(map(len, parts)) > operations.MAX_SIZE:
        return run.unknown("a text too long to follow", frame.module, node, deps=deps)
    text = "".join(parts)
    if certain:
        return Const(text, Step(frame.module, node))
    likely = Const("".join(guess)) if len(guess) == len(parts) else None
    return run.unknown("a text with parts that are not known", frame.module, node, deps=deps, text=text, likely=likely)


def _attribute(run: Run, node: cst.Attribute, frame: Frame) -> Value:
    return attributes.get(run, evaluate(run, node.value, frame), node.attr.value, frame, node)


def _subscript(run: Run, node: cst.Subscript, frame: Frame) -> Value:
    value = evaluate(run, node.value, frame)
    if len(node.slice) != 1:
        return _opaque(run, frame, node, value)
    part = node.slice[0].slice
    if isinstance(part, cst.Index):
        return operations.item(run, value, evaluate(run, part.value, frame), frame, node)
    assert isinstance(part, cst.Slice)
    bounds = [None if edge is None else evaluate(run, edge, frame) for edge in (part.lower, part.upper, part.step)]
    return operations.slice_of(run, value, bounds, frame, node)


def _opaque(run: Run, frame: Frame, node: cst.CSTNode, *values: Value) -> Unknown:
    """Unknown, depending on what it is made of."""
    deps: frozenset[str] = frozenset()
    reason = "not followed"
    for value in values:
        deps |= dependencies(value)
        if isinstance(value, Unknown):
            reason = value.reason
    return run.unknown(reason, frame.module, node, deps=deps)


def _binary(run: Run, node: cst.BinaryOperation, frame: Frame) -> Value:
    left, right = evaluate(run, node.left, frame), evaluate(run, node.right, frame)
    return operations.binary(run, type(node.operator).__name__, left, right, frame, node)


def _unary(run: Run, node: cst.UnaryOperation, frame: Frame) -> Value:
    value = evaluate(run, node.expression, frame)
    if isinstance(node.operator, cst.Not):
        truth = operations.truth(value)
        if truth is None:
            key = f"not {value.key}" if isinstance(value, Unknown) and value.key else None
            hint = operations.likely(run, value)
            hint = None if hint is None else Const(not hint.value)
            deps = dependencies(value)
            return run.unknown("a condition that is not known", frame.module, node, key=key, deps=deps, likely=hint)
        return Const(not truth, Step(frame.module, node))
    if isinstance(value, Const) and isinstance(value.value, (int, float, complex)):
        if isinstance(node.operator, cst.Minus):
            return Const(-value.value, Step(frame.module, node))
        if isinstance(node.operator, cst.Plus):
            return Const(+value.value, Step(frame.module, node))
        if isinstance(value.value, int):
            return Const(~int(value.value), Step(frame.module, node))
    if isinstance(value, TensorVal):
        return tensors.fresh(value, value.shape, value.dtype, Step(frame.module, node))
    return _opaque(run, frame, node, value)


def _boolean(run: Run, node: cst.BooleanOperation, frame: Frame) -> Value:
    left = evaluate(run, node.left, frame)
    outcome = condition(run, left, node.left, frame)
    if outcome is None:
        right = evaluate(run, node.right, frame)
        return _opaque(run, frame, node, left, right)
    if isinstance(node.operator, cst.And):
        return evaluate(run, node.right, frame) if outcome else left
    return left if outcome else evaluate(run, node.right, frame)


def condition(
    run: Run, value: Value, node: cst.CSTNode, frame: Frame, forced: bool | None = None, *, idle: bool = False
) -> bool | None:
    """Whether a condition holds: known, assumed for this run, or None when no more may be assumed. Nothing comes of one
    that is ``idle``."""
    truth = operations.truth(value)
    if truth is not None:
        return truth
    key = value.key if isinstance(value, Unknown) else operations.key_of(value)
    key = key if key is not None else f"node:{id(node)}"
    negated = False
    while key.startswith("not "):
        key, negated = key[4:], not negated
    if key.startswith("#"):
        # One decision for one place in the source, however often a loop comes by.
        key = f"node:{id(node)}"
    equality = run.equal.get(key.partition(" == ")[0]) if " == " in key else None
    if equality is not None and key not in run.assumed:
        run.assumed[key] = repr(equality) == key.partition(" == ")[2]
    if forced is not None and negated:
        forced = not forced
    hint = operations.likely(run, value)
    guess = None if hint is None else bool(hint.value) != negated
    aside = _aside(run, frame)
    if aside and guess is not None and forced is None and key not in run.assumed:
        return guess != negated
    outcome = run.decide(key, lambda: code(frame, node), dependencies(value), forced, guess, aside or idle, negated)
    if outcome is None:
        return None
    if outcome and " == " in key:
        left, _, right = key.partition(" == ")
        with contextlib.suppress(ValueError, SyntaxError):
            run.equal[left] = ast.literal_eval(right)
    return outcome != negated


def _aside(run: Run, frame: Frame) -> bool:
    """Whether a frame neither leads to the model that is asked for, nor is run to make it."""
    return not (run.carried or run.making or frame.func is None or id(frame.func.node) in run.target_paths)


def _comparison(run: Run, node: cst.Comparison, frame: Frame) -> Value:
    left = evaluate(run, node.left, frame)
    result: Value = Const(True)
    for part in node.comparisons:
        right = evaluate(run, part.comparator, frame)
        result = operations.compare(run, type(part.operator).__name__, left, right, frame, node)
        if not (isinstance(result, Const) and result.value):
            return result
        left = right
    return result


def _ifexp(run: Run, node: cst.IfExp, frame: Frame) -> Value:
    test = evaluate(run, node.test, frame)
    outcome = condition(run, test, node.test, frame)
    if outcome is None:
        body, orelse = evaluate(run, node.body, frame), evaluate(run, node.orelse, frame)
        if isinstance(body, Const) and isinstance(orelse, Const) and body.value == orelse.value:
            return body
        return _opaque(run, frame, node, test)
    return evaluate(run, node.body if outcome else node.orelse, frame)


def evaluate_items(run: Run, elements: Any, frame: Frame) -> list[Value | Hole]:
    """The items of a list, tuple or set display, or of a call's positional arguments, stars unfolded."""
    items: list[Value | Hole] = []
    for element in elements[:MAX_ITEMS]:
        starred = isinstance(element, cst.StarredElement) or (isinstance(element, cst.Arg) and element.star == "*")
        value = evaluate(run, element.value, frame)
        if starred:
            items.extend(operations.iterate(run, value))
        else:
            items.append(value)
    if len(elements) > MAX_ITEMS:
        items.append(HOLE)
    return items


def _list(run: Run, node: cst.List, frame: Frame) -> Value:
    return ListVal(evaluate_items(run, node.elements, frame), "list", Step(frame.module, node))


def _tuple(run: Run, node: cst.Tuple, frame: Frame) -> Value:
    return ListVal(evaluate_items(run, node.elements, frame), "tuple", Step(frame.module, node))


def _set(run: Run, node: cst.Set, frame: Frame) -> Value:
    return SetVal(evaluate_items(run, node.elements, frame), Step(frame.module, node))


def _dict(run: Run, node: cst.Dict, frame: Frame) -> Value:
    result = DictVal(origin=Step(frame.module, node))
    for element in node.elements:
        value = evaluate(run, element.value, frame)
        if isinstance(element, cst.StarredDictElement):
            operations.merge_dict(result, value)
        elif isinstance(element, cst.DictElement):
            key = evaluate(run, element.key, frame)
            operations.set_item(run, result, key, value, frame, node)
    return result


def _comprehension(run: Run, node: cst.BaseComp, frame: Frame) -> Value:
    inner = Frame("comprehension", frame.module, frame, caller=frame, call=frame.call, owner=frame.owner)
    inner.depth = frame.depth
    inner.func = frame.func
    step = Step(frame.module, node)
    if isinstance(node, cst.DictComp):
        table = DictVal(origin=step)

        def put() -> None:
            key = evaluate(run, node.key, inner)
            operations.set_item(run, table, key, evaluate(run, node.value, inner), inner, node)

        if not _loop(run, node.for_in, inner, put):
            table.open = True
        return table
    items: list[Value | Hole] = []
    around = run.uncertain
    assert isinstance(node, (cst.ListComp, cst.SetComp, cst.GeneratorExp))
    elt = node.elt

    def add() -> None:
        items.append(evaluate(run, elt, inner))
        if run.uncertain > around:
            items.append(HOLE)

    if not _loop(run, node.for_in, inner, add) and not (items and items[-1] is HOLE):
        items.append(HOLE)
    if isinstance(node, cst.SetComp):
        return SetVal(items, step)
    return ListVal(items, "list", step)


def _loop(run: Run, clause: cst.CompFor, frame: Frame, body: Callable[[], None]) -> bool:
    """Run a comprehension's clauses; False if how often is not known."""
    certain = True
    for item in loop_items(run, evaluate(run, clause.iter, frame), frame, clause.iter):
        unknown_count = isinstance(item, Hole)
        value: Value = (
            run.unknown("an item of something that is not known", frame.module, clause.iter)
            if isinstance(item, Hole)
            else item
        )
        if unknown_count:
            run.enter_loop()
            certain = False
        try:
            statements.assign(run, clause.target, value, frame)
            taken: bool | None = True
            for test in clause.ifs:
                taken = condition(run, evaluate(run, test.test, frame), test.test, frame)
                if taken is None:
                    certain = False
                if not taken:
                    break
            if not taken:
                continue
            if clause.inner_for_in is not None:
                certain = _loop(run, clause.inner_for_in, frame, body) and certain
            else:
                body()
        finally:
            if unknown_count:
                run.leave_loop()
    return certain


MAX_ITERATIONS = 1024


def loop_items(run: Run, value: Value, frame: Frame, node: cst.CSTNode) -> Iterator[Value | Hole]:
    """What a loop goes over; a Hole stands for an unknown number of unknown items (taken to be at least one)."""
    items = operations.iterate(run, value)
    if len(items) > MAX_ITERATIONS:
        yield HOLE
        return
    for item in items:
        run.step()
        yield item


def _lambda(run: Run, node: cst.Lambda, frame: Frame) -> Value:
    return Func("<lambda>", node, frame.module, frame, calls.defaults(run, node.params, frame))


def _call(run: Run, node: cst.Call, frame: Frame) -> Value:
    return calls.evaluate_call(run, node, frame)


def _await(run: Run, node: cst.Await, frame: Frame) -> Value:
    return evaluate(run, node.expression, frame)


def _named(run: Run, node: cst.NamedExpr, frame: Frame) -> Value:
    value = evaluate(run, node.value, frame)
    scope = frame
    while scope.kind == "comprehension" and scope.parent is not None:
        scope = scope.parent
    statements.assign(run, node.target, value, scope)
    return value


def _yield(run: Run, node: cst.Yield, frame: Frame) -> Value:
    if frame.yields is None:
        frame.yields = []
    if isinstance(node.value, cst.From):
        for item in operations.iterate(run, evaluate(run, node.value.item, frame)):
            frame.yields.append(item if isinstance(item, Value) else run.unknown("an item that is not known"))
    elif node.value is not None:
        frame.yields.append(evaluate(run, node.value, frame))
    else:
        frame.yields.append(Const(None))
    return run.unknown("what is sent to a generator", frame.module, node)


def _ellipsis(run: Run, node: cst.Ellipsis, frame: Frame) -> Value:
    return Const(...)


def _starred(run: Run, node: cst.StarredElement, frame: Frame) -> Value:
    return evaluate(run, node.value, frame)


_HANDLERS: dict[type[cst.CSTNode], Callable[[Run, Any, Frame], Value]] = {
    cst.Name: _name,
    cst.Integer: _literal,
    cst.Float: _literal,
    cst.Imaginary: _literal,
    cst.SimpleString: _string,
    cst.ConcatenatedString: _string,
    cst.FormattedString: _fstring,
    cst.Attribute: _attribute,
    cst.Subscript: _subscript,
    cst.BinaryOperation: _binary,
    cst.UnaryOperation: _unary,
    cst.BooleanOperation: _boolean,
    cst.Comparison: _comparison,
    cst.IfExp: _ifexp,
    cst.List: _list,
    cst.Tuple: _tuple,
    cst.Set: _set,
    cst.Dict: _dict,
    cst.ListComp: _comprehension,
    cst.SetComp: _comprehension,
    cst.DictComp: _comprehension,
    cst.GeneratorExp: _comprehension,
    cst.Lambda: _lambda,
    cst.Call: _call,
    cst.Await: _await,
    cst.NamedExpr: _named,
    cst.Yield: _yield,
    cst.Ellipsis: _ellipsis,
    cst.StarredElement: _starred,
}

BUILTINS = frozenset(
    [
        "abs",
        "all",
        "any",
        "bool",
        "bytes",
        "callable",
        "classmethod",
        "dict",
        "divmod",
        "enumerate",
        "filter",
        "float",
        "frozenset",
        "getattr",
        "globals",
        "hasattr",
        "id",
        "int",
        "isinstance",
        "issubclass",
        "iter",
        "len",
        "list",
        "locals",
        "map",
        "max",
        "min",
        "next",
        "object",
        "open",
        "pow",
        "print",
        "property",
        "range",
        "repr",
        "reversed",
        "round",
        "set",
        "setattr",
        "slice",
        "sorted",
        "staticmethod",
        "str",
        "sum",
        "super",
        "tuple",
        "type",
        "vars",
        "zip",
        "delattr",
        "hash",
        "input",
        "format",
        "Exception",
        "ValueError",
        "TypeError",
        "KeyError",
        "IndexError",
        "RuntimeError",
        "NotImplementedError",
        "AttributeError",
        "ImportError",
        "StopIteration",
        "AssertionError",
        "OSError",
        "FileNotFoundError",
    ]
)


def builtin(name: str) -> Value | None:
    """The builtin of a name."""
    if name in BUILTINS:
        return BuiltinVal(name)
    if name == "__name__":
        # What a script is run as; an importer that sees "__main__" blocks run would see their assignments as well.
        return Const("__main__")
    return None
