"""Where no model can be followed to what is averaged or sent, the notes say where its trail ends."""

from __future__ import annotations

from pathlib import Path

from bn_audit.source.read import ReadOptions, read

_SERVER = """\
import torch
from torch import nn

class Known(nn.Module):
    def __init__(self):
        super().__init__()
        self.bn = nn.BatchNorm2d(8)

class Partly(nn.Module):
    def __init__(self, parts):
        super().__init__()
        self.body = nn.Sequential(parts.body(), nn.Linear(8, 2))

def average(states):
    return {key: torch.stack([state[key].float() for state in states]).mean(0) for key in states[0]}

def main(args, loaders, parts):
    shared = MODEL
    clients = [MODEL for _ in loaders]
    for _ in range(args.rounds):
        for client, loader in zip(clients, loaders):
            fit(client, loader)
        shared.load_state_dict(average([client.state_dict() for client in clients]))
"""


def _notes(folder: Path, model: str) -> list[str]:
    (folder / "server.py").write_text(_SERVER.replace("MODEL", model))
    notes = read([str(folder)], options=ReadOptions(jobs=1)).notes
    return [note.replace(f"{folder}/", "") for note in notes]


def test_a_model_that_is_not_known_is_told_where_its_state_is_taken(tmp_path: Path) -> None:
    assert _notes(tmp_path, "args.registry.pop()") == [
        "server.py:23: the trail to a model ends: its state is averaged at server.py:15"
    ]


def test_a_model_of_which_a_part_is_not_known_is_told_where_the_part_is_made(tmp_path: Path) -> None:
    (note,) = _notes(tmp_path, "Partly(parts)")
    assert note.startswith("server.py:12: the trail to a model ends: ")


def test_nothing_is_said_of_a_model_that_is_known(tmp_path: Path) -> None:
    assert _notes(tmp_path, "Known()") == []
