"""How the cost of a scan grows: with the length of a chain of imports, with the classes in one file, and with copies of
a project under other names.

    python -m tests.faults.growth [--copies FOLDER [--sizes N...]]

prints processor seconds and peak memory for each size, and ends with 1 if something grows faster than it may: time by
more than n log n (chains, classes; what a scan of nothing takes is taken off first, and twice the noise of a busy
machine is allowed for) or by more than 10 % beyond n (copies), memory of a process by more than 20 % beyond what it
takes with all the trees that it may keep (copies).
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.cli.conftest import MODELS, TRAIN

ROOT = Path(__file__).parent.parent.parent
_SCAN = """
import resource, sys, time
from bn_audit.cli import run
status = run(["scan", "--no-cache", "--quiet", "--jobs", "1", "--timeout", "0", "--output-format", "concise"])
sys.stdout.flush()
print("\\n", status, time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


FULL = 165.0
"""MiB that a process takes once it keeps as many trees as it may (3,000,000 characters of source). Up to that, what is
kept grows with what is scanned."""


class Cost(NamedTuple):
    """Processor seconds, and the largest size of the process in MiB."""

    seconds: float
    memory: float


def cost(folder: Path, times: int) -> Cost:
    """The least of some scans."""
    found = []
    for _ in range(times):
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", _SCAN]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
        status, seconds, memory = done.stdout.splitlines()[-1].split()
        if status == "2":
            raise RuntimeError(done.stdout + done.stderr)
        found.append(Cost(float(seconds), float(memory) / 1024))
    return min(found)


def chain(folder: Path, length: int) -> None:
    """A model that is imported over so many files."""
    (folder / "train.py").write_text(TRAIN.replace("from models", "from m0"), encoding="utf-8")
    for number in range(length):
        (folder / f"m{number}.py").write_text(f"from m{number + 1} import Net\n", encoding="utf-8")
    (folder / f"m{length}.py").write_text(MODELS, encoding="utf-8")


def classes(folder: Path, count: int) -> None:
    """A file of so many classes, the last of which is the model."""
    (folder / "train.py").write_text(TRAIN, encoding="utf-8")
    others = "".join(f"class C{number}(nn.Module):\n    x = {number}\n\n\n" for number in range(count))
    head, net = MODELS.split("\n\n\n")
    (folder / "models.py").write_text(f"{head}\n\n\n{others}{net}", encoding="utf-8")


def copies(source: Path) -> Callable[[Path, int], None]:
    """So many copies of a folder, each beside the others."""

    def make(folder: Path, count: int) -> None:
        for number in range(count):
            shutil.copytree(source, folder / f"copy{number}", symlinks=True, ignore=shutil.ignore_patterns(".git"))
            (folder / f"copy{number}" / ".git").mkdir(exist_ok=True)

    return make


def measure(make: Callable[[Path, int], None], sizes: Sequence[int], times: int = 2) -> dict[int, Cost]:
    found = {}
    for size in (0, *sizes):
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / ".git").mkdir()
            if size:
                make(Path(folder), size)
            else:  # what starting costs, with the parser
                (Path(folder) / "train.py").write_text(TRAIN, encoding="utf-8")
            found[size] = cost(Path(folder), times)
    return found


def excess(costs: dict[int, Cost], bound: Callable[[int], float], allowed: float) -> list[str]:
    """Where time grows by more than ``allowed`` beyond a bound, from one size to the next."""
    start, *rest = costs.values()
    sizes = list(costs)[1:]
    rows = [(size, max(one.seconds - start.seconds, 0.0)) for size, one in zip(sizes, rest, strict=True)]
    faults = []
    for (small, few), (large, many) in itertools.pairwise(rows):
        # Below a fifth of a second all is noise; so the smaller one counts as that much at least.
        most = max(few, 0.2) * bound(large) / bound(small) * allowed
        if many > most:
            faults.append(f"from {small:,} to {large:,}: {many:.2f} s, where {most:.2f} s are the most")
    return faults


def uneven(costs: dict[int, Cost], allowed: float) -> list[str]:
    """Where one copy more takes more than ``allowed`` of the time that one took when there were fewer; what starting
    takes is in neither."""
    rows = [(size, one.seconds) for size, one in costs.items() if size]
    steps = [(many, (longer - shorter) / (many - few)) for (few, shorter), (many, longer) in itertools.pairwise(rows)]
    return [
        f"with {size:,}, a copy takes {now:.4f} s, where {before * allowed:.4f} s are the most"
        for (_, before), (size, now) in itertools.pairwise(steps)
        if now > before * allowed
    ]


def n_log_n(size: int) -> float:
    return size * math.log2(size + 1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--copies", type=Path, metavar="FOLDER", help="a project to copy; else chains and classes")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 10, 100], help="how many copies")
    arguments = parser.parse_args()
    faults = []
    if arguments.copies is not None:
        costs = measure(copies(arguments.copies.resolve()), arguments.sizes)
        show("copies of a project", costs)
        faults += uneven(costs, 1.1)
        most = 1.2 * max(FULL, costs[arguments.sizes[0]].memory)
        faults += [
            f"{size:,} take {one.memory:.0f} MiB, where {most:.0f} MiB are the most"
            for size, one in costs.items()
            if one.memory > most
        ]
    else:
        trials: list[tuple[str, Callable[[Path, int], None], Sequence[int]]] = [
            ("files in a chain of imports", chain, (1, 10, 100, 1_000)),
            ("classes in one file", classes, (10, 100, 1_000, 10_000)),
        ]
        for title, make, sizes in trials:
            costs = measure(make, sizes)
            show(title, costs)
            faults += excess(costs, n_log_n, 2.0)
    for fault in faults:
        print(f"too much: {fault}", flush=True)
    return int(bool(faults))


def show(title: str, costs: dict[int, Cost]) -> None:
    print(f"{title}:")
    for size, one in costs.items():
        print(f"  {size:6,}  {one.seconds:8.2f} s  {one.memory:6.0f} MiB", flush=True)


if __name__ == "__main__":
    sys.exit(main())
