"""Baselines: what they know, what is stale, and what they refuse to read."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bn_audit import baseline
from bn_audit.baseline import VERSION, Baseline, BaselineError, Key, load, merged
from bn_audit.finding import Finding, Location, Severity

SCHEMA = json.loads(Path(baseline.__file__).with_name("baseline.schema.json").read_text(encoding="utf-8"))
SOURCES: dict[str, list[str]] = {
    "a.py": ["FLModel(one)", "FLModel(one)", "FLModel(two)"],
    "below/b.py": ["FLModel(one)"],
}


def excerpt(path: str, cell: int | None, line: int) -> str | None:
    return SOURCES[os.path.relpath(path)][line - 1]


def finding(path: str, line: int, code: str = "BNA101", message: str = "") -> Finding:
    return Finding(code, "x", Severity.ERROR, message, Location(path, line, 1, line, 99))


FINDINGS = (finding("a.py", 1), finding("a.py", 2), finding("a.py", 3), finding("below/b.py", 1))


def test_what_was_found_is_known() -> None:
    known = Baseline(os.getcwd()).of(FINDINGS, excerpt)
    assert sorted(known.counts.values()) == [1, 1, 2]
    matched = known.match(FINDINGS, excerpt)
    assert (matched.new, matched.known, matched.stale) == ((), FINDINGS, {})


def test_of_equal_findings_as_many_are_known_as_were_counted() -> None:
    known = Baseline(os.getcwd()).of(FINDINGS[:1], excerpt)
    matched = known.match(FINDINGS, excerpt)
    assert matched.known == FINDINGS[:1]
    assert matched.new == FINDINGS[1:]


def test_stale() -> None:
    known = Baseline(os.getcwd()).of(FINDINGS, excerpt)
    matched = known.match(FINDINGS[1:3], excerpt)
    assert Counter((key.path, count) for key, count in matched.stale.items()) == {("a.py", 1): 1, ("below/b.py", 1): 1}
    assert known.without(matched.stale).match(FINDINGS, excerpt).known == (FINDINGS[0], FINDINGS[2])
    assert known.without(matched.stale).counts == Baseline(os.getcwd()).of(FINDINGS[1:3], excerpt).counts


def test_rules_and_files_are_kept_apart() -> None:
    known = Baseline(os.getcwd()).of(FINDINGS[:1], excerpt)
    others = (finding("a.py", 1, code="BNA102"), finding("below/b.py", 1))
    assert known.match(others, excerpt).new == others
    assert known.match([finding("a.py", 1, message="another")], excerpt).new == ()


def test_paths_are_relative_to_the_baseline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    known = Baseline(str(tmp_path / "conf")).of(FINDINGS, excerpt)
    assert {key.path for key in known.counts} == {"../a.py", "../below/b.py"}
    assert {known.file(key) for key in known.counts} == {str(tmp_path / "a.py"), str(tmp_path / "below/b.py")}
    absolute = tuple(finding(str(tmp_path / "a.py"), line) for line in (1, 2, 3))
    assert known.match(absolute, excerpt).new == ()


def test_what_a_scan_does_not_judge_is_kept() -> None:
    old = Baseline("/x", {Key("a.py", "BNA101", "0" * 16): 2, Key("b.py", "BNA101", "1" * 16): 1})
    found = Baseline("/x", {Key("a.py", "BNA101", "0" * 16): 1, Key("c.py", "BNA101", "2" * 16): 1})
    kept = merged(found, old, lambda key: key.path == "b.py")
    assert {key.path: count for key, count in kept.counts.items()} == {"a.py": 1, "b.py": 1, "c.py": 1}
    kept = merged(found, old, lambda key: True)
    assert {key.path: count for key, count in kept.counts.items()} == {"a.py": 2, "b.py": 1, "c.py": 1}


KEYS = st.builds(
    Key,
    st.text(st.characters(exclude_characters="\0"), min_size=1) | st.just("a\udcff\n.py"),
    st.from_regex(r"BNA[0-9]{3}", fullmatch=True),
    st.from_regex(r"[0-9a-f]{16}", fullmatch=True),
)


@given(st.dictionaries(KEYS, st.integers(1, 9), max_size=5))
def test_round_trip(counts: dict[Key, int]) -> None:
    text = Baseline("/x", counts).text()
    assert text.isascii()
    assert text == Baseline("/x", dict(reversed(counts.items()))).text()
    document = json.loads(text)
    jsonschema.validate(document, SCHEMA)
    assert len(text.splitlines()) == len(counts) + (5 if counts else 4)
    path = Path(os.environ.get("TMPDIR", "/tmp")) / f"bn-audit-{os.getpid()}.json"
    try:
        path.write_text(text, encoding="ascii")
        assert load(str(path)).counts == counts
    finally:
        path.unlink()


def test_its_text() -> None:
    one = Key("b.py", "BNA101", "0123456789abcdef")
    assert Baseline("/x").text() == '{\n  "version": 1,\n  "findings": []\n}\n'
    assert Baseline("/x", {one: 2, one._replace(path="a.py"): 1}).text() == (
        '{\n  "version": 1,\n  "findings": [\n'
        '    {"path": "a.py", "code": "BNA101", "digest": "0123456789abcdef", "count": 1},\n'
        '    {"path": "b.py", "code": "BNA101", "digest": "0123456789abcdef", "count": 2}\n'
        "  ]\n}\n"
    )


ENTRY = {"path": "a.py", "code": "BNA101", "digest": "0123456789abcdef", "count": 1}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not all of it is there"),
        ('{"version": 1, "findings": [', "not all of it is there"),
        ('{\n"version": 1,\n<<<<<<< HEAD\n', r"b.json:3: .*restore it"),
        ("[]", "it has no version"),
        ("null", "it has no version"),
        ('{"findings": []}', "it has no version"),
        ('{"version": 2, "findings": []}', "has version 2, and this bn-audit reads version 1"),
        ('{"version": "1", "findings": []}', "has version '1'"),
        ('{"version": true, "findings": []}', "has version True"),
        ('{"version": 1}', "a list of `findings`"),
        ('{"version": 1, "findings": {}}', "a list of `findings`"),
        ('{"version": 1, "findings": [], "more": 1}', "nothing else"),
        *(
            (json.dumps({"version": VERSION, "findings": [ENTRY, {**ENTRY, **change}]}), "entry 2 is not a finding's")
            for change in (
                {"count": 0},
                {"count": True},
                {"count": "1"},
                {"code": "F841"},
                {"digest": "0"},
                {"path": ""},
                {"path": None},
                {"line": 3},
            )
        ),
        (json.dumps({"version": VERSION, "findings": [ENTRY, 1]}), "entry 2 is not a finding's"),
        (json.dumps({"version": VERSION, "findings": [ENTRY, ENTRY]}), "entry 2 is there twice"),
        ("[" * 100_000, "no JSON"),
    ],
)
def test_what_is_no_baseline(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "b.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BaselineError, match=reason) as caught:
        load(str(path))
    assert str(caught.value).startswith(str(path))


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BaselineError, match=r"no such file; --write-baseline .*b\.json makes one"):
        load(str(tmp_path / "b.json"))
    with pytest.raises(BaselineError, match="directory"):
        load(str(tmp_path))
    (tmp_path / "b.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BaselineError, match="no JSON"):
        load(str(tmp_path / "b.json"))
