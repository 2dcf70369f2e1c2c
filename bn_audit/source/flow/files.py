"""What a program reads from files that it has written itself: ``torch.save`` by a client, ``torch.load`` by the server.

A file that is read is known by its path, as far as that is written down, and so is one that is written. Where the paths
may be the same and share a word that not any file of a model has in its name, what was written is what is read. In one
file of the program the same expression will do.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import libcst as cst

from bn_audit.source.flow.following import Following
from bn_audit.source.flow.handover import Handover, files_that_call, nearest
from bn_audit.source.flow.index import arguments_of
from bn_audit.source.flow.loops import OVER_TIME, depends, loops_around, said_of
from bn_audit.source.flow.paths import Gap, Path, alike, paths, same_words
from bn_audit.source.flow.values import Env
from bn_audit.source.interpreter.libraries import canonical
from bn_audit.source.interpreter.values import External
from bn_audit.source.project import PyModule

__all__ = ["READERS", "Files"]

READERS = {
    "torch.load": "f",
    "safetensors.torch.load_file": "filename",
    "pickle.load": "file",
    "joblib.load": "filename",
    "dill.load": "file",
    "numpy.load": "file",
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
_ARRAYS = frozenset(["numpy.save", "numpy.savez", "numpy.savez_compressed"])
"""Functions that write arrays to the file that is their first argument: ``np.savez(path, **arrays)``."""
_CALLED = ("save", "save_file", "dump", "write")
_CALLED_FOR_ARRAYS = ("savez", "savez_compressed", "save")
_PARTIES = re.compile(
    r"(?i)federat|fed_?avg|(?<![a-z])(?:client|participant|part(?:y|ies)(?![a-z])|hospital|institution|silo|worker|server)"
)
"""What the ends are called of a handover between parties."""
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
    arrays: bool = False
    """Whether NumPy writes it."""


class Files:
    """Finds what was written to the files that are read; keeps what it has found."""

    def __init__(self, follower: Following) -> None:
        self._follower = follower
        self._writers: dict[str, list[_Writer]] = {}
        self._others: dict[tuple[str, frozenset[str], bool], list[PyModule]] = {}
        self._places: dict[tuple[int, tuple[int, ...]], list[tuple[Path, Env]]] = {}

    def written(self, path: cst.BaseExpression, env: Env, *, arrays: bool = False) -> list[Handover]:
        """What the program writes to a file that is read in a run of a scope; empty if nothing, or nobody knows.

        Args:
            path: of the file, or the file that was opened.
            arrays: whether NumPy reads it.
        """
        found: list[Handover] = []
        near: list[Handover] = []
        for wanted, run in self._paths(path, env):
            spoken = self._speaks_of_parties(path, wanted, run)
            if self._is_over_time(path, wanted, run):
                return []
            for writer in self._candidates(wanted, env.module, arrays):
                for place, inner in self._paths(writer.path, writer.env):
                    same = place == wanted and writer.env.module is env.module
                    if not same and not (alike(place, wanted) and same_words(place, wanted)):
                        continue
                    if not spoken and not self._speaks_of_parties(writer.path, place, inner, writer.value):
                        continue
                    if self._is_over_time(writer.path, place, inner):
                        return []
                    row = Handover(writer.value, inner)
                    (near if _skeleton(place) == _skeleton(wanted) else found).append(row)
        rows = near or found
        return nearest(list({(id(row.value), row.env.key): row for row in rows}.values()), env)

    def _speaks_of_parties(
        self, node: cst.BaseExpression, path: Path, env: Env, value: cst.BaseExpression | None = None
    ) -> bool:
        """Whether one end of a handover speaks of parties: its path, what it is put together of, what is written, the
        loops around, or the function, the class and the file that it stands in; or those of who calls it."""
        run: Env | None = env
        place: cst.CSTNode | None = node
        texts = [_text(path), os.path.basename(env.module.path)]
        while run is not None and place is not None:
            index = self._follower.index(run.module)
            texts.append(index.code(place))
            texts.extend(said_of(index, loop) for loop in loops_around(index, place))
            for holder in (run.scope.node, run.scope.owner):
                if isinstance(holder, (cst.FunctionDef, cst.ClassDef)):
                    texts.append(holder.name.value)
            place, run = run.call, run.caller
        if value is not None:
            texts.append(self._follower.index(env.module).code(value))
        return any(_PARTIES.search(text) for text in texts)

    def _is_over_time(self, node: cst.BaseExpression, path: Path, env: Env) -> bool:
        """Whether what tells the files of a path from one another is when they were written, or in which experiment:
        the snapshots of one training, which are averaged over time. What the innermost loop goes over tells, on which
        the path hangs; else what fills its gaps, if the path speaks of no party."""
        run: Env | None = env
        place: cst.CSTNode | None = node
        while run is not None and place is not None:
            index = self._follower.index(run.module)
            for loop in reversed(loops_around(index, place)):
                if depends(index, place, loop):
                    text = said_of(index, loop)
                    return OVER_TIME.search(text) is not None and _PARTIES.search(text) is None
            place, run = run.call, run.caller
        gaps = " ".join(piece.code for piece in path if isinstance(piece, Gap))
        return _PARTIES.search(_text(path)) is None and OVER_TIME.search(gaps) is not None

    def _paths(self, node: cst.BaseExpression, env: Env) -> list[tuple[Path, Env]]:
        """The paths that an expression may be, each with a run that gives it: by the function's callers, where it is
        given the path, or a part of it that tells one file from another."""
        key = (id(node), env.key)
        known = self._places.get(key)
        if known is None:
            found = [(path, env) for path in paths(self._follower, node, env)]
            by_callers: list[tuple[Path, Env]] = []
            if env.call is None and any(_is_given(path, env) for path, _ in found):
                for run in islice(self._follower.callers.runs_of(env), _MAX_RUNS):
                    by_callers.extend((path, run) for path in paths(self._follower, node, run))
            known = self._places[key] = by_callers or found
        return known

    def _candidates(self, wanted: Path, module: PyModule, arrays: bool) -> Iterator[_Writer]:
        """The calls that may write a file, of the file that reads it and of others that speak of a word in its path."""
        words = same_words(wanted, wanted)
        key = (module.path, words, arrays)
        if key not in self._others:
            called = _CALLED_FOR_ARRAYS if arrays else _CALLED
            self._others[key] = list(files_that_call(self._follower, called, module, sorted(words), _MAX_FILES))
        for other in self._others[key]:
            yield from (row for row in self._writers_in(other) if row.arrays is arrays)

    def _writers_in(self, module: PyModule) -> list[_Writer]:
        """The calls of a file that write files."""
        known = self._writers.get(module.path)
        if known is None:
            known = self._writers[module.path] = []
            index = self._follower.index(module)
            names = dict.fromkeys((*_CALLED, *_CALLED_FOR_ARRAYS))
            calls = (call for name in names for call in index.calls_of(name))
            for call in calls:
                if len(known) >= _MAX_WRITERS:
                    break
                env = self._follower.env(module, call)
                if self._name(call, env) in _ARRAYS:
                    known.extend(_Writer(value, path, env, arrays=True) for value, path in _arrays_of(call))
                    continue
                value, path = self._written_by(call, env)
                if value is not None and path is not None:
                    known.append(_Writer(value, path, env))
        return known

    def _name(self, call: cst.Call, env: Env) -> str:
        """What a call calls of a library; "" if nothing."""
        called = self._follower.lookup.dotted(call.func, env)
        return canonical(called.name) if isinstance(called, External) else ""

    def _written_by(self, call: cst.Call, env: Env) -> tuple[cst.BaseExpression | None, cst.BaseExpression | None]:
        """What a call writes to a file, and to which: ``torch.save(state, path)``, ``file.write(data)``,
        ``upload.save(path)``; None for each that is not to be seen."""
        positional, keywords, _ = arguments_of(call)
        called = self._follower.lookup.dotted(call.func, env)
        names = _WRITERS.get(self._name(call, env))
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


def _arrays_of(call: cst.Call) -> Iterator[tuple[cst.BaseExpression, cst.BaseExpression]]:
    """The arrays that a call writes, each with the path: ``np.savez(path, **arrays)``, ``np.save(path, array)``."""
    positional, keywords, _ = arguments_of(call)
    path = positional[0] if positional else keywords.get("file")
    options = ("file", "allow_pickle", "fix_imports")
    for arg in call.args:
        if path is not None and arg.value is not path and (arg.keyword is None or arg.keyword.value not in options):
            yield arg.value, path


def _skeleton(path: Path) -> tuple[str | None, ...]:
    """A path without what fills its gaps."""
    return tuple(None if isinstance(piece, Gap) else piece for piece in path)


def _is_given(path: Path, env: Env) -> bool:
    """Whether a path has something in it that a function is given."""
    return any(isinstance(piece, Gap) and env.scope.takes(piece.code.partition(".")[0]) for piece in path)


def _text(path: Path) -> str:
    """All that is known of a path."""
    return "/".join(piece.code if isinstance(piece, Gap) else piece for piece in path)
