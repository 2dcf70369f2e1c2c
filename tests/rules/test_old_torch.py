"""What an old torch's arithmetic on mixed types raises is not known, and not claimed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from bn_audit.cli import cli
from bn_audit.rules import catalogue

EXAMPLE = catalogue()["BNA201"].bad[0]


@pytest.mark.parametrize(
    ("pin", "expected"),
    [("", "BNA201"), ("torch==1.2.0\n", "BNA202"), ("torch==1.0\n", "BNA202"), ("torch==1.13.1\n", "BNA201")],
)
def test_the_torch_that_a_project_pins(tmp_path: Path, pin: str, expected: str) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "requirements.txt").write_text(pin, encoding="utf-8")
    for name, text in EXAMPLE.files:
        (tmp_path / name).write_text(text, encoding="utf-8")
    result = CliRunner().invoke(cli, ["scan", "--isolated", "--no-cache", "--output-format", "json", str(tmp_path)])
    codes = [row["code"] for row in json.loads(result.stdout)["findings"]]
    assert codes == [expected]
