"""Which entries are combined: the loop that goes over them, in the function that combines or in one that calls it."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bn_audit.source.flow.combining.averaging import Averaging
from bn_audit.source.flow.combining.sums import is_begun
from bn_audit.source.flow.containers import argument_at
from bn_audit.source.flow.filters import concerns
from bn_audit.source.flow.follow import Follower
from bn_audit.source.flow.given import argument
from bn_audit.source.flow.index import FileIndex, Scope
from bn_audit.source.flow.loops import Loop, conditions, loops_around, unwrapped
from bn_audit.source.flow.passing import STATES
from bn_audit.source.flow.values import Env, Filter
from bn_audit.source.interpreter.values import Func
from bn_audit.source.nodes import dotted_name, is_empty, reads, walk

__all__ = ["born_with", "keys_of", "narrowed"]

_DEPTH = 6
"""Steps from a loop to where its keys were picked."""


def keys_of(follower: Follower, averaging: Averaging, env: Env) -> tuple[Loop, Env] | None:
    """The loop over the keys of entries, and the run of the scope that it stands in; None if there is none, or it is
    not found."""
    if averaging.keys is not None:
        return averaging.keys, env
    name, current = averaging.key, env
    while name and current.call is not None and current.caller is not None:
        names = [param.name.value for param in current.scope.parameters]
        if name not in names:
            return None
        place = names.index(name) - (1 if current.receiver is not None else 0)
        given = argument_at(current.call, place, name)
        if not isinstance(given, cst.Name):
            return None
        name = given.value
        index = follower.index(current.caller.module)
        for loop in reversed(loops_around(index, current.call)):
            if name in loop.names:
                # Other conditions are those under which the result is put where it belongs.
                return None if _is_chosen(index, current.call, loop, name) else (loop, current.caller)
        if any(concerns(test, name) for test, _ in conditions(index, current.call, None)):
            return None
        current = current.caller
    return None


def _is_chosen(index: FileIndex, call: cst.Call, loop: Loop, name: str) -> bool:
    """Whether the key decides if it is this call that gives the entry: ``own[key] if "bn" in key else mean(key)``."""
    for above in index.above(call):
        if above is loop.node:
            return False
        if isinstance(above, cst.IfExp) and concerns(above.test, name):
            return True
    return False


def narrowed(follower: Follower, keys: cst.BaseExpression, env: Env, depth: int = 0) -> Iterator[Filter]:
    """The conditions that keys have passed which a loop goes over: ``[key for key in state if "bn" not in key]``, as it
    is written there, under a name or in a function; unclear ones for ``filter`` and for differences of sets."""
    node = unwrapped(keys)
    if depth > _DEPTH:
        return
    if isinstance(node, cst.BaseComp):
        clause: cst.CompFor | None = getattr(node, "for_in", None)
        while clause is not None:
            names = [part.value for part in walk(clause.target) if isinstance(part, cst.Name)]
            for row in clause.ifs:  # said of the key, or of the entry
                name = next((one for one in names if concerns(row.test, one)), None)
                if name is not None:
                    yield Filter(row.test, True, name, env)
            yield from narrowed(follower, clause.iter, env, depth + 1)
            clause = clause.inner_for_in
    elif isinstance(node, cst.BinaryOperation) and isinstance(node.operator, (cst.Subtract, cst.BitAnd)):
        yield Filter(node, True, "", env)
    elif isinstance(node, cst.Name):
        value = _begun_with(env.scope, node.value)
        if value is not None and not env.scope.takes(node.value):
            yield from narrowed(follower, value, env, depth + 1)
        index = follower.index(env.module)
        for _, put in env.scope.puts.get(node.value, ()) if value is not None and is_empty(value) else ():
            loop = next(iter(reversed(loops_around(index, put))), None)
            name = loop.names[0] if loop is not None and loop.names else ""
            tests = conditions(index, put, loop) if name else ()
            yield from (Filter(test, wanted, name, env) for test, wanted in tests if concerns(test, name))
    elif isinstance(node, cst.Call):
        yield from _narrowed_by(follower, node, env, depth)


def born_with(follower: Follower, averaging: Averaging, env: Env) -> Iterator[Filter]:
    """The conditions on the entries that a sum begins with: no others are added to it."""
    held = averaging.slot
    while isinstance(held, cst.Subscript):
        held = held.value
    scope, index = averaging.scope, follower.index(env.module)
    receiver = scope.parameters[0].name.value if scope.owner is not None and scope.parameters else None
    of_own = isinstance(held, cst.Attribute) and dotted_name(held.value) == receiver
    if of_own and isinstance(held, cst.Attribute) and env.receiver is not None and env.receiver.cls is not None:
        for write, inner in follower.writes_of(env.receiver, held.attr.value):
            if not write.deep and not write.path and not is_empty(write.value):
                yield from narrowed(follower, write.value, inner)
    if not isinstance(held, cst.Name):
        return
    name = held.value
    given = argument(name, env) if scope.takes(name) else None
    if given is not None and env.caller is not None:
        yield from narrowed(follower, given, env.caller)
    for row in scope.bindings.get(name, ()):
        value = row.value
        if row.how == "value" and not row.path and isinstance(value, cst.BaseExpression) and not reads(value, name):
            yield from narrowed(follower, value, env)
    begun = all(row.how == "value" and is_empty(row.value) for row in scope.bindings.get(name, ()))
    births = [
        (value, put)
        for value, put in scope.puts.get(name, ())
        if not isinstance(put, cst.AugAssign) and not reads(value, name)
    ]
    for _, put in births if begun and len(births) == 1 else ():
        loop = next(iter(reversed(loops_around(index, put))), None)
        if loop is None or not loop.names:
            continue
        for test, wanted in conditions(index, put, loop):
            if concerns(test, loop.names[0]) and not is_begun(test, loop.names[0], name):
                yield Filter(test, wanted, loop.names[0], env)


def _begun_with(scope: Scope, name: str) -> cst.BaseExpression | None:
    """What a variable is assigned first, if all else that it is assigned is made of itself."""
    rows = scope.bindings.get(name, ())
    found = [row for row in rows if not (row.value is not None and reads(row.value, name))]
    if len(found) != 1 or found[0].how != "value" or found[0].path:
        return None
    return found[0].value if isinstance(found[0].value, cst.BaseExpression) else None


def _narrowed_by(follower: Follower, node: cst.Call, env: Env, depth: int) -> Iterator[Filter]:
    name = dotted_name(node.func) or ""
    if name == "filter":
        yield Filter(node, True, "", env)
    elif (name in ("set", "frozenset") and len(node.args) == 1) or (name.endswith("fromkeys") and node.args):
        yield from narrowed(follower, node.args[0].value, env, depth + 1)
    elif isinstance(node.func, cst.Attribute) and node.func.attr.value in ("keys", "items") and not node.args:
        yield from narrowed(follower, node.func.value, env, depth + 1)
    elif not (isinstance(node.func, cst.Attribute) and node.func.attr.value in STATES):
        for function, made in follower.callee(node, env):
            scope = follower.index(function.module).scope(function.node) if isinstance(function, Func) else None
            if scope is None or not isinstance(function, Func):
                continue
            run = Env(function.module, scope, node, env, made, env.depth + 1)
            for given in scope.returns:
                yield from narrowed(follower, given, run, depth + 1)
