"""Clients that a framework brings along: a program hands its model over, and sends nothing itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import libcst as cst

from bn_audit.filters import EVERYTHING, IsParameter, Test
from bn_audit.source.flow.cargo import Cargo, Part
from bn_audit.source.flow.follow import Follower
from bn_audit.source.flow.frameworks.kinds import Kit
from bn_audit.source.flow.index import FileIndex, arguments_of
from bn_audit.source.flow.options import Options
from bn_audit.source.flow.values import Callee, Env, Made, Origin
from bn_audit.source.interpreter import classes
from bn_audit.source.interpreter.values import ClassVal, External, Func, Partial, Value
from bn_audit.source.nodes import dotted_name
from bn_audit.source.project import PyModule

__all__ = ["kit_models", "sent_by"]

Handed = tuple[cst.CSTNode, Env, tuple[Made, ...]]
"""Where a kit gets its model, and which it may be."""


def kit_models(kit: Kit, follower: Follower, module: PyModule, index: FileIndex, options: Options) -> Iterator[Handed]:
    """The models that a file hands to a kit, or that derive from it."""
    if not kit.argument:
        for node in index.classes():
            cls = follower.lookup.class_of(module, node)
            if cls is None or not _derives(cls, kit):
                continue
            if any(_has(cls, name) and not _is_harmless(cls, name, kit, follower) for name in kit.unless):
                continue
            made = follower.any_object(module, node)
            if made is not None and kit.method:
                yield node, made.env, tuple(_models(cls, kit.method, made, follower))
            elif made is not None and made.kind == "model":
                yield node, made.env, (made,)
        return
    known: dict[str, bool] = {}
    for call in index.calls_with(*_called(kit, module)):
        name = dotted_name(call.func)
        if name is None or not known.get(name, True):
            continue
        positional, keywords, _ = arguments_of(call)
        value = keywords.get(kit.argument)
        if value is None and kit.place < len(positional):
            value = positional[kit.place]
        if value is None:
            continue
        env = follower.env(module, call)
        target = follower.lookup.dotted(call.func, env)
        known[name] = target is not None and _is_kit(target, kit)
        if kit.setting and not _is_averaged(kit, options.beside(module, kit.setting)):
            return
        own = any(word in keywords for word in kit.unless) or (kit.unless and len(positional) > kit.place + 1)
        if own or not known[name]:
            continue
        given = [value] if not kit.hands else list(_handed_to(kit, value, index))
        found = (row for part in given for row in follower.items(follower.origins(part, env)))
        models = [made for origin in found for made in _made(origin, env, follower)]
        yield call, env, tuple(dict.fromkeys(made for made in models if made.kind == "model"))


def _is_averaged(kit: Kit, variants: Sequence[Mapping[str, object]]) -> bool:
    """Whether the settings of a program, if there are any, have it average states in one variant at least."""
    given = [str(settings[kit.setting]) for settings in variants]
    return not given or any(value.startswith(kit.values) for value in given)


def _handed_to(kit: Kit, holder: cst.BaseExpression, index: FileIndex) -> Iterator[cst.BaseExpression]:
    """What methods of an object are given in the scope in which it is handed to a kit: ``trainer.fit(model)``."""
    scope = index.scope_of(holder)
    for name in kit.hands:
        for call in index.calls_of(name):
            own = isinstance(call.func, cst.Attribute) and index.code(call.func.value) == index.code(holder)
            positional, keywords, _ = arguments_of(call)
            model = positional[0] if positional else keywords.get("model")
            if own and model is not None and index.scope_of(call) is scope:
                yield model


def _called(kit: Kit, module: PyModule) -> tuple[str, ...]:
    """Words of which one stands in every function that hands something to a kit."""
    text = "".join(part.source for part in module.parsed.parts)
    return ("",) if any(f"{word} as " in text for word in kit.words) else kit.words


def sent_by(kit: Kit, handed: Handed) -> tuple[Cargo, Cargo]:
    """What a kit sends of the model, and what it loads."""
    node, env, models = handed
    shape: Literal["dict", "list"] = "dict" if kit.what == "state" else "list"
    covers: Test = EVERYTHING if kit.what == "state" else IsParameter()
    return Cargo(shape, (Part("model", covers, kit.what, models, node, env),)), Cargo(
        "dict", (Part("message", covers),)
    )


def _made(origin: Origin, env: Env, follower: Follower) -> Iterator[Made]:
    """The models behind what a kit is handed: one itself, or a class or function that makes one."""
    if isinstance(origin, Made):
        yield origin
    elif isinstance(origin, Callee) and isinstance(origin.value, ClassVal):
        made = follower.any_object(origin.value.module, origin.value.node)
        if made is not None:
            yield made
    elif isinstance(origin, Callee) and isinstance(origin.value, Func):
        for row in follower.items(follower.returned(origin.value, None, origin.receiver, env)):
            if isinstance(row, Made):
                yield row


def _models(cls: ClassVal, name: str, made: Made, follower: Follower) -> Iterator[Made]:
    """What a method of a class returns."""
    for value, env in _returns(cls, name, made, follower):
        for origin in follower.items(follower.origins(value, env)):
            if isinstance(origin, Made) and origin.kind == "model":
                yield origin


def _is_harmless(cls: ClassVal, name: str, kit: Kit, follower: Follower) -> bool:
    """Whether all that a method returns is made by what the framework would have taken anyway."""
    if kit.harmless is None:
        return False
    given = list(_returns(cls, name, None, follower))
    targets = [follower.lookup.dotted(value.func, env) if isinstance(value, cst.Call) else None for value, env in given]
    return bool(targets) and all(
        isinstance(target, External) and kit.harmless.match(target.name) is not None for target in targets
    )


def _returns(
    cls: ClassVal, name: str, made: Made | None, follower: Follower
) -> Iterator[tuple[cst.BaseExpression, Env]]:
    found = classes.find(cls, name)
    func = found[0] if found is not None else None
    if not isinstance(func, Func):
        return
    scope = follower.index(func.module).scope(func.node)
    if scope is not None:
        env = Env(func.module, scope, receiver=made)
        yield from ((value, env) for value in scope.returns)


def _is_kit(value: Value, kit: Kit) -> bool:
    while isinstance(value, Partial):
        value = value.func
    if isinstance(value, External):
        return kit.name.match(value.name) is not None
    # One that has a constructor of its own takes arguments of its own.
    return isinstance(value, ClassVal) and _derives(value, kit) and not _has(value, "__init__")


def _has(cls: ClassVal, name: str) -> bool:
    """Whether a member is the program's, and not the framework's."""
    found = classes.find(cls, name)
    return found is not None and isinstance(found[1], ClassVal)


def _derives(cls: ClassVal, kit: Kit) -> bool:
    return any(kit.name.match(base.name) for base in classes.external_bases(cls))
