"""Finding triggers in bytes."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bn_audit.source.prefilter import mentions, screen, triggers_in
from tests.source.conftest import Tree

TRIGGERS = (b"FLModel", b"BatchNorm")


def test_screen(tree: Tree) -> None:
    tree(
        {
            "a.py": "from secretflow.ml.nn import FLModel\n",
            "b.py": "x = 1\n",
            "c.py": "nn.BatchNorm2d(3); FLModel()\n",
            "d.ipynb": '{"cells": [{"source": ["FLModel(\\n"]}]}',
            "e.py": "FLModel()\n".encode("utf-16"),
            "f.py": "",
        }
    )
    seen: list[tuple[int, int]] = []
    files = ("a.py", "b.py", "c.py", "d.ipynb", "e.py", "f.py", "gone.py")
    result = screen(files, TRIGGERS, lambda done, total: seen.append((done, total)))
    assert result.hits == {
        "a.py": (b"FLModel",),
        "c.py": (b"FLModel", b"BatchNorm"),
        "d.ipynb": (b"FLModel",),
        "e.py": (b"FLModel",),
    }
    assert result.problems == ("gone.py: No such file or directory",)
    assert seen[0] == (0, 7)
    assert seen[-1] == (7, 7)


def test_many_files_are_shared_by_processes(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    tree({f"{number:02}.py": "FLModel()" if number % 3 else "BatchNorm" for number in range(20)})
    files = ["gone.py", *(f"{number:02}.py" for number in range(20)), "lost.py"]
    alone = screen(files, TRIGGERS)
    monkeypatch.setattr("bn_audit.source.prefilter._MANY", 20)
    seen: list[tuple[int, int]] = []
    shared = screen(files, TRIGGERS, lambda done, total: seen.append((done, total)), 3)
    assert shared == alone
    assert list(shared.hits) == list(alone.hits)
    assert seen == [(22, 22)]


def test_the_buffer_of_the_last_file_is_not_searched(tree: Tree) -> None:
    tree({"long.py": "# " + "x" * 100 + "FLModel", "short.py": "#"})
    assert screen(("long.py", "short.py"), TRIGGERS).hits == {"long.py": (b"FLModel",)}


@given(before=st.integers(0, 40), block=st.integers(9, 24), needle=st.sampled_from([*TRIGGERS, b"".join(TRIGGERS)]))
def test_triggers_across_blocks(
    tmp_path_factory: pytest.TempPathFactory, before: int, block: int, needle: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "blocks.py"
    path.write_bytes(b"." * before + needle + b"." * (40 - before))
    expected = tuple(trigger for trigger in TRIGGERS if trigger in needle)
    assert triggers_in(str(path), TRIGGERS, bytearray(block)) == expected


def test_fifo_is_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.py")
    problems = screen((str(tmp_path / "pipe.py"),), TRIGGERS).problems
    assert problems == (f"{tmp_path / 'pipe.py'}: not a regular file",)


def test_mentions_are_whole_words() -> None:
    data = "FLModel(x); SubFLModel; FLModels; éFLModel; a.skip_bn=1; FLModelX".encode()
    assert mentions(data, ["FLModel", "skip_bn", "model"]) == {"FLModel", "skip_bn"}
    assert mentions(b"FLModels", ["FLModel"]) == frozenset()
    assert mentions(b"ab abc", ["ab", "abc"]) == {"ab", "abc"}
    assert mentions(b"anything", []) == frozenset()


@pytest.mark.parametrize("module", ["prefilter", "discovery", "parse", "positions"])
def test_import_is_light(module: str) -> None:
    code = f"import bn_audit.source.{module}, sys; print({{'libcst', 'pathspec', 'rich', 'torch'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_memory_is_flat(tmp_path: Path) -> None:
    path = tmp_path / "large.ipynb"
    path.write_bytes(b" " * (8 << 20) + b"FLModel")
    tracemalloc.start()
    try:
        assert screen((str(path),), TRIGGERS).hits == {str(path): (b"FLModel",)}
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()
