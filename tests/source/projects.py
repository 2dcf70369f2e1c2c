"""Small projects for tests: written to a folder, read from end to end, and looked at.

Where a site is expected to stand, the line ends in ``# site``, once for each.
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Mapping
from pathlib import Path

from bn_audit.profile import Profile
from bn_audit.site import FLModelCall, FLModelSite
from bn_audit.source.read import ReadOptions, ReadResult, read

__all__ = ["built", "calls", "marked", "project", "read_project", "readings", "standing", "the_site"]

IMPORTS = """\
from secretflow_fl.ml.nn import FLModel
from secretflow_fl.ml.nn.core.torch import BaseModule, TorchModel
from secretflow.security.aggregation import PlainAggregator, SecureAggregator
"""

NET = """\
import torch.nn as nn

class Net(nn.Module):
    def __init__(self, width=8, norm=True):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3)
        if norm:
            self.bn = nn.BatchNorm2d(width)
        self.fc = nn.Linear(width, 10)
"""

PLAIN = """\
import torch.nn as nn

class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 2)
"""

CALL = 'FLModel(model=TorchModel(model_fn=Net), aggregator=PlainAggregator("s"), backend="torch")  # site\n'

_SHORT = {"<IMPORTS>\n": IMPORTS, "<NET>\n": NET, "<PLAIN>\n": PLAIN, "<CALL>\n": CALL}


def project(text: str) -> dict[str, str | bytes]:
    """The files of a text in which ``=== path`` heads each, with short names for what all projects share."""
    files: dict[str, str | bytes] = {}
    for part in textwrap.dedent(text).lstrip("\n").split("=== ")[1:]:
        name, _, content = part.partition("\n")
        for short, long in _SHORT.items():
            content = content.replace(short, long)
        files[name.strip()] = content
    return files


def read_project(
    files: Mapping[str, str | bytes], folder: Path, paths: tuple[str, ...] = (), jobs: int = 1
) -> ReadResult:
    """Write files below a folder and read it, or the given paths in it."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read([str(folder / path) for path in paths] or [str(folder)], options=ReadOptions(jobs=jobs))


def standing(result: ReadResult, folder: Path) -> list[tuple[str, int]]:
    """Where the sites stand: file and line, in order."""
    return sorted((os.path.relpath(site.location.path, folder), site.location.line) for site in result.sites)


def marked(files: Mapping[str, str | bytes]) -> list[tuple[str, int]]:
    """The lines marked as sites, in order."""
    return sorted(
        (name, number)
        for name, content in files.items()
        if isinstance(content, str)
        for number, line in enumerate(content.split("\n"), start=1)
        for _ in range(line.count("# site"))
    )


def readings(result: ReadResult) -> list[FLModelCall]:
    """All the readings of all the sites."""
    return [reading for site in result.sites for reading in site.readings]


def calls(result: ReadResult) -> list[str]:
    """What the readings say, sorted: model, backend, strategy, aggregator and ``skip_bn``."""
    return sorted(
        " ".join(
            (
                built(reading.model),
                str(reading.backend),
                str(reading.strategy),
                str(reading.aggregator),
                _skip_bn(reading),
            )
        )
        for reading in readings(result)
    )


def _skip_bn(reading: FLModelCall) -> str:
    passed = {True: "", False: "absent", None: "perhaps"}[reading.skip_bn_passed]
    return (
        passed
        if reading.skip_bn is False and passed
        else f"{passed}{reading.skip_bn}".replace("perhapsNone", "perhaps")
    )


def built(model: Profile | None) -> str:
    """A model in one word: its top-level parts in order, a norm layer in capitals, ``?`` for a gap."""
    if model is None:
        return "unknown"
    norms = {norm.path.partition(".")[0] for norm in model.norms}
    parts: dict[str, None] = {}
    gaps = {gap.index for gap in model.gaps}
    for number, entry in enumerate(model.entries):
        if number in gaps:
            parts["?"] = None
        parts[entry.top.upper() if entry.top in norms else entry.top] = None
    if len(model.entries) in gaps:
        parts["?"] = None
    return "-".join(parts)


def the_site(result: ReadResult) -> FLModelSite:
    """The only site."""
    (site,) = result.sites
    return site
