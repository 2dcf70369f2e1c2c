"""Headers of safetensors files: what is right is read, what lies is refused. Nothing here needs torch."""

from __future__ import annotations

import json
import random
import struct
from pathlib import Path

import pytest

from bn_audit.live.bare import profile_of_header
from bn_audit.live.checkpoint import open_checkpoint
from bn_audit.live.errors import TargetError
from bn_audit.live.safetensors import read_header, read_integer
from tests.live.files import header_of, write_safetensors

FOUR = b"\0" * 4
STATE = {
    "conv.weight": ("F32", [2, 1], b"\0" * 8),
    "bn.running_mean": ("F32", [2], b"\0" * 8),
    "bn.running_var": ("BF16", [2], b"\0" * 4),
    "bn.num_batches_tracked": ("I64", [], struct.pack("<q", 17)),
    "mask": ("BOOL", [3], b"\1\0\1"),
    "empty": ("F16", [0, 4], b""),
}


def described(dtype: object = "F32", shape: object = None, offsets: object = None) -> dict[str, object]:
    return {
        "dtype": dtype,
        "shape": [1] if shape is None else shape,
        "data_offsets": [0, 4] if offsets is None else offsets,
    }


def test_a_header_is_read(tmp_path: Path) -> None:
    data = b"".join(data for *_, data in STATE.values())
    path = write_safetensors(tmp_path / "a.safetensors", {"__metadata__": {"format": "pt"}} | header_of(STATE), data)
    header = read_header(path)
    assert header.metadata == {"format": "pt"}
    assert list(header.tensors) == list(STATE)
    assert read_integer(path, header.tensors["bn.num_batches_tracked"]) == 17
    assert read_integer(path, header.tensors["conv.weight"]) is None
    profile = profile_of_header(header)
    assert [(e.key, e.shape, e.dtype, e.kind, e.value) for e in profile.entries] == [
        ("conv.weight", (2, 1), "float32", "parameter", None),
        ("bn.running_mean", (2,), "float32", "buffer", None),
        ("bn.running_var", (2,), "bfloat16", "buffer", None),
        ("bn.num_batches_tracked", (), "int64", "buffer", 17),
        ("mask", (3,), "bool", "buffer", None),
        ("empty", (0, 4), "float16", "parameter", None),
    ]
    assert [(norm.path, norm.features, norm.affine) for norm in profile.norms] == [("bn", 2, False)]
    assert not profile.ordered


def test_the_order_is_said_to_be_unknown(tmp_path: Path) -> None:
    path = write_safetensors(tmp_path / "a.safetensors", {"a": described()}, FOUR)
    assert open_checkpoint(path).notes == ("safetensors files do not keep the order of the state dict",)


@pytest.mark.parametrize(
    ("header", "data", "reason"),
    [
        ({"a": described(offsets=[0, 100_000_000_000], shape=[25_000_000_000])}, FOUR, "ends at byte 100,000,000,0"),
        ({"a": described(offsets=[0, 8], shape=[2])}, FOUR, "is cut off, or lies"),
        ({"a": described(), "b": described(offsets=[2, 6])}, b"\0" * 6, "overlaps"),
        ({"a": described(), "b": described()}, FOUR, "overlaps"),
        ({"a": described(offsets=[4, 8])}, b"\0" * 8, "hole"),
        ({"a": described()}, b"\0" * 8, "4 bytes at its end belong to no tensor"),
        ({"a": described(shape=[2])}, FOUR, "4 bytes, but its shape and dtype take 8"),
        ({"a": described(shape=[2**62, 2**62])}, FOUR, "shape and dtype take"),
        ({"a": described(shape=[1] * 65)}, FOUR, "no valid shape"),
        ({"a": described(shape=[-1])}, FOUR, "no valid shape"),
        ({"a": described(shape=[True])}, FOUR, "no valid shape"),
        ({"a": described(shape=[1.0])}, FOUR, "no valid shape"),
        ({"a": described(shape="1")}, FOUR, "no valid shape"),
        ({"a": described(offsets=[4, 0])}, FOUR, "no valid data_offsets"),
        ({"a": described(offsets=[0])}, FOUR, "no valid data_offsets"),
        ({"a": described(offsets=[-4, 0])}, FOUR, "no valid data_offsets"),
        ({"a": described("F4", shape=[3], offsets=[0, 1])}, b"\0", "1 bytes, but its shape and dtype take 1"),
        ({"a": described("FLOAT")}, FOUR, "which the format does not know"),
        ({"a": described(7)}, FOUR, "which the format does not know"),
        ({"a": [1]}, FOUR, "not described by an object"),
        ({"__metadata__": {"a": 1}}, b"", "strings to strings"),
        ({"__metadata__": []}, b"", "strings to strings"),
        (b'{"a": {"dtype":"F32","shape":[1],"data_offsets":[0,4]}, "a": {}}', FOUR, "twice"),
        (b"[1]", b"", "no JSON object"),
        (b"", b"", "no JSON object"),
        (b'{"a": ' * 100_000, b"", "no JSON"),
        (b'{"a": ' + b"[" * 200_000, b"", "no JSON"),
        (b'{"a": ' + b"9" * 5_000 + b"}", b"", "no JSON"),
        (b'{"\xff": 1}', b"", "no JSON"),
        (b'{"a": 1', b"", "no JSON"),
    ],
)
def test_a_header_that_lies_is_refused(tmp_path: Path, header: object, data: bytes, reason: str) -> None:
    path = write_safetensors(tmp_path / "a.safetensors", header, data)
    with pytest.raises(TargetError, match=reason) as caught:
        read_header(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("claimed", [10, 100_000_001, 10**11, 2**64 - 1])
def test_a_header_longer_than_its_file_is_not_read(tmp_path: Path, claimed: int) -> None:
    path = write_safetensors(tmp_path / "a.safetensors", b"{}", length=claimed)
    with pytest.raises(TargetError, match="its header claims"):
        read_header(path)


@pytest.mark.parametrize("size", [0, 7, 8])
def test_a_file_that_is_hardly_there(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"\0" * size)
    with pytest.raises(TargetError, match=r"bytes, fewer than|no JSON object"):
        read_header(path)


def test_a_file_without_tensors_holds_no_state_dict(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="holds no tensors"):
        open_checkpoint(write_safetensors(tmp_path / "a.safetensors", {}))


def test_no_damage_to_a_header_raises_anything_else(tmp_path: Path) -> None:
    data = b"".join(data for *_, data in STATE.values())
    path = write_safetensors(tmp_path / "a.safetensors", header_of(STATE), data)
    whole = path.read_bytes()
    chance = random.Random(5)
    refused = 0
    for _ in range(500):
        damaged = bytearray(whole[: chance.randrange(len(whole))] if chance.random() < 0.2 else whole)
        for _ in range(chance.randrange(1, 4)):
            if damaged:
                damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        try:
            header = read_header(path)
        except TargetError:
            refused += 1
        else:
            profile_of_header(header)
            assert all(stored.end <= len(damaged) for stored in header.tensors.values())
    assert refused > 250


def test_shards_are_read_by_their_index(tmp_path: Path) -> None:
    keys = {"a.weight": "one.safetensors", "a.running_var": "two.safetensors"}
    for key, file in keys.items():
        write_safetensors(tmp_path / file, {key: described()}, FOUR)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": keys}))
    checkpoint = open_checkpoint(index)
    assert [entry.key for entry in checkpoint.profile.entries] == list(keys)
    assert [norm.path for norm in checkpoint.profile.norms] == ["a"]
    assert checkpoint.notes == ("2 shards, which do not keep the order of the state dict",)
    assert not checkpoint.profile.ordered


@pytest.mark.parametrize(
    ("weight_map", "reason"),
    [
        ({"a": "../one.safetensors"}, "does not lie beside it"),
        ({"a": "/etc/passwd"}, "does not lie beside it"),
        ({"a": ".."}, "does not lie beside it"),
        ({"a": "gone.safetensors"}, "the shard gone.safetensors is missing"),
        ({"a": "gone.safetensors", "b": "lost.safetensors"}, "and 1 more is missing"),
        ({"b": "one.safetensors"}, "'a' is in it and not in the index"),
        ({"a": "one.safetensors", "b": "one.safetensors"}, "'b' is not in it"),
        ({"a": 1}, "no weight_map"),
        ({}, "no weight_map"),
        (["one.safetensors"], "no weight_map"),
    ],
)
def test_an_index_that_lies_is_refused(tmp_path: Path, weight_map: object, reason: str) -> None:
    write_safetensors(tmp_path / "one.safetensors", {"a": described()}, FOUR)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(TargetError, match=reason):
        open_checkpoint(index)


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, "\N{REPLACEMENT CHARACTER}"])
def test_an_index_that_is_none(tmp_path: Path, text: str) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(text, encoding="utf-8")
    with pytest.raises(TargetError, match=r"is no JSON|is no index"):
        open_checkpoint(index)


def test_a_shard_says_that_it_is_one(tmp_path: Path) -> None:
    path = write_safetensors(tmp_path / "model-00001-of-00003.safetensors", {"a": described()}, FOUR)
    assert "this is one of 3 shards; name the index to read them all" in open_checkpoint(path).notes


def test_a_key_inside_is_no_use(tmp_path: Path) -> None:
    path = write_safetensors(tmp_path / "a.safetensors", {"a": described()}, FOUR)
    with pytest.raises(TargetError, match="no state dict at 'model'"):
        open_checkpoint(path, "model")
