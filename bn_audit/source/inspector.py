"""Looking into files: what they export, and the sites in them.

One file at a time, and each as if it were the first: what is kept between two is the parsed files, which are the same
for all. So what comes of a file depends on nothing but the answers from outside that were noted meanwhile, and it does
not matter in which process, or after which other files, it was looked into.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from bn_audit.finding import Location
from bn_audit.site import Unreadable
from bn_audit.source.deep_stack import OutOfTime, run_with_deep_stack
from bn_audit.source.explore import Explorer
from bn_audit.source.first_look import speaks_of_parties
from bn_audit.source.outside import Outside
from bn_audit.source.parse import is_notebook
from bn_audit.source.part import REMEDY, Limits, Part, Task
from bn_audit.source.project import Project, PyModule
from bn_audit.source.raw import SourceError
from bn_audit.source.residence import Residence, give_back
from bn_audit.source.suite import UnreadableBody
from bn_audit.source.targets import Tree

if TYPE_CHECKING:
    from bn_audit.federation import FederatedSite
    from bn_audit.source.words import Using

__all__ = ["Inspector"]

_MAX_CHARACTERS = 3_000_000
"""Characters of source whose trees are kept, most of them without the bodies of functions."""
_MAX_OF_ANOTHER_PROJECT = 600_000
"""Of so many, those of one project are dropped where the next begins: hardly any of them is asked for again."""

_MAX_FOR_A_GUESS = 100_000
"""Characters of source that are opened for a file that only may have to do with a federation: what it
imports, and what calls it."""
_MOST_BESIDE = 6
"""Files beside it that are looked into for one name."""


class Inspector:
    """One process's view of the project.

    Args:
        outside: the files, and what lies around them.
        limits: what one file may cost.
        in_order: whether files come project by project, so that the trees of one are hardly asked for in the next. To
            a process that shares the work with others they do not.
    """

    def __init__(self, outside: Outside, limits: Limits | None = None, *, in_order: bool = False) -> None:
        self.outside = outside
        self._in_order = in_order
        self._limits = Limits() if limits is None else limits
        self._residence = Residence()
        self._root = ""
        self._project = self._fresh()

    def exports(self, path: str, names: Iterable[str]) -> Part:
        """Names under which another file may import what these names stand for in a file."""
        return self._alone(path, lambda: self._exports(path, names))

    def look_into(self, task: Task) -> Part:
        """The sites of a file."""
        return self._alone(task.path, lambda: self._look_into(task))

    def _alone(self, path: str, work: Callable[[], Part]) -> Part:
        another = self._in_order and not self._is_of_the_same_project(path)
        most = _MAX_OF_ANOTHER_PROJECT if another else _MAX_CHARACTERS
        if self._project.characters > most or self._project.whole or self._residence.is_much():
            self._forget()
        shown = self._project.display(os.path.abspath(path))
        seconds = self._limits.seconds
        try:
            return run_with_deep_stack(lambda: self._begun(work), seconds)
        except OutOfTime:
            left = f"given up after {seconds:g} s of processor time; {REMEDY}, or give it more with --timeout"
            notes: tuple[str, ...] = ()
        except MemoryError:
            if not self._limits.contain:
                raise
            left, notes = f"given up, there is no memory left; {REMEDY}, or use fewer processes (--jobs 1)", ()
        except Exception as error:
            if not self._limits.contain:
                raise
            import traceback

            left = f"internal error: {type(error).__name__}: {error} (please report it, with the output of --verbose)"
            notes = (f"{shown}: {''.join(traceback.format_exception(error)).rstrip()}",)
        self._forget()  # what was under way may be half done
        return Part(problems=(f"{shown}: {left}",), notes=notes)

    def _is_of_the_same_project(self, path: str) -> bool:
        before, self._root = self._root, self.outside.search_root(os.path.abspath(path))
        return self._root == before

    def _begun(self, work: Callable[[], Part]) -> Part:
        whole: set[str] = set()
        while True:
            self._project.begin()
            self.outside.begin()
            try:
                return work()
            except UnreadableBody as error:
                # The same again, with the file parsed as a whole: it is then known to be unreadable from the start.
                whole.add(error.path)
                self._project = self._fresh(frozenset(whole))

    def _forget(self) -> None:
        """Begin anew, with nothing parsed."""
        self._project = self._fresh()
        self.outside.forget()
        gc.collect()  # whoever reads many files has turned it off
        give_back()
        self._residence.begin()

    def _fresh(self, whole: frozenset[str] = frozenset()) -> Project:
        return Project(self.outside.sources.roots, self.outside, whole)

    def _exports(self, path: str, names: Iterable[str]) -> Part:
        module, unreadable = self._open(path)
        exported: Iterable[str] = ()
        if module is not None:
            tree = module.derive(Tree)
            exported = sorted(tree.module_level(tree.spread(names)))
        return Part(exports=None if module is None else tuple(exported), unreadable=unreadable, parsed=self._parsed())

    def _look_into(self, task: Task) -> Part:
        module, unreadable = self._open(task.path)
        # That a file may be federated is only a guess: if it cannot be parsed, that is nobody's business.
        unreadable = unreadable if task.names else ()
        if module is None:
            return Part(unreadable=unreadable, parsed=self._parsed())
        explorer = Explorer(self._project, self._callers)
        calls = explorer.sites(module, task.names) if task.names else []
        others, more = self._federated(module) if task.federated else ([], [])
        notes = dict.fromkeys((*explorer.notes, *more))
        if self._project.exhausted:
            notes[f"{self._project.display(module.path)}: more to follow than the limit allows"] = None
        return Part((*calls, *others), unreadable, self._parsed(), tuple(notes))

    def _federated(self, module: PyModule) -> tuple[list[FederatedSite], list[str]]:
        from bn_audit.source.flow.sites import FederatedReader  # as much to import as the rest of the reader

        certain = speaks_of_parties(self.outside.read(module.path))
        if not certain:
            self._project.limit(_MAX_FOR_A_GUESS)
        reader = FederatedReader(self._project, self._naming if certain else self._beside)
        return reader.sites(module), reader.notes

    def _open(self, path: str) -> tuple[PyModule | None, tuple[Unreadable, ...]]:
        """A file's module, and what of it cannot be parsed."""
        try:
            module = self._project.open(path)
        except SourceError as error:
            return None, (error.at(self._project.display(os.path.abspath(path))),)
        shown = self._project.display(module.path)
        rows = []
        for row in module.parsed.unreadable:
            place = row.location
            located = Location(shown, place.line, place.column, place.end_line, place.end_column, place.cell)
            rows.append(Unreadable(located, row.reason))
        return module, tuple(rows)

    def _parsed(self) -> tuple[str, ...]:
        return tuple(sorted(self._project.opened))

    def _naming(self, name: str, module: PyModule, using: Using = "call") -> list[str]:
        """Files that use something of a name, its module's own first, then the nearest: a method is called on an
        object, and the caller need not name the module of its class."""
        if is_notebook(module.path):  # nothing imports one
            return [module.path]
        return list(self.outside.near(name, module.path, using))

    def _beside(self, name: str, module: PyModule, using: Using = "call") -> list[str]:
        """The same among the files in a module's folder: for a file that only may have to do with a federation."""
        if is_notebook(module.path):
            return [module.path]
        wanted = [f"{name}(".encode()] if using != "base" else [name.encode()]
        others = (os.path.join(module.folder, entry) for entry in self.outside.entries(module.folder, (".py",)))
        found = [path for path in others if path != module.path and self.outside.holds(path, wanted)]
        return [module.path, *found[:_MOST_BESIDE]]

    def _callers(self, name: str, module: PyModule) -> list[str]:
        """Files in which a function of a module may be called: its own first, then those that name both it and its
        module."""
        if is_notebook(module.path):
            return [module.path]
        stem = module.name.rpartition(".")[2] or os.path.basename(module.folder)
        others = self.outside.mentioning(name, stem)
        return [module.path, *(path for path in others if os.path.abspath(path) != module.path)]
