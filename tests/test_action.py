"""The GitHub action: its steps, run by bash as GitHub's runner does it, on a project of their own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "action.yml").read_text(encoding="utf-8")
ACTION: dict[str, Any] = yaml.safe_load(TEXT)
STEPS: list[dict[str, Any]] = ACTION["runs"]["steps"]

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")


class Runner:
    """What GitHub's runner does for a composite action: expressions, environment, outputs."""

    def __init__(self, temp: Path, outputs: Mapping[str, str]) -> None:
        self.temp = temp
        self.outputs = dict(outputs)

    def step(self, name: str, workspace: Path, **inputs: str) -> subprocess.CompletedProcess[str]:
        (step,) = (step for step in STEPS if step["id"] == name)
        values = {f"inputs.{key}": str(row["default"]) for key, row in ACTION["inputs"].items()}
        values |= {f"inputs.{key.replace('_', '-')}": value for key, value in inputs.items()} | self.outputs
        environment = {
            key: re.sub(r"\$\{\{ (.*?) \}\}", lambda m: values[m[1]], text) for key, text in step["env"].items()
        }
        output = self.temp / "output"
        output.write_bytes(b"")
        script = self.temp / f"{name}.sh"
        script.write_text(step["run"], encoding="utf-8")
        given = {
            "GITHUB_ACTIONS": "true",
            "GITHUB_ACTION_PATH": str(ROOT),
            "GITHUB_OUTPUT": str(output),
            "GITHUB_WORKSPACE": str(workspace),
            "RUNNER_TEMP": str(self.temp),
        }
        assert step["shell"] == "bash"
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)],
            cwd=workspace,
            env={**{k: v for k, v in os.environ.items() if k != "PYTHONPATH"}, **environment, **given},
            capture_output=True,
            text=True,
            check=False,
        )
        for line in output.read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition("=")
            self.outputs[f"steps.{name}.outputs.{key}"] = value
        return done


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    """A runner that has installed the action from this checkout."""
    runner = Runner(tmp_path_factory.mktemp("runner temp"), {})
    done = runner.step("install", tmp_path_factory.mktemp("empty"))
    if done.returncode and os.environ.get("CI", "").lower() not in ("1", "true"):
        pytest.skip(f"cannot be installed here: {done.stderr.strip()[-400:]}")
    assert done.returncode == 0, done.stderr
    return runner


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name, example in (("bad one", "missing_skip_bn"), ("right", "right")):
        shutil.copytree(ROOT / "examples" / example, tmp_path / name)
    return tmp_path


def test_every_input_is_used_and_described() -> None:
    assert set(re.findall(r"inputs\.([\w-]+)", TEXT)) == set(ACTION["inputs"])
    for row in (*ACTION["inputs"].values(), *ACTION["outputs"].values()):
        assert row["description"]
    # An input in a script would be executed; in the environment it is only read.
    assert not [step for step in STEPS if "${{" in step["run"]]


def test_it_is_installed_in_an_environment_of_its_own(runner: Runner) -> None:
    folder = Path(runner.outputs["steps.install.outputs.bin"])
    listed = subprocess.run([folder / "python", "-m", "pip", "list", "--format=json"], capture_output=True, check=True)
    names = {row["name"] for row in json.loads(listed.stdout)}
    assert "bn-audit" in names and "torch" not in names


def test_findings_fail_and_are_in_sarif(runner: Runner, project: Path) -> None:
    done = runner.step("scan", project)
    assert done.returncode == 1, done.stderr
    assert "bad one/train.py:" in done.stdout and "BNA101" in done.stdout
    assert runner.outputs["steps.scan.outputs.status"] == "1"
    (run,) = json.loads((project / "bn-audit.sarif").read_bytes())["runs"]
    assert [result["ruleId"] for result in run["results"]] == ["BNA101"]
    place = run["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]
    assert place["uri"] == "bad%20one/train.py"


def test_findings_need_not_fail(runner: Runner, project: Path) -> None:
    done = runner.step("scan", project, fail="false")
    assert (done.returncode, runner.outputs["steps.scan.outputs.status"]) == (0, "1")


@pytest.mark.parametrize("args", ["--ignore BNA101", "--exclude 'bad one' --force-exclude"])
def test_flags_and_paths_are_words_of_a_shell(runner: Runner, project: Path, args: str) -> None:
    done = runner.step("scan", project, path="'bad one' right", args=args, sarif_file="out put.sarif")
    assert (done.returncode, runner.outputs["steps.scan.outputs.status"]) == (0, "0"), done.stderr
    assert json.loads((project / "out put.sarif").read_bytes())["runs"][0]["results"] == []


def test_without_sarif(runner: Runner, project: Path) -> None:
    done = runner.step("scan", project, path="right", sarif_file="")
    assert done.returncode == 0
    assert sorted(path.name for path in project.iterdir()) == ["bad one", "right"]


@pytest.mark.parametrize("fail", ["true", "false"])
def test_an_error_fails_always(runner: Runner, project: Path, fail: str) -> None:
    done = runner.step("scan", project, path="missing", fail=fail)
    assert done.returncode == 2
    assert "missing: no such file or folder" in done.stderr
    assert runner.outputs["steps.scan.outputs.status"] == "2"


def test_a_slip_in_fail_lets_nothing_pass(runner: Runner, project: Path) -> None:
    assert runner.step("scan", project, fail="True ").returncode == 2


def test_nothing_in_an_input_is_executed(runner: Runner, project: Path) -> None:
    done = runner.step("scan", project, path="right $(touch owned) `touch owned` ; touch owned")
    assert done.returncode == 2
    assert not (project / "owned").exists()
    assert runner.step("scan", project, path='"right').returncode != 0


def test_the_workflow_runs_the_scripts_with_the_pythons_that_are_supported() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    jobs = {name: job["steps"] for name, job in workflow["jobs"].items()}
    commands = {name: step["run"] for name, steps in jobs.items() for step in steps if "run" in step}
    assert commands == {"checks": "bash .ci/run", "release": "bash .ci/release"}
    release = (ROOT / ".ci" / "release").read_text(encoding="utf-8")
    tested = re.search(r"versions=\(([\d. ]+)\)", release)
    given = [step["with"]["python-version"] for step in jobs["release"] if "python-version" in step.get("with", {})]
    metadata = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    supported = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', metadata)
    assert tested is not None and given[0].split() == tested[1].split() == supported
