"""What ``--help`` shows."""

from __future__ import annotations

import re

import click
import pytest

from bn_audit.cli import COMMANDS, cli
from bn_audit.cli.scan import GROUPS
from bn_audit.cli.scan import command as scan
from tests.cli.conftest import Command


def test_every_option_of_scan_is_in_one_group(bn_audit: Command) -> None:
    grouped = [name for group in GROUPS.values() for name in group]
    options = [param.name for param in scan.params if isinstance(param, click.Option)]
    assert sorted(grouped) == sorted(name for name in options if name is not None)
    _, head, options_part = bn_audit("scan", "--help").out.partition("\nRules:\n")
    out = head + options_part
    assert re.findall(r"^(\S.*):$", out, flags=re.MULTILINE) == [*GROUPS, "Other"]
    shown = re.findall(r"^  (?:-\w, )?(--[\w-]+)", out, flags=re.MULTILINE)
    assert sorted(shown) == sorted([*(f"--{name}".replace("_", "-") for name in grouped), "--help"])


@pytest.mark.parametrize("name", [None, *COMMANDS])
@pytest.mark.parametrize("columns", [80, 100, 200])
def test_it_fits(monkeypatch: pytest.MonkeyPatch, bn_audit: Command, name: str | None, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    out = bn_audit(*([name] if name else []), "--help").out
    assert max(map(len, out.splitlines())) <= min(columns, 100)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_says_what_it_does(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None and command.short_help
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help and re.fullmatch(r"[A-Za-z].*[.\])]", option.help), option.name
