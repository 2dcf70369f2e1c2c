"""Which classes named FLModel are SecretFlow's, what a site tells about its trail, and what is done with the model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from bn_audit.finding import Evidence
from tests.source.projects import calls, marked, project, read_project, readings, standing, the_site

BN = "conv-BN-fc torch fed_avg_w none absent"

SECRETFLOW = [
    "from secretflow.ml.nn import FLModel",
    "from secretflow.ml.nn.fl.fl_model import FLModel",
    "from secretflow_fl.ml.nn import FLModel",
    "from secretflow_fl.ml.nn.fl.fl_model import FLModel",
    "from sfl.ml.nn import FLModel",
    "from sfl.ml.nn.fl.fl_model import FLModel",
    "from secretflow.ml.nn import FLModel as Federated; FLModel = Federated",
    "import secretflow as sf; FLModel = sf.ml.nn.FLModel",
    "import secretflow.ml.nn as nn; FLModel = nn.FLModel",
    "import secretflow_fl.ml.nn; FLModel = secretflow_fl.ml.nn.FLModel",
    "from secretflow_fl.ml import nn as federated; FLModel = federated.FLModel",
    "from secretflow.ml.nn import *",
    "try:\n    from secretflow_fl.ml.nn import FLModel\nexcept ImportError:\n    from secretflow.ml.nn import FLModel",
    "try:\n    from secretflow.ml.nn import FLModel\nexcept ImportError:\n    FLModel = None",
    "import importlib\nFLModel = importlib.import_module('secretflow.ml.nn').FLModel",
]

OTHERS = [
    "from nvflare.app_common.abstract.fl_model import FLModel",
    "from nvflare.client import FLModel",
    "from mindspore_federated import FLModel",
    "from mindspore_federated import *",
    "from secretflow_tools_of_mine.model import Model as FLModel",
    "class FLModel:\n    def __init__(self, model, **kwargs):\n        self.model = model",
    "def FLModel(model, **kwargs):\n    return model",
    "FLModel = dict",
    "from unknown import FLModel",
    "import nvflare as sf; FLModel = sf.FLModel",
    "from mine import FLModel",
    "from .secretflow import FLModel",
]


@pytest.mark.parametrize("statement", SECRETFLOW)
def test_secretflow_class(statement: str, tmp_path: Path) -> None:
    files = _one_call(statement)
    result = read_project(files, tmp_path)
    assert calls(result) == [BN]
    assert standing(result, tmp_path) == marked(files)


@pytest.mark.parametrize("statement", OTHERS)
def test_other_classes_of_that_name(statement: str, tmp_path: Path) -> None:
    result = read_project(_one_call(statement), tmp_path)
    assert result.sites == ()
    assert result.unreadable == ()


def _one_call(statement: str) -> dict[str, str | bytes]:
    # The name of SecretFlow stands in every file, so that each is looked into.
    return project(
        "=== models.py\n<NET>\n=== secretflow_free.py\nclass FLModel:\n    pass\n"
        "=== mine.py\nclass FLModel:\n    def __init__(self, model, backend):\n        pass\n"
        "=== pkg/secretflow.py\nclass FLModel:\n    pass\n"
        f"=== pkg/train.py\n# not secretflow's\nfrom models import Net\n{statement}\n"
        'FLModel(model=Net, backend="torch")  # site\n'
    )


BUILDERS = {
    "a class of BaseModule": (
        """
        class Mine(BaseModule):
            def __init__(self):
                super().__init__()
                self.bn = nn.BatchNorm1d(3)
        FLModel(model=Mine, backend="torch")
        """,
        "BN",
        "Mine",
        True,
    ),
    "a TorchModel": ("FLModel(model=TorchModel(model_fn=Net), backend='torch')", "conv-BN-fc", "Net", False),
    "a builder": (
        """
        def build():
            return nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
        FLModel(model=TorchModel(model_fn=build), backend="torch")
        """,
        "0-1",
        "build",
        False,
    ),
    "a lambda": ("FLModel(model=TorchModel(model_fn=lambda: Net()), backend='torch')", "conv-BN-fc", "Net", False),
    "a base that is not known": (
        """
        from missing import Base
        class Mine(Base, nn.Module):
            def __init__(self):
                super().__init__()
                self.bn = nn.BatchNorm1d(3)
        FLModel(model=Mine, backend="torch")
        """,
        "BN",
        "Mine",
        None,
    ),
}


@pytest.mark.parametrize(("body", "parts", "name", "base_module"), BUILDERS.values(), ids=BUILDERS)
def test_models(body: str, parts: str, name: str, base_module: bool | None, tmp_path: Path) -> None:
    result = read_project(project("=== train.py\n<IMPORTS>\n<NET>\n" + textwrap.dedent(body).lstrip("\n")), tmp_path)
    (reading,) = readings(result)
    assert reading.model is not None
    assert {entry.top for entry in reading.model.entries} == {part.lower() for part in parts.split("-")}
    assert any(norm.type.startswith("BatchNorm") for norm in reading.model.norms)
    assert reading.model_name == name
    assert reading.base_module is base_module


def test_trail_of_a_call_through_a_helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files = project(
        """
        === models.py
        <NET>
        === helper.py
        <IMPORTS>
        def train(fn, **kwargs):
            agg = PlainAggregator("s")
            model = TorchModel(model_fn=fn)
            return build(model, agg, kwargs.get("skip_bn", False))
        def build(model, agg, skip):
            return FLModel(model=model, aggregator=agg, backend="torch", skip_bn=skip)
        === main.py
        from helper import train
        from models import Net
        SKIP = True
        train(Net, skip_bn=SKIP)  # site
        """
    )
    site = the_site(read_project(files, tmp_path))
    assert (site.location.path, site.location.line, site.location.column) == ("main.py", 4, 1)
    assert site.location.end_column == len("train(Net, skip_bn=SKIP)") + 1
    assert (site.call.path, site.call.line, site.call.column) == ("helper.py", 9, 12)
    assert [_told(step) for step in site.through] == ["helper.py:7 called here"]
    (reading,) = site.readings
    assert [_told(step) for step in reading.model_trail] == [
        "helper.py:6 the TorchModel is made here",
        "main.py:2 Net is imported here",
        "models.py:3 Net is defined here",
    ]
    assert [_told(step) for step in reading.settings_trail] == [
        "main.py:3 skip_bn is True",
        "helper.py:5 the aggregator is made here: PlainAggregator",
    ]
    assert reading.model is not None
    (norm,) = reading.model.norms
    assert norm.location is not None
    assert (norm.location.path, norm.location.line) == ("models.py", 8)
    assert reading.conditions == ()


def _told(step: Evidence) -> str:
    return f"{step.location.path}:{step.location.line} {step.message}"


def test_conditions_are_told(tmp_path: Path) -> None:
    files = project(
        """
        === train.py
        <IMPORTS>
        <NET>
        import argparse
        args = argparse.ArgumentParser().parse_args()
        NETS = {"small": Net, "plain": lambda: Net(norm=False)}
        fn = NETS[args.net]
        if args.deep:
            strategy = "fed_prox"
        else:
            strategy = "fed_avg_w"
        FLModel(model=TorchModel(fn), strategy=strategy, backend="torch")  # site
        """
    )
    found = {reading.conditions for reading in readings(read_project(files, tmp_path))}
    assert found == {
        ("args.net == 'small' is true", "args.deep is true"),
        ("args.net == 'small' is true", "args.deep is false"),
        ("args.net == 'small' is false", "args.deep is true"),
        ("args.net == 'small' is false", "args.deep is false"),
    }


UNRESOLVED = {
    "a parameter nobody gives": (
        "def train(fn):\n    FLModel(model=TorchModel(fn))",
        "fn is a parameter of train, and no call that gives it was found",
    ),
    "a library's": ("from lib import build\nFLModel(model=TorchModel(build))", "lib.build is not known"),
    "no model": ("FLModel(backend='torch')", "no model is passed"),
    "None": ("FLModel(model=None)", "the model is None"),
    "a number": ("FLModel(model=3)", "the model is 3"),
    "**": ("import json\nFLModel(**json.load(open('x')))", "it may come in through ** arguments that are not known"),
    "no model_fn": ("FLModel(model=TorchModel(loss_fn=None))", "TorchModel without a model_fn"),
}


@pytest.mark.parametrize(("body", "reason"), UNRESOLVED.values(), ids=UNRESOLVED)
def test_unresolved_says_why(body: str, reason: str, tmp_path: Path) -> None:
    result = read_project(project(f"=== train.py\n<IMPORTS>\n{body}\n"), tmp_path)
    (reading,) = readings(result)
    assert reading.model is None
    assert reading.unresolved is not None
    assert reading.unresolved.message == reason
    assert os.path.basename(reading.unresolved.location.path) == "train.py"


EVENTS = {
    "validation, several epochs": ("fl.fit(x, y, validation_data=data, epochs=5)", 1),
    "validation by position": ("fl.fit(x, y, 32, None, 5, 1, None, data)", 1),
    "validation, one epoch": ("fl.fit(x, y, validation_data=data, epochs=1)", 0),
    "validation, epochs not known": ("fl.fit(x, y, validation_data=data, epochs=n)", 1),
    "validation_data=None": ("fl.fit(x, y, validation_data=None, epochs=5)", 0),
    "no validation": ("fl.fit(x, y, epochs=5)", 0),
    "evaluation afterwards": ("fl.fit(x, y, epochs=5)\nfl.evaluate(x, y)", 0),
    "evaluation before": ("fl.evaluate(x, y)\nfl.fit(x, y, epochs=5)", 1),
    "validation, one epoch, and again": ("fl.fit(x, y, validation_data=data)\nfl.fit(x, y)", 1),
    "another model's evaluation": ("FLModel(model=TorchModel(Net)).evaluate(x, y)\nfl.fit(x, y)", 0),
    "evaluation of an alias": ("same = fl\nsame.evaluate(x, y)\nfl.fit(x, y)", 1),
    "in a loop": ("for _ in range(3):\n    fl.fit(x, y)\n    fl.evaluate(x, y)", 2),
    "in a function": ("def go(m):\n    m.fit(x, y, validation_data=data, epochs=2)\ngo(fl)", 1),
    "in a method": (
        "class T:\n    def __init__(self, m):\n        self.m = m\n    def go(self):\n"
        "        self.m.fit(x, y, validation_data=data, epochs=2)\nT(fl).go()",
        1,
    ),
}


@pytest.mark.parametrize(("body", "count"), EVENTS.values(), ids=EVENTS)
def test_events(body: str, count: int, tmp_path: Path) -> None:
    head = "=== train.py\n<IMPORTS>\n<NET>\nfrom data import x, y, data, n\n"
    files = project(f"{head}fl = FLModel(model=TorchModel(Net), backend='torch')  # site\n{body}\n")
    result = read_project(files, tmp_path)
    (reading,) = [r for site in result.sites if standing_at(site.location.line, files) for r in site.readings]
    assert len(reading.trains_after_eval) in ({count} if count < 2 else {1, 2})


def standing_at(line: int, files: dict[str, str | bytes]) -> bool:
    return ("train.py", line) in marked(files)


def test_events_of_the_callers_model(tmp_path: Path) -> None:
    files = project(
        """
        === train.py
        <IMPORTS>
        <NET>
        def make():
            return FLModel(model=TorchModel(Net), backend="torch", strategy="fed_prox")
        def main(x, y):
            fl = make()
            fl.fit(x, y, validation_data=(x, y), epochs=3)
        main(1, 2)
        """
    )
    (reading,) = readings(read_project(files, tmp_path))
    assert [_told(step).partition(":")[2] for step in reading.trains_after_eval] == [
        "17 this fit validates after each epoch and trains on"
    ]


def _notebook(*cells: str) -> bytes:
    return json.dumps(
        {
            "cells": [
                {"cell_type": "code", "source": textwrap.dedent(cell).strip("\n").splitlines(keepends=True)}
                for cell in cells
            ],
            "metadata": {"language_info": {"name": "python"}},
            "nbformat": 4,
        }
    ).encode()


def test_notebook(tmp_path: Path) -> None:
    files = project("=== models.py\n<NET>\n=== head.py\n<IMPORTS>\n")
    notebook = _notebook(
        "%matplotlib inline\n!pip install secretflow",
        str(files["head.py"]),
        "from models import Net\nskip = False",
        "%%time\nskip = True\nmodel = TorchModel(model_fn=Net)",
        "broken = (",
        """
        # a comment
        if True:
            fl = FLModel(model=model, backend="torch", skip_bn=skip)
        """,
        "fl.fit(x, y, validation_data=z, epochs=2)\nskip = None",
    )
    result = read_project({"train.ipynb": notebook, **files}, tmp_path)
    site = the_site(result)
    assert (site.location.cell, site.location.line, site.location.column) == (6, 3, 10)
    (reading,) = site.readings
    assert (reading.skip_bn, reading.skip_bn_passed) == (True, True)
    assert [(step.location.cell, step.location.line) for step in reading.settings_trail] == [(4, 2)]
    assert [(step.location.cell, step.location.line) for step in reading.trains_after_eval] == [(7, 1)]
    (broken,) = result.unreadable
    assert broken.location.cell == 5


@pytest.mark.parametrize("jobs", [2, 3])
def test_result_does_not_depend_on_jobs_or_order(jobs: int, tmp_path: Path) -> None:
    files: dict[str, str | bytes] = project("=== models.py\n<NET>\n")
    for number in range(6):
        files |= project(
            f"=== train{number}.py\n<IMPORTS>\nimport sys\nfrom models import Net\n"
            f"def go(fn, **kw):\n    return FLModel(model=TorchModel(fn, **kw), backend='torch', seed={number})\n"
            f"go(Net, norm=sys.argv)\ngo(lambda: Net(norm=sys.flags.bn))\n"
        )
    one = read_project(files, tmp_path)
    assert len(one.sites) == 12
    assert read_project({}, tmp_path, jobs=jobs) == one
    names = tuple(sorted(files, reverse=True))
    # What was named differs, and with it what is known to have been looked at as a whole.
    assert read_project({}, tmp_path, names)._replace(folders=one.folders) == one


def test_result_does_not_depend_on_the_hash_seed(tmp_path: Path) -> None:
    files = project(
        """
        === models.py
        <NET>
        === train.py
        <IMPORTS>
        import argparse
        from models import *
        args = argparse.ArgumentParser().parse_args()
        KINDS = {"a", "b", "c"}
        def train(fn, strategy, *rest, **kwargs):
            for kind in KINDS:
                FLModel(model=TorchModel(fn), strategy=strategy, backend=args.backend, **kwargs)
        def outer(*args, **kwargs):
            train(*args, **kwargs)
        outer(Net, "fed_prox", skip_bn=args.skip_bn)
        outer(missing, args.strategy)
        train(lambda: Net(norm=args.norm), "moon")
        """
    )
    read_project(files, tmp_path)
    command = [sys.executable, "-c", _PRINT_RESULT, str(tmp_path)]
    outputs = {
        subprocess.run(
            command,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            cwd=Path(__file__).parents[2],
        ).stdout
        for seed in ("0", "1", "4242")
    }
    assert len(outputs) == 1
    assert outputs.pop().count(b"FLModelSite(") >= 3


_PRINT_RESULT = """
import sys
from bn_audit.source.read import ReadOptions, read
print(read([sys.argv[1]], options=ReadOptions(jobs=1)))
"""
