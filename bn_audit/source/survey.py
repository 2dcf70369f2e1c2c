"""The files in which something federated may happen, looked into one by one, here or in several processes."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Literal

from bn_audit.federation import FederatedSite
from bn_audit.finding import Location
from bn_audit.site import FLModelSite, Unreadable
from bn_audit.source.deep_stack import run_with_deep_stack
from bn_audit.source.explore import Explorer
from bn_audit.source.flow.sites import FederatedReader
from bn_audit.source.prefilter import hits_in, mentions, screen
from bn_audit.source.project import Project, PyModule
from bn_audit.source.sources import Sources
from bn_audit.source.text import SourceError
from bn_audit.source.trigger import TRIGGER, may_exchange, may_federate, takes_flmodel

__all__ = ["Surveyed", "survey"]

_CALLED = rb"(?<![\w])%s\s*\("
_DERIVED = rb"class\s+\w+\s*\([^)]*(?<![\w])%s(?![\w])"
_MAX_NAMING = 24
"""Files that are looked into for calls of one function or method."""
_MANY = 24
"""From so many files on, the work is spread over processes if nobody says how many."""


Site = FLModelSite | FederatedSite


@dataclass(frozen=True, slots=True)
class Task:
    """A file to look into.

    ``names`` are what FLModel is called in it, none if it calls none; ``federated`` says that states may be exchanged
    or combined there.
    """

    path: str
    names: tuple[str, ...] = ()
    federated: bool = False


@dataclass(slots=True)
class Surveyed:
    """What came of it; all in a fixed order."""

    sites: tuple[Site, ...] = ()
    unreadable: tuple[Unreadable, ...] = ()
    parsed: int = 0
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class _Part:
    """What came of some of the files."""

    sites: list[Site] = field(default_factory=list)
    unreadable: list[Unreadable] = field(default_factory=list)
    parsed: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)


def survey(
    sources: Sources,
    hits: Mapping[str, Collection[bytes]],
    jobs: int,
    progress: Callable[[int, int], None] | None = None,
) -> Surveyed:
    """Look into the files that hold a trigger, as far as they have to do with a federation.

    ``hits`` gives the triggers that stand in each of them.
    """
    return run_with_deep_stack(lambda: _survey(sources, hits, jobs, progress))


def _survey(
    sources: Sources,
    hits: Mapping[str, Collection[bytes]],
    jobs: int,
    progress: Callable[[int, int], None] | None,
) -> Surveyed:
    surveyor = Surveyor(sources)
    files = sources.files
    tasks = surveyor.candidates(hits)
    count = jobs or (min(os.cpu_count() or 1, 8) if len(tasks) >= _MANY else 1)
    parts = [surveyor.part]
    if count > 1 and len(tasks) > 1:
        # Neighbours in the list share what they import, so each process takes a stretch of it.
        size = -(-len(tasks) // (count * 2))
        stretches = [tasks[start : start + size] for start in range(0, len(tasks), size)]
        with ProcessPoolExecutor(max_workers=count) as pool:
            work = [pool.submit(_look_into, sources, stretch) for stretch in stretches]
            parts.extend(future.result() for future in work)
    else:
        for number, task in enumerate(tasks):
            surveyor.look_into(task)
            if progress is not None:
                progress(len(files) + number + 1, len(files) + len(tasks))
    return Surveyed(
        tuple(sorted({site for part in parts for site in part.sites}, key=_site_order)),
        tuple(
            sorted(
                {row for part in parts for row in part.unreadable}, key=lambda row: (row.location.path, row.location)
            )
        ),
        len(set().union(*(part.parsed for part in parts))),
        tuple(sorted({note for part in parts for note in part.notes})),
    )


def _site_order(site: Site) -> tuple[object, ...]:
    return (_key(site.location), type(site).__name__, repr(site))


def _key(location: Location) -> tuple[object, ...]:
    return (location.path, location.cell or 0, location.line, location.column, location.end_line, location.end_column)


def _look_into(sources: Sources, tasks: Sequence[Task]) -> _Part:
    def work() -> _Part:
        surveyor = Surveyor(sources)
        for task in tasks:
            surveyor.look_into(task)
        return surveyor.part

    return run_with_deep_stack(work)


_FROM = re.compile(rb"from\s+(\.*)([\w.]*)\s+import\s+(\([^)]*\)|[^\n]*)")


def may_import(data: bytes, names: Iterable[str], module: PyModule) -> bool:
    """Whether a file may take one of the names from a module: by ``from ... import``, or as an attribute of it.

    A dotted name must end like the module's path does, since it is not known from which folder it counts.
    """
    parts = os.path.splitext(module.path)[0].split(os.sep)
    if module.is_package:
        parts.pop()
    wanted = [name.encode() for name in names]
    for dots, source, members in _FROM.findall(data):
        tail = [part for part in source.decode("ascii", "replace").split(".") if part]
        fits = parts[-len(tail) :] == tail if tail else bool(dots)
        if fits and (members.strip().startswith(b"*") or any(name in members for name in wanted)):
            return True
    return any(f"{parts[-1]}.{name}".encode() in data for name in names)


class Surveyor:
    """One process's view of the project."""

    def __init__(self, sources: Sources) -> None:
        self.files = sources.files
        self.stdin = sources.stdin
        self.contents = sources.contents
        self.teacher = sources.teacher
        self.part = _Part()
        folders = [path if os.path.isdir(path) else os.path.dirname(os.path.abspath(path)) for path in sources.paths]
        self.project = Project(folders, sources.contents, sources.teacher)
        self.explorer = Explorer(self.project, self._callers)
        self.federated = FederatedReader(self.project, self._naming)
        self._named: dict[str, tuple[str, ...]] = {}

    def data(self, path: str) -> bytes:
        """A file's content."""
        if self.stdin is not None and path == self.stdin[0]:
            return self.stdin[1]
        return self.project.data(os.path.abspath(path))

    def open(self, path: str) -> PyModule | None:
        """A file's module; if it cannot be parsed that is noted."""
        try:
            module = self.project.open(path, self.data(path))
        except SourceError as error:
            self.part.unreadable.append(error.at(self.project.display(os.path.abspath(path))))
            self.part.parsed |= self.project.parsed
            return None
        shown = self.project.display(module.path)
        for row in module.parsed.unreadable:
            place = row.location
            located = Location(shown, place.line, place.column, place.end_line, place.end_column, place.cell)
            self.part.unreadable.append(Unreadable(located, row.reason))
        return module

    def candidates(self, hits: Mapping[str, Collection[bytes]]) -> list[Task]:
        """Files to look into, with the names that FLModel has in them.

        Beside the files that take it from SecretFlow: those that take it, a subclass or an alias, from one of these.
        """
        found: dict[str, set[str]] = {}
        federated: set[str] = set()
        queue: list[str] = []
        left: list[str] = []
        for path, triggers in hits.items():
            try:
                data = self.data(path)
            except SourceError as error:
                if TRIGGER in triggers:
                    self.part.unreadable.append(error.at(path))
                continue
            if may_federate(data) or may_exchange(data):
                federated.add(path)
            if TRIGGER in triggers:
                (queue if takes_flmodel(data) else left).append(path)
        names = {path: {TRIGGER.decode()} for path in queue}
        for path, wrappers in self._wrappers(hits).items():
            if path not in names:
                queue.append(path)
            names.setdefault(path, set()).update(wrappers)
        while queue:
            path = queue.pop(0)
            module = self.open(path)
            if module is None:
                continue
            found[path] = names[path]
            tree = self.explorer.tree(module)
            exported = tree.module_level(tree.spread(names[path]))
            if not exported:
                continue
            others = left if exported <= {TRIGGER.decode()} else self.holding(sorted(exported))
            for other in others:
                if other in names and exported <= names[other]:
                    continue
                try:
                    data = self.data(other)
                except SourceError:
                    continue
                if os.path.abspath(other) != module.path and may_import(data, exported, module):
                    names.setdefault(other, set()).update(exported)
                    queue.append(other)
        return [
            Task(path, tuple(sorted(names[path])) if path in found else (), path in federated)
            for path in sorted(found.keys() | federated)
        ]

    def _wrappers(self, hits: Mapping[str, Collection[bytes]]) -> dict[str, tuple[str, ...]]:
        """By file: the names by which it may call what its settings say to be a wrapper of FLModel."""
        found = {}
        for path, triggers in hits.items():
            taught = None if self.teacher is None else self.teacher(path)
            held = () if taught is None else tuple(name for name in taught.triggers if name.encode() in triggers)
            if held:
                found[path] = held
        return found

    def holding(self, names: Sequence[str]) -> tuple[str, ...]:
        """The files in which one of the names stands."""
        key = " ".join(names)
        if key not in self._named:
            wanted = [name.encode() for name in names]
            hits = dict.fromkeys(hits_in(self.contents, self.files, wanted, screen(self.files, wanted).hits))
            if self.stdin is not None:
                hits[self.stdin[0]] = None
            self._named[key] = tuple(hits)
        return self._named[key]

    def _naming(self, name: str, module: PyModule, using: Literal["call", "base"] = "call") -> list[str]:
        """Files that call, or derive from, something of a name, its module's own first, then the nearest: a method is
        called on an object, and the caller need not name the module of its class."""
        used = _CALLED if using == "call" else _DERIVED
        pattern = re.compile(used % re.escape(name.encode()))
        found: list[tuple[int, str]] = []
        folder = module.folder.split(os.sep)
        for path in self.holding([name]):
            absolute = os.path.abspath(path)
            try:
                named = absolute == module.path or pattern.search(self.data(path)) is not None
            except SourceError:
                continue
            if named:
                other = os.path.dirname(absolute).split(os.sep)
                common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(folder, other, strict=False)))
                away = len(folder) + len(other) - 2 * common
                found.append((-1 if absolute == module.path else away, path))
        return [path for _, path in sorted(found)[:_MAX_NAMING]]

    def _callers(self, name: str, module: PyModule) -> list[str]:
        """Files in which a function of a module may be called: its own first, then those that name both it and its
        module."""
        stem = module.name.rpartition(".")[2] or os.path.basename(module.folder)
        found = [module.path]
        for path in self.holding([name]):
            absolute = os.path.abspath(path)
            if absolute == module.path:
                continue
            try:
                data = self.data(path)
            except SourceError:
                continue
            if mentions(data, [name]) and mentions(data, [stem]):
                found.append(path)
        return found

    def look_into(self, task: Task) -> None:
        """Find a file's sites."""
        module = self.open(task.path) if task.names else self._open_quietly(task.path)
        if module is None:
            return
        if task.names:
            self.part.sites.extend(self.explorer.sites(module, task.names))
        if task.federated:
            self.part.sites.extend(self.federated.sites(module))
        for notes in (self.explorer.notes, self.federated.notes):
            self.part.notes.extend(notes)
            notes.clear()
        self.part.parsed |= self.project.parsed

    def _open_quietly(self, path: str) -> PyModule | None:
        """A file's module, without a word if it cannot be parsed: that it matters is only a guess."""
        try:
            return self.project.open(path, self.data(path))
        except SourceError:
            self.part.parsed |= self.project.parsed
            return None
