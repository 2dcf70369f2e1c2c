from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bn_audit.source import keeper
from bn_audit.source.keeper import TAG, Keeper, clean
from bn_audit.source.memory import Memory, Result, Seen
from bn_audit.source.outside import digest

MEMORY = Memory(
    (b"FLModel", b"BNA"),
    {"a.py": Seen((1, 2, 3, 4), (b"FLModel",)), "pkg/b.py": Seen(None), "\udcff.py": Seen((1, 2, 3, 4))},
    {"/x/a.py": (1, 2, 3, 4)},
    {("read", "/x/a.py"): "0af", ("mention", "f", "g", ""): "a.py\0b.py"},
    {
        ("look", "a.py", "", "FLModel"): Result(
            [[], [], [], [], None], {("read", "/x/a.py"): "0af", ("file", "/x/b.py"): "no"}
        ),
        ("exports", "a.py", "FLModel"): Result([[], [], [], [], ["FLModel"]], {}),
    },
)
PLACES = ["/x/**"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def entry(folder: Path) -> Path:
    (path,) = folder.glob("*.json")
    return path


def test_what_is_kept_is_recalled(folder: Path) -> None:
    one = Keeper(str(folder), "1")
    assert one.recall(PLACES) is None
    one.keep(PLACES, MEMORY)
    assert Keeper(str(folder), "1").recall(PLACES) == MEMORY
    assert one.notes == []


def test_another_scan_writes_its_tag_between_two_looks_at_the_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = os.listdir

    def tagged_meanwhile(path: str) -> list[str]:
        (folder / TAG).write_text(keeper._MARKS[TAG], encoding="ascii", newline="\n")
        return listed(path)

    one = Keeper(str(folder), "1")
    with monkeypatch.context() as patch:
        patch.setattr(os, "listdir", tagged_meanwhile)
        one.keep(PLACES, MEMORY)
    assert one.notes == []
    assert one.recall(PLACES) == MEMORY


def test_what_is_kept_of_something_else_is_not(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Keeper(str(folder), "1").keep(PLACES, MEMORY)
    assert Keeper(str(folder), "2").recall(PLACES) is None
    assert Keeper(str(folder), "1").recall(["/x"]) is None
    with monkeypatch.context() as patch:
        patch.setattr("bn_audit.source.versions.versions", lambda: ("another",))
        assert Keeper(str(folder), "1").recall(PLACES) is None
    monkeypatch.chdir(tmp_path)
    assert Keeper(str(folder), "1").recall(PLACES) is None


def test_a_file_of_something_else_under_this_name(folder: Path) -> None:
    """As if two names had the same digest: what the file itself says counts."""
    Keeper(str(folder), "1").keep(PLACES, MEMORY)
    Keeper(str(folder), "2").keep(PLACES, MEMORY._replace(wanted=(b"FLModel", b"BNA", b"x")))
    first, second = sorted(folder.glob("*.json"))
    one, two = first.read_bytes(), second.read_bytes()
    first.write_bytes(two)
    second.write_bytes(one)
    assert Keeper(str(folder), "1").recall(PLACES) is None
    assert Keeper(str(folder), "2").recall(PLACES) is None


def test_another_form(folder: Path) -> None:
    one = Keeper(str(folder), "1")
    one.keep(PLACES, MEMORY)
    path = entry(folder)
    path.write_bytes(path.read_bytes().replace(b"bn-audit 1 ", b"bn-audit 2 ", 1))
    assert one.recall(PLACES) is None


@pytest.mark.parametrize("share", [0, 0.01, 0.1, 0.5, 0.9, 0.999])
def test_cut_in_half(folder: Path, share: float) -> None:
    one = Keeper(str(folder), "1")
    one.keep(PLACES, MEMORY)
    data = entry(folder).read_bytes()
    entry(folder).write_bytes(data[: int(len(data) * share)])
    assert one.recall(PLACES) is None
    (note,) = one.notes
    assert "not used, it is damaged" in note
    one.keep(PLACES, MEMORY)
    assert one.recall(PLACES) == MEMORY


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_one_byte_that_is_another(tmp_path: Path, data: st.DataObject) -> None:
    folder = tmp_path / "cache"
    one = Keeper(str(folder), "1")
    one.keep(PLACES, MEMORY)
    content = bytearray(entry(folder).read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    entry(folder).write_bytes(content)
    assert one.recall(PLACES) is None


FAULTS = [
    lambda table: table.pop("files"),
    lambda table: table.update(wanted=[1]),
    lambda table: table.update(wanted="FLModel"),
    lambda table: table["files"].update({"": [["a.py", 1, 2, 3]]}),
    lambda table: table["files"].update({"": [["a.py", 1, 2, 3, "4"]]}),
    lambda table: table["files"].update({"": [["a.py", 1, 2, 3, 4, [7]]]}),
    lambda table: table["files"].update({"": [[1]]}),
    lambda table: table["files"].update({"": [[]]}),
    lambda table: table["signatures"].update({"/x/a.py": [1.0, 2, 3, 4]}),
    lambda table: table["questions"].append([1, 2]),
    lambda table: table["questions"].append(7),
    lambda table: table["answers"].append(99),
    lambda table: table["results"].append([["look"], []]),
    lambda table: table["results"].append([[1], [], []]),
    lambda table: table["results"].append([["look"], [], ["0"]]),
    lambda table: table["results"].append(None),
]


@pytest.mark.parametrize("number", range(len(FAULTS)))
def test_a_right_checksum_on_something_wrong(folder: Path, number: int) -> None:
    one = Keeper(str(folder), "1")
    one.keep(PLACES, MEMORY)
    table = json.loads(entry(folder).read_bytes().partition(b"\n")[2])
    FAULTS[number](table)
    body = json.dumps(table).encode()
    entry(folder).write_bytes(f"bn-audit 1 {len(body)} {digest(body)}\n".encode() + body)
    assert one.recall(PLACES) is None
    assert one.notes


def test_a_file_in_place_of_the_folder(folder: Path) -> None:
    folder.write_text("mine")
    one = Keeper(str(folder), "1")
    assert one.recall(PLACES) is None
    one.keep(PLACES, MEMORY)
    assert folder.read_text() == "mine"
    assert one.notes == [f"{folder}: nothing is kept for the next scan: File exists"]


def test_a_folder_with_something_else_in_it(folder: Path) -> None:
    folder.mkdir()
    (folder / "thesis.txt").write_text("mine")
    one = Keeper(str(folder), "1")
    one.keep(PLACES, MEMORY)
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]
    assert one.notes == [f"{folder}: nothing is kept for the next scan: it holds something else"]


def test_a_file_that_cannot_be_written_to_the_end(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = Keeper(str(folder), "1")
    one.keep(PLACES, MEMORY)

    def full(source: str, target: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    one.keep(PLACES, MEMORY._replace(answers={}))
    assert one.notes == [f"{folder}: nothing is kept for the next scan: No space left on device"]
    assert one.recall(PLACES) == MEMORY
    assert not list(folder.glob("*.part"))


def test_a_folder_like_other_caches(folder: Path) -> None:
    Keeper(str(folder), "1").keep(PLACES, MEMORY)
    assert (folder / TAG).read_text().startswith("Signature: 8a477f597d28d172789f06886806bc55\n")
    assert (folder / ".gitignore").read_text().endswith("\n*\n")


def test_old_memories_and_leavings_are_dropped(folder: Path) -> None:
    one = Keeper(str(folder), "1")
    one.keep(["/old"], MEMORY)
    old = entry(folder)
    now = time.time()
    os.utime(old, (now, now - 40 * 86_400))
    left = folder / f"{old.name}.0123abcd.part"
    fresh = folder / f"{old.name}.4567abcd.part"
    for path in (left, fresh, folder / "mine.json", folder / "mine.part"):
        path.write_text("")
    os.utime(left, (now, now - 7200))
    one.keep(PLACES, MEMORY)
    assert not old.exists() and not left.exists()
    assert fresh.exists() and (folder / "mine.json").exists() and (folder / "mine.part").exists()


def test_what_is_used_is_not_old(folder: Path) -> None:
    one = Keeper(str(folder), "1")
    one.keep(["/used"], MEMORY)
    os.utime(entry(folder), (0, 0))
    assert one.recall(["/used"]) == MEMORY
    one.keep(PLACES, MEMORY)
    assert one.recall(["/used"]) == MEMORY


def test_no_more_than_so_many(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "_MOST", 3)
    one = Keeper(str(folder), "1")
    for number in range(6):
        one.keep([f"/{number}"], MEMORY)
    assert len(list(folder.glob("*.json"))) <= 4
    assert one.recall(["/5"]) == MEMORY


def test_clean(folder: Path) -> None:
    assert not clean(str(folder))
    Keeper(str(folder), "1").keep(PLACES, MEMORY)
    assert clean(str(folder))
    assert not folder.exists()


def test_clean_leaves_what_is_not_ours(folder: Path) -> None:
    Keeper(str(folder), "1").keep(PLACES, MEMORY)
    (folder / ".gitignore").write_text("*.log\n")
    (folder / "mine.json").write_text("")
    assert clean(str(folder))
    assert sorted(path.name for path in folder.iterdir()) == [".gitignore", "mine.json"]
    assert not clean(str(folder))
    (folder / TAG).write_text("another program's")
    assert not clean(str(folder)) and (folder / TAG).exists()


def test_names_of_digests(folder: Path) -> None:
    Keeper(str(folder), "1").keep(PLACES, MEMORY)
    assert re.fullmatch("[0-9a-f]{32}.json", entry(folder).name)
