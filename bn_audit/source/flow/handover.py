"""Values that one part of a program hands over to another, by a file or a message."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import libcst as cst

from bn_audit.source.flow.following import Following
from bn_audit.source.flow.values import Env
from bn_audit.source.project import PyModule
from bn_audit.source.text import SourceError
from bn_audit.source.words import folders_between

__all__ = ["Handover", "files_that_call", "nearest", "side_of"]


@dataclass(frozen=True, slots=True)
class Handover:
    """A value that is handed over, and the run of the scope that does it; ``kind`` is what a call names it by."""

    value: cst.BaseExpression
    env: Env
    kind: str = ""


def files_that_call(
    follower: Following, names: Sequence[str], module: PyModule, words: Collection[str], most: int
) -> Iterator[PyModule]:
    """A file, and others of its project that call something of some names and hold one of some words: at most so many,
    the nearest first."""
    project = follower.project
    own = project.root(module.path)
    yield module
    told = {module.path}
    for name in names:
        for path in follower.finder(name, module, "give"):
            absolute = os.path.abspath(path)
            if absolute in told or len(told) > most or project.root(absolute) != own:
                continue
            if not any(project.outside.holds(absolute, [word.encode()]) for word in words):
                continue
            told.add(absolute)
            try:
                yield project.open(path)
            except SourceError:
                continue


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
