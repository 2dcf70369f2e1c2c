"""What is said of a class whose heirs are not all known, since no more source is opened than the limit allows."""

from __future__ import annotations

from pathlib import Path

import pytest

from bn_audit.audit import Selection, Versions, audit
from bn_audit.source import project
from bn_audit.source.read import ReadOptions, read
from tests.test_federated_corpus import unpack

_CASES = Path(__file__).parents[2] / "data" / "federated" / "exchange"


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("nvflare-job-that-names-a-learner-of-its-own", []),
        ("nvflare-job-that-names-a-learner-as-it-is", ["BNA206"]),
    ],
)
def test_a_learner_is_judged_alike_if_its_heirs_cannot_be_opened(
    case: str, expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unpack(_CASES / f"{case}.txt", tmp_path)
    read_before = [tmp_path / "app" / "custom" / name for name in ("nets.py", "learners/base.py", "learners/site.py")]
    for opened in (800_000, sum(len(path.read_text()) for path in read_before) - 1):
        monkeypatch.setattr(project, "_MAX_OPENED", opened)
        result = read([str(tmp_path)], options=ReadOptions(jobs=1))
        rows = audit(result.sites, result.unreadable, lambda _: Selection(("BNA206",)), lambda _: Versions())
        assert [row.code for row in rows] == expected
