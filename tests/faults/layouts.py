"""Fixes in programs whose layout is changed at random: comments, blank lines, joined and broken lines, quotes,
parentheses, commas, indentation, line ends, marks. Whatever the layout, the same is found, the same is fixed, the
result is the same program but for the argument, and a second run has nothing to do.

    python -m tests.faults.layouts FOLDER --count 1000

takes the files of a project that call FLModel, gives the calls a model, an aggregator and a strategy with which there
is something to fix (see benchmarks/fixes.py), and changes copies of them. ``--as-it-is`` takes the files in which
something can be fixed as they are.
"""

from __future__ import annotations

import argparse
import ast
import io
import os
import random
import re
import sys
import tempfile
import time
import tokenize
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import NamedTuple

from bn_audit.finding import Finding
from bn_audit.fix.edits import applicable
from bn_audit.fix.rounds import FixedFile, Judgement, fix_files
from bn_audit.source.deep_stack import run_with_deep_stack
from bn_audit.source.text import normalize_newlines
from tests.fix.programs import PROGRAM, judge

__all__ = ["another_layout", "bare", "encoded", "faults_of"]

_COMMENTS = ("# a comment", "#", "# skip_bn=True, ( [ {", "# größe 模型", '#\t\'"""', "# noqa: E501", "#)")


def another_layout(source: str, chance: random.Random, changes: int, calls: Collection[str] = ()) -> str:
    """The same program in another layout; ``source`` and the result have ``\\n`` line ends. Three changes in four are
    made to statements with calls by one of the names, if there are any: few of a long file's lines matter to a fix."""
    tree = tree_of(source)
    places = [place for place in _statements(source, calls) if chance.random() < 0.9]
    near = sum(chance.random() < 0.75 for _ in range(changes)) if places else 0
    counts = Counter(chance.choices(places, k=near)) if near else Counter()
    for first, last in sorted(counts, reverse=True):
        lines = source.split("\n")
        part = "\n".join(lines[first:last]) + "\n"
        for _ in range(counts[first, last]):
            changed = chance.choice(NEAR)(part, chance)
            if changed != part and _same_statements(part, changed):
                part = changed
        changed = "\n".join([*lines[:first], part.removesuffix("\n"), *lines[last:]])
        if tree_of(changed) == tree:
            source = changed
    for _ in range(changes - near):
        changed = chance.choice(CHANGES)(source, chance)
        if changed != source and tree_of(changed) == tree:
            source = changed
    return source


def _statements(source: str, calls: Collection[str]) -> list[tuple[int, int]]:
    """The lines of the innermost statements that hold a call by one of the names, as slices."""
    found = set()

    def visit(node: ast.AST, place: tuple[int, int]) -> None:
        if isinstance(node, ast.stmt):
            place = node.lineno - 1, node.end_lineno or node.lineno
        elif isinstance(node, ast.Call):
            called = node.func
            name = called.id if isinstance(called, ast.Name) else getattr(called, "attr", None)
            if name in calls:
                found.add(place)
        for child in ast.iter_child_nodes(node):
            visit(child, place)

    if calls:
        visit(ast.parse(source), (0, 0))
    places = sorted(found)
    return [place for number, place in enumerate(places) if number == 0 or places[number - 1][1] <= place[0]]


def _same_statements(one: str, other: str) -> bool:
    """Whether lines out of a program, indented or not, mean the same by themselves."""
    head = "if 1:\n" if one[:1] in " \t" else ""
    return same_program(head + one, head + other)


def same_program(one: str, other: str) -> bool:
    tree = tree_of(one)
    return tree is not None and tree == tree_of(other)


def tree_of(source: str) -> str | None:
    """A program's tree in words; None, if it is no program."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError):
            return None
    return run_with_deep_stack(lambda: ast.dump(tree))


class _Text:
    """A program's tokens, and where they stand in its text."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.starts = [0]
        for line in source.split("\n"):
            self.starts.append(self.starts[-1] + len(line) + 1)
        self.tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
        depth, self.inside = 0, []
        for token in self.tokens:
            depth -= token.string in ")]}" and token.type == tokenize.OP
            self.inside.append(depth > 0)
            depth += token.string in "([{" and token.type == tokenize.OP

    def start(self, token: tokenize.TokenInfo) -> int:
        return self.starts[token.start[0] - 1] + token.start[1]

    def end(self, token: tokenize.TokenInfo) -> int:
        return self.starts[token.end[0] - 1] + token.end[1]

    def replaced(self, start: int, end: int, text: str) -> str:
        return self.source[:start] + text + self.source[end:]

    def pairs(self, inside: bool) -> list[tuple[int, int]]:
        """The gaps between tokens of one line, in brackets or outside."""
        marks = (tokenize.NEWLINE, tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.COMMENT, tokenize.ENDMARKER)
        found = []
        for number, (one, other) in enumerate(zip(self.tokens, self.tokens[1:], strict=False)):
            if one.type not in marks and other.type not in marks and one.end[0] == other.start[0]:
                within = self.inside[number + 1] or (self.inside[number] and other.string in ")]}")
                if within is inside and "FSTRING" not in tokenize.tok_name[one.type] + tokenize.tok_name[other.type]:
                    found.append((self.end(one), self.start(other)))
        return found


def _break_in_brackets(source: str, chance: random.Random) -> str:
    text = _Text(source)
    gaps = text.pairs(inside=True)
    if not gaps:
        return source
    start, end = chance.choice(gaps)
    comment = f"  {chance.choice(_COMMENTS)}" if chance.random() < 0.5 else ""
    return text.replaced(start, end, f"{comment}\n{chance.choice(('', ' ', '    ', chr(9), '            '))}")


def _break_outside(source: str, chance: random.Random) -> str:
    text = _Text(source)
    gaps = text.pairs(inside=False)
    if not gaps:
        return source
    start, end = chance.choice(gaps)
    return text.replaced(start, end, " \\\n" + " " * chance.randrange(9))


def _blanks(source: str, chance: random.Random) -> str:
    text = _Text(source)
    gaps = text.pairs(inside=chance.random() < 0.7)
    if not gaps:
        return source
    start, end = chance.choice(gaps)
    return text.replaced(start, end, chance.choice(("", " ", "   ", "\t", " \f ")))


def _join(source: str, chance: random.Random, most: int = 1) -> str:
    """Lines in brackets joined, whose end is no comment."""
    text = _Text(source)
    ends = [
        text.start(token)
        for before, token in zip(text.tokens, text.tokens[1:], strict=False)
        if token.type == tokenize.NL and before.type not in (tokenize.NL, tokenize.NEWLINE, tokenize.COMMENT)
    ]
    for start in sorted(chance.sample(ends, min(most, len(ends))), reverse=True):
        source = source[:start] + " " + source[start:].lstrip(" \t\n")
    return source


def _join_all(source: str, chance: random.Random) -> str:
    return _join(source, chance, 40)


def _line_between(source: str, chance: random.Random) -> str:
    lines = source.split("\n")
    number = chance.randrange(len(lines))
    lines.insert(number, chance.choice(("", "", "   ", "\f", *(" " * chance.randrange(9) + one for one in _COMMENTS))))
    return "\n".join(lines)


def _comment_behind(source: str, chance: random.Random) -> str:
    lines = source.split("\n")
    number = chance.randrange(len(lines))
    lines[number] += f"  {chance.choice(_COMMENTS)}"
    return "\n".join(lines)


def _quotes(source: str, chance: random.Random) -> str:
    text = _Text(source)
    strings = [token for token in text.tokens if token.type == tokenize.STRING and token.string[0] in "'\""]
    if not strings:
        return source
    token = chance.choice(strings)
    quote = token.string[:3] if token.string[:3] in ("'''", '"""') else token.string[0]
    inner = token.string[len(quote) : -len(quote)]
    other = chance.choice(("'", '"', "'''", '"""'))
    prefix = chance.choice(("", "", "u", "r"))
    return text.replaced(text.start(token), text.end(token), f"{prefix}{other}{inner}{other}")


def _parentheses(source: str, chance: random.Random) -> str:
    text = _Text(source)
    simple = (tokenize.NAME, tokenize.NUMBER, tokenize.STRING)
    rows = [token for token in text.tokens if token.type in simple]
    token = chance.choice(rows)
    return text.replaced(text.start(token), text.end(token), f"({token.string})")


def _comma(source: str, chance: random.Random) -> str:
    """A comma before a bracket that closes, or none where there was one."""
    text = _Text(source)
    rows = [
        (one, other)
        for one, other in zip(text.tokens, text.tokens[1:], strict=False)
        if other.string in (")", "]", "}") and one.type != tokenize.COMMENT
    ]
    if not rows:
        return source
    one, _ = chance.choice(rows)
    if one.string == ",":
        return text.replaced(text.start(one), text.end(one), "")
    return text.replaced(text.end(one), text.end(one), chance.choice((",", " ,", ", ")))


def _semicolon(source: str, chance: random.Random) -> str:
    text = _Text(source)
    ends = [token for token in text.tokens if token.type == tokenize.NEWLINE and token.string]
    if not ends:
        return source
    start = text.start(chance.choice(ends))
    return (
        source[:start] + "; " + source[start:].lstrip(" \t\n")
        if chance.random() < 0.7
        else (source[:start] + ";" + source[start:])
    )


def _indentation(source: str, chance: random.Random) -> str:
    """Another unit of indentation, or a tab for eight blanks; lines in strings stay, and so do most in brackets."""
    text = _Text(source)
    lines = source.split("\n")
    unit = chance.choice(("\t", "  ", " ", "        "))
    level, first = 0, True
    for token in text.tokens:
        if token.type == tokenize.INDENT:
            level += 1
        elif token.type == tokenize.DEDENT:
            level -= 1
        elif token.type in (tokenize.NEWLINE, tokenize.NL, tokenize.COMMENT):
            first = first or token.type == tokenize.NEWLINE
        elif first and token.type != tokenize.ENDMARKER:
            number = token.start[0] - 1
            lines[number] = unit * level + lines[number].lstrip(" \t\f")
            first = False
    return "\n".join(lines)


Change = Callable[[str, random.Random], str]
CHANGES: tuple[Change, ...] = (
    *(_break_in_brackets, _break_in_brackets, _break_in_brackets, _break_outside, _blanks, _blanks, _join, _join_all),
    *(
        _line_between,
        _line_between,
        _comment_behind,
        _comment_behind,
        _quotes,
        _parentheses,
        _comma,
        _comma,
        _semicolon,
    ),
    _indentation,
)
NEAR = tuple(change for change in CHANGES if change is not _indentation)
"""Those that one statement of a block can take by itself."""


def encoded(source: str, chance: random.Random) -> bytes:
    """The bytes of a program, with line ends and marks by chance."""
    newline = chance.choice(("\n", "\n", "\n", "\r\n", "\r\n", "\r"))
    mark = chance.choice((b"", b"", b"", b"\xef\xbb\xbf"))
    if chance.random() < 0.2:
        source = source.rstrip("\n")
    return mark + source.replace("\n", newline).encode()


def faults_of(path: str, before: Judgement, data: bytes, trees: Collection[str] = ()) -> Iterator[str]:
    """What is wrong with the fixes of a file with other content, for which ``before`` would be found but for places.
    ``trees`` are what becomes of the program in its own layout: nothing else may become of it."""
    look = _scans(path, data)
    now = look({})
    if told(now.findings) != told(before.findings):
        yield f"found before: {told(before.findings)}, now: {told(now.findings)}"
        return
    outcome = fix_files(now, look, lambda _: data, unsafe=True)
    yield from (f"{name}: {reason}" for name, reason in outcome.refused)
    expected = sum(applicable(finding, unsafe=True) for finding in now.findings)
    if expected and sum(len(file.fixed) for file in outcome.files) < expected:
        yield "not all is fixed"
    for file in outcome.files:
        yield from _wrong(file)
        if trees and tree_of(file.new.decode("utf-8-sig")) not in trees:
            yield "another program than in the layout it had"
    if any(applicable(finding, unsafe=True) for finding in outcome.judgement.findings):
        yield "a second run would change something"


def _scans(path: str, data: bytes) -> Callable[[Mapping[str, bytes]], Judgement]:
    """What is found with such content, and with what fixes make of it; nothing is scanned twice."""
    known: dict[bytes, Judgement] = {}

    def look(contents: Mapping[str, bytes]) -> Judgement:
        (content,) = contents.values() or (data,)
        if content not in known:
            known[content] = judge([path], {os.path.abspath(path): content})
        return known[content]

    return look


def _trees_of(path: str, before: Judgement, data: bytes) -> tuple[str, ...]:
    """The trees of what the fixes make of a file as it stands there."""
    outcome = fix_files(before, _scans(path, data), lambda _: data, unsafe=True)
    found = (tree_of(file.new.decode("utf-8-sig")) for file in outcome.files)
    return tuple(tree for tree in found if tree is not None)


def told(findings: tuple[Finding, ...]) -> Counter[tuple[str, str]]:
    """What is found, but for where."""
    return Counter(
        (finding.code, finding.fix.applicability.value if finding.fix is not None else "no fix")
        for finding in findings
        if not finding.code.startswith("BNA9")
    )


def _wrong(file: FixedFile) -> Iterator[str]:
    old, new = (data.decode("utf-8-sig") for data in (file.old, file.new))
    try:
        if bare(old) != bare(new):
            yield "another program but for the argument"
    except SyntaxError as error:
        yield f"no Python any more: {error}"
    if file.new.count(b"\r\n") - file.old.count(b"\r\n") not in range(30) or (b"\r" in file.new) != (b"\r" in file.old):
        yield "other line ends"
    if file.new.startswith(b"\xef\xbb\xbf") != file.old.startswith(b"\xef\xbb\xbf"):
        yield "another mark"
    if normalize_newlines(old).count("#") != normalize_newlines(new).count("#"):
        yield "a comment more or less"


def bare(program: str) -> str:
    """The tree of a program without what our fixes put there: arguments called skip_bn, a model that local_batchnorm
    makes, and its import, ``eval()`` and ``train()`` as statements."""
    tree = run_with_deep_stack(lambda: _Without().visit(ast.parse(program)))
    return run_with_deep_stack(lambda: ast.dump(tree))


class _Without(ast.NodeTransformer):
    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        node.keywords = [word for word in node.keywords if word.arg != "skip_bn"]
        ours = isinstance(node.func, ast.Name) and node.func.id == "local_batchnorm" and len(node.args) == 1
        return node.args[0] if ours else node

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        self.generic_visit(node)
        call = node.value
        mode = (
            isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in ("eval", "train")
        )
        return None if mode and not call.args else node  # type: ignore[attr-defined]

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | None:
        return None if node.module == "bn_audit.federated.secretflow" else node


class Subject(NamedTuple):
    """A file to change copies of: the folder to stand in, its name there and for us, names of what is called where
    fixes are made, what is found, and the trees of what fixes make of it."""

    folder: Path
    path: str
    name: str
    calls: frozenset[str]
    before: Judgement
    trees: tuple[str, ...]


def _subject(folder: Path, path: str, name: str) -> Subject | None:
    """None if there is nothing to fix."""
    os.chdir(folder)
    before, data = judge([path]), Path(path).read_bytes()
    lines = data.decode("utf-8-sig").splitlines()
    fixed = [finding for finding in before.findings if applicable(finding, unsafe=True)]
    text = "\n".join(line for finding in fixed for first, last in _rows(finding) for line in lines[first - 1 : last])
    calls = frozenset(re.findall(r"(\w+)\s*\(", text))
    return Subject(folder, path, name, calls, before, _trees_of(path, before, data)) if fixed else None


def _rows(finding: Finding) -> Iterator[tuple[int, int]]:
    """The lines where a finding is, and where its fix is made."""
    yield finding.location.line, finding.location.end_line
    for one in finding.fix.edits if finding.fix is not None else ():
        yield one.line, one.end_line


def _own(root: str) -> Iterator[Subject | None]:
    Path(root, "train.py").write_text(PROGRAM, encoding="utf-8")
    yield _subject(Path(root), "train.py", "tests/fix/programs.py")


def _as_they_are(folder: Path) -> Iterator[Subject | None]:
    """The Python files of a project with something to fix, as its authors left them."""
    os.chdir(folder)
    found = {finding.location.path for finding in judge(["."]).findings if applicable(finding, unsafe=True)}
    for path in sorted(found):
        if path.endswith(".py"):
            yield _subject(folder, path, path)


def _variants(folder: Path, root: str) -> Iterator[Subject | None]:
    """The files of a project with calls of FLModel, each with other models, in folders of copies."""
    from benchmarks.fixes import VARIANTS, make_variant

    sources = {path: path.read_bytes() for path in sorted(folder.rglob("*.py")) if b"FLModel(" in path.read_bytes()}
    for number, model in enumerate(model for model in VARIANTS.values() if model):
        for place, (path, data) in enumerate(sources.items()):
            copy = Path(root, f"{number}-{place}")
            copy.mkdir()
            os.chdir(copy)
            Path("variant_net.py").write_text(model, encoding="utf-8")
            Path("train.py").write_bytes(data)
            with redirect_stdout(io.StringIO()):
                make_variant()
            yield _subject(copy, "train.py", str(path.relative_to(folder)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "folder", type=Path, nargs="?", help="a project, which stays as it is; else a small program of ours"
    )
    parser.add_argument("--count", type=int, default=1000, help="copies")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--as-it-is", action="store_true", help="take the files with something to fix, as they are")
    arguments = parser.parse_args()
    chance, faults, fixed = random.Random(arguments.seed), 0, 0
    with tempfile.TemporaryDirectory() as root:
        if arguments.folder is None:
            made = _own(root)
        else:
            folder = arguments.folder.resolve()
            made = _as_they_are(folder) if arguments.as_it_is else _variants(folder, root)
        subjects = [subject for subject in made if subject is not None]
        print(f"{len(subjects)} files with something to fix")
        for number in range(arguments.count if subjects else 0):
            folder, path, name, calls, before, trees = subjects[number % len(subjects)]
            os.chdir(folder)
            source = normalize_newlines(Path(path).read_text(encoding="utf-8-sig"))
            data = encoded(another_layout(source, chance, chance.choice((1, 3, 10, 30)), calls), chance)
            fixed += sum(applicable(finding, unsafe=True) for finding in before.findings)
            for fault in faults_of(path, before, data, trees):
                faults += 1
                print(f"copy {number} of {name}: {fault}", flush=True)
                Path(tempfile.gettempdir(), f"layout-{arguments.seed}-{number}.py").write_bytes(data)
        os.chdir("/")
    print(f"{arguments.count} copies, {fixed} fixes, {faults} faults, {time.process_time():.0f} s of processor time")
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
