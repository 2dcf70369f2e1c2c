"""The examples tell the stories that their README promises."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bn_audit.audit import Selection, Versions, audit
from bn_audit.source.read import ReadOptions, read

EXAMPLES = Path(__file__).parent.parent / "examples"
STORIES = dict(
    re.findall(
        r"^\| \[(\w+)\]\(\w+\) \| .* \| (\w+) \|$", (EXAMPLES / "README.md").read_text(encoding="utf-8"), re.MULTILINE
    )
)


def test_every_folder_has_a_story() -> None:
    folders = {path.name for path in EXAMPLES.iterdir() if path.is_dir() and not path.name.startswith((".", "_"))}
    assert folders == set(STORIES)
    assert all((EXAMPLES / folder / "README.md").is_file() for folder in folders)


@pytest.mark.parametrize("folder", sorted(STORIES))
def test_the_story_is_true(folder: str) -> None:
    result = read([str(EXAMPLES / folder)], options=ReadOptions())
    findings = audit(result.sites, result.unreadable, Selection(), lambda path: Versions())
    assert result.sites
    assert [finding.code for finding in findings] == ([] if STORIES[folder] == "none" else [STORIES[folder]])
