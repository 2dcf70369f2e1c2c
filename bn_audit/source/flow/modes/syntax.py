"""How a program asks for a mode, or turns gradients off: read off a node alone."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from bn_audit.source.flow.index import arguments_of
from bn_audit.source.flow.modes.setting import Mode
from bn_audit.source.flow.values import Env
from bn_audit.source.interpreter.values import Step
from bn_audit.source.nodes import children, dotted_name

__all__ = ["NO_GRAD", "asked_mode", "calls_in", "is_denied", "quiet_decorator", "sets_mode"]

NO_GRAD = frozenset({"no_grad", "inference_mode"})
"""Context managers and decorators that turn gradients off."""


def calls_in(node: cst.CSTNode, perhaps: bool) -> Iterator[tuple[cst.Call, bool]]:
    """The calls in an expression in the order in which they are made, and whether one may be left out."""
    # An `isinstance` of libcst's classes, which are abstract, takes long where it says no.
    kind = type(node)
    if kind is cst.Name or kind is cst.FunctionDef or kind is cst.ClassDef:
        return
    if kind is cst.Lambda:
        perhaps = True
    if type(node) is cst.IfExp:
        yield from calls_in(node.test, perhaps)
        yield from calls_in(node.body, True)
        yield from calls_in(node.orelse, True)
        return
    if type(node) is cst.BooleanOperation:
        yield from calls_in(node.left, perhaps)
        yield from calls_in(node.right, True)
        return
    for child in children(node):
        yield from calls_in(child, perhaps)
    if type(node) is cst.Call:
        yield node, perhaps


def asked_mode(node: cst.Call, attr: str) -> Mode:
    """The mode that ``eval()`` or ``train(mode)`` asks for."""
    if attr == "eval":
        return Mode.EVAL
    positional, keywords, stars = arguments_of(node)
    value = positional[0] if positional else keywords.get("mode")
    if value is None:
        return Mode.UNCLEAR if stars else Mode.TRAIN
    if isinstance(value, cst.Name) and value.value in ("True", "False"):
        return Mode.TRAIN if value.value == "True" else Mode.EVAL
    return Mode.UNCLEAR


def is_denied(call: cst.CSTNode) -> bool:
    """Whether a call's first argument is ``False``."""
    if not isinstance(call, cst.Call) or not call.args:
        return False
    value = call.args[0].value
    return isinstance(value, cst.Name) and value.value == "False"


def quiet_decorator(function: cst.FunctionDef, env: Env) -> Step | None:
    """``@torch.no_grad()`` of a function."""
    for row in function.decorators:
        node = row.decorator
        name = (dotted_name(node.func if isinstance(node, cst.Call) else node) or "").rpartition(".")[2]
        if name in NO_GRAD and not is_denied(node):
            return Step(env.module, node)
    return None


def sets_mode(node: cst.CSTNode) -> bool:
    if isinstance(node, cst.Call) and isinstance(node.func, cst.Attribute):
        return node.func.attr.value in ("eval", "train")
    return (
        isinstance(node, cst.AssignTarget)
        and isinstance(node.target, cst.Attribute)
        and (node.target.attr.value == "training")
    )
