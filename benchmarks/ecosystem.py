"""Run ``bn-audit scan`` over a folder of checkouts, and write down what it finds in each.

    python benchmarks/ecosystem.py FOLDER [--select BNA2,BNA3] [--output findings.json]

Each folder below ``FOLDER`` is one repository. Printed is a Markdown table: repository, commit (where git knows it),
files, the number of findings by rule, CPU seconds; with ``--output`` the findings themselves are written as JSON, for a
person to judge. Compare two runs, before and after a change, with ``diff``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--select", default="ALL", help="rules, as for `scan --select`")
    parser.add_argument("--output", type=Path, help="where the findings go, as JSON")
    parser.add_argument("--timeout", type=float, default=900.0, help="seconds for one repository")
    arguments = parser.parse_args()
    rows: dict[str, object] = {}
    print("| repository | commit | files | findings | CPU s |\n|---|---|---|---|---|")
    for folder in sorted(path for path in arguments.folder.iterdir() if path.is_dir()):
        before = _children()
        report = scan(folder, arguments.select, arguments.timeout)
        spent = _children() - before
        if report is None:
            print(f"| {folder.name} | {commit(folder)} | | did not end in time | |")
            continue
        rows[folder.name] = report["findings"]
        counts = Counter(finding["code"] for finding in report["findings"])
        told = ", ".join(f"{count} {code}" for code, count in sorted(counts.items())) or "none"
        print(f"| {folder.name} | {commit(folder)} | {report['summary']['files']} | {told} | {spent:.1f} |", flush=True)
    if arguments.output is not None:
        arguments.output.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return 0


def scan(folder: Path, select: str, timeout: float) -> dict[str, object] | None:
    """The report of one repository; None if it takes too long."""
    command = [sys.executable, "-m", "bn_audit", "scan", "--isolated", "--no-cache", "--exit-zero"]
    command += ["--select", select, "--output-format", "json", "."]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=timeout)
    except subprocess.TimeoutExpired:
        return None
    report: dict[str, object] = json.loads(done.stdout)
    return report


def commit(folder: Path) -> str:
    """The commit of a checkout; "" if git does not know it."""
    done = subprocess.run(
        ["git", "-C", str(folder), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


def _children() -> float:
    import resource

    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    sys.exit(main())
