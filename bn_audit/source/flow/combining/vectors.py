"""Vectors of all entries of a party, which are added as one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import libcst as cst

from bn_audit.source.flow.combining.averaging import Averaging
from bn_audit.source.flow.index import FileIndex
from bn_audit.source.flow.loops import Loop, depends

__all__ = ["VECTORS", "vectors"]

VECTORS = re.compile(r"to_vec|flat|\bvec|concat|\bcat\(|hstack|\bravel\b|serializ")
"""Words of which a file has one that averages vectors of a model's entries."""


def vectors(
    index: FileIndex,
    node: cst.CSTNode,
    slot: cst.BaseExpression | None,
    added: cst.BaseExpression,
    how: str,
    loops: Sequence[Loop],
) -> Iterator[Averaging]:
    """``total += flattened(client) * weight``, and the same in what is reduced: whether these are vectors of models'
    entries is for the follower to find out."""
    if not index.mentions(VECTORS):
        return
    for parties in reversed(loops):
        terms = tuple(part for part in _terms(index, added) if depends(index, part, parties))
        if terms and (slot is None or not depends(index, slot, parties)):
            scope = index.scope_of(node)
            yield Averaging(node, how, slot, added, added, added, "state", "", None, parties, scope, vector=terms)
            return


def _terms(index: FileIndex, node: cst.BaseExpression) -> Iterator[cst.BaseExpression]:
    """What is multiplied, divided, added or subtracted in an expression."""
    if isinstance(node, cst.BinaryOperation):
        if isinstance(node.operator, (cst.Add, cst.Subtract, cst.Multiply, cst.Divide)):
            yield from _terms(index, node.left)
            yield from _terms(index, node.right)
    elif isinstance(node, (cst.Name, cst.Attribute, cst.Subscript, cst.Call)):
        yield node
