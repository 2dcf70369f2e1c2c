"""What the scan before parsing lets pass. What it refuses is shown on whole files, in test_hostile.py."""

from __future__ import annotations

from unittest.mock import patch

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bn_audit.source import scanner
from bn_audit.source.scanner import check_size
from bn_audit.source.text import SourceError

PIECES = [
    "x = 1", "(", ")", "[", "]", "{", "}", "'", '"', "'''", '"""', "\\", "\n", "\n", "\n    ", "#", "f'", 'f"""', "rb'",
    " + 1" * 20, "[" * 60, "]" * 60, "{" * 30, "(1, " * 40, "del ", "case ", "elif x:", "if x:",
    ", ", ";", "a.b.c", "\f",
]  # fmt: skip


def verdict(text: str) -> tuple[str, int] | None:
    try:
        check_size(text)
    except SourceError as error:
        return error.reason, error.line
    return None


@given(st.lists(st.sampled_from(PIECES), max_size=40).map("".join))
@example('x = """x\'\'\' "\n' + "[" * 100 + "\n" + "[" * 101 + '\n"""\n')
@example("x = (1,\n" + "[" * 100 + "\n" + "[" * 101)
@example("x = 1 + \\\n" + "[" * 100 + "\\\n" + "[" * 101)
def test_lines_that_are_passed_over_change_nothing(text: str) -> None:
    with patch.object(scanner, "_SHORT", -1):
        wanted = verdict(text)
    assert verdict(text) == wanted


@pytest.mark.parametrize("line", ["del " + "(" * 21 + "x" + ")" * 21, "x = 1; del " + "[" * 22 + "x" + "]" * 22])
def test_short_lines_that_take_long_are_counted(line: str) -> None:
    with pytest.raises(SourceError, match="too many deeply nested"):
        check_size("\n".join([line] * 20))
