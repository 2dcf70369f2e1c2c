"""Which of a name's bindings may hold where it is used."""

from __future__ import annotations

import libcst as cst

from bn_audit.source.flow.index import Binding, FileIndex

__all__ = ["alive_at"]


def alive_at(index: FileIndex, rows: list[Binding], use: cst.CSTNode | None) -> tuple[list[Binding], bool]:
    """The bindings that may hold where a name is used, latest first; whether one of them certainly came before.

    Without a place of use (another scope asks) all hold.
    """
    if use is None:
        return [row for row in rows if row.region is None], False
    known = index.alive.get(id(use))
    if known is None:
        known = index.alive[id(use)] = _alive_at(index, rows, use)
    return known


def _alive_at(index: FileIndex, rows: list[Binding], use: cst.CSTNode) -> tuple[list[Binding], bool]:
    around = set(map(id, index.above(use)))
    inner = [row for row in rows if row.region is not None and id(row.region) in around]
    if inner:
        return inner, True
    place = index.order[id(use)]
    blocks = index.blocks(use)
    loops = [node for node in index.above(use) if isinstance(node, (cst.For, cst.While))]
    statement = index.statement_of(use)
    alive: list[Binding] = []
    sealed = False
    for row in sorted((row for row in rows if row.region is None), key=lambda row: -row.order):
        own = row.node is statement and not isinstance(row.node, (cst.For, cst.With))
        if row.order > place or own:
            # Bound later in the source: reached only if a loop around both runs again.
            if any(id(loop) in set(map(id, index.above(row.node))) or row.node is loop for loop in loops):
                alive.append(row)
            continue
        if sealed:
            continue
        alive.append(row)
        if row.how in ("value", "item", "enter") and row.blocks == blocks[: len(row.blocks)]:
            sealed = True
    return alive, sealed
