"""The defaults of a program's command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bn_audit.source.flow.options import Options
from bn_audit.source.project import Project, PyModule


def options(folder: Path, files: dict[str, str]) -> dict[str, object]:
    """What the options of main.py are by default; the other files are found by whoever looks for them."""
    for name, text in files.items():
        (folder / name).write_text(text)
    project = Project()

    def finder(name: str, module: PyModule, using: str = "call") -> Sequence[str]:
        return [str(folder / other) for other in files if other != "main.py"] if name == "add_argument" else []

    found = Options(project, finder).of(project.open(str(folder / "main.py")))
    return {name: value.value for name, value in found.items()}


def test_names_and_defaults(tmp_path: Path) -> None:
    text = """\
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("-m", "--model-name", default="resnet18")
parser.add_argument("--arch", dest="architecture", default="vgg")
parser.add_argument("--norm", choices=["batch", "group"])
parser.add_argument("--bn", action="store_true")
parser.add_argument("--no-bias", action="store_false", dest="bias")
parser.add_argument("--lr", type=float, default=0.1)
parser.add_argument("--layers", nargs="+", default=[1, 2])
parser.add_argument("--seed", default=make_seed())
parser.add_argument("data")
"""
    assert options(tmp_path, {"main.py": text}) == {
        "model_name": "resnet18",
        "architecture": "vgg",
        "norm": "batch",
        "bn": False,
        "bias": True,
        "lr": 0.1,
    }


def test_a_file_is_asked_before_others(tmp_path: Path) -> None:
    files = {
        "main.py": "parser.add_argument('--model', default='own')\n",
        "options.py": "parser.add_argument('--model', default='other')\nparser.add_argument('--n', default=3)\n",
        "broken.py": "parser.add_argument(\n",
    }
    assert options(tmp_path, files) == {"model": "own", "n": 3}
