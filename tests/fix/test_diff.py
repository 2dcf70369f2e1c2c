"""Diffs that git takes, whatever the line ends and the names."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bn_audit.fix.diff import unified_diff

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")


def git(folder: Path, *arguments: str, given: bytes = b"") -> None:
    done = subprocess.run(["git", *arguments], cwd=folder, input=given, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


def applied(folder: Path, name: str, old: bytes, new: bytes) -> bytes:
    """A file after ``git apply`` of its diff."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(old)
    diff = b"".join(unified_diff(name, old, new))
    git(folder, "apply", "-", given=diff)
    return path.read_bytes()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"a\nb\nc\n", b"a\nB\nc\n"),
        (b"a\nb", b"a\nb, c"),
        (b"a\nb", b"a\nb\n"),
        (b"a\nb\n", b"a\nb"),
        (b"a\r\nb\r\nc", b"a\r\nb,\r\nx\r\nc"),
        (b"a\rb\rc\r", b"a\rb\rx\rc\r"),
        (b"a\x0cb\n\x1c\x85\xe2\x80\xa8c\n", b"a\x0cb\nx\n\x1c\x85\xe2\x80\xa8c\n"),
        (b"\xff\xfe\n", b"\xff\xfd\n"),
        (b"\xef\xbb\xbfa\n", b"\xef\xbb\xbfb\n"),
    ],
)
def test_line_ends_and_bytes(tmp_path: Path, old: bytes, new: bytes) -> None:
    git(tmp_path, "init", "-q")
    assert applied(tmp_path, "a.py", old, new) == new


@pytest.mark.parametrize(
    "name",
    ["a.py", "with space.py", "a b/c d.py", "größe/模型.py", 'quo"te.py', "back\\slash.py", "tab\t.py", "a\nb.py"],
)
def test_names(tmp_path: Path, name: str) -> None:
    git(tmp_path, "init", "-q")
    assert applied(tmp_path, name, b"a\n", b"b\n") == b"b\n"


def test_below_the_root_of_a_repository(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    folder = tmp_path / "src"
    folder.mkdir()
    assert applied(folder, "a.py", b"a\n", b"b\n") == b"b\n"


def test_no_change_is_no_diff() -> None:
    assert list(unified_diff("a.py", b"a\n", b"a\n")) == []


@settings(max_examples=30, deadline=None)
@given(*[st.lists(st.sampled_from(["a", "b", "\n", "\r\n", "\r", "é", ""]), max_size=12) for _ in range(2)])
def test_any_change(tmp_path_factory: pytest.TempPathFactory, old: list[str], new: list[str]) -> None:
    before, after = "".join(old).encode(), "".join(new).encode()
    if not before or not after or before == after:
        return
    folder = tmp_path_factory.mktemp("diff")
    git(folder, "init", "-q")
    assert applied(folder, "a.py", before, after) == after
