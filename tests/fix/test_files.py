"""A file is old or new, whatever happens; what is not its content stays."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bn_audit.fix import files
from bn_audit.fix.contents import Refused
from bn_audit.fix.files import TEMPORARY, put, take
from bn_audit.source.discovery import discover
from tests.fix.programs import PROGRAM

ROOT = str(Path(__file__).parent.parent.parent)


def test_new_content(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_bytes(b"old")
    put(str(path), take(str(path)), b"new")
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["a.py"]


@pytest.mark.parametrize("mode", [0o644, 0o600, 0o755, 0o664, 0o4755, 0o222 | 0o400])
def test_the_mode_stays(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "a.py"
    path.write_bytes(b"old")
    path.chmod(mode)
    put(str(path), b"old", b"new")
    assert stat.S_IMODE(path.stat().st_mode) == mode


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may give a file away")
def test_the_owner_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_bytes(b"old")
    os.chown(path, 1234, 4321)
    path.chmod(0o4750)
    put(str(path), b"old", b"new")
    status = path.stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (1234, 4321, 0o4750)


def test_an_owner_that_cannot_stay_is_no_reason_to_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.py"
    path.write_bytes(b"old")

    def refuse(*arguments: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "fchown", refuse)
    before = os.stat(path)
    other = os.stat_result((*before[:4], before.st_uid + 1, before.st_gid + 1, *before[6:]))
    with (tmp_path / "b").open("wb") as file:
        files._keep_owner_and_mode(file.fileno(), file.name, other)


def test_a_link_stays_and_its_target_changes(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    target, link = tmp_path / "there" / "a.py", tmp_path / "link.py"
    target.write_bytes(b"old")
    link.symlink_to("there/a.py")
    put(str(link), take(str(link)), b"new")
    assert link.is_symlink()
    assert os.readlink(link) == "there/a.py"
    assert target.read_bytes() == b"new"
    assert sorted(os.listdir(tmp_path)) == ["link.py", "there"]


def refusal(path: Path, old: bytes = b"old") -> str:
    with pytest.raises(Refused) as raised:
        put(str(path), old, b"new")
    return str(raised.value)


def test_what_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    assert refusal(path) == "No such file or directory"
    path.write_bytes(b"other")
    assert refusal(path) == "it has changed since it was read"
    assert path.read_bytes() == b"other"
    path.write_bytes(b"old")
    path.chmod(0o444)
    assert refusal(path) == "it is read-only"
    with pytest.raises(Refused, match="read-only"):
        take(str(path))
    path.chmod(0o644)
    path.unlink()
    path.mkdir()
    assert refusal(path) in ("Is a directory", "not a regular file")


def test_a_change_while_the_new_content_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.py"
    path.write_bytes(b"old")
    flush = os.fsync

    def meddle(descriptor: int) -> None:
        flush(descriptor)
        path.write_bytes(b"somebody else's")

    monkeypatch.setattr(os, "fsync", meddle)
    assert refusal(path) == "it has changed since it was read"
    assert path.read_bytes() == b"somebody else's"
    assert os.listdir(tmp_path) == ["a.py"]


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.py"
    path.write_bytes(b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert refusal(path) == "No space left on device"
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.py"]


def test_an_interrupt_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.py"
    path.write_bytes(b"old")

    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        put(str(path), b"old", b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.py"]


WRITER = """\
import os, sys
from bn_audit.fix.files import put

contents = [letter * 2_000_000 for letter in (b"a", b"b")]
print("ready", flush=True)
number = 0
while True:
    for path in sys.argv[1:]:
        put(path, contents[number % 2], contents[(number + 1) % 2])
    number += 1
"""


def test_killed_at_any_moment(tmp_path: Path) -> None:
    """A process that does nothing but replace files, killed again and again."""
    paths = [tmp_path / "a.py", tmp_path / "b.py"]
    letters = (b"a", b"b")
    for moment in range(15):
        for path in paths:
            path.write_bytes(letters[0] * 2_000_000)
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, *map(str, paths)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": ROOT},
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.0023 * moment)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        process.stdout.close()
        for path in paths:
            data = path.read_bytes()
            assert data in [letter * 2_000_000 for letter in letters], f"{path} is half written"
        left = {path for path in tmp_path.iterdir() if path not in paths}
        assert all(path.name.startswith(TEMPORARY) for path in left)
        assert discover([str(tmp_path)]).files == tuple(str(path) for path in paths)
        for path in left:
            path.unlink()


def test_fix_killed_at_any_moment(tmp_path: Path) -> None:
    """The command itself, from its first import to its last write: every file is the old one or the new one."""
    names = [f"train{number}.py" for number in range(4)]
    old = PROGRAM.encode()
    new = old.replace(b'    backend="torch",\n)', b'    backend="torch",\n    skip_bn=True,\n)')
    command = [sys.executable, "-m", "bn_audit", "scan", "--fix", "--jobs", "1", "--isolated", "."]
    environment = {**os.environ, "PYTHONPATH": ROOT}
    seen: set[tuple[bool, ...]] = set()

    def start() -> subprocess.Popen[bytes]:
        for name in names:
            (tmp_path / name).write_bytes(old)
        return subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    begun = time.monotonic()
    assert start().wait() == 0
    whole = time.monotonic() - begun
    assert all((tmp_path / name).read_bytes() == new for name in names)
    for moment in range(10):
        process = start()
        # The writing is a short stretch near the end: kill there as soon as the first file is the new one.
        deadline = time.monotonic() + whole * 3
        if moment % 2:
            while time.monotonic() < deadline and (tmp_path / names[0]).read_bytes() == old and process.poll() is None:
                pass
            time.sleep(0.0005 * moment)
        else:
            time.sleep(whole * moment / 10)
        process.kill()
        process.wait()
        state = []
        for name in names:
            data = (tmp_path / name).read_bytes()
            assert data in (old, new)
            state.append(data == new)
        seen.add(tuple(state))
        for left in tmp_path.glob(f"{TEMPORARY}*"):
            left.unlink()
    assert len(seen) > 1


def test_a_whole_file_is_written(tmp_path: Path) -> None:
    path, link = tmp_path / "report.json", tmp_path / "link.json"
    files.write(str(path), b"old")
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask
    path.chmod(0o640)
    link.symlink_to(path)
    files.write(str(link), b"new")
    assert link.is_symlink()
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"new", 0o640)
    assert sorted(os.listdir(tmp_path)) == ["link.json", "report.json"]


def test_what_cannot_be_written_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(b"old")

    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    for step in ("fsync", "replace"):
        with monkeypatch.context() as patched:
            patched.setattr(os, step, fail)
            with pytest.raises(OSError, match="No space left"):
                files.write(str(path), b"new")
        assert path.read_bytes() == b"old"
        assert os.listdir(tmp_path) == ["report.json"]
    with pytest.raises(OSError):
        files.write(str(tmp_path / "missing" / "report.json"), b"new")
    with pytest.raises(OSError):
        files.write(str(tmp_path), b"new")


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    files.write(os.devnull, b"gone")
    assert not stat.S_ISREG(os.stat(os.devnull).st_mode)
    command = "from bn_audit.fix.files import write; write('/dev/stdout', b'seen')"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, cwd=ROOT)
    assert (done.stdout, done.stderr) == (b"seen", b"")
