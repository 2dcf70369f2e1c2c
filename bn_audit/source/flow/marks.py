"""Where a file combines states, and what else a server does to entries: found once for all who follow values."""

from __future__ import annotations

import libcst as cst

from bn_audit.source.flow.combining.averaging import Averaging
from bn_audit.source.flow.combining.find import find_averaging
from bn_audit.source.flow.index import FileIndex
from bn_audit.source.flow.server_steps import ServerStep, find_steps, noise_by, step_by
from bn_audit.source.project import PyModule

__all__ = ["Marks"]


class Marks:
    """The combinations and server steps of a file, as far as its functions were looked into."""

    def __init__(self, module: PyModule) -> None:
        self._index = module.derive(FileIndex)
        self._done = 0
        self._averagings: dict[int, Averaging] = {}
        self._steps: dict[int, ServerStep] = {}
        self._called: dict[int, ServerStep | None] = {}
        self._noisy: dict[int, bool] = {}

    def averaging(self, node: cst.CSTNode) -> Averaging | None:
        """The combination whose result a node is."""
        self._catch_up()
        return self._averagings.get(id(node))

    def step(self, node: cst.CSTNode) -> ServerStep | None:
        """What a server does to entries at a node."""
        self._catch_up()
        return self._steps.get(id(node))

    def step_by(self, node: cst.Call) -> ServerStep | None:
        """The step that a call is, if what it calls adds noise."""
        key = id(node)
        if key not in self._called:
            self._called[key] = step_by(self._index, node)
        return self._called[key]

    def adds_noise(self, function: cst.FunctionDef) -> bool:
        """Whether a function of the file adds noise to what it gives back."""
        key = id(function)
        if key not in self._noisy:
            self._noisy[key] = noise_by(self._index, function)
        return self._noisy[key]

    def all_averagings(self) -> list[Averaging]:
        """All combinations of the file, in the order of the source."""
        self._index.look_for(lambda body: body.combines)
        self._catch_up()
        return sorted(self._averagings.values(), key=lambda row: self._index.order(row.node))

    def _catch_up(self) -> None:
        pieces = self._index.pieces
        while self._done < len(pieces):
            piece = pieces[self._done]
            self._done += 1
            self._averagings.update((id(row.node), row) for row in find_averaging(self._index, piece))
            self._steps.update((id(row.node), row) for row in find_steps(self._index, piece))
