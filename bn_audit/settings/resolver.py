"""Which configuration holds in a folder: the nearest one at or above it, with flags over it.

A scan asks for every folder it walks through, so an answer is found once a folder, and where the names of the folder's
entries are known, no file is looked for.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, cast

from bn_audit.settings.config import SHARED, STANDALONE, TABLE, Config, ConfigError, shown
from bn_audit.settings.layers import override
from bn_audit.settings.peek import may_have_table

if TYPE_CHECKING:
    from bn_audit.settings.keys import Vocabulary
    from bn_audit.settings.per_file import PerFile
    from bn_audit.source.exclusion import Exclusion
    from bn_audit.source.taught import Taught

__all__ = ["Resolver"]

_TEACHING = ("models_with_batchnorm", "models_without_batchnorm", "batchnorm_classes", "flmodel_wrappers")
"""The keys that teach the source reader, in the order of :class:`bn_audit.source.taught.Taught`."""


class Resolver:
    """Finds configurations and remembers them.

    Attributes:
        notes: what a person should know though nothing is wrong, in words.
    """

    def __init__(
        self,
        vocabulary: Callable[[], Vocabulary],
        *,
        file: str | None = None,
        isolated: bool = False,
        flags: Sequence[Config] = (),
    ) -> None:
        """
        Args:
            vocabulary: gives the words that values may be; asked for only if there is a file to read.
            file: the one configuration file that holds everywhere, if any. What is relative in it is relative to the
                working directory.
            isolated: whether to read no file at all.
            flags: what is set over every configuration, the strongest last.

        Raises:
            ConfigError: ``file`` cannot be used.
        """
        self.notes: list[str] = []
        self._vocabulary = vocabulary
        self._flags = flags
        self._found: dict[str, Config] = {}
        self._exclusions: dict[int, Exclusion] = {}
        self._taught: dict[int, Taught] = {}
        self._ignores: dict[int, tuple[PerFile, ...]] = {}
        self._default = self._finished(Config())
        self._everywhere: Config | None = self._default if isolated else None
        if file is not None:
            from bn_audit.settings.load import load

            config = load(os.path.abspath(file), vocabulary(), root=os.getcwd())
            if config is None:
                raise ConfigError(f"{file}: there is no table `tool.{TABLE}`")
            self._everywhere = self._finished(config)

    def at(self, folder: str, names: Collection[str] | None = None) -> Config:
        """The configuration that holds for the files in an absolute folder; ``names`` are its entries', if known.

        A pyproject.toml without our table does not count. Where one folder has both files, bn-audit.toml wins.

        Raises:
            ConfigError: a file that counts cannot be read, is no TOML, or sets something wrong.
        """
        if self._everywhere is not None:
            return self._everywhere
        asked: list[str] = []
        config = self._found.get(folder)
        while config is None:
            asked.append(folder)
            config = self._in(folder, names)
            above, names = os.path.dirname(folder), None
            if config is None:
                config = self._default if above == folder else self._found.get(above)
            folder = above
        self._found.update(dict.fromkeys(asked, config))
        return config

    def of(self, path: str) -> Config:
        """The configuration that holds for a file, which need not exist."""
        return self.at(os.path.dirname(os.path.abspath(path)))

    def run(self, paths: Sequence[str]) -> Config:
        """What holds for a run as a whole: the working directory's configuration.

        Where there is none, it is that of what all paths have in common: somebody scans a project from outside.
        """
        config = self.at(os.getcwd())
        if "path" in config or not paths:
            return config
        try:
            return self.at(os.path.commonpath([os.path.abspath(path) for path in paths]))
        except ValueError:  # Paths on several drives have nothing in common.
            return config

    def exclusion(self, folder: str, names: Collection[str] | None = None) -> Exclusion:
        """What is left out of an absolute folder."""
        config = self.at(folder, names)
        found = self._exclusions.get(id(config))
        if found is None:
            from bn_audit.source.exclusion import DEFAULT_EXCLUDE, Exclusion

            patterns = (*config.get("exclude", DEFAULT_EXCLUDE), *config.get("extend_exclude", ()))
            found = self._exclusions[id(config)] = Exclusion(patterns, config.get("root") or os.getcwd())
        return found

    def ignored(self, path: str) -> tuple[str, ...]:
        """Prefixes of the codes that ``per-file-ignores`` silences in a file."""
        config = self.of(path)
        rows = (*config.get("per_file_ignores", ()), *config.get("extend_per_file_ignores", ()))
        if not rows:
            return ()
        from bn_audit.settings.per_file import PerFile

        found = self._ignores.get(id(config))
        if found is None:
            found = self._ignores[id(config)] = tuple(PerFile(*row) for row in rows)
        absolute = os.path.abspath(path)
        return tuple(dict.fromkeys(code for row in found if row.matches(absolute) for code in row.codes))

    def taught(self, path: str) -> Taught | None:
        """What the settings of a file teach the source reader; None if they say nothing."""
        config = self.of(path)
        if not any(key in config for key in _TEACHING):
            return None
        found = self._taught.get(id(config))
        if found is None:
            from bn_audit.source.taught import Taught

            names = (frozenset(cast("tuple[str, ...]", config.get(key, ()))) for key in _TEACHING)
            found = self._taught[id(config)] = Taught(*names)
        return found

    def files(self) -> tuple[str, ...]:
        """The configuration files read so far, sorted."""
        configs = [*self._found.values(), *([] if self._everywhere is None else [self._everywhere])]
        return tuple(sorted({file for config in configs for file in config.get("files", ())}))

    def _in(self, folder: str, names: Collection[str] | None) -> Config | None:
        own, shared = os.path.join(folder, STANDALONE), os.path.join(folder, SHARED)
        has_own = (names is None or STANDALONE in names) and os.path.isfile(own)
        has_shared = (names is None or SHARED in names) and os.path.isfile(shared) and may_have_table(shared)
        if not (has_own or has_shared):
            return None
        from bn_audit.settings.load import has_table, load

        if has_own and has_shared and has_table(shared):
            self.notes.append(f"{shown(shared)}: `tool.{TABLE}` is not read, because {STANDALONE} stands beside it")
        config = load(own if has_own else shared, self._vocabulary())
        return None if config is None else self._finished(config)

    def _finished(self, config: Config) -> Config:
        for flags in self._flags:
            config = override(config, flags)
        return config
