"""The files in which something federated may happen: which they are, and what comes of looking into each of them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from bn_audit.source.outside import Outside
from bn_audit.source.part import Part, Task
from bn_audit.source.prefilter import hits_in, screen
from bn_audit.source.raw import SourceError
from bn_audit.source.sources import Sources
from bn_audit.source.trigger import TRIGGER, may_exchange, may_federate, takes_flmodel

if TYPE_CHECKING:
    from bn_audit.finding import Location
    from bn_audit.site import Unreadable
    from bn_audit.source.inspector import Inspector
    from bn_audit.source.part import Site

__all__ = ["Surveyed", "survey"]


class Surveyed(NamedTuple):
    """What came of it; all in a fixed order."""

    sites: tuple[Site, ...] = ()
    unreadable: tuple[Unreadable, ...] = ()
    parsed: int = 0
    notes: tuple[str, ...] = ()


def survey(
    sources: Sources,
    hits: Mapping[str, Collection[bytes]],
    jobs: int,
    progress: Callable[[int, int], None] | None = None,
) -> Surveyed:
    """Look into the files that hold a trigger, as far as they have to do with a federation.

    ``hits`` gives the triggers that stand in each of them.
    """
    work = _Survey(sources)
    tasks = work.candidates(hits)
    work.parts.extend(_looked_into(work, tasks, jobs, progress))
    return _together(work.parts)


def _looked_into(
    work: _Survey, tasks: Sequence[Task], jobs: int, progress: Callable[[int, int], None] | None
) -> Iterable[Part]:
    from bn_audit.source.workers import look_into_all, processes

    files = len(work.outside.files)
    count = processes(jobs, tasks)
    if count > 1:
        yield from look_into_all(work.outside, tasks, count)
        return
    for number, task in enumerate(tasks):
        yield work.inspector.look_into(task)
        if progress is not None:
            progress(files + number + 1, files + len(tasks))


def _together(parts: Sequence[Part]) -> Surveyed:
    return Surveyed(
        tuple(sorted({site for part in parts for site in part.sites}, key=_site_order)),
        tuple(
            sorted(
                {row for part in parts for row in part.unreadable}, key=lambda row: (row.location.path, row.location)
            )
        ),
        len({path for part in parts for path in part.parsed}),
        tuple(sorted({note for part in parts for note in part.notes})),
    )


def _site_order(site: Site) -> tuple[object, ...]:
    return (_key(site.location), type(site).__name__, repr(site))


def _key(location: Location) -> tuple[object, ...]:
    return (location.path, location.cell or 0, location.line, location.column, location.end_line, location.end_column)


_FROM = re.compile(rb"from\s+(\.*)([\w.]*)\s+import\s+(\([^)]*\)|[^\n]*)")


def may_import(data: bytes, names: Iterable[str], module: str) -> bool:
    """Whether a file may take one of the names from a module: by ``from ... import``, or as an attribute of it.

    A dotted name must end like the module's path does, since it is not known from which folder it counts.
    """
    parts = os.path.splitext(module)[0].split(os.sep)
    if parts[-1] == "__init__":
        parts.pop()
    wanted = [name.encode() for name in names]
    for dots, source, members in _FROM.findall(data):
        tail = [part for part in source.decode("ascii", "replace").split(".") if part]
        fits = parts[-len(tail) :] == tail if tail else bool(dots)
        if fits and (members.strip().startswith(b"*") or any(name in members for name in wanted)):
            return True
    return any(f"{parts[-1]}.{name}".encode() in data for name in names)


class _Survey:
    """What is known of a scan's files while it goes on."""

    def __init__(self, sources: Sources) -> None:
        self.outside = Outside(sources)
        self.parts: list[Part] = []
        self._inspector: Inspector | None = None
        self._holding: dict[tuple[str, ...], tuple[str, ...]] = {}

    @property
    def inspector(self) -> Inspector:
        """What looks into files; made, and the parser imported, when it is first needed."""
        if self._inspector is None:
            from bn_audit.source.inspector import Inspector

            self._inspector = Inspector(self.outside)
        return self._inspector

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
                data = self._data(path)
            except SourceError as error:
                if TRIGGER in triggers:
                    self.parts.append(Part(unreadable=(error.at(path),)))
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
            part = self.inspector.exports(path, sorted(names[path]))
            self.parts.append(part)
            if part.exports is None:
                continue
            found[path] = names[path]
            exported = frozenset(part.exports)
            if not exported:
                continue
            module = os.path.abspath(path)
            others = left if exported <= {TRIGGER.decode()} else self._holders(part.exports)
            for other in others:
                if other in names and exported <= names[other]:
                    continue
                try:
                    data = self._data(other)
                except SourceError:
                    continue
                if os.path.abspath(other) != module and may_import(data, exported, module):
                    names.setdefault(other, set()).update(exported)
                    queue.append(other)
        return [
            Task(path, tuple(sorted(names[path])) if path in found else (), path in federated)
            for path in sorted(found.keys() | federated)
        ]

    def _data(self, path: str) -> bytes:
        return self.outside.read(os.path.abspath(path))

    def _wrappers(self, hits: Mapping[str, Collection[bytes]]) -> dict[str, tuple[str, ...]]:
        """By file: the names by which it may call what its settings say to be a wrapper of FLModel."""
        found = {}
        for path, triggers in hits.items():
            taught = self.outside.taught(os.path.abspath(path))
            held = () if taught is None else tuple(name for name in taught.triggers if name.encode() in triggers)
            if held:
                found[path] = held
        return found

    def _holders(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """The files in which one of the names stands."""
        if names not in self._holding:
            wanted = [name.encode() for name in names]
            sources = self.outside.sources
            hits = dict.fromkeys(hits_in(sources.contents, sources.files, wanted, screen(sources.files, wanted).hits))
            if sources.stdin is not None:
                hits[sources.stdin[0]] = None
            self._holding[names] = tuple(hits)
        return self._holding[names]
