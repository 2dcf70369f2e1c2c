"""Trainings in every format, beside golden files, the schema of the JSON, and the picture of the curves."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

from bn_audit import report
from bn_audit.exchange.plan import Fate
from bn_audit.profile import StateEntry
from bn_audit.report.trainings import FORMATS, renderer
from bn_audit.report.trainings.tables import sentence
from bn_audit.report.verifications import Look
from bn_audit.training import FEDAVG, FEDBN, LOCAL, Accuracy, Curves, Party, Trained, Training
from bn_audit.verification import Verdict, Verification, VerifiedEntry
from tests.golden import same_as

SCHEMA = json.loads((Path(report.__file__).parent / "verification.schema.json").read_text(encoding="utf-8"))


def curves(method: str, *ends: tuple[float, ...], not_finite: tuple[int | None, ...] | None = None) -> Curves:
    """By the accuracies of the parties at the end, for each seed; half of them the round before."""
    rounds = tuple((tuple(value / 2 for value in end), end) for end in ends)
    return Curves(method, rounds, not_finite or (None,) * len(ends))


ONE = Training(
    target="model.py:Net",
    data="data.py:parties",
    parties=(Party("alice", 100, 20), Party("bob_|b", 50, 25)),
    classes=3,
    rounds=2,
    epochs=1,
    seeds=(0,),
    batch_size=32,
    learning_rate=0.1,
    curves=(curves(FEDAVG, (0.5, 0.25)), curves(FEDBN, (0.75, 0.5)), curves(LOCAL, (0.75, 0.5))),
    notes=("the setting is not trained: it stops before any training",),
)
TWO = replace(
    ONE,
    seeds=(0, 1),
    curves=(
        curves(FEDAVG, (0.5, 0.25), (0.6, 0.25), not_finite=(None, 2)),
        curves(FEDBN, (0.75, 0.5), (0.7, 0.5)),
        curves(LOCAL, (0.9, 0.8), (0.8, 0.8)),
        curves("SecretFlow", (0.75, 0.5), (0.7, 0.5)),
    ),
    notes=(),
)
MANY = replace(
    ONE,
    parties=tuple(Party(f"party {n}", 10, 10) for n in range(30)),
    curves=tuple(curves(name, tuple(n / 100 for n in range(30))) for name in (FEDAVG, FEDBN, LOCAL)),
    notes=(),
)
VERIFIED = Verification(
    target="model.py:Net",
    engine="contract",
    parties=3,
    rounds=2,
    settings=(("framework", "secretflow"), ("strategy", "fed_avg_w"), ("aggregator", "plain"), ("skip_bn", "True")),
    entries=(
        VerifiedEntry(
            StateEntry("fc.weight", (2, 2), "float32", "parameter", "fc"),
            None,
            frozenset({Fate.AVERAGED}),
            frozenset({Fate.STALE}),
            None,
            (Fate.STALE,),
            0.25,
            False,
        ),
    ),
    stop=None,
    drifts=False,
    disagreements=(),
    notes=(),
    verdict=Verdict.WRONG,
)
TRAINED = {"one": Trained(ONE), "two": Trained(TWO, VERIFIED), "many": Trained(MANY)}


def written(trained: Trained, form: str, look: Look) -> str:
    return "".join(f"{line}\n" for line in renderer(form)(trained, look))


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("form", FORMATS)
def test_golden(name: str, form: str) -> None:
    text = written(TRAINED[name], form, Look(width=80))
    assert not re.search(r"[ \t]$", text, flags=re.MULTILINE)
    if (name, form) != ("many", "json"):
        same_as(f"training/{name}.{form}.txt", text)


@pytest.mark.parametrize("name", TRAINED)
def test_json_keeps_to_its_schema(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    document = json.loads(written(TRAINED[name], "json", Look()))
    jsonschema.validate(document, SCHEMA)
    assert document["ok"] is TRAINED[name].ok
    for damage in ({"method": "FedMean"}, {"curves": [[[1.5]]]}, {"accuracy": {"mean": 0.5}}):
        document["training"]["methods"][0].update(damage)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(document, SCHEMA)
        document = json.loads(written(TRAINED[name], "json", Look()))


def test_json_holds_the_whole_curves() -> None:
    document = json.loads(written(TRAINED["two"], "json", Look()))
    fedavg = document["training"]["methods"][0]
    assert fedavg["curves"] == [[[0.25, 0.125], [0.5, 0.25]], [[0.3, 0.125], [0.6, 0.25]]]
    assert fedavg["accuracy"]["mean"] == pytest.approx(0.4)
    assert fedavg["not_finite"] == [None, 2]
    assert document["verification"]["verdict"] == "wrong"


def test_a_refuted_setting_is_not_ok() -> None:
    assert TRAINED["one"].ok
    assert not TRAINED["two"].ok


def test_accuracies_over_seeds() -> None:
    assert Accuracy.over([0.5]) == Accuracy(0.5, None)
    two = Accuracy.over([0.4, 0.6])
    assert (two.mean, two.spread) == (pytest.approx(0.5), pytest.approx(0.02**0.5))
    # Seed by seed: what all ways have in common does not count as spread.
    first, second = curves(FEDAVG, (0.1,), (0.5,)), curves(FEDBN, (0.2,), (0.6,))
    assert second.above(first).spread == pytest.approx(0)


@pytest.mark.parametrize(
    ("fedavg", "local", "told"),
    [
        (0.5, 0.75, "FedBN ends 25.0 points above FedAvg and level with local only"),
        (0.9, 0.7496, "FedBN ends 15.0 points below FedAvg and level with local only"),
    ],
)
def test_the_sentence(fedavg: float, local: float, told: str) -> None:
    ways = (curves(FEDAVG, (fedavg,)), curves(FEDBN, (0.75,)), curves(LOCAL, (local,)))
    assert sentence(replace(ONE, curves=ways)) == told


def test_all_parties_if_asked_for() -> None:
    assert "party 25" not in written(TRAINED["many"], "text", Look())
    assert "party 25" in written(TRAINED["many"], "text", Look(every=True))


def test_ascii_and_colour() -> None:
    plain = written(TRAINED["two"], "text", Look(ascii_only=True))
    assert plain.isascii() and "+-" in plain
    assert "\x1b[" in written(TRAINED["two"], "text", Look(color=True))
    assert "\x1b[" not in plain


@pytest.mark.parametrize("name", ["one", "two", "many"])
@pytest.mark.parametrize("suffix", [".png", ".svg", ".SVG"])
def test_the_picture(name: str, suffix: str) -> None:
    pytest.importorskip("matplotlib")
    from bn_audit.report.trainings.plot import picture

    content = picture(TRAINED[name].training, f"a{suffix}")
    assert content.startswith(b"\x89PNG\r\n" if suffix == ".png" else b"<?xml")
    assert content == picture(TRAINED[name].training, f"b{suffix}")


def test_the_picture_shows_every_way_in_every_panel(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    from bn_audit.report.trainings.plot import picture

    seen: list[Figure] = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (seen.append(self), save(self, *a, **k)))
    picture(TWO, "a.png")
    panels = [axes for axes in seen[0].axes if axes.get_visible()]
    assert [panel.get_title() for panel in panels] == ["mean of the parties", "alice", "bob_|b"]
    for panel, wanted in zip(panels, (0.4, 0.55, 0.25), strict=True):
        assert [line.get_label() for line in panel.lines] == [FEDAVG, FEDBN, LOCAL, "SecretFlow"]
        assert list(panel.lines[0].get_xdata()) == [1, 2]
        assert panel.lines[0].get_ydata()[-1] == pytest.approx(100 * wanted)


def test_a_picture_of_no_known_kind() -> None:
    from bn_audit.report.trainings.plot import picture

    with pytest.raises(ValueError, match=r"ends in \.png or \.svg"):
        picture(ONE, "a.pdf")


def test_reports_import_nothing_of_weight() -> None:
    code = (
        "import sys, bn_audit.report.trainings.text, bn_audit.report.trainings.plot\n"
        "print(sorted({'torch', 'numpy', 'matplotlib', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
