"""``--show-files`` and ``--show-settings``: what a scan would look at, and by which settings."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from bn_audit.report.words import printable

if TYPE_CHECKING:
    from bn_audit.settings.config import Config
    from bn_audit.settings.resolver import Resolver

__all__ = ["settings_lines"]


def settings_lines(files: Sequence[str], settings: Resolver, run: Config) -> Iterator[str]:
    """The settings of files as TOML, those that share a configuration together, then those of the run."""
    from bn_audit.settings.show import show

    groups: dict[tuple[int, str | None], tuple[Config, list[str]]] = {}
    for path in files:
        config = settings.of(path)
        groups.setdefault((id(config), _pin(path)), (config, []))[1].append(path)
    for (_, pin), (config, paths) in groups.items():
        more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
        yield f"# Settings of {printable(paths[0])}{more}"
        yield from _sources(config)
        unset = "the newest release with FLModel" if pin is None else f"{pin}, which the project pins"
        yield from show(config, run=False, unset={"secretflow-version": unset})
        yield ""
    yield "# Settings of the run"
    yield from _sources(run)
    yield from show(run, run=True, unset={"cache-dir": ".bn-audit_cache in the project's root", "baseline": "none"})


def _sources(config: Config) -> Iterator[str]:
    from bn_audit.settings.config import shown

    files = config.get("files", ())
    if files:
        yield f"# from {', extending '.join(printable(shown(file)) for file in files)}"
    else:
        yield "# from no file"


def _pin(path: str) -> str | None:
    from bn_audit.pins import pinned
    from bn_audit.scanning import SECRETFLOW

    return pinned(os.path.abspath(path), SECRETFLOW)
