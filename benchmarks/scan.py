"""Measure scans of real packages, cold and warm, beside ruff, and start-up beside Python's own. See README.md."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

CORPUS = Path(__file__).with_name("corpus.txt")
RUFF = "check --no-cache --isolated --select E9,F --quiet"
MAX_COLD, MAX_WARM, MAX_MEMORY, MAX_START, MAX_TRIGGERED = 1.5, 0.3, 400e6, 6.0, 1.6
PLAIN = "import math\n\n\ndef area(radius):\n    return math.pi * radius**2\n"
TRIGGERED = """\
from secretflow.security.aggregation import SecureAggregator
from secretflow_fl.ml.nn import FLModel
from secretflow_fl.ml.nn.core.torch import TorchModel
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 8)
        self.bn = nn.BatchNorm1d(8)


FLModel(model=TorchModel(model_fn=Net), aggregator=SecureAggregator(None, []), backend="torch")
"""
SETTLING = 3.0
"""Seconds: what was written just before a scan is not trusted by the next one."""


@dataclass(frozen=True, slots=True)
class Run:
    """What one process cost: seconds, and bytes at the peak."""

    user: float
    system: float
    wall: float
    memory: float
    status: int

    @property
    def cpu(self) -> float:
        """What the system counts exactly; how much of it was in user mode it only samples."""
        return self.user + self.system


def main() -> int:
    arguments = parse_arguments()
    goals = []
    if not arguments.start_only:
        folders = [fetch(package, arguments.cache) for package in packages(arguments.extra)]
        if arguments.fetch_only:
            return 0
        print(f"{count_files(folders):,} Python files and notebooks, {arguments.rounds} rounds")
        goals += corpus_goals(arguments, folders)
    goals += start_goals(arguments)
    return 1 if arguments.fail and not all(goals) else 0


def parse_arguments() -> argparse.Namespace:
    python = shlex.quote(sys.executable)
    ruff = Path(sys.executable).with_name("ruff")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cache", type=Path, help="folder for the packages")
    parser.add_argument("--tool", default=f"{python} -m bn_audit scan --isolated --quiet")
    parser.add_argument("--jobs", type=int, default=2, help="processes of the scans of the corpus")
    parser.add_argument("--against", default=f"{shlex.quote(str(ruff) if ruff.exists() else 'ruff')} {RUFF}")
    parser.add_argument("--python", default=python, help="what start-up is measured beside")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--extra", action="store_true", help="the packages marked `extra` too")
    parser.add_argument("--fetch-only", action="store_true")
    parser.add_argument(
        "--start-only", action="store_true", help="only what starting costs, for which no corpus is needed"
    )
    parser.add_argument("--fail", action="store_true", help="status 1 if a goal is missed")
    return parser.parse_args()


def packages(extra: bool) -> list[str]:
    """The requirements of the corpus."""
    lines = (line.split("#") for line in CORPUS.read_text(encoding="utf-8").splitlines())
    return [requirement.strip() for requirement, *note in lines if requirement.strip() and (extra or not note)]


def fetch(requirement: str, cache: Path) -> Path:
    """The folder with an unzipped package; fetched if it is not there yet."""
    folder = cache / requirement
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            download(requirement, Path(scratch))
            (archive,) = (path for path in Path(scratch).iterdir() if path.is_file())
            unpacked = Path(scratch) / "unpacked"
            if archive.suffix in (".whl", ".zip"):
                with zipfile.ZipFile(archive) as wheel:
                    wheel.extractall(unpacked)
            else:
                with tarfile.open(archive) as source:
                    source.extractall(unpacked, filter="data")
            unpacked.rename(folder)
    return folder


def download(requirement: str, folder: Path) -> None:
    """A wheel, or the source archive of a package that has none."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), requirement]
    if subprocess.run([*command, "--only-binary=:all:"], stderr=subprocess.DEVNULL, check=False).returncode != 0:
        subprocess.run([*command, "--no-binary=:all:", "--no-build-isolation"], check=True)


def count_files(folders: Sequence[Path]) -> int:
    suffixes = (".py", ".pyi", ".ipynb")
    return sum(name.endswith(suffixes) for folder in folders for *_, names in os.walk(folder) for name in names)


def corpus_goals(arguments: argparse.Namespace, folders: Sequence[Path]) -> list[bool]:
    """Cold and warm, in turns with the other tool, so that what else the machine does falls on all of them."""
    paths = [str(folder) for folder in folders]
    tool = [*shlex.split(arguments.tool), "--jobs", str(arguments.jobs)]
    with tempfile.TemporaryDirectory() as cache:
        commands = {
            "cold": [*tool, "--no-cache", *paths],
            "warm": [*tool, "--cache-dir", cache, *paths],
            "ruff": [*shlex.split(arguments.against), *paths],
        }
        measure(commands["warm"])
        time.sleep(SETTLING)
        for command in commands.values():
            measure(command)
        runs: dict[str, list[Run]] = {name: [] for name in commands}
        for _ in range(arguments.rounds):
            for name, command in commands.items():
                runs[name].append(measure(command))
    print("corpus")
    show(f"{arguments.tool} --jobs {arguments.jobs} --no-cache", runs["cold"])
    show(f"{arguments.tool} --jobs {arguments.jobs}, warm", runs["warm"])
    show(arguments.against, runs["ruff"])
    memory = max(run.memory for run in (*runs["cold"], *runs["warm"]))
    print(f"  peak memory of one process {memory / 1e6:.0f} MB")
    ratios = {
        (name, field): ratio_of(runs[name], runs["ruff"], field, f"{name}, ")
        for name in ("cold", "warm")
        for field in ("wall", "user")
    }
    return [
        ratios["cold", "wall"] <= MAX_COLD,
        ratios["warm", "wall"] <= MAX_WARM,
        ratios["warm", "user"] <= MAX_WARM,
        memory <= MAX_MEMORY,
    ]


def start_goals(arguments: argparse.Namespace) -> list[bool]:
    """One file: what starting costs, without the parser and with it."""
    rounds = 10  # of a few hundredths of a second each, which the clock of the system hardly resolves
    goals = []
    for title, program, beside, bar in (
        ("without a trigger", PLAIN, "pass", MAX_START),
        ("with an FLModel call", TRIGGERED, "import libcst", MAX_TRIGGERED),
    ):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "one_file.py"
            path.write_text(program, encoding="utf-8")
            command = [*shlex.split(arguments.tool), "--no-cache", str(path)]
            ours, theirs = in_turns(command, [*shlex.split(arguments.python), "-c", beside], arguments, rounds)
        print(f"one file {title}")
        show(arguments.tool, ours)
        show(f"python -c '{beside}'", theirs)
        goals.append(ratio_of(ours, theirs, "cpu") <= bar)
    return goals


def in_turns(
    ours: Sequence[str], theirs: Sequence[str], arguments: argparse.Namespace, repeat: int = 1
) -> tuple[list[Run], list[Run]]:
    """Runs of two commands that take turns, after one of each that is not counted."""
    measure(ours)
    measure(theirs)
    pairs = [(measure(ours), measure(theirs)) for _ in range(arguments.rounds * repeat)]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def measure(command: Sequence[str]) -> Run:
    """Run a command and its children to the end. Status 1 says that there were findings; more is a failure."""
    executable = shutil.which(command[0])
    if executable is None:
        raise SystemExit(f"{command[0]} is not installed")
    start = time.perf_counter()
    process = subprocess.Popen(
        [executable, *command[1:]],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=compiled(),
    )
    assert process.stderr is not None
    message = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.stderr.close()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 1):
        raise SystemExit(f"{shlex.join(command)}: status {process.returncode}\n{message.decode(errors='replace')}")
    unit = 1 if sys.platform == "darwin" else 1024
    return Run(usage.ru_utime, usage.ru_stime, wall, usage.ru_maxrss * unit, process.returncode)


def compiled() -> dict[str, str]:
    """The environment, but for what keeps Python from writing bytecode: pip compiles what it installs, so that nobody
    who uses the tool waits for it. Here the first run does, which is not counted."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def show(name: str, runs: Sequence[Run]) -> None:
    user, system, wall = (
        statistics.median(getattr(run, field) for run in runs) for field in ("user", "system", "wall")
    )
    memory = max(run.memory for run in runs) / 1e6
    status = "/".join(str(status) for status in sorted({run.status for run in runs}))
    seconds = f"user {user:7.3f} s  system {system:6.3f} s  wall {wall:7.3f} s"
    print(f"  {seconds}  peak {memory:5.0f} MB  status {status}  {name}")


def ratio_of(ours: Sequence[Run], theirs: Sequence[Run], field: str = "user", name: str = "") -> float:
    """Print the ratio of CPU or of wall time, round by round; the median of it."""
    ratios: list[float] = [getattr(a, field) / max(getattr(b, field), 1e-3) for a, b in zip(ours, theirs, strict=True)]
    median = statistics.median(ratios)
    of = {"user": "user CPU", "cpu": "CPU", "wall": "wall time"}[field]
    print(f"  {name}ratio of {of}: minimum {min(ratios):.2f}, median {median:.2f}, maximum {max(ratios):.2f}")
    return median


if __name__ == "__main__":
    sys.exit(main())
