"""A file's bytes after a fix: encoding, byte order mark and line ends are those it had."""

from __future__ import annotations

import codecs

import pytest

from bn_audit.finding import Edit
from bn_audit.fix.contents import Refused, edit_bytes
from tests.fix.programs import CALL, HEAD, PROGRAM, judge_program


def fixed(data: bytes, name: str = "train.py") -> bytes:
    """The program after its one fix."""
    (finding,) = [one for one in judge_program(data, name).findings if one.code == "BNA101"]
    assert finding.fix is not None
    return edit_bytes(name, data, {finding.location.cell: finding.fix.edits}).data


BEFORE, AFTER = PROGRAM.split('    backend="torch",\n)')
NEW = '    backend="torch",\n    skip_bn=True,\n)'


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("end", ["\n", "", "\n\n", "\n\x0c\n", "\n\x1a"])
def test_line_ends(newline: str, end: str) -> None:
    if end.endswith("\x1a"):
        end = "\n# \x1a"
    program = PROGRAM.removesuffix("\n") + end
    expected = program.replace('    backend="torch",\n)', NEW)
    data = program.replace("\n", newline).encode()
    assert fixed(data) == expected.replace("\n", newline).encode()


def test_mixed_line_ends() -> None:
    data = HEAD.replace("\n", "\r\n").encode() + CALL.encode().replace(b"model=model,\n", b"model=model,\r")
    expected = data.replace(b'    backend="torch",\n)', b'    backend="torch",\n    skip_bn=True,\n)')
    assert fixed(data) == expected
    odd = data.replace(b'    backend="torch",\n)', b'    backend="torch",\r\n)')
    assert fixed(odd) == odd.replace(b'"torch",\r\n)', b'"torch",\r\n    skip_bn=True,\r\n)')


@pytest.mark.parametrize(
    ("cookie", "encoding", "text"),
    [
        ("", "utf-8", "größe 模型 😀 \u2028"),
        ("# -*- coding: utf-8 -*-\n", "utf-8", "größe 模型 😀"),
        ("#!/usr/bin/python\n# vim: set fileencoding=latin-1 :\n", "latin-1", "größe \x85 \xa0"),
        ("# coding: cp1252\n", "cp1252", "größe €"),
        ("# coding: shift_jis\n", "shift_jis", "模型 ソ"),
        ("# coding: gb18030\n", "gb18030", "模型 😀"),
        ("# coding: koi8-r\n", "koi8-r", "модель"),
        ("# coding: ascii\n", "ascii", "model"),
    ],
)
def test_encodings(cookie: str, encoding: str, text: str) -> None:
    program = f'{cookie}NOTE = "{text}"\n{PROGRAM}# {text}\n'
    data = program.encode(encoding)
    assert fixed(data) == program.replace('    backend="torch",\n)', NEW).encode(encoding)


def test_a_byte_order_mark_stays() -> None:
    data = codecs.BOM_UTF8 + PROGRAM.encode()
    assert fixed(data) == codecs.BOM_UTF8 + PROGRAM.replace('    backend="torch",\n)', NEW).encode()


def test_form_feeds_tabs_and_wide_letters() -> None:
    call = 'def run():\n\x0c\t模 = "😀\x0c"; fl = FLModel(\x0c model=model, aggregator=secure, **settings)\n'
    data = (HEAD + call).encode()
    assert fixed(data) == data.replace(b"aggregator=secure,", b"aggregator=secure, skip_bn=True,")


def test_bytes_that_their_encoding_would_not_write_are_left_alone() -> None:
    """ISO-2022-JP has a state: the same text can be written in several ways, here with an escape that does nothing."""
    program = f'# coding: iso-2022-jp\nNOTE = "模型"\n{PROGRAM}'
    data = program.encode("iso-2022-jp")
    assert fixed(data) == program.replace('    backend="torch",\n)', NEW).encode("iso-2022-jp")
    with pytest.raises(Refused, match="bytes"):
        fixed(data.replace(b"import secretflow as sf", b"import secretflow as sf \x1b(B"))


def test_what_an_encoding_lacks_is_refused() -> None:
    data = b"# coding: latin-1\nf(a)\n"
    with pytest.raises(Refused, match=r"latin-1|iso8859"):
        edit_bytes("a.py", data, {None: [Edit(2, 4, 2, 4, ", größe€=True")]})


def test_edits_that_do_not_fit_are_refused() -> None:
    for edit in (Edit(9, 1, 9, 1, ""), Edit(1, 9, 1, 9, "")):
        with pytest.raises(Refused, match="does not fit"):
            edit_bytes("a.py", b"f(a)\n", {None: [edit]})
    with pytest.raises(Refused, match="does not fit"):
        edit_bytes("a.py", b"\xff\xfe", {None: []})


def test_no_edits_change_nothing() -> None:
    data = "größe\r\nx\n".encode()
    assert edit_bytes("a.py", data, {None: []}).data == data
