"""Where torch is missing: what needs it says which extra brings it, and safetensors are read all the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from bn_audit.extras import install
from tests.live.files import header_of, write_safetensors

ROOT = Path(__file__).parents[2]


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run code in an interpreter without torch."""
    script = f"import sys\nsys.modules['torch'] = None\n{code}"
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


def test_importing_says_what_is_missing() -> None:
    """Of every module but the engines, which are imported when a model is there: it does without torch, or says so."""
    engines = {"installed", "ray_simulation", "secretflow_aggregation", "wheel"}
    code = (
        "import importlib, pkgutil\n"
        "import bn_audit.live\n"
        "from bn_audit.extras import MissingExtra\n"
        "names = [one.name for one in pkgutil.walk_packages(bn_audit.live.__path__, 'bn_audit.live.')]\n"
        f"names = [name for name in names if name.rpartition('.')[2] not in {sorted(engines)}]\n"
        "for name in [*names, 'bn_audit.federated', 'bn_audit.federated.monitor', 'bn_audit.federated.secretflow']:\n"
        "    try:\n        importlib.import_module(name)\n"
        "    except MissingExtra as error:\n        print(name, error)\n"
    )
    done = run(code)
    assert done.stderr == ""
    said = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert set(said.values()) == {f"this needs PyTorch, which is not installed: {install('torch')}"}
    assert {"bn_audit.live.verify", "bn_audit.live.profile", "bn_audit.federated"} <= set(said)


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
    assert done.stdout.count(install("torch")) == 3


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
    assert install("torch") in lines[1]
    assert lines[2] == "False"
