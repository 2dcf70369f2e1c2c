"""Apply fixes to every FLModel call of a project, as it is and with other models, and check each result.

The variants keep the calls as their authors laid them out, and exchange what they are given: the aggregator, the
strategy and the backend for those with which ``skip_bn=True`` is right if the model allows it, and the model for one
that does, one that does not, and one of which that is not known.
"""

from __future__ import annotations

import argparse
import collections
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import libcst as cst

from bn_audit.audit import Selection, Versions, audit
from bn_audit.finding import Edit, Location
from bn_audit.fix.contents import edit_bytes
from bn_audit.fix.edits import applicable
from bn_audit.fix.files import take
from bn_audit.fix.rounds import FixedFile, Judgement, fix_files, lasting
from bn_audit.source.interpreter.needs import FLMODEL_PARAMETERS
from bn_audit.source.interpreter.values import Step
from bn_audit.source.locate import Locator
from bn_audit.source.nodes import walk
from bn_audit.source.notebook import read_notebook
from bn_audit.source.outside import Outside
from bn_audit.source.parse import ParsedFile, is_notebook, parse
from bn_audit.source.positions import locate
from bn_audit.source.project import Project
from bn_audit.source.read import ReadOptions, list_files, read
from bn_audit.source.skip_bn_edit import Candidate, edit
from bn_audit.source.sources import Sources
from bn_audit.source.targets import called_name
from bn_audit.source.text import SourceError, decode
from tests.faults.layouts import bare

VARIANTS = {
    "as it is": "",
    "models that end in a BatchNorm": """\
from torch import nn


class VariantNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 8)
        self.bn = nn.BatchNorm1d(8)
""",
    "models with a BatchNorm before the last layer": """\
from torch import nn


class VariantNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.bn = nn.BatchNorm1d(4)
        self.fc = nn.Linear(4, 8)
""",
    "models with a layer after the BatchNorm that is not known": """\
from somewhere import layer
from torch import nn


class VariantNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.bn = nn.BatchNorm1d(4)
        self.layer = layer()

    def forward(self, x):
        return self.layer(self.bn(x))
""",
}
IMPORTS = """\
from secretflow.security.aggregation import PlainAggregator as VariantAggregator
from secretflow_fl.ml.nn.core.torch import TorchModel as VariantModel
from variant_net import VariantNet
"""
VALUES = {
    "model": "VariantModel(model_fn=VariantNet)",
    "aggregator": "VariantAggregator(None)",
    "strategy": '"fed_avg_w"',
    "backend": '"torch"',
    "skip_bn": "False",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("project", type=Path, help="a folder, which stays as it is")
    arguments = parser.parse_args()
    good = True
    for title, model in VARIANTS.items():
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder, "project")
            shutil.copytree(arguments.project, copy, symlinks=True, ignore=shutil.ignore_patterns(".git"))
            os.chdir(copy)
            print(f"\n{title}")
            if model:
                Path(copy, "variant_net.py").write_text(model, encoding="utf-8")
                make_variant()
            good = check() and good
            os.chdir("/")
    return 0 if good else 1


def check() -> bool:
    """Fix what lies below the working directory; whether all is as it should be."""
    before = look({})
    hits = [one for one in before.findings if one.code in ("BNA101", "BNA102")]
    offered = collections.Counter("none" if one.fix is None else one.fix.applicability.value for one in hits)
    print(f"  {len(before.sites)} places of FLModel calls, {len(hits)} findings of BNA101 and BNA102")
    print(f"  fixes: {offered['safe']} safe, {offered['unsafe']} unsafe, {offered['none']} none")
    good = True
    for unsafe in (False, True) if offered["unsafe"] else (False,):
        outcome = fix_files(before, look, take, unsafe=unsafe)
        count = sum(len(file.fixed) for file in outcome.files)
        faults = [fault for file in outcome.files for fault in inspect(file)]
        left = collections.Counter(one.code for one in outcome.judgement.findings)
        if any(applicable(one, unsafe=unsafe) for one in outcome.judgement.findings):
            faults.append("a second run would change something")
        print(
            f"  {'all' if unsafe else 'safe'} fixes: {count} findings in {len(outcome.files)} files fixed, "
            f"{len(outcome.refused)} files refused, {len(faults)} faults; "
            f"left: {dict(sorted(left.items())) or 'nothing'}"
        )
        for line in (*(f"{path}: {reason}" for path, reason in outcome.refused), *faults):
            print(f"    {line}")
        good = good and not faults and not outcome.refused
    return good


def look(contents: Mapping[str, bytes]) -> Judgement:
    named = {os.path.abspath(path): data for path, data in contents.items()}
    result = read(["."], options=ReadOptions(jobs=1), contents=named)
    found = audit(result.sites, result.unreadable, Selection(), lambda path: Versions(torch="2.13.0"))
    return Judgement(found, found, lasting(result.sites))


def inspect(file: FixedFile) -> list[str]:
    """What is wrong with a fixed file: it is no Python, or differs outside the calls and the constants they take."""
    faults = []
    for finding in file.fixed:
        for one in finding.fix.edits if finding.fix is not None else ():
            inside = covers(finding.location, one)
            if not inside and "by way of" not in finding.fix.message:  # type: ignore[union-attr]
                faults.append(f"{file.path}:{one.line}: an edit outside the call")
    for old, new in zip(programs(file.path, file.old), programs(file.path, file.new), strict=True):
        if old != new and bare(old) != bare(new):
            faults.append(f"{file.path}: another program but for the argument")
    return faults


def covers(place: Location, one: Edit) -> bool:
    start, end = (place.line, place.column), (place.end_line, place.end_column)
    return start < (one.line, one.column) and (one.end_line, one.end_column) <= end


def programs(path: str, data: bytes) -> list[str]:
    if is_notebook(path):
        return [cell.code for cell in read_notebook(data)]
    return [decode(data).text]


def make_variant() -> None:
    """Exchange what the calls below the working directory are given."""
    changed = 0
    for path in list_files(["."], options=ReadOptions()).files:
        data = Path(path).read_bytes()
        if b"FLModel" not in data:
            continue
        try:
            parsed = parse(path, data)
        except SourceError as error:
            print(f"  {path}: {error}")
            continue
        calls = [
            node
            for node in walk(parsed.module)
            if isinstance(node, cst.Call) and called_name(node) == "FLModel" and node.args
        ]
        if calls:
            changed += len(calls)
            data = edited(path, data, values_of(parsed, calls))
            data = edited(path, data, backends(path, data))
            Path(path).write_bytes(edited(path, data, imports_of(parse(path, data))))
    print(f"  {changed} calls rewritten")


Edits = dict["int | None", list[Edit]]


def edited(path: str, data: bytes, edits: Edits) -> bytes:
    return edit_bytes(path, data, edits).data


def values_of(parsed: ParsedFile, calls: Sequence[cst.Call]) -> Edits:
    """The edits that exchange what the calls are given."""
    wanted: dict[int, tuple[cst.CSTNode, str]] = {}
    for call in calls:
        for number, arg in enumerate(call.args):
            name = arg.keyword.value if arg.keyword is not None else ""
            if not name and not arg.star and number < len(FLMODEL_PARAMETERS):
                name = FLMODEL_PARAMETERS[number]
            if name in VALUES:
                wanted[id(arg.value)] = arg.value, VALUES[name]
    found: Edits = {}
    places = locate(parsed, [node for node, _ in wanted.values()])
    for identity, (_, text) in wanted.items():
        place = places[identity]
        found.setdefault(place.cell, []).append(Edit(place.line, place.column, place.end_line, place.end_column, text))
    return found


def backends(path: str, data: bytes) -> Edits:
    """The edits that name the backend where a call leaves it to the default."""
    project = Project((), Outside(Sources(contents={os.path.abspath(path): data})))
    module = project.open(path)
    locator = Locator(project)
    found: Edits = {}
    for node in walk(module.tree):
        if isinstance(node, cst.Call) and called_name(node) == "FLModel" and node.args:
            names = {arg.keyword.value for arg in node.args if arg.keyword is not None}
            if "backend" not in names and len([arg for arg in node.args if arg.keyword is None and not arg.star]) < 7:
                made = edit(Candidate(module, node, "backend"), locator)
                if made is not None:
                    cell = locator.at(Step(module, node)).cell
                    for one in made.edits:
                        text = one.content.replace("True", '"torch"')
                        found.setdefault(cell, []).append(Edit(one.line, one.column, one.line, one.column, text))
    return found


def imports_of(parsed: ParsedFile) -> Edits:
    """The edit that brings in what the calls are given, before the first statement that may stand after it."""
    part = next(part for part in parsed.parts if part.module.body)
    for statement in part.module.body:
        first = statement.body[0] if isinstance(statement, cst.SimpleStatementLine) else None
        docstring = isinstance(first, cst.Expr) and isinstance(first.value, cst.SimpleString)
        future = (
            isinstance(first, cst.ImportFrom)
            and isinstance(first.module, cst.Name)
            and first.module.value == "__future__"
        )
        if not docstring and not future:
            place = locate(parsed, [statement])[id(statement)]
            return {part.cell: [Edit(place.line, place.column, place.line, place.column, IMPORTS)]}
    return {}


if __name__ == "__main__":
    sys.exit(main())
