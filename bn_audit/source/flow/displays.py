"""Which entry of a dict is meant that went through a file or a message: ``torch.load(path)["head"]`` of what was
written as ``{"body": body.state_dict(), "head": head.state_dict()}``."""

from __future__ import annotations

from collections.abc import Iterable

import libcst as cst

from bn_audit.source.flow.callers import function_of
from bn_audit.source.flow.changes import text_of
from bn_audit.source.flow.endpoints import ANSWERS, BODY, OPENS
from bn_audit.source.flow.files import READERS
from bn_audit.source.flow.following import MAX_CALLS, Following
from bn_audit.source.flow.given import argument
from bn_audit.source.flow.handover import Handover
from bn_audit.source.flow.index import arguments_of
from bn_audit.source.flow.values import Env
from bn_audit.source.flow.wires import RECEIVES, WIRES
from bn_audit.source.interpreter.libraries import canonical
from bn_audit.source.interpreter.values import External, Func
from bn_audit.source.nodes import leaf_name

__all__ = ["entries_under"]

_MAX_DEPTH = 12
_PACKS = frozenset(["dumps", "loads", "packb", "unpackb", "jsonify", "Response", "deepcopy", "copy", "dict", "bytes"])
"""Functions, by their last names, that give the dict they are given, in another form perhaps."""
_Found = list[Handover] | None


def entries_under(follower: Following, node: cst.BaseExpression, key: str, env: Env) -> list[Handover]:
    """The entries of a key in the dicts that an expression certainly is; empty if that is not known, or none has it."""
    found: list[Handover] = []
    for row in _displays(follower, node, env, 0) or ():
        assert isinstance(row.value, cst.Dict)
        for element in row.value.elements:
            name = text_of(element.key) if isinstance(element, cst.DictElement) else None
            if name is None:
                return []  # something may take the key's place
            if name == key:
                found.append(Handover(element.value, row.env))
    return found


def _displays(follower: Following, node: cst.CSTNode, env: Env, depth: int) -> _Found:
    """The dicts, written out, that an expression may be; None if it may be anything else."""
    if isinstance(node, cst.Dict):
        return [Handover(node, env)]
    if depth > _MAX_DEPTH:
        return None
    if isinstance(node, cst.Await):
        return _displays(follower, node.expression, env, depth + 1)
    if isinstance(node, cst.Name):
        return _of_name(follower, node, env, depth + 1)
    if isinstance(node, cst.Call):
        return _of_call(follower, node, env, depth + 1)
    if isinstance(node, cst.Attribute):
        value = follower.lookup.dotted(node, env)
        if isinstance(value, External) and BODY.fullmatch(value.name):
            return _all(follower, follower.endpoints.posted(env, value.name), depth)
        return _displays(follower, node.value, env, depth + 1) if node.attr.value in ANSWERS else None
    return None


def _of_name(follower: Following, node: cst.Name, env: Env, depth: int) -> _Found:
    here = follower.holder(node.value, node, env)
    if here is None or node.value in here.scope.puts:
        return None
    if not here.scope.takes(node.value):
        value = here.scope.sole_value(node.value)
        return None if value is None else _displays(follower, value, here, depth)
    if node.value in here.scope.bindings:
        return None
    if here.call is None or here.caller is None:
        return _all(follower, follower.endpoints.posted(here), depth)
    given = argument(node.value, here)
    return None if given is None else _displays(follower, given, here.caller, depth)


def _of_call(follower: Following, node: cst.Call, env: Env, depth: int) -> _Found:
    positional, keywords, _ = arguments_of(node)
    attr = node.func.attr.value if isinstance(node.func, cst.Attribute) else ""
    targets = follower.callee(node, env)
    if len(targets) == 1 and isinstance(targets[0][0], External):
        name = canonical(targets[0][0].name)
        if name in READERS:
            held = positional[0] if positional else keywords.get(READERS[name])
            return (
                None
                if held is None
                else _all(follower, follower.files.written(held, env, arrays=name == "numpy.load"), depth)
            )
        if BODY.fullmatch(name):
            return _all(follower, follower.endpoints.posted(env, name), depth)
    if len(targets) == 1 and isinstance(targets[0][0], Func):
        func, receiver = function_of(targets[0][0]), targets[0][1]
        scope = follower.index(func.module).scope(func.node) if func is not None else None
        if func is None or scope is None or scope.yields or env.depth >= MAX_CALLS:
            return None
        inner = Env(func.module, scope, node, env, receiver, env.depth + 1)
        return _all(follower, [Handover(value, inner) for value in scope.returns], depth)
    if leaf_name(node.func) in _PACKS and len(positional) == 1:
        return _displays(follower, positional[0], env, depth)
    if attr in RECEIVES and follower.index(env.module).mentions(WIRES):
        return _all(follower, follower.wires.sent(env), depth)
    if (attr in OPENS or attr in ANSWERS) and isinstance(node.func, cst.Attribute):
        return _displays(follower, node.func.value, env, depth)
    return None


def _all(follower: Following, rows: Iterable[Handover], depth: int) -> _Found:
    found: list[Handover] = []
    for row in rows:
        inner = _displays(follower, row.value, row.env, depth + 1)
        if inner is None:
            return None
        found.extend(inner)
    return found
