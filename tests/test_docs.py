"""The documentation is true: what the code says is written from the code, and the rest leads somewhere.

``BN_AUDIT_UPDATE=1`` writes the generated pages and the parts between ``begin`` and ``end``, for a person to read.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from bn_audit.cli.scan import command as scan
from bn_audit.report.formats import names, renderer
from bn_audit.rules import catalogue
from bn_audit.rules.page import page
from bn_audit.scanning import vocabulary
from bn_audit.settings.keys import KEYS, Key
from bn_audit.source.exclusion import DEFAULT_EXCLUDE
from tests.golden import same_as

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
RULES = catalogue()
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])


def filled(path: Path, name: str, text: str) -> None:
    """Compare what stands between a page's marks, or write it there."""
    old = path.read_text(encoding="utf-8")
    marks = re.escape(f"<!-- begin {name} -->\n"), re.escape(f"<!-- end {name} -->\n")
    new, count = re.subn(f"({marks[0]}).*?({marks[1]})", lambda m: f"{m[1]}\n{text}\n{m[2]}", old, flags=re.DOTALL)
    assert count == 1, f"{path.name} has no place for {name}"
    same_as(path, new)


def fenced(path: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("code", RULES)
def test_a_page_for_each_rule(code: str) -> None:
    same_as(DOCS / "rules" / f"{code}.md", page(RULES[code]) + "\n")


def test_the_index_of_the_rules() -> None:
    rows = "".join(
        f"| [{rule.code}]({rule.code}.md) | {rule.name} | {rule.severity.value} | {rule.summary} |\n"
        for rule in RULES.values()
    )
    head = "# Rules\n\nThe severity is a rule's usual one.\n\n"
    head += "| Code | Name | Severity | What it says |\n|---|---|---|---|\n"
    same_as(DOCS / "rules" / "README.md", head + rows)
    assert {path.stem for path in (DOCS / "rules").iterdir()} == {*RULES, "README"}


def described(schema: dict[str, Any]) -> str:
    """What a value may be, in words, from its JSON schema."""
    if "enum" in schema:
        return "one of " + ", ".join(f'`"{word}"`' for word in schema["enum"])
    if schema["type"] == "array":
        items = schema["items"]
        return (
            "list of rules" if "anyOf" in items else "list of dotted names" if "pattern" in items else "list of strings"
        )
    if schema["type"] == "object":
        return "table: a pattern, and a list of rules"
    return {"boolean": "`true` or `false`", "integer": "whole number from 0", "string": "string"}[schema["type"]]


def section(key: Key) -> str:
    flags = {name: option for option in scan.params for name in (option.name or "", *option.opts)}
    facts = [described(key.kind.schema(vocabulary()))]
    if key.default:
        facts.append(f"default `{key.default}`")
    if f"--{key.name}" in flags:
        facts.append(f"flag `--{key.name}`")
    if key.run:
        facts.append("one for a run, taken from the working directory's configuration")
    text = f"### `{key.name}`\n\n{key.help}\n\n{facts[0][0].upper()}{'; '.join(facts)[1:]}.\n"
    if key.name == "exclude":
        text += f"The default: {', '.join(f'`{name}`' for name in DEFAULT_EXCLUDE)}.\n"
    return text


def test_every_key_is_in_configuration() -> None:
    filled(DOCS / "configuration.md", "keys", "\n".join(map(section, KEYS.values())))


@pytest.mark.parametrize("name", ["examples/github.yml", "examples/gitlab-ci.yml"])
def test_ci_shows_the_examples(name: str) -> None:
    filled(DOCS / "ci.md", name, f"```yaml\n{(DOCS / name).read_text(encoding='utf-8')}```\n")


def test_ci_lists_the_inputs_of_the_action() -> None:
    action = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
    rows = "".join(
        f"| `{name}` | {row['description']} | `{row['default']!s}` |\n".replace("``", "none")
        for name, row in action["inputs"].items()
    )
    filled(DOCS / "ci.md", "inputs", f"| input | means | default |\n|---|---|---|\n{rows}")


def test_formats_are_listed() -> None:
    rows = re.findall(r"^\| `(\w+)` \|.* (yes|no) \|$", (DOCS / "formats.md").read_text(encoding="utf-8"), re.MULTILINE)
    expected = {name: "yes" if renderer(name, statistics=True) else "no" for name in names()}
    assert dict(rows) == expected


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)]*))?\)", path.read_text(encoding="utf-8")):
        there = path.parent / target if target else path
        assert there.exists(), f"{path.name}: {target}"
        if anchor:
            heads = re.findall(r"^#+ (.*)$", there.read_text(encoding="utf-8"), flags=re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def test_every_page_is_in_the_index() -> None:
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    linked = {DOCS / target for target in re.findall(r"\]\(([\w/.-]+\.md)\)", index)}
    assert {path for path in PAGES if path.parent == DOCS} - {DOCS / "README.md"} <= linked


def command_lines() -> Iterator[tuple[Path, str]]:
    """Each command line that a page shows."""
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        for line in re.findall(
            r"^(?: {4}(?:\$ )?| *- (?:run: )?)(bn-audit .*?)(?:  .*| #.*)?$", text, flags=re.MULTILINE
        ):
            yield path, line


@pytest.mark.parametrize(("path", "line"), list(command_lines()), ids=str)
def test_shown_command_lines_have_flags_that_exist(path: Path, line: str) -> None:
    from bn_audit.cli import cli

    _, name, *words = [word for word in shlex.split(line) if word[0] != "["]
    command = cli.get_command(click.Context(cli), name)
    assert command is not None, name
    known = {
        option
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for option in (*parameter.opts, *parameter.secondary_opts)
    }
    words = [piece for word in words for piece in word.split()]  # of what --before and --after take, each flag
    assert {word.partition("=")[0] for word in words if word.startswith("-") and word != "-"} - {"-"} <= known


def test_the_problem_matcher_for_vs_code_takes_what_concise_writes() -> None:
    (task,) = json.loads(fenced(DOCS / "editors.md", "json")[0])["tasks"]
    pattern = task["problemMatcher"]["pattern"]
    command = [sys.executable, "-m", "bn_audit", *shlex.split(task["command"])[1:], "--isolated", "examples"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    lines = [line for line in done.stdout.splitlines() if ":cell " not in line]
    matches = [re.match(pattern["regexp"], line) for line in lines]
    assert matches and all(matches)
    assert all(match and (ROOT / match[pattern["file"]]).is_file() for match in matches)


def test_settings_shown_are_settings() -> None:
    from bn_audit.settings.keys import Source
    from bn_audit.settings.load import read_table

    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    read = 0
    for path in PAGES:
        for block in fenced(path, "toml"):
            table = tomllib.loads(block)
            if "tool" in table:
                table = table["tool"].get("bn-audit", {})
            if not {"language", "language-server"} & set(table):
                read_table(table, Source("/", "/", vocabulary()))
                read += 1
    assert read >= 3


def test_the_gitlab_example_runs(tmp_path: Path) -> None:
    document = yaml.safe_load((DOCS / "examples" / "gitlab-ci.yml").read_text(encoding="utf-8"))
    job = document["bn-audit"]
    install, report, last = job["script"]
    assert install.startswith("pip install ")
    (tmp_path / "bn-audit").write_text(
        f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(ROOT))} exec {shlex.quote(sys.executable)} -m bn_audit "$@"\n'
    )
    (tmp_path / "bn-audit").chmod(0o755)
    example = ROOT / "examples" / "missing_skip_bn"
    for name in ("train.py", "models.py", "data.py"):
        (tmp_path / name).write_bytes((example / name).read_bytes())
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    status = [
        subprocess.run(
            ["bash", "-ec", line], cwd=tmp_path, env=environment, capture_output=True, check=False
        ).returncode
        for line in (report, last)
    ]
    assert status == [0, 1]
    (issue,) = json.loads((tmp_path / job["artifacts"]["reports"]["codequality"]).read_bytes())
    assert issue["location"]["path"] == "train.py"
