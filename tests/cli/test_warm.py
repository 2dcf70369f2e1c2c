"""Whatever is done to a project between two scans: with what the last one left in the cache, the next says the same, to
the byte, as one that has no cache."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bn_audit import pins
from bn_audit.cli import run
from bn_audit.source import past, positions, signature
from tests.source.projects import IMPORTS, NET, PLAIN

CALL = 'FLModel(model=TorchModel(model_fn={}), aggregator=PlainAggregator("s"), backend="torch")'
HELPER = f"""\
{IMPORTS}
def build(model, **more):
    return {CALL.format("model").removesuffix(")")}, **more)
"""
AVERAGE = """\
import copy
import torch
<FROM>

def average(states):
    total = copy.deepcopy(states[0])
    for key in total.keys():
        for other in states[1:]:
            total[key] += other[key]
        total[key] = torch.div(total[key], len(states))
    return total

def train(clients):
    model = Net()
    states = []
    for client in clients:
        local = Net()
        local.load_state_dict(model.state_dict())
        states.append(local.state_dict())
    model.load_state_dict(average(states))
"""
CLIENT = """\
import flwr as fl
from collections import OrderedDict
import torch
<FROM>

class Client(fl.client.NumPyClient):
    def __init__(self):
        self.model = Net()
    def get_parameters(self, config):
        return [value.cpu().numpy() for _, value in self.model.state_dict().items()]
    def set_parameters(self, parameters):
        pairs = zip(self.model.state_dict().keys(), parameters)
        self.model.load_state_dict(OrderedDict({k: torch.tensor(v) for k, v in pairs}), strict=True)
    def fit(self, parameters, config):
        self.set_parameters(parameters)
        return self.get_parameters(config), 1, {}
"""
MODELS = (
    NET,
    PLAIN.replace("Plain", "Net"),
    NET + "\n" * 3,
    "from .nets import *\n",
    "from nets import Net\n",
    "(",
    "",
)
SCRIPTS = (
    f"{IMPORTS}from models import Net\n{CALL.format('Net')}\n",
    f"{IMPORTS}from pkg.models import Net\n{CALL.format('Net')}  # noqa: BNA101\n",
    f"{IMPORTS}from pkg import Net\n{CALL.format('Net')}  # bn-audit: ignore[BNA105]\n",
    f"{IMPORTS}from models import *\n\n{CALL.format('Net')}\n",
    "from fl import build\nfrom models import Net\nbuild(Net)\n",
    "from pkg.fl import build\nfrom pkg.models import Net\nbuild(Net, skip_bn=False)\n",
    "from models import Net\nprint(Net)\n",
    AVERAGE.replace("<FROM>", "from models import Net"),
    AVERAGE.replace("<FROM>", "from pkg.models import Net"),
    CLIENT.replace("<FROM>", "from models import Net"),
    f"{IMPORTS}import models\n{CALL.format('models.Net').replace(')', ', skip_bn=False)')}\n",
    IMPORTS + "def broken(:\n",
)
PYPROJECTS = (
    "",
    '[tool.bn-audit]\nignore = ["BNA105"]\n',
    '[tool.bn-audit]\nmodels-with-batchnorm = ["models.Net"]\n',
    '[tool.bn-audit]\nmodels-without-batchnorm = ["models.Net", "pkg.models.Net"]\nextend-exclude = ["sub"]\n',
    '[tool.bn-audit]\nflmodel-wrappers = ["fl.build"]\nsecretflow-version = "1.5.0"\n',
    '[tool.bn-audit]\nbatchnorm-classes = ["Linear", "Conv2d"]\n',
    "[tool.bn-audit]\nunknown = 1\n",
)
NOTEBOOKS = tuple(
    json.dumps({"cells": [{"cell_type": "code", "source": script}], "nbformat": 4, "nbformat_minor": 5, "metadata": {}})
    for script in SCRIPTS[:3]
)
FILES: dict[str, tuple[str, ...]] = {
    "models.py": MODELS,
    "nets.py": MODELS,
    "pkg/__init__.py": ("", "from .models import Net\n", "from models import *\n"),
    "pkg/models.py": MODELS,
    "pkg/nets.py": MODELS,
    "src/models.py": MODELS,
    "sub/models.py": MODELS,
    "fl.py": (HELPER, "from pkg.fl import build\n", ""),
    "pkg/fl.py": (HELPER, "from ..fl import build\n"),
    "train.py": SCRIPTS,
    "sub/train.py": SCRIPTS,
    "pkg/train.py": SCRIPTS,
    "notes.ipynb": (*NOTEBOOKS, "{"),
    "pyproject.toml": PYPROJECTS,
    "sub/bn-audit.toml": ('ignore = ["BNA1"]\n', 'models-without-batchnorm = ["models.Net"]\n'),
    "requirements.txt": ("secretflow==1.13.0b0\n", "secretflow==1.4.0b0\n", "torch==2.7.0\n"),
    ".gitignore": ("pkg\n", "train.py\n"),
}
FLAGS: tuple[tuple[str, ...], ...] = (
    (),
    ("--select", "ALL"),
    ("--isolated",),
    ("--secretflow-version", "1.4.0"),
    ("--no-respect-gitignore",),
    ("--statistics",),
    ("--diff", "--unsafe-fixes"),
)
PATHS: tuple[tuple[str, ...], ...] = ((".",), (".",), ("sub", "train.py"), ("train.py",), ("pkg",))


@dataclass(frozen=True)
class Step:
    """What happens between two scans, and how the next is called."""

    writes: dict[str, str] = field(default_factory=dict)
    removes: tuple[str, ...] = ()
    moves: tuple[tuple[str, str], ...] = ()
    flags: tuple[str, ...] = ()
    paths: tuple[str, ...] = (".",)
    fixes: bool = False


@st.composite
def contents(draw: st.DrawFn) -> tuple[str, str]:
    name = draw(st.sampled_from(sorted(FILES)))
    # The first few of each are those that most depends on.
    return name, draw(st.one_of(st.sampled_from(FILES[name][:2]), st.sampled_from(FILES[name])))


NAMES = st.sampled_from(sorted(FILES))
STEPS = st.builds(
    Step,
    st.lists(contents(), max_size=3).map(dict),
    st.lists(NAMES, max_size=1).map(tuple),
    st.lists(st.tuples(NAMES, NAMES), max_size=1).map(tuple),
    st.sampled_from(FLAGS),
    st.sampled_from(PATHS),
    st.integers(0, 5).map(lambda number: number == 0),
)
BEGUN = {"models.py": NET, "pkg/models.py": NET, "pkg/__init__.py": "", "fl.py": HELPER, "pkg/fl.py": HELPER}
FIRST = st.builds(lambda rows: Step({**BEGUN, **dict(rows)}), st.lists(contents(), min_size=3, max_size=8))


def scanned(*arguments: str) -> tuple[int, str, str]:
    """Status and output of a scan in this process, as if it were a new one."""
    positions.forget()
    pins._above.cache_clear()
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = run(("scan", "-v", *arguments))
    said = [stream.buffer.getvalue().decode() for stream in (out, err)]  # type: ignore[attr-defined]
    assert "internal error" not in said[1], said[1]
    return status, said[0], said[1]


def apply(step: Step) -> None:
    for name, text in step.writes.items():
        os.makedirs(os.path.dirname(name) or ".", exist_ok=True)
        Path(name).write_text(text, encoding="utf-8")
    for name in step.removes:
        with contextlib.suppress(FileNotFoundError):
            os.remove(name)
    for old, new in step.moves:
        if os.path.exists(old):
            os.makedirs(os.path.dirname(new) or ".", exist_ok=True)
            os.replace(old, new)


@contextlib.contextmanager
def somewhere() -> Iterator[None]:
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.makedirs(os.path.join(folder, "project", ".git"))
        os.chdir(os.path.join(folder, "project"))
        try:
            yield
        finally:
            os.chdir(before)


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(FIRST, st.lists(STEPS, min_size=1, max_size=5), st.booleans(), st.booleans())
def test_warm_is_cold(
    monkeypatch: pytest.MonkeyPatch, first: Step, steps: list[Step], trusting: bool, screening: bool
) -> None:
    with monkeypatch.context() as patch, somewhere():
        if trusting:  # No two edits come within a tick of the clock here.
            patch.setattr(signature, "MARGIN", 0)
        if screening:
            patch.setattr(past, "_MANY", 0)
        for number, step in enumerate([first, *steps]):
            apply(step)
            arguments = ("--output-format", "json", *step.flags, *step.paths)
            if "--statistics" in arguments or "--diff" in arguments:
                arguments = arguments[2:]
            cold = scanned("--no-cache", *arguments)
            assert scanned("--cache-dir", "cache", *arguments) == cold
            assert scanned("--cache-dir", "cache", *arguments) == cold
            if step.fixes:
                both_fix(arguments)
            if number == len(steps):
                cold = scanned("--no-cache", *arguments)
                assert scanned("--cache-dir", "cache", "--jobs", "2", *arguments) == cold
                shutil.rmtree("cache", ignore_errors=True)
                assert scanned("--cache-dir", "cache", "--jobs", "2", *arguments) == cold
                assert scanned("--cache-dir", "cache", "--jobs", "1", *arguments) == cold


def both_fix(arguments: tuple[str, ...]) -> None:
    """Fix the same project with a cache and without; both come to the same."""
    if "--diff" in arguments:
        return
    here = os.getcwd()
    shutil.copytree(here, "../other", symlinks=True, ignore=shutil.ignore_patterns("cache"))
    try:
        os.chdir("../other")
        cold = scanned("--no-cache", "--fix", *arguments), tree()
    finally:
        os.chdir(here)
        shutil.rmtree("../other")
    assert (scanned("--cache-dir", "cache", "--fix", *arguments), tree()) == cold


def tree() -> dict[str, bytes]:
    return {name: Path(name).read_bytes() for name in FILES if os.path.exists(name)}
