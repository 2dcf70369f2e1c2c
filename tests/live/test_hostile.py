"""Files that mean harm, or came to it. A payload that runs leaves a file behind."""

from __future__ import annotations

import io
import pickle
import random
import zipfile
from pathlib import Path

import pytest
import torch

from bn_audit.live.checkpoint import open_checkpoint
from bn_audit.live.errors import TargetError
from bn_audit.live.health import health_of_entries
from bn_audit.live.target import load_target
from tests.live.files import Payload
from tests.live.models import MODELS, Net

LEGACY = {"_use_new_zipfile_serialization": False}


@pytest.mark.parametrize("options", [{}, LEGACY], ids=["zip", "legacy"])
@pytest.mark.parametrize("protocol", [2, 4])
def test_a_payload_does_not_run(tmp_path: Path, options: dict[str, object], protocol: int) -> None:
    trace = tmp_path / "trace"
    path = tmp_path / "a.pt"
    torch.save({"w": torch.ones(2), "x": Payload(trace)}, path, pickle_protocol=protocol, **options)
    with pytest.raises(TargetError, match=r"posix.system|cannot be read"):
        load_target(str(path))
    assert not trace.exists()
    torch.load(path, weights_only=False)
    assert trace.exists()  # the payload is one


def test_a_payload_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save({"x": Payload(tmp_path / "trace")}, path)
    with pytest.raises(TargetError, match=r"it would run posix\.system|unpickling it would run .*\.system;"):
        open_checkpoint(path)


@pytest.mark.parametrize("protocol", range(6))
def test_a_plain_pickle_does_not_run(tmp_path: Path, protocol: int) -> None:
    trace = tmp_path / "trace"
    path = tmp_path / "a.bin"
    path.write_bytes(pickle.dumps({"x": Payload(trace)}, protocol))
    with pytest.raises(TargetError):
        open_checkpoint(path)
    assert not trace.exists()


def test_a_payload_in_any_record_of_an_archive_does_not_run(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    payload = pickle.dumps(Payload(trace), 2)
    for name in ("data.pkl", "constants.pkl", "model/data.pkl", "model/constants.pkl", "model/attributes.pkl"):
        path = tmp_path / "a.pt"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("model/version", "3\n")
            archive.writestr(name, payload)
        with pytest.raises(TargetError):
            open_checkpoint(path)
    assert not trace.exists()


def test_a_payload_that_is_imported_by_name_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "boom.py").write_text("open('trace', 'w').close()\nclass A: pass\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "a.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", b"\x80\x02cboom\nA\n.")
        archive.writestr("model/version", "3\n")
    with pytest.raises(TargetError, match=r"boom\.A"):
        open_checkpoint(path)
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("name", ["scripted", "traced"])
def test_a_program_is_not_loaded(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.pt"
    torch.jit.save(MODELS[name](), path)
    with pytest.raises(TargetError, match="is a TorchScript archive, a program"):
        open_checkpoint(path)


def test_an_exported_program_is_not_loaded(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.export.save(torch.export.export(Net().eval(), (torch.randn(2, 3, 8, 8),)), path)
    with pytest.raises(TargetError, match="is an exported program"):
        open_checkpoint(path)


@pytest.mark.parametrize("options", [{}, LEGACY], ids=["zip", "legacy"])
def test_no_damage_raises_anything_but_a_clear_error(tmp_path: Path, options: dict[str, object]) -> None:
    buffer = io.BytesIO()
    torch.save(Net().state_dict(), buffer, **options)
    whole = buffer.getvalue()
    path = tmp_path / "a.pt"
    chance = random.Random(7)
    refused = 0
    for number in range(150):
        damaged = bytearray(whole[: chance.randrange(len(whole))] if number % 3 == 0 else whole)
        for _ in range(chance.randrange(1, 6)):
            if damaged:
                damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        try:
            checkpoint = open_checkpoint(path)
            health_of_entries(checkpoint.profile, checkpoint.tensors)
        except TargetError:
            refused += 1
    assert refused >= 50  # those that were cut


@pytest.mark.parametrize("size", [0, 1, 3, 4, 22, 100])
@pytest.mark.parametrize("beginning", [b"", b"PK\x03\x04", b"\x80\x02", b"GGUF", b"\x89HDF"])
def test_files_that_are_no_checkpoints(tmp_path: Path, size: int, beginning: bytes) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes((beginning + b"\0" * size)[:size])
    with pytest.raises(TargetError, match=r"is empty|is no checkpoint|damaged"):
        open_checkpoint(path)


def test_a_zip_archive_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(TargetError, match=r"none that torch.save wrote"):
        open_checkpoint(path)


def test_an_archive_without_its_tensors(tmp_path: Path) -> None:
    whole, path = tmp_path / "whole.pt", tmp_path / "a.pt"
    torch.save({"w": torch.ones(2)}, whole)
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            if "/data/" not in name:
                target.writestr(name, source.read(name))
    with pytest.raises(TargetError, match="damaged"):
        open_checkpoint(path)


@pytest.mark.parametrize("value", [{}, [], 3, "text", None, {"epoch": 3}, torch.ones(2), {1: torch.ones(2)}, {"a": {}}])
def test_files_without_a_state_dict(tmp_path: Path, value: object) -> None:
    path = tmp_path / "a.pt"
    torch.save(value, path)
    with pytest.raises(TargetError, match="holds no state dict"):
        open_checkpoint(path)


def test_a_value_that_holds_itself_ends(tmp_path: Path) -> None:
    value: dict[str, object] = {"model": {"w": torch.ones(2)}}
    value["self"] = value
    wide: list[object] = []
    for _ in range(30):
        wide = [wide, wide]
    value["wide"] = wide
    path = tmp_path / "a.pt"
    torch.save(value, path)
    assert open_checkpoint(path).taken == "model"


@pytest.mark.parametrize("claimed", [2**40, -1, 2**62])
def test_a_storage_that_claims_more_than_there_is(tmp_path: Path, claimed: int) -> None:
    tensor = (
        b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpu"
        + b"\x8a\x08"
        + claimed.to_bytes(8, "little", signed=True)
        + b"tQK\0(\x8a\x08"
        + abs(claimed).to_bytes(8, "little")
        + b"t(K\x01t\x89ccollections\nOrderedDict\n)RtR"
    )
    path = tmp_path / "a.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02}X\x01\0\0\0w" + tensor + b"s.")
        archive.writestr("a/byteorder", "little")
        archive.writestr("a/version", "3\n")
        archive.writestr("a/data/0", b"\0" * 64)
    with pytest.raises(TargetError, match="damaged or no checkpoint"):
        open_checkpoint(path)


def test_a_file_that_is_missing_or_a_directory(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="No such file"):
        open_checkpoint(tmp_path / "a.pt")
    with pytest.raises(TargetError, match="is a directory"):
        open_checkpoint(tmp_path)
