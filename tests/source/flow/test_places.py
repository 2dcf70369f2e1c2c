"""Where things stand in a file is looked up for all federations of the file together."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import libcst as cst
import pytest

from bn_audit.finding import Location
from bn_audit.source import locate as locating
from bn_audit.source.parse import ParsedFile
from bn_audit.source.read import ReadOptions, read

_MODEL = """\
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.bn = nn.BatchNorm2d(8)
"""
_SERVER = """

def server_{number}(clients, net):
    states = [Net().state_dict() for client in clients]
    net.load_state_dict({{k: sum(s[k] for s in states if "x" not in k) / len(states) for k in states[0]}})
"""


def test_more_federations_in_a_file_are_not_more_searches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    searches: dict[int, int] = {}
    locate = locating.locate
    for count in (3, 12):

        def counted(parsed: ParsedFile, nodes: Iterable[cst.CSTNode], count: int = count) -> dict[int, Location]:
            searches[count] = searches.get(count, 0) + 1
            return locate(parsed, nodes)

        monkeypatch.setattr(locating, "locate", counted)
        folder = tmp_path / str(count)
        folder.mkdir()
        (folder / "model.py").write_text(_MODEL)
        rows = (_SERVER.format(number=number) for number in range(count))
        (folder / "server.py").write_text(f"from model import Net\n{''.join(rows)}")
        assert len(read([str(folder)], options=ReadOptions(jobs=1)).sites) == count
    assert 0 < searches[12] == searches[3]
