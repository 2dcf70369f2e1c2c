"""Where several models may be the one, a message gives no model's keys as another's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from bn_audit.cli import cli
from bn_audit.rules import catalogue
from bn_audit.rules.rule import Example

OTHER = """

class {name}(nn.Module):
    def __init__(self):
        super().__init__()
        self.{layer} = nn.BatchNorm2d(3)
        self.fc = nn.Linear(3, 10)
"""
CHOICES = {
    1: "(Other() if CONTEXT.other else Net())",
    2: "(Other() if CONTEXT.other else Third() if CONTEXT.third else Net())",
}


def message(tmp_path: Path, example: Example, code: str, *layers: str) -> str:
    """What a rule says of an example in which other models, with a BatchNorm of that name, may be the one as well."""
    names = ("Other", "Third")[: len(layers)]
    for path, text in example.files:
        if "class Net(" in text:
            text += "".join(OTHER.format(name=name, layer=layer) for name, layer in zip(names, layers, strict=True))
        else:
            imported = f"from settings import CONTEXT\nfrom model import Net, {', '.join(names)}"
            text = text.replace("Net()", CHOICES[len(names)]).replace("from model import Net", imported)
        (tmp_path / path).write_text(text, encoding="utf-8")
    result = CliRunner().invoke(cli, ["scan", "--isolated", "--no-cache", "--output-format", "json", str(tmp_path)])
    texts: list[str] = [row["message"] for row in json.loads(result.stdout)["findings"] if row["code"] == code]
    assert len(texts) == 1, result.output
    return texts[0]


ONE = "`Other` (if `CONTEXT.other`)"
REST = "`Net` (if `not (CONTEXT.other)`)"
THIRD = "`Third` (if `not (CONTEXT.other)` and `CONTEXT.third`)"
LAST = "`Net` (if `not (CONTEXT.other)` and `not (CONTEXT.third)`)"


@pytest.mark.parametrize(
    ("code", "name", "told"),
    [
        ("BNA201", "num_batches_tracked", "averaging stops at {names}"),
        ("BNA202", "", "weight and bias of {names} are averaged over the parties"),
        ("BNA205", "num_batches_tracked", "takes the 0-d integer {names} for a size"),
        ("BNA206", "", "weight and bias of {names} are sent with the rest"),
        ("BNA207", "", "weight and bias of {names} are shared"),
    ],
)
def test_the_names_of_one_model_are_not_given_as_another_s(tmp_path: Path, code: str, name: str, told: str) -> None:
    example = catalogue()[code].bad[0]
    norm, bn = ("`norm.{0}`", "`bn.{0}`") if name else ("`norm`", "`bn`")
    for layers, expected in {
        ("bn",): f"{bn} of {ONE} and {REST}",
        ("norm",): f"{norm} of {ONE}, and others of {REST},",
        ("norm", "bn"): f"{norm} of {ONE}, and others of {THIRD} and {LAST},",
        ("norm", "norm"): f"{norm} of {ONE} and {THIRD}, and others of {LAST},",
    }.items():
        names = expected.replace("{0}", name)
        text = message(tmp_path, example, code, *layers)
        assert told.format(names=names) in text


def test_where_the_sentence_ends_with_them(tmp_path: Path) -> None:
    example = catalogue()["BNA208"].bad[0]
    assert message(tmp_path, example, "BNA208", "norm") == (
        f"noise is added to running statistics: `norm.running_mean` and `norm.running_var` of {ONE}, and others of "
        f"{REST}; `norm.running_var` can turn negative, and the output NaN"
    )


@pytest.mark.parametrize(
    ("layers", "told"),
    [
        (("norm",), f"`norm` of {ONE} and {REST} normalises with the statistics of each batch it is measured on, and "),
        (("bn",), f"`bn` of {ONE}, and others of {REST}, normalise with the statistics of each batch it is measured"),
    ],
)
def test_one_layer_and_several(tmp_path: Path, layers: tuple[str, ...], told: str) -> None:
    assert told in message(tmp_path, catalogue()["BNA301"].bad[0], "BNA301", *layers)


def test_a_filter_that_is_wrong_about_each_in_its_own_way(tmp_path: Path) -> None:
    """Of a model whose BatchNorm is called `bn`, the filter is right; of one with another name it catches nothing."""
    example = catalogue()["BNA203"].bad[0]
    missed = "`downsample.1.weight`, `downsample.1.bias`, `downsample.1.running_mean` and `downsample.1.running_var`"
    assert message(tmp_path, example, "BNA203", "bn") == (
        f"the filter `'bn' not in key` lets {missed} of BatchNorm through (`downsample.1`) of {REST}"
    )
    nothing = "the filter `'bn' not in key` leaves nothing out, so that all of BatchNorm goes through (`norm`) of"
    assert message(tmp_path, example, "BNA203", "norm") == f"{nothing} {ONE}, and is wrong about {REST} too"
    assert message(tmp_path, example, "BNA203", "norm", "norm") == (
        f"{nothing} {ONE} and {THIRD}, and is wrong about {LAST} too"
    )
