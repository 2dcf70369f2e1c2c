"""The package as people get it: built as an sdist and a wheel, installed without any extra, and used.

The environment has no torch. Each format, each flag of ``scan`` and each command is run by the installed ``bn-audit``.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import click
import pytest

from bn_audit import __version__
from bn_audit.cli import COMMANDS, cli
from bn_audit.cli.scan import command as scan_command
from bn_audit.extras import install
from bn_audit.report.formats import names
from bn_audit.rules import catalogue
from tests.cli.conftest import MODELS, TRAIN
from tests.live.files import header_of, write_safetensors

ROOT = Path(__file__).parent.parent
SOFT = os.environ.get("CI", "").lower() not in ("1", "true")
"""Whether an index that cannot be reached skips these tests."""


@dataclass(frozen=True)
class Installed:
    """An environment with the wheel, and the files it came from."""

    sdist: Path
    wheel: Path
    bin: Path

    def run(self, folder: Path, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        left_out = {"PYTHONPATH", "FORCE_COLOR", "NO_COLOR"}
        environment = {key: value for key, value in os.environ.items() if key not in left_out}
        return subprocess.run(
            [self.bin / "bn-audit", *arguments],
            cwd=folder,
            env=environment,
            input=stdin,
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=False,
        )


def must(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if (
        done.returncode
        and SOFT
        and ("No matching distribution" in done.stderr or "Could not find a version" in done.stderr)
    ):
        pytest.skip(f"no package index: {done.stderr.strip()[-300:]}")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Build the sdist, the wheel from it, and install that with its own dependencies alone."""
    pytest.importorskip("build")
    folder = tmp_path_factory.mktemp("wheel")
    must(sys.executable, "-m", "build", "--outdir", folder, ROOT)
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    must(sys.executable, "-m", "venv", folder / "venv")
    scripts = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
    must(scripts / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel)
    return Installed(sdist, wheel, scripts)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A federation with one finding in train.py, BNA101, which a safe fix mends."""
    (tmp_path / ".git").mkdir()
    (tmp_path / "train.py").write_text(TRAIN, encoding="utf-8")
    (tmp_path / "models.py").write_text(MODELS, encoding="utf-8")
    return tmp_path


def test_the_files_are_all_there(installed: Installed) -> None:
    package = ROOT / "bn_audit"
    files = {path.relative_to(ROOT).as_posix() for path in package.rglob("*") if path.is_file()}
    expected = {name for name in files if "__pycache__" not in name}
    assert {Path(name).suffix for name in expected} == {".py", ".typed", ".json", ".bin", ".j2"}
    with zipfile.ZipFile(installed.wheel) as archive:
        inside = {name for name in archive.namelist() if name.startswith("bn_audit/")}
        (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        text = archive.read(metadata).decode()
        assert any(name.endswith("/licenses/LICENSE") for name in archive.namelist())
    assert inside == expected
    assert f"\nVersion: {__version__}\n" in text
    with tarfile.open(installed.sdist) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    assert {*expected, "pyproject.toml", "README.md", "LICENSE", "action.yml", ".ci/run", "docs/README.md"} <= inside
    assert not [name for name in inside if name.startswith(("benchmarks", "shared", ".venv"))]


def test_it_has_no_torch(installed: Installed) -> None:
    listed = subprocess.run(
        [installed.bin / "python", "-m", "pip", "list", "--format=json"], capture_output=True, check=True
    )
    found = {row["name"].lower() for row in json.loads(listed.stdout)}
    assert {"bn-audit", "click", "libcst", "rich"} <= found
    assert not found & {"torch", "numpy", "safetensors", "pygls", "pytest"}


def test_its_version(installed: Installed, tmp_path: Path) -> None:
    first, second = installed.run(tmp_path, "--version").stdout.splitlines()
    assert first == f"bn-audit {__version__}"
    assert re.fullmatch(r"Python 3\.\d+\.\d+, libcst \S+, click \S+, rich \S+", second)


def test_a_page_needs_its_extra(installed: Installed, project: Path) -> None:
    done = installed.run(project, "scan", "--output-format", "html")
    assert (done.returncode, done.stdout) == (2, "")
    assert "needs jinja2, which is not installed: pip install 'jinja2>=3.1'" in done.stderr


@pytest.mark.parametrize("form", [name for name in names() if name != "html"])
def test_formats(installed: Installed, project: Path, form: str) -> None:
    done = installed.run(project, "scan", "--output-format", form)
    assert (done.returncode, done.stderr) == (1, "")
    assert "BNA101" in done.stdout and "train.py" in done.stdout
    again = installed.run(project, "scan", "--output-format", form, "--output-file", "report")
    assert (again.returncode, again.stdout) == (1, "")
    assert (project / "report").read_text(encoding="utf-8") == done.stdout
    if form in ("json", "gitlab", "sarif"):
        json.loads(done.stdout)
    elif form == "jsonl":
        assert [json.loads(line)["code"] for line in done.stdout.splitlines()] == ["BNA101"]
    elif form == "junit":
        assert ElementTree.fromstring(done.stdout).get("failures") == "1"


@dataclass(frozen=True)
class Case:
    """What a flag of ``scan`` does to the project.

    Attributes:
        arguments: all that follows ``scan``.
        status: of the command.
        out, err: what stdout and stderr hold.
        lacks: what stdout does not hold.
        files: what files hold afterwards.
        given: files there are before.
    """

    arguments: tuple[str, ...]
    status: int = 1
    out: tuple[str, ...] = ("BNA101",)
    err: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    files: dict[str, str] = field(default_factory=dict)
    given: dict[str, str] = field(default_factory=dict)
    stdin: str = ""


NONE = ("No findings",)
FIXED = {"train.py": "skip_bn=True"}
SETTINGS = {"bn-audit.toml": 'ignore = ["BNA101"]\n'}
CASES = {
    "--select": Case(("--select", "BNA2"), 0, NONE),
    "--ignore": Case(("--ignore", "BNA101"), 0, NONE),
    "--extend-select": Case(("--select", "BNA2", "--extend-select", "BNA101")),
    "--per-file-ignores": Case(("--per-file-ignores", "train.py:BNA101"), 0, NONE),
    "--extend-per-file-ignores": Case(("--extend-per-file-ignores", "*.py:BNA1"), 0, NONE),
    "--fail-on": Case(("--fail-on", "error")),
    "--exclude": Case(("--exclude", "train.py"), 0, NONE),
    "--extend-exclude": Case(("--extend-exclude", "train.py"), 0, NONE),
    "--force-exclude": Case(("--exclude", "train.py", "--force-exclude", "train.py"), 0, NONE),
    "--no-force-exclude": Case(("--exclude", "train.py", "--no-force-exclude", "train.py")),
    "--respect-gitignore": Case(("--respect-gitignore",), 0, NONE, given={".gitignore": "train.py\n"}),
    "--no-respect-gitignore": Case(("--no-respect-gitignore",), given={".gitignore": "train.py\n"}),
    "--secretflow-version": Case(
        ("--show-settings", "--secretflow-version", "1.6.1b0"), 0, ('secretflow-version = "1.6.1b0"',)
    ),
    "--config": Case(("--config", 'ignore = ["BNA101"]'), 0, NONE),
    "--output-format": Case(("--output-format", "concise"), out=("train.py:9:12: BNA101 missing-skip-bn [error] [*]",)),
    "--jobs": Case(("--jobs", "2")),
    "--timeout": Case(("--timeout", "30")),
    "--isolated": Case(("--isolated",), given=SETTINGS),
    "--fix": Case(("--fix",), 0, ("Fixed 1 finding.",), files=FIXED),
    "--unsafe-fixes": Case(("--fix", "--unsafe-fixes"), 0, ("Fixed 1 finding.",), files=FIXED),
    "--diff": Case(("--diff",), 1, ("+    skip_bn=True,\n",), ("Would fix 1 finding.",), files={"train.py": TRAIN}),
    "--add-noqa": Case(("--add-noqa",), 0, (), files={"train.py": "# noqa: BNA101"}),
    "--write-baseline": Case(("--write-baseline", "known.json"), 0, NONE, files={"known.json": "BNA101"}),
    "--baseline": Case(("--baseline", "known.json"), 2, (), ("known.json",)),
    "--prune-baseline": Case(("--prune-baseline",), 2, (), ("--prune-baseline needs --baseline FILE",)),
    "--output-file": Case(("--output-file", "report.txt"), 1, (), files={"report.txt": "BNA101"}),
    "--statistics": Case(("--statistics",), out=("1", "BNA101", "missing-skip-bn"), lacks=("train.py",)),
    "--exit-zero": Case(("--exit-zero",), 0),
    "--show-files": Case(("--show-files",), 0, ("train.py", "models.py"), lacks=("BNA101",)),
    "--show-settings": Case(("--show-settings",), 0, ('ignore = ["BNA101"]', "bn-audit.toml"), given=SETTINGS),
    "--stdin-filename": Case(("-", "--stdin-filename", "new.py"), out=("new.py:",), stdin=TRAIN),
    "--no-cache": Case(("--no-cache",)),
    "--watch": Case(("--watch",), 2, (), ("pip install 'watchfiles>=1,<2'",)),
    "--cache-dir": Case(("--cache-dir", "here"), files={"here/CACHEDIR.TAG": "bn-audit"}),
    "--color": Case(("--color", "always"), out=("\x1b[",)),
    "--quiet": Case(("--quiet",), lacks=("Found 1 error",)),
    "--verbose": Case(("--verbose",)),
    "--help": Case(("--help",), 0, ("Usage: bn-audit scan",)),
}


def flags() -> list[str]:
    """Every long flag of ``scan``, with those that say no."""
    context = click.Context(scan_command)
    options = [one for one in scan_command.get_params(context) if isinstance(one, click.Option)]
    assert not any(option.hidden for option in options)
    every = [flag for option in options for flag in (*option.opts, *option.secondary_opts)]
    return [flag for flag in every if flag.startswith("--")]


@pytest.mark.parametrize("flag", flags())
def test_flags(installed: Installed, project: Path, flag: str) -> None:
    case = CASES[flag]
    assert flag in case.arguments
    for name, text in case.given.items():
        (project / name).write_text(text, encoding="utf-8")
    done = installed.run(project, "scan", *case.arguments, stdin=case.stdin)
    assert "Traceback" not in done.stderr and "internal error" not in done.stderr
    assert done.returncode == case.status, done.stdout + done.stderr
    assert [text for text in case.out if text not in done.stdout] == []
    assert [text for text in case.lacks if text in done.stdout] == []
    assert [text for text in case.err if text not in done.stderr] == []
    for name, text in case.files.items():
        assert text in (project / name).read_text(encoding="utf-8")


def test_every_case_is_of_a_flag_that_help_shows(installed: Installed, project: Path) -> None:
    done = installed.run(project, "scan", "--help")
    words = {word.strip(",") for line in done.stdout.splitlines() for word in line.split() if line.startswith("  ")}
    assert {*CASES} == {*flags()}
    assert {*CASES} <= words


def test_a_baseline_from_beginning_to_end(installed: Installed, project: Path) -> None:
    assert installed.run(project, "scan", "--write-baseline", "known.json").returncode == 0
    assert installed.run(project, "scan", "--baseline", "known.json").returncode == 0
    assert installed.run(project, "scan", "--fix").returncode == 0
    done = installed.run(project, "scan", "--baseline", "known.json", "--prune-baseline")
    assert (done.returncode, "removed 1 finding" in done.stderr) == (0, True)
    assert "BNA101" not in (project / "known.json").read_text(encoding="utf-8")


def test_the_pages_of_all_rules(installed: Installed, tmp_path: Path) -> None:
    out = installed.run(tmp_path, "rule", "--all").stdout
    assert [code for code in catalogue() if f"({code})\n" not in out] == []
    assert len(json.loads(installed.run(tmp_path, "rule", "--all", "--output-format", "json").stdout)) == len(
        catalogue()
    )


@pytest.mark.parametrize("form", ["text", "json", "markdown"])
def test_safetensors_are_inspected(installed: Installed, tmp_path: Path, form: str) -> None:
    state = {
        "bn.weight": ("F32", [1], bytes(4)),
        "bn.bias": ("F32", [1], bytes(4)),
        "bn.running_mean": ("F32", [1], bytes(4)),
        "bn.running_var": ("F32", [1], b"\0\0\x80\x3f"),
        "bn.num_batches_tracked": ("I64", [], (7).to_bytes(8, "little")),
    }
    data = b"".join(data for *_, data in state.values())
    write_safetensors(tmp_path / "model.safetensors", header_of(state), data)
    done = installed.run(tmp_path, "inspect", "model.safetensors", "--all", "--output-format", form)
    assert (done.returncode, done.stderr) == (0, "")
    assert ("bn.num_batches_tracked" if form == "json" else "5 entries, 1 norm layer") in done.stdout


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (("inspect", "models.py:Net"), "torch"),
        (("inspect", "model.pt"), "torch"),
        (("verify", "models.py:Net", "--framework", "secretflow"), "torch"),
        (("verify", "--parties", "model.pt", "model.pt"), "torch"),
        (("verify", "model.safetensors", "--framework", "flower"), "torch"),
        (("verify", "model.safetensors", "--train"), "torch"),
        (("compare", "model.pt", "other.pt"), "torch"),
        (("server",), "lsp"),
    ],
    ids=" ".join,
)
def test_what_needs_an_extra_names_it(
    installed: Installed, project: Path, arguments: tuple[str, ...], extra: str
) -> None:
    (project / "model.pt").write_bytes(b"PK\x03\x04")
    header = json.dumps({"bn.running_mean": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    (project / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    done = installed.run(project, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert install(extra) in done.stderr
    assert "Traceback" not in done.stderr and len(done.stderr.splitlines()) <= 3


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_every_command(installed: Installed, tmp_path: Path, name: str) -> None:
    done = installed.run(tmp_path, name, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"Usage: bn-audit {name}")
    assert name in installed.run(tmp_path, "--help").stdout and name in cli.list_commands(click.Context(cli))
