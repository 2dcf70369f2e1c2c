"""The fix that has ``local_batchnorm`` make the model: in every layout of a call, and wherever imports stand.

What comes out is Python, differs in the wrapper, its import and ``skip_bn=True`` only, and a scan finds nothing in it.
"""

from __future__ import annotations

import ast
import functools
import json

import pytest

from bn_audit.finding import Applicability, Finding
from bn_audit.fix.edits import applicable
from bn_audit.fix.rounds import fix_files
from tests.fix.programs import judge_program
from tests.fix.test_layouts import CASES, NAMES
from tests.fix.test_layouts import PROGRAM as LAYOUT_PROGRAM

_IMPORT = "from bn_audit.federated.secretflow import local_batchnorm\n"
_LAYOUTS = LAYOUT_PROGRAM.replace("self.bn = nn.BatchNorm1d(8)", "self.body = nn.Sequential(nn.BatchNorm1d(8))")
_NET = """\
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.bn = nn.BatchNorm1d(8)
        self.fc = nn.Linear(4, 8)
"""
_CALL = 'FLModel(device_list=[1], model=TorchModel(model_fn=Net), aggregator=PlainAggregator("s"), backend="torch")\n'


@functools.cache
def _fixed(program: str, name: str = "train.py") -> str | None:
    """A program after its unsafe fixes; None where none is offered."""
    data = program.encode()
    first = judge_program(data, name)
    if not any(_wraps(finding) for finding in first.findings):
        return None

    result = fix_files(first, lambda contents: judge_program(contents[name], name), lambda path: data, unsafe=True)
    assert not result.refused
    (changed,) = result.files
    return changed.new.decode()


def _wraps(finding: Finding) -> bool:
    return applicable(finding, unsafe=True) and finding.fix is not None and "local_batchnorm" in finding.fix.message


@pytest.mark.parametrize("number", range(len(CASES)), ids=NAMES)
def test_every_layout(number: int) -> None:
    program = _LAYOUTS + CASES[number][1] + "\n"
    (finding,) = [one for one in judge_program(program.encode()).findings if one.code in ("BNA101", "BNA102")]
    after = _fixed(program)
    if after is None:
        # A helper's call, or a model that stands in a dict: what would be wrapped is not this call's alone.
        assert finding.fix is None or "local_batchnorm" not in finding.fix.message
        return
    assert finding.fix is not None
    assert finding.fix.applicability is Applicability.UNSAFE
    compile(after, "layout.py", "exec")
    # Of the helpers that nobody calls nothing is known, before and after.
    assert not [one for one in judge_program(after.encode()).findings if one.code != "BNA108"]
    assert after.count(_IMPORT) == 1
    assert ast.dump(_bare(after)) == ast.dump(_bare(program))


def _bare(program: str) -> ast.Module:
    """A program without what the fix writes."""
    tree = ast.parse(program)
    tree.body = [one for one in tree.body if not (isinstance(one, ast.ImportFrom) and "bn_audit" in str(one.module))]
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, bool):
            node.value = None
        if isinstance(node, ast.Call):
            node.keywords = [word for word in node.keywords if word.arg != "skip_bn"]
            node.args = [_unwrapped(one) for one in node.args]
            for word in node.keywords:
                word.value = _unwrapped(word.value)
    return tree


def _unwrapped(node: ast.expr) -> ast.expr:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "local_batchnorm":
        return node.args[0]
    return node


def test_most_layouts_can_be_wrapped() -> None:
    assert sum(_fixed(_LAYOUTS + before + "\n") is not None for _, before, _ in CASES[:60]) >= 50


_HEAD = """\
from secretflow.security.aggregation import PlainAggregator
from secretflow_fl.ml.nn import FLModel
from secretflow_fl.ml.nn.core.torch import TorchModel
from torch import nn
"""


@pytest.mark.parametrize(
    ("program", "line"),
    [
        (_HEAD + "\n\n" + _NET + "\n\n" + _CALL, 5),
        ('"""Trains."""\n\nfrom __future__ import annotations\n\n' + _HEAD + _NET + _CALL, 9),
        (_HEAD + "import os, sys  # for later\n" + _NET + _CALL, 6),
        (_HEAD + "from os import (\n    path,\n    sep,\n)\n" + _NET + _CALL, 9),
        (_HEAD + "import os; WIDTH = 8; import sys\n" + _NET + _CALL, 6),
        (_HEAD + _NET + "import os\n" + _CALL, 11),
        (_HEAD + _NET + _CALL + "import os\n", 5),
        (_HEAD + _NET + "\ndef main():\n    import os\n    " + _CALL + "\nmain()\n", 5),
        (_HEAD + "if True:\n    import os\n" + _NET + _CALL, 5),
        ("# Trains.\n" + _HEAD.replace("\n", "\r\n") + (_NET + _CALL).replace("\n", "\r\n"), 6),
    ],
)
def test_where_the_import_goes(program: str, line: int) -> None:
    after = _fixed(program)
    assert after is not None
    assert after.splitlines()[line - 1] == _IMPORT.strip()
    assert ("\r\n" in after) == ("\r\n" in program)
    assert not judge_program(after.encode()).findings


def test_an_import_that_is_there_serves() -> None:
    after = _fixed(_HEAD + _IMPORT.replace("\n", " as ours\n") + _NET + _CALL)
    assert after is not None
    assert "model=ours(TorchModel(model_fn=Net))" in after
    assert after.count("bn_audit") == 1


@pytest.mark.parametrize(
    "more", ["def local_batchnorm(model):\n    return model\n", "local_batchnorm = None\n", "import local_batchnorm\n"]
)
def test_a_name_that_is_taken_is_left(more: str) -> None:
    assert _fixed(_HEAD + more + _NET + _CALL) is None


def test_no_place_for_the_import() -> None:
    inside = "\n".join(f"    {line}" for line in (_HEAD + _NET).splitlines())
    assert _fixed(f"def main():\n{inside}\n    {_CALL}main()\n") is None


def test_what_is_made_already_is_left() -> None:
    assert _fixed(_HEAD + _NET + _CALL.replace("TorchModel(model_fn=Net)", "Net()")) is None


def test_two_calls_share_the_import() -> None:
    after = _fixed(_HEAD + _NET + _CALL + _CALL)
    assert after is not None
    assert after.count(_IMPORT) == 1
    assert after.count("model=local_batchnorm(TorchModel(model_fn=Net))") == 2


def test_a_notebook_gets_it_in_the_cell_of_the_call() -> None:
    cells = [_HEAD, _NET, "import os\n" + _CALL]
    notebook = {
        "cells": [
            {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": [], "source": cell}
            for cell in cells
        ],
        "metadata": {"kernelspec": {"language": "python", "name": "python3"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    after = _fixed(json.dumps(notebook, indent=1), "train.ipynb")
    assert after is not None
    sources = ["".join(cell["source"]) for cell in json.loads(after)["cells"]]
    assert sources[:2] == cells[:2]
    assert sources[2].startswith("import os\n" + _IMPORT + "FLModel(")
    assert "model=local_batchnorm(TorchModel(model_fn=Net))" in sources[2]
