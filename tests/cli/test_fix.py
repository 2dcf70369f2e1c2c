"""``--fix``, ``--unsafe-fixes`` and ``--diff`` from the command line."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bn_audit.cli import fixing
from bn_audit.fix.contents import Refused
from tests.cli.conftest import MODELS, TRAIN, Command

FIXED = TRAIN.replace('    backend="torch",\n', '    backend="torch",\n    skip_bn=True,\n')
MIDDLE = MODELS.replace("        self.fc = nn.Linear(4, 8)\n", "") + "        self.fc = nn.Linear(4, 8)\n"
"""``skip_bn=True`` would leave ``fc`` to each party."""
SHARED = TRAIN.replace('    backend="torch",\n', "    **options,\n").replace(
    "fl_model =", 'options = {"backend": "torch", "skip_bn": False}\nfl_model ='
)


class Stdin:
    def __init__(self, program: str) -> None:
        self.buffer = io.BytesIO(program.encode())


def test_fix(project: Path, bn_audit: Command) -> None:
    done = bn_audit("scan", "--fix")
    assert (done.status, done.err) == (0, "")
    assert done.out == "Fixed 1 finding. No findings (1 FLModel call in 2 files).\n"
    assert (project / "train.py").read_text(encoding="utf-8") == FIXED
    again = bn_audit("scan", "--fix")
    assert (again.status, again.out) == (0, "No findings (1 FLModel call in 2 files).\n")
    assert (project / "train.py").read_text(encoding="utf-8") == FIXED


def test_a_finding_shows_its_fix(project: Path, bn_audit: Command) -> None:
    text = bn_audit("scan").out
    assert "BNA101 missing-skip-bn [error] [*] `Net` has BatchNorm" in text
    assert "    = fix: pass `skip_bn=True`\n" in text
    assert '    |\n 14 |     backend="torch",\n    +     skip_bn=True,\n 15 | )\n    |\n' in text
    assert text.endswith("Found 1 error (1 FLModel call in 2 files).\n[*] 1 fixable with --fix.\n")
    concise = bn_audit("scan", "--output-format", "concise").out
    assert "BNA101 missing-skip-bn [error] [*] `Net`" in concise
    assert json.loads(bn_audit("scan", "--output-format", "json").out)["summary"]["fixable"] == 1


def test_what_is_left_is_reported(project: Path, bn_audit: Command) -> None:
    (project / "other.py").write_text(TRAIN.replace("models", "middle"), encoding="utf-8")
    (project / "middle.py").write_text(MIDDLE, encoding="utf-8")
    done = bn_audit("scan", "--fix", "--output-format", "concise")
    assert done.status == 1
    assert done.out.startswith("other.py:9:12: BNA101 missing-skip-bn [error] `Net`")
    assert done.out.endswith(
        "Fixed 1 finding. Found 1 error (2 FLModel calls in 4 files).\n"
        "No safe fixes (1 unsafe fix with --unsafe-fixes).\n"
    )
    assert (project / "train.py").read_text(encoding="utf-8") == FIXED
    assert "skip_bn" not in (project / "other.py").read_text(encoding="utf-8")


def test_unsafe_fixes(project: Path, bn_audit: Command) -> None:
    (project / "train.py").write_text(SHARED, encoding="utf-8")
    text = bn_audit("scan").out
    assert "[*]" not in text
    assert "= unsafe fix: pass `skip_bn=True` by way of `options`, although other files may read `options`\n" in text
    assert text.endswith("No safe fixes (1 unsafe fix with --unsafe-fixes).\n")
    shown = bn_audit("scan", "--unsafe-fixes").out
    assert "BNA102 skip-bn-disabled [warning] [*] `Net`" in shown
    assert shown.endswith("[*] 1 fixable with --fix.\n")
    assert bn_audit("scan", "--fix").status == 1
    assert (project / "train.py").read_text(encoding="utf-8") == SHARED
    done = bn_audit("scan", "--fix", "--unsafe-fixes")
    assert (done.status, done.out) == (0, "Fixed 1 finding. No findings (1 FLModel call in 2 files).\n")
    assert (project / "train.py").read_text(encoding="utf-8") == SHARED.replace("False", "True")


def test_both_kinds_are_counted(project: Path, bn_audit: Command) -> None:
    (project / "shared.py").write_text(SHARED, encoding="utf-8")
    assert bn_audit("scan", "-q").out.count("[*]") == 1
    assert bn_audit("scan").out.endswith("[*] 1 fixable with --fix (1 more with --unsafe-fixes).\n")


def test_where_the_argument_would_do_harm_the_wrapper_is_offered(project: Path, bn_audit: Command) -> None:
    (project / "models.py").write_text(MIDDLE, encoding="utf-8")
    assert "= unsafe fix: have `local_batchnorm` make the model, and pass `skip_bn=True`" in bn_audit("scan").out
    assert bn_audit("scan", "--fix").status == 1
    assert (project / "train.py").read_text(encoding="utf-8") == TRAIN
    done = bn_audit("scan", "--fix", "--unsafe-fixes")
    assert (done.status, done.out) == (0, "Fixed 1 finding. No findings (1 FLModel call in 2 files).\n")
    fixed = (project / "train.py").read_text(encoding="utf-8")
    assert "from bn_audit.federated.secretflow import local_batchnorm\n" in fixed
    assert "=local_batchnorm(" in fixed and "skip_bn=True" in fixed


def test_where_both_would_do_harm_none_is_offered(project: Path, bn_audit: Command) -> None:
    integers = MIDDLE.replace(
        "        self.fc =", "        self.register_buffer('ids', torch.arange(3))\n        self.fc ="
    )
    assert integers != MIDDLE
    (project / "models.py").write_text(f"import torch\n{integers}", encoding="utf-8")
    done = bn_audit("scan", "--fix", "--unsafe-fixes")
    assert done.status == 1
    assert "fix:" not in done.out and "fixable" not in done.out
    assert (project / "train.py").read_text(encoding="utf-8") == TRAIN


def test_only_what_is_selected_is_fixed(project: Path, bn_audit: Command) -> None:
    assert bn_audit("scan", "--fix", "--ignore", "BNA101").status == 0
    assert (project / "train.py").read_text(encoding="utf-8") == TRAIN
    assert bn_audit("scan", "--fix", "--select", "BNA101").status == 0
    assert (project / "train.py").read_text(encoding="utf-8") == FIXED


def test_diff(project: Path, bn_audit: Command) -> None:
    done = bn_audit_bytes(project, "scan", "--diff")
    assert done.returncode == 1
    assert done.stderr == b"Would fix 1 finding.\n"
    assert done.stdout.decode() == (
        "--- a/train.py\n+++ b/train.py\n@@ -12,4 +12,5 @@\n     model=TorchModel(model_fn=Net),\n"
        '     aggregator=SecureAggregator(charlie, [alice, bob]),\n     backend="torch",\n+    skip_bn=True,\n )\n'
    )
    assert (project / "train.py").read_text(encoding="utf-8") == TRAIN
    if shutil.which("git"):
        subprocess.run(["git", "init", "-q"], cwd=project, check=True)
        subprocess.run(["git", "apply", "-"], cwd=project, input=done.stdout, check=True)
        assert (project / "train.py").read_text(encoding="utf-8") == FIXED
    assert bn_audit_bytes(project, "scan", "--diff", "-q").stderr == b""
    assert bn_audit_bytes(project, "scan", "--diff", "--exit-zero").returncode == 0
    (project / "train.py").write_text(FIXED, encoding="utf-8")
    nothing = bn_audit_bytes(project, "scan", "--diff")
    assert (nothing.returncode, nothing.stdout, nothing.stderr) == (0, b"", b"Would fix 0 findings.\n")


def test_diff_and_fix_writes_nothing(project: Path, bn_audit: Command) -> None:
    assert bn_audit_bytes(project, "scan", "--diff", "--fix").returncode == 1
    assert (project / "train.py").read_text(encoding="utf-8") == TRAIN


def test_diff_in_colour(project: Path) -> None:
    colored = bn_audit_bytes(project, "scan", "--diff", "--color", "always").stdout
    assert b"\x1b[32m+    skip_bn=True,\x1b[0m\n" in colored
    plain = bn_audit_bytes(project, "scan", "--diff").stdout
    for code in (b"\x1b[0m", b"\x1b[1m", b"\x1b[31m", b"\x1b[32m", b"\x1b[36m"):
        colored = colored.replace(code, b"")
    assert colored == plain


def bn_audit_bytes(folder: Path, *arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """A command line in a process of its own, with the bytes it writes."""
    return subprocess.run(
        [sys.executable, "-m", "bn_audit", *arguments],
        cwd=folder,
        input=given,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_stdin(project: Path, newline: str) -> None:
    """The program goes to stdout, byte for byte, and the report to stderr."""
    program = f"# größe{newline}" + TRAIN.replace("\n", newline).removesuffix(newline)
    done = bn_audit_bytes(project, "scan", "--fix", "-", "--stdin-filename", "edited.py", given=program.encode())
    assert done.returncode == 0
    assert done.stdout.decode() == program.replace(
        f'    backend="torch",{newline}', f'    backend="torch",{newline}    skip_bn=True,{newline}'
    )
    assert done.stderr.decode() == "Fixed 1 finding. No findings (1 FLModel call in 1 file).\n"
    assert (project / "train.py").read_text(encoding="utf-8") == TRAIN
    assert not (project / "edited.py").exists()


def test_stdin_without_a_fix_comes_out_as_it_went_in(project: Path) -> None:
    (project / "models.py").write_text(MIDDLE, encoding="utf-8")
    for program, status in ((TRAIN.encode(), 1), (b"x = 1\n\xff", 0), (b"", 0)):
        done = bn_audit_bytes(project, "scan", "--fix", "-", "--stdin-filename", "edited.py", given=program)
        assert (done.returncode, done.stdout) == (status, program)


def test_stdin_as_a_diff(project: Path) -> None:
    done = bn_audit_bytes(project, "scan", "--diff", "-", "--stdin-filename", "edited.py", given=TRAIN.encode())
    assert done.returncode == 1
    assert done.stdout.startswith(b"--- a/edited.py\n+++ b/edited.py\n")


def test_a_notebook(project: Path, bn_audit: Command) -> None:
    def cell(source: str) -> dict[str, object]:
        return {
            "cell_type": "code",
            "metadata": {"collapsed": True},
            "outputs": [{"text": "größe"}],
            "source": source.splitlines(keepends=True),
        }

    head, call = TRAIN.split("fl_model =")
    cells = [{"cell_type": "markdown", "metadata": {}, "source": ["FLModel"]}, cell(head), cell("fl_model =" + call)]
    before = json.dumps({"cells": cells, "metadata": {}, "nbformat": 4}, indent=3)
    (project / "train.ipynb").write_text(before, encoding="utf-8")
    (project / "train.py").unlink()
    assert "+     skip_bn=True,\n" in bn_audit("scan").out
    assert bn_audit("scan", "--fix").status == 0
    after = (project / "train.ipynb").read_text(encoding="utf-8")
    new = '            "    skip_bn=True,\\n",'
    assert [line for line in after.split("\n") if line != new] == before.split("\n")
    assert after.split("\n").count(new) == 1


def test_a_read_only_file_is_left_and_the_rest_goes_on(project: Path, bn_audit: Command) -> None:
    (project / "other.py").write_text(TRAIN, encoding="utf-8")
    (project / "other.py").chmod(0o444)
    done = bn_audit("scan", "--fix", "--output-format", "concise")
    assert done.status == 2
    assert done.err == "bn-audit: other.py: not fixed: it is read-only\n"
    assert done.out.startswith("other.py:9:12: BNA101")
    assert done.out.endswith("[*] 1 fixable with --fix.\n")
    assert (project / "train.py").read_text(encoding="utf-8") == FIXED


def test_a_file_that_changes_at_the_last_moment(
    project: Path, bn_audit: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "other.py").write_text(TRAIN, encoding="utf-8")
    write = fixing.put

    def put(path: str, old: bytes, new: bytes) -> None:
        if path == "other.py":
            (project / path).write_text("# gone elsewhere\n" + TRAIN, encoding="utf-8")
        write(path, old, new)

    monkeypatch.setattr(fixing, "put", put)
    done = bn_audit("scan", "--fix", "--output-format", "concise")
    assert done.status == 2
    assert done.err == "bn-audit: other.py: not fixed: it has changed since it was read\n"
    # The report speaks of what stands there now.
    assert done.out.startswith("other.py:10:12: BNA101")
    assert "Fixed 1 finding." in done.out


def test_a_file_that_is_gone(project: Path, bn_audit: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(path: str) -> bytes:
        raise Refused("No such file or directory")

    monkeypatch.setattr(fixing, "take", gone)
    done = bn_audit("scan", "--fix")
    assert done.status == 2
    assert "train.py: not fixed: No such file or directory" in done.err


def test_the_plan_decides_not_the_pin_of_another_project(project: Path, bn_audit: Command) -> None:
    """SecretFlow 1.4 does not know skip_bn: no fix."""
    (project / "requirements.txt").write_text("secretflow==1.4.0b0\n", encoding="utf-8")
    done = bn_audit("scan", "--fix", "--unsafe-fixes")
    assert "fix:" not in done.out
    assert (project / "train.py").read_text(encoding="utf-8") == TRAIN


def test_a_model_that_is_partly_unknown(project: Path, bn_audit: Command) -> None:
    unknown = "        self.more = layers.more()\n\n    def forward(self, x):\n        return self.more(self.fc(x))\n"
    (project / "models.py").write_text(f"import layers\n{MODELS}{unknown}", encoding="utf-8")
    text = bn_audit("scan").out
    assert "[*]" not in text
    assert "= unsafe fix: have `local_batchnorm` make the model, and pass `skip_bn=True`" in text
    name = "local_batchnorm = None\n"  # which is taken
    (project / "train.py").write_text(TRAIN + name, encoding="utf-8")
    text = bn_audit("scan").out
    assert "= unsafe fix: pass `skip_bn=True`, although not all of the model is known: an entry registered" in text
