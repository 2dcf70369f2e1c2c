"""Files that are laid out alike are read the quick way, and give what the way of all checkpoints gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import save_file  # noqa: E402

from bn_audit.live.divergence import Options, compare  # noqa: E402
from bn_audit.live.divergence.sources import of_file  # noqa: E402
from bn_audit.live.divergence.statistics import Source  # noqa: E402
from bn_audit.live.divergence.twins import Twins, twins_of  # noqa: E402
from tests.live.divergence.test_compare import party  # noqa: E402


def _saved(folder: Path, form: str, count: int = 4) -> list[Source]:
    sources = []
    for number in range(count):
        path = folder / f"p{number}.{'safetensors' if form == 'safetensors' else 'pt'}"
        state: dict[str, Any] = dict(party(shift=0.1 * number, seed=number).state_dict())
        if form == "safetensors":
            save_file(state, path)
        elif form == "nested":
            torch.save({"model": {f"module.{key}": value for key, value in state.items()}, "epoch": 3}, path)
        elif form == "slices":
            whole = torch.cat([torch.zeros(5), state["bn1.running_mean"], state["bn1.running_var"]])
            state["bn1.running_mean"], state["bn1.running_var"] = whole[5:11], whole[11:]
            torch.save(state, path)
        elif form == "epochs":
            torch.save({"model": state, "epoch": number}, path)
        elif form == "half":
            torch.save({k: v.half() if v.is_floating_point() else v for k, v in state.items()}, path)
        else:
            torch.save(state, path, _use_new_zipfile_serialization=form != "legacy")
        sources.append(of_file(path.stem, path))
    return sources


def _slow(sources: list[Source]) -> list[Source]:
    return [Source(source.name, source.open) for source in sources]


def _counted(sources: list[Source]) -> tuple[list[Source], list[str]]:
    """The sources, and the names of those that were opened as any checkpoint is."""
    opened: list[str] = []

    def one(source: Source) -> Source:
        def wrapped() -> Any:
            opened.append(source.name)
            return source.open()

        return Source(source.name, wrapped, source.path)

    return [one(source) for source in sources], opened


@pytest.mark.parametrize(
    ("form", "quick"),
    [
        ("pt", True),
        ("safetensors", True),
        ("nested", True),
        ("slices", True),
        ("half", True),
        ("epochs", False),
        ("legacy", False),
    ],
)
def test_both_ways_give_the_same(tmp_path: Path, form: str, quick: bool) -> None:
    sources = _saved(tmp_path, form)
    counted, opened = _counted(sources)
    assert compare(counted, Options())[0] == compare(_slow(sources), Options())[0]
    assert opened == (["p0"] if quick else ["p0", "p1", "p2", "p3"])


@pytest.mark.parametrize("form", ["pt", "safetensors"])
def test_another_layout_is_read_as_any_checkpoint(tmp_path: Path, form: str) -> None:
    sources = _saved(tmp_path, form)
    state = party(shift=3.0, seed=9).state_dict()
    turned = dict(reversed(list(state.items())))
    if form == "safetensors":
        turned["extra"] = torch.zeros(3)
        save_file(turned, tmp_path / f"p2.{form}")
    else:
        torch.save(turned, tmp_path / f"p2.{form}")
    counted, opened = _counted(sources)
    assert compare(counted, Options())[0] == compare(_slow(sources), Options())[0]
    assert opened == ["p0", "p2"]


def test_a_file_cut_off_is_refused_as_any_is(tmp_path: Path) -> None:
    sources = _saved(tmp_path, "pt")
    path = tmp_path / "p3.pt"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(Exception, match=r"p3\.pt is a damaged zip archive"):
        compare(sources, Options())


def test_what_is_not_proven_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where reading by the layout gives other values than the tensors have, there is no layout."""
    (source,) = _saved(tmp_path, "pt", 1)
    _, tensors = source.open()
    wanted = [tensors["bn1.running_mean"], tensors["bn2.running_var"]]
    assert source.path is not None
    assert twins_of(source.path, wanted) is not None
    read = Twins.read
    monkeypatch.setattr(Twins, "read", lambda self, path: [value + 1 for value in read(self, path) or ()])
    assert twins_of(source.path, wanted) is None
    assert twins_of(source.path, [wanted[0].bfloat16()]) is None
