"""Parsing: real syntax errors with their positions, and input made to break a parser."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import libcst
import pytest

from bn_audit.source.deep_stack import OutOfTime, run_with_deep_stack
from bn_audit.source.nodes import walk
from bn_audit.source.parse import parse
from bn_audit.source.positions import locate
from bn_audit.source.scanner import check_length, check_size, logical_line_end
from bn_audit.source.text import SourceError


def refuse(source: str | bytes) -> tuple[int, int, str]:
    with pytest.raises(SourceError) as caught:
        parse("a.py", source.encode() if isinstance(source, str) else source)
    return caught.value.line, caught.value.column, caught.value.reason


@pytest.mark.parametrize(
    "source",
    [
        "",
        "\n\n",
        "x = 1",
        "# only a comment",
        "x = 1 \\\n    + 2\n",
        "match x:\n    case {'a': [1, *_], **rest} if rest: pass\n",
        "def f[T: int = str](a, /, *, b: T) -> T: ...\ntype X[T] = list[T]\n",
        "try: pass\nexcept* (A, B): pass\n",
        'x = f\'{a!r:>{width}} {{b}} {c["d"]} {e=}\' rf"\\d{f}"\n',
        'x = f"{f"{f"{1}"}"}"\n',
        "x = [y async for y in z if await y]\n",
        "if x:\n\ty = 1\n",
        "class A:\n    x: int = 1\n\n    async def f(self): return (yield)\n",
        "é = 'ü\u2028'\n",
    ],
)
def test_parses_what_it_was_given(source: str) -> None:
    parsed = parse("a.py", source.encode())
    assert parsed.module.code == source
    assert parsed.parts[0].module is parsed.module


def test_nodes_are_checked_again_once_a_text_is_parsed() -> None:
    parse("x.py", b"def f(a): return (a)\n")
    with pytest.raises(SourceError):
        parse("x.py", b"def f(:\n")
    with pytest.raises(libcst.CSTValidationError):
        libcst.Name("")


@pytest.mark.parametrize("newline", ["\r\n", "\r"])
def test_line_ends(newline: str) -> None:
    parsed = parse("a.py", f"x = 1{newline}y = '''a{newline}b'''{newline}".encode())
    assert parsed.module.code == "x = 1\ny = '''a\nb'''\n"


@pytest.mark.parametrize(
    ("source", "line", "column", "reason"),
    [
        ("x = 1\ny = = 2\n", 2, 5, "invalid syntax"),
        ("é = = 2\n", 1, 5, "invalid syntax"),
        ("print 'a'\n", 1, 1, "Missing parentheses in call to 'print'"),
        ("try: pass\nexcept E as e, f: pass\n", 2, None, ""),
        ("raise E, 'a'\n", 1, 8, "invalid syntax"),
        ("x = (1,\ny = 2\n", 1, 5, "'(' was never closed"),
        ("x = 'abc\n", 1, 5, "unterminated string literal"),
        ("x = 1\ny = '''abc\n", 2, 5, "unterminated triple-quoted string literal"),
        ("if x:\ny\n", 2, 1, "expected an indented block"),
        ("if x:\n\ty\n        z\n", 3, None, "inconsistent use of tabs"),
        ("x = 0777\n", 1, None, "leading zeros"),
        ("x = $\n", 1, 5, "invalid syntax"),
        ("def f(:\n", 1, None, ""),
        (b"x = '\xff'\n", 1, 6, "not valid utf-8"),
        (b"x = 1\0\n", 1, 6, "null bytes"),
    ],
)
def test_syntax_errors(source: str | bytes, line: int, column: int | None, reason: str) -> None:
    found_line, found_column, found_reason = refuse(source)
    assert found_line == line
    assert column is None or found_column == column
    assert reason in found_reason


MIXED = {
    "a block of blanks and a tab": ("def f(x):\n\tif x:\n        \tg(x)\n\treturn x\n", 3, 9),
    "a tab among blanks": ("def f(x):\n\tif x:\n        \tg(x)\n\telse:\n\t        h(x)\n", 5, 9),
    "a string that goes on": ("def f(x):\n\ts = '''a\n\tb'''\n\tif s:\n        \tg(s)\n", 5, 9),
}


@pytest.mark.parametrize("name", MIXED)
def test_blocks_of_blanks_and_tabs_as_cpython_allows_them(name: str) -> None:
    source, line, column = MIXED[name]
    with pytest.raises(libcst.ParserSyntaxError):
        libcst.parse_module(source)
    parsed = parse("a.py", source.encode())
    assert parsed.parts[0].source == source
    assert ast.dump(ast.parse(parsed.module.code)) == ast.dump(ast.parse(source))
    calls = [node for node in walk(parsed.module) if isinstance(node, libcst.Call)]
    assert (line, column + 1) in {(place.line, place.column) for place in locate(parsed, calls).values()}


def test_tabs_that_cpython_refuses_stay_an_error() -> None:
    assert "inconsistent use of tabs" in refuse("if x:\n        y\n\tz\n")[2]


DEEP: dict[str, Callable[[int], str]] = {
    "parentheses": lambda n: "(" * n + "1" + ")" * n,
    "lists": lambda n: "[" * n + "]" * n,
    "dictionaries": lambda n: "{1:" * n + "1" + "}" * n,
    "calls in calls": lambda n: "f(" * n + ")" * n,
    "subscripts in subscripts": lambda n: "a[" * n + "1" + "]" * n,
    "unclosed": lambda n: "x = " + "(" * n,
    "f-strings": lambda n: "f'{" * n + "1" + "}'" * n,
    "format specifications": lambda n: "f'{a" + ":{b" * n + "}" * n + "}'",
    "fields of a triple-quoted f-string": lambda n: 'f"""' + "{(" * n + "1" + ")}" * n + '"""',
    "sum": lambda n: "+".join("1" * n),
    "product": lambda n: "*".join("1" * n),
    "powers": lambda n: "**".join("1" * n),
    "attributes": lambda n: "a" + ".b" * n,
    "calls": lambda n: "a" + "()" * n,
    "subscripts": lambda n: "a" + "[0]" * n,
    "method calls": lambda n: "a" + ".b(1, 2)" * n,
    "multi-line method calls": lambda n: "(a\n" + "  .b()\n" * n + ")",
    "not": lambda n: "not " * n + "x",
    "minus": lambda n: "-" * n + "1",
    "lambda": lambda n: "lambda a, b: " * n + "1",
    "lambda defaults": lambda n: "lambda a=" * n + "1" + ": 1" * n,
    "conditional": lambda n: "1 if 1 else " * n + "1",
    "and": lambda n: " and ".join("x" * n),
    "comparison": lambda n: " < ".join("x" * n),
    "strings": lambda n: "'a' " * n,
    "continued strings": lambda n: "x = (\n" + "'a'\n" * n + ")",
    "comprehension": lambda n: "[a " + "for a, b in c " * n + "]",
    "elif": lambda n: "if a: pass\n" + "elif a: pass\n" * n,
    "dotted import": lambda n: "import a" + ".b" * n,
    "indentation": lambda n: "".join(" " * level + "if 1:\n" for level in range(min(n, 900))) + " " * n + "pass",
    "patterns": lambda n: "match x:\n case " + "[" * n + "1" + "]" * n + ": pass",
    "class patterns": lambda n: "match x:\n case " + "C(a, b=" * n + "1" + ")" * n + ": pass",
    "tuple patterns": lambda n: "match x:\n case " + "(" * n + "1" + ",)" * n + ": pass",
    "delete": lambda n: "del " + "(" * n + "x" + ",)" * n,
}


@pytest.mark.parametrize("kind", DEEP)
@pytest.mark.parametrize("depth", [300, 20_000])
def test_deep_input_ends_in_an_error_or_a_tree(kind: str, depth: int) -> None:
    source = DEEP[kind](depth)
    try:
        parsed = parse("a.py", source.encode())
    except SourceError as error:
        assert error.line <= source.count("\n") + 1
    else:
        assert depth == 300
        assert parsed.module.body


@pytest.mark.parametrize("kind", DEEP)
def test_what_people_write_is_parsed(kind: str) -> None:
    depth = 4 if kind == "indentation" else 7
    source = DEEP[kind](depth)
    if kind != "unclosed":
        assert parse("a.py", source.encode()).module.code == source


def test_large_files_are_refused() -> None:
    assert "2,000,000" in refuse("x = 1\n" * 2_000_000)[2]


def test_hostile_input_does_not_end_the_process() -> None:
    program = """
        import sys
        from bn_audit.source.parse import parse
        from bn_audit.source.text import SourceError
        from tests.source.test_parse import DEEP
        for depth, kinds in ((190, DEEP), (2_900, ("sum", "not", "strings", "elif"))):
            for kind in kinds:
                try:
                    parse("a.py", DEEP[kind](depth).encode())
                except SourceError:
                    pass
        print("alive")
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("alive\n", 0)


@pytest.mark.parametrize(
    "source",
    [
        "x = [" + "a.b + c.d * e.f(1)[2], " * 3_000 + "]",
        "x = {" + "'a': -1.5e-3, " * 3_000 + "}",
        "x = (" + "3 * a ** 2 * b + 'c'.d - " * 900 + "1)",
        "[" + "lambda: 1, " * 1_000 + "]",
        "x = 1; " * 5_000,
        "case = " + "[" * 12 + "]" * 12,
        "x = '''" + "([{" * 1_000 + "'''",
        "# " + "(" * 1_000,
        "x = '" + "(" * 1_000 + "\\''",
        "x = f'{{" + "(" * 1_000 + "'",
        "x = f'{{{a:{b}>10}}}'; " * 300,
        "x = rf'\\{a}'; y = f'\\N{DASH}'; " * 300,
        "if a:\n    pass\nelif b:\n    pass\n" * 3_500,
        "def f():\n    if a:\n        pass\n    elif b:\n        pass\n" * 3_500,
    ],
)
def test_the_guard_lets_wide_code_pass(source: str) -> None:
    check_size(source)


@pytest.mark.parametrize(
    ("source", "end"),
    [
        ("x = 1\ny", 6),
        ("x = (1,\n 2)\ny", 12),
        ("x = 1 \\\n + 2\ny", 13),
        ("'''a\nb'''\ny", 10),
        ("f'{a}\\\n{b}'\ny", 12),
        ('f"""{\na}\n"""\ny', 13),
        ("# (\ny", 4),
        ("x = '(' # )\ny", 12),
        ("x = ')'\ny", 8),
        ("x = (\n", 6),
        ("rb'\\''\ny", 7),
        ("print'a'\ny", 9),
        ("x = {'a': f'{b[\"c\"]:>{d}}',\n}\ny", 30),
    ],
)
def test_logical_lines(source: str, end: int) -> None:
    assert logical_line_end(source, 0) == end


def test_deep_stack_returns_and_raises() -> None:
    def depth(n: int) -> int:
        return 0 if n == 0 else 1 + depth(n - 1)

    limit = sys.getrecursionlimit()
    assert run_with_deep_stack(lambda: depth(20_000)) == 20_000
    assert run_with_deep_stack(lambda: run_with_deep_stack(threading.get_ident)) != threading.get_ident()
    assert sys.getrecursionlimit() == limit
    for error in (ValueError("x"), SystemExit(3), KeyboardInterrupt(), RecursionError()):

        def fail(error: BaseException = error) -> None:
            raise error

        with pytest.raises(type(error)) as caught:
            run_with_deep_stack(fail)
        assert caught.value is error


def test_deep_stack_ends_what_takes_too_long() -> None:
    cleaned = []

    def spin() -> None:
        try:
            while True:
                try:
                    sum(range(100))
                except Exception:  # such as the reader has
                    cleaned.append("swallowed")
        finally:
            cleaned.append("up")

    start = time.process_time()
    with pytest.raises(OutOfTime):
        run_with_deep_stack(spin, 0.05)
    assert 0.05 <= time.process_time() - start < 2
    assert cleaned == ["up"]
    assert run_with_deep_stack(lambda: 1, 0.05) == 1
    with pytest.raises(ValueError, match="x"):
        run_with_deep_stack(lambda: int("x"), 0.05)


def test_deep_stack_ends_what_takes_just_as_long(capfd: pytest.CaptureFixture[str]) -> None:
    ends = set()
    for number in range(60):
        until = time.process_time() + 0.0102 + number % 6 * 0.0001

        def work(until: float = until) -> str:
            while time.process_time() < until:
                pass
            return "done"

        try:
            ends.add(run_with_deep_stack(work, 0.01))
        except OutOfTime:
            ends.add("out of time")
    assert ends <= {"done", "out of time"}
    assert capfd.readouterr().err == ""  # where an exception comes that nobody waits for, it is printed


@pytest.mark.parametrize(
    ("unit", "count"), [("a,", 200_000), ("a\n", 200_000), ("'a',", 200_000), ("f'{a}',", 100_000)], ids=repr
)
def test_a_tree_that_would_fill_the_memory(unit: str, count: int) -> None:
    text = f"x = [\n{unit * count}]\n"
    with pytest.raises(SourceError, match="names, numbers, signs and line ends, more than the 250,000 that are parsed"):
        check_size(text)
    # The same in cells, each of which would do.
    source = f"x = [\n{unit * (count // 10)}]\n"
    cells = [{"cell_type": "code", "source": source} for _ in range(10)]
    notebook = {"cells": cells, "nbformat": 4, "metadata": {}}
    with pytest.raises(SourceError, match="more than the 250,000 that are parsed"):
        parse("x.ipynb", json.dumps(notebook).encode())


@pytest.mark.parametrize(
    ("unit", "count"),
    [("# a, b, c\n", 180_000), ("'''a, b, c\n'''\n", 120_000), ("a_name_of_something = call(other)\n", 30_000)],
)
def test_much_text_is_no_large_tree(unit: str, count: int) -> None:
    check_size(unit * count)


@pytest.mark.parametrize("unit", ["'", "''", "\"'", "f'", "f'''", "'\\", "'''\\", "#", "\\", " ", "\n ", "f'{", "'a\n"])
def test_words_are_counted_in_linear_time(unit: str) -> None:
    start = time.process_time()
    with suppress(SourceError):
        check_length([unit * (1_900_000 // len(unit))])
    assert time.process_time() - start < 10


def test_deep_stack_hands_on_an_interrupt() -> None:
    program = """
        import _thread, signal, threading, time
        from bn_audit.source.deep_stack import OutOfTime, run_with_deep_stack

        # A shell starts what runs in the background with interrupts ignored.
        signal.signal(signal.SIGINT, signal.default_int_handler)

        def work():
            threading.Timer(0.3, _thread.interrupt_main).start()
            try:
                while True:
                    time.sleep(0.01)
            finally:
                print("cleaned up", flush=True)

        try:
            run_with_deep_stack(work)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert (done.stdout, done.stderr) == ("cleaned up\ninterrupted\n", "")


def test_a_module_with_the_shell_lines_of_a_notebook_is_read_as_one() -> None:
    lines = [
        "!pip install flwr \\",
        "    torch",
        "%cd /content",
        "files = !ls",
        "if files:",
        "    !echo ok",
        "    net = Net()",
    ]
    source = "\n".join(lines)
    parsed = parse("export.py", source.encode())
    call = next(
        node
        for node in walk(parsed.module)
        if isinstance(node, libcst.Call) and node.func.deep_equals(libcst.Name("Net"))
    )
    place = locate(parsed, [call])[id(call)]
    assert (place.line, place.column, parsed.parts[0].source) == (7, 11, source)


def test_what_is_broken_beside_shell_lines_is_refused_as_it_stands() -> None:
    assert refuse("!pip install flwr\nx = (1\n")[0] == 1
    assert refuse("x = 1 %\n")[0] == 1
