"""Whole folders, scanned by one process, by two, and with the files looked into in other orders: what is printed has to
be the same to the byte, and nothing may be given up.

    python -m tests.faults.orders FOLDER...
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.faults.telling import tell

__all__ = ["differences"]

ROOT = Path(__file__).parent.parent.parent
_SCAN = """
import random, sys
from bn_audit.cli import run
from bn_audit.source.survey import _Survey

jobs, seed = sys.argv[1:]
candidates = _Survey.candidates

def shuffled(self, hits):
    if int(seed):
        hits = dict(random.Random(int(seed)).sample(list(hits.items()), len(hits)))
    tasks = candidates(self, hits)
    if int(seed):
        random.Random(int(seed)).shuffle(tasks)
    return tasks

_Survey.candidates = shuffled
sys.exit(run(["scan", "--isolated", "--no-cache", "--exit-zero", "--output-format", "json", "--jobs", jobs, "."]))
"""
WAYS = {"one process": ("1", "0"), "two processes": ("2", "0"), "another order": ("1", "7"), "a third": ("2", "8")}


def differences(folder: Path) -> Iterator[str]:
    """What goes wrong, in words; how much was scanned goes to stderr."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    first, start = None, time.monotonic()
    for title, arguments in WAYS.items():
        command = [sys.executable, "-c", _SCAN, *arguments]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False)
        # On stderr, files that were given up, and errors of our own.
        found = (done.returncode, done.stdout, done.stderr)
        if first is None:
            first = found
            if done.returncode or done.stderr:
                yield f"{folder}: status {done.returncode}: {done.stderr.decode(errors='replace')}"
        elif found != first:
            yield f"{folder}: with {title} something else comes of it than with {next(iter(WAYS))}"
    assert first is not None
    with_summary = json.loads(first[1])["summary"] if first[1] else {}
    print(f"{folder}: {with_summary}, {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", metavar="FOLDER", type=Path)
    arguments = parser.parse_args()
    return tell(difference for folder in arguments.folders for difference in differences(folder))


if __name__ == "__main__":
    sys.exit(main())
