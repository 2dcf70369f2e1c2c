"""TARGETs: what they may be, and what is said of those that are none."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from bn_audit.live.errors import TargetError
from bn_audit.live.profile import profile, profile_of_state
from bn_audit.live.target import CheckpointTarget, CodeTarget, load_target, parse_target
from tests.live.models import Net

SOURCE = '''\
import functools
from dataclasses import dataclass

import torch
from torch import nn

import helper


class Net(nn.Module):
    """With a part from another file beside this one."""

    class Inner(nn.BatchNorm1d):
        def __init__(self):
            super().__init__(3)

    def __init__(self, width=4, kind="batch"):
        super().__init__()
        self.fc = nn.Linear(2, width)
        self.bn = helper.norm(kind, width)


@dataclass
class TorchModel:
    model_fn: object
    kwargs: dict


class Namespace:
    net = Net(5)

    @property
    def broken(self):
        return self.nothing_of_the_kind


def factory():
    print("building")
    return Net(6)


def needs(width):
    return Net(width)


def raises(depth=3):
    if depth:
        return raises(depth - 1)
    raise ValueError("no such\\nwidth")


def chained():
    try:
        raises(0)
    except ValueError as error:
        raise KeyError("outer") from error


def leaves():
    raise SystemExit(3)


def itself():
    return itself


def gives_tuple():
    return Net(), 3


def gives_nothing():
    pass


def fork():
    import late
    return late.build()


instance = Net(7)
partial = functools.partial(Net, width=8)
sf_model = TorchModel(Net, {"width": 9})
sf_nested = TorchModel(factory, {})
state = Net(3).state_dict()
nested = {"epoch": 3, "model": state}
number = 7
namespace = Namespace()
gives_class = lambda: Net
exported = torch.export.export(nn.Sequential(nn.BatchNorm1d(3)).eval(), (torch.randn(2, 3),))


class Keras:
    def get_weights(self):
        return []

    def __call__(self, x):
        raise AssertionError


keras = Keras()


class Odd(nn.Module):
    def state_dict(self, *args, **kwargs):
        raise RuntimeError("not today")
'''


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with ``net.py``, which imports ``helper.py`` beside it, as the working directory."""
    (tmp_path / "net.py").write_text(SOURCE)
    (tmp_path / "helper.py").write_text(
        "from torch import nn\n\ndef norm(kind, width):\n"
        "    return {'batch': nn.BatchNorm1d, 'layer': nn.LayerNorm}[kind](width)\n"
    )
    (tmp_path / "late.py").write_text("import net\n\ndef build():\n    return net.Net(11)\n")
    package = tmp_path / "pack" / "sub"
    package.mkdir(parents=True)
    (tmp_path / "pack" / "__init__.py").write_text("")
    (package / "__init__.py").write_text("")
    (package / "model.py").write_text("from .part import Part as Model\n")
    (package / "part.py").write_text("from torch.nn import BatchNorm2d\n\ndef Part():\n    return BatchNorm2d(3)\n")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = dict(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - set(before):
        if name.partition(".")[0] in ("net", "helper", "late", "pack", "types_") or "bn_audit_target" in name:
            del sys.modules[name]


@pytest.mark.parametrize(
    ("attribute", "width"),
    [
        ("Net", 4),
        ("factory", 6),
        ("instance", 7),
        ("partial", 8),
        ("sf_model", 9),
        ("sf_nested", 6),
        ("gives_class", 4),
        ("Namespace.net", 5),
        ("namespace.net", 5),
        ("fork", 11),
    ],
)
def test_what_an_attribute_may_be(project: Path, attribute: str, width: int) -> None:
    loaded = load_target(f"{project}/net.py:{attribute}")
    assert loaded.profile.type == "Net" and loaded.module is not None
    assert loaded.profile == profile(loaded.module)
    assert loaded.profile.norms[0].features == width
    assert list(loaded.tensors) == [entry.key for entry in loaded.profile.entries]
    assert loaded.notes == ()


def test_a_class_in_a_class(project: Path) -> None:
    assert load_target(f"{project}/net.py:Net.Inner").profile.norms[0].features == 3


def test_an_exported_program(project: Path) -> None:
    loaded = load_target(f"{project}/net.py:exported")
    assert [(norm.path, norm.type) for norm in loaded.profile.norms] == [("0", "BatchNorm1d")]


@pytest.mark.parametrize("attribute", ["Net", "needs", "partial", "sf_model"])
def test_arguments(project: Path, attribute: str) -> None:
    loaded = load_target(f"{project}/net.py:{attribute}", {"width": 12})
    assert loaded.profile.norms[0].features == 12


def test_arguments_of_any_kind(project: Path) -> None:
    assert load_target(f"{project}/net.py:Net", {"kind": "layer"}).profile.norms == ()


def test_a_state_dict_in_code(project: Path) -> None:
    loaded = load_target(f"{project}/net.py:state")
    assert loaded.module is None and loaded.profile == profile_of_state(loaded.tensors)
    nested = load_target(f"{project}/net.py:nested")
    assert nested.profile == loaded.profile and nested.notes == ("the state dict at 'model' was taken",)
    assert load_target(f"{project}/net.py:nested", key="model").profile == loaded.profile
    with pytest.raises(TargetError, match="no state dict at 'ema'"):
        load_target(f"{project}/net.py:nested", key="ema")


def test_on_meta(project: Path) -> None:
    loaded = load_target(f"{project}/net.py:Net", meta=True)
    assert all(tensor.is_meta for tensor in loaded.tensors.values())
    assert loaded.notes == ()
    loaded = load_target(f"{project}/net.py:instance", meta=True)
    assert loaded.notes == ("--meta has no effect on what was built when its module was imported",)
    assert torch.get_default_device().type == "cpu"


def test_a_module_by_name(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    assert load_target("pack.sub.model:Model").profile.type == "BatchNorm2d"
    assert load_target("torch.nn:Linear", {"in_features": 2, "out_features": 3}).profile.type == "Linear"


def test_nothing_is_left_behind(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    arguments, writes = list(sys.argv), sys.dont_write_bytecode
    load_target(f"{project}/net.py:factory")
    assert not list(project.rglob("__pycache__"))
    assert (sys.argv, sys.dont_write_bytecode) == (arguments, writes)
    assert capfd.readouterr() == ("", "building\n")


def test_the_code_does_not_see_our_arguments(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["bn-audit", "inspect", "--nonsense"])
    path = project / "argv.py"
    path.write_text("import sys\nfrom torch import nn\nassert sys.argv == [__file__]\nnet = nn.BatchNorm1d(2)\n")
    assert load_target(f"{path}:net").profile.norms


def test_a_file_named_as_a_module_of_pythons(project: Path) -> None:
    import types

    (project / "types.py").write_text("from torch import nn\n\nclass Net(nn.BatchNorm1d):\n    def __init__(self):\n")
    with (project / "types.py").open("a") as file:
        file.write("        super().__init__(2)\n")
    assert load_target(f"{project}/types.py:Net").profile.norms
    assert sys.modules["types"] is types


def test_code_under_main_does_not_run(project: Path) -> None:
    path = project / "script.py"
    path.write_text("from torch import nn\nnet = nn.BatchNorm1d(2)\nif __name__ == '__main__':\n    net = None\n")
    assert load_target(f"{path}:net").profile.norms


def traceback_of(target: str) -> str:
    with pytest.raises(TargetError) as caught:
        load_target(target)
    assert "bn_audit" not in caught.value.traceback and "importlib" not in caught.value.traceback
    return caught.value.traceback


def test_the_users_traceback_is_shown_without_ours(project: Path) -> None:
    with pytest.raises(TargetError, match=r"calling .*net.py:raises raised ValueError: no such$"):
        load_target(f"{project}/net.py:raises")
    lines = traceback_of(f"{project}/net.py:raises").splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[1].startswith(f'  File "{project}/net.py", line')
    assert lines[-2:] == ["ValueError: no such", "width"]
    text = traceback_of(f"{project}/net.py:chained")
    assert text.count(f'File "{project}/net.py"') == 3 and "direct cause" in text


def test_errors_of_an_import(project: Path) -> None:
    (project / "bad.py").write_text("import helper\nimport nowhere_to_be_found\n")
    with pytest.raises(TargetError, match=r"importing bad.py raised ModuleNotFoundError: No module named 'nowhere"):
        load_target(f"{project}/bad.py:Net")
    assert f'File "{project}/bad.py", line 2' in traceback_of(f"{project}/bad.py:Net")
    (project / "broken.py").write_text("def f(:\n")
    assert "SyntaxError" in traceback_of(f"{project}/broken.py:Net")
    (project / "ends.py").write_text("import sys\nsys.exit('usage')\n")
    with pytest.raises(TargetError, match=r"importing ends.py ended the program \(sys.exit\('usage'\)\)"):
        load_target(f"{project}/ends.py:Net")
    assert "ends" not in sys.modules


def test_a_relative_import_gets_a_hint(project: Path) -> None:
    with pytest.raises(TargetError, match=r"belongs to a package: name it as pack.sub.model:ATTRIBUTE"):
        load_target(f"{project}/pack/sub/model.py:Model")


@pytest.mark.parametrize(
    ("attribute", "reason"),
    [
        ("Nett", "has no attribute 'Nett'; did you mean 'Net'?"),
        ("Net.outer", "net.py:Net has no attribute 'outer'"),
        ("namespace.broken", "raised AttributeError: 'Namespace' object has no attribute 'nothing_of_the_kind'"),
        ("number", "is of type int, no torch.nn.Module and nothing that makes one"),
        ("gives_nothing", "gives is None, no torch.nn.Module"),
        ("gives_tuple", "gives is of type tuple, no torch.nn.Module"),
        ("itself", "however often it is called"),
        ("needs", "cannot be called: missing a required argument: 'width'; pass it with --arg NAME=VALUE"),
        ("leaves", r"ended the program \(sys.exit\(3\)\)"),
        ("keras", r"is a Keras model \(Keras\)"),
        ("Odd", "raised RuntimeError: not today"),
        ("", "no name of an attribute"),
        ("a b", "no name of an attribute"),
    ],
)
def test_an_attribute_that_is_no_model(project: Path, attribute: str, reason: str) -> None:
    with pytest.raises(TargetError, match=reason):
        load_target(f"{project}/net.py:{attribute}")


def test_arguments_that_do_not_fit(project: Path) -> None:
    with pytest.raises(TargetError, match="unexpected keyword argument 'depth'; it was given depth"):
        load_target(f"{project}/net.py:Net", {"depth": 3})
    with pytest.raises(TargetError, match=r"takes no arguments \(width\)"):
        load_target(f"{project}/net.py:instance", {"width": 3})
    with pytest.raises(TargetError, match="--key is for checkpoints"):
        load_target(f"{project}/net.py:Net", key="model")


def test_checkpoints(project: Path) -> None:
    path = project / "a.pt"
    torch.save({"model": Net().state_dict()}, path)
    loaded = load_target(str(path))
    assert loaded.module is None and loaded.checkpoint is not None
    assert loaded.profile == profile_of_state(Net().state_dict())
    assert loaded.notes == ("the state dict at 'model' was taken",)
    with pytest.raises(TargetError, match=r"takes no arguments \(width\)"):
        load_target(str(path), {"width": 3})


def test_kinds_of_targets(project: Path) -> None:
    (project / "odd:name.pt").write_bytes(b"")
    (project / "net:v2.py").write_text("")
    os.chdir(project)
    assert parse_target("net.py:Net.inner") == CodeTarget(Path("net.py"), "Net.inner")
    assert parse_target("net:v2.py:Net") == CodeTarget(Path("net:v2.py"), "Net")
    assert parse_target("a.b.c:make") == CodeTarget("a.b.c", "make")
    assert parse_target("odd:name.pt") == CheckpointTarget(Path("odd:name.pt"))
    assert parse_target("late.py:x") == CodeTarget(Path("late.py"), "x")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is empty"),
        ("net.py", "is source: name what makes the model in it, net.py:ATTRIBUTE"),
        ("gone.py:Net", "there is no file gone.py"),
        ("gone.py", "there is no file gone.py"),
        ("gone.safetensors", "there is no file gone.safetensors"),
        ("gone.index.json", "there is no file"),
        ("torchvision.models", "names a module: name what makes the model in it"),
        ("pack", "is a directory"),
        ("a/b:c", "is no TARGET"),
        ("a-b", "is no TARGET"),
        ("no_such_module_at_all.x:y", "there is no module 'no_such_module_at_all'"),
        ("torch.nowhere:y", "there is no module 'torch.nowhere'"),
        (":Net", "is no TARGET"),
    ],
)
def test_what_is_no_target(project: Path, text: str, reason: str) -> None:
    os.chdir(project)
    with pytest.raises(TargetError, match=reason):
        load_target(text)


def test_a_callable_without_a_signature(project: Path) -> None:
    (project / "odd.py").write_text(
        "import functools\nfrom torch import nn\nmake = functools.partial(nn.ReLU)\nm = map\n"
    )
    assert load_target(f"{project}/odd.py:make").profile == profile(functools.partial(nn.ReLU)())
    with pytest.raises(TargetError, match="raised TypeError: map"):
        load_target(f"{project}/odd.py:m")


def _write(folder: Path, *lines: str) -> str:
    (folder / "made.py").write_text("\n".join(["import os", "import sys", "import torch", *lines]) + "\n")
    return f"{folder}/made.py"


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "made", raising=False)
    monkeypatch.setattr(sys, "path", [*sys.path])


@pytest.mark.usefixtures("fresh")
def test_exceptions_that_are_no_errors(tmp_path: Path) -> None:
    file = _write(tmp_path, "class Skipped(BaseException): pass", "def model():", "    raise Skipped('no data')")
    with pytest.raises(TargetError, match=r"calling .*made\.py:model raised Skipped: no data"):
        load_target(f"{file}:model")


@pytest.mark.usefixtures("fresh")
def test_an_error_that_cannot_be_put_into_words(tmp_path: Path) -> None:
    file = _write(
        tmp_path,
        "class Silent(Exception):",
        "    def __str__(self):",
        "        raise RuntimeError",
        "def model():",
        "    raise Silent",
    )
    with pytest.raises(TargetError, match=r"calling .*made\.py:model raised Silent$"):
        load_target(f"{file}:model")


@pytest.mark.usefixtures("fresh")
def test_what_goes_past_python_is_kept_off_stdout_too(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = _write(
        tmp_path,
        "def model():",
        "    os.write(1, b'written\\n')",
        "    os.system('echo from a child')",
        "    return torch.nn.Linear(1, 1)",
    )
    load_target(f"{file}:model")
    os.write(1, b"ours")
    out, err = capfd.readouterr()
    assert out == "ours"
    assert err == "written\nfrom a child\n"


@pytest.mark.usefixtures("fresh")
def test_the_working_directory_is_the_users_own_again(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    (there / "width").write_text("3")
    file = _write(
        tmp_path,
        f"os.chdir({str(there)!r})",
        "def model():",
        "    return torch.nn.Linear(1, int(open('width').read()))",
    )
    here = os.getcwd()
    loaded = load_target(f"{file}:model")
    assert os.getcwd() == here
    assert loaded.build is not None
    assert isinstance(loaded.build(), nn.Linear)
    assert os.getcwd() == here


def test_a_relative_import_in_a_folder_without_init(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "net.py").write_text("from . import other\n")
    with pytest.raises(TargetError, match=r"name it by its dotted name, PACKAGE\.MODULE:ATTRIBUTE, in the folder"):
        load_target(f"{tmp_path}/inner/net.py:Net")
