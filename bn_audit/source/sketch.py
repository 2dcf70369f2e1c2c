"""A module's text without the bodies of its functions: what has to be parsed to know what the module holds.

Most of a file that a trail leads to is never looked at. Python's own parser, which is ten times as fast as libcst, says
where the bodies of functions lie and which names they read; libcst then parses a body when somebody looks into it.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bn_audit.source.interpreter.needs import BY_NAME
from bn_audit.source.puts import PUTS

__all__ = ["MARK", "Body", "Sketch", "sketch"]

MARK = "_bn_audit_body_"
"""What stands where a body was left out, with its number behind it."""

_GLOBAL = re.compile(r"(?:^|[;:])[ \t]*global[\s\\]", re.MULTILINE)
"""Where a statement begins so; the word alone stands in many comments on the global model."""

_LEAST = 160
"""Characters of a body that is worth leaving out."""

_Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Body:
    """The body of a function.

    Attributes:
        first, last: its lines, from 1.
        end_column: where its last statement ends, in characters from 0.
        place: the line of the sketch where it was left out.
        indent: the white space before its first statement.
        text: its lines, comments before the first statement among them.
        uses: the names it reads, by the same measure as ``NameIndex.names``.
        combines: whether it may combine entries of several states: it adds in a loop, or takes a sum or mean.
        writes: the attributes of objects that it may write to, or put something into.
        declared: by the function in which it stands, the names declared ``global``.
        called: by the name of a function, those in which it is called.
    """

    first: int
    last: int
    end_column: int
    place: int
    indent: str
    text: str
    uses: frozenset[str]
    combines: bool
    writes: frozenset[str]
    declared: Mapping[str, set[str]]
    called: Mapping[str, set[str]]


@dataclass(frozen=True, slots=True)
class Sketch:
    """What is left of a text, and the bodies that were left out, in order."""

    text: str
    bodies: tuple[Body, ...]


def sketch(text: str) -> Sketch | None:
    """Leave out the bodies of a module's functions; None if there is nothing to leave out, or if that might change what
    the rest means.

    A function within another is part of the body of the outer one.
    """
    if "\f" in text or MARK in text or len(text) < _LEAST:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None  # libcst is asked, and says what is wrong
    lines = text.split("\n")
    uses_global = "global" in text and _GLOBAL.search(text) is not None
    kept: list[str] = []
    bodies: list[Body] = []
    done = 0
    for function in _functions(tree.body):
        body = _body(function, lines, len(kept) - done, uses_global)
        if body is not None:
            kept.extend(lines[done : body.first - 1])
            kept.append(f"{body.indent}{MARK}{len(bodies)}")
            bodies.append(body)
            done = body.last
    if not bodies:
        return None
    return Sketch("\n".join((*kept, *lines[done:])), tuple(bodies))


def _functions(body: Sequence[ast.stmt]) -> Iterator[_Function]:
    """The outermost functions, in order."""
    for statement in body:
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield statement
        elif isinstance(statement, (ast.ClassDef, ast.With, ast.AsyncWith)):
            yield from _functions(statement.body)
        elif isinstance(statement, (ast.If, ast.For, ast.AsyncFor, ast.While)):
            yield from _functions(statement.body)
            yield from _functions(statement.orelse)
        elif isinstance(statement, ast.Try):
            yield from _functions(statement.body)
            for handler in statement.handlers:
                yield from _functions(handler.body)
            yield from _functions(statement.orelse)
            yield from _functions(statement.finalbody)


def _body(function: _Function, lines: Sequence[str], moved: int, uses_global: bool) -> Body | None:
    """The body of a function, if it has lines of its own and is worth it.

    Args:
        moved: by how many lines the sketch is behind the text so far; 0 or less.
    """
    begin, end = function.body[0], function.body[-1]
    first = min(row.lineno for row in (begin, *getattr(begin, "decorator_list", ())))
    last, column = end.end_lineno, end.end_col_offset
    if last is None or column is None:
        return None
    head = lines[first - 1]
    width = len(head) - len(head.lstrip(" \t"))
    alone = first > function.lineno and width == begin.col_offset and not lines[first - 2].endswith("\\")
    while alone and not lines[first - 2].split("#", 1)[0].strip():
        first -= 1
    text = "\n".join(lines[first - 1 : last])
    if not alone or len(text) < _LEAST:
        return None
    if not lines[last - 1].isascii():
        column = len(lines[last - 1].encode()[:column].decode())
    declared: dict[str, set[str]] = {}
    called: dict[str, set[str]] = {}
    if uses_global:
        _globals(function, declared, called)
    uses = frozenset(_uses(function.body))
    combines, writes = _does(function)
    return Body(first, last, column, first + moved, head[:width], text, uses, combines, writes, declared, called)


def _uses(body: Sequence[ast.stmt]) -> set[str]:
    """The names that statements read, or bind other than by assigning, importing or deleting them."""
    found: set[str] = set()
    stack: list[ast.AST] = list(body)
    push = stack.append
    while stack:
        node = stack.pop()
        kind = type(node)
        if kind is ast.Name:
            found.add(node.id)  # type: ignore[attr-defined]
        elif kind is ast.Attribute:
            push(node.value)  # type: ignore[attr-defined]
        elif kind is ast.Constant:
            pass
        elif kind is ast.Call:
            stack.extend(_parts_of_call(node))  # type: ignore[arg-type]
        elif kind is ast.Assign:
            for target in node.targets:  # type: ignore[attr-defined]
                _target(target, stack)
            push(node.value)  # type: ignore[attr-defined]
        else:
            special = _SPECIAL.get(kind)
            if special is not None:
                special(node, stack, found)
            else:
                stack.extend(_children(node))
    return found


def _children(node: ast.AST) -> list[ast.AST]:
    """The nodes within a node; operators, which hold nothing, are left out. Far faster than what ``ast`` has."""
    kind = type(node)
    fields = _FIELDS.get(kind)
    if fields is None:
        fields = _FIELDS[kind] = tuple(name for name in node._fields if name not in _LEAVES)
    found: list[ast.AST] = []
    for name in fields:
        value = getattr(node, name, None)
        if value.__class__ is list:
            found.extend([item for item in value if isinstance(item, ast.AST)])
        elif isinstance(value, ast.AST):
            found.append(value)
    return found


_FIELDS: dict[type[ast.AST], tuple[str, ...]] = {}
"""By class, the fields that may hold nodes."""
_LEAVES = frozenset(("ctx", "op", "ops", "id", "attr", "arg", "asname", "module", "level", "kind", "type_comment"))


def _parts_of_call(node: ast.Call) -> list[ast.AST]:
    """What of a call is read: with what is known to need but some of its arguments, those."""
    func = node.func
    name = func.attr if isinstance(func, ast.Attribute) else func.id if isinstance(func, ast.Name) else ""
    needs = BY_NAME.get(name)
    if needs is None:
        return [func, *node.args, *(row.value for row in node.keywords)]
    found: list[ast.AST] = [func]
    position = 0
    for arg in node.args:
        if isinstance(arg, ast.Starred):
            found.append(arg)
            continue
        if not needs.skips(position, None):
            found.append(arg)
        position += 1
    for row in node.keywords:
        if row.arg is None or not needs.skips(None, row.arg):
            found.append(row.value)
    return found


def _target(node: ast.AST, stack: list[ast.AST]) -> None:
    """What a target reads: a name that is bound is not read."""
    if isinstance(node, (ast.Tuple, ast.List)):
        for element in node.elts:
            _target(element, stack)
    elif isinstance(node, ast.Starred):
        _target(node.value, stack)
    elif not isinstance(node, ast.Name):
        stack.append(node)


def _annotated(node: ast.AnnAssign, stack: list[ast.AST], found: set[str]) -> None:
    _target(node.target, stack)
    if node.value is not None:
        stack.append(node.value)


def _named(node: ast.NamedExpr, stack: list[ast.AST], found: set[str]) -> None:
    stack.append(node.value)


def _deleted(node: ast.Delete, stack: list[ast.AST], found: set[str]) -> None:
    for target in node.targets:
        _target(target, stack)


def _function(node: _Function, stack: list[ast.AST], found: set[str]) -> None:
    found.add(node.name)
    _arguments(node.args, stack, found)
    stack.extend(node.decorator_list)
    stack.extend(node.body)


def _lambda(node: ast.Lambda, stack: list[ast.AST], found: set[str]) -> None:
    _arguments(node.args, stack, found)
    stack.append(node.body)


def _arguments(node: ast.arguments, stack: list[ast.AST], found: set[str]) -> None:
    rows = (*node.posonlyargs, *node.args, node.vararg, *node.kwonlyargs, node.kwarg)
    found.update(row.arg for row in rows if row is not None)
    stack.extend(default for default in (*node.defaults, *node.kw_defaults) if default is not None)


def _class(node: ast.ClassDef, stack: list[ast.AST], found: set[str]) -> None:
    found.add(node.name)
    found.update(row.arg for row in node.keywords if row.arg is not None)
    stack.extend((*node.decorator_list, *node.bases, *(row.value for row in node.keywords), *node.body))


def _handler(node: ast.ExceptHandler, stack: list[ast.AST], found: set[str]) -> None:
    if node.name is not None:
        found.add(node.name)
    stack.extend(_children(node))


def _pattern(node: ast.AST, stack: list[ast.AST], found: set[str]) -> None:
    found.update(name for name in (getattr(node, "name", None), getattr(node, "rest", None)) if name is not None)
    found.update(getattr(node, "kwd_attrs", ()))
    stack.extend(_children(node))


def _nothing(node: ast.AST, stack: list[ast.AST], found: set[str]) -> None:
    pass


_SPECIAL: dict[type[ast.AST], Callable[[Any, list[ast.AST], set[str]], None]] = {
    ast.AnnAssign: _annotated,
    ast.NamedExpr: _named,
    ast.Delete: _deleted,
    ast.FunctionDef: _function,
    ast.AsyncFunctionDef: _function,
    ast.Lambda: _lambda,
    ast.ClassDef: _class,
    ast.ExceptHandler: _handler,
    ast.MatchAs: _pattern,
    ast.MatchStar: _pattern,
    ast.MatchMapping: _pattern,
    ast.MatchClass: _pattern,
    ast.Import: _nothing,
    ast.ImportFrom: _nothing,
    ast.Global: _nothing,
    ast.Nonlocal: _nothing,
}


_REDUCERS = frozenset(
    ("sum", "stack", "average", "mean", "median", "all_reduce", "reduce", "cat", "array", "allreduce", "Allreduce")
)
_LOOPS = frozenset((ast.For, ast.AsyncFor, ast.While, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp))


def _does(function: _Function) -> tuple[bool, frozenset[str]]:
    """Whether a function may combine something, and to which attributes it may write."""
    combines = False
    written: set[str] = set()
    stack: list[tuple[ast.AST, bool]] = [(row, False) for row in function.body]
    while stack:
        node, looped = stack.pop()
        kind = type(node)
        if kind is ast.Name or kind is ast.Constant:
            continue
        if kind is ast.Call:
            name = str(getattr(node.func, "attr", None) or getattr(node.func, "id", ""))  # type: ignore[attr-defined]
            combines |= name in _REDUCERS or (looped and name.endswith(("add", "add_", "lerp", "lerp_")))
            if name in PUTS:
                _write(getattr(node.func, "value", None), written)  # type: ignore[attr-defined]
        elif kind is ast.Attribute or kind is ast.Subscript:
            if type(node.ctx) is ast.Store:  # type: ignore[attr-defined]
                _write(node, written)
        elif kind is ast.AugAssign or kind is ast.BinOp:
            combines |= looped and type(node.op) is ast.Add  # type: ignore[attr-defined]
        elif kind in _LOOPS:
            looped = True
        stack.extend([(child, looped) for child in _children(node)])
    return combines, frozenset(written)


def _write(node: ast.AST | None, written: set[str]) -> None:
    """``x.attr``, ``x.attr[k]``, and ``x.attr[k].data``."""
    while isinstance(node, (ast.Subscript, ast.Attribute)):
        if isinstance(node, ast.Attribute):
            written.add(node.attr)
        node = node.value


def _globals(function: _Function, declared: dict[str, set[str]], called: dict[str, set[str]]) -> None:
    """What a function and those within it declare ``global``, and what they call by its name."""
    stack: list[tuple[ast.AST, str]] = [(row, function.name) for row in function.body]
    while stack:
        node, inside = stack.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            inside = node.name
        elif isinstance(node, ast.Global):
            declared.setdefault(inside, set()).update(node.names)
        elif isinstance(node, ast.Call):
            name = getattr(node.func, "attr", None) or getattr(node.func, "id", None)
            if name is not None:
                called.setdefault(name, set()).add(inside)
        stack.extend([(child, inside) for child in _children(node)])
