"""Checkpoints as training scripts write them."""

from __future__ import annotations

import argparse
import json
import pickle
import struct
import sys
import tracemalloc
import zipfile
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from bn_audit.live import pickled
from bn_audit.live.bare import unwrapped, wrapping
from bn_audit.live.checkpoint import open_checkpoint
from bn_audit.live.errors import TargetError
from bn_audit.live.profile import profile, profile_of_state
from tests.live.files import header_of, write_safetensors
from tests.live.models import MODELS, Net

LEGACY = {"_use_new_zipfile_serialization": False}


def trained() -> Net:
    torch.manual_seed(0)
    model = Net()
    model(torch.randn(2, 3, 8, 8))
    return model


def save(value: object, path: Path, **options: object) -> Path:
    torch.save(value, path, **options)
    return path


@pytest.mark.parametrize("options", [{}, LEGACY], ids=["zip", "legacy"])
@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".ckpt", ".weights"])
def test_both_formats_whatever_the_suffix(tmp_path: Path, suffix: str, options: dict[str, object]) -> None:
    model = trained()
    checkpoint = open_checkpoint(save(model.state_dict(), tmp_path / f"a{suffix}", **options))
    assert checkpoint.format == ("legacy" if options else "zip")
    assert checkpoint.profile == profile_of_state(model.state_dict())
    assert checkpoint.profile.entries[6].value == 1
    assert checkpoint.notes == ()
    for key, tensor in model.state_dict().items():
        assert torch.equal(checkpoint.tensors[key], tensor)


def test_aliases_survive_the_file(tmp_path: Path) -> None:
    model = MODELS["shared"]()
    checkpoint = open_checkpoint(save(model.state_dict(), tmp_path / "a.pt"))
    live = {entry.key: entry.alias_of for entry in profile(model).entries}
    assert {entry.key: entry.alias_of for entry in checkpoint.profile.entries} == live


def test_a_large_file_is_mapped(tmp_path: Path) -> None:
    path = save({"w": torch.zeros(64 << 20), "bn.running_mean": torch.zeros(4)}, tmp_path / "a.pt")
    before = _resident()
    checkpoint = open_checkpoint(path)
    assert checkpoint.profile.entries[0].shape == (64 << 20,)
    assert _resident() - before < 64 << 20


def _resident() -> int:
    """Bytes of anonymous and file memory that this process holds now."""
    if not sys.platform.startswith("linux"):
        pytest.skip("/proc tells how much memory is held")
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_a_large_safetensors_file_is_mapped(tmp_path: Path) -> None:
    header = {"w": {"dtype": "F32", "shape": [1 << 30], "data_offsets": [0, 4 << 30]}}
    path = write_safetensors(tmp_path / "a.safetensors", header)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size + (4 << 30))  # a sparse file takes no room
    tracemalloc.start()
    checkpoint = open_checkpoint(path)
    tensor = checkpoint.tensors["w"]
    assert tensor.shape == (1 << 30,) and tensor[-1] == 0
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_a_large_file_of_the_old_format_gives_no_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = trained()
    path = save(model.state_dict(), tmp_path / "a.pt", **LEGACY)
    monkeypatch.setattr(pickled, "LARGEST_IN_MEMORY", 100)
    checkpoint = open_checkpoint(path)
    assert [e.shape for e in checkpoint.profile.entries] == [e.shape for e in profile(model).entries]
    assert {entry.value for entry in checkpoint.profile.entries} == {None}
    assert all(tensor.is_meta for tensor in checkpoint.tensors.values())
    assert checkpoint.notes == ("a large file of torch's old format: names and shapes were read, values were not",)


def test_a_compressed_archive_is_read_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = trained().state_dict()
    plain, packed = save(state, tmp_path / "a.pt"), tmp_path / "b.pt"
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    checkpoint = open_checkpoint(packed)
    assert torch.equal(checkpoint.tensors["bn.running_var"], state["bn.running_var"])
    monkeypatch.setattr(pickled, "LARGEST_IN_MEMORY", 100)
    with pytest.raises(TargetError, match="is compressed, and would unpack to"):
        open_checkpoint(packed)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int32, torch.bool, torch.uint8])
def test_safetensors_values(tmp_path: Path, dtype: torch.dtype) -> None:
    names = {torch.float16: "F16", torch.bfloat16: "BF16", torch.float64: "F64", torch.int32: "I32"}
    names |= {torch.bool: "BOOL", torch.uint8: "U8"}
    tensor = torch.tensor([[1, 0, 3], [4, 5, 0]]).to(dtype)
    data = tensor.view(torch.uint8).numpy().tobytes() if dtype is not torch.bool else tensor.numpy().tobytes()
    state = {"odd": ("U8", [1], b"\7"), "a": (names[dtype], [2, 3], data), "none": ("F32", [0, 2], b"")}
    whole = b"".join(data for *_, data in state.values())
    checkpoint = open_checkpoint(write_safetensors(tmp_path / "a.safetensors", header_of(state), whole))
    assert torch.equal(checkpoint.tensors["a"], tensor)
    assert checkpoint.tensors["none"].shape == (0, 2)
    assert checkpoint.tensors["odd"].tolist() == [7]
    assert len(checkpoint.tensors) == 3 and list(checkpoint.tensors) == list(state)


def test_a_file_that_the_reference_implementation_wrote(tmp_path: Path) -> None:
    reference = pytest.importorskip("safetensors.torch")
    state = {key: tensor.contiguous() for key, tensor in MODELS["mixed"]().state_dict().items()}
    path = tmp_path / "a.safetensors"
    reference.save_file(state, path, metadata={"format": "pt"})
    checkpoint = open_checkpoint(path)
    assert set(checkpoint.tensors) == set(state)
    for key, tensor in state.items():
        assert torch.equal(checkpoint.tensors[key], tensor), key
    by_key = {entry.key: entry for entry in profile_of_state(state).entries}
    assert all(by_key[entry.key] == entry for entry in checkpoint.profile.entries)
    assert {norm.path for norm in checkpoint.profile.norms} == {"1", "2"}


def test_a_safetensors_file_that_shrank_is_not_mapped(tmp_path: Path) -> None:
    path = write_safetensors(tmp_path / "a.safetensors", header_of({"a": ("F32", [2], b"\0" * 8)}), b"\0" * 8)
    checkpoint = open_checkpoint(path)
    path.write_bytes(b"")
    with pytest.raises(TargetError, match="has changed since"):
        checkpoint.tensors["a"]


def test_a_dtype_that_torch_lacks(tmp_path: Path) -> None:
    path = write_safetensors(tmp_path / "a.safetensors", header_of({"a": ("F4", [2], b"\0")}), b"\0")
    checkpoint = open_checkpoint(path)
    assert checkpoint.profile.entries[0].dtype is None
    with pytest.raises(TargetError, match="has no dtype for 'a'"):
        checkpoint.tensors["a"]


def adam() -> dict[str, object]:
    model = trained()
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(2, 3, 8, 8)).sum().backward()
    optimizer.step()
    state: dict[str, object] = optimizer.state_dict()
    return state


STATE = trained().state_dict()
SMALL = {"weight": torch.ones(2)}


@pytest.mark.parametrize(
    ("value", "taken", "others"),
    [
        ({"epoch": 3, "state_dict": STATE, "optimizer": adam()}, "state_dict", ()),
        ({"optimizer": adam(), "anything_at_all": STATE}, "anything_at_all", ()),
        ({"ema": STATE, "model": dict(STATE)}, "model", ("ema",)),
        ({"model_ema": {"n_averaged": torch.tensor(3), **STATE}, "my_net": dict(STATE)}, "my_net", ("model_ema",)),
        ({"disc": SMALL, "gen": STATE}, "gen", ("disc",)),
        ({"step": torch.tensor(3), "model": STATE}, "model", ("",)),
        ({"trainer": {"inner": {"weights": STATE}}}, "trainer.inner.weights", ()),
        ({"models": [STATE, dict(STATE)]}, "models.0", ("models.1",)),
        ({"clients": {0: STATE, 1: dict(STATE)}}, "clients.0", ("clients.1",)),
        ({"model": STATE, "best": STATE}, "model", ()),
        (STATE, "", ()),
    ],
)
def test_the_state_dict_is_found_by_structure(
    tmp_path: Path, value: object, taken: str, others: tuple[str, ...]
) -> None:
    checkpoint = open_checkpoint(save(value, tmp_path / "a.pt"))
    assert (checkpoint.taken, checkpoint.others) == (taken, others)
    assert [e.key for e in checkpoint.profile.entries] == list(STATE)
    told = " ".join(checkpoint.notes)
    assert all(repr(name) in told for name in (taken, *others) if name)


def test_key_chooses(tmp_path: Path) -> None:
    path = save({"model": STATE, "ema": SMALL, "optimizer": adam()}, tmp_path / "a.pt")
    checkpoint = open_checkpoint(path, "ema")
    assert (checkpoint.taken, checkpoint.others) == ("ema", ("model",))
    with pytest.raises(TargetError, match=r"no state dict at 'modle'; there are: model, ema; did you mean 'model'?"):
        open_checkpoint(path, "modle")
    with pytest.raises(TargetError, match="the file itself is one; leave --key away"):
        open_checkpoint(save(STATE, tmp_path / "b.pt"), "model")


@pytest.mark.parametrize(
    "wrap",
    [
        nn.DataParallel,
        torch.compile,
        lambda model: torch.compile(nn.DataParallel(model)),
        torch.optim.swa_utils.AveragedModel,
        lambda model: torch.optim.swa_utils.AveragedModel(nn.DataParallel(model)),
    ],
    ids=["parallel", "compiled", "compiled parallel", "averaged", "averaged parallel"],
)
def test_wrappers_are_seen_through(tmp_path: Path, wrap: Callable[[nn.Module], nn.Module]) -> None:
    model = trained()
    wrapped = wrap(model)
    checkpoint = open_checkpoint(save(wrapped.state_dict(), tmp_path / "a.pt"))
    assert [e.key for e in checkpoint.profile.entries] == list(wrapped.state_dict())
    assert [norm.path for norm in checkpoint.profile.norms] == ["bn", "block.1"]
    assert f"every key begins with {checkpoint.prefix!r}" in checkpoint.notes[0]
    assert unwrapped(checkpoint.profile) == profile_of_state(model.state_dict())


def test_a_part_that_was_compiled_by_itself() -> None:
    model = MODELS["compiled part"]()
    bare = profile_of_state(model.state_dict())
    assert [norm.path for norm in bare.norms] == ["0.bn", "0.block.1"]
    assert unwrapped(bare).entries[0].key == "0.conv.weight"


def test_a_name_is_no_wrapper_unless_all_have_it() -> None:
    assert wrapping(["module.a", "head"]) == ""
    assert wrapping(["n_averaged"]) == ""
    assert wrapping([]) == ""
    assert wrapping(["_orig_mod.module.a", "_orig_mod.n_averaged"]) == "_orig_mod.module."


def test_what_is_no_tensor_is_told(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(save({"epoch": 3, **STATE}, tmp_path / "a.pt"))
    assert checkpoint.notes == ("epoch is no tensor but int, and is passed by",)
    assert [(gap.index, gap.reason) for gap in checkpoint.profile.gaps] == [(0, "epoch is no tensor but int")]
    quantized = open_checkpoint(save(MODELS["quantized"]().state_dict(), tmp_path / "b.pt"))
    assert [gap.path for gap in quantized.profile.gaps] == ["0._packed_params", "0._packed_params"]


def test_pickled_shards(tmp_path: Path) -> None:
    keys = list(STATE)
    parts = {"a-00001-of-00002.bin": keys[:5], "a-00002-of-00002.bin": keys[5:]}
    for name, part in parts.items():
        save({key: STATE[key] for key in part}, tmp_path / name)
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": {key: name for name, part in parts.items() for key in part}}))
    checkpoint = open_checkpoint(index)
    assert checkpoint.format == "zip" and not checkpoint.profile.ordered
    assert checkpoint.profile.norms == profile_of_state(STATE).norms
    assert checkpoint.notes == ("2 shards, which do not keep the order of the state dict",)
    with pytest.raises(TargetError, match="leave --key away"):
        open_checkpoint(index, "model")
    shard = open_checkpoint(tmp_path / "a-00001-of-00002.bin")
    assert shard.notes == ("this is one of 2 shards; name the index to read them all",)
    assert [gap.reason for gap in shard.profile.gaps] == ["the other shards are not read"]
    assert not checkpoint.profile.gaps


def test_one_shard_of_one_is_whole(tmp_path: Path) -> None:
    whole = open_checkpoint(save(trained().state_dict(), tmp_path / "model-00001-of-00001.bin"))
    assert whole.profile.complete and whole.notes == ()


@pytest.mark.filterwarnings("ignore:.*[Ss]parse")
def test_sparse_tensors_are_passed_by(tmp_path: Path) -> None:
    state = {"fc.weight": torch.ones(2), "adjacency": torch.eye(3).to_sparse()}
    checkpoint = open_checkpoint(save(state, tmp_path / "a.pt"))
    assert checkpoint.notes == ("adjacency is no dense tensor but torch.sparse_coo, and is passed by",)
    assert list(checkpoint.tensors) == ["fc.weight"]


def _packed(data: bytes) -> bytes:
    import gzip

    return gzip.compress(data)


def _arrays(data: bytes) -> bytes:
    import io

    import numpy as np

    file = io.BytesIO()
    np.savez(file, np.ones(3))
    return file.getvalue()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda data: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "`git lfs pull` fetches it"),
        (lambda data: b"\n<!DOCTYPE html><html>404</html>", "a page of HTML or XML, as a download that failed leaves"),
        (_packed, "packed by gzip: unpack it first"),
        (lambda data: b"\x89HDF\r\n\x1a\n" + data, "an HDF5 file"),
        (lambda data: b"\x93NUMPY\x01\x00" + data, "a single array of NumPy's"),
        (lambda data: struct.pack("<Q", 2) + b"{}" + data, "looks like safetensors: give it that suffix"),
        (_arrays, r"NumPy's archive of arrays, .* torch.save\(model.state_dict\(\)"),
        (lambda data: b"{}", "torch.save writes a zip archive or a pickle, and this is neither"),
    ],
)
def test_other_files_are_called_by_their_name(tmp_path: Path, make: Callable[[bytes], bytes], message: str) -> None:
    file = tmp_path / "model.pt"
    file.write_bytes(make(save({"fc.weight": torch.ones(2)}, tmp_path / "other.pt").read_bytes()))
    with pytest.raises(TargetError, match=message):
        open_checkpoint(file)


def test_a_zip_archive_is_no_safetensors_file(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match=r"as torch\.save writes them: name it \.pt"):
        open_checkpoint(save({"fc.weight": torch.ones(2)}, tmp_path / "a.safetensors"))


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_a_plain_pickle_is_told_from_a_damaged_file(tmp_path: Path, protocol: int) -> None:
    file = tmp_path / "a.pt"
    file.write_bytes(pickle.dumps({"fc.weight": torch.ones(2)}, protocol=protocol))
    with pytest.raises(TargetError, match=rf"pickle of protocol {protocol}, .*torch\.save\(model\.state_dict\(\)"):
        open_checkpoint(file)


def test_a_file_of_the_old_format_that_is_cut_off_asks_for_nothing(tmp_path: Path) -> None:
    data = save({"fc.weight": torch.ones(2)}, tmp_path / "a.pt", **LEGACY).read_bytes()
    file = tmp_path / "b.pt"
    for length in range(2, data.index(b"storage"), 7):
        file.write_bytes(data[:length])
        with pytest.raises(TargetError, match=r"is no checkpoint of torch\.save's, or cut off$"):
            open_checkpoint(file)


def test_parameters_are_told_where_the_file_tells_them(tmp_path: Path) -> None:
    model = Net()
    frozen = nn.Parameter(torch.arange(3), requires_grad=False)
    checkpoint = open_checkpoint(save({**model.state_dict(keep_vars=True), "ids": frozen}, tmp_path / "a.pt"))
    assert checkpoint.profile.entries[-1].kind == "parameter"


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ({"args": argparse.Namespace(lr=1), "model": SMALL}, "argparse.Namespace"),
        ({"path": Path("a"), "model": SMALL}, "pathlib"),
        (defaultdict(list, SMALL), "collections.defaultdict"),
        (nn.Linear(2, 2), "torch.nn.modules.linear.Linear"),
    ],
    ids=["Namespace", "Path", "defaultdict", "module"],
)
@pytest.mark.parametrize("options", [{}, LEGACY], ids=["zip", "legacy"])
def test_more_than_weights_is_refused_by_name(
    tmp_path: Path, value: object, named: str, options: dict[str, object]
) -> None:
    with pytest.raises(TargetError, match="holds more than weights") as caught:
        open_checkpoint(save(value, tmp_path / "a.pt", **options))
    assert named in str(caught.value)


def test_plain_containers_are_weights(tmp_path: Path) -> None:
    value = {"model": OrderedDict(SMALL), "shape": torch.Size([2]), "dtype": torch.float16, "text": "a", "none": None}
    assert open_checkpoint(save(value, tmp_path / "a.pt")).taken == "model"


def test_a_counter_is_read_from_a_mapped_file(tmp_path: Path) -> None:
    data = struct.pack("<q", -5)
    path = write_safetensors(tmp_path / "a.safetensors", header_of({"n": ("I64", [], data)}), data)
    assert open_checkpoint(path).profile.entries[0].value == -5
