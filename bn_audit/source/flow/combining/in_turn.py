"""A server that does not wait for all parties: it mixes what one of them hands in into what it holds,
``shared[key] = (1 - alpha) * shared[key] + alpha * local[key]`` (FedAsync).

The same is written for an average over time: of a teacher, a personal model, a client's own. So both have to be called
by what they are, and what is mixed has to be somebody else's in each turn; who loads it is for the hunter to ask.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import libcst as cst

from bn_audit.source.flow.combining.averaging import Averaging
from bn_audit.source.flow.combining.sums import bare
from bn_audit.source.flow.entries import entries_in
from bn_audit.source.flow.index import FileIndex, arguments_of
from bn_audit.source.flow.loops import Loop, conditions, depends, loops_around
from bn_audit.source.nodes import leaf_name, root_name, walk

__all__ = ["PARTY", "SHARED", "mixed_with", "mixed_with_by"]

SHARED = re.compile(r"(?i)glob|server|aggregat|central|shared")
"""What a server calls the model that it holds, and is called itself."""
PARTY = re.compile(r"(?i)client|local|worker|part(?:y|ies|icipant)|(?<![a-z])update")
"""What it calls what a party hands in."""
_OVER_TIME = re.compile(
    r"(?i)(?<![a-z])(?:ema|swa|avg_model)(?![a-z])|teacher|student|momentum|velocity|person|target|slow|fast|history"
    r"|previous|decay|polyak|soft|smooth|(?<![a-z])tau(?![a-z])|actor|critic|polic(?:y|ies)|learner|replay|reptile|meta"
    r"|(?<![a-z])(?:prev|old|last)(?![a-z])|interpolat|landscape|blend|distil"
)
"""What speaks of another mixture than one with a party's model."""


def mixed_with(
    index: FileIndex, node: cst.CSTNode, slot: cst.BaseExpression | None, value: cst.BaseExpression
) -> Iterator[Averaging]:
    """``(1 - alpha) * shared[key] + alpha * local[key]``, ``torch.lerp(shared[key], local[key], alpha)``."""
    if isinstance(value, cst.Call):
        positional, keywords, _ = arguments_of(value)
        given = positional if root_name(value.func) == "torch" else [*_receiver(value), *positional]
        weight = given[2] if len(given) > 2 else keywords.get("weight")
        if leaf_name(value.func) == "lerp" and len(given) > 1 and weight is not None:
            yield from _mixed(index, node, slot, given[0], given[1], (weight,), "lerp")
    elif isinstance(value, cst.BinaryOperation) and isinstance(value.operator, cst.Add):
        left, right = _weighed(value.left), _weighed(value.right)
        for (one, share), (other, rest) in ((a, b) for a in left for b in right):
            if _are_shares(index, share, rest):
                for kept, added, weight in ((one, other, rest), (other, one, share)):
                    yield from _mixed(index, node, slot, kept, added, (weight,), "")


def mixed_with_by(
    index: FileIndex,
    call: cst.Call,
    slot: cst.BaseExpression,
    added: cst.BaseExpression,
    weights: tuple[cst.BaseExpression, ...],
    how: str,
) -> Iterator[Averaging]:
    """``shared[key].lerp_(local[key], alpha)``, ``shared[key].mul_(1 - alpha).add_(local[key], alpha=alpha)``."""
    yield from _mixed(index, call, slot, slot, added, weights, how)


def _mixed(
    index: FileIndex,
    node: cst.CSTNode,
    slot: cst.BaseExpression | None,
    kept: cst.BaseExpression,
    added: cst.BaseExpression,
    weights: tuple[cst.BaseExpression, ...],
    how: str,
) -> Iterator[Averaging]:
    if any(_OVER_TIME.search(index.code(weight)) for weight in weights):
        return
    for keys in reversed(loops_around(index, node)):
        held, party = (next(entries_in(index, keys, bare(part)), None) for part in (kept, added))
        if held is None or party is None or held[2:] != party[2:] or index.code(held[1]) == index.code(party[1]):
            continue
        entry, state, what, key = party
        if _is_shared(index, node, held[1]) and _is_partys(index, node, state, keys) and not _varies(index, weights):
            scope, tests = index.scope_of(node), conditions(index, node, keys)
            made = Averaging(node, how, slot, added, entry, state, what, key, keys, None, scope, tests)
            yield replace(made, held=held[1], weights=weights)
        return


def _is_shared(index: FileIndex, node: cst.CSTNode, state: cst.BaseExpression) -> bool:
    """Whether what is mixed into is called what a server holds."""
    text = _said(index, state, SHARED)
    owner = index.scope_of(node).owner
    around = owner.name.value if owner is not None and not SHARED.search(text) else ""
    speaks = SHARED.search(text) or SHARED.search(around)
    return speaks is not None and PARTY.search(f"{text} {around}") is None and _OVER_TIME.search(text) is None


def _is_partys(index: FileIndex, node: cst.CSTNode, state: cst.BaseExpression, keys: Loop) -> bool:
    """Whether what is mixed in is called a party's, and is somebody else's in each turn or in each call."""
    text = _said(index, state, PARTY)
    scope = index.scope_of(node)
    names = [holder.name.value for holder in (scope.node, scope.owner) if isinstance(holder, _NAMED)]
    if PARTY.search(text) is None or SHARED.search(text) or any(map(_OVER_TIME.search, (text, *names))):
        return False
    if scope.takes(root_name(state)) and not (
        scope.owner is not None and scope.parameters[0].name.value == root_name(state)
    ):
        return True
    return any(
        depends(index, state, loop, frozenset(keys.names)) for loop in loops_around(index, node) if loop is not keys
    )


_NAMED = (cst.FunctionDef, cst.ClassDef)


def _said(index: FileIndex, state: cst.BaseExpression, words: re.Pattern[str]) -> str:
    """What a state is called; where that says nothing by some words, what gives it: ``client.train`` of ``state =
    client.train(shared)``."""
    text = index.code(state)
    named = index.scope_of(state).sole_value(state.value) if isinstance(state, cst.Name) else None
    if named is None or words.search(text):
        return text
    return index.code(named.func if isinstance(named, cst.Call) else named)


def _varies(index: FileIndex, weights: tuple[cst.BaseExpression, ...]) -> bool:
    """Whether a weight is what a loop goes over: mixtures of two models that are tried one after the other."""
    for weight in weights:
        for part in walk(weight):
            rows = index.scope_of(part).bindings.get(part.value, ()) if isinstance(part, cst.Name) else ()
            if any(row.how == "item" and row.region is None and not row.path for row in rows):
                return True
    return False


def _weighed(node: cst.BaseExpression) -> list[tuple[cst.BaseExpression, cst.BaseExpression]]:
    """A product both ways: (what is weighed, by what)."""
    if isinstance(node, cst.BinaryOperation) and isinstance(node.operator, cst.Multiply):
        return [(node.left, node.right), (node.right, node.left)]
    return []


def _are_shares(index: FileIndex, one: cst.BaseExpression, other: cst.BaseExpression) -> bool:
    """Whether two weights make one: ``1 - alpha`` and ``alpha``, ``0.9`` and ``0.1``."""
    left, right = _plain(index, one), _plain(index, other)
    if any(a in (f"1-{b}", f"1.0-{b}", f"1.-{b}") for a, b in ((left, right), (right, left))):
        return True
    try:
        return abs(float(left) + float(right) - 1) < 1e-9
    except ValueError:
        return False


def _plain(index: FileIndex, node: cst.BaseExpression) -> str:
    text = "".join(index.code(node).split())
    return text[1:-1] if text.startswith("(") and text.endswith(")") else text


def _receiver(call: cst.Call) -> list[cst.BaseExpression]:
    return [call.func.value] if isinstance(call.func, cst.Attribute) else []
