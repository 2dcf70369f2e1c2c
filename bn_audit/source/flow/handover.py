"""Values that one part of a program hands over to another, by a file or a message."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import libcst as cst

from bn_audit.source.flow.values import Env
from bn_audit.source.words import folders_between

__all__ = ["Handover", "nearest", "side_of"]


@dataclass(frozen=True, slots=True)
class Handover:
    """A value that is handed over, and the run of the scope that does it; ``kind`` is what a call names it by."""

    value: cst.BaseExpression
    env: Env
    kind: str = ""


def side_of(env: Env) -> Env:
    """The run with which a trail of calls begins: its file is one end of a handover, whatever helpers are between."""
    while env.caller is not None:
        env = env.caller
    return env


def nearest(rows: Sequence[Handover], env: Env) -> list[Handover]:
    """Those of several that come from the files nearest to where they are taken up: a repository may hold several
    programs that go by the same names."""
    here = side_of(env).module.folder
    steps = [folders_between(here, side_of(row.env).module.folder) for row in rows]
    least = min(steps, default=0)
    return [row for row, number in zip(rows, steps, strict=True) if number == least]
