"""Conditions that begin with a negation are told as they are, and so are their opposites."""

from __future__ import annotations

from pathlib import Path

import pytest

from bn_audit.federation import AveragingSite
from bn_audit.source.read import ReadOptions, read

_MODEL = """\
from torch import nn


class Net(nn.Module):
    def __init__(self, plain=False, norm="bn"):
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3)
        if {test}:
            self.norm = {first}
        else:
            self.norm = {second}
"""
_SERVER = """\
from model import Net


def federated(clients, args):
    server = Net(args.plain, args.norm)
    states = [Net(args.plain, args.norm).state_dict() for _ in clients]
    server.load_state_dict({key: sum(state[key] for state in states) / len(states) for key in states[0]})
"""


@pytest.mark.parametrize(
    ("test", "told", "denied"),
    [
        ("plain", "plain", "not (plain)"),
        ("not plain", "not plain", "plain"),
        ("(not plain)", "(not plain)", "plain"),
        ("norm != 'gn'", "norm != 'gn'", "not (norm != 'gn')"),
        ("norm is not None", "norm is not None", "not (norm is not None)"),
    ],
)
def test_the_condition_is_that_under_which_there_is_batchnorm(
    test: str, told: str, denied: str, tmp_path: Path
) -> None:
    batch, group = "nn.BatchNorm2d(8)", "nn.GroupNorm(2, 8)"
    for first, second, expected in ((batch, group, told), (group, batch, denied)):
        (tmp_path / "model.py").write_text(_MODEL.format(test=test, first=first, second=second))
        (tmp_path / "server.py").write_text(_SERVER)
        found = {
            row.conditions
            for site in read([str(tmp_path)], options=ReadOptions(jobs=1)).sites
            if isinstance(site, AveragingSite)
            for row in site.participants
            if any(layer.batchnorm for layer in row.profile.norms)
        }
        assert found == {(expected,)}
