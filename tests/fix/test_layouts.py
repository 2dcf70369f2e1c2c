"""A new argument is written as the others are: calls in every layout that people write, before and after the fix.

The pairs stand in ``tests/data/fixes/layouts.txt``; ``BN_AUDIT_UPDATE=1`` writes what comes after the arrow, for a
person to read. Beside it, what no golden file can say: the result is Python, says ``skip_bn=True`` once, and differs
only inside the call.
"""

from __future__ import annotations

import ast
import os
import re
from pathlib import Path

import pytest

from bn_audit.audit import Selection, Versions, audit
from bn_audit.finding import Applicability, Finding, Fix
from bn_audit.fix.edits import edit_text
from bn_audit.source.read import ReadOptions, read

LAYOUTS = Path(__file__).parent.parent / "data" / "fixes" / "layouts.txt"
ARROW = "\n--->\n"

PROGRAM = """\
import functools

import secretflow as sf
from secretflow.security.aggregation import SecureAggregator
from secretflow_fl.ml.nn import FLModel
from secretflow_fl.ml.nn.core.torch import TorchModel
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 8)
        self.bn = nn.BatchNorm1d(8)


alice, bob, charlie = sf.PYU("alice"), sf.PYU("bob"), sf.PYU("charlie")
devices = [alice, bob]
model = TorchModel(model_fn=Net)
secure = SecureAggregator(charlie, devices)
settings = {"server": charlie, "device_list": devices, "backend": "torch"}
complete = {**settings, "aggregator": secure}
everything = {**complete, "model": model}
prepared = functools.partial(FLModel, aggregator=secure, backend="torch")


def make(net, **further):
    return FLModel(model=TorchModel(model_fn=net), aggregator=secure, backend="torch", **further)


def make_default(net=Net, skip_bn=False):
    return make(net, skip_bn=skip_bn)


def named(net, fedbn=False):
    return make(net, skip_bn=fedbn)


def make_of(nets, **further):
    return make(next(iter(nets)), **further)


def choose(net):
    return net


class Federation(FLModel):
    def __init__(self, net, **further):
        super().__init__(model=TorchModel(model_fn=net), aggregator=secure, backend="torch", **further)


"""


def layouts() -> list[tuple[str, str, str]]:
    """Name, call, and call after the fix."""
    text = LAYOUTS.read_bytes().decode("utf-8")
    parts = [part.partition("\n") for part in re.split(r"^=== ", text, flags=re.MULTILINE)[1:]]
    return [(name, *body.removesuffix("\n\n").split(ARROW, 1)) for name, _, body in parts]  # type: ignore[misc]


CASES = layouts()
NAMES = [name for name, _, _ in CASES]


@pytest.fixture(scope="module")
def fixes(tmp_path_factory: pytest.TempPathFactory) -> list[Finding]:
    """The finding with a fix in each layout's program, all read in one go."""
    folder = tmp_path_factory.mktemp("layouts")
    paths = []
    for number, (_, before, _) in enumerate(CASES):
        path = folder / f"layout{number}.py"
        path.write_bytes((PROGRAM + before + "\n").encode())
        paths.append(str(path))
    result = read(paths, options=ReadOptions(jobs=1))
    assert not result.unreadable
    found = audit(result.sites, (), Selection(), lambda path: Versions(torch="2.13.0"))
    by_path: dict[str, list[Finding]] = {path: [] for path in paths}
    for finding in found:
        if finding.code in ("BNA101", "BNA102"):
            by_path[finding.location.path].append(finding)
    counts = {name: len(by_path[path]) for name, path in zip(NAMES, paths, strict=True) if len(by_path[path]) != 1}
    assert not counts, "layouts without a finding, or with several"
    return [by_path[path][0] for path in paths]


def fixed(finding: Finding, before: str) -> str:
    assert finding.fix is not None
    return edit_text(PROGRAM + before + "\n", finding.fix.edits).text.removeprefix(PROGRAM).removesuffix("\n")


def test_there_are_many() -> None:
    assert len(CASES) >= 60
    assert len(set(NAMES)) == len(NAMES)


def test_golden(fixes: list[Finding]) -> None:
    after = [fixed(finding, before) for finding, (_, before, _) in zip(fixes, CASES, strict=True)]
    if os.environ.get("BN_AUDIT_UPDATE"):
        rows = (f"=== {name}\n{before}{ARROW}{new}\n\n" for (name, before, _), new in zip(CASES, after, strict=True))
        LAYOUTS.write_bytes("".join(rows).encode())
        return
    assert after == [expected for _, _, expected in CASES]


@pytest.mark.parametrize("number", range(len(CASES)), ids=NAMES)
def test_what_no_golden_file_can_say(number: int, fixes: list[Finding]) -> None:
    _, before, _ = CASES[number]
    finding = fixes[number]
    fix = finding.fix
    assert isinstance(fix, Fix)
    assert fix.applicability is Applicability.SAFE
    after = fixed(finding, before)
    program = PROGRAM + after + "\n"
    compile(program, "layout.py", "exec")  # a keyword that is there twice is an error only here
    # The same tree but for the one argument, or the one constant.
    assert difference(PROGRAM + before + "\n", program) in ("an argument", "a constant")


def difference(before: str, after: str) -> str:
    """What tells two programs apart, in words."""
    old, new = ast.parse(before), ast.parse(after)
    pairs = list(zip(constants(old), constants(new), strict=False))
    if len(constants(old)) == len(constants(new)) and sum(a is not b for a, b in pairs) == 1:
        return "a constant" if ast.dump(masked(old)) == ast.dump(masked(new)) else "something else"
    if len(named(new)) == len(named(old)) + 1:
        return "an argument" if ast.dump(without(old)) == ast.dump(without(new)) else "something else"
    return "something else"


def constants(tree: ast.AST) -> list[object]:
    """The values True, False and None of a program, in order."""
    values = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    return [value for value in values if value is None or isinstance(value, bool)]


def named(tree: ast.AST) -> list[ast.keyword]:
    """The arguments by which skip_bn is passed."""
    return [node for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg in ("skip_bn", "fedbn")]


def masked(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and (node.value is None or isinstance(node.value, bool)):
            node.value = None
    return tree


def without(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            node.keywords = [word for word in node.keywords if word.arg not in ("skip_bn", "fedbn")]
    return tree
