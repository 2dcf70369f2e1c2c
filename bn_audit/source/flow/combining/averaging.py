"""What a combination of the parties' entries is, as it is written."""

from __future__ import annotations

from dataclasses import dataclass, field

import libcst as cst

from bn_audit.source.flow.index import Scope
from bn_audit.source.flow.loops import Loop, unwrapped
from bn_audit.source.nodes import dotted_name, leaf_name

__all__ = ["Adder", "Averaging", "by_position", "is_of_buffers"]


@dataclass(frozen=True, slots=True, eq=False)
class Adder:
    """A function that may add two states.

    Attributes:
        function: what is called; what is added, if that is an object that adds itself.
        held, added: which of its parameters are the sum so far and what is added: a place, or a name.
        own: whether the objects say themselves how they are added: ``total + State(weights)``.
    """

    function: cst.BaseExpression
    held: int | str
    added: int | str
    own: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Averaging:
    """One combination of the parties' entries.

    Attributes:
        node: what a finding points at: the statement or call that combines.
        how: ``+=``, ``+`` (``x = x + v``), ``add_``, ``sum``, ``stack``, ``numpy``; a mean that is kept up to date by
            ``lerp`` (``x = torch.lerp(x, v, c)``), ``lerp_``, ``mul_`` (``x.mul_(c).add_(v)``); ``all_reduce`` over the
            processes of torch.distributed, each of which is a party; "" if it is not told.
        slot: what receives the sum; None for a reducing call.
        added: the expression that is added, with the party's entry in it.
        entry: the party's entry itself (``w[i][key]``, ``param.data``).
        state: the party's state or model (``w[i]``, the iterable of ``parameters()``).
        what: ``state`` (all entries, or what a filter leaves), ``parameters`` (only what ``parameters()`` gives),
            ``buffers`` (what ``buffers()`` gives).
        key: the name that holds the key; "" where entries are gone over by position.
        keys, parties: the two loops; parties None where each call of the function adds one party's state. A vector has
            no loop over entries, nor has a function that is given the key.
        tests: conditions on the way, with whether they must hold.
        vector: what may be a vector of all entries of a party; empty where entries are combined one by one.
        turns: whether one model plays all parties in turn: it takes the shared state again for each of them.
        apart: whether the parties are written out one by one, each with a name of its own; the state is the list of
            theirs then.
        held: what a server holds into which it mixes one party's state after the other; None if it does not.
        gathers: what takes the entries of all processes, each of which is a party: ``all_gather(parts, value)``.
        weights: what a mean that is kept up to date weighs by, as it is written.
        by: what adds whole states, if nothing else is written here; None where entries or vectors are added. Whether it
            does is not said.
    """

    node: cst.CSTNode
    how: str
    slot: cst.BaseExpression | None
    added: cst.BaseExpression
    entry: cst.BaseExpression
    state: cst.BaseExpression
    what: str
    key: str
    keys: Loop | None
    parties: Loop | None
    scope: Scope = field(repr=False)
    tests: tuple[tuple[cst.BaseExpression, bool], ...] = ()
    vector: tuple[cst.BaseExpression, ...] = ()
    turns: bool = False
    apart: bool = False
    held: cst.BaseExpression | None = None
    gathers: cst.Call | None = None
    weights: tuple[cst.BaseExpression, ...] = ()
    by: Adder | None = None


def by_position(averaging: Averaging) -> bool:
    """Whether entries are picked by their place in a list: ``for k in range(len(weights))``, ``while k < n``."""
    if averaging.keys is None:
        return False
    over = averaging.keys.iter
    ranged = isinstance(over, cst.Call) and dotted_name(over.func) == "range"
    return ranged or isinstance(averaging.keys.node, cst.While)


def is_of_buffers(averaging: Averaging) -> bool:
    """Whether buffers are combined: as ``buffers()`` gives them, or by the names that ``named_buffers()`` does."""
    over = unwrapped(averaging.keys.iter) if averaging.keys is not None else None
    named = isinstance(over, cst.Call) and leaf_name(over.func) == "named_buffers"
    return averaging.what == "buffers" or named
