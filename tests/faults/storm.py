"""Eight scans at once with one cache while files change and one of them is killed; a disk that is full; ten thousand
links in loops; lines of 100 MB. What is said is what a scan by itself says.

    python -m tests.faults.storm --rounds 20
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.cli.conftest import MODELS, TRAIN
from tests.faults.telling import tell

ROOT = Path(__file__).parent.parent.parent
SCAN = (sys.executable, "-m", "bn_audit", "scan", "--output-format", "concise")
Said = tuple[int, bytes, bytes]


def start(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command: Sequence[str] = [*SCAN, *arguments]
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def said(running: subprocess.Popen[bytes]) -> Said:
    out, err = running.communicate(timeout=300)
    return running.returncode, out, err


def scans_at_once(folder: Path, rounds: int) -> Iterator[str]:
    chance, killed = random.Random(8), 0
    for number in range(rounds):
        (folder / "models.py").write_text(MODELS + "\n" * chance.randrange(5), encoding="utf-8")
        (folder / "train.py").write_text("\n" * chance.randrange(5) + TRAIN, encoding="utf-8")
        alone = said(start(folder, "--no-cache"))
        victim, *others = (start(folder, "--cache-dir", "cache") for _ in range(8))
        time.sleep(chance.uniform(0.0, 1.5))
        victim.kill()
        killed += said(victim)[0] < 0
        if any(said(other) != alone for other in others):
            yield f"round {number}: something else is said beside others"
        if said(start(folder, "--cache-dir", "cache")) != alone:
            yield f"round {number}: something else is said after them"
    print(f"{rounds} rounds of 8 scans, {killed} of {rounds} killed before their end", flush=True)


def full_disk(folder: Path, rounds: int) -> Iterator[str]:
    """A file system of so few pages that the cache does not fit."""
    disk = folder / "disk"
    disk.mkdir()
    mounted = 0
    expected = said(start(folder, "--quiet", "--no-cache", "train.py"))[:2]
    for pages in range(rounds):
        mount = ["mount", "-t", "tmpfs", "-o", f"size={4 * (pages % 6 + 1)}k,nr_inodes={pages % 5 + 2}", "tmpfs", disk]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            break
        mounted += 1
        try:
            for _ in range(2):
                if said(start(folder, "--quiet", "--cache-dir", "disk/cache", "train.py"))[:2] != expected:
                    yield f"{pages} pages: something else is said"
        finally:
            subprocess.run(["umount", disk], check=True)
    print(f"{mounted} full disks" if mounted else "no disk of our own can be mounted here", flush=True)


def links(folder: Path, count: int) -> Iterator[str]:
    alone = said(start(folder, "--no-cache"))
    (folder / "a" / "b").mkdir(parents=True)
    targets = ("..", ".", "../..", "../a", "../a/b", "../train.py", "nothing", "l7", "../a/l8")
    for number in range(count):
        (folder / "a" / f"l{number}{'.py' if number % 2 else ''}").symlink_to(targets[number % len(targets)])
    if said(start(folder, "--no-cache")) != alone:
        yield "something else is said among links"
    print(f"{count} links", flush=True)


def lines(folder: Path, length: int) -> Iterator[str]:
    texts = {
        "in a text": b"x = '" + b"a" * length + b"'",
        "in brackets": b"(" * length,
        "of blanks": b"from a import" + b" " * length,
        "of words": b"FLModel state_dict client " * (length // 26),
        "of classes": b"class a(" * (length // 8),
    }
    for title, text in texts.items():
        (folder / "long.py").write_bytes(TRAIN.encode() + text)
        begun = time.monotonic()
        status, out, err = said(start(folder, "--no-cache"))
        print(f"{length:,} bytes {title}: {time.monotonic() - begun:.1f} s", flush=True)
        if (status, err) != (1, b"") or b"long.py:1:1: BNA901" not in out or b"train.py:9:12: BNA101" not in out:
            yield f"a line {title}: {out!r:.300} {err!r:.300}"
    (folder / "long.py").unlink()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    return tell(found(parser.parse_args().rounds))


def found(rounds: int) -> Iterator[str]:
    trials: Sequence[tuple[Callable[[Path, int], Iterator[str]], int]] = (
        (scans_at_once, rounds),
        (full_disk, rounds),
        (links, 10_000),
        (lines, 100_000_000),
    )
    for trial, size in trials:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / ".git").mkdir()
            (folder / "train.py").write_text(TRAIN, encoding="utf-8")
            (folder / "models.py").write_text(MODELS, encoding="utf-8")
            yield from trial(folder, size)


if __name__ == "__main__":
    sys.exit(main())
