"""Where torch is missing: what needs it says which extra brings it, and safetensors are read all the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.live.files import header_of, write_safetensors

ROOT = Path(__file__).parents[2]


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run code in an interpreter without torch."""
    script = f"import sys\nsys.modules['torch'] = None\n{code}"
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


@pytest.mark.parametrize("module", ["profile", "health", "pickled", "tensors"])
def test_importing_says_which_extra_is_missing(module: str) -> None:
    done = run(f"import bn_audit.live.{module}")
    assert done.stderr.splitlines()[-1].endswith(
        "this needs PyTorch, which is not installed: pip install 'bn-audit[torch]'"
    )


def test_a_target_says_which_extra_is_missing(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(b"PK\x03\x04")
    (tmp_path / "a.py").write_text("raise SystemExit")
    code = (
        "from bn_audit.live.target import load_target\n"
        "from bn_audit.live.errors import MissingExtra\n"
        "for text in sys.argv[1:]:\n"
        "    try:\n        load_target(text)\n"
        "    except MissingExtra as error:\n        print(error)\n"
    )
    done = run(code, str(tmp_path / "a.pt"), f"{tmp_path}/a.py:Net", "os.path:join")
    assert done.stderr == ""
    assert done.stdout.count("bn-audit[torch]") == 3


def test_safetensors_need_no_torch(tmp_path: Path) -> None:
    state = {"bn.running_mean": ("F32", [2], b"\0" * 8), "bn.num_batches_tracked": ("I32", [], b"\3\0\0\0")}
    data = b"".join(data for *_, data in state.values())
    path = write_safetensors(tmp_path / "a.safetensors", header_of(state), data)
    code = (
        "from bn_audit.live.target import load_target\n"
        "loaded = load_target(sys.argv[1])\n"
        "print([(e.key, e.shape, e.value) for e in loaded.profile.entries], [n.path for n in loaded.profile.norms])\n"
        "try:\n    loaded.tensors['bn.running_mean']\n"
        "except ImportError as error:\n    print(error)\n"
        "print('numpy' in sys.modules)"
    )
    lines = run(code, str(path)).stdout.splitlines()
    assert lines[0] == "[('bn.running_mean', (2,), None), ('bn.num_batches_tracked', (), 3)] ['bn']"
    assert "bn-audit[torch]" in lines[1]
    assert lines[2] == "False"
