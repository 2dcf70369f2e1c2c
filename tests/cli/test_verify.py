"""``bn-audit verify``: arguments, exit statuses, and the reports."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

torch = pytest.importorskip("torch")

from bn_audit.cli.verify import command  # noqa: E402
from bn_audit.live.execute import party_states  # noqa: E402
from bn_audit.profile import Profile, StateEntry  # noqa: E402

MODEL = """
from torch import nn

class Net(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.conv = nn.Conv2d(1, width, 3)
        self.bn = nn.BatchNorm2d(width)
        self.fc = nn.Linear(width, 2)

class Last(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.conv = nn.Conv2d(1, width, 3)
        self.fc = nn.Linear(width, 2)
        self.bn = nn.BatchNorm2d(width)

def broken():
    raise RuntimeError("no weights here")
"""
SECRETFLOW = ("--framework", "secretflow")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "model.py").write_text(MODEL)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(command, arguments)


def _valid(text: str) -> Any:
    from jsonschema import Draft202012Validator

    schema = json.loads(resources.files("bn_audit.report").joinpath("verification.schema.json").read_text())
    Draft202012Validator.check_schema(schema)
    data = json.loads(text)
    Draft202012Validator(schema).validate(data)
    return data


def test_right_is_0() -> None:
    result = _run("model.py:Last", *SECRETFLOW, "--skip-bn")
    assert result.exit_code == 0, result.output
    assert "right: after 2 rounds the state equals FedBN's: 4 entries averaged, 5 entries local" in result.output


def test_wrong_is_1() -> None:
    result = _run("model.py:Net", *SECRETFLOW, "--skip-bn")
    assert result.exit_code == 1
    assert "2 of 9 entries are not what FedBN leaves: 2 stale" in result.output
    assert "averaged     stale          stale           2  fc" in result.output


def test_a_stop_shows_the_error() -> None:
    result = _run("model.py:Net", *SECRETFLOW, "--aggregator", "secure")
    assert result.exit_code == 1
    expected = "stops: before any training, with AssertionError: Data should have same dtypes but got int64 float32"
    assert expected in " ".join(result.output.split())


def test_a_long_error_is_cut_and_shown_with_all() -> None:
    deep = "nn.Sequential(*(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)) for _ in range(9)))"
    Path("deep.py").write_text(f"from torch import nn\n\nmodel = {deep}\n")
    arguments = ("deep.py:model", *SECRETFLOW)
    short, whole = _run(*arguments).output, _run(*arguments, "--all").output
    assert "The error's first lines" in short
    assert "and 4 more lines; --all shows them" in short
    assert short.count("copying a param") == 1 + 5
    assert "The error in full" in whole
    assert whole.count("copying a param") == 1 + 9


def test_json_of_a_verification() -> None:
    data = _valid(_run("model.py:Net", *SECRETFLOW, "--skip-bn", "--output-format", "json").output)
    assert data["ok"] is False
    assert data["error"] is None
    head = next(one for one in data["entries"] if one["key"] == "fc.weight")
    assert (head["expected"], head["fate"], head["measured"], head["right"]) == ("averaged", "stale", ["stale"], False)
    assert head["deviation"] > 0.01
    stopped = _valid(_run("model.py:Net", *SECRETFLOW, "--output-format", "json").output)
    assert stopped["error"].startswith("RuntimeError: Error(s) in loading state_dict")
    assert stopped["error_round"] == 0


def test_before_and_after() -> None:
    arguments = ("model.py:Net", *SECRETFLOW, "--before=--no-skip-bn")
    still = _run(*arguments, "--after=--skip-bn")
    assert still.exit_code == 1
    assert "still wrong: 2 rounds ran" in still.output
    fixed = _run(*arguments, "--after=model.py:Last --skip-bn")
    assert fixed.exit_code == 0
    assert "before: model.py:Net" in fixed.output
    assert "after: model.py:Last" in fixed.output
    data = _valid(_run(*arguments, "--after=model.py:Last --skip-bn", "--output-format", "json").output)
    assert (data["before"]["verdict"], data["after"]["verdict"], data["ok"]) == ("stops", "right", True)


def test_markdown() -> None:
    output = _run("model.py:Net", *SECRETFLOW, "--skip-bn", "--output-format", "markdown").output
    assert output.startswith("### bn-audit verify: `model.py:Net`\n")
    assert "| averaged | **stale** | **stale** | 2 | `fc` |" in output


def test_every_entry_on_a_line() -> None:
    output = _run("model.py:Net", *SECRETFLOW, "--skip-bn", "--all").output
    (line,) = (line for line in output.splitlines() if "fc.weight" in line)
    assert line.split()[1:4] == ["averaged", "stale", "stale"]


def test_what_chance_decides_is_said_to_be_chance() -> None:
    # The counters of a model on the meta device have no value, and SecretFlow takes it for a size.
    chance = _run("model.py:Last", *SECRETFLOW, "--meta")
    assert "2 rounds may run without an error, by chance" in " ".join(chance.output.split())
    zero = _run("model.py:Last", "--framework", "flower")
    assert "2 rounds ran without an error" in " ".join(zero.output.split())


def test_what_the_plan_leaves_open_is_not_said_to_be_measured(folder: Path) -> None:
    torch.save({"fc.weight": torch.ones(2, 2), "n.running_mean": torch.ones(2), "n.running_var": torch.ones(2)}, "a.pt")
    result = _run("a.pt", *SECRETFLOW, "--skip-bn")
    assert result.exit_code == 1
    text = " ".join(result.output.split())
    assert "open: not proven" in text
    assert "note: a module tells more than a file of its state: name the model itself, as file.py:CLASS" in text
    assert "--engine" not in text
    data = _valid(_run("a.pt", *SECRETFLOW, "--skip-bn", "--output-format", "json").output)
    left = [one for one in data["entries"] if one["key"].startswith("n.")]
    assert [(one["measured"], one["deviation"], one["right"]) for one in left] == [([], None, None)] * 2


def test_what_the_classes_would_settle_is_said_with_a_module() -> None:
    Path("plain.py").write_text("from torch import nn\n\nmodel = nn.Linear(2, 2)\n")
    result = _run("plain.py:model", *SECRETFLOW, "--strategy", "fed_avg_g")
    assert "--engine WHEEL asks the framework's own classes" in " ".join(result.output.split())
    flower = _run("model.py:Last", "--framework", "flower")
    assert "--engine" not in flower.output


def test_colour_only_where_it_is_wanted() -> None:
    arguments = ("model.py:Last", *SECRETFLOW, "--skip-bn")
    assert "\x1b[" not in _run(*arguments).output
    assert "\x1b[32m" in CliRunner().invoke(command, [*arguments, "--color", "always"], color=True).output


@pytest.fixture
def checkpoints(folder: Path) -> list[str]:
    torch.manual_seed(0)
    shared = {"conv.weight": torch.rand(4, 1, 3, 3)}
    for name in ("a", "b", "c"):
        own = {f"bn.{key}": torch.rand(4) for key in ("weight", "bias", "running_mean", "running_var")}
        torch.save({**shared, **own}, folder / f"{name}.pt")
    torch.save({**shared, **own, "conv.weight": torch.rand(4, 1, 3, 3)}, folder / "previous.pt")
    return ["a.pt", "b.pt", "c.pt"]


def test_parties(checkpoints: list[str]) -> None:
    result = _run("--parties", *checkpoints, "--previous", "previous.pt")
    assert result.exit_code == 0, result.output
    assert "right: the round left what FedBN leaves: 1 entry equal in all parties" in result.output
    data = _valid(_run("--parties", *checkpoints, "--output-format", "json").output)
    assert data["parties"] == checkpoints
    assert data["ok"] is True


def test_parties_that_differ(checkpoints: list[str], folder: Path) -> None:
    state = torch.load(folder / "b.pt")
    state["conv.weight"][0] += 1
    torch.save(state, folder / "b.pt")
    for form in ("text", "markdown", "json"):
        result = _run("--output-format", form, "--parties", *checkpoints)
        assert result.exit_code == 1
        assert "b.pt differs from a.pt by up to 1" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "name a TARGET"),
        (("model.py:Net",), "--framework secretflow, flower or nvflare"),
        (("model.py:Net", *SECRETFLOW, "--before", ""), "go together"),
        (("model.py:Net", *SECRETFLOW, "--before", "", "--after", "--nonsense"), "No such option"),
        (("model.py:Net", *SECRETFLOW, "--before", "", "--after", "'"), "No closing quotation"),
        (("model.py:Nothing", *SECRETFLOW), "has no attribute"),
        (("model.py:broken", *SECRETFLOW), "no weights here"),
        (("none.pt", *SECRETFLOW), "there is no file"),
        (("model.py:Net", "--frozen", "x"), "--frozen needs --parties"),
        (("--parties", "none.pt", "none2.pt"), "none.pt"),
        (("--parties", "a.pt", "a.pt"), "twice"),
        (("--parties", "a.pt", *SECRETFLOW), "judges what ran"),
        (("model.py:Net", *SECRETFLOW, "--html", "none/page.html"), "there is no folder"),
        (("model.py:Net", "--train", "--html", "page.html"), "of --train there is --plot"),
        (("model.py:Net", *SECRETFLOW, "--engine", "none.whl"), "cannot be read as a wheel"),
        (("model.py:Net", "--framework", "flower", "--engine", "none.whl"), "runs another framework"),
        (("model.py:Net", "--framework", "flower", "--strategy", "fedadam"), "does not hand out the weighted mean"),
        (("model.py:Net", "--framework", "nvflare", "--skip-bn"), "--skip-bn is for SecretFlow"),
    ],
)
def test_errors_are_2(arguments: tuple[str, ...], message: str) -> None:
    result = _run(*arguments)
    assert result.exit_code == 2
    assert message in result.output
    assert "cli/verify.py" not in result.output


@pytest.mark.parametrize(
    ("flags", "verdict"),
    [
        (("flower",), "wrong"),
        (("flower", "--keep-norms"), "right"),
        (("flower", "--keep-local", "bn", "--api", "message"), "right"),
        (("flower", "--rebuild", "torch.Tensor"), "stops"),
        (("nvflare", "--exchange", "pytorch"), "wrong"),
        (("nvflare", "--keep-norms", "--transfer", "diff"), "right"),
        (("nvflare", "--exclude-vars", "^bn", "--transfer", "diff"), "wrong"),
        (("nvflare", "--exclude-vars", "^bn"), "stops"),
    ],
)
def test_other_frameworks(flags: tuple[str, ...], verdict: str) -> None:
    result = _run("model.py:Net", "--framework", *flags, "--output-format", "json")
    assert result.exit_code == (0 if verdict == "right" else 1), result.output
    data = _valid(result.output)
    assert data["verdict"] == verdict
    for entry in data["entries"]:
        assert not entry["measured"] or entry["fate"] in entry["measured"], entry


def test_a_fix_for_flower() -> None:
    fix = ("--before", "--no-keep-norms", "--after", "--keep-norms")
    result = _run("model.py:Net", "--framework", "flower", *fix)
    assert result.exit_code == 0, result.output
    assert "before: model.py:Net: Flower: fedavg" in result.output
    assert "clients keep norm layers" in result.output


def test_zeros_and_what_is_handed_out_again_are_set_on_the_tensors(folder: Path) -> None:
    (folder / "model.py").write_text(
        MODEL + "\nimport torch\nclass Table(Last):\n    def __init__(self):\n        super().__init__()\n"
        "        self.register_buffer('ids', torch.arange(1, 5))\n"
    )
    data = _valid(_run("model.py:Table", "--framework", "flower", "--keep-norms", "--output-format", "json").output)
    ids = next(entry for entry in data["entries"] if entry["key"] == "ids")
    entry = StateEntry("ids", (4,), "int64", "buffer", "")
    held = party_states(Profile((entry,)), 3)[0]["ids"]
    # Set to 0: as far from FedBN's as the largest value.
    assert (ids["fate"], ids["measured"], ids["deviation"]) == ("corrupt", ["corrupt"], float(held.max()))


@pytest.mark.secretflow
def test_the_wheel(secretflow_wheel: Path) -> None:
    result = _run(
        "model.py:Net", *SECRETFLOW, "--skip-bn", "--engine", str(secretflow_wheel), "--output-format", "json"
    )
    assert result.exit_code == 1
    data = _valid(result.output)
    assert data["engine"] == "wheel"
    assert data["settings"]["secretflow_version"].startswith("1.13")
    assert data["disagreements"] == []
    assert {one["key"] for one in data["entries"] if not one["right"]} == {"fc.weight", "fc.bias"}


def test_a_page() -> None:
    pytest.importorskip("jinja2")
    flags = (*SECRETFLOW, "--aggregator", "spu", "--before", "--no-skip-bn", "--after", "--skip-bn")
    result = _run("model.py:Net", *flags, "--html", "page.html")
    assert result.exit_code == 1, result.output
    page = Path("page.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>") and "before: measured" in page
    assert result.output == _run("model.py:Net", *flags).output
