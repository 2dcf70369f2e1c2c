"""Bad TARGETs at the command line: exit status 2, one clear message, nothing of ours in it, and nothing run."""

from __future__ import annotations

import io
import json
import pickle
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from bn_audit.extras import install

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from bn_audit.cli.inspect import command as inspect  # noqa: E402
from bn_audit.cli.verify import command as verify  # noqa: E402
from tests.live.files import Payload  # noqa: E402

LEGACY = {"_use_new_zipfile_serialization": False}
CODE = """
from torch import nn

number = 3
def raising():
    return {}["width"]
def leaving():
    raise SystemExit(7)
class Wants(nn.Module):
    def __init__(self, width):
        super().__init__()
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.py").write_text(CODE)
    return tmp_path


def _saved(value: object, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def _zipped(**records: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in records.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def _tensors(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def _f32(begin: int, end: int, count: int) -> dict[str, object]:
    return {"dtype": "F32", "shape": [count], "data_offsets": [begin, end]}


STATE = {"w": torch.ones(2), "x": torch.ones(3)}
TRACE = Path("trace")

FILES: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "payload": ("a.pt", lambda: _saved({"w": Payload(TRACE)}), "would run"),
    "payload, legacy": ("a.pt", lambda: _saved({"w": Payload(TRACE)}, **LEGACY), "would run"),
    "payload, plain": ("a.bin", lambda: pickle.dumps(Payload(TRACE), 2), "would run"),
    "payload in a zip of another make": (
        "a.pt",
        lambda: _zipped(**{"a/data.pkl": pickle.dumps(Payload(TRACE), 2), "a/version": b"3\n"}),
        "would run",
    ),
    "payload in a zip in a zip": (
        "a.pt",
        lambda: _zipped(**{"a/inner.pt": _saved({"w": Payload(TRACE)})}),
        "it has no data.pkl",
    ),
    "a whole module": ("a.pt", lambda: _saved(nn.Linear(2, 2)), "torch.nn.modules.linear.Linear"),
    "cut": ("a.pt", lambda: _saved(STATE)[:-40], "damaged"),
    "cut, legacy": ("a.pt", lambda: _saved(STATE, **LEGACY)[:-4], "damaged"),
    "empty file": ("a.pt", lambda: b"", "is empty"),
    "empty state": ("a.pt", lambda: _saved({}), "holds no state dict"),
    "no tensors": ("a.pt", lambda: _saved({"epoch": 3, "names": ["a"]}), "holds no state dict"),
    "text": ("a.pt", lambda: b"hello", "is no checkpoint"),
    "offsets outside": ("a.safetensors", lambda: _tensors({"w": _f32(0, 8, 2)}, b"\0" * 4), "cut off, or lies"),
    "overlapping": (
        "a.safetensors",
        lambda: _tensors({"w": _f32(0, 8, 2), "x": _f32(4, 12, 2)}, b"\0" * 12),
        "overlaps the tensor before it",
    ),
    "100 GB": ("a.safetensors", lambda: _tensors({"w": _f32(0, 10**11, 25 * 10**9)}), "100,000,000,090 of a file"),
    "a shape of more": ("a.safetensors", lambda: _tensors({"w": _f32(0, 8, 10**11)}, b"\0" * 8), "its shape and dtype"),
    "a key twice": (
        "a.safetensors",
        lambda: _tensors(b'{"w":%b,"w":%b}' % ((json.dumps(_f32(0, 8, 2)).encode(),) * 2), b"\0" * 8),
        "a name stands twice",
    ),
    "a header of 100 GB": ("a.safetensors", lambda: _tensors({}, length=10**11), "its header claims"),
    "a header as long as allowed": ("a.safetensors", lambda: _tensors({}, length=10**8), "its header claims"),
    "an empty header": ("a.safetensors", lambda: _tensors({}), "holds no tensors"),
    "brackets": ("a.safetensors", lambda: _tensors(b'{"w":' + b"[" * 10**6), "its header is no JSON"),
}


def _both(*arguments: str) -> list[Result]:
    return [
        CliRunner().invoke(inspect, arguments),
        CliRunner().invoke(verify, [*arguments, "--framework", "secretflow", "--skip-bn"]),
    ]


def _is_refused(result: Result, message: str) -> None:
    assert result.exit_code == 2, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert message in result.output
    assert "bn_audit" not in result.output.replace("\\", "/").replace("bn_audit.cli", "")


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_checkpoint(folder: Path, name: str) -> None:
    file, content, message = FILES[name]
    (folder / file).write_bytes(content())
    for result in (*_both(file), CliRunner().invoke(verify, ["--parties", file, "other.pt"])):
        _is_refused(result, message)
        assert file in result.output
    assert not (folder / TRACE).exists()


@pytest.mark.parametrize("options", [{}, LEGACY], ids=["zip", "legacy"])
def test_every_cut_and_every_flipped_bit_is_an_error_or_a_state(folder: Path, options: dict[str, object]) -> None:
    from bn_audit.live.checkpoint import open_checkpoint
    from bn_audit.live.errors import TargetError

    whole = _saved({"w": torch.ones(1)}, **options)
    path = folder / "a.pt"
    read = {"cut": 0, "flipped": 0}
    step = max(1, len(whole) // 400)
    for position in range(0, len(whole), step):
        flipped = bytearray(whole)
        flipped[position] ^= 1 << position // step % 8
        for what, data in (("cut", whole[:position]), ("flipped", bytes(flipped))):
            path.write_bytes(data)
            try:
                entries = open_checkpoint(path).profile.entries
            except TargetError as error:
                assert "a.pt" in str(error)
            else:
                read[what] += 1
                assert entries
    assert read["cut"] == 0 or options  # the old format has no end; a zip has its directory there
    assert read["flipped"] > 0  # a bit of a value, say


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("model.py:number", "model.py:number"),
        ("model.py:nn", "model.py:nn"),
        ("model.py:absent", "has no attribute"),
        ("model.py:Wants", "--arg NAME=VALUE"),
        ("model.py:leaving", "SystemExit"),
        ("absent.py:Net", "absent.py"),
        ("no_such_package:Net", "no_such_package"),
        ("model.py", ":ATTRIBUTE"),
    ],
)
def test_an_attribute_that_is_no_model(target: str, message: str) -> None:
    for result in _both(target):
        _is_refused(result, message)


def test_a_factory_that_raises_shows_the_users_lines_and_none_of_ours() -> None:
    for result in _both("model.py:raising"):
        _is_refused(result, "KeyError")
        assert "Traceback (most recent call last)" in result.output
        assert 'return {}["width"]' in result.output


def test_parties_of_different_architectures(folder: Path) -> None:
    torch.save({"conv.weight": torch.ones(2, 2), "fc.weight": torch.ones(2)}, "a.pt")
    torch.save({"conv.weight": torch.ones(3, 2)}, "b.pt")
    result = CliRunner().invoke(verify, ["--parties", "a.pt", "b.pt"])
    assert result.exit_code == 1
    assert "[2, 2] in a.pt, [3, 2] in b.pt" in result.output
    assert "missing in b.pt" in result.output


@pytest.mark.parametrize("command", ["inspect", "verify"])
def test_a_missing_extra_is_named(command: str) -> None:
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "from bn_audit.cli import main\n"
        f"sys.argv = ['bn-audit', '{command}', 'model.py:Wants', '--framework', 'secretflow']\n"
        "main()"
    )
    root = str(Path(__file__).resolve().parents[2])
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, env={"PYTHONPATH": root}
    )
    assert done.returncode == 2, done.stderr
    assert install("torch") in done.stderr
    assert "Traceback" not in done.stderr
