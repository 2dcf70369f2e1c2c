"""Conditions on entries as they stand in source, read as tests that can be asked about an entry."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import libcst as cst

from bn_audit.filters import (
    EVERYTHING,
    All,
    Any,
    Contains,
    Dtype,
    Ends,
    Equals,
    Floating,
    IsParameter,
    Not,
    Scalar,
    Starts,
    Test,
    Unclear,
)
from bn_audit.source.flow.callers import function_of, is_plain, is_static
from bn_audit.source.flow.changes import text_of
from bn_audit.source.flow.follow import Follower
from bn_audit.source.flow.following import MAX_CALLS
from bn_audit.source.flow.index import FileIndex, arguments_of
from bn_audit.source.flow.values import Env
from bn_audit.source.interpreter.values import Const, ListVal, Value
from bn_audit.source.names import statements
from bn_audit.source.nodes import dotted_name, reads, walk

__all__ = ["concerns", "read_test", "read_tests", "words_of"]

_DTYPES = {"long": "int64", "float": "float32", "double": "float64", "half": "float16", "int": "int32"}


def read_tests(follower: Follower, tests: Iterable[tuple[cst.BaseExpression, bool]], key: str, env: Env) -> Test:
    """All of several conditions, each with whether it must hold.

    A condition that does not mention the key, nor an entry by it, decides whether the code runs at all and not for
    which entry: it is left out.
    """
    parts: list[Test] = []
    for node, wanted in tests:
        if not concerns(node, key):
            continue
        test = read_test(follower, node, key, env)
        parts.append(test if wanted else Not(test))
    return parts[0] if len(parts) == 1 else All(tuple(parts))


def concerns(node: cst.BaseExpression, key: str) -> bool:
    """Whether a condition asks for an entry, by its key or dtype, and not for something else."""
    return not key or reads(node, key) or _asks_dtype(node)


def read_test(follower: Follower, node: cst.BaseExpression, key: str, env: Env) -> Test:
    """One condition; what is not understood is :class:`~bn_audit.filters.Unclear`."""
    word = text_of(node) if not key else None
    if word is not None:  # the entry that is taken out: ``state.pop("fc.bias")``
        return _taken_out(follower.index(env.module), node, word)
    if isinstance(node, cst.UnaryOperation) and isinstance(node.operator, cst.Not):
        return Not(read_test(follower, node.expression, key, env))
    if isinstance(node, cst.BooleanOperation):
        parts = (read_test(follower, node.left, key, env), read_test(follower, node.right, key, env))
        return All(parts) if isinstance(node.operator, cst.And) else Any(parts)
    if isinstance(node, cst.Comparison) and len(node.comparisons) == 1:
        found = _comparison(follower, node, key, env)
        if found is not None:
            return found
    if isinstance(node, cst.Call):
        found = _call(follower, node, key, env)
        if found is not None:
            return found
        if key:
            found = _by_function(follower, node, key, env)
            if found is not None:
                return found
    if isinstance(node, cst.Attribute) and node.attr.value == "is_floating_point":
        return Floating()
    return Unclear(env.module.tree.code_for_node(node).strip())


def _taken_out(index: FileIndex, node: cst.CSTNode, word: str) -> Test:
    """The entry of a name, in a branch perhaps."""
    for above in index.above(node):
        if isinstance(above, (cst.FunctionDef, cst.Lambda, cst.ClassDef)):
            break
        if isinstance(above, (cst.If, cst.IfExp, cst.Try, cst.While)):
            return All((Equals((word,)), Unclear(index.code(node))))
    return Equals((word,))


def _comparison(follower: Follower, node: cst.Comparison, key: str, env: Env) -> Test | None:
    left, operator, right = node.left, node.comparisons[0].operator, node.comparisons[0].comparator
    found: Test | None = None
    if isinstance(operator, (cst.In, cst.NotIn)):
        words = words_of(follower, left, env)
        if words is not None and len(words) == 1 and _is_key(right, key):
            found = Contains(words[0], lower=_lowered(right))
        elif _is_key(left, key):
            words = words_of(follower, right, env)
            if words is not None:
                found = Equals(words)
            elif "named_parameters" in env.module.tree.code_for_node(right):
                found = IsParameter()
        elif _is_dtype(left):
            names = _dtype_names(right)
            found = Dtype(names) if names else None
        return Not(found) if found is not None and isinstance(operator, cst.NotIn) else found
    if isinstance(operator, (cst.Equal, cst.NotEqual, cst.Is, cst.IsNot)):
        if _is_key(left, key):
            words = words_of(follower, right, env)
            found = Equals(words) if words is not None and len(words) == 1 else None
        elif _is_dtype(left):
            names = _dtype_names(right)
            found = Dtype(names) if names else None
        elif _is_rank(left) and isinstance(right, cst.Integer) and right.value == "0":
            found = Scalar()
        negative = isinstance(operator, (cst.NotEqual, cst.IsNot))
        return Not(found) if found is not None and negative else found
    return None


def _call(follower: Follower, node: cst.Call, key: str, env: Env) -> Test | None:
    positional, _, _ = arguments_of(node)
    func = node.func
    name = dotted_name(func) or ""
    if isinstance(func, cst.Attribute):
        if func.attr.value in ("startswith", "endswith") and positional and _is_key(func.value, key):
            words = words_of(follower, positional[0], env)
            if words is None:
                return None
            return Starts(words) if func.attr.value == "startswith" else Ends(words)
        if func.attr.value == "is_floating_point":
            return Floating()
    if name in ("torch.is_floating_point",):
        return Floating()
    if name in ("any", "all") and positional and isinstance(positional[0], (cst.GeneratorExp, cst.ListComp)):
        comp = positional[0]
        clause = comp.for_in
        if clause.inner_for_in is not None or clause.ifs:
            return None
        found = _for_words(follower, clause.iter, clause.target, comp.elt, key, env)
        return All(found.tests) if name == "all" and found is not None else found
    return None


def _by_function(follower: Follower, node: cst.Call, key: str, env: Env) -> Test | None:
    """``is_kept(key)``, for a function of the project that asks for the key and returns at once."""
    positional, keywords, stars = arguments_of(node)
    place = next((place for place, given in enumerate(positional) if _is_key(given, key)), None)
    named = next((name for name, given in keywords.items() if _is_key(given, key)), None)
    if stars or (place is None and named is None) or env.depth >= MAX_CALLS:
        return None
    found = [(function_of(value), receiver) for value, receiver in follower.callee(node, env)]
    func, receiver = found[0] if len(found) == 1 else (None, None)
    scope = follower.index(func.module).scope(func.node) if func is not None else None
    if func is None or scope is None or not isinstance(func.node, cst.FunctionDef) or not is_plain(func.node):
        return None
    params = [param.name.value for param in scope.parameters]
    if scope.owner is not None and not is_static(func.node):
        params = params[1:]
    name = named if named is not None else params[place] if place is not None and place < len(params) else None
    lowered = _lowered(keywords[named] if named is not None else positional[place or 0])
    if name is None or lowered or scope.bindings.get(name):
        return None
    inner = Env(func.module, scope, node, env, receiver, env.depth + 1)
    return _of_body(follower, statements(func.node.body), name, inner)


def _of_body(follower: Follower, body: Sequence[cst.CSTNode], key: str, env: Env) -> Test | None:
    """What a function answers for a key: it may ask several things, one after the other."""
    for number, row in enumerate(body):
        if isinstance(row, cst.Expr) and isinstance(row.value, (cst.SimpleString, cst.ConcatenatedString)):
            continue
        if isinstance(row, cst.Return) and row.value is not None:
            answer = dotted_name(row.value)
            if answer in ("True", "False"):
                return EVERYTHING if answer == "True" else Not(EVERYTHING)
            return read_test(follower, row.value, key, env)
        rest = body[number + 1 :]
        asked: Test | None = None
        if isinstance(row, cst.If) and row.orelse is None:
            asked, then = read_test(follower, row.test, key, env), statements(row.body)
        elif isinstance(row, cst.For) and row.orelse is None:
            inner = statements(row.body)
            if len(inner) == 1 and isinstance(inner[0], cst.If) and inner[0].orelse is None:
                asked, then = (
                    _for_words(follower, row.iter, row.target, inner[0].test, key, env),
                    statements(inner[0].body),
                )
        if asked is None or len(then) != 1:
            return None
        answer_then = _of_body(follower, then, key, env)
        answer_else = _of_body(follower, rest, key, env)
        if answer_then is None or answer_else is None:
            return None
        return Any((All((asked, answer_then)), All((Not(asked), answer_else))))
    return None


def _for_words(
    follower: Follower,
    over: cst.BaseExpression,
    target: cst.CSTNode,
    asked: cst.BaseExpression,
    key: str,
    env: Env,
) -> Any | None:
    """Whether something holds for one of several words."""
    words = words_of(follower, over, env)
    if words is None or not isinstance(target, cst.Name):
        return None
    tests = [_with_word(asked, target.value, word, key) for word in words]
    parts = tuple(test for test in tests if test is not None)
    return Any(parts) if len(parts) == len(tests) else None


def _with_word(node: cst.BaseExpression, name: str, word: str, key: str) -> Test | None:
    """``s in key`` and its like for one value of ``s``."""
    if isinstance(node, cst.Comparison) and len(node.comparisons) == 1:
        operator, right = node.comparisons[0].operator, node.comparisons[0].comparator
        if isinstance(node.left, cst.Name) and node.left.value == name and _is_key(right, key):
            found = Contains(word, lower=_lowered(right))
            if isinstance(operator, cst.In):
                return found
            return Not(found) if isinstance(operator, cst.NotIn) else None
    if isinstance(node, cst.Call) and isinstance(node.func, cst.Attribute) and _is_key(node.func.value, key):
        positional, _, _ = arguments_of(node)
        if positional and isinstance(positional[0], cst.Name) and positional[0].value == name:
            if node.func.attr.value == "startswith":
                return Starts((word,))
            if node.func.attr.value == "endswith":
                return Ends((word,))
    return None


def words_of(follower: Follower, node: cst.BaseExpression, env: Env) -> tuple[str, ...] | None:
    """The strings of a literal, or of a constant that can be looked up."""
    if isinstance(node, (cst.SimpleString, cst.ConcatenatedString)):
        value = node.evaluated_value
        return (value,) if isinstance(value, str) else None
    if isinstance(node, (cst.Tuple, cst.List, cst.Set)):
        found: list[str] = []
        for element in node.elements:
            words = words_of(follower, element.value, env)
            if words is None or len(words) != 1:
                return None
            found.extend(words)
        return tuple(found)
    if isinstance(node, (cst.Name, cst.Attribute)):
        return _constant(follower.lookup.dotted(node, env))
    return None


def _constant(value: Value | None) -> tuple[str, ...] | None:
    if isinstance(value, Const) and isinstance(value.value, str):
        return (value.value,)
    if isinstance(value, ListVal) and not value.open:
        found = [item.value for item in value.items if isinstance(item, Const) and isinstance(item.value, str)]
        return tuple(found) if len(found) == len(value.items) else None
    return None


def _is_key(node: cst.BaseExpression, key: str) -> bool:
    if _lowered(node) and isinstance(node, cst.Call) and isinstance(node.func, cst.Attribute):
        node = node.func.value
    return isinstance(node, cst.Name) and node.value == key and bool(key)


def _lowered(node: cst.BaseExpression) -> bool:
    return isinstance(node, cst.Call) and isinstance(node.func, cst.Attribute) and node.func.attr.value == "lower"


def _is_dtype(node: cst.BaseExpression) -> bool:
    if isinstance(node, cst.Attribute):
        return node.attr.value == "dtype"
    return isinstance(node, cst.Call) and isinstance(node.func, cst.Attribute) and node.func.attr.value == "type"


def _is_rank(node: cst.BaseExpression) -> bool:
    if isinstance(node, cst.Attribute):
        return node.attr.value == "ndim"
    if isinstance(node, cst.Call):
        if isinstance(node.func, cst.Attribute):
            return node.func.attr.value == "dim"
        argument = node.args[0].value if node.args else None
        return (
            dotted_name(node.func) == "len" and isinstance(argument, cst.Attribute) and argument.attr.value == "shape"
        )
    return False


def _dtype_names(node: cst.BaseExpression) -> tuple[str, ...]:
    """``torch.float32``, or several of them."""
    if isinstance(node, (cst.Tuple, cst.List, cst.Set)):
        return tuple(name for element in node.elements for name in _dtype_names(element.value))
    name = dotted_name(node)
    if name is None or name.partition(".")[0] not in ("torch", "np", "numpy"):
        return ()
    leaf = name.rpartition(".")[2]
    return (_DTYPES.get(leaf, leaf),)


def _asks_dtype(node: cst.BaseExpression) -> bool:
    return any(
        isinstance(part, cst.Attribute) and part.attr.value in ("dtype", "is_floating_point") for part in walk(node)
    )
