"""``bn-audit inspect`` from the command line: targets, settings, formats and exit statuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bn_audit.cli.framework import FrameworkFlags, settings_of
from bn_audit.exchange.secretflow import SecretFlowSettings
from bn_audit.extras import install
from tests.cli.conftest import Command

torch = pytest.importorskip("torch")

ROOT = Path(__file__).parent.parent.parent
SOURCE = """\
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, features=8):
        super().__init__()
        self.conv = nn.Conv2d(1, features, 3)
        self.bn = nn.BatchNorm2d(features)
        self.fc = nn.Linear(features, 10)


class Last(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 8)
        self.bn = nn.BatchNorm1d(8)


def broken():
    raise RuntimeError("no weights here")


sick = Last()
sick.bn.running_var[0] = -1.0
number = 3
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # A module of a name of its own: what is imported stays imported.
    (tmp_path / ".git").mkdir()
    (tmp_path / "inspected.py").write_text(SOURCE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.delitem(sys.modules, "inspected", raising=False)
    return tmp_path


def test_without_a_framework_the_settings_are_laid_out(folder: Path, bn_audit: Command) -> None:
    outcome = bn_audit("inspect", "inspected.py:Net")
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out.startswith("inspected.py:Net: Net, 9 entries, 1 norm layer\n")
    assert "skip_bn=True" in outcome.out and "fed_avg_w" in outcome.out
    assert "No settings of SecretFlow's are right for this model as it is." in " ".join(outcome.out.split())
    assert "No settings of SecretFlow" not in bn_audit("inspect", "inspected.py:Last").out


@pytest.mark.parametrize(
    ("target", "flags", "status", "code"),
    [
        ("Last", ["--skip-bn"], 0, None),
        ("Last", [], 1, "BNA101"),
        ("Last", ["--no-skip-bn"], 1, "BNA102"),
        ("Net", ["--skip-bn"], 1, "BNA104"),
        ("Last", ["--skip-bn", "--strategy", "fed_prox"], 1, "BNA105"),
        ("Last", ["--skip-bn", "--aggregator", "secure"], 0, None),
        ("Last", ["--skip-bn", "--secretflow-version", "1.4.0"], 1, "BNA105"),
    ],
)
def test_settings_are_judged(
    folder: Path, bn_audit: Command, target: str, flags: list[str], status: int, code: str | None
) -> None:
    outcome = bn_audit(
        "inspect", f"inspected.py:{target}", "--framework", "secretflow", *flags, "--output-format", "json"
    )
    assert outcome.status == status, outcome.err
    data = json.loads(outcome.out)
    assert data["ok"] is (status == 0)
    assert [finding["code"] for finding in data["findings"]] == ([code] if code else [])


@pytest.mark.parametrize(
    ("flags", "verdict"),
    [
        (["flower"], "spoils"),
        (["flower", "--keep-norms"], "right"),
        (["flower", "--keep-norms", "--strict"], "stops"),
        (["flower", "--keep-local", "bn"], "right"),
        (["flower", "--keep-local", "norm"], "spoils"),
        (["flower", "--rebuild", "torch.Tensor"], "stops"),
        (["flower", "--api", "message", "--keep-norms"], "right"),
        (["flower", "--strategy", "fedadam", "--keep-norms"], "right"),
        (["nvflare"], "spoils"),
        (["nvflare", "--keep-norms", "--transfer", "diff"], "right"),
        (["nvflare", "--exclude-vars", "^bn"], "stops"),
        (["nvflare", "--exclude-vars", "^bn", "--no-strict"], "right"),
        (["nvflare", "--exclude-vars", "^bn", "--transfer", "diff"], "spoils"),
    ],
)
def test_other_frameworks(folder: Path, bn_audit: Command, flags: list[str], verdict: str) -> None:
    outcome = bn_audit("inspect", "inspected.py:Net", "--framework", *flags, "--output-format", "json")
    assert outcome.status == (0 if verdict == "right" else 1), outcome.err
    data = json.loads(outcome.out)
    assert (data["verdict"], data["settings"]["framework"]) == (verdict, flags[0])


def test_the_project_pins_secretflow(folder: Path, bn_audit: Command) -> None:
    command = ["inspect", "inspected.py:Last", "--framework", "secretflow", "--skip-bn", "--output-format", "json"]
    assert json.loads(bn_audit(*command).out)["settings"]["secretflow_version"] is None
    (folder / "bn-audit.toml").write_text('secretflow-version = "1.4.0"\n', encoding="utf-8")
    outcome = bn_audit(*command)
    assert (outcome.status, json.loads(outcome.out)["settings"]["secretflow_version"]) == (1, "1.4.0")
    (folder / "bn-audit.toml").write_text("nonsense = 1\n", encoding="utf-8")
    assert "nonsense" in bn_audit(*command).err


def test_a_strategy_brings_its_aggregator() -> None:
    flags = {**dict.fromkeys(FrameworkFlags.__annotations__), "framework": "secretflow", "strategy": "fed_stc"}
    found = settings_of(flags)  # type: ignore[arg-type]
    assert isinstance(found, SecretFlowSettings) and found.aggregator == "sparse"


def test_broken_statistics_fail_without_a_framework(folder: Path, bn_audit: Command) -> None:
    outcome = bn_audit("inspect", "inspected.py:sick")
    assert outcome.status == 1
    assert "BNA406 broken-statistics" in outcome.out and "1 negative" in outcome.out


def test_checkpoints(folder: Path, bn_audit: Command) -> None:
    net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8))
    torch.save({"epoch": 3, "net": {f"module.{key}": value for key, value in net.state_dict().items()}}, "net.pt")
    outcome = bn_audit("inspect", "net.pt", "--tree")
    assert outcome.status == 0
    assert "the state dict at 'net' was taken" in outcome.out
    assert "BNA407 untrained-statistics" in outcome.out  # Somebody saved what no batch has touched.
    assert "1: BatchNorm-like(8)  <- norm layer" in outcome.out
    assert bn_audit("inspect", "net.pt", "--framework", "secretflow").status == 1
    assert "there are: net" in bn_audit("inspect", "net.pt", "--key", "nett").err


def test_arguments_and_the_meta_device(folder: Path, bn_audit: Command) -> None:
    outcome = bn_audit("inspect", "inspected.py:Net", "--arg", "features=64", "--meta", "--output-format", "json")
    (norm,) = json.loads(outcome.out)["norms"]
    assert (norm["features"], norm["health"]) == (64, None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.pt"], "there is no file missing.pt"),
        (["inspected.py:Nett"], "did you mean 'Net'"),
        (["inspected.py:number"], "no torch.nn.Module"),
        (["inspected.py:broken"], 'raise RuntimeError("no weights here")'),
        (["inspected.py:Net", "--skip-bn"], "--skip-bn needs --framework"),
        (["inspected.py:Net", "--strategy", "moon"], "--strategy needs --framework"),
        (["inspected.py:Net", "--keep-norms"], "--keep-norms needs --framework"),
        (["inspected.py:Net", "--framework", "flower", "--skip-bn"], "--skip-bn is for SecretFlow"),
        (["inspected.py:Net", "--framework", "nvflare", "--aggregator", "plain"], "--aggregator is for SecretFlow"),
        (["inspected.py:Net", "--framework", "flower", "--secretflow-version", "1.4.0"], "--secretflow-version is for"),
        (["inspected.py:Net", "--framework", "secretflow", "--api", "numpy"], "--api is for Flower"),
        (["inspected.py:Net", "--framework", "secretflow", "--keep-norms"], "--keep-norms is for Flower and NVFlare"),
        (["inspected.py:Net", "--framework", "flower", "--transfer", "diff"], "--transfer is for NVFlare"),
        (["inspected.py:Net", "--framework", "flower", "--strategy", "fed_avg_w"], "'fed_avg_w' is not"),
        (["inspected.py:Net", "--framework", "nvflare", "--exclude-vars", "("], "no regular expression"),
        (
            ["inspected.py:Net", "--framework", "flower", "--api", "message", "--rebuild", "torch.Tensor"],
            "rebuild is for the api numpy",
        ),
        (["inspected.py:Net", "--framework", "secretflow", "--strategy", "moo"], "no strategy 'moo'"),
        (["inspected.py:Net", "--framework", "secretflow", "--backend", "tensorflow"], "Keras"),
        (["inspected.py:Net", "--output-file", "no/such/folder.txt"], "No such file or directory"),
    ],
)
def test_errors_of_the_target_and_of_usage(folder: Path, bn_audit: Command, arguments: list[str], message: str) -> None:
    outcome = bn_audit("inspect", *arguments)
    assert (outcome.status, outcome.out) == (2, "")
    assert message in outcome.err
    assert str(ROOT / "bn_audit") not in outcome.err  # The user's own frames, and none of ours.


def test_what_a_model_prints_is_not_in_the_report(folder: Path, bn_audit: Command) -> None:
    (folder / "loud.py").write_text(
        "import torch\n\n"
        "class Loud(torch.nn.BatchNorm1d):\n"
        "    def __init__(self):\n        super().__init__(2)\n"
        "    def state_dict(self, *args, **kwargs):\n"
        "        print('a state dict')\n        return super().state_dict(*args, **kwargs)\n"
    )
    for command in (["inspect"], ["verify", "--framework", "flower", "--keep-norms"]):
        result = bn_audit(command[0], "loud.py:Loud", *command[1:], "--output-format", "json")
        assert json.loads(result.out)["target"] == "loud.py:Loud"
        assert "a state dict" in result.err


def test_the_report_goes_to_a_file(folder: Path, bn_audit: Command) -> None:
    outcome = bn_audit("inspect", "inspected.py:Last", "--output-format", "markdown", "--output-file", "report.md")
    assert (outcome.status, outcome.out) == (0, "")
    assert (folder / "report.md").read_text(encoding="utf-8").startswith("### bn-audit: `inspected.py:Last`\n")


def test_the_same_input_gives_the_same_bytes(folder: Path, bn_audit: Command) -> None:
    command = ["inspect", "inspected.py:Net", "--framework", "secretflow", "--skip-bn", "--tree", "--all"]
    assert bn_audit(*command).out == bn_audit(*command).out


def test_a_safetensors_file_needs_no_torch(folder: Path) -> None:
    header = {"bn.running_mean": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
    text = json.dumps(header).encode()
    (folder / "net.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(4))
    (folder / "sitecustomize.py").write_text("import sys\nsys.modules['torch'] = None\n", encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-m", "bn_audit", "inspect"]
    done = subprocess.run([*command, "net.safetensors"], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert "BatchNorm-like" in done.stdout and "not at hand" in done.stdout
    done = subprocess.run([*command, "inspected.py:Net"], capture_output=True, text=True, env=environment)
    assert done.returncode == 2
    assert install("torch") in done.stderr


def test_a_page(folder: Path, bn_audit: Command) -> None:
    pytest.importorskip("jinja2")
    result = bn_audit("inspect", "inspected.py:Net", "--html", "page.html")
    assert result.out == bn_audit("inspect", "inspected.py:Net").out
    assert (folder / "page.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    missing = bn_audit("inspect", "inspected.py:Net", "--html", "none/page.html")
    assert missing.status == 2 and "there is no folder" in missing.err
