"""Modules that are imported by a name put together at run time."""

from __future__ import annotations

from pathlib import Path

import pytest

from bn_audit.source.flow.imported import imports_of, picked_in, text_with_holes
from bn_audit.source.flow.index import FileIndex
from bn_audit.source.outside import Outside
from bn_audit.source.project import Project
from bn_audit.source.sources import Sources

FILES = {
    "methods/__init__.py": "",
    "methods/fed_avg.py": "class Helper: pass\nclass FedAvg: pass\n",
    "methods/fedproxserver.py": "class FedproxServer: pass\nclass Other: pass\n",
    "methods/two.py": "class One: pass\nclass Two: pass\nclass Three: pass\nclass Four: pass\n",
    "methods/nets/resnet.py": "class Model: pass\n",
}


def opened(folder: Path, source: str) -> tuple[Project, FileIndex]:
    (folder / ".git").mkdir()
    for name, content in {**FILES, "main.py": source}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    files = [str(folder / name) for name in (*FILES, "main.py")]
    project = Project([str(folder)], Outside(Sources(files, [str(folder)])))
    return project, project.open(str(folder / "main.py")).derive(FileIndex)


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ('"methods." + name', ("methods.", None)),
        ('f"methods.{name}server"', ("methods.", None, "server")),
        ('"methods.{}".format(name)', ("methods.", None, "")),
        ('"%s.%s" % (first, name)', ("", None, ".", None, "")),
        ('"methods." "avg"', ("methods.", "avg")),
        ("name", (None,)),
        ("known", ("methods.", None)),
    ],
)
def test_what_is_written_down_of_a_name(tmp_path: Path, expression: str, text: tuple[str | None, ...]) -> None:
    _, index = opened(tmp_path, f'known = "methods." + which\nfound = {expression}\n')
    row = index.top.bindings["found"][0]
    assert row.value is not None
    assert text_with_holes(index, row.value) == text


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ('"methods." + name', ["fed_avg.py", "fedproxserver.py", "two.py"]),
        ('f"methods.{name}server"', ["fedproxserver.py"]),
        ('f"methods.{name}.resnet"', ["resnet.py"]),
        ('"." + name, package="methods"', ["fed_avg.py", "fedproxserver.py", "two.py"]),
        ('"methods.fed_avg"', []),
        ("name", []),
        ('f"{package}.{name}"', []),
        ('f"torch.{name}"', []),
    ],
)
def test_the_modules_that_may_be_imported(tmp_path: Path, name: str, files: list[str]) -> None:
    project, index = opened(tmp_path, f"import importlib\nmodule = importlib.import_module({name})\n")
    (call,) = index.calls_of("import_module")
    found = imports_of(project, index, call)
    assert [Path(path).name for path, _ in (found.files if found else ())] == files


@pytest.mark.parametrize(
    ("name", "picked"),
    [
        (("FedAvg",), ["FedAvg"]),
        ((None,), ["FedAvg", "FedproxServer", "Two"]),
        ((None, "Server"), ["FedproxServer"]),
    ],
)
def test_the_classes_that_may_be_picked(tmp_path: Path, name: tuple[str | None, ...], picked: list[str]) -> None:
    project, index = opened(tmp_path, 'import importlib\nmodule = importlib.import_module("methods." + name)\n')
    (call,) = index.calls_of("import_module")
    found = imports_of(project, index, call)
    assert found is not None
    assert [node.name.value for _, node in picked_in(project, found, name)] == picked
