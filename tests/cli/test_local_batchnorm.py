"""``--local-batchnorm``, and TARGETs that ``local_batchnorm`` makes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

torch = pytest.importorskip("torch")

import bn_audit  # noqa: E402
from bn_audit.cli.inspect import command as inspect  # noqa: E402
from bn_audit.cli.verify import command as verify  # noqa: E402
from bn_audit.federated.secretflow import local_batchnorm  # noqa: E402

_MODEL = """\
import torch
from torch import nn
from bn_audit.federated.secretflow import local_batchnorm

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))
        self.fc = nn.Linear(16, 2)

class Counting(Net):
    def __init__(self):
        super().__init__()
        self.register_buffer("ids", torch.arange(3))

wrapped = local_batchnorm(Net)
counting = local_batchnorm(Counting, integers="local")
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.py"
    path.write_text(_MODEL)
    return path


def _verify(*arguments: str) -> Result:
    return CliRunner().invoke(verify, [*arguments, "--framework", "secretflow"])


def test_before_and_after(model: Path) -> None:
    done = _verify(f"{model}:Net", "--before", "--skip-bn", "--after", "--skip-bn --local-batchnorm")
    assert done.exit_code == 0
    assert "stops: before any training" in done.output
    assert "skip_bn=True, local_batchnorm (" in done.output
    assert "4 entries averaged, 5 entries local" in done.output


def test_a_target_that_is_made_so_is_known(model: Path) -> None:
    for aggregator in ("plain", "secure", "spu", "server_agg_method"):
        done = _verify(f"{model}:wrapped", "--skip-bn", "--aggregator", aggregator, "--output-format", "json")
        assert done.exit_code == 0, done.output
        assert json.loads(done.output)["settings"]["local_batchnorm"] == "True"
    assert _verify(f"{model}:Net", "--skip-bn").exit_code == 1


def test_without_skip_bn_it_says_what_it_wants(model: Path) -> None:
    done = _verify(f"{model}:wrapped")
    assert done.exit_code == 1
    assert "pass skip_bn=True to FLModel" in " ".join(done.output.split())
    inspected = CliRunner().invoke(inspect, [f"{model}:wrapped", "--framework", "secretflow"])
    assert inspected.exit_code == 1
    assert "BNA101" in inspected.output


def test_integers_that_stay_are_told(model: Path) -> None:
    done = _verify(f"{model}:counting", "--skip-bn")
    assert done.exit_code == 0
    assert "4 entries averaged, 6 entries local" in done.output
    assert "integers that stay with each party, as asked for: ids" in " ".join(done.output.split())
    refused = _verify(f"{model}:Counting", "--skip-bn", "--local-batchnorm")
    assert "ids is int64 and no BatchNorm's: it has no mean" in " ".join(refused.output.split())


def test_the_matrix_of_a_target_that_is_made_so(model: Path) -> None:
    found = {}
    for name in ("Net", "wrapped"):
        done = CliRunner().invoke(inspect, [f"{model}:{name}", "--output-format", "json"])
        found[name] = {
            (cell["strategy"], cell["aggregator"]): cell["verdict"]
            for cell in json.loads(done.output)["matrix"]
            if cell["skip_bn"]
        }
    assert found["Net"][("fed_avg_w", "secure")] == "stops"
    right = {cell for cell, verdict in found["wrapped"].items() if verdict == "right"}
    assert right == {
        *(("fed_avg_w", name) for name in ("plain", "secure", "spu", "server_agg_method")),
        ("fed_stc", "sparse"),
        ("fed_scr", "sparse"),
    }


def test_it_is_secretflows(model: Path) -> None:
    done = CliRunner().invoke(verify, [f"{model}:Net", "--framework", "flower", "--local-batchnorm"])
    assert done.exit_code == 2
    assert "--local-batchnorm is for SecretFlow, and --framework is flower" in done.output


class _Net(torch.nn.Sequential):
    def __init__(self) -> None:
        super().__init__(torch.nn.Linear(2, 3), torch.nn.Sequential(torch.nn.BatchNorm1d(3)), torch.nn.Linear(3, 2))


def test_in_python() -> None:
    def codes(model: torch.nn.Module, **settings: bool) -> list[str]:
        found = bn_audit.audit(model, framework="secretflow", strategy="fed_avg_w", **settings)  # type: ignore[arg-type]
        return [finding.code for finding in found if finding.code.startswith("BNA1")]

    assert codes(_Net(), skip_bn=True) == ["BNA103"]
    assert codes(_Net(), skip_bn=True, local_batchnorm=True) == []
    assert codes(local_batchnorm(_Net)(), skip_bn=True) == []
    assert codes(local_batchnorm(_Net)()) == ["BNA101"]
    assert bn_audit.verify(_Net(), skip_bn=True, local_batchnorm=True).ok
    assert bn_audit.verify(local_batchnorm(_Net)(), skip_bn=True).ok
    assert not bn_audit.verify(_Net(), skip_bn=True).ok
