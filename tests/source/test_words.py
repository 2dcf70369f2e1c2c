"""Words of files, beside regular expressions."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from zlib import crc32

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from bn_audit.source.inspector import Inspector
from bn_audit.source.outside import Outside
from bn_audit.source.prefilter import mentions
from bn_audit.source.root import search_root
from bn_audit.source.sources import Sources
from bn_audit.source.words import WordIndex, calls, defines, derives, fills, gives, steps_between, words

NAMES = ["load", "loads", "_load", "Größe", "x", "load_state_dict"]
TEXTS = st.text("load_s.( )\n'\"ö\u00df\u2028x1", max_size=40) | st.lists(
    st.sampled_from([*NAMES, " ", ".", "(", "ß", "1"]), max_size=8
).map("".join)


def holds(data: bytes, name: str) -> bool:
    return name.encode() in data


@given(TEXTS)
def test_words_are_those_a_regular_expression_finds(text: str) -> None:
    data = text.encode()
    assert {name for name in NAMES if name.encode() in words(data)} == mentions(data, NAMES)


@pytest.fixture(params=[0, 2])
def searches(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Words are kept from the first question on, or not at once; of few files at a time."""
    monkeypatch.setattr("bn_audit.source.words._SEARCHES", request.param)
    monkeypatch.setattr("bn_audit.source.words._BLOCK", 3)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(TEXTS, max_size=7), st.sampled_from(NAMES), st.sampled_from(NAMES))
@pytest.mark.usefixtures("searches")
def test_the_index_finds_what_a_search_finds(texts: list[str], name: str, stem: str) -> None:
    files = {f"f{number}.py": text.encode() for number, text in enumerate(texts)}
    index = WordIndex(list(files), files.__getitem__)
    assert index.mentioning(name, stem, "") == [
        path for path, data in files.items() if mentions(data, [name]) and mentions(data, [stem])
    ]
    assert set(index.near(name, "/else.py", holds, "/", 99)) == {
        path for path, data in files.items() if mentions(data, [name])
    }


@pytest.mark.usefixtures("searches")
def test_two_words_with_one_number_are_told_apart() -> None:
    """CRC-32 maps these two to one number; the text decides."""
    one, other = b"plumless", b"buckeroo"
    assert crc32(one) == crc32(other)
    index = WordIndex(["a.py", "b.py"], {"a.py": one, "b.py": other}.__getitem__)
    assert index.mentioning("plumless", "plumless", "") == ["a.py"]
    assert index.near("buckeroo", "/x.py", holds, "/", 5) == ["b.py"]


@pytest.mark.parametrize(
    ("path", "steps"),
    [("/a/b/m.py", -1), ("/a/b/x.py", 0), ("/a/x.py", 1), ("/a/b/c/x.py", 1), ("/a/c/x.py", 2), ("/z/x.py", 3)],
)
def test_how_far_files_lie_apart(path: str, steps: int) -> None:
    assert steps_between("/a/b/m.py", path) == steps


def test_the_nearest_come_first_and_no_more_than_wanted(tmp_path: Path) -> None:
    places = ["z.py", "a/b/m.py", "a/b/y.py", "a/x.py", "a/b/c/w.py"]
    files = [str(tmp_path / place) for place in places]
    index = WordIndex(files, lambda path: b"run" if "x.py" not in path else b"runs")
    module = str(tmp_path / "a" / "b" / "m.py")
    near = index.near("run", module, holds, str(tmp_path), 3)
    assert near == [str(tmp_path / place) for place in ("a/b/m.py", "a/b/y.py", "a/b/c/w.py")]
    assert index.near("run", module, holds, str(tmp_path / "a" / "b" / "c"), 3) == [str(tmp_path / "a/b/c/w.py")]


def test_of_a_name_that_many_use_few_files_are_read() -> None:
    files = [f"/a/{number:03}.py" for number in range(100)]
    seen: set[str] = set()

    def read(path: str) -> bytes:
        seen.add(path)
        return b"run()"

    assert WordIndex(files, read).near("run", "/a/050.py", calls, "/a", 5) == ["/a/050.py", *files[:4]]
    assert len(seen) == 5


@pytest.mark.parametrize("count", [5, 128, 300])
def test_files_that_are_searched_often_are_read_no_more(count: int) -> None:
    files = {f"/a/{number:03}.py": f"word{number}".encode() for number in range(count)}
    read: list[str] = []
    index = WordIndex(list(files), lambda path: read.append(path) or files[path])
    for number in range(50):
        name = f"word{count * number // 50}"
        path = f"/a/{count * number // 50:03}.py"
        assert index.near(name, "/x.py", holds, "/a", 5) == [path]
    assert len(read) < 4 * count + 50


@pytest.mark.usefixtures("searches")
def test_mentioned_below_a_folder() -> None:
    held = {"/p/a.py": b"net sum", "/p/b/c.py": b"net sum", "/pq/d.py": b"net sum", "/p/e.py": b"net"}
    index = WordIndex(list(held), held.__getitem__)
    assert index.mentioning("net", "sum", "/p") == ["/p/a.py", "/p/b/c.py"]
    assert index.mentioning("net", "sum", "") == ["/p/a.py", "/p/b/c.py", "/pq/d.py"]


@given(TEXTS, st.sampled_from(["", "def ", "class ", "def\t", "undef "]))
@example("x)(", "")
@example("1load(load(1", "")
@example("x)(", "def ")
def test_a_call_is_what_a_regular_expression_finds(text: str, before: str) -> None:
    for name in NAMES:
        data = text.replace(name, before + name).encode()
        word = re.escape(name.encode())
        used = [
            (re.search(rb"(?:def|class)[ \t]+\Z", data[: match.start()]) is not None, match[1])
            # What is handed on to be called, too: ``delayed(train)(client)``.
            for match in re.finditer(rb"(?<!\w)%s\s*\)?\((?=\s*(\S?))" % word, data)
        ]
        assert calls(data, name) == any(not defined for defined, _ in used)
        assert gives(data, name) == any(not defined and after not in (b"", b")") for defined, after in used)
        assert defines(data, name) == any(defined for defined, _ in used)


def test_a_partial_may_have_been_given_all() -> None:
    assert not gives(b"run()", "run")
    assert gives(b"run = functools.partial(run, net)\nrun()", "run")


def test_what_is_put_into_a_container() -> None:
    filled = (b"store.states.append(x)", b"states[key] = x", b"states\n.extend(x)", b"from store import states as kept")
    assert all(fills(data, "states") for data in filled)
    empty = (b"states[key] == x", b"x = states[key]", b"states.values()", b"my_states.append(x)", b"states = []")
    assert not any(fills(data, "states") for data in empty)


def test_bases_of_classes() -> None:
    data = b"class Client(nn.Module,\n    fl.client.NumPyClient):\n    pass\nNumPyClientX(load)"
    assert derives(data, "NumPyClient") and derives(data, "Module")
    assert not derives(data, "load") and not derives(data, "Py") and not derives(data, "Client")


@given(st.lists(st.sampled_from(["class ", "A", "B", "(", ")", ", ", " ", "\n", ".", "class A (", "x"]), max_size=24))
def test_bases_are_what_one_reading_from_the_left_finds(parts: list[str]) -> None:
    data = "".join(parts).encode()
    assume(re.search(rb"class\s+\w+\s*\([^)]*class", data) is None)  # no Python
    for name in ("A", "B"):
        tokens = re.finditer(rb"(?P<head>class\s+\w+\s*\()|(?P<end>\))|(?P<name>(?<!\w)%s(?!\w))" % name.encode(), data)
        bases, expected = False, False
        for match in tokens:
            expected = expected or (bases and match.lastgroup == "name")
            bases = match.lastgroup == "head" or (bases and match.lastgroup == "name")
        assert derives(data, name) == expected


@pytest.mark.parametrize(
    ("marks", "path", "root"),
    [
        ([".git", "sub/pyproject.toml"], "sub/lib/x.py", "."),
        (["sub/pyproject.toml"], "sub/lib/x.py", "sub"),
        (["sub/lib/__init__.py"], "sub/lib/x.py", "sub"),
        (["sub/src/lib/__init__.py"], "sub/src/lib/x.py", "sub"),
        ([], "sub/lib/x.py", "."),
        ([], "a/b/c/x.py", "."),
        ([], "a/b/c/d/x.py", "a"),
    ],
)
def test_where_callers_are_looked_for(tmp_path: Path, marks: list[str], path: str, root: str) -> None:
    for name in [*marks, path]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = search_root(str(tmp_path / path), [str(tmp_path)], os.path.lexists, os.path.isfile)
    assert found == os.path.normpath(tmp_path / root)


def test_nothing_imports_a_notebook(tmp_path: Path) -> None:
    """What a notebook defines is used in it alone: no other file is searched, however many there are."""
    cell = "class Net:\n    def fit(self): ...\n"
    notebook = {"cells": [{"cell_type": "code", "source": cell, "outputs": []}], "metadata": {}, "nbformat": 4}
    (tmp_path / "net.ipynb").write_text(json.dumps(notebook))
    (tmp_path / "main.py").write_text("from net import Net\nNet().fit()\n")
    outside = Outside(Sources([str(tmp_path / name) for name in ("main.py", "net.ipynb")], [str(tmp_path)]))
    inspector = Inspector(outside)
    for name, expected in (("main.py", 1), ("net.ipynb", 0)):
        inspector._project.begin()
        outside.begin()
        module = inspector._project.open(str(tmp_path / name))
        for found in (
            inspector._naming("fit", module),
            inspector._callers("Net", module),
            inspector._beside("fit", module),
        ):
            assert module.path in found
            assert len(found) == 1
        assert len([query for query in outside.noted() if query[0] in ("near", "mention")]) == 2 * expected


@pytest.mark.parametrize("files", [["a/m.py", "a/n.py", "b/m.py"], ["b/m.py", "a/n.py", "a/m.py"]])
def test_files_below_a_folder_are_found_in_whatever_order_they_are(files: list[str]) -> None:
    index = WordIndex(files, lambda path: b"name stem")
    assert index.mentioning("name", "stem", os.path.abspath("a")) == [path for path in files if path.startswith("a/")]
