"""Decoding by PEP 263, beside what Python itself does with the same bytes."""

from __future__ import annotations

import io
import os
import tokenize
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bn_audit.source.text import SourceError, decode, read_bytes


@pytest.mark.parametrize(
    ("data", "encoding", "text"),
    [
        (b"", "utf-8", ""),
        ("x = 'é'\n".encode(), "utf-8", "x = 'é'\n"),
        (b"\xef\xbb\xbfx = 1\n", "utf-8", "x = 1\n"),
        (b"\xef\xbb\xbf# coding: utf-8\n", "utf-8", "# coding: utf-8\n"),
        (b"# -*- coding: latin-1 -*-\nx = '\xe9'\n", "iso8859-1", "# -*- coding: latin-1 -*-\nx = 'é'\n"),
        (b"#!/usr/bin/python\n# vim: set fileencoding=cp1252 :\n'\x80'", "cp1252", None),
        (b"#!/usr/bin/python\r# coding=cp1252\r'\x80'", "cp1252", None),
        (b"\x0c\t # coding: euc-jp\n'\xa4\xa2'", "euc_jp", "\x0c\t # coding: euc-jp\n'あ'"),
        (b"x = 1\n# coding: latin-1\n", "utf-8", None),
        (b"\n\n# coding: latin-1\n", "utf-8", None),
        (b"# coding: utf_8\n", "utf-8", None),
    ],
)
def test_decodes(data: bytes, encoding: str, text: str | None) -> None:
    source = decode(data)
    assert source.encoding == encoding
    assert source.encode() == data
    if text is not None:
        assert source.text == text


@pytest.mark.parametrize(
    ("data", "line", "column", "reason"),
    [
        (b"x = 1\n# \xff\n", 2, 3, "not valid utf-8: byte 0xff"),
        ("é = '".encode() + b"\xc3", 1, 6, "not valid utf-8: byte 0xc3"),
        (b"#\n# coding: klingon\n", 2, 11, "unknown encoding: klingon"),
        (b"\xef\xbb\xbf# coding: latin-1\n", 1, 11, "the byte order mark says utf-8"),
        (b"# coding: rot13\n", 1, 1, "cannot decode as rot-13"),
        (b"# coding: undefined\n", 1, 1, "cannot decode as undefined"),
        (b"x\r\ny\rz\0\n", 3, 2, "null bytes"),
        ("x = 1\n".encode("utf-16"), 1, 1, "encoded as UTF-16"),
        ("x = 1\n".encode("utf-32"), 1, 1, "encoded as UTF-32"),
        (b"# coding: ascii\n\xe9", 2, 1, "not valid ascii: byte 0xe9"),
    ],
)
def test_refuses_with_position(data: bytes, line: int, column: int, reason: str) -> None:
    with pytest.raises(SourceError) as caught:
        decode(data)
    assert (caught.value.line, caught.value.column) == (line, column)
    assert reason in caught.value.reason


@pytest.mark.parametrize(
    ("text", "newline", "mixed"),
    [
        ("", "\n", False),
        ("a\nb\n", "\n", False),
        ("a\r\nb\r\n", "\r\n", False),
        ("a\rb\r", "\r", False),
        ("a\r\nb\n", "\r\n", True),
        ("a\nb\r\n", "\n", True),
        ("a\x0cb\u2028c\x85", "\n", False),
    ],
)
def test_newlines(text: str, newline: str, mixed: bool) -> None:
    source = decode(text.encode())
    assert (source.newline, source.mixed) == (newline, mixed)
    assert source.normalized.count("\n") == len(text.replace("\r\n", "\n").replace("\r", "\n").split("\n")) - 1


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_utf8_text_survives(text: str) -> None:
    source = decode(text.encode())
    assert source.encode() == text.encode()
    assert "\r" not in source.normalized


_COOKIES = st.sampled_from(["utf-8", "UTF_8", "latin-1", "iso-8859-15", "cp1252", "nonsense", "utf-8-sig", "ascii", ""])
_FIRST_LINES = st.sampled_from(["", "#!/usr/bin/env python\n", "\n", "x = 1\n", "  # comment\n", "'''\n"])


@given(st.booleans(), _FIRST_LINES, st.sampled_from(["# coding: {}\n", "#coding={}\n", "x # coding: {}\n"]), _COOKIES)
def test_agrees_with_tokenize(bom: bool, first: str, form: str, cookie: str) -> None:
    data = b"\xef\xbb\xbf" * bom + (first + form.format(cookie)).encode()
    try:
        expected = tokenize.detect_encoding(io.BytesIO(data).readline)[0]
    except SyntaxError:
        with pytest.raises(SourceError):
            decode(data)
        return
    source = decode(data)
    assert "x".encode(source.encoding) == "x".encode(expected.removesuffix("-sig"))
    assert source.bom == bom


def test_reads_regular_files_only(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_bytes(b"x = 1\n")
    assert read_bytes(str(tmp_path / "a.py")) == b"x = 1\n"
    os.mkfifo(tmp_path / "fifo.py")
    for name, reason in [("fifo.py", "not a regular file"), ("none.py", "No such file"), ("a\0.py", "null")]:
        with pytest.raises(SourceError, match=reason):
            read_bytes(str(tmp_path / name))


def test_error_as_plain_data() -> None:
    unreadable = SourceError("odd", 3, 4, cell=2).at("a.ipynb")
    assert (unreadable.location.path, unreadable.location.line, unreadable.location.cell) == ("a.ipynb", 3, 2)
    assert unreadable.reason == "odd"
