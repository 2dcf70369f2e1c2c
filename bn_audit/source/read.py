"""Reading a project: which files there are, which of them matter, and the sites in those.

Most files are never parsed. A file is looked into if the names of FLModel and of SecretFlow both stand in it, if it
takes FLModel (or an alias or subclass of it) from such a file, if it puts states into models and speaks of several
parties, or if a trail leads there. libcst is imported only when a file remains.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from bn_audit.source.discovery import Discovery, DiscoveryOptions, Exclusions, discover
from bn_audit.source.past import Past
from bn_audit.source.prefilter import hits_in, screen
from bn_audit.source.trigger import MARK, TRIGGERS

if TYPE_CHECKING:
    from bn_audit.federation import FederatedSite
    from bn_audit.site import FLModelSite, Unreadable
    from bn_audit.source.keeper import Keeper
    from bn_audit.source.taught import Teacher

__all__ = ["ReadOptions", "ReadResult", "list_files", "read"]


class ReadOptions(NamedTuple):
    """What to read; all but the ones below mean what they do in :class:`bn_audit.source.discovery.DiscoveryOptions`.

    ``jobs``: how many processes read; 0 chooses. ``teacher``: what the settings of a file teach the reader. ``seconds``
    and ``contain``: see :class:`bn_audit.source.part.Limits`.
    """

    exclude: tuple[str, ...] = ()
    extend_exclude: tuple[str, ...] = ()
    force_exclude: bool = False
    respect_gitignore: bool = True
    jobs: int = 0
    exclusions: Exclusions | None = None
    teacher: Teacher | None = None
    seconds: float = 0.0
    contain: bool = False


class ReadResult(NamedTuple):
    """What was read.

    Attributes:
        files: how many files were looked at.
        parsed: how many of them were parsed.
        problems: folders and files that could not be read, and files that were given up, in words.
        missing: paths given that do not exist.
        notes: where trails ended.
        paths: the files that were looked at, in order.
        marked: those of them that may hold a suppression of a rule by its code.
        folders: the folders that were named, absolute; all below them was looked at, but for what is left out.
    """

    sites: tuple[FLModelSite | FederatedSite, ...]
    unreadable: tuple[Unreadable, ...]
    files: int
    parsed: int
    problems: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    marked: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()

    @property
    def complaints(self) -> tuple[str, ...]:
        """What is not there and what could not be read, in words."""
        return Discovery((), self.problems, self.missing).complaints

    @property
    def calls(self) -> int:
        """How many of the sites are FLModel calls."""
        if not self.sites:
            return 0
        from bn_audit.site import FLModelSite

        return sum(isinstance(site, FLModelSite) for site in self.sites)


def list_files(paths: Sequence[str], *, options: ReadOptions) -> Discovery:
    """The files that :func:`read` would look at. None is opened."""
    return discover(
        paths,
        DiscoveryOptions(
            options.exclude,
            options.extend_exclude,
            options.force_exclude,
            options.respect_gitignore,
            exclusions=options.exclusions,
        ),
    )


def read(
    paths: Sequence[str],
    *,
    options: ReadOptions,
    stdin: tuple[str, bytes] | None = None,
    contents: Mapping[str, bytes] | None = None,
    progress: Callable[[int, int], None] | None = None,
    keeper: Callable[[], Keeper] | None = None,
) -> ReadResult:
    """Find the sites below paths; ``stdin`` is a further file's name and content, which need not exist.

    ``contents`` is read in place of what stands in files, by absolute path: what an editor holds, or what a fix would
    write. ``progress`` is told now and then how much is done, and how much there is. ``keeper`` gives what remembers
    earlier scans; it is asked for only where that can be faster than to read the files.
    """
    found = list_files(paths, options=options)
    wanted = (MARK, *TRIGGERS, *_taught_triggers(found.files, stdin, options.teacher))
    folders = tuple(os.path.abspath(path) for path in paths if os.path.isdir(path))
    past = Past(_places(paths, folders), found.files, wanted, keeper, options.jobs)
    screening = screen(found.files, wanted, progress, options.jobs) if keeper is None else past.screen(progress)
    hits = hits_in(contents or {}, found.files, wanted, screening.hits)
    total = len(found.files) + (stdin is not None)
    read_paths = found.files
    if stdin is not None:
        read_paths = tuple(sorted({*found.files, stdin[0]}))
        triggers = tuple(trigger for trigger in wanted if trigger in stdin[1])
        hits.pop(stdin[0], None)
        if triggers:
            hits[stdin[0]] = triggers
    marked = tuple(sorted(path for path, held in hits.items() if MARK in held))
    result = ReadResult(
        (),
        (),
        total,
        0,
        (*found.problems, *screening.problems),
        found.missing,
        paths=read_paths,
        marked=marked,
        folders=folders,
    )
    hits = {path: held for path, held in hits.items() if held != (MARK,)}
    keeps = stdin is None and not contents
    if not hits:
        if keeps:
            past.keep_files()
        return result

    from bn_audit.source.collection import no_collection
    from bn_audit.source.part import Limits
    from bn_audit.source.sources import Sources
    from bn_audit.source.survey import survey

    roots = [path if os.path.isdir(path) else os.path.dirname(os.path.abspath(path)) for path in paths]
    sources = Sources(found.files, roots, stdin, contents or {}, options.teacher)
    with no_collection():
        surveyed = survey(
            sources,
            hits,
            options.jobs,
            progress,
            memory=past.memory,
            changed=past.changed,
            keep=past.keep if keeps and keeper is not None else None,
            limits=Limits(options.seconds, options.contain),
        )
    return result._replace(
        sites=surveyed.sites,
        unreadable=surveyed.unreadable,
        parsed=surveyed.parsed,
        notes=surveyed.notes,
        problems=(*result.problems, *surveyed.problems),
    )


def _places(paths: Sequence[str], folders: Sequence[str]) -> list[str]:
    """What tells one set of paths from another: the folders, and those that single files lie in. Which files of a
    folder were named makes no difference, so that a hook that names others at each commit does not fill the disk."""
    whole = {os.path.join(folder, "**") for folder in folders}
    return sorted(whole | {os.path.dirname(path) for path in map(os.path.abspath, paths) if path not in folders})


def _taught_triggers(
    files: Sequence[str], stdin: tuple[str, bytes] | None, teacher: Teacher | None
) -> tuple[bytes, ...]:
    """What else makes a file worth a look, by the settings of any of them."""
    if teacher is None:
        return ()
    folders = {os.path.dirname(path) for path in files}
    places = [os.path.join(folder, "_.py") for folder in folders]
    if stdin is not None:
        places.append(stdin[0])
    rows = [taught.triggers for place in places if (taught := teacher(place)) is not None]
    names = sorted({name for row in rows for name in row})
    return tuple(name.encode() for name in names if name.encode() not in TRIGGERS)
