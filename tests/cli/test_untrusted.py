"""A scan of a project that nobody trusts: nothing of it runs, nothing but it is opened, nothing but the cache is
written, and nobody is called.

What Python itself opens (its own modules and ours) is told from the rest by where it lies.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import bn_audit
from tests.cli.conftest import MODELS, TRAIN

ROOT = Path(bn_audit.__file__).parent.parent
MARK = "raise SystemExit(open('ran', 'w').close())\n"
"""What no scan may run."""
STRAY = (
    *("conftest.py", "setup.py", "sitecustomize.py", "usercustomize.py", "noxfile.py", "__init__.py", "__main__.py"),
    *(
        "torch.py",
        "numpy.py",
        "click.py",
        "libcst.py",
        "rich.py",
        "secretflow.py",
        "tomllib.py",
        "json.py",
        "hashlib.py",
    ),
    "multiprocessing/__init__.py",
)
HOOK = """
import os, sys
log = os.open(os.environ.pop("AUDIT_LOG"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
EVENTS = ("open", "os.", "socket.", "subprocess.", "shutil.", "tempfile.", "exec", "ftplib.", "http.", "urllib.")

def hook(event, arguments):
    if event.startswith(EVENTS) or event == "import":
        code = arguments[0].co_filename if event == "exec" else ""
        shown = [code] if event == "exec" else [a if isinstance(a, (str, int)) else repr(a) for a in arguments]
        os.write(log, (__import__("_json").encode_basestring_ascii(repr([event, *shown])) + "\\n").encode())

import _json
sys.addaudithook(hook)
"""


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A federation with one finding, among files that must not run."""
    folder = tmp_path / "hostile"
    (folder / ".git").mkdir(parents=True)
    (folder / "multiprocessing").mkdir()
    for name in STRAY:
        (folder / name).write_text(MARK, encoding="utf-8")
    for number in range(3):
        (folder / f"train{number}.py").write_text(TRAIN, encoding="utf-8")
    (folder / "models.py").write_text(MODELS + MARK, encoding="utf-8")
    (folder / "pyproject.toml").write_text("[project]\nname = 'x'\n[tool.bn-audit]\nfail-on = 'info'\n", "utf-8")
    (folder / "requirements.txt").write_text("torch==2.2.0\n-r /etc/passwd\n--index-url http://127.0.0.1:9\n", "utf-8")
    (folder / ".gitignore").write_text("*a" * 60 + "b\n", encoding="utf-8")
    monkeypatch.chdir(folder)
    return folder


def finished(folder: Path, done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stderr == ""
    found = re.findall(r"^(\w+)\.py:9:12: BNA101", done.stdout, re.MULTILINE)
    assert found == ["train0", "train1", "train2"]
    assert not (folder / "ran").exists()


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_nothing_of_the_project_runs(hostile: Path, jobs: str) -> None:
    """By ``python -m``, for which Python puts the working directory first on its path; PYTHONPATH names it not."""
    command = [sys.executable, "-m", "bn_audit", "scan", "--jobs", jobs, "--output-format", "concise"]
    finished(hostile, subprocess.run(command, capture_output=True, text=True, check=False, env=environment()))


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}


def is_pythons(path: str) -> bool:
    """Whether a path is of Python, or of what is installed beside it."""
    places = {*map(os.path.realpath, (sys.prefix, sys.base_prefix, ROOT, *sys.path[1:]))} - {""}
    real = os.path.realpath(path)
    return any(real == place or real.startswith(place + os.sep) for place in places) and "hostile" not in real


def test_what_a_scan_does_to_the_outside(hostile: Path, tmp_path: Path) -> None:
    (tmp_path / "hook.py").write_text(HOOK + "from bn_audit.cli import main\nmain()\n", encoding="utf-8")
    log = tmp_path / "log"
    command = [sys.executable, str(tmp_path / "hook.py"), "scan", "--jobs", "1", "--output-format", "concise"]
    env = {**environment(), "AUDIT_LOG": str(log)}
    finished(hostile, subprocess.run(command, capture_output=True, text=True, check=False, env=env))
    import ast

    events = [ast.literal_eval(json.loads(line)) for line in log.read_text(encoding="ascii").splitlines()]
    kinds = {event[0] for event in events}
    assert {"open", "import", "exec", "os.scandir"} <= kinds
    assert kinds <= {
        "open",
        "import",
        "exec",
        "os.scandir",
        "os.listdir",
        "os.walk",
        "os.mkdir",
        "os.rename",
        "os.utime",
    }
    imported = {event[1].split(".")[0] for event in events if event[0] == "import"}
    assert not imported & {"torch", "numpy", "conftest", "setup", "models", "secretflow"}
    assert not [event for event in events if event[0] == "exec" and event[1][:1] != "<" and not is_pythons(event[1])]
    read, written = set(), set()
    for event in events:
        if event[0] == "open" and isinstance(event[1], str):
            path = os.path.realpath(event[1])
            mode, flags = event[2], event[3]
            writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) or any(letter in str(mode) for letter in "wax+")
            (written if writes else read).add(path)
        elif event[0] in ("os.mkdir", "os.rename", "os.utime"):
            written |= {os.path.realpath(path) for path in event[1:3] if isinstance(path, str) and os.path.isabs(path)}
    cache = str(hostile / ".bn-audit_cache")
    assert [path for path in written if path != cache and not path.startswith(cache + os.sep)] == []
    assert any(path.endswith(".json.part") or ".json." in path for path in written)
    above = {os.path.join(folder, name) for folder in (*map(str, hostile.parents),) for name in SETTINGS}
    others = {path for path in read if not is_pythons(path) and path != str(tmp_path / "hook.py")}
    below = {path for path in others if path.startswith(str(hostile) + os.sep)}
    assert {path for path in others - below - above if re.fullmatch(r"/proc/\d+/(statm|maps)", path) is None} == set()
    names = {os.path.relpath(path, hostile) for path in below if not path.startswith(cache)}
    looked = {name for name in STRAY if name.endswith(".py")} | {"train0.py", "train1.py", "train2.py", "models.py"}
    assert names <= looked | {"pyproject.toml", "requirements.txt", ".gitignore"} | {".git/info/exclude"} | PINS


SETTINGS = ("pyproject.toml", "bn-audit.toml", ".gitignore", ".ignore", "requirements.txt")
PINS = {"uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock", "setup.cfg", "Pipfile", ".git", "multiprocessing", "."}


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_what_the_kernel_is_asked_for(hostile: Path, tmp_path: Path, jobs: str) -> None:
    log = tmp_path / "trace"
    calls = "trace=openat,open,creat,socket,connect,execve,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat"
    arguments = ["scan", "--jobs", jobs, "--output-format", "concise"]
    traced = ["strace", "-f", "-qq", "-s", "300", "-e", calls, "-o", str(log)]
    probe = subprocess.run([*traced, "true"], capture_output=True, text=True, check=False)
    if probe.returncode:
        pytest.skip(f"strace may not trace here: {probe.stderr.strip()}")
    command = [*traced, sys.executable, "-m", "bn_audit", *arguments]
    finished(hostile, subprocess.run(command, capture_output=True, text=True, check=False, env=environment()))
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    assert [line for line in lines if "socket(" in line or "connect(" in line] == []
    # Python has the C library's tools look for libraries; a scan starts no program but itself.
    assert [line for line in lines if "execve(" in line and "bn_audit" not in line] == []
    cache = str(hostile / ".bn-audit_cache")
    written = set()
    for line in lines:
        if "= -1" in line or "execve(" in line:
            continue
        paths = re.findall(r'"((?:[^"\\]|\\.)*)"', line)
        if "openat(" in line and not re.search(r"O_WRONLY|O_RDWR|O_CREAT", line):
            continue
        written |= {os.path.join(hostile, path) for path in paths}
    ours = {path for path in written if path == cache or path.startswith(cache + os.sep)}
    # Two processes talk by semaphores, which the C library keeps in /dev/shm and unlinks at once.
    others = {path for path in written - ours if not re.match(r"/dev/(shm/|null$)", path)}
    assert ours and others == set()


FILES = {
    "a FIFO": os.mkfifo if hasattr(os, "mkfifo") else None,
    "a socket": lambda path: socket.socket(socket.AF_UNIX).bind(os.path.relpath(path)),
    "a device": lambda path: os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 5)),
    "a link to a device": lambda path: os.symlink("/dev/zero", path),
    "a link to itself": lambda path: os.symlink(os.path.basename(path), path),
    "a link to nothing": lambda path: os.symlink("nothing", path),
    "a folder": os.mkdir,
}
PLACES = (
    *("other.py", "data.ipynb", ".gitignore", ".ignore", ".git/info/exclude", ".bn-audit_cache", "../.git"),
    *("requirements.txt", "uv.lock", "poetry.lock", "Pipfile.lock", "setup.cfg", "Pipfile"),
)


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.skipif(os.name == "nt", reason="there are no such files")
def test_files_of_other_kinds(hostile: Path, kind: str) -> None:
    """In every place where a scan looks for a file; one that is opened without care would be waited for forever."""
    make = FILES[kind]
    assert make is not None
    for name in (".gitignore", "requirements.txt"):
        (hostile / name).unlink()
    (hostile / ".git" / "info").mkdir()
    for place in PLACES:
        try:
            make(os.path.join(hostile, place))
        except PermissionError:
            pytest.skip(f"{kind} cannot be made here")
    command = [sys.executable, "-m", "bn_audit", "scan", "--output-format", "concise"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment(), timeout=60)
    finished(hostile, done)


@pytest.mark.parametrize("place", ["pyproject.toml", "bn-audit.toml", ".git"])
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no FIFOs")
def test_a_fifo_in_place_of_settings(hostile: Path, place: str) -> None:
    path = hostile / place
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    os.mkfifo(path)
    command = [sys.executable, "-m", "bn_audit", "scan", "--output-format", "concise"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment(), timeout=60)
    finished(hostile, done)


def test_a_mark_of_the_cache_that_leads_elsewhere(hostile: Path, tmp_path: Path) -> None:
    """A repository brings a cache along, in which what we would write is a link to a file of the user's."""
    victim = tmp_path / "victim"
    command = [sys.executable, "-m", "bn_audit", "scan", "--output-format", "concise"]
    subprocess.run(command, capture_output=True, check=False, env=environment())
    for name in (".gitignore", "CACHEDIR.TAG"):
        mark = hostile / ".bn-audit_cache" / name
        mark.unlink()
        mark.symlink_to(victim)
        finished(hostile, subprocess.run(command, capture_output=True, text=True, check=False, env=environment()))
        assert not victim.exists()
        mark.unlink()
        mark.write_text("Signature: 8a477f597d28d172789f06886806bc55\n", encoding="ascii")


def test_a_line_of_20_megabytes(hostile: Path) -> None:
    """Beside and among what is looked for."""
    line = b"x = '" + b"a" * 20_000_000 + b"'\n"
    (hostile / "long.py").write_bytes(line)
    (hostile / "train0.py").write_bytes(TRAIN.encode() + line)
    command = [sys.executable, "-m", "bn_audit", "scan", "--output-format", "concise", "--no-cache"]

    def limit() -> None:
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
        signal.signal(signal.SIGXCPU, signal.SIG_DFL)

    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment(), preexec_fn=limit)
    assert done.returncode == 1
    assert "train0.py:1:1: BNA901" in done.stdout and "more than the 2,000,000 that are parsed" in done.stdout
    assert "train1.py:9:12: BNA101" in done.stdout and "train2.py:9:12: BNA101" in done.stdout
