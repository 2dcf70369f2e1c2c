"""The formats as the command line gives them: files, notebooks and stdin, and what could not be read."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.cli.conftest import MODELS, TRAIN, Command


def notebook(*cells: str, indent: int | None = 1, as_list: bool = True) -> str:
    """A notebook with a cell of prose before the given ones."""
    sources: list[Any] = [cell.splitlines(keepends=True) if as_list else cell for cell in cells]
    return json.dumps(
        {
            "cells": [
                {"cell_type": "markdown", "metadata": {}, "source": ["# \u00dcber\n", "\n"]},
                *({"cell_type": "code", "metadata": {}, "outputs": [], "source": source} for source in sources),
            ],
            "metadata": {},
            "nbformat": 4,
            "nbformat_minor": 5,
        },
        indent=indent,
    )


def results(document: str) -> list[dict[str, Any]]:
    found = json.loads(document)["runs"][0]["results"]
    assert isinstance(found, list)
    return found


def test_sarif(project: Path, bn_audit: Command) -> None:
    done = bn_audit("scan", "--output-format", "sarif", ".", "missing")
    assert done.status == 2
    document = json.loads(done.out)
    assert document["runs"][0]["invocations"] == [
        {
            "executionSuccessful": False,
            "exitCode": 2,
            "toolExecutionNotifications": [{"level": "error", "message": {"text": "missing: no such file or folder"}}],
        }
    ]
    (result,) = results(done.out)
    assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "train.py"
    assert {place["physicalLocation"]["artifactLocation"]["uri"] for place in result["relatedLocations"]} == {
        "train.py",
        "models.py",
    }
    assert json.loads(bn_audit("scan", "--output-format", "sarif").out)["runs"][0]["invocations"][0]["exitCode"] == 1


def test_the_exit_status_in_sarif_is_the_real_one(project: Path, bn_audit: Command) -> None:
    for flags in ((), ("--exit-zero",), ("--fail-on", "error"), ("--ignore", "BNA101")):
        done = bn_audit("scan", "--output-format", "sarif", *flags)
        assert json.loads(done.out)["runs"][0]["invocations"][0]["exitCode"] == done.status


def test_junit_fails_where_the_command_does(project: Path, bn_audit: Command) -> None:
    (project / "plain.py").write_text("pass\n", encoding="utf-8")

    def failures(*flags: str) -> str | None:
        return ElementTree.fromstring(bn_audit("scan", "--output-format", "junit", *flags).out).get("failures")

    assert failures() == "1"
    assert failures("--ignore", "BNA101") == "0"
    names = [suite.get("name") for suite in ElementTree.fromstring(bn_audit("scan", "--output-format", "junit").out)]
    assert names == ["models.py", "plain.py", "train.py"]
    (project / "train.py").write_text(TRAIN.replace("backend=", "skip_bn=False, backend="), encoding="utf-8")
    assert (failures(), failures("--fail-on", "error")) == ("1", "0")


@pytest.mark.parametrize(("indent", "as_list"), [(1, True), (4, True), (1, False), (None, True)])
def test_a_notebook_is_shown_where_its_file_has_it(
    project: Path, bn_audit: Command, indent: int | None, as_list: bool
) -> None:
    program = TRAIN.replace("from models import Net\n", MODELS).replace("charlie = ", "charlie, é = ")
    text = notebook("import os\n", program, indent=indent, as_list=as_list)
    (project / "train.ipynb").write_text(text, encoding="utf-8")
    (result,) = results(bn_audit("scan", "train.ipynb", "--output-format", "sarif").out)
    for place in (*result["locations"], *result["relatedLocations"]):
        region = place["physicalLocation"]["region"]
        lines = text.split("\n")
        first = lines[region["startLine"] - 1][region["startColumn"] - 1 :]
        assert first.startswith(("FLModel(", "TorchModel(", "Net", "nn.BatchNorm1d(8)"))
        last = lines[region["endLine"] - 1][: region["endColumn"] - 1]
        assert last.endswith((")", "Net", "n"))
    assert result["message"]["text"].startswith("cell 3, line ")
    line = result["locations"][0]["physicalLocation"]["region"]["startLine"]
    github = bn_audit("scan", "train.ipynb", "--output-format", "github").out
    assert f"file=train.ipynb,line={line}," in github
    (issue,) = json.loads(bn_audit("scan", "train.ipynb", "--output-format", "gitlab").out)
    assert issue["location"]["lines"]["begin"] == line


def test_a_broken_notebook_has_a_place_too(project: Path, bn_audit: Command) -> None:
    (project / "broken.ipynb").write_text('{"cells": [\n  {"source": "secretflow FLModel"},\n]}', encoding="utf-8")
    (project / "cell.ipynb").write_text(notebook("from secretflow.ml.nn import FLModel\n)"), encoding="utf-8")
    by_path = {
        result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]: result["locations"][0]
        for result in results(bn_audit("scan", "--select", "BNA9", "--output-format", "sarif").out)
    }
    assert by_path["broken.ipynb"]["physicalLocation"]["region"]["startLine"] in (2, 3)
    line = (project / "cell.ipynb").read_text(encoding="utf-8").split("\n").index('    ")"') + 1
    assert by_path["cell.ipynb"]["physicalLocation"]["region"]["startLine"] == line


def test_a_notebook_from_stdin(project: Path, bn_audit: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    text = notebook(TRAIN.replace("from models import Net\n", MODELS))

    class Stdin:
        buffer = io.BytesIO(text.encode())

    monkeypatch.setattr(sys, "stdin", Stdin)
    (result,) = results(bn_audit("scan", "-", "--stdin-filename", "new.ipynb", "--output-format", "sarif").out)
    region = result["locations"][0]["physicalLocation"]["region"]
    assert text.split("\n")[region["startLine"] - 1][region["startColumn"] - 1 :].startswith("FLModel(")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
@pytest.mark.parametrize("form", ["github", "gitlab", "json", "jsonl", "junit", "sarif"])
def test_odd_names(project: Path, bn_audit: Command, form: str) -> None:
    for name in ("new\nline.py", "a,b:c%.py", "\udcff.py", '"quote"\u202e.py'):
        (project / name).write_text(TRAIN, encoding="utf-8")
    out = bn_audit("scan", "--output-format", form).out
    out.encode()
    if form == "junit":
        assert ElementTree.fromstring(out).get("failures") == "5"
    elif form in ("github", "jsonl"):
        assert len(out.splitlines()) == 5
    else:
        json.loads(out)


def test_output_file_is_whole_or_not_there(project: Path, bn_audit: Command) -> None:
    report = project / "report.sarif"
    assert bn_audit("scan", "--output-format", "sarif", "--output-file", str(report)).status == 1
    before = report.read_bytes()
    assert len(results(before.decode())) == 1
    done = bn_audit("scan", "--output-format", "sarif", "--output-file", str(report / "below"))
    assert done.status == 2
    assert "report.sarif/below: " in done.err
    assert report.read_bytes() == before


@pytest.mark.parametrize("form", ["github", "gitlab", "jsonl", "junit", "sarif"])
def test_formats_without_statistics_say_so(project: Path, bn_audit: Command, form: str) -> None:
    done = bn_audit("scan", "--statistics", "--output-format", form)
    assert (done.status, done.out) == (2, "")
    assert f"the format {form} has no statistics" in done.err
