from __future__ import annotations

import json
import platform
from importlib.metadata import version

import pytest

from bn_audit import __version__
from bn_audit.rules import catalogue
from tests.cli.conftest import Command


@pytest.mark.parametrize("name", ["BNA104", "bna104", "skip-bn-misplaces-weights"])
def test_a_page(bn_audit: Command, name: str) -> None:
    done = bn_audit("rule", name)
    assert done.status == 0
    assert done.out.startswith("# skip-bn-misplaces-weights (BNA104)\n\n")
    assert "\n## When it stays silent\n" in done.out


def test_all_pages(bn_audit: Command) -> None:
    text = bn_audit("rule", "--all").out
    assert [line for line in text.splitlines() if line.startswith("# ") and "(BNA" in line] == [
        f"# {rule.name} ({rule.code})" for rule in catalogue().values()
    ]


def test_json(bn_audit: Command) -> None:
    one = json.loads(bn_audit("rule", "BNA101", "--output-format", "json").out)
    every = json.loads(bn_audit("rule", "--all", "--output-format", "json").out)
    assert one["code"] == "BNA101"
    assert one in every
    assert [rule["code"] for rule in every] == list(catalogue())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["BNA1O1"], "there is no rule 'BNA1O1'; did you mean BNA101?"),
        (["mising-skip-bn"], "did you mean missing-skip-bn?"),
        (["xyz"], "there is no rule 'xyz'\n"),
        ([], "give either a rule's code or --all"),
        (["BNA101", "--all"], "give either a rule's code or --all"),
    ],
)
def test_usage_errors(bn_audit: Command, arguments: list[str], says: str) -> None:
    done = bn_audit("rule", *arguments)
    assert done.status == 2
    assert says in done.err


def test_the_group(bn_audit: Command) -> None:
    first, second = bn_audit("--version").out.splitlines()
    assert first == f"bn-audit {__version__}"
    assert second.startswith(f"Python {platform.python_version().rstrip('+')}, libcst {version('libcst')}, click ")
    help = bn_audit("--help")
    assert help.status == 0
    assert "  rule  " in help.out and "  scan  " in help.out
    assert bn_audit("scna").status == 2
    assert bn_audit().status == 2
