"""What settings teach the reader: constructors, norm layers and wrappers that it could not know."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from bn_audit.audit import Selection, Versions, audit
from bn_audit.profile import SOMEWHERE, Profile
from bn_audit.source.read import ReadOptions, ReadResult, read
from bn_audit.source.taught import Taught
from tests.source.projects import built, project, readings

HEAD = """\
from secretflow.security.aggregation import PlainAggregator, SecureAggregator
from secretflow_fl.ml.nn import FLModel
from secretflow_fl.ml.nn.core.torch import TorchModel
from torch import nn
import inhouse.zoo
from inhouse.norms import FancyBN
"""
TAUGHT = Taught(
    models_with_batchnorm=frozenset({"inhouse.zoo.backbone", "models.make", "models.Factory.make", "models.Net"}),
    models_without_batchnorm=frozenset({"inhouse.zoo.plain"}),
    batchnorm_classes=frozenset({"FancyBN", "layers.Norm"}),
    flmodel_wrappers=frozenset({"inhouse.fl.federate", "wrap.federate", "wrap.Federation"}),
)


def read_taught(text: str, folder: Path, taught: Taught | None = TAUGHT, jobs: int = 1) -> ReadResult:
    for name, content in project(text.replace("<HEAD>\n", HEAD)).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(content), encoding="utf-8")
    return read([str(folder)], options=ReadOptions(jobs=jobs, teacher=lambda path: taught))


def model_of(result: ReadResult) -> Profile:
    (reading,) = readings(result)
    assert reading.model is not None
    return reading.model


def codes(result: ReadResult) -> list[str]:
    findings = audit(result.sites, result.unreadable, Selection(), lambda path: Versions())
    return [finding.code for finding in findings]


def call(model: str, rest: str = "", aggregator: str = "SecureAggregator(s, p)") -> str:
    return f'FLModel(model=TorchModel(model_fn={model}), aggregator={aggregator}, backend="torch"{rest})\n'


def test_a_model_with_batchnorm_somewhere(tmp_path: Path) -> None:
    model = model_of(read_taught("=== train.py\n<HEAD>\n" + call("inhouse.zoo.backbone"), tmp_path))
    (norm,) = model.norms
    assert (norm.path, norm.batchnorm, norm.tracked, norm.affine, norm.nested) == (SOMEWHERE, True, True, None, None)
    assert [entry.name for entry in model.entries] == ["running_mean", "running_var", "num_batches_tracked"]
    assert [entry.alias_of for entry in model.entries] == [None, None, None]
    assert [gap.index for gap in model.gaps] == [0, 3]
    assert norm.location is not None and norm.location.line == len(HEAD.splitlines()) + 1


@pytest.mark.parametrize(
    ("settings", "aggregator", "expected"),
    [
        ("", "SecureAggregator(s, p)", ["BNA101"]),
        ("", "PlainAggregator(s)", ["BNA101"]),
        (", skip_bn=False", "SecureAggregator(s, p)", ["BNA102"]),
        # Where the BatchNorm lies is not known: at the top level and last, it would be right.
        (", skip_bn=True", "SecureAggregator(s, p)", []),
        (", skip_bn=True", "PlainAggregator(s)", []),
        (', skip_bn=True, strategy="fed_avg_g"', "PlainAggregator(s)", []),
    ],
)
def test_rules_stay_certain(tmp_path: Path, settings: str, aggregator: str, expected: list[str]) -> None:
    text = "=== train.py\n<HEAD>\n" + call("inhouse.zoo.backbone", settings, aggregator)
    assert codes(read_taught(text, tmp_path)) == expected


def test_without_a_teacher_nothing_is_known(tmp_path: Path) -> None:
    text = "=== train.py\n<HEAD>\n" + call("inhouse.zoo.backbone")
    assert codes(read_taught(text, tmp_path, taught=None)) == ["BNA108"]


NET = """\
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = {body}
        self.fc = nn.Linear(10, 2)

    def forward(self, x):
        return self.fc(self.body(x))

"""


def test_as_a_part_of_a_model_it_is_nested(tmp_path: Path) -> None:
    net = NET.format(body="inhouse.zoo.backbone()")
    result = read_taught("=== train.py\n<HEAD>\n" + net + call("Net", ", skip_bn=True"), tmp_path)
    assert built(model_of(result)) == "?-BODY-fc"
    assert model_of(result).norms[0].nested is True
    assert codes(result) == ["BNA103"]


@pytest.mark.parametrize(
    ("change", "left"),
    [
        ("net.fc = nn.Linear(3, 4)", True),
        ("net.conv1 = nn.Conv2d(1, 8, 3)", True),
        ("net.bn1 = nn.Identity()", False),
        ("net.norm = nn.GroupNorm(2, 8)", False),
        ("net.layer1 = nn.Sequential(nn.Linear(3, 3))", False),
        ("net.layer1 = inhouse.zoo.other()", True),  # what is not known to be a module
    ],
)
def test_what_is_set_in_it_later(tmp_path: Path, change: str, left: bool) -> None:
    text = f"=== train.py\n<HEAD>\ndef make():\n    net = inhouse.zoo.backbone()\n    {change}\n    return net\n\n"
    model = model_of(read_taught(text + call("make"), tmp_path))
    assert bool(model.norms) is left
    assert any(gap.may_hold_norm for gap in model.gaps)


def test_a_copy_holds_it_too(tmp_path: Path) -> None:
    text = "=== train.py\n<HEAD>\nimport copy\n" + call("lambda: copy.deepcopy(inhouse.zoo.backbone())")
    assert codes(read_taught(text, tmp_path)) == ["BNA101"]


def test_a_model_without_batchnorm(tmp_path: Path) -> None:
    text = "=== train.py\n<HEAD>\n"
    result = read_taught(text + call("inhouse.zoo.plain", ", skip_bn=True"), tmp_path)
    assert model_of(result).norms == ()
    assert not any(gap.may_hold_norm for gap in model_of(result).gaps)
    assert codes(result) == ["BNA106"]
    assert codes(read_taught(text + call("inhouse.zoo.plain"), tmp_path)) == []


@pytest.mark.parametrize(
    "definition",
    [
        "def make(*args):\n    return globals()[args[0]]()\n",
        "class Factory:\n    @staticmethod\n    def make():\n        return eval('1')\n",
        "class Factory:\n    @classmethod\n    def make(cls):\n        return eval('1')\n",
        "from torch import nn\n\nclass Net(nn.Module):\n    pass\n",
    ],
)
def test_functions_and_classes_of_the_project(tmp_path: Path, definition: str) -> None:
    name = "models.Factory.make" if "Factory" in definition else "models.Net" if "Net" in definition else "models.make"
    text = f"=== models.py\n{definition}=== train.py\n<HEAD>\nimport models\n" + call(name)
    assert codes(read_taught(text, tmp_path)) == ["BNA101"]
    assert codes(read_taught(text, tmp_path, taught=None)) != ["BNA101"]


@pytest.mark.parametrize("layer", ["FancyBN(8)", "inhouse.norms.FancyBN(8)", "layers.Norm(8)", "layers.Sub(8)"])
def test_norm_layers(tmp_path: Path, layer: str) -> None:
    text = "=== layers.py\nfrom inhouse.norms import FancyBN\nclass Norm: pass\nclass Sub(FancyBN): pass\n"
    text += "=== train.py\n<HEAD>\nimport layers\n" + NET.format(body=layer) + call("Net")
    result = read_taught(text, tmp_path)
    (norm,) = model_of(result).norms
    assert (norm.path, norm.batchnorm, norm.tracked, norm.affine) == ("body", None, True, None)
    assert codes(result) == ["BNA101"]
    # Whether SecretFlow takes it for a BatchNorm to skip is not known.
    text = text.replace('backend="torch")', 'backend="torch", skip_bn=True)')
    assert codes(read_taught(text, tmp_path)) == []


WRAPPED = '{name}(model=TorchModel(model_fn=Net), aggregator=SecureAggregator(s, p), backend="torch"{rest})\n'
FEDERATED = "=== train.py\n<HEAD>\nfrom inhouse.fl import federate\n" + NET.format(body="nn.BatchNorm1d(10)")


def test_a_wrapper_outside_the_project(tmp_path: Path) -> None:
    text = FEDERATED.replace("import FLModel", "import nothing") + WRAPPED.format(name="federate", rest="")
    result = read_taught(text, tmp_path)
    assert codes(result) == ["BNA101"]
    (reading,) = readings(result)
    assert (reading.backend, reading.aggregator, reading.skip_bn) == ("torch", "secure", False)
    assert read_taught(text, tmp_path, taught=None).sites == ()
    passed = FEDERATED + WRAPPED.format(name="federate", rest=", skip_bn=True")
    assert codes(read_taught(passed, tmp_path)) == ["BNA104"]


@pytest.mark.parametrize("rest", [", **options", ", *options"])
def test_what_a_wrapper_may_be_given(tmp_path: Path, rest: str) -> None:
    (reading,) = readings(read_taught(FEDERATED + WRAPPED.format(name="federate", rest=rest), tmp_path))
    assert (reading.skip_bn, reading.skip_bn_passed) == (None, None)


def test_a_position_of_an_unknown_signature(tmp_path: Path) -> None:
    text = FEDERATED + 'federate(s, model=TorchModel(model_fn=Net), backend="torch")\n'
    (reading,) = readings(read_taught(text, tmp_path))
    assert (reading.aggregator, reading.skip_bn, reading.strategy) == (None, None, None)


@pytest.mark.parametrize(
    "definition",
    [
        "def federate(model, aggregator, backend='torch', skip_bn=True):\n    return registry['fl'](locals())\n",
        "class Federation:\n    def __init__(self, model, aggregator, backend='torch', skip_bn=True):\n        pass\n",
    ],
)
def test_a_wrapper_of_the_project_with_its_signature(tmp_path: Path, definition: str) -> None:
    name = "federate" if definition.startswith("def") else "Federation"
    text = FEDERATED.replace("inhouse.fl import federate", f"wrap import {name}")
    text += f"{name}(TorchModel(model_fn=Net), SecureAggregator(s, p))\n=== wrap.py\n{definition}"
    (reading,) = readings(read_taught(text, tmp_path))
    assert (reading.backend, reading.aggregator, reading.skip_bn) == ("torch", "secure", True)
    assert reading.model is not None


def test_training_after_evaluation_of_a_wrapped_model(tmp_path: Path) -> None:
    text = FEDERATED + "fl = " + WRAPPED.format(name="federate", rest=", skip_bn=True, strategy='fed_prox'")
    text += "fl.fit(x, y)\nfl.evaluate(x, y)\nfl.fit(x, y)\n"
    (reading,) = readings(read_taught(text, tmp_path))
    assert len(reading.trains_after_eval) == 1


def test_a_wrapper_taken_from_another_file(tmp_path: Path) -> None:
    text = FEDERATED.replace("inhouse.fl import federate", "helpers import go")
    text += WRAPPED.format(name="go", rest="") + "=== helpers.py\nfrom inhouse.fl import federate as go\n"
    assert codes(read_taught(text, tmp_path)) == ["BNA101"]


def test_averaging_of_a_taught_model(tmp_path: Path) -> None:
    """Models that settings speak of count for averaging written by hand too."""
    text = """\
=== fed.py
import copy
import torch
import inhouse.zoo


def average(states):
    total = copy.deepcopy(states[0])
    for key in total:
        for other in states[1:]:
            total[key] += other[key]
        total[key] = torch.div(total[key], len(states))
    return total


def train(clients):
    net = inhouse.zoo.backbone()
    local_states = []
    for client in clients:
        local = copy.deepcopy(net)
        local_states.append(local.state_dict())
    net.load_state_dict(average(local_states))
"""
    (site,) = read_taught(text, tmp_path).sites
    (participant,) = site.participants  # type: ignore[union-attr]
    assert [norm.path for norm in participant.profile.norms] == [SOMEWHERE]
    for site in read_taught(text, tmp_path, taught=None).sites:
        assert not any(row.profile.norms for row in site.participants)  # type: ignore[union-attr]


class ByFolder:
    """A teacher that can be handed to other processes, and knows something in one folder alone."""

    def __call__(self, path: str) -> Taught | None:
        return TAUGHT if "/taught/" in path.replace("\\", "/") else None


@pytest.mark.parametrize("jobs", [1, 2])
def test_each_file_by_its_own_settings(tmp_path: Path, jobs: int) -> None:
    files: Mapping[str, str] = {
        f"{folder}/train.py": HEAD + call("inhouse.zoo.backbone") for folder in ("taught", "plain")
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(content, encoding="utf-8")
    result = read([str(tmp_path)], options=ReadOptions(jobs=jobs, teacher=ByFolder()))
    assert codes(result) == ["BNA108", "BNA101"]
