"""``--show-settings``, as a person reads it and as TOML."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from bn_audit.settings.keys import EXTEND, KEYS
from tests.cli.conftest import Command

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def test_settings_and_where_they_come_from(project: Path, bn_audit: Command) -> None:
    (project / "base.toml").write_text("ignore = ['BNA106']\nfail-on = 'error'\n", encoding="utf-8")
    (project / "bn-audit.toml").write_text(
        "extend = 'base.toml'\nselect = ['all']\nextend-exclude = ['a/b']\n[per-file-ignores]\n'tests/*' = ['BNA1']\n",
        encoding="utf-8",
    )
    done = bn_audit("scan", "--show-settings", "train.py", "models.py", "--config", "jobs = 2", "--fail-on", "info")
    assert (done.status, done.err) == (0, "")
    text = re.sub(r"exclude = \[\n[^\]]*\]", "exclude = [...]", done.out)
    assert (
        text
        == """\
# Settings of models.py and 1 more
# from bn-audit.toml, extending base.toml
select = ["ALL"]                                # bn-audit.toml:2
extend-select = []                              # default
ignore = ["BNA106"]                             # base.toml:1
per-file-ignores = { "tests/*" = ["BNA1"] }     # bn-audit.toml:4
extend-per-file-ignores = {}                    # default
# default
exclude = [...]
extend-exclude = ["a/b"]                        # bn-audit.toml:3
fail-on = "info"                                # --fail-on
# secretflow-version: the newest release with FLModel
models-with-batchnorm = []                      # default
models-without-batchnorm = []                   # default
batchnorm-classes = []                          # default
flmodel-wrappers = []                           # default

# Settings of the run
# from bn-audit.toml, extending base.toml
force-exclude = false                           # default
respect-gitignore = true                        # default
output-format = "text"                          # default
# cache-dir: .bn-audit_cache in the project's root
# baseline: none
jobs = 2                                        # --config
timeout = 60                                    # default
"""
    )


def test_it_is_toml_that_says_the_same(project: Path, bn_audit: Command) -> None:
    """Whatever a pattern holds, what is shown can be put into a file, and shows the same again."""
    names = ["\\d", 'quo"te', "tab\there", "ünï", "\x7f", "a, b", "#", *(f"folder-{number:02}" for number in range(30))]
    listed = ", ".join(f"'{name}'" if name.isprintable() else '"\\t\\u007f"' for name in names)
    (project / "bn-audit.toml").write_text(f"extend-exclude = [{listed}]\n", encoding="utf-8")
    shown = bn_audit("scan", "--show-settings").out
    files, run = (tomllib.loads(part) for part in shown.split("\n\n"))
    assert {*files, *run} == KEYS.keys() - {EXTEND.name, "secretflow-version", "cache-dir", "baseline"}
    (project / "bn-audit.toml").write_text(shown, encoding="utf-8")
    again, _ = (tomllib.loads(part) for part in bn_audit("scan", "--show-settings").out.split("\n\n"))
    assert again == files


def test_settings_of_each_folder_and_its_pin(project: Path, bn_audit: Command) -> None:
    (project / "sub").mkdir()
    (project / "sub" / "a.py").touch()
    (project / "sub" / "bn-audit.toml").write_text("ignore = ['BNA1']\n", encoding="utf-8")
    (project / "sub" / "requirements.txt").write_text("secretflow==1.7.0b0\n", encoding="utf-8")
    shown = bn_audit("scan", "--show-settings").out
    assert [line for line in shown.splitlines() if line.startswith("# Settings")] == [
        "# Settings of models.py and 1 more",
        "# Settings of sub/a.py",
        "# Settings of the run",
    ]
    assert "# secretflow-version: 1.7.0b0, which the project pins" in shown


def test_a_path_that_does_not_exist(project: Path, bn_audit: Command) -> None:
    done = bn_audit("scan", "--show-settings", "none.py")
    assert done.status == 2
    assert "none.py: no such file or folder" in done.err
