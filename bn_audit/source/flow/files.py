"""What a program reads from files that it has written itself: ``torch.save`` by a client, ``torch.load`` by the server.

A file that is read is known by its path, as far as that is written down, and so is one that is written. Where the paths
may be the same and share a word that not any file of a model has in its name, what was written is what is read. In one
file of the program the same expression will do.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import libcst as cst

from bn_audit.source.flow.following import Following
from bn_audit.source.flow.handover import Handover, nearest
from bn_audit.source.flow.index import FileIndex, arguments_of
from bn_audit.source.flow.loops import loops_around
from bn_audit.source.flow.paths import Gap, Path, alike, paths, same_words
from bn_audit.source.flow.values import Env
from bn_audit.source.interpreter.libraries import canonical
from bn_audit.source.interpreter.values import External
from bn_audit.source.nodes import reads
from bn_audit.source.project import PyModule
from bn_audit.source.text import SourceError

__all__ = ["READERS", "Files"]

READERS = {
    "torch.load": "f",
    "safetensors.torch.load_file": "filename",
    "pickle.load": "file",
    "joblib.load": "filename",
    "dill.load": "file",
}
"""Functions that give what a file holds, each with the name of its first parameter."""
_WRITERS = {
    "torch.save": ("obj", "f"),
    "safetensors.torch.save_file": ("tensors", "filename"),
    "pickle.dump": ("obj", "file"),
    "joblib.dump": ("value", "filename"),
    "dill.dump": ("obj", "file"),
}
"""Functions that write their first argument to the file that is their second."""
_CALLED = ("save", "save_file", "dump", "write")
_PARTIES = re.compile(r"(?i)federat|fed_?avg|client|participant|part(?:y|ies)(?![a-z])|hospital|institution|silo")
"""Words of which a program has one that averages what its parties have written."""
_OVER_TIME = re.compile(r"(?i)epoch|step|iter|round|snapshot|history|(?<![a-z])(?:swa|ema|t|e|ep)(?![a-z])")
"""What tells files from one another that are written one after the other."""
_MAX_FILES = 12
"""Files of a program that are looked into for what writes a file."""
_MAX_WRITERS = 200
"""Calls that write files, of one file of a program."""
_MAX_RUNS = 8
"""Callers of a function that writes to, or reads from, a path that it is given."""


@dataclass(frozen=True, slots=True)
class _Writer:
    """A call that writes a file."""

    value: cst.BaseExpression
    path: cst.BaseExpression
    env: Env


class Files:
    """Finds what was written to the files that are read; keeps what it has found."""

    def __init__(self, follower: Following) -> None:
        self._follower = follower
        self._writers: dict[str, list[_Writer]] = {}
        self._others: dict[tuple[str, frozenset[str]], list[PyModule]] = {}
        self._places: dict[tuple[int, tuple[int, ...]], list[tuple[Path, Env]]] = {}

    def written(self, path: cst.BaseExpression, env: Env) -> list[Handover]:
        """What the program writes to a file that is read in a run of a scope; empty if nothing, or nobody knows.

        Args:
            path: of the file, or the file that was opened.
        """
        index = self._follower.index(env.module)
        found: list[Handover] = []
        near: list[Handover] = []
        for wanted, run in self._paths(path, env):
            if not self._is_of_parties(wanted, run):
                continue
            if _is_over_time(index, path, wanted):
                return []
            for writer in self._candidates(wanted, env.module):
                for place, inner in self._paths(writer.path, writer.env):
                    same = place == wanted and writer.env.module is env.module
                    if not same and not (alike(place, wanted) and same_words(place, wanted)):
                        continue
                    row = Handover(writer.value, inner)
                    (near if _skeleton(place) == _skeleton(wanted) else found).append(row)
        rows = near or found
        return nearest(list({(id(row.value), row.env.key): row for row in rows}.values()), env)

    def _is_of_parties(self, path: Path, env: Env) -> bool:
        """Whether a path, or the files of the program that a run of a scope goes through, speak of parties."""
        run: Env | None = env
        while run is not None:
            if self._follower.index(run.module).mentions(_PARTIES):
                return True
            run = run.caller
        return _PARTIES.search(_text(path)) is not None

    def _paths(self, node: cst.BaseExpression, env: Env) -> list[tuple[Path, Env]]:
        """The paths that an expression may be, each with a run that gives it: by the function's callers, where it is
        given the path, or a part of it that tells one file from another."""
        key = (id(node), env.key)
        known = self._places.get(key)
        if known is None:
            found = [(path, env) for path in paths(self._follower, node, env)]
            if env.call is None and any(self._is_given(path, env) for path, _ in found):
                for count, (call, caller) in enumerate(self._follower.callers.running(env)):
                    if count >= _MAX_RUNS:
                        break
                    run = Env(env.module, env.scope, call, caller, env.receiver, caller.depth + 1)
                    found.extend((path, run) for path in paths(self._follower, node, run))
            known = self._places[key] = found
        return known

    def _is_given(self, path: Path, env: Env) -> bool:
        """Whether a path is, or ends in, what a function is given."""
        last = path[-1] if path else None
        return isinstance(last, Gap) and env.scope.takes(last.code.partition(".")[0])

    def _candidates(self, wanted: Path, module: PyModule) -> Iterator[_Writer]:
        """The calls that may write a file, of the file that reads it and of others that speak of a word in its path."""
        yield from self._writers_in(module)
        words = same_words(wanted, wanted)
        key = (module.path, words)
        if words and key not in self._others:
            self._others[key] = list(self._files_with(sorted(words), module))
        for other in self._others.get(key, ()):
            yield from self._writers_in(other)

    def _files_with(self, words: Sequence[str], module: PyModule) -> Iterator[PyModule]:
        """Other files of a project that write files and hold one of some words, the nearest first."""
        project = self._follower.project
        own = project.root(module.path)
        told: set[str] = {module.path}
        for name in _CALLED:
            for path in self._follower.finder(name, module, "give"):
                absolute = os.path.abspath(path)
                if absolute in told or len(told) > _MAX_FILES or project.root(absolute) != own:
                    continue
                if not any(project.outside.holds(absolute, [word.encode()]) for word in words):
                    continue
                told.add(absolute)
                try:
                    yield project.open(path)
                except SourceError:
                    continue

    def _writers_in(self, module: PyModule) -> list[_Writer]:
        """The calls of a file that write files."""
        known = self._writers.get(module.path)
        if known is None:
            known = self._writers[module.path] = []
            index = self._follower.index(module)
            calls = (call for name in _CALLED for call in index.calls_of(name))
            for call in calls:
                if len(known) >= _MAX_WRITERS:
                    break
                env = self._follower.env(module, call)
                value, path = self._written_by(call, env)
                if value is not None and path is not None:
                    known.append(_Writer(value, path, env))
        return known

    def _written_by(self, call: cst.Call, env: Env) -> tuple[cst.BaseExpression | None, cst.BaseExpression | None]:
        """What a call writes to a file, and to which: ``torch.save(state, path)``, ``file.write(data)``,
        ``upload.save(path)``; None for each that is not to be seen."""
        positional, keywords, _ = arguments_of(call)
        called = self._follower.lookup.dotted(call.func, env)
        names = _WRITERS.get(canonical(called.name)) if isinstance(called, External) else None
        if names is not None:
            value, path = (
                keywords.get(word, positional[place] if place < len(positional) else None)
                for place, word in enumerate(names)
            )
            return value, path
        if called is not None or not isinstance(call.func, cst.Attribute) or len(positional) != 1:
            return None, None
        if call.func.attr.value == "write":
            return positional[0], call.func.value
        return (call.func.value, positional[0]) if call.func.attr.value == "save" else (None, None)


def _skeleton(path: Path) -> tuple[str | None, ...]:
    """A path without what fills its gaps."""
    return tuple(None if isinstance(piece, Gap) else piece for piece in path)


def _text(path: Path) -> str:
    """All that is known of a path."""
    return "/".join(piece.code if isinstance(piece, Gap) else piece for piece in path)


def _is_over_time(index: FileIndex, node: cst.BaseExpression, path: Path) -> bool:
    """Whether what tells the files of a path from one another is when they were written: the snapshots of one training,
    which are averaged over time. A file of which the path speaks of a party is its own."""
    if _PARTIES.search(_text(path)):
        return False
    gaps = " ".join(piece.code for piece in path if isinstance(piece, Gap))
    if _OVER_TIME.search(gaps):
        return True
    loop = next((row for row in loops_around(index, node) if any(reads(node, name) for name in row.names)), None)
    return loop is not None and _OVER_TIME.search(index.code(loop.iter)) is not None
