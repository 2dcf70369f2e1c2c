"""A model that ``local_batchnorm`` makes is followed like any other, and known to be made so, however it is written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import libcst as cst
import pytest

from bn_audit.site import FLModelSite
from bn_audit.source import wrap_edit
from bn_audit.wrapping import Wrapping
from tests.source.projects import IMPORTS, NET, built, read_project, readings

_OURS = "from bn_audit.federated.secretflow import local_batchnorm\n"
_CALL = 'FLModel(model={}, aggregator=PlainAggregator("s"), backend="torch", skip_bn=True)\n'


def _read(folder: Path, definitions: str, model: str) -> list[tuple[str, Wrapping | None]]:
    files = {"train.py": IMPORTS + NET + _OURS + definitions + "\n" + _CALL.format(model)}
    return [(built(one.model), one.wrapped) for one in readings(read_project(files, folder))]


@pytest.mark.parametrize(
    ("definitions", "model"),
    [
        ("", "TorchModel(model_fn=local_batchnorm(Net))"),
        ("", "TorchModel(local_batchnorm(Net), width=8)"),
        ("", "local_batchnorm(Net)"),
        ("", "local_batchnorm(TorchModel(model_fn=Net))"),
        ("", "local_batchnorm(TorchModel(Net, width=8))"),
        ("", "local_batchnorm(model=TorchModel(Net))"),
        ("made = TorchModel(model_fn=Net)\nmade = local_batchnorm(made)", "made"),
        ("def make():\n    return local_batchnorm(Net)()", "TorchModel(model_fn=make)"),
        ("def make():\n    return local_batchnorm(Net)()", "make"),
        ("make = lambda: local_batchnorm(Net)()", "make"),
        ("from functools import partial", "TorchModel(model_fn=partial(local_batchnorm(Net), width=8))"),
        ("from functools import partial", "TorchModel(model_fn=local_batchnorm(partial(Net, width=8)))"),
        ("@local_batchnorm\nclass Own(Net):\n    pass", "TorchModel(model_fn=Own)"),
        ("@local_batchnorm()\nclass Own(Net):\n    pass", "TorchModel(model_fn=Own)"),
        ("@local_batchnorm\ndef make():\n    return Net()", "make"),
        ("import bn_audit.federated.secretflow as ours", "ours.local_batchnorm(Net)"),
        ("from bn_audit.federated import secretflow as ours", "ours.LocalBatchNorm(Net)"),
    ],
)
def test_it_is_followed(tmp_path: Path, definitions: str, model: str) -> None:
    assert _read(tmp_path, definitions, model) == [("conv-BN-fc", Wrapping())]


@pytest.mark.parametrize(
    ("arguments", "wrapping"),
    [
        ('strategy="fed_stc"', Wrapping("fed_stc")),
        ("strategy=None", Wrapping()),
        ('integers="local"', Wrapping(None, "local")),
        ("integers=choice()", Wrapping(None, None)),
        ("strategy=choice()", Wrapping()),
        ("**choice()", Wrapping(None, None)),
    ],
)
def test_its_arguments(tmp_path: Path, arguments: str, wrapping: Wrapping) -> None:
    definitions = "from elsewhere import choice"
    assert _read(tmp_path, definitions, f"local_batchnorm(Net, {arguments})") == [("conv-BN-fc", wrapping)]
    definitions += f"\n@local_batchnorm({arguments})\nclass Own(Net):\n    pass"
    if not arguments.startswith("**"):
        assert _read(tmp_path, definitions, "Own") == [("conv-BN-fc", wrapping)]


def test_it_is_known_although_the_model_is_not(tmp_path: Path) -> None:
    definitions = "from elsewhere import build"
    for model in ("local_batchnorm(build)", "TorchModel(model_fn=local_batchnorm(build))"):
        assert _read(tmp_path, definitions, model) == [("unknown", Wrapping())]


def test_another_of_that_name_is_another(tmp_path: Path) -> None:
    definitions = "def local_batchnorm(made):\n    return made"
    assert _read(tmp_path, definitions, "local_batchnorm(Net)") == [("conv-BN-fc", None)]


def test_what_a_model_overrides_is_overridden_again(tmp_path: Path) -> None:
    """Of the methods through which SecretFlow exchanges weights the wrapper gives an object its own."""
    own = "class Own(Net):\n    def {}(self, *_):\n        return []"
    assert _read(tmp_path, own.format("get_weights_not_bn"), "local_batchnorm(Own)") == [("conv-BN-fc", Wrapping())]
    assert _read(tmp_path, own.format("get_weights_not_bn"), "Own") == [("unknown", None)]
    assert _read(tmp_path, own.format("state_dict"), "local_batchnorm(Own)") == [("unknown", Wrapping())]


def test_it_is_ours_in_our_own_checkout_too(tmp_path: Path) -> None:
    """A folder of that name in the project is not read for it."""
    files = {
        "bn_audit/__init__.py": "",
        "bn_audit/federated/__init__.py": "",
        "bn_audit/federated/secretflow.py": "def local_batchnorm(model):\n    return model\n",
        "train.py": IMPORTS + NET + _OURS + _CALL.format("local_batchnorm(Net)"),
    }
    assert [one.wrapped for one in readings(read_project(files, tmp_path))] == [Wrapping()]


def test_a_file_is_gone_over_once_for_the_edits_at_all_its_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    walk, walked = wrap_edit.walk, []

    def counted(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
        for part in walk(node):
            walked.append(part)
            yield part

    monkeypatch.setattr(wrap_edit, "walk", counted)
    lengths = []
    for calls in (20, 40):
        walked.clear()
        result = read_project({"train.py": IMPORTS + NET + _CALL.format("Net") * calls}, tmp_path / str(calls))
        assert sum(bool(site.wrap_edits) for site in result.sites if isinstance(site, FLModelSite)) == calls
        lengths.append(len(walked))
    assert lengths[1] < 2.1 * lengths[0]
