"""The same round from files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from bn_audit.federated import AggregationError, FedBNAggregator, aggregate_files, local_keys  # noqa: E402
from bn_audit.federated.files import _Mappings  # noqa: E402
from tests.federated.test_aggregator import Net, assert_same_bits, states  # noqa: E402

WEIGHTS = [1.0, 2.0, 5.0]


def saved(folder: Path, form: str, parties: list[dict[str, Any]]) -> list[Path]:
    paths = []
    for number, state in enumerate(parties):
        path = folder / f"{number}.{'safetensors' if form == 'safetensors' else 'pt'}"
        if form == "safetensors":
            library = pytest.importorskip("safetensors.torch")
            library.save_file({key: value.clone() for key, value in state.items()}, path)
        else:
            content = {"model": state, "epoch": 3} if form == "nested" else state
            torch.save(content, path, _use_new_zipfile_serialization=form != "legacy")
        paths.append(path)
    return paths


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("form", ["zip", "nested", "legacy", "safetensors"])
def test_files_give_what_states_give(tmp_path: Path, form: str, exact: bool) -> None:
    parties = states()
    local = local_keys(Net())
    expected = FedBNAggregator(local, exact=exact).aggregate(parties, WEIGHTS)
    paths = saved(tmp_path, form, parties)
    key = "model" if form == "nested" else None
    result = aggregate_files(paths, WEIGHTS, local_keys=local, key=key, exact=exact)
    assert_same_bits({key: result[key] for key in expected}, expected)
    assert result.keys() == expected.keys()
    if form != "safetensors":  # which keeps no ties
        assert result["head.weight"] is result["subnet.weight"]


def test_the_first_file_tells_what_is_local(tmp_path: Path) -> None:
    parties = states()
    result = aggregate_files(saved(tmp_path, "zip", parties), WEIGHTS)
    assert result.keys() == parties[0].keys() - local_keys(parties[0])


def test_errors_name_the_file(tmp_path: Path) -> None:
    parties = states(2)
    parties[1]["head.bias"] = torch.zeros(5)
    paths = saved(tmp_path, "zip", parties)
    with pytest.raises(AggregationError, match=r"head\.bias: shape") as error:
        aggregate_files(paths, [1, 1])
    assert error.value.party == str(paths[1])
    with pytest.raises(AggregationError, match="no entry 'model'"):
        aggregate_files(paths, [1, 1], key="model")
    torch.save(torch.zeros(3), paths[0])
    with pytest.raises(AggregationError, match="no state dict but Tensor"):
        aggregate_files(paths, [1, 1])
    with pytest.raises(AggregationError, match="no party"):
        aggregate_files([], [])


class _More:
    pass


@pytest.mark.parametrize("form", ["pt", "legacy", "safetensors"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, form: str) -> None:
    (path,) = saved(tmp_path, form, states(1))
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], whole[:-3], b"", b"<html>404</html>"):
        path.write_bytes(content)
        with pytest.raises(
            AggregationError, match=r"damaged, cut off|no checkpoint|is empty|no valid safetensors"
        ) as error:
            aggregate_files([path], [1])
        assert error.value.party == str(path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        aggregate_files([tmp_path / "nowhere.pt"], [1])


def test_what_a_file_holds_instead_of_a_state_dict_is_said(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save({"model": states(1)[0], "optimizer": {}, "epoch": 3}, path)
    with pytest.raises(
        AggregationError, match=r"without tensors: key='model' takes what lies there \(of model, optimizer"
    ):
        aggregate_files([path], [1])
    torch.save({1: torch.zeros(3)}, path)
    with pytest.raises(AggregationError, match="keys that are no strings"):
        aggregate_files([path], [1])
    torch.save({"model": states(1)[0], "more": _More()}, path)
    with pytest.raises(AggregationError, match=r"holds more than tensors.*save the state dict alone"):
        aggregate_files([path], [1], key="model")


def test_overlapping_and_expanded_tensors_survive_that_pages_are_given_back(tmp_path: Path) -> None:
    base = torch.arange(100_000.0)
    state = {"all": base, "half": base[:50_000], "wide": torch.ones(1).expand(50_000), "last": torch.ones(10)}
    for name in ("a.pt", "b.pt"):
        torch.save(state, tmp_path / name)
    result = aggregate_files([tmp_path / "a.pt", tmp_path / "b.pt"], [1, 3])
    assert_same_bits(result, state)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("form", ["zip", "safetensors"])
def test_a_files_pages_are_given_back(tmp_path: Path, form: str) -> None:
    """Eight parties of 16 MiB each; at no time more than a few megabytes of them are resident."""
    parties = [{"weight": torch.ones(1 << 21), "bias": torch.ones(1 << 21)} for _ in range(8)]
    paths = saved(tmp_path, form, parties)
    del parties
    most = 0
    read = _Mappings.read

    def watch(mappings: _Mappings, value: Any) -> Any:
        nonlocal most
        copy = read(mappings, value)
        status = Path("/proc/self/status").read_text(encoding="ascii")
        most = max(most, int(status.partition("RssFile:")[2].split()[0]))
        return copy

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_Mappings, "read", watch)
        aggregate_files(paths[:1], [1.0])
        before, most = most, 0  # torch's own pages, and a piece
        aggregate_files(paths, [1.0] * 8)
        most -= before
    assert most < 10_000  # KiB; one tensor of each would be 65,536
