"""How much a scan does, in files opened, bytes read, files parsed and modules imported: numbers that are the same on
any machine, so that a step back in speed is seen where seconds would only be noise."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from bn_audit.source.signature import MARGIN
from tests.cli.conftest import MODELS, TRAIN

PROBE = """
import json, os, sys

folder, opened, parsed = os.getcwd() + os.sep, [], []

def hook(event, arguments):
    if event == "open" and isinstance(arguments[0], str):
        path = os.path.abspath(arguments[0])
        if path.startswith(folder) and ".bn-audit_cache" not in path:
            opened.append(path[len(folder):])

sys.addaudithook(hook)
from bn_audit.cli import run

class Watcher:
    def find_spec(self, name, path=None, target=None):
        if name == "bn_audit.source.project":
            import bn_audit.source.parse as module
            original = module.parse
            def parse(path, data, **options):
                parsed.append(path[len(folder):])
                return original(path, data, **options)
            module.parse = parse
        return None

sys.meta_path.insert(0, Watcher())
status = run(sys.argv[1:])
ours = [name for name in sys.modules if name.partition(".")[0] == "bn_audit"]
print("\\n" + json.dumps([status, opened, parsed, len(ours), len(sys.modules)]))
"""
PLAIN = "import os\n\n\ndef work(values):\n    return [value + 1 for value in values]\n"
ROOT = Path(__file__).parent.parent.parent


class Work(NamedTuple):
    """What a scan did. ``opened`` and ``parsed`` are files of the project, each as often as it happened."""

    status: int
    opened: Counter[str]
    parsed: Counter[str]
    ours: int
    modules: int

    def bytes(self) -> int:
        """Read, if each file that was opened was read whole."""
        return sum(os.path.getsize(path) * count for path, count in self.opened.items() if os.path.isfile(path))


def work(*arguments: str) -> Work:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command: Sequence[str] = [sys.executable, "-c", PROBE, "scan", "--jobs", "1", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    status, opened, parsed, ours, modules = json.loads(done.stdout.splitlines()[-1])
    return Work(status, Counter(opened), Counter(parsed), ours, modules)


@pytest.fixture
def large(project: Path) -> Path:
    """200 files without a trigger, five federations with one model, and one that combines states by hand."""
    for number in range(200):
        folder = project / f"package{number % 10}"
        folder.mkdir(exist_ok=True)
        (folder / f"module{number}.py").write_text(PLAIN, encoding="utf-8")
    for number in range(4):
        (project / f"train{number}.py").write_text(TRAIN, encoding="utf-8")
    return project


def test_a_cold_scan(large: Path) -> None:
    cold = work()
    assert cold.status == 1
    # Parsed is what has to do with a federation, and what a trail leads to; each once.
    assert cold.parsed == Counter({"models.py": 1, "train.py": 1, **{f"train{number}.py": 1 for number in range(4)}})
    plain = {path: count for path, count in cold.opened.items() if path.startswith("package")}
    assert len(plain) == 200 and set(plain.values()) == {1}
    total = sum(path.stat().st_size for path in large.rglob("*.py"))
    looked = sum((large / path).stat().st_size for path in cold.parsed)
    # To search it, to tell what it is, to parse it, to find comments in it, and to show it.
    assert cold.bytes() <= total + 6 * looked
    assert sum(cold.opened.values()) <= 206 + 6 * len(cold.parsed) + 10


def test_a_warm_scan(large: Path) -> None:
    """Nothing is parsed, and what has no trigger is not opened."""
    time.sleep(MARGIN / 1e9 + 0.1)  # what was touched a moment ago is not trusted
    cold = work()
    warm = work()
    assert (warm.status, warm.parsed) == (cold.status, Counter())
    assert [path for path in warm.opened if path.startswith("package")] == []
    # To find comments in them and to show them.
    assert sum(count for path, count in warm.opened.items() if path.endswith(".py")) <= 3 * 6


def test_ten_times_the_files_are_ten_times_the_work(large: Path) -> None:
    one = work("--no-cache")
    for number in range(10):
        for path in list(large.glob("*.py")):
            copy = large / f"copy{number}" / path.name
            copy.parent.mkdir(exist_ok=True)
            copy.write_bytes(path.read_bytes())
    eleven = work("--no-cache")
    assert sum(eleven.parsed.values()) == 11 * sum(one.parsed.values()) > 0
    assert eleven.bytes() - one.bytes() <= 10 * 1.1 * sum(
        count * os.path.getsize(path) for path, count in one.opened.items() if "/" not in path and os.path.isfile(path)
    )
    assert eleven.modules == one.modules


def test_a_chain_of_imports(project: Path) -> None:
    """Each file of it is parsed once, however long it is."""
    for number in range(60):
        (project / f"m{number}.py").write_text(f"from m{number + 1} import Net\n", encoding="utf-8")
    (project / "m60.py").write_text(MODELS, encoding="utf-8")
    (project / "train.py").write_text(TRAIN.replace("from models", "from m0"), encoding="utf-8")
    done = work("--no-cache")
    assert set(done.parsed.values()) == {1}
    assert len(done.parsed) == 62


@pytest.mark.parametrize(
    ("name", "content", "ours", "modules"), [("plain.py", PLAIN, 30, 145), ("train.py", TRAIN, 180, 400)]
)
def test_modules_that_are_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: str, ours: int, modules: int
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_text(content, encoding="utf-8")
    done = work("--no-cache")
    assert (done.ours <= ours, done.modules <= modules) == (True, True), (done.ours, done.modules)
