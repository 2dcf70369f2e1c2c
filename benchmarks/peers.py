"""Measure scans beside other tools that look at Python source, on the packages of corpus.txt, in one run.

Each tool has an environment of its own in ENVIRONMENTS, made and filled by pip when it is not there yet; ripgrep and
whatever else cannot be installed so is looked for on PATH, or left out, which the table says. A tool that takes longer
than the limit is stopped, told so, and not tried again.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Sequence
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.scan import RUFF, SETTLING, Run, compiled, count_files, fetch, packages

# One rule each, as what a tool costs that looks at syntax: a call by name, and the cheapest that comes with the tool.
SEMGREP_RULE = """\
rules:
  - {id: flmodel, languages: [python], severity: WARNING, message: a call of FLModel, pattern: FLModel(...)}
"""
FIXIT_RULE = "fixit.rules.avoid_or_in_except:AvoidOrInExcept"
PIP = {"ruff": "ruff==0.17.6", "torchfix": "torchfix==0.7.0", "fixit": "fixit==2.2.1", "semgrep": "semgrep==1.185.0"}


def main() -> int:
    arguments = parse_arguments()
    chosen = [one for one in packages(arguments.extra) if not arguments.packages or one in arguments.packages]
    folders = [fetch(package, arguments.cache) for package in chosen]
    size = sum(path.stat().st_size for folder in folders for path in folder.rglob("*.py"))
    print(f"{count_files(folders):,} Python files and notebooks, {size / 1e6:.0f} MB of .py, {arguments.rounds} rounds")
    with tempfile.TemporaryDirectory() as scratch:
        commands = {name: command for name, command in tools(arguments, Path(scratch)) if command is not None}
        runs: dict[str, list[Run]] = {name: [] for name in commands}
        late: set[str] = set()
        paths = [str(folder) for folder in folders]
        if "bn-audit, warm" in commands:  # what it finds again
            measured([*commands["bn-audit, warm"], *paths], arguments.limit)
            time.sleep(SETTLING)
        for number in range(arguments.rounds):
            for name, command in commands.items():
                slow = bool(runs[name]) and runs[name][0].wall > arguments.slow
                if name in late or (number and slow):
                    continue
                run = measured([*command, *paths], arguments.limit)
                if run is None:
                    late.add(name)
                else:
                    runs[name].append(run)
    show(runs, late, arguments.limit)
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cache", type=Path, help="folder for the packages")
    parser.add_argument("environments", type=Path, help="folder for the tools")
    parser.add_argument("packages", nargs="*", help="requirements of corpus.txt; all of them, if none")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit", type=float, default=600.0, help="seconds of the clock for one run of a tool")
    parser.add_argument("--slow", type=float, default=60.0, help="what takes longer is run once")
    parser.add_argument("--extra", action="store_true", help="the packages marked `extra` too")
    parser.add_argument("--only", nargs="*", default=[], help="names of tools; all of them, if none")
    return parser.parse_args()


def tools(arguments: argparse.Namespace, scratch: Path) -> list[tuple[str, list[str] | None]]:
    """Names and commands, to which folders are appended; None for what is not there."""
    ours = [sys.executable, "-m", "bn_audit", "scan", "--isolated", "--quiet", "--jobs", "2"]
    rule = scratch / "rule.yml"
    rule.write_text(SEMGREP_RULE, encoding="utf-8")
    semgrep = ["scan", "--config", str(rule), "--metrics", "off", "--disable-version-check", "--no-git-ignore"]
    rows: list[tuple[str, list[str] | None]] = [
        ("bn-audit, cold", [*ours, "--no-cache"]),
        ("bn-audit, warm", [*ours, "--cache-dir", str(scratch / "cache")]),
    ]
    wanted = {
        "ruff (E9,F)": ("ruff", shlex.split(RUFF)),
        "ripgrep (FLModel)": (
            "rg",
            ["--no-ignore", "--threads", "2", "--type", "py", "--count", "--word-regexp", "FLModel"],
        ),
        "semgrep, one rule": ("semgrep", [*semgrep, "--jobs", "2", "--quiet", "--max-target-bytes", "0"]),
        "Fixit, one rule": ("fixit", ["--quiet", "--rules", FIXIT_RULE, "lint"]),
        "TorchFix, its rules": ("torchfix", ["--jobs", "2"]),
    }
    for name, (program, flags) in wanted.items():
        if not arguments.only or program in arguments.only:
            found = installed(program, arguments.environments)
            if found is None:
                print(f"  {name}: cannot be installed here, and is not on PATH")
            rows.append((name, None if found is None else [found, *flags]))
    return rows


def installed(program: str, environments: Path) -> str | None:
    """A tool from an environment of its own, made if need be, or from PATH."""
    requirement = PIP.get(program)
    if requirement is None:
        return shutil.which(program)
    folder = environments / requirement
    binary = folder / ("Scripts" if sys.platform == "win32" else "bin") / program
    if not binary.exists():
        venv.create(folder, with_pip=True, clear=True)
        pip = [str(binary.with_name("python")), "-m", "pip", "install", "--quiet", requirement]
        if subprocess.run(pip, check=False).returncode != 0:
            shutil.rmtree(folder, ignore_errors=True)
            return shutil.which(program)
    return str(binary)


def measured(command: Sequence[str], limit: float) -> Run | None:
    """What a command and its children cost, or None if they took too long."""
    fine = range(4) if Path(command[0]).name == "fixit" else range(2)  # its 2 tells of files that it cannot parse
    environment = {**compiled(), "PATH": os.pathsep.join([str(Path(command[0]).parent), os.environ["PATH"]])}
    with tempfile.TemporaryFile() as out:
        start = time.perf_counter()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment, start_new_session=True
        )
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            wall = time.perf_counter() - start
            if pid:
                break
            if wall > limit:
                os.killpg(process.pid, signal.SIGKILL)
                os.wait4(process.pid, 0)
                return None
            time.sleep(0.002)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in fine:
            out.seek(0)
            raise SystemExit(f"{shlex.join(command)}: status {process.returncode}\n{out.read()[-3000:].decode()}")
    unit = 1 if sys.platform == "darwin" else 1024
    return Run(usage.ru_utime, usage.ru_stime, wall, usage.ru_maxrss * unit, process.returncode)


def show(runs: dict[str, list[Run]], late: set[str], limit: float) -> None:
    """A table in Markdown: medians, and ratios to ruff's medians."""

    def median(name: str, field: str) -> float:
        values: list[float] = [getattr(run, field) for run in runs[name]]
        return statistics.median(values)

    ruff = "ruff (E9,F)"
    print("\n| | CPU s | wall s | of ruff's wall | peak MB of one process | rounds |\n|---|---|---|---|---|---|")
    for name, rows in runs.items():
        if name in late or not rows:
            print(f"| {name} | | more than {limit:g} | | | |")
            continue
        cpu = median(name, "user") + median(name, "system")
        ratio = f"{median(name, 'wall') / median(ruff, 'wall'):.2f}" if runs.get(ruff) else ""
        peak = max(run.memory for run in rows) / 1e6
        print(f"| {name} | {cpu:.2f} | {median(name, 'wall'):.2f} | {ratio} | {peak:.0f} | {len(rows)} |")


if __name__ == "__main__":
    sys.exit(main())
