"""``bn-audit compare``: names, flags, exit statuses, and what cannot be compared."""

from __future__ import annotations

import json
import os
from importlib import resources
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

torch = pytest.importorskip("torch")

from bn_audit.cli.compare import command  # noqa: E402
from tests.live.divergence.test_compare import party  # noqa: E402


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("alice", "bob", "carol")):
        torch.save(party(shift=0.5 * (number > 1), seed=number).state_dict(), f"{name}.pt")
    return tmp_path


FILES = ("alice.pt", "bob.pt", "carol.pt")


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(command, arguments)


def test_a_comparison() -> None:
    result = _run(*FILES)
    assert result.exit_code == 0, result.output
    assert "3 parties, 2 norm layers; all other weights are the same in all parties" in result.output
    assert "First layer: bn1, 6 channels" in result.output
    assert result.output == _run(*FILES).output


def test_json_keeps_to_its_schema() -> None:
    from jsonschema import Draft202012Validator

    schema = json.loads(resources.files("bn_audit.report").joinpath("comparison.schema.json").read_text())
    result = _run(*FILES, "--output-format", "json", "--channels", "--metric", "w2", "--metric", "jeffreys")
    assert result.exit_code == 0, result.output
    data = json.loads(result.output)
    Draft202012Validator(schema).validate(data)
    assert data["parties"] == ["alice", "bob", "carol"]
    assert [metric["name"] for metric in data["metrics"]] == ["w2", "jeffreys", "nw2"]
    assert len(data["layers"][0]["channels"]) == 6


def test_names(folder: Path) -> None:
    assert json.loads(_run(*FILES, "--names", "a, b,c", "--output-format", "json").output)["parties"] == ["a", "b", "c"]
    for name in ("one", "two"):
        (folder / name).mkdir()
        (folder / f"{'alice' if name == 'one' else 'bob'}.pt").rename(folder / name / "model.pt")
    result = _run("one/model.pt", "two/model.pt", "--output-format", "json")
    assert json.loads(result.output)["parties"] == ["one/model.pt", "two/model.pt"]


def test_a_name_with_markup_is_shown_as_it_is(folder: Path) -> None:
    os.rename("alice.pt", "<script>alert(1)</script>\x1b[2J.pt".replace("/", "_"))
    result = _run("<script>alert(1)<_script>\x1b[2J.pt", "bob.pt")
    assert result.exit_code == 0
    assert "\x1b" not in result.output and r"<script>alert(1)<_script>\x1b[2J" in result.output


def test_the_report_goes_to_a_file(folder: Path) -> None:
    result = _run(*FILES, "--output-file", "report.txt")
    assert (result.exit_code, result.output) == (0, "")
    assert (folder / "report.txt").read_text(encoding="utf-8").startswith("3 parties")


MODEL = """
import sys
sys.path.insert(0, {root!r})
import torch
from tests.live.divergence.test_compare import Net

def parties():
    def of(shift):
        x = torch.randn(60, 1, 8, 8) + shift
        return x, torch.zeros(60, dtype=torch.long)
    return {{name: (of(shift), of(shift)) for name, shift in (("alice", 0), ("bob", 0), ("carol", 0.5))}}
"""
CALIBRATED = ("--data", "model.py:parties", "--model", "model.py:Net", "--batch-size", "16")


def test_chance_is_measured(folder: Path) -> None:
    (folder / "model.py").write_text(MODEL.format(root=str(Path(__file__).parents[2])))
    result = _run(*FILES, *CALIBRATED, "--splits", "50", "--output-format", "json")
    assert result.exit_code == 0, result.output
    data = json.loads(result.output)
    assert data["calibration"] == {
        "how": "split-half",
        "quantile": 0.99,
        "splits": 50,
        "examples": [60, 60, 60],
        "batch_size": 16,
        "momentum": 0.1,
    }
    assert data["layers"][0]["levels"][0] == "indistinguishable"
    assert data["layers"][0]["levels"][1] != "indistinguishable"
    assert result.output == _run(*FILES, *CALIBRATED, "--splits", "50", "--output-format", "json").output
    told = _run(*FILES, *CALIBRATED).output
    assert "of 3 pairs:" in told and "200 splits a party, 60 examples, batches of 16" in " ".join(told.split())


def test_chance_is_bounded() -> None:
    result = _run(*FILES, "--samples", "60", "--samples", "bob=30", "--batch-size", "16")
    assert result.exit_code == 0, result.output
    assert "a bound for 30 to 60 examples a party and batches of 16" in " ".join(result.output.split())


def _history(folder: Path, *, statistics: bool, cut: bool = False) -> None:
    lines = []
    for number in (1, 2):
        for name in ("alice", "bob", "carol"):
            state = torch.load(f"{name}.pt")
            layer: dict[str, object] = {"path": "bn1", "distance": 0.1 * number}
            if statistics:
                layer |= {key: state[f"bn1.running_{key}"].tolist() for key in ("mean", "var")}
            lines.append(json.dumps({"version": 1, "round": number, "party": name, "layers": [layer]}) + "\n")
    text = "".join(lines)
    (folder / "history.jsonl").write_text(text[:-30] if cut else text)


def test_a_history(folder: Path) -> None:
    _history(folder, statistics=True)
    alone = _run("--history", "history.jsonl")
    assert alone.exit_code == 0, alone.output
    assert "First layer: bn1, 6 channels" in alone.output and "Rounds 1 to 2" in alone.output
    beside = json.loads(_run(*FILES, "--history", "history.jsonl", "--output-format", "json").output)
    assert beside["history"][1] == {"round": 2, "centre": {"bn1": [0.2] * 3, "bn2": [None] * 3}}
    _history(folder, statistics=False)
    told = _run("--history", "history.jsonl")
    assert told.exit_code == 2 and "has no statistics of alice, only distances" in told.output
    _history(folder, statistics=True, cut=True)
    told = _run("--history", "history.jsonl")
    assert told.exit_code == 2 and "history.jsonl:6: the file is cut off in the middle of this line" in told.output


def test_pages_and_pictures(folder: Path) -> None:
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    (folder / "report.html").write_text("before")
    for suffix, beginning in (("png", b"\x89PNG"), ("svg", b"<?xml")):
        result = _run(*FILES, "--html", "report.html", "--plot", f"plot.{suffix}")
        assert result.exit_code == 0, result.output
        assert "Channels" not in result.output
        first = (folder / f"plot.{suffix}").read_bytes()
        assert first.startswith(beginning)
        _run(*FILES, "--plot", f"plot.{suffix}")
        assert (folder / f"plot.{suffix}").read_bytes() == first
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>") and "Show 6 channels" in page
    assert not [name for name in os.listdir() if name.startswith(".bn-audit")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((*FILES, "--plot", "a.pdf"), "ends in .png or .svg"),
        ((*FILES, "--plot", "none/a.png"), "there is no folder"),
        ((*FILES, "--html", "none/a.html"), "there is no folder"),
        (("--history", "none.jsonl"), "none.jsonl: No such file"),
        (("--history", "none.jsonl", "--names", "a,b"), "a history has names of its own"),
        (("alice.pt", "--history", "none.jsonl"), "one party alone cannot be compared"),
        ((*FILES, "--data", "model.py:parties"), "--data needs --model"),
        ((*FILES, "--samples", "60"), "give --batch-size"),
        ((*FILES, "--batch-size", "16"), "--batch-size needs --samples or --data"),
        ((*FILES, "--samples", "0", "--batch-size", "16"), "--samples 0: a number above 0"),
        ((*FILES, "--samples", "eve=3", "--batch-size", "16"), "no party is called 'eve'; there are alice, bob, carol"),
        ((*FILES, "--samples", "bob=3", "--batch-size", "16"), "--samples says nothing of alice"),
        ((*FILES, *CALIBRATED, "--samples", "3"), "with --data leave it out"),
        ((*FILES, "--splits", "30"), "--splits needs --data"),
        ((*FILES, "--arg", "a=1"), "--arg needs --model"),
        ((*FILES, "--data", "none.py:f", "--model", "none.py:g", "--batch-size", "2"), "there is no file none.py"),
        ((*FILES, *CALIBRATED, "--names", "a,b,c"), "the data has no party called 'a'; it has alice, bob, carol"),
        ((), "name the parties' checkpoints"),
        (("alice.pt",), "one party alone cannot be compared"),
        (("alice.pt", "alice.pt"), "are the same file"),
        (("alice.pt", "./alice.pt"), "are the same file"),
        (("alice.pt", "link.pt"), "are the same file"),
        (("alice.pt", "copy.pt"), "alice and copy have the same statistics, bit for bit"),
        (("alice.pt", "none.pt"), "none.pt: No such file"),
        (("alice.pt", "."), "is a directory"),
        (("alice.pt", "cut.pt"), "cut.pt is a damaged zip archive"),
        (("alice.pt", "module.pt"), "holds more than weights, and is not read"),
        (("alice.pt", "nan.pt"), "bn2 of nan is broken (BNA406)"),
        ((*FILES, "--names", "a,b"), "--names takes 3 different names"),
        ((*FILES, "--names", "a,b,a"), "--names takes 3 different names"),
        ((*FILES, "--momentum", "2"), "--momentum 2: a number above 0"),
        ((*FILES, "--layer", "bn7"), "no norm layer is called 'bn7'"),
        ((*FILES, "--key", "model"), "model"),
        ((*FILES, "--output-file", "none/report.txt"), "none/report.txt"),
    ],
)
def test_errors_are_2(folder: Path, arguments: tuple[str, ...], message: str) -> None:
    (folder / "model.py").write_text(MODEL.format(root=str(Path(__file__).parents[2])))
    (folder / "link.pt").symlink_to("alice.pt")
    (folder / "copy.pt").write_bytes((folder / "alice.pt").read_bytes())
    (folder / "cut.pt").write_bytes((folder / "bob.pt").read_bytes()[:5000])
    model = party(seed=5)
    torch.save(model, "module.pt")
    model.bn2.running_mean[0] = float("nan")
    torch.save(model.state_dict(), "nan.pt")
    result = _run(*arguments)
    assert result.exit_code == 2, result.output
    assert message in result.output
    assert "Traceback" not in result.output
