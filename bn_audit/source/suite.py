"""The body of a function that is parsed when somebody looks into it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import libcst as cst

from bn_audit.source.deep_stack import run_with_deep_stack
from bn_audit.source.libcst_parser import parse_module
from bn_audit.source.sketch import MARK, Body

if TYPE_CHECKING:
    from libcst._nodes.internal import CodegenState

__all__ = ["LazySuite", "UnreadableBody", "install"]

_HEAD = "if 1:\n"
"""What a body is parsed below, since it is indented."""


class UnreadableBody(Exception):
    """libcst cannot parse a body that Python can.

    Attributes:
        path: of the file, which has to be parsed as a whole to see what is wrong.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


class LazySuite(cst.IndentedBlock):
    """An indented block whose statements are parsed when they are first asked for.

    Attributes:
        source: what it was left out for.
        stand_in: what stands in its place in the sketch.
        whole: the parsed module that holds the statements below one line more; None as long as nobody asked.
    """

    __slots__ = ("_path", "_statements", "source", "stand_in", "whole")  # type: ignore[misc]  # ABC has none

    source: Body
    stand_in: cst.IndentedBlock
    whole: cst.Module | None
    _path: str
    _statements: Sequence[cst.BaseStatement]

    @property
    def header(self) -> cst.TrailingWhitespace:
        return self.stand_in.header

    @property
    def indent(self) -> str | None:
        return self.stand_in.indent

    @property
    def footer(self) -> Sequence[cst.EmptyLine]:
        return self.stand_in.footer

    @property
    def body(self) -> Sequence[cst.BaseStatement]:  # type: ignore[override]
        if self.whole is None:
            whole = run_with_deep_stack(self._parse)
            block = whole.body[0].body
            assert isinstance(block, cst.IndentedBlock)
            _set(self, "whole", whole)
            _set(self, "_statements", block.body)
        return self._statements

    def _parse(self) -> cst.Module:
        try:
            return parse_module(f"{_HEAD}{self.source.text}\n")
        except BaseException as error:
            # A panic in libcst's Rust code arrives as an exception that is no Exception.
            if isinstance(error, Exception) or type(error).__name__ == "PanicException":
                raise UnreadableBody(self._path) from error
            raise

    def _codegen_impl(self, state: CodegenState, **kwargs: Any) -> None:
        if getattr(state, "sketched", False):
            with state.record_syntactic_position(self, start_node=self.stand_in, end_node=self.stand_in):
                self.stand_in._codegen(state)
            return
        self.body  # noqa: B018 - that it is parsed
        assert self.whole is not None
        outer = state.default_indent
        indent = outer if self.indent is None else self.indent
        self.header._codegen(state)
        state.increase_indent(indent)
        state.default_indent = self.whole.default_indent  # what it was parsed with
        for statement in self.body:
            statement._codegen(state)
        state.default_indent = outer
        for line in self.footer:
            line._codegen(state)
        state.decrease_indent()


_set: Callable[[object, str, object], None] = object.__setattr__
"""libcst's nodes are frozen."""


def install(module: cst.Module, bodies: Sequence[Body], path: str) -> list[LazySuite] | None:
    """Put a suite in the place of each body that was left out of a module; None if one is not where it should be."""
    found: list[LazySuite] = []
    for function in _functions(module.body):
        number = _number(function.body)
        if number is None:
            continue
        if number != len(found) or number >= len(bodies):
            return None
        suite = LazySuite.__new__(LazySuite)
        for name, value in (
            ("source", bodies[number]), ("stand_in", function.body), ("whole", None), ("_path", path),
        ):  # fmt: skip
            _set(suite, name, value)
        _set(function, "body", suite)
        found.append(suite)
    return found if len(found) == len(bodies) else None


def _functions(body: Sequence[cst.CSTNode]) -> list[cst.FunctionDef]:
    """The outermost functions, in order."""
    found: list[cst.FunctionDef] = []
    for node in body:
        if isinstance(node, cst.FunctionDef):
            found.append(node)
        elif isinstance(node, cst.BaseCompoundStatement):
            for suite in _suites(node):
                found.extend(_functions(suite.body))
    return found


def _suites(node: cst.BaseCompoundStatement) -> list[cst.BaseSuite]:
    if isinstance(node, (cst.Match, cst.TryStar)):
        return []  # nothing was left out there
    found = [node.body]
    orelse = getattr(node, "orelse", None)
    while isinstance(orelse, cst.If):
        found.append(orelse.body)
        orelse = orelse.orelse
    handlers = getattr(node, "handlers", ())
    tail = (orelse, getattr(node, "finalbody", None))
    return [*found, *(row.body for row in handlers), *(row.body for row in tail if row is not None)]


def _number(body: cst.BaseSuite) -> int | None:
    """The number of the body that was left out here."""
    if not isinstance(body, cst.IndentedBlock) or len(body.body) != 1:
        return None
    line = body.body[0]
    statement = line.body[0] if isinstance(line, cst.SimpleStatementLine) else None
    name = statement.value if isinstance(statement, cst.Expr) else None
    if not isinstance(name, cst.Name) or not name.value.startswith(MARK):
        return None
    return int(name.value.removeprefix(MARK))
