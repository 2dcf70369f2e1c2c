"""Calls laid out at random, in any encoding and with any line ends: fixed, they are right, and nothing else changed."""

from __future__ import annotations

import ast
import codecs

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bn_audit.finding import Applicability
from bn_audit.fix.contents import edit_bytes
from tests.fix.programs import HEAD, judge_program

ARGUMENTS = ["server=charlie", "device_list=devices", "model=model", "aggregator=secure", 'backend="torch"']
FURTHER = [
    "random_seed=1",
    "num_gpus = 0",
    'note="),( #"',
    "note=[1,\n 2]",
    "note=f'{charlie!r}'",
    "mu=(lambda a, b: a)",
    "note='''\n)'''",
]
UNPACKED = ["**settings", "** settings", '**{"random_seed": 1}', "**dict(\n)"]
"""What a call may end with; settings bring the server, the parties and the backend."""

blanks = st.lists(
    st.sampled_from(
        ["", " ", "  ", "\t", "\n", "\n    ", "\n\t\t", " \\\n ", "  # a comment, with (\n", "#\n", "\x0c"]
    ),
    max_size=3,
).map("".join)


@st.composite
def calls(draw: st.DrawFn) -> str:
    """An FLModel call of keyword arguments in any order, and anything that may stand between them."""
    arguments = draw(st.permutations([*ARGUMENTS, *draw(st.lists(st.sampled_from(FURTHER), max_size=1))]))
    unpacked = draw(st.lists(st.sampled_from(UNPACKED), max_size=1))
    if any("settings" in one for one in unpacked):
        arguments = [one for one in arguments if one.startswith(("model", "aggregator"))]
    if any("random_seed" in one for one in unpacked):
        arguments = [one for one in arguments if not one.startswith("random_seed")]
    written = [*arguments, *unpacked]
    if draw(st.booleans()):
        # One style for all gaps, as people write; else each gap by itself.
        before, after = draw(blanks), draw(blanks)
        text = f"{before},{after}".join(written)
    else:
        text = written[0]
        for argument in written[1:]:
            text += f"{draw(blanks)},{draw(blanks)}{argument}"
    comma = draw(st.sampled_from(["", "", ",", " ,", "\n,"]))
    name = draw(st.sampled_from(["FLModel", "FLModel ", "(FLModel)"]))
    return f"{name}({draw(blanks)}{text}{comma}{draw(blanks)})"


STATEMENTS = [
    "fl_model = {}\n",
    "def run():\n    return {}\n",
    "if devices:\n\tfl_model = [{}]  # (\n",
    "fl_model = ({}\n)",
    "first = 1; fl_model = {}; last = 2\n",
]
NEWLINES = ["\n", "\n", "\r\n", "\r"]
ENCODINGS = [
    ("", "utf-8", b""),
    ("", "utf-8", codecs.BOM_UTF8),
    ("# coding: latin-1\n", "latin-1", b""),
    ("# coding: gb18030\n", "gb18030", b""),
]


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(calls(), st.sampled_from(STATEMENTS), st.sampled_from(NEWLINES), st.sampled_from(ENCODINGS))
def test_any_layout(call: str, statement: str, newline: str, encoding: tuple[str, str, bytes]) -> None:
    cookie, codec, mark = encoding
    program = f"{cookie}{HEAD}# größe\n{statement.format(call)}".replace("\n", newline)
    before = mark + program.encode(codec)
    findings = [one for one in judge_program(before).findings if one.code == "BNA101"]
    assert len(findings) == 1
    fix = findings[0].fix
    assert fix is not None and fix.applicability is Applicability.SAFE
    edited = edit_bytes("train.py", before, {None: fix.edits})
    after = edited.data
    # It is the same program but for one argument, is right now, and is not fixed twice.
    assert tree_without_argument(after) == ast.dump(ast.parse(before))
    again = judge_program(after)
    assert again.sites and not again.findings
    # What was written is the argument and what parts it from the others, inside the call.
    (applied,) = edited.applied.values()
    written = "".join(splice.content for splice in applied.splices)
    assert written.replace(" ", "").count("skip_bn=True") == 1
    assert set(written.replace("skip_bn", "").replace("True", "")) <= set(" \t\n\r\x0c\\,=")
    place = findings[0].location
    for edit in fix.edits:
        assert (place.line, place.column) < (edit.line, edit.column) == (edit.end_line, edit.end_column)
        assert (edit.line, edit.column) < (place.end_line, place.end_column)
    # Taking it out again gives the bytes that were there.
    text, end = "", 0
    for piece, splice in zip(applied.pieces()[::2], applied.splices, strict=False):
        text += piece
        end = splice.end
    assert mark + (text + applied.before[end:]).encode(codec) == before


def tree_without_argument(program: bytes) -> str:
    tree = ast.parse(program)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            node.keywords = [word for word in node.keywords if word.arg != "skip_bn"]
    return ast.dump(tree)
