"""Rounds of fixes: what overlaps waits, what is not as announced is not written, and there is an end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from bn_audit.finding import Applicability, Edit, Finding, Fix, Location, Severity
from bn_audit.fix.contents import Refused
from bn_audit.fix.edits import edit_text
from bn_audit.fix.files import take
from bn_audit.fix.rounds import LIMIT, Judgement, fix_files
from tests.fix.programs import CALL, HEAD, PROGRAM, judge

Text = Callable[[str, str], list[Finding]]


def finding(
    path: str, line: int, *edits: Edit, code: str = "BNA101", unsafe: bool = False, severity: Severity = Severity.ERROR
) -> Finding:
    applicability = Applicability.UNSAFE if unsafe else Applicability.SAFE
    fix = Fix(applicability, "do", edits) if edits else None
    return Finding(code, "a-rule", severity, "", Location(path, line, 1, line, 2), fix=fix)


class World:
    """Files in memory, and a judge that looks at their lines."""

    def __init__(self, files: dict[str, str], rules: Text) -> None:
        self.files = files
        self.rules = rules
        self.judged = 0

    def judge(self, contents: Mapping[str, bytes]) -> Judgement:
        self.judged += 1
        texts = {**self.files, **{path: data.decode() for path, data in contents.items()}}
        found = tuple(one for path in sorted(texts) for one in self.rules(path, texts[path]))
        places = frozenset(
            Location(path, number, 1, number, 2)
            for path, text in texts.items()
            for number in range(1, text.count("\n") + 2)
        )
        return Judgement(found, found, places)

    def take(self, path: str) -> bytes:
        return self.files[path].encode()

    def fix(self, *, unsafe: bool = False) -> tuple[dict[str, str], dict[str, str], tuple[Finding, ...]]:
        """New contents by path, refusals by path, and what is found then."""
        outcome = fix_files(self.judge({}), self.judge, self.take, unsafe=unsafe)
        assert all(file.old == self.files[file.path].encode() for file in outcome.files)
        return (
            {file.path: file.new.decode() for file in outcome.files},
            dict(outcome.refused),
            outcome.judgement.findings,
        )


def true_for_false(path: str, text: str) -> list[Finding]:
    return [
        finding(path, number, Edit(number, 5, number, 10, "True"))
        for number, line in enumerate(text.split("\n"), start=1)
        if line == "x = False"
    ]


def test_all_files() -> None:
    world = World({"a.py": "x = False\ny = 1\nx = False", "b.py": "x = False\n", "c.py": "x = 1\n"}, true_for_false)
    files, refused, left = world.fix()
    assert files == {"a.py": "x = True\ny = 1\nx = True", "b.py": "x = True\n"}
    assert (refused, left) == ({}, ())


def test_nothing_to_do_is_nothing_judged() -> None:
    world = World({"a.py": "x = 1\n"}, true_for_false)
    assert world.fix() == ({}, {}, ())
    assert world.judged == 1


def test_what_overlaps_waits_for_the_next_round() -> None:
    def rules(path: str, text: str) -> list[Finding]:
        found = []
        if "ab" in text:
            found.append(finding(path, 1, Edit(1, 1, 1, 3, "x")))
        if "bc" in text or "xc" in text:
            found.append(finding(path, 1, Edit(1, 2, 1, text.index("c") + 2, "y"), code="BNA102"))
        return found

    files, _, left = World({"a.py": "abc = 1\n"}, rules).fix()
    assert files == {"a.py": "xy = 1\n"}
    assert left == ()


def test_there_is_an_end() -> None:
    """Each fix makes room for another finding a line further down."""

    def rules(path: str, text: str) -> list[Finding]:
        last = text.count("\n") + 1
        # Any other finding that was not there before would be a fault.
        return [finding(path, last, Edit(last, 1, last, 1, "x = 1\n"), code="BNA106", severity=Severity.INFO)]

    files, refused, left = World({"a.py": "\n"}, rules).fix()
    assert refused == {}
    assert files["a.py"].count("x = 1\n") == LIMIT
    assert len(left) == 1


def test_a_fix_that_does_not_help_is_not_written() -> None:
    def rules(path: str, text: str) -> list[Finding]:
        return [finding(path, 1, Edit(1, 1, 1, 1, "y = 1; "))] if "x" in text else []

    files, refused, left = World({"a.py": "x = 1\n", "b.py": "z = 1\n"}, rules).fix()
    assert files == {}
    assert refused == {"a.py": "after the fix, BNA101 is found all the same"}
    assert len(left) == 1


def test_a_fix_after_which_the_call_is_gone_is_not_written() -> None:
    world = World({"a.py": "x = False\n"}, true_for_false)
    judged = world.judge

    def blind(contents: Mapping[str, bytes]) -> Judgement:
        found = judged(contents)
        return found if "False" in contents.get("a.py", b"False").decode() else Judgement((), (), frozenset())

    outcome = fix_files(world.judge({}), blind, world.take, unsafe=False)
    assert outcome.refused == (("a.py", "after the fix, the call is not found any more"),)
    assert outcome.files == ()


@pytest.mark.parametrize("content", ["(", "True)", "return True\n  x", "\x00"])
def test_a_fix_after_which_nothing_parses_is_not_written(content: str) -> None:
    def rules(path: str, text: str) -> list[Finding]:
        return [finding(path, 1, Edit(1, 5, 1, 10, content if path == "a.py" else "True"))] if "False" in text else []

    world = World({"a.py": "x = False\n", "b.py": "x = False\n"}, rules)
    files, refused, _ = world.fix()
    assert files == {"b.py": "x = True\n"}
    assert list(refused) == ["a.py"]
    assert "valid Python" in refused["a.py"]


def test_the_file_at_fault_is_left_and_the_rest_goes_on() -> None:
    """The change of one file makes something else wrong, in a file that has no fix."""

    def rules(path: str, text: str) -> list[Finding]:
        found = true_for_false(path, text)
        if path == "z.py" and "broken" in text:
            found.append(finding(path, 1, code="BNA104"))
        return found

    world = World({"a.py": "x = False\n", "b.py": "x = False\n", "c.py": "x = False\n", "z.py": ""}, rules)
    judged = world.judge

    def judge(contents: Mapping[str, bytes]) -> Judgement:
        bad = "True" in contents.get("b.py", b"").decode()
        return judged({**contents, "z.py": b"broken" if bad else b""})

    outcome = fix_files(judge({}), judge, world.take, unsafe=False)
    assert [file.path for file in outcome.files] == ["a.py", "c.py"]
    assert outcome.refused == (("b.py", "after the fix, BNA104 is found at z.py:1"),)
    assert [one.location.path for one in outcome.judgement.findings] == ["b.py"]


@pytest.mark.parametrize(("unsafe", "written"), [(False, False), (True, True)])
def test_what_an_unsafe_fix_leaves_was_announced(unsafe: bool, written: bool) -> None:
    def rules(path: str, text: str) -> list[Finding]:
        if "False" in text:
            return [finding(path, 1, Edit(1, 5, 1, 10, "True"), unsafe=unsafe)]
        return [finding(path, 1, code="BNA103")]

    files, refused, left = World({"a.py": "x = False\n"}, rules).fix(unsafe=True)
    assert bool(files) is written
    assert bool(refused) is not written
    assert [one.code for one in left] == ["BNA103" if written else "BNA101"]


def test_unsafe_fixes_are_applied_only_when_asked_for() -> None:
    def rules(path: str, text: str) -> list[Finding]:
        return [finding(path, 1, Edit(1, 5, 1, 10, "True"), unsafe=True)] if "False" in text else []

    world = World({"a.py": "x = False\n"}, rules)
    assert world.fix()[0] == {}
    assert world.fix(unsafe=True)[0] == {"a.py": "x = True\n"}


def test_findings_further_down_move_along() -> None:
    """A second finding of the same file, without a fix, stands elsewhere after the first is fixed: it is not new."""

    def rules(path: str, text: str) -> list[Finding]:
        found = [
            finding(path, number, code="BNA104") for number, line in enumerate(text.split("\n"), 1) if line == "bad"
        ]
        if "done" not in text:
            found.append(finding(path, 1, Edit(1, 2, 1, 2, "\ndone")))
        return found

    files, refused, left = World({"a.py": "x\nbad\nbad"}, rules).fix()
    assert (files, refused) == ({"a.py": "x\ndone\nbad\nbad"}, {})
    assert [one.location.line for one in left] == [3, 4]


def test_a_file_that_cannot_be_taken() -> None:
    world = World({"a.py": "x = False\n", "b.py": "x = False\n"}, true_for_false)

    def read(path: str) -> bytes:
        if path == "a.py":
            raise Refused("it is read-only")
        return world.take(path)

    outcome = fix_files(world.judge({}), world.judge, read, unsafe=False)
    assert outcome.refused == (("a.py", "it is read-only"),)
    assert [file.path for file in outcome.files] == ["b.py"]
    assert len(outcome.judgement.findings) == 1


def test_bytes_that_changed_since_the_scan_are_judged_anew() -> None:
    """The scan saw another text: its edits would go astray."""
    world = World({"a.py": "x = False\n"}, true_for_false)
    first = world.judge({})
    world.files["a.py"] = "\n\nx = False\n"
    outcome = fix_files(first, world.judge, world.take, unsafe=False)
    assert [file.new for file in outcome.files] == [b"\n\nx = True\n"]


def test_one_file_under_two_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.py").write_text(PROGRAM, encoding="utf-8")
    Path("link.py").symlink_to("a.py")

    def again(contents: Mapping[str, bytes]) -> Judgement:
        return judge(["a.py", "link.py"], {str(tmp_path / path): data for path, data in contents.items()})

    outcome = fix_files(again({}), again, take, unsafe=False)
    assert [file.path for file in outcome.files] == ["a.py"]
    assert outcome.refused == (("link.py", "it is a.py under another name"),)


def test_a_second_run_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    programs = {"one.py": PROGRAM, "two.py": HEAD + CALL + CALL.replace("fl_model", "other"), "none.py": "x = 1\n"}
    for name, text in programs.items():
        Path(name).write_text(text, encoding="utf-8")

    def again(contents: Mapping[str, bytes]) -> Judgement:
        return judge(["."], {str(tmp_path / path): data for path, data in contents.items()})

    first = again({})
    outcome = fix_files(first, again, take, unsafe=False)
    assert [file.path for file in outcome.files] == ["one.py", "two.py"]
    assert sum(len(file.fixed) for file in outcome.files) == 3
    for file in outcome.files:
        edits = [edit for one in file.fixed if one.fix for edit in one.fix.edits]
        assert file.new.decode() == edit_text(file.old.decode(), edits).text
        Path(file.path).write_bytes(file.new)
    assert fix_files(again({}), again, take, unsafe=True).files == ()
