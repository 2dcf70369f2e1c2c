"""Whatever a file holds, reading ends soon and quietly, and the other files are judged."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from bn_audit.source.read import ReadOptions, ReadResult, read
from tests.source.hostile import PROGRAMS, programs
from tests.source.projects import IMPORTS, NET, PLAIN, read_project, readings

GOOD = f"{IMPORTS}\n{NET}\nFLModel(model=TorchModel(Net), backend='torch')\n"
SECONDS = 30.0
"""Of processor time: far more than any takes, far less than a hang."""
MEGABYTES = 600


def read_beside_good(files: dict[str, str | bytes], folder: Path) -> ReadResult:
    """Read files and a good one beside them, in bounded time and memory."""
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    result = read_project({**files, "good.py": GOOD}, folder)
    assert time.process_time() - start < SECONDS
    if sys.platform == "linux":  # in kilobytes there
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEGABYTES << 10
    good = [site for site in result.sites if os.path.basename(site.location.path) == "good.py"]
    assert len(good) == 1
    (reading,) = good[0].readings
    assert reading.model is not None
    assert [norm.path for norm in reading.model.norms] == ["bn"]
    return result


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_program(program: str, tmp_path: Path) -> None:
    result = read_beside_good({"train.py": IMPORTS + program}, tmp_path)
    assert result.unreadable == ()
    for reading in readings(result):
        assert reading.model is not None or reading.unresolved is not None


BROKEN: dict[str, str | bytes] = {
    "a syntax error": "def (:\n",
    "an unclosed bracket": "f(" * 50,
    "a thousand brackets": "x = " + "[" * 1000 + "]" * 1000,
    "a hundred thousand brackets": "x = " + "(" * 100_000,
    "a thousand terms of a power": "x = " + "2 ** " * 5000 + "2",
    "a null byte": b"x = 1\0\n",
    "bytes that are not UTF-8": b"x = '\xff\xfe'\n",
    "an unknown encoding": b"# -*- coding: klingon -*-\n",
    "two encodings": b"\xef\xbb\xbf# -*- coding: latin-1 -*-\n",
    "UTF-16": "x = 'FLModel secretflow'\n".encode("utf-16"),
    "Python 2": "print 'hello'\n",
    "bad indentation": "if x:\npass\n",
    "tabs and blanks": "if x:\n\ty = 1\n        z = 2\n",
    "ten megabytes": "x = 1\n" * 1_700_000,
    "ten megabytes in a line": "x = '" + "a" * 10_000_000 + "'\n",
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_broken_file(content: str | bytes, tmp_path: Path) -> None:
    # The trigger stands in the file, so that it is looked into.
    wide = isinstance(content, bytes) and content.startswith((b"\xff\xfe", b"\xfe\xff"))
    data = content.encode() if isinstance(content, str) else content
    result = read_beside_good({"bad.py": data if wide else data + IMPORTS.encode()}, tmp_path)
    (row,) = result.unreadable
    assert os.path.basename(row.location.path) == "bad.py"
    assert row.reason
    assert "\n" not in row.reason


NOTEBOOKS: dict[str, bytes] = {
    "no JSON": b"FLModel secretflow {",
    "empty": b"",
    "a list": b'["FLModel secretflow"]',
    "no cells": b'{"x": "FLModel secretflow"}',
    "cells that are no list": b'{"cells": "FLModel secretflow"}',
    "a cell that is no object": b'{"cells": ["FLModel secretflow"]}',
    "a source that is a number": b'{"cells": [{"cell_type": "code", "source": 3}], "x": "FLModel secretflow"}',
    "deep": b'{"FLModel secretflow": ' + b"[" * 200_000,
    "a number of many digits": b'{"FLModel secretflow": ' + b"1" * 10_000 + b"}",
    "a broken cell": b'{"cells": [{"cell_type": "code", "source": "def (: # FLModel secretflow"}]}',
    "not UTF-8": b'{"cells": [], "x": "FLModel secretflow \xff"}',
}


@pytest.mark.parametrize("content", NOTEBOOKS.values(), ids=NOTEBOOKS)
def test_broken_notebook(content: bytes, tmp_path: Path) -> None:
    result = read_beside_good({"bad.ipynb": content}, tmp_path)
    if content:
        (row,) = result.unreadable
        assert os.path.basename(row.location.path) == "bad.ipynb"
    else:
        assert result.unreadable == ()  # it holds no trigger


def test_large_notebook(tmp_path: Path) -> None:
    image = {"output_type": "display_data", "data": {"image/png": "A" * 20_000_000}}
    cells = [
        {"cell_type": "code", "source": GOOD, "outputs": [image]},
        {"cell_type": "markdown", "source": "FLModel " * 100_000},
    ]
    result = read_beside_good({"large.ipynb": json.dumps({"cells": cells}).encode()}, tmp_path)
    assert len(result.sites) == 2


def test_long_chain_of_imports(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {f"m{n}.py": f"from m{n + 1} import Net\n" for n in range(1000)}
    files["m1000.py"] = NET
    files["train.py"] = f"{IMPORTS}from m0 import Net\nFLModel(model=TorchModel(Net), backend='torch')\n"
    result = read_beside_good(files, tmp_path)
    assert [reading.model is not None for reading in readings(result)] == [True, True]


def test_stars_in_circles(tmp_path: Path) -> None:
    everything = "".join(f"from m{n} import *\n" for n in range(12))
    files: dict[str, str | bytes] = {f"m{n}.py": everything for n in range(12)}
    files["train.py"] = f"{IMPORTS}from m0 import *\nFLModel(model=TorchModel(Net), backend='torch')\n"
    result = read_beside_good(files, tmp_path)
    assert sorted(reading.model is None for reading in readings(result)) == [False, True]


def test_files_that_go_away_or_cannot_be_read(tmp_path: Path) -> None:
    read_project({"good.py": GOOD, "sub/gone.py": GOOD, "sub/plain.py": PLAIN}, tmp_path)
    (tmp_path / "dangling.py").symlink_to(tmp_path / "nowhere.py")
    (tmp_path / "sub" / "loop").symlink_to(tmp_path)
    (tmp_path / "self.py").symlink_to(tmp_path / "self.py")
    os.mkfifo(tmp_path / "pipe.py")
    os.mkfifo(tmp_path / "models.py")
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "uses.py").write_text(f"{IMPORTS}from models import Net\nFLModel(model=TorchModel(Net))\n")

    def progress(done: int, total: int) -> None:
        (tmp_path / "sub" / "gone.py").unlink(missing_ok=True)  # after discovery, before it is read

    result = read([str(tmp_path)], options=ReadOptions(jobs=1), progress=progress)
    names = [os.path.basename(site.location.path) for site in result.sites]
    assert names == ["good.py", "uses.py"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_without_permission(tmp_path: Path) -> None:
    read_project({"good.py": GOOD, "locked/a.py": GOOD, "secret.py": GOOD}, tmp_path)
    (tmp_path / "secret.py").chmod(0)
    (tmp_path / "locked").chmod(0)
    try:
        result = read([str(tmp_path)], options=ReadOptions(jobs=1))
    finally:
        (tmp_path / "locked").chmod(0o700)
    assert len(result.sites) == 1
    assert len(result.problems) == 2


@settings(max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(programs())
def test_random_programs(tmp_path_factory: pytest.TempPathFactory, program: str) -> None:
    folder = tmp_path_factory.mktemp("random")
    start = time.process_time()
    result = read_project({"train.py": IMPORTS + program}, folder)
    assert time.process_time() - start < SECONDS
    assert result.unreadable == ()
    assert read_project({}, folder) == result
