"""Fixes in notebooks: of the JSON text only the characters of the source change."""

from __future__ import annotations

import codecs
import difflib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bn_audit.finding import Edit
from bn_audit.fix.contents import Refused, edit_bytes
from bn_audit.fix.edits import apply_edits
from bn_audit.fix.raw_notebook import edit_cell
from tests.fix.programs import CALL, HEAD, judge_program

OUTPUT: dict[str, Any] = {
    "output_type": "display_data",
    "data": {"image/png": "iVBORw0KGgo=\n", "text/plain": ['<"Figure">', "{[}]"]},
    "metadata": {},
}


def lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def notebook(call: Any) -> dict[str, Any]:
    return {
        "cells": [
            {"cell_type": "markdown", "metadata": {}, "source": ["# FLModel(größe 模型 😀)\n", "text"]},
            {"cell_type": "code", "execution_count": 1, "metadata": {}, "outputs": [OUTPUT], "source": lines(HEAD)},
            {"source": call, "outputs": [], "metadata": {"tags": []}, "cell_type": "code", "execution_count": None},
        ],
        "metadata": {"kernelspec": {"language": "python", "name": "python3"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def fixed(raw: bytes) -> bytes:
    (finding,) = [one for one in judge_program(raw, "a.ipynb").findings if one.code == "BNA101"]
    assert finding.fix is not None
    assert finding.location.cell is not None
    after = edit_bytes("a.ipynb", raw, {finding.location.cell: finding.fix.edits}).data
    judged = judge_program(after, "a.ipynb")
    assert not judged.findings
    assert judged.sites
    return after


def changes(before: bytes, after: bytes) -> list[str]:
    """The lines that go and that come, with their marks."""
    old, new = before.decode().split("\n"), after.decode().split("\n")
    return [line for line in difflib.ndiff(old, new) if line[0] in "+-"]


@pytest.mark.parametrize("layout", [{"indent": 1}, {"indent": 4}, {"indent": "\t"}, {"indent": 2, "sort_keys": True}])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_a_line_of_source_is_a_line_of_json(layout: dict[str, Any], ascii_only: bool) -> None:
    raw = json.dumps(notebook(lines(CALL)), ensure_ascii=ascii_only, **layout).encode()
    indent = layout["indent"] if isinstance(layout["indent"], str) else " " * layout["indent"]
    assert changes(raw, fixed(raw)) == [f'+ {indent * 4}"    skip_bn=True,\\n",']


def test_a_notebook_on_one_line() -> None:
    raw = json.dumps(notebook(lines(CALL))).encode()
    after = fixed(raw)
    assert after == raw.replace(
        rb'"    backend=\"torch\",\n", ', rb'"    backend=\"torch\",\n", "    skip_bn=True,\n", '
    )


def test_source_as_one_string() -> None:
    raw = json.dumps(notebook(CALL), indent=1).encode()
    assert fixed(raw) == raw.replace(rb"\"torch\",\n)", rb"\"torch\",\n    skip_bn=True,\n)")


def test_a_list_of_one_line() -> None:
    call = "fl = FLModel(model=model, aggregator=secure, **settings)"
    raw = json.dumps(notebook([call]), indent=1).encode()
    assert fixed(raw) == raw.replace(b"aggregator=secure, ", b"aggregator=secure, skip_bn=True, ")


def test_a_list_of_one_string_with_several_lines() -> None:
    raw = json.dumps(notebook([CALL]), indent=1).encode()
    after = fixed(raw)
    source = json.loads(after)["cells"][2]["source"]
    assert "".join(source) == CALL.replace('"torch",\n', '"torch",\n    skip_bn=True,\n')
    assert len(source) == 2
    assert changes(raw, after)[-1].startswith("+     ")


def test_escapes_stay_as_they_are() -> None:
    """Escapes that need not be, and characters that could be escaped."""
    raw = json.dumps(notebook(["x = 'é 模型 😀'  # \u2028\n", *lines(CALL)]), indent=1, ensure_ascii=False)
    raw = raw.replace("fl_model = FLModel(", r"\u0066l_\u006dod\u0065l = FLMod\u0065l(\t").replace("/", r"\/")
    raw = raw.replace("模型 😀'", r"模\u578B \uD83D\ude00'")
    after = fixed(raw.encode())
    assert changes(raw.encode(), after) == ['+     "    skip_bn=True,\\n",']


def test_windows_line_ends() -> None:
    raw = json.dumps(notebook(lines(CALL.replace("\n", "\r\n"))), indent=1).replace("\n", "\r\n").encode()
    after = fixed(raw)
    assert changes(raw, after) == ['+     "    skip_bn=True,\\r\\n",\r']


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (codecs.BOM_UTF8, "utf-8"),
        (b"", "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (b"", "utf-32-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
    ],
)
def test_encodings_of_json(mark: bytes, encoding: str) -> None:
    text = json.dumps(notebook(lines(CALL)), indent=1, ensure_ascii=False)
    after = edit_bytes("a.ipynb", mark + text.encode(encoding), {3: [Edit(6, 21, 6, 21, "\n    skip_bn=True,")]}).data
    new = text.replace('"    backend=\\"torch\\",\\n",', '"    backend=\\"torch\\",\\n",\n    "    skip_bn=True,\\n",')
    assert after == mark + new.encode(encoding)


def test_a_lone_surrogate_stays() -> None:
    raw = json.dumps(notebook(["x = '\ud800'\n", *lines(CALL)]), indent=1)
    assert r"\ud800" in raw
    assert changes(raw.encode(), fixed(raw.encode())) == ['+     "    skip_bn=True,\\n",']


def test_older_notebooks() -> None:
    """nbformat 3: worksheets, and the source under another name."""
    cells = [
        {"cell_type": "heading", "source": ["a"], "level": 1},
        {"cell_type": "code", "input": lines(HEAD), "language": "python"},
        {"cell_type": "code", "input": lines(CALL), "language": "python"},
    ]
    sheets = [{"cells": cells[:2]}, {"metadata": {}, "cells": cells[2:]}]
    raw = json.dumps({"nbformat": 3, "metadata": {}, "worksheets": sheets}, indent=1).encode()
    assert changes(raw, fixed(raw)) == ['+       "    skip_bn=True,\\n",']


def test_a_key_that_is_there_twice_counts_where_it_is_read() -> None:
    raw = json.dumps(notebook(lines(CALL)), indent=1)
    raw = raw.replace('"cell_type": "markdown",', '"cell_type": "markdown", "source": [1, {"source": "x"}],')
    raw = raw.replace('{\n   "source": [', '{\n   "source": "no",\n   "source": [', 1)
    after = fixed(raw.encode())
    assert changes(raw.encode(), after) == ['+     "    skip_bn=True,\\n",']


def test_magics_shift_columns_but_not_the_edit() -> None:
    raw = json.dumps(
        notebook(["%%time\n", "!pip list\n", "%time fl = FLModel(model=model, aggregator=secure, **settings)"]),
        indent=1,
    ).encode()
    assert fixed(raw) == raw.replace(b"aggregator=secure, ", b"aggregator=secure, skip_bn=True, ")


def test_an_indented_cell() -> None:
    raw = json.dumps(notebook(["    " + line for line in lines(CALL)]), indent=1).encode()
    assert changes(raw, fixed(raw)) == ['+     "        skip_bn=True,\\n",']


def test_the_edit_of_another_cell_is_refused() -> None:
    raw = json.dumps(notebook(lines(CALL)), indent=1).encode()
    for cell in (0, 1000, None):
        with pytest.raises(Refused):
            edit_bytes("a.ipynb", raw, {cell: [Edit(1, 1, 1, 1, "x")]})
    with pytest.raises(Refused):
        edit_bytes("a.ipynb", raw, {3: [Edit(100, 1, 100, 1, "x")]})


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.sampled_from(["a", '"', "\\", "\n", "\r\n", "é", "😀", "\t", "\u2028", "\x7f", " "]), max_size=20),
    st.data(),
)
def test_the_decoded_source_is_what_edits_make_of_it(parts: list[str], data: st.DataObject) -> None:
    text = "".join(parts)
    source: Any = data.draw(st.sampled_from([text, text.splitlines(keepends=True), list(text) or [""]]))
    if source == []:
        source = ""
    raw = json.dumps(notebook(source), indent=1, ensure_ascii=data.draw(st.booleans()))
    lengths = [len(line.rstrip("\r\n")) for line in text.replace("\r\n", "\n").split("\n")]
    line = data.draw(st.integers(1, len(lengths)))
    column = data.draw(st.integers(1, lengths[line - 1] + 1))
    end = data.draw(st.integers(column, lengths[line - 1] + 1)) if not isinstance(source, list) else column
    edit = Edit(line, column, line, end, data.draw(st.sampled_from(["x", '\n"y"', "é\n", "", "\n\n"])))
    done, _ = edit_cell(raw, 3, [edit])
    after = json.loads(done.text)
    new = after["cells"][2].pop("source")
    assert (new if isinstance(new, str) else "".join(new)) == apply_edits(text, [edit])
    before = json.loads(raw)
    assert type(before["cells"][2].pop("source")) is type(new)
    assert after == before
