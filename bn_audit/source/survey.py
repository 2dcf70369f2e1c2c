"""The files in which something federated may happen: which they are, and what comes of looking into each of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from bn_audit.source.memory import Key, Memory, Result
from bn_audit.source.outside import Answer, Outside, Query
from bn_audit.source.part import Limits, Part, Task
from bn_audit.source.raw import SourceError
from bn_audit.source.sources import Sources
from bn_audit.source.trigger import TRIGGER

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
    problems: tuple[str, ...] = ()


def survey(
    sources: Sources,
    hits: Mapping[str, Collection[bytes]],
    jobs: int,
    progress: Callable[[int, int], None] | None = None,
    *,
    memory: Memory | None = None,
    changed: frozenset[str] = frozenset(),
    keep: Callable[[Outside, dict[Key, Result]], None] | None = None,
    limits: Limits | None = None,
) -> Surveyed:
    """Look into the files that hold a trigger, as far as they have to do with a federation.

    Args:
        sources: the files of the scan.
        hits: the triggers that stand in each file that holds any.
        jobs: how many processes to use; 0 chooses.
        progress: is told how much is done, and how much there is.
        memory: of an earlier scan of the same paths; what holds of it is not worked out again.
        changed: the files that may hold something else than they did in that scan.
        keep: is given what is to be remembered of this one.
        limits: what one file may cost; nothing bounds it, and nothing is contained, unless they are given.
    """
    work = _Survey(sources, memory, changed, limits, remembers=keep is not None)
    work.outside.read_all([("triggers", os.path.abspath(path)) for path in hits], jobs)
    tasks = work.candidates(hits)
    done = len(work.outside.files) + len(tasks)
    left = [task for task in tasks if not work.recall(_task_key(task))]
    for number, _ in enumerate(work.looked_into(left, jobs), start=1):
        if progress is not None:
            progress(done - len(left) + number, done)
    if keep is not None:
        keep(work.outside, work.results)
    return _together(work.parts, len(work.parsed))


def _task_key(task: Task) -> Key:
    return ("look", task.path, "federated" if task.federated else "", *task.names)


def _together(parts: Sequence[Part], parsed: int) -> Surveyed:
    return Surveyed(
        tuple(sorted({site for part in parts for site in part.sites}, key=_site_order)),
        tuple(
            sorted(
                {row for part in parts for row in part.unreadable}, key=lambda row: (row.location.path, row.location)
            )
        ),
        parsed,
        tuple(sorted({note for part in parts for note in part.notes})),
        tuple(sorted({problem for part in parts for problem in part.problems})),
    )


def _site_order(site: Site) -> tuple[object, ...]:
    return (_key(site.location), type(site).__name__, repr(site))


def _key(location: Location) -> tuple[object, ...]:
    return (location.path, location.cell or 0, location.line, location.column, location.end_line, location.end_column)


class _Survey:
    """What is known of a scan's files while it goes on."""

    def __init__(
        self,
        sources: Sources,
        memory: Memory | None,
        changed: frozenset[str],
        limits: Limits | None,
        *,
        remembers: bool,
    ) -> None:
        self.outside = Outside(sources, memory, changed, remembers=remembers)
        self._limits = limits
        self.parts: list[Part] = []
        self.parsed: set[str] = set()
        self.results: dict[Key, Result] = {}
        self._memory = memory
        self._inspector: Inspector | None = None

    @property
    def inspector(self) -> Inspector:
        """What looks into files; made, and the parser imported, when it is first needed."""
        if self._inspector is None:
            from bn_audit.source.inspector import Inspector

            self._inspector = Inspector(self.outside, self._limits, in_order=True)
        return self._inspector

    def recall(self, key: Key) -> bool:
        """Take what memory has, if every question that it rests on is answered as it was."""
        found = None if self._memory is None else self._memory.results.get(key)
        if found is None or any(self.outside.ask(query) != answer for query, answer in found.answers.items()):
            return False
        from bn_audit.source.codec import Malformed, decode

        try:
            part = decode(found.part)
        except Malformed:
            return False
        self._add(part)
        self.results[key] = found
        return True

    def looked_into(self, tasks: Sequence[Task], jobs: int) -> Iterator[Task]:
        """Look into files, here or in several processes; the files one after the other, as they are done."""
        if not tasks:
            return
        from bn_audit.source.workers import look_into_all, processes

        count = processes(jobs, tasks)
        if count > 1:
            for task, (part, answers) in zip(
                tasks, look_into_all(self.outside, tasks, count, self._limits), strict=True
            ):
                self._take(_task_key(task), part, answers)
                yield task
            return
        for task in tasks:
            part = self.inspector.look_into(task)
            self._take(_task_key(task), part, self.outside.noted())
            yield task

    def _take(self, key: Key, part: Part, answers: Mapping[Query, Answer]) -> None:
        self._add(part)
        if self.outside.remembers and not part.problems:
            from bn_audit.source.codec import Malformed, encode

            with suppress(Malformed):
                self.results[key] = Result(encode(part), answers)

    def _add(self, part: Part) -> None:
        # Many parts are about the same few files.
        self.parsed.update(part.parsed)
        self.parts.append(part._replace(parsed=()))

    def _exports(self, path: str, names: Sequence[str]) -> tuple[str, ...] | None:
        """Names under which another file may import what these stand for in a file; None if it cannot be parsed."""
        key = ("exports", path, *names)
        if not self.recall(key):
            part = self.inspector.exports(path, names)
            self._take(key, part, self.outside.noted())
        return self.parts[-1].exports

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
                kinds = self.outside.triggers(os.path.abspath(path))
            except SourceError as error:
                if TRIGGER in triggers:
                    self.parts.append(Part(unreadable=(error.at(path),)))
                continue
            if "federated" in kinds:
                federated.add(path)
            if TRIGGER in triggers:
                (queue if "flmodel" in kinds else left).append(path)
        names = {path: {TRIGGER.decode()} for path in queue}
        for path, wrappers in self._wrappers(hits).items():
            if path not in names:
                queue.append(path)
            names.setdefault(path, set()).update(wrappers)
        while queue:
            path = queue.pop(0)
            exports = self._exports(path, sorted(names[path]))
            if exports is None:
                continue
            found[path] = names[path]
            exported = frozenset(exports)
            if not exported:
                continue
            module = os.path.abspath(path)
            others = left if exported <= {TRIGGER.decode()} else self.outside.holding(exports)
            for other in others:
                if other in names and exported <= names[other]:
                    continue
                absolute = os.path.abspath(other)
                if absolute != module and self.outside.imports(absolute, module, exports):
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
            taught = self.outside.taught(os.path.abspath(path))
            held = () if taught is None else tuple(name for name in taught.triggers if name.encode() in triggers)
            if held:
                found[path] = held
        return found
