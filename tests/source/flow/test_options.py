"""The defaults of a program's command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from bn_audit.source.flow.options import Options
from bn_audit.source.interpreter.run import Budget, Run
from bn_audit.source.interpreter.values import Const
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


def beside(folder: Path, files: dict[str, str], key: str = "model_args.model") -> list[object]:
    """What the files of settings beside app/main.py say of a key, one by one."""
    for name, text in {"app/main.py": "", **files}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / ".git").mkdir()
    project = Project([str(folder)])
    found = Options(project, lambda *_: [])
    module = project.open(str(folder / "app" / "main.py"))
    with project.outside.apart() as asked:
        first = found.beside(module, key)
    with project.outside.apart() as again:
        assert found.beside(module, key) == first
    assert again == asked, "who is told the same again rests on the same answers"
    return [settings[key] for settings in first]


def setting(name: str) -> str:
    return f"model_args:\n  model: {name}\ntrain_args:\n  rounds: 3\n"


def test_each_file_of_settings_is_a_variant(tmp_path: Path) -> None:
    files = {
        "app/config/b/fedml_config.yaml": setting("resnet56"),
        "app/config/a/deep/fedml_config.yaml": setting("lr"),
        "app/conf/other.yaml": setting("cnn"),
        "app/config/gpu_mapping.yaml": "hosts:\n  one: 1\n",
        "app/data/fedml_config.yaml": setting("not beside it"),
    }
    assert beside(tmp_path, files) == ["lr", "resnet56", "cnn"]


def test_the_nearest_files_of_settings_are_the_variants(tmp_path: Path) -> None:
    files = {"config/fedml_config.yaml": setting("far"), "app/run.yaml": setting("near")}
    assert beside(tmp_path, files) == ["near"]


def test_of_many_programs_each_has_the_settings_that_name_it(tmp_path: Path) -> None:
    programs = {f"app/run_{name}.py": "if __name__ == '__main__': ...\n" for name in ("nlp", "vision", "text")}
    settings = {"app/config/NLP/a.yaml": setting("rnn"), "app/config/main/a.yaml": setting("own")}
    assert beside(tmp_path, programs | settings) == ["own"]


def test_a_client_and_a_server_share_their_settings(tmp_path: Path) -> None:
    programs = {f"app/{name}.py": "if __name__ == '__main__': ...\n" for name in ("client", "server")}
    assert beside(tmp_path, programs | {"app/config/NLP/a.yaml": setting("rnn")}) == ["rnn"]


def test_files_of_settings_without_the_key(tmp_path: Path) -> None:
    files = {"app/run.yaml": "seed: 1\n", "config/fedml_config.yaml": setting("above")}
    assert beside(tmp_path, files) == ["above"]
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("above", "name", "value"),
    [
        ("self.args.model", "name", "resnet"),
        ("config['model']", "name", "resnet"),
        ("model", "name", "resnet"),
        ("config['optimizer']", "name", None),
        ("args", "lr", 0.1),
        (None, "lr", 0.1),
    ],
)
def test_a_name_that_several_sections_have_is_known_by_its_section(above: str | None, name: str, value: object) -> None:
    run = Run(Project(), [], Budget(10))
    run.likely = {"model.name": Const("resnet"), "data.name": Const("mnist"), "lr": Const(0.1)}
    found = run.hint(above, name)
    assert (found.value if found is not None else None) == value
